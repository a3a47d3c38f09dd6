"""A group's state as plain data for JSON, and back: what a key server must know again after a restart.

Nothing that members rely on may be lost: keys, the rekey sequence, who is a member, and above all how many Sender-IDs were given out.
Times are seconds relative to the moment of the snapshot (negative: before it), because monotonic clocks begin anew with each boot. Those of
members are relative to a moment of their own, which the snapshot names (`members_at`), so that the text of a member stays as it is from one
snapshot to the next: a snapshot for each registration must not cost more the more members there are.
The data holds keys in the clear; the node keeps it in a file of mode 0600.
"""

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from groupvpn.crypto.registry import EspCipher, EspIntegrity, KekCipher, SignatureHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint
from groupvpn.gdoi.group import RekeyKey, TrafficKey
from groupvpn.gdoi.members import Member
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.gdoi.pseudotime import PseudoClock
from groupvpn.gdoi.rekeying import UnfinishedDelete
from groupvpn.gdoi.sender_ids import SenderIds
from groupvpn.gdoi.served_group import ServedGroup
from groupvpn.gdoi.told import Told
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform

VERSION = 1
"""Of the format as a whole. A snapshot of an earlier release may lack a field, and one of a later release have others: both are taken."""
Plain = dict[str, object]
"""Strings, numbers, booleans, None, and lists and dicts of these."""


class SnapshotError(ValueError):
    """Data that is no snapshot of a group."""


def snapshot_text(groups: Iterable[ServedGroup], now: float) -> str:
    """The state of `groups` as JSON, relative to `now`. Members that are as they were are not written out again."""
    return object_text({"version": VERSION}, {"groups": object_text({}, {group.name: _group_text(group, now) for group in groups})})


def groups_of(state: object) -> Mapping[str, object]:
    """The parts of a snapshot by the name of the group, for `restore_group`. Raises `ValueError` for what is no snapshot."""
    groups = state.get("groups") if isinstance(state, dict) and state.get("version") == VERSION else None
    if not isinstance(groups, dict):
        raise ValueError("not a snapshot of a key server, or of another version")
    return groups


def object_text(fields: Plain, texts: Mapping[str, str]) -> str:
    """A JSON object of `fields`, and behind them of `texts`, whose values are JSON already."""
    parts = {**{name: json.dumps(value) for name, value in fields.items()}, **texts}
    return f"{{{', '.join(f'{json.dumps(name)}: {text}' for name, text in parts.items())}}}"


def _group_text(group: ServedGroup, now: float) -> str:
    deletes = [_delete_text(each, now) for each in group.rounds.deletes]
    return object_text(_without_members(group, now), {"deletes": f"[{', '.join(deletes)}]", "members": _members_text(group.members)})


def _delete_text(each: UnfinishedDelete, now: float) -> str:
    protocols = sorted(protocol.name for protocol in each.deletes)
    fields: Plain = {"under": _write_kek(each.under, now), "sequence": each.sequence, "protocols": protocols}
    return object_text(fields, {"members": _members_text(each.members)})


def _members_text(members: Iterable[Member]) -> str:
    return f"[{', '.join(map(_member_text, members))}]"


def _without_members(group: ServedGroup, now: float) -> Plain:
    keys = group.keys
    return {
        "sender_id_bits": keys.sender_ids.bits,
        "sender_ids_used": keys.sender_ids.used,
        "sequence": keys.sequence,
        "rekeys_sent": group.rounds.sent,
        "registrations": group.registrations,
        "rekeyed_at": group.rekeyed_at - now if group.rekeyed_at is not None else None,
        "under_way": group.rounds.is_under_way,
        "told": _write_told(group.told) if group.told is not None else None,
        "pseudotime": keys.clock.seconds(now) if keys.clock else None,
        "kek": _write_kek(keys.kek, now) if keys.kek else None,
        "teks": [_write_tek(key, now) for key in keys.teks],
        "members_at": now,
    }


