"""What a key server shows of a group: its live state as the values of `status`."""

from groupvpn.crypto.rsa import RsaPublicKey
from groupvpn.gdoi.group_keys import RekeyKey, TrafficKey
from groupvpn.gdoi.rekey_transport import source_of
from groupvpn.gdoi.served_group import ServedGroup
from groupvpn.gdoi.status import KekStatus, KeyServerGroupStatus, RegisteredMemberStatus, SaPolicyStatus, TekStatus
from groupvpn.ipsec.sa import Direction


def status_of(served: ServedGroup, now: float) -> KeyServerGroupStatus:
    """The group at the moment `now`."""
    settings, keys = served.settings, served.keys
    kek, last = keys.kek, served.rounds.last
    return KeyServerGroupStatus(
        name=settings.name,
        identity=settings.identity,
        local_address=settings.address,
        is_unicast=settings.rekey.unicast,
        direction=Direction.INBOUND_ONLY if settings.receive_only else Direction.BOTH,
        acknowledge=settings.rekey.unicast and settings.rekey.acknowledge,
        rekey_lifetime=settings.rekey.lifetime if kek else None,
        rekey_remaining=_left(kek.expires, now) if kek else None,
        retransmit_period=settings.rekey.retransmit_period,
        retransmit_attempts=settings.rekey.retransmit_count,
        retransmit_remaining=_maybe(served.rounds.next_transmission, now),
        sequence=keys.sequence,
        sas=tuple(
            SaPolicyStatus(
                slot=policy.slot,
                profile_name=policy.profile.name,
                lifetime=policy.profile.lifetime,
                replay=policy.replay,
                acl=policy.acl,
                rekey_remaining=_left(newest.expires, now) if (newest := keys.newest(policy.slot)) else None,
                time_to_rekey=_maybe(keys.tek_rekey(settings, policy.slot, len(served.members)), now),
            )
            for policy in settings.teks
        ),
        kek=_kek(served, kek, now) if kek else None,
        teks=tuple(_tek(served, key, now) for key in reversed(keys.teks)),
        members=tuple(_members(served)),
        rekeys_sent=served.rounds.sent,
        last_rekey_retransmits=last.retransmissions if last else 0,
        last_rekey_duration_msec=int((last.last_sent - last.started) * 1000) if last else 0,
        registrations=served.registrations,
        refusals=served.refusals,
        sender_id_bits=keys.sender_ids.bits,
        pseudotime=keys.clock.seconds(now) if keys.clock is not None else None,
        sync_in=_maybe(served.next_sync(), now),
    )


def _kek(served: ServedGroup, kek: RekeyKey, now: float) -> KekStatus:
    return KekStatus(
        spi=kek.spi,
        is_unicast=kek.unicast,
        source=source_of(served.settings, served.members),
        destination=None if kek.unicast else kek.destination,
        cipher=kek.cipher,
        signature_hash=kek.signature_hash,
        signature_key_length=len(kek.public_key),
        signature_size=(RsaPublicKey.from_der(kek.public_key).modulus_bits + 7) // 8,
        acknowledge=kek.acknowledge,
        remaining_life=_left(kek.expires, now),
        original_life=kek.lifetime,
        time_to_rekey=_maybe(served.keys.next_kek_rekey(served.settings, len(served.members)), now),
        signature_key_name=kek.key_label,
        sequence=served.keys.sequence,
    )


def _tek(served: ServedGroup, key: TrafficKey, now: float) -> TekStatus:
    policy = next((policy for policy in served.settings.teks if policy.slot == key.slot), None)
    is_newest = served.keys.newest(key.slot) is key
    return TekStatus(
        spi=key.spi,
        transform=key.transform,
        replay=key.replay,
        remaining_life=_left(key.expires, now),
        acl_name=policy.acl.name if policy else "",
        original_life=key.lifetime,
        elapsed=int(now - key.created),
        time_to_rekey=_maybe(served.keys.tek_rekey(served.settings, key.slot, len(served.members)), now) if is_newest else None,
    )


def _members(served: ServedGroup) -> list[RegisteredMemberStatus]:
    return [
        RegisteredMemberStatus(
            address=record.peer.address,
            port=record.peer.port,
            group_name=served.name,
            group_identity=served.settings.identity,
            key_server=record.server.address,
            rekeys_sent=record.rekeys_sent,
            rekey_retries=record.rekey_retries,
            rekey_acks_received=record.acks_received,
            rekey_acks_missed=record.acks_missed,
            sent_sequences=record.sent_sequences,
            received_sequences=record.received_sequences,
            sender_ids=record.sender_ids,
        )
        for record in served.members.records
    ]


def _left(moment: float, now: float) -> int:
    return max(0, int(moment - now))


def _maybe(moment: float | None, now: float) -> int | None:
    return None if moment is None else _left(moment, now)
