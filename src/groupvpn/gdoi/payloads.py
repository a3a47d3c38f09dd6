"""A group's policy as the SA payload with its SAK, GAP and SAT payloads, and back (RFC 6407 5.2 to 5.5).

How access lists and replay windows travel is ours: `docs/protocol/access-lists.md`. The order of payloads and attributes is fixed, so that
one policy always gives the same octets.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from groupvpn.crypto.registry import EspCipher, EspIntegrity, KekCipher, SignatureHash, UnknownAlgorithmError
from groupvpn.effects import GDOI_PORT
from groupvpn.gdoi.download import TekOffer
from groupvpn.gdoi.offer import KekOffer, Offer
from groupvpn.gdoi.policy import MAXIMUM_REPLAY_TICK, MAXIMUM_TIME_WINDOW, Replay, ReplayMethod
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.gdoi.selectors import to_entry, to_identity
from groupvpn.ipsec.acl import Action, Entry
from groupvpn.ipsec.sa import FIRST_SPI
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform
from groupvpn.wire.attributes import Attribute, find, find_number, lifetimes
from groupvpn.wire.error import DecodeError
from groupvpn.wire.gdoi_extensions import SaDeny, SaTekExtension, TekExtensionAttribute, read_private_sat
from groupvpn.wire.gdoi_sa import (
    MAXIMUM_SA_ATTRIBUTE_PAYLOADS,
    TEK_SPI_LENGTH,
    GroupAssociatedPolicy,
    GroupSecurityAssociation,
    SaKek,
    SaTek,
    TrafficIdentity,
)
from groupvpn.wire.iana import (
    AddressPreservation,
    GapAttribute,
    IdType,
    IpProtocol,
    IpsecAttribute,
    KekAckRequested,
    KekAttribute,
    LifeType,
    SaDirection,
    SignatureAlgorithm,
    TekProtocolId,
)
from groupvpn.wire.payload import Payload
from groupvpn.wire.payloads import RawPayload

DEFAULT_TEK_LIFETIME = 28800
"""Seconds of an SA whose SAT names no lifetime (RFC 2407 4.5)."""
DEFAULT_KEK_LIFETIME = 86400
"""Seconds of a KEK whose SAK names no lifetime, which RFC 6407 5.3 allows without saying what it means."""
PSEUDOTIME_LENGTH = 8
"""Octets of a pseudotime, which counts milliseconds."""
_LARGEST_LIFETIME = 0xFFFFFFFF
_IPSEC_ATTRIBUTES = frozenset(
    {
        IpsecAttribute.LIFE_TYPE,
        IpsecAttribute.LIFE_DURATION,
        IpsecAttribute.GROUP_DESCRIPTION,
        IpsecAttribute.ENCAPSULATION_MODE,
        IpsecAttribute.AUTHENTICATION_ALGORITHM,
        IpsecAttribute.KEY_LENGTH,
        IpsecAttribute.ADDRESS_PRESERVATION,
        IpsecAttribute.SA_DIRECTION,
    }
)
"""What a SAT may say. GROUP_DESCRIPTION means nothing under GDOI and is ignored (RFC 6407 5.5.1)."""
_KEK_ATTRIBUTES = frozenset(KekAttribute) - {KekAttribute.KE_OAKLEY_GROUP}
"""What a SAK may say. The management algorithm is ignored: LKH would show itself in the KD payload, which refuses it."""
_PROTOCOLS = {SecurityProtocol.ESP: TekProtocolId.ESP, SecurityProtocol.AH: TekProtocolId.AH}
_REPLAY_WINDOWS = {
    TekExtensionAttribute.REPLAY_COUNTER_WINDOW: ReplayMethod.COUNTER,
    TekExtensionAttribute.REPLAY_TIME_WINDOW: ReplayMethod.TIME,
}


def write_offer(offer: Offer) -> GroupSecurityAssociation:
    """The SA payload: SAK, GAP, then the SATs of each TEK in order (RFC 6407 5.2.1).

    Raises `GdoiError` for an offer with neither KEK nor TEK, which no SA payload can tell, and for more entries than a receiver takes.
    Every list needs a `permit`.
    """
    if offer.kek is None and not offer.teks:
        raise GdoiError(Reason.TRY_LATER, "the group has neither a TEK nor a KEK")
    payloads: list[Payload] = []
    if offer.kek is not None:
        payloads.append(_write_kek(offer.kek))
    delays = (
        (GapAttribute.ACTIVATION_TIME_DELAY, offer.activation_delay),
        (GapAttribute.DEACTIVATION_TIME_DELAY, offer.deactivation_delay),
    )
    if any(delay for _, delay in delays):
        payloads.append(GroupAssociatedPolicy(tuple(Attribute(kind, delay) for kind, delay in delays)))
    bearers: dict[tuple[Entry, ...], int] = {}
    for tek in offer.teks:
        payloads.extend(_write_tek(tek, bearers.get(tek.entries), offer.pseudotime))
        bearers.setdefault(tek.entries, tek.spi)
    if len(payloads) > MAXIMUM_SA_ATTRIBUTE_PAYLOADS:
        raise GdoiError(Reason.TRY_LATER, f"the policy takes {len(payloads)} payloads, more than {MAXIMUM_SA_ATTRIBUTE_PAYLOADS}")
    return GroupSecurityAssociation(tuple(payloads))


def read_offer(sa: GroupSecurityAssociation) -> Offer:
    """The policy in an SA payload; raises `GdoiError` for one that we cannot obey to the letter.

    RFC 6407 5.3.2 and 5.4 want an abort on every attribute or capability that is not understood: a policy obeyed in part protects in part.
    """
    kek: KekOffer | None = None
    delays: dict[int, int] = {}
    drafts: dict[bytes, _Draft] = {}
    for payload in sa.payloads:
        if isinstance(payload, SaKek):
            kek = _read_kek(payload)
        elif isinstance(payload, GroupAssociatedPolicy):
            delays = _read_delays(payload)
        else:
            _read_sat(payload, drafts)
    activation = delays.get(GapAttribute.ACTIVATION_TIME_DELAY, 0)
    deactivation = delays.get(GapAttribute.DEACTIVATION_TIME_DELAY, 0)
    return Offer(_finish(drafts), kek, activation, deactivation, _pseudotime(drafts))


def _write_kek(kek: KekOffer) -> SaKek:
    attributes = [Attribute(KekAttribute.ALGORITHM, kek.cipher.attribute)]
    if kek.cipher.has_variable_key:
        attributes.append(Attribute(KekAttribute.KEY_LENGTH, kek.cipher.key_length * 8))
    attributes += [
        Attribute(KekAttribute.KEY_LIFETIME, kek.lifetime.to_bytes(4, "big")),
        Attribute(KekAttribute.SIG_HASH_ALGORITHM, kek.signature_hash.attribute),
        Attribute(KekAttribute.SIG_ALGORITHM, SignatureAlgorithm.RSA),
        Attribute(KekAttribute.SIG_KEY_LENGTH, kek.signature_bits),
    ]
    if kek.acknowledge:
        attributes.append(Attribute(KekAttribute.ACK_REQUESTED, KekAckRequested.KEK_SHA256))
    source, destination = (TrafficIdentity(IdType.IPV4_ADDR, GDOI_PORT, address.packed) for address in (kek.source, kek.destination))
    return SaKek(source, destination, kek.spi, tuple(attributes), IpProtocol.UDP)


def _read_kek(sak: SaKek) -> KekOffer:
    attributes = sak.attributes
    _refuse_unknown(attributes, _KEK_ATTRIBUTES, "SAK")
    if sak.protocol not in (0, IpProtocol.UDP):
        raise GdoiError(Reason.POLICY_REJECTED, f"rekeys over IP protocol {sak.protocol}")
    algorithm = find_number(attributes, KekAttribute.SIG_ALGORITHM)
    if algorithm != SignatureAlgorithm.RSA:
        raise GdoiError(Reason.POLICY_REJECTED, f"signature algorithm {algorithm} of rekeys, not RSA")
    try:
        cipher = KekCipher.from_wire(
            find_number(attributes, KekAttribute.ALGORITHM) or 0, find_number(attributes, KekAttribute.KEY_LENGTH) or 0
        )
        signature_hash = SignatureHash.from_wire(find_number(attributes, KekAttribute.SIG_HASH_ALGORITHM) or 0)
    except UnknownAlgorithmError as error:
        raise GdoiError(Reason.POLICY_REJECTED, str(error)) from error
    lifetime = DEFAULT_KEK_LIFETIME
    if find(attributes, KekAttribute.KEY_LIFETIME) is not None:
        lifetime = _lifetime(find_number(attributes, KekAttribute.KEY_LIFETIME), "KEK")
    return KekOffer(
        spi=sak.spi,
        cipher=cipher,
        signature_hash=signature_hash,
        signature_bits=find_number(attributes, KekAttribute.SIG_KEY_LENGTH) or 0,
        lifetime=lifetime,
        source=_rekey_address(sak.source),
        destination=_rekey_address(sak.destination),
        acknowledge=find_number(attributes, KekAttribute.ACK_REQUESTED) == KekAckRequested.KEK_SHA256,
    )


def _rekey_address(identity: TrafficIdentity) -> IPv4Address:
    """One end of rekey messages; the unspecified address where the SAK leaves it open."""
    if identity.port not in (0, GDOI_PORT):
        raise GdoiError(Reason.POLICY_REJECTED, f"rekeys on UDP port {identity.port}, not {GDOI_PORT}")
    if not any(identity.data):
        return IPv4Address(0)
    if identity.id_type != IdType.IPV4_ADDR or len(identity.data) != 4:
        raise GdoiError(Reason.POLICY_REJECTED, f"a rekey address of ID type {identity.id_type}")
    return IPv4Address(identity.data)


def _read_delays(gap: GroupAssociatedPolicy) -> dict[int, int]:
    known = {GapAttribute.ACTIVATION_TIME_DELAY, GapAttribute.DEACTIVATION_TIME_DELAY}
    _refuse_unknown(gap.attributes, known, "GAP")
    return {attribute.kind: attribute.as_number() or 0 for attribute in gap.attributes}


def _write_tek(tek: TekOffer, bearer: int | None, pseudotime: int | None) -> Iterator[Payload]:
    """The SATs of one TEK; `bearer` is the SPI of an earlier TEK that has the same list."""
    spi = tek.spi.to_bytes(TEK_SPI_LENGTH, "big")
    attributes, protocol = _tek_attributes(tek), _PROTOCOLS[tek.transform.protocol]
    shares = bearer is not None and len(tek.entries) > 1
    entries = tek.entries
    if shares:
        entries = (next(entry for entry in tek.entries if entry.action is Action.PERMIT),)
    for entry in entries:
        if entry.icmp_type is not None:  # the peer would take it for all of ICMP
            raise ValueError("the policy of a group cannot carry a type of ICMP (RFC 6407 5.4.1)")
        source = to_identity(entry.source, entry.source_port)
        destination = to_identity(entry.destination, entry.destination_port)
        if entry.action is Action.PERMIT:
            yield SaTek(
                source=source,
                destination=destination,
                transform_id=tek.transform.transform_id,
                spi=spi,
                attributes=attributes,
                protocol=entry.protocol,
                protocol_id=protocol,
            )
        else:
            yield SaDeny(source, destination, spi, entry.protocol)
    extension = [Attribute(kind, tek.replay.window) for kind, method in _REPLAY_WINDOWS.items() if tek.replay.method is method]
    if tek.replay.is_timed:
        if pseudotime is None:
            raise GdoiError(Reason.TRY_LATER, "a time window, and no pseudotime")
        extension.append(Attribute(TekExtensionAttribute.PSEUDOTIME, pseudotime.to_bytes(PSEUDOTIME_LENGTH, "big")))
        extension.append(Attribute(TekExtensionAttribute.REPLAY_TICK, tek.replay.tick))
    if shares and bearer is not None:
        extension.append(Attribute(TekExtensionAttribute.SAME_LIST, bearer.to_bytes(TEK_SPI_LENGTH, "big")))
    if extension:
        yield SaTekExtension(spi, tuple(extension))


def _tek_attributes(tek: TekOffer) -> tuple[Attribute, ...]:
    """The attributes of every SAT of a TEK. What is the default by RFC 6407 5.5.1.1 is left out, for peers that know RFC 3547 only."""
    cipher = tek.transform.cipher
    attributes = [Attribute(IpsecAttribute.ENCAPSULATION_MODE, tek.transform.mode.value)]
    if tek.transform.integrity is not EspIntegrity.NONE:
        attributes.append(Attribute(IpsecAttribute.AUTHENTICATION_ALGORITHM, tek.transform.integrity.attribute))
    attributes.append(Attribute(IpsecAttribute.LIFE_TYPE, LifeType.SECONDS))
    attributes.append(Attribute.number(IpsecAttribute.LIFE_DURATION, tek.lifetime))
    if cipher.has_variable_key:
        attributes.append(Attribute(IpsecAttribute.KEY_LENGTH, cipher.key_length * 8))
    if tek.receive_only:
        attributes.append(Attribute(IpsecAttribute.SA_DIRECTION, SaDirection.RECEIVER_ONLY))
    return tuple(attributes)


@dataclass(frozen=True, slots=True)
class _Policy:
    """How the SATs of one SPI want packets protected; all of them have to say the same."""

    protocol: SecurityProtocol
    transform_id: int
    attributes: tuple[Attribute, ...]


@dataclass(slots=True)
class _Draft:
    """What the SATs of one SPI have said so far."""

    entries: list[Entry] = field(default_factory=list)
    policy: _Policy | None = None
    extension: SaTekExtension | None = None


def _read_sat(payload: Payload, drafts: dict[bytes, _Draft]) -> None:
    if isinstance(payload, RawPayload):
        try:
            private = read_private_sat(payload)
        except DecodeError as error:
            raise GdoiError(Reason.UNSUPPORTED_TEK_PROTOCOL, str(error)) from error
        if private is None:
            raise GdoiError(Reason.UNSUPPORTED_TEK_PROTOCOL, f"protocol {payload.body[0] if payload.body else 'missing'}")
        payload = private
    if isinstance(payload, SaTek):
        draft = drafts.setdefault(payload.spi, _Draft())
        protocol = next(ours for ours, number in _PROTOCOLS.items() if number == payload.protocol_id)
        policy = _Policy(protocol, payload.transform_id, payload.attributes)
        if draft.policy not in (None, policy):
            raise GdoiError(Reason.POLICY_REJECTED, f"two policies for SPI {payload.spi.hex()}")
        draft.policy = policy
        draft.entries.append(to_entry(Action.PERMIT, payload.protocol, payload.source, payload.destination))
    elif isinstance(payload, SaDeny):
        entry = to_entry(Action.DENY, payload.protocol, payload.source, payload.destination)
        drafts.setdefault(payload.spi, _Draft()).entries.append(entry)
    elif isinstance(payload, SaTekExtension):
        draft = drafts.setdefault(payload.spi, _Draft())
        if draft.extension is not None:
            raise GdoiError(Reason.POLICY_REJECTED, f"two TEK extensions for SPI {payload.spi.hex()}")
        draft.extension = payload


def _finish(drafts: dict[bytes, _Draft]) -> tuple[TekOffer, ...]:
    """Turn what was gathered for each SPI into TEKs, in the order in which the SPIs appeared."""
    teks: dict[bytes, TekOffer] = {}
    for spi, draft in drafts.items():
        if draft.policy is None:
            raise GdoiError(Reason.POLICY_REJECTED, f"nothing but extensions for SPI {spi.hex()}")
        if int.from_bytes(spi, "big") < FIRST_SPI:
            raise GdoiError(Reason.POLICY_REJECTED, f"SPI {spi.hex()} is reserved")
        teks[spi] = _finish_tek(spi, draft, draft.policy, teks)
    return tuple(teks.values())


def _finish_tek(spi: bytes, draft: _Draft, policy: _Policy, earlier: dict[bytes, TekOffer]) -> TekOffer:
    attributes = policy.attributes
    _refuse_unknown(attributes, _IPSEC_ATTRIBUTES, "SAT")
    preservation = find_number(attributes, IpsecAttribute.ADDRESS_PRESERVATION)
    if preservation not in (None, AddressPreservation.SOURCE_AND_DESTINATION):
        raise GdoiError(Reason.POLICY_REJECTED, f"address preservation {preservation}, not of source and destination")
    direction = find_number(attributes, IpsecAttribute.SA_DIRECTION) or SaDirection.SYMMETRIC
    if direction not in (SaDirection.SYMMETRIC, SaDirection.RECEIVER_ONLY):
        raise GdoiError(Reason.POLICY_REJECTED, f"SA direction {direction}")
    units = {attribute.as_number() for attribute in attributes if attribute.kind == IpsecAttribute.LIFE_TYPE}
    if not units <= {LifeType.SECONDS}:
        raise GdoiError(Reason.POLICY_REJECTED, "a TEK lifetime that is not in seconds")
    try:
        durations = lifetimes(attributes, IpsecAttribute.LIFE_TYPE, IpsecAttribute.LIFE_DURATION)
    except DecodeError as error:
        raise GdoiError(Reason.POLICY_REJECTED, str(error)) from error
    return TekOffer(
        spi=int.from_bytes(spi, "big"),
        transform=_transform(policy),
        lifetime=_lifetime(durations.get(LifeType.SECONDS, DEFAULT_TEK_LIFETIME), "TEK"),
        entries=_entries(draft, earlier),
        replay=_replay(draft),
        receive_only=direction == SaDirection.RECEIVER_ONLY,
    )


def _transform(policy: _Policy) -> Transform:
    attributes, is_ah = policy.attributes, policy.protocol is SecurityProtocol.AH
    bits = find_number(attributes, IpsecAttribute.KEY_LENGTH) or 0
    mode = find_number(attributes, IpsecAttribute.ENCAPSULATION_MODE) or Mode.TUNNEL.value
    try:
        cipher = EspCipher.NULL if is_ah else EspCipher.from_wire(policy.transform_id, bits // 8)
        integrity = EspIntegrity.from_wire(find_number(attributes, IpsecAttribute.AUTHENTICATION_ALGORITHM) or 0)
        transform = Transform(cipher, integrity, Mode(mode), policy.protocol)
    except UnknownAlgorithmError as error:
        raise GdoiError(Reason.POLICY_REJECTED, str(error)) from error
    except ValueError as error:
        raise GdoiError(Reason.POLICY_REJECTED, f"encapsulation mode {mode}") from error
    if bits % 8 or (is_ah and bits) or not transform.is_whole or transform.transform_id != policy.transform_id:
        what = f"AH transform {policy.transform_id}" if is_ah else cipher.engine
        raise GdoiError(Reason.POLICY_REJECTED, f"{what} with a {bits}-bit key and integrity {integrity.engine}")
    return transform


def _entries(draft: _Draft, earlier: dict[bytes, TekOffer]) -> tuple[Entry, ...]:
    same = find(draft.extension.attributes, TekExtensionAttribute.SAME_LIST) if draft.extension else None
    if same is None:
        return tuple(draft.entries)
    bearer = earlier.get(same.as_octets())
    if bearer is None or len(draft.entries) != 1:
        raise GdoiError(Reason.POLICY_REJECTED, "a TEK that shares a list no earlier TEK has, or that has one of its own")
    return bearer.entries


def _replay(draft: _Draft) -> Replay:
    if draft.extension is None:
        return Replay(ReplayMethod.DISABLED)
    found = [
        Replay(_REPLAY_WINDOWS[TekExtensionAttribute(attribute.kind)], attribute.as_number() or 0)
        for attribute in draft.extension.attributes
        if attribute.kind in _REPLAY_WINDOWS
    ]
    if len(found) > 1 or any(not 0 < replay.window <= 0xFFFF for replay in found):
        raise GdoiError(Reason.POLICY_REJECTED, "more than one replay window, or one of no size")
    if not found:
        return Replay(ReplayMethod.DISABLED)
    if not found[0].is_timed:
        return found[0]
    tick = find_number(draft.extension.attributes, TekExtensionAttribute.REPLAY_TICK) or 0
    if found[0].window > MAXIMUM_TIME_WINDOW or not 0 < tick <= MAXIMUM_REPLAY_TICK:
        raise GdoiError(Reason.POLICY_REJECTED, f"a time window of {found[0].window} s in units of {tick} ms")
    return Replay(ReplayMethod.TIME, found[0].window, tick)


def _pseudotime(drafts: dict[bytes, _Draft]) -> int | None:
    """The pseudotime that all TEKs with a time window agree on; None where there are none."""
    told: set[int | None] = set()
    for draft in drafts.values():
        if _replay(draft).is_timed and draft.extension is not None:
            attribute = find(draft.extension.attributes, TekExtensionAttribute.PSEUDOTIME)
            octets = attribute.as_octets() if attribute is not None else b""
            told.add(int.from_bytes(octets, "big") if len(octets) == PSEUDOTIME_LENGTH else None)
    if len(told) > 1 or None in told:
        raise GdoiError(Reason.POLICY_REJECTED, "a time window without a pseudotime, or with two")
    return told.pop() if told else None


def _lifetime(seconds: int | None, what: str) -> int:
    if seconds is None or seconds > _LARGEST_LIFETIME:
        raise GdoiError(Reason.POLICY_REJECTED, f"a {what} lifetime that is no 32-bit number of seconds")
    return seconds


def _refuse_unknown(attributes: tuple[Attribute, ...], known: Collection[int], where: str) -> None:
    for attribute in attributes:
        if attribute.kind not in known:
            raise GdoiError(Reason.POLICY_REJECTED, f"attribute {attribute.kind} in a {where}, which we do not know")
