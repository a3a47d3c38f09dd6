"""Snapshots as JSON, and back: what a key server must know again after a restart.

Nothing that members rely on may be lost: keys, the rekey sequence, who is a member, and above all how many Sender-IDs were given out.
Times are seconds relative to the moment of the snapshot (negative: before it), because monotonic clocks begin anew with each boot. Those of
members are relative to a moment of their own, which the snapshot names (`members_at`), so that the text of a member stays as it is from one
snapshot to the next: a snapshot for each registration must not cost more the more members there are.
The data holds keys in the clear; the node keeps it in a file of mode 0600.
"""

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from math import inf, isfinite

from groupvpn.crypto.registry import EspCipher, EspIntegrity, KekCipher, SignatureHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint
from groupvpn.gdoi.announced import Announced
from groupvpn.gdoi.group_keys import RekeyKey, TrafficKey
from groupvpn.gdoi.members import HISTORY, MemberRecord
from groupvpn.gdoi.policy import REPLAY_TICK, Replay, ReplayMethod
from groupvpn.gdoi.pseudotime import PseudoClock
from groupvpn.gdoi.rekeying import UnfinishedDelete
from groupvpn.gdoi.sender_ids import SenderIds
from groupvpn.gdoi.snapshot import GroupSnapshot
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform

VERSION = 1
"""Of the format as a whole. A snapshot of an earlier release may lack a field, and one of a later release have others: both are taken."""
Plain = dict[str, object]
"""Strings, numbers, booleans, None, and lists and dicts of these."""


class SnapshotError(ValueError):
    """Data that is no snapshot of a group."""


class SnapshotWriter:
    """Writes snapshots as JSON. It keeps the text of each member, for of thousands all but a few are as they were in the one before."""

    def __init__(self) -> None:
        self._written: dict[MemberRecord, str] = {}

    def text(self, groups: Mapping[str, GroupSnapshot], now: float) -> str:
        """The state of `groups`, by their names, relative to `now`."""
        before, self._written = self._written, {}
        texts = {name: self._group_text(group, before, now) for name, group in groups.items()}
        return object_text({"version": VERSION}, {"groups": object_text({}, texts)})

    def _group_text(self, group: GroupSnapshot, before: Mapping[MemberRecord, str], now: float) -> str:
        deletes = ", ".join(self._delete_text(each, before, now) for each in group.deletes)
        return object_text(_without_members(group, now), {"deletes": f"[{deletes}]", "members": self._members_text(group.members, before)})

    def _delete_text(self, each: UnfinishedDelete, before: Mapping[MemberRecord, str], now: float) -> str:
        protocols = sorted(protocol.name for protocol in each.deletes)
        fields: Plain = {"under": _write_kek(each.under, now), "sequence": each.sequence, "protocols": protocols}
        return object_text(fields, {"members": self._members_text(each.members, before)})

    def _members_text(self, members: Iterable[MemberRecord], before: Mapping[MemberRecord, str]) -> str:
        for member in members:
            self._written[member] = before.get(member) or json.dumps(_write_member(member))
        return f"[{', '.join(map(self._written.__getitem__, members))}]"


def groups_of(state: object) -> Mapping[str, object]:
    """The parts of a snapshot by the name of the group, for `read_group`. Raises `ValueError` for what is no snapshot."""
    groups = state.get("groups") if isinstance(state, dict) and state.get("version") == VERSION else None
    if not isinstance(groups, dict):
        raise ValueError("not a snapshot of a key server, or of another version")
    return groups


def object_text(fields: Plain, texts: Mapping[str, str]) -> str:
    """A JSON object of `fields`, and behind them of `texts`, whose values are JSON already."""
    parts = {**{name: json.dumps(value) for name, value in fields.items()}, **texts}
    return f"{{{', '.join(f'{json.dumps(name)}: {text}' for name, text in parts.items())}}}"


def read_group(name: str, state: object, now: float, elapsed: float) -> GroupSnapshot:
    """The state of the group `name`, taken `elapsed` seconds ago; raises `SnapshotError` if it is bad."""
    try:
        return _read_group(_mapping(state), now, elapsed)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SnapshotError(f"the snapshot of group {name} cannot be used ({error!r})") from error