def restore_group(group: ServedGroup, state: object, now: float, elapsed: float) -> None:
    """Put `state`, taken `elapsed` seconds ago, into a group that has not started; `SnapshotError`, and no change, if it is bad."""
    try:
        fields = _mapping(state)
        origin = now - elapsed
        sender_ids = SenderIds(int(_number(fields["sender_id_bits"])), int(_number(fields["sender_ids_used"])))
        teks = [_read_tek(_mapping(item), origin) for item in _items(fields["teks"])]
        kek = _read_kek(_mapping(fields["kek"]), origin) if fields["kek"] is not None else None
        told, rekeyed_at = fields.get("told"), fields.get("rekeyed_at")
        told = _read_told(_mapping(told)) if told is not None else None
        rekeyed_at = _number(rekeyed_at) + origin if rekeyed_at is not None else None
        under_way, pseudotime = fields.get("under_way"), fields.get("pseudotime")
        clock = PseudoClock(origin - _number(pseudotime)) if pseudotime is not None else None
        last = max((key.expires for key in teks), default=now)
        zero = origin - _number(fields.get("members_at", 0))  # a release before it wrote their times relative to the snapshot
        members = [_read_member(_mapping(item), zero, last) for item in _items(fields["members"])]
        deletes = tuple(_read_delete(_mapping(item), origin, zero, last) for item in _items(fields.get("deletes", [])))
        sequence, rekeys, registrations = (int(_number(fields[name])) for name in ("sequence", "rekeys_sent", "registrations"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SnapshotError(f"the snapshot of group {group.name} cannot be used ({error!r})") from error
    keys = group.keys
    keys.sender_ids = sender_ids
    keys.clock = clock
    keys.teks = [key for key in teks if key.expires > now]
    keys.kek = kek if kek is not None and kek.expires > now else None
    keys.sequence = sequence if keys.kek is not None else 0
    group.rounds.sent, group.registrations = rekeys, registrations
    group.told, group.rekeyed_at = told, rekeyed_at
    group.unfinished = deletes
    group.was_under_way = bool(under_way) if under_way is not None else None
    for member in members:
        group.members.add(member)
    if kek is not None and keys.kek is None and not (kek.unicast and kek.acknowledge):
        for member in members:  # who answers to no rekey may hold all that rekeys brought
            member.note_keys(keys.last_expiry(now))


def _write_told(told: Told) -> Plain:
    return {"lists": [list(item) for item in told.lists], "receive_only": told.receive_only}


def _read_told(state: Mapping[str, object]) -> Told:
    items = [_items(item) for item in _items(state["lists"])]
    return Told(tuple((int(_number(sequence)), _text(digest)) for sequence, digest in items), bool(state["receive_only"]))


def _write_tek(key: TrafficKey, now: float) -> Plain:
    return {
        "slot": key.slot,
        "spi": key.spi,
        "cipher": key.transform.cipher.name,
        "integrity": key.transform.integrity.name,
        "mode": key.transform.mode.name,
        "protocol": key.transform.protocol.name,
        "encryption_key": key.encryption_key.reveal().hex(),
        "integrity_key": key.integrity_key.reveal().hex(),
        "salt": key.salt.reveal().hex(),
        "replay": [key.replay.method.value, key.replay.window],
        "created": key.created - now,
        "lifetime": key.lifetime,
    }


def _read_tek(state: Mapping[str, object], origin: float) -> TrafficKey:
    cipher, integrity, mode = (_text(state[name]) for name in ("cipher", "integrity", "mode"))
    protocol = _text(state.get("protocol", SecurityProtocol.ESP.name))  # a snapshot of a release before AH does not say
    transform = Transform(EspCipher[cipher], EspIntegrity[integrity], Mode[mode], SecurityProtocol[protocol])
    method, window = _items(state["replay"])
    return TrafficKey(
        slot=int(_number(state["slot"])),
        spi=int(_number(state["spi"])),
        transform=transform,
        encryption_key=_secret(state["encryption_key"]),
        integrity_key=_secret(state["integrity_key"]),
        salt=_secret(state["salt"]),
        replay=Replay(ReplayMethod(_text(method)), int(_number(window))),
        created=_number(state["created"]) + origin,
        lifetime=int(_number(state["lifetime"])),
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
    }


def _read_kek(state: Mapping[str, object], origin: float) -> RekeyKey:
    return RekeyKey(
        spi=bytes.fromhex(_text(state["spi"])),
        cipher=KekCipher[_text(state["cipher"])],
        iv=bytes.fromhex(_text(state["iv"])),
        key=_secret(state["key"]),
        signature_hash=SignatureHash[_text(state["signature_hash"])],
        key_label=_text(state["key_label"]),
        public_key=bytes.fromhex(_text(state["public_key"])),
        created=_number(state["created"]) + origin,
        lifetime=int(_number(state["lifetime"])),
        expires=_number(state["expires"]) + origin,
        unicast=bool(state["unicast"]),
        acknowledge=bool(state["acknowledge"]),
        destination=IPv4Address(_text(state["destination"])),
    )


def _read_delete(state: Mapping[str, object], origin: float, zero: float, last: float) -> UnfinishedDelete:
    return UnfinishedDelete(
        under=_read_kek(_mapping(state["under"]), origin),
        sequence=int(_number(state["sequence"])),
        deletes=frozenset(SecurityProtocol[_text(name)] for name in _items(state["protocols"])),
        members=tuple(_read_member(_mapping(item), zero, last) for item in _items(state["members"])),
    )


def _member_text(member: Member) -> str:
    if not member.written:
        member.written = json.dumps(_write_member(member))
    return member.written


def _write_member(member: Member) -> Plain:
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
    }


def _read_member(state: Mapping[str, object], origin: float, last: float) -> Member:
    """A member; in a snapshot of a release before `keys_until` all of them hold TEKs until `last`."""
    member = Member(
        peer=_endpoint(state["peer"]),
        server=_endpoint(state["server"]),
        registered_at=_number(state["registered_at"]) + origin,
        sender_ids=tuple(int(_number(item)) for item in _items(state["sender_ids"])),
        keys_until=_number(state["keys_until"]) + origin if "keys_until" in state else last,
    )
    for name in ("rekeys_sent", "rekey_retries", "acks_received", "acks_missed", "missed_in_a_row"):
        setattr(member, name, int(_number(state[name])))
    member.sent_sequences.extend(int(_number(item)) for item in _items(state["sent_sequences"]))
    member.received_sequences.extend(int(_number(item)) for item in _items(state["received_sequences"]))
    return member


def _endpoint(value: object) -> Endpoint:
    address, port = _items(value)
    return Endpoint(IPv4Address(_text(address)), int(_number(port)))


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


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text was expected, not {type(value).__name__}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a number was expected, not {type(value).__name__}")
    return value
