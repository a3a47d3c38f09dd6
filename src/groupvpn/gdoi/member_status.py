"""What a member shows of its group: its live state as the values of `status`."""

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from groupvpn.crypto.rsa import RsaPublicKey
from groupvpn.effects import GDOI_PORT, Endpoint
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.rekey_sa import RekeySa, is_multicast
from groupvpn.gdoi.status import GroupMemberStatus, KekStatus, RegistrationStatus, TekStatus
from groupvpn.ipsec.sa import Direction
from groupvpn.ipsec.transform import SENDER_ID_BITS

if TYPE_CHECKING:
    from groupvpn.gdoi.member import GroupMember


def status_of(member: "GroupMember", now: float) -> GroupMemberStatus:
    """The group at the moment `now`."""
    group, policy, rekey_sa, enrollment = member.group, member.protection.policy, member.rekey_sa, member.enrollment
    counters, (local, remote), due = rekey_sa.counters, _ends(member), enrollment.next_timer()
    return GroupMemberStatus(
        name=group.name,
        identity=group.identity,
        servers=group.servers,
        active_server=member.server,
        local=local,
        remote=remote,
        registration_status=_registration(member),
        direction=member.protection.direction(group),
        reregisters_in=None if member.reregisters_at is None else max(0, int(member.reregisters_at - now)),
        registrations_succeeded=enrollment.succeeded,
        registrations_attempted=enrollment.attempted,
        last_rekey_from=counters.last_from,
        last_rekey_sequence=counters.last_sequence,
        rekeys_received=counters.received,
        rekeys_received_after_registration=counters.received_after_registration,
        unicast_rekeys_received=counters.unicast,
        multicast_rekeys_received=counters.multicast,
        rekey_acks_sent=counters.acks_sent,
        rekey_received_ago=None if counters.last_at is None else int(now - counters.last_at),
        acl_name=_list_name(group),
        acl_server=member.last_server if policy.entries else None,
        acl_downloaded=policy.entries,
        acl_kept=() if member.protection.has_policy else tuple(rule.entry for rule in member.kept),
        acl_local=group.local_acl,
        allowed_kek_ciphers=group.accepted_kek_ciphers,
        allowed_kek_hashes=group.accepted_kek_hashes,
        allowed_transforms=group.accepted_transforms,
        kek=_kek(rekey_sa, now),
        previous_kek_spi=rekey_sa.previous_spi,
        teks=tuple(
            TekStatus(
                spi=held.offer.spi,
                transform=held.offer.transform,
                replay=held.offer.replay,
                remaining_life=max(0, int(held.expires - now)),
                acl_name=_list_name(group),
                original_life=held.offer.lifetime,
                elapsed=int(now - held.installed),
                entries=held.offer.entries,
            )
            for held in reversed(policy.teks.values())
        ),
        sender_ids=policy.sender_ids,
        sender_id_bits=policy.sender_id_bits,
        pseudotime=policy.clock.seconds(now) if policy.clock is not None else None,
        drops=dict(member.counters),
        esp_in_udp=group.esp_in_udp_port if group.sends_esp_in_udp else None,
        next_attempt_in=None if due is None else max(0, int(due - now)),
    )


def status_of_waiting(group: MemberGroup, interface: str) -> GroupMemberStatus:
    """A member that cannot begin before `interface` has an address."""
    return GroupMemberStatus(
        name=group.name,
        identity=group.identity,
        servers=group.servers,
        active_server=None,
        local=Endpoint(IPv4Address(0), GDOI_PORT),
        remote=Endpoint(group.servers[0], GDOI_PORT) if group.servers else None,
        registration_status=RegistrationStatus.NOT_REGISTERED,
        direction=Direction.INBOUND_OPTIONAL if group.passive else Direction.BOTH,
        reregisters_in=None,
        registrations_succeeded=0,
        registrations_attempted=0,
        last_rekey_from=None,
        last_rekey_sequence=0,
        rekeys_received=0,
        rekeys_received_after_registration=0,
        unicast_rekeys_received=0,
        multicast_rekeys_received=0,
        rekey_acks_sent=0,
        rekey_received_ago=None,
        acl_name=_list_name(group),
        acl_downloaded=(),
        acl_local=group.local_acl,
        allowed_kek_ciphers=group.accepted_kek_ciphers,
        allowed_kek_hashes=group.accepted_kek_hashes,
        allowed_transforms=group.accepted_transforms,
        kek=None,
        previous_kek_spi=None,
        teks=(),
        sender_ids=(),
        sender_id_bits=SENDER_ID_BITS,
        drops={},
        esp_in_udp=group.esp_in_udp_port if group.sends_esp_in_udp else None,
        waits_for=interface,
    )


def _list_name(group: MemberGroup) -> str:
    return f"gdoi_group_{group.name}_temp_acl"


def _ends(member: "GroupMember") -> tuple[Endpoint, Endpoint | None]:
    """Ours and the key server's, with the ports of the last registration with it: 4500 where a NAT is in between."""
    enrollment = member.enrollment
    server = member.server or (enrollment.server if enrollment.is_running else None)
    if enrollment.ends is not None and enrollment.ends[1].address == server:
        return enrollment.ends
    return member.local, None if server is None else Endpoint(server, GDOI_PORT)


def _registration(member: "GroupMember") -> RegistrationStatus:
    if member.is_registered:
        return RegistrationStatus.REGISTERED
    return RegistrationStatus.REGISTERING if member.enrollment.is_running else RegistrationStatus.NOT_REGISTERED


def _kek(rekey_sa: RekeySa, now: float) -> KekStatus | None:
    kek = rekey_sa.kek
    if kek is None:
        return None
    bits = RsaPublicKey.from_der(kek.public_key).modulus_bits
    return KekStatus(
        spi=kek.spi,
        is_unicast=not is_multicast(kek),
        source=kek.source,
        destination=kek.destination if is_multicast(kek) else rekey_sa.address,
        cipher=kek.cipher,
        signature_hash=kek.signature_hash,
        signature_key_length=len(kek.public_key),
        signature_size=(bits + 7) // 8,
        acknowledge=kek.acknowledge,
        remaining_life=max(0, int(rekey_sa.expires - now)),
        original_life=kek.lifetime,
        sequence=rekey_sa.last_sequence,
    )