def _without_members(group: GroupSnapshot, now: float) -> Plain:
    return {
        "sender_id_bits": group.sender_ids.bits,
        "sender_ids_used": group.sender_ids.used,
        "sequence": group.sequence,
        "rekeys_sent": group.rekeys_sent,
        "registrations": group.registrations,
        "rekeyed_at": group.rekeyed_at - now if group.rekeyed_at is not None else None,
        "under_way": group.under_way,
        "told": _write_announced(group.announced) if group.announced is not None else None,
        "pseudotime": group.clock.seconds(now) if group.clock else None,
        "kek": _write_kek(group.kek, now) if group.kek else None,
        "teks": [_write_tek(key, now) for key in group.teks],
        "members_at": now,
    }


def _read_group(fields: Mapping[str, object], now: float, elapsed: float) -> GroupSnapshot:
    """A release before some field existed wrote nothing of it: `told`, `rekeyed_at`, `under_way`, `pseudotime`, `members_at`, `deletes`."""
    origin = now - elapsed
    zero = origin - _number(fields.get("members_at", 0))  # without it the times of members are relative to the snapshot
    teks = tuple(_read_tek(_mapping(item), origin) for item in _items(fields["teks"]))
    last = max((key.expires for key in teks), default=now)
    told, rekeyed_at, under_way, pseudotime = (fields.get(name) for name in ("told", "rekeyed_at", "under_way", "pseudotime"))
    return GroupSnapshot(
        sender_ids=SenderIds(_integer(fields["sender_id_bits"]), _integer(fields["sender_ids_used"])),
        clock=PseudoClock(origin - _number(pseudotime)) if pseudotime is not None else None,
        teks=teks,
        kek=_read_kek(_mapping(fields["kek"]), origin) if fields["kek"] is not None else None,
        sequence=_integer(fields["sequence"]),
        members=tuple(_read_member(_mapping(item), zero, last) for item in _items(fields["members"])),
        rekeys_sent=_integer(fields["rekeys_sent"]),
        registrations=_integer(fields["registrations"]),
        announced=_read_announced(_mapping(told)) if told is not None else None,
        rekeyed_at=_number(rekeyed_at) + origin if rekeyed_at is not None else None,
        under_way=bool(under_way) if under_way is not None else None,
        deletes=tuple(_read_delete(_mapping(item), origin, zero, last) for item in _items(fields.get("deletes", []))),
    )


def _write_announced(announced: Announced) -> Plain:
    return {"lists": [list(item) for item in announced.lists], "receive_only": announced.receive_only}


def _read_announced(state: Mapping[str, object]) -> Announced:
    items = [_items(item) for item in _items(state["lists"])]
    return Announced(tuple((_integer(slot), _text(digest)) for slot, digest in items), bool(state["receive_only"]))


def _write_tek(key: TrafficKey, now: float) -> Plain:
    return {
        "slot": key.slot,
        "spi": key.spi,
        "cipher": key.transform.cipher.name,
        "integrity": key.transform.integrity.name,
        "mode": key.transform.mode.name,
        "protocol": key.transform.protocol.name,
        "encryption_key": key.keys.encryption.reveal().hex(),
        "integrity_key": key.keys.integrity.reveal().hex(),
        "salt": key.keys.salt.reveal().hex(),
        "replay": [key.replay.method.value, key.replay.window, *([key.replay.tick] if key.replay.tick != REPLAY_TICK else [])],
        "created": key.created - now,
        "lifetime": key.lifetime,
        "activates": key.activates - now if key.activates is not None else None,
    }


def _read_tek(state: Mapping[str, object], origin: float) -> TrafficKey:
    cipher, integrity, mode = (_text(state[name]) for name in ("cipher", "integrity", "mode"))
    protocol = _text(state.get("protocol", SecurityProtocol.ESP.name))  # a snapshot of a release before AH does not say
    transform = Transform(EspCipher[cipher], EspIntegrity[integrity], Mode[mode], SecurityProtocol[protocol])
    method, window, *tick = _items(state["replay"])
    activates = state.get("activates")  # nor does one of a release before there was any say when
    return TrafficKey(
        slot=_integer(state["slot"]),
        spi=_integer(state["spi"]),
        transform=transform,
        keys=TrafficKeys(*(_secret(state[name]) for name in ("encryption_key", "integrity_key", "salt"))),
        replay=Replay(ReplayMethod(_text(method)), *_numbers([window, *tick])),
        created=_number(state["created"]) + origin,
        lifetime=_integer(state["lifetime"]),
        activates=_number(activates) + origin if activates is not None else None,
    )


def _write_kek(kek: RekeyKey, now: float) -> Plain:
    return {
        "spi": kek.spi.hex(),
        "cipher": kek.cipher.name,
        "iv": kek.iv.hex(),
        "key": kek.key.reveal().hex(),
        "signature_hash": kek.signature_hash.name,
        "key_label": kek.key_label,
        "public_key": kek.public_key.hex(),
        "created": kek.created - now,
        "lifetime": kek.lifetime,
        "expires": kek.expires - now,
        "unicast": kek.unicast,
        "acknowledge": kek.acknowledge,
        "destination": str(kek.destination),
        "known_since": kek.known_since - now if isfinite(kek.known_since) else None,
    }


def _read_kek(state: Mapping[str, object], origin: float) -> RekeyKey:
    known_since = state.get("known_since")  # a snapshot of a release before it does not say
    return RekeyKey(
        spi=bytes.fromhex(_text(state["spi"])),
        cipher=KekCipher[_text(state["cipher"])],
        iv=bytes.fromhex(_text(state["iv"])),
        key=_secret(state["key"]),
        signature_hash=SignatureHash[_text(state["signature_hash"])],
        key_label=_text(state["key_label"]),
        public_key=bytes.fromhex(_text(state["public_key"])),
        created=_number(state["created"]) + origin,
        lifetime=_integer(state["lifetime"]),
        expires=_number(state["expires"]) + origin,
        unicast=bool(state["unicast"]),
        acknowledge=bool(state["acknowledge"]),
        destination=IPv4Address(_text(state["destination"])),
        known_since=_number(known_since) + origin if known_since is not None else -inf,
    )


def _read_delete(state: Mapping[str, object], origin: float, zero: float, last: float) -> UnfinishedDelete:
    return UnfinishedDelete(
        under=_read_kek(_mapping(state["under"]), origin),
        sequence=_integer(state["sequence"]),
        deletes=frozenset(SecurityProtocol[_text(name)] for name in _items(state["protocols"])),
        members=tuple(_read_member(_mapping(item), zero, last) for item in _items(state["members"])),
    )


def _write_member(member: MemberRecord) -> Plain:
    return {
        "peer": [str(member.peer.address), member.peer.port],
        "server": [str(member.server.address), member.server.port],
        "registered_at": member.registered_at,
        "rekeys_sent": member.rekeys_sent,
        "rekey_retries": member.rekey_retries,
        "acks_received": member.acks_received,
        "acks_missed": member.acks_missed,
        "missed_in_a_row": member.missed_in_a_row,
        "sent_sequences": list(member.sent_sequences),
        "received_sequences": list(member.received_sequences),
        "sender_ids": list(member.sender_ids),
        "keys_until": member.keys_until,
        "proven": str(member.proven) if member.proven is not None else None,
    }


def _read_member(state: Mapping[str, object], origin: float, last: float) -> MemberRecord:
    """A member; in a snapshot of a release before `keys_until` all of them hold TEKs until `last`. One before `proven` wrote none."""
    proven = state.get("proven")
    return MemberRecord(
        peer=_endpoint(state["peer"]),
        server=_endpoint(state["server"]),
        registered_at=_number(state["registered_at"]) + origin,
        rekeys_sent=_integer(state["rekeys_sent"]),
        rekey_retries=_integer(state["rekey_retries"]),
        acks_received=_integer(state["acks_received"]),
        acks_missed=_integer(state["acks_missed"]),
        missed_in_a_row=_integer(state["missed_in_a_row"]),
        sent_sequences=_numbers(state["sent_sequences"])[-HISTORY:],
        received_sequences=_numbers(state["received_sequences"])[-HISTORY:],
        sender_ids=_numbers(state["sender_ids"]),
        keys_until=_number(state["keys_until"]) + origin if "keys_until" in state else last,
        proven=IPv4Address(_text(proven)) if proven is not None else None,
    )


def _endpoint(value: object) -> Endpoint:
    address, port = _items(value)
    return Endpoint(IPv4Address(_text(address)), _integer(port))


def _secret(value: object) -> Secret:
    return Secret(bytes.fromhex(_text(value)))


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"a table was expected, not {type(value).__name__}")
    return value


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"a list was expected, not {type(value).__name__}")
    return value


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(_integer(item) for item in _items(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text was expected, not {type(value).__name__}")
    return value


def _integer(value: object) -> int:
    return int(_number(value))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a number was expected, not {type(value).__name__}")
    return value
