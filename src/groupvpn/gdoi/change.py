"""What a change of a key server's configuration does to a running group: which change is told to the members at once, and when it counts.

`RULES` is the table; `differences` finds the rows that apply between two configurations. The key server collects everything that was
changed when configuration mode is left, and sends one rekey for all of it, or none.
"""

from dataclasses import dataclass
from enum import Enum

from groupvpn.gdoi.policy import KeyServerGroup, RekeyPolicy, Replay, ReplayMethod, TekPolicy


class Renews(Enum):
    """Which keys a change makes anew."""

    NOTHING = "none"
    TEK = "TEK"
    """The TEK of the `sa ipsec` entry that changed, or all where the change is the group's."""
    KEK = "KEK"
    """The KEK and, with it, every TEK."""


class TakesEffect(Enum):
    """When members live by the change."""

    IMMEDIATELY = "immediately, on the key server"
    AFTER_REKEY = "as soon as the rekey that it triggers arrives"
    AFTER_EXPIRY = "for traffic when the old SA is about to expire; old and new SA travel together until then"
    NEXT_REKEY = "with the next rekey that is due anyway"
    NEXT_REGISTRATION = "when a member registers"
    AFTER_CLEAR = "after `clear crypto gdoi` on the key server"


@dataclass(frozen=True, slots=True)
class Rule:
    """What one kind of change does: whether it triggers a rekey, which keys it renews, when members live by it (for operators to read)."""

    rekey: bool
    renews: Renews
    takes_effect: TakesEffect


class Kind(Enum):
    """Every kind of change that the key server tells apart."""

    TEK_LIFETIME = "lifetime of the SA"
    TRANSFORM_SET = "transform set of the profile"
    PROFILE = "profile of `sa ipsec`"
    ACL = "access list of the traffic, or its entries"
    REPLAY_ENABLED = "anti-replay enabled, or its method changed"
    REPLAY_DISABLED = "anti-replay disabled"
    REPLAY_COUNTER_WINDOW = "window of counter-based anti-replay"
    REPLAY_TIME_WINDOW = "window of time-based anti-replay"
    SA_ADDED = "`sa ipsec` added"
    SA_REMOVED = "`sa ipsec` removed"
    RECEIVE_ONLY_ENABLED = "receive-only enabled"
    RECEIVE_ONLY_DISABLED = "receive-only disabled"
    KEK_LIFETIME = "`rekey lifetime`"
    KEK_CIPHER = "`rekey algorithm`"
    SIGNATURE_HASH = "hash of the rekey signature"
    REKEY_ENABLED = "`rekey authentication` where there was none"
    REKEY_DISABLED = "`no rekey authentication`"
    REKEY_KEY = "another key for `rekey authentication`"
    TO_MULTICAST = "transport from unicast to multicast"
    TO_UNICAST = "transport from multicast to unicast"
    REKEY_ADDRESS = "another access list for `rekey address`"
    REKEY_ADDRESS_ENTRIES = "entries of the access list of `rekey address`"
    RETRANSMISSION = "`rekey retransmit`"
    ACKNOWLEDGEMENT = "acknowledgement of rekeys"
    SOURCE_ADDRESS = "`address ipv4` of the key server"
    AUTHORIZATION = "authorization list"
    IDENTITY = "identity of the group"
    REGISTRATION_INTERFACE = "`registration interface`, or the addresses of one"
    SENDER_ID_WIDTH = "width of Sender-IDs"


RULES = {
    Kind.TEK_LIFETIME: Rule(False, Renews.NOTHING, TakesEffect.NEXT_REKEY),
    Kind.TRANSFORM_SET: Rule(True, Renews.TEK, TakesEffect.AFTER_EXPIRY),
    Kind.PROFILE: Rule(True, Renews.TEK, TakesEffect.AFTER_EXPIRY),
    Kind.ACL: Rule(True, Renews.NOTHING, TakesEffect.AFTER_REKEY),
    Kind.REPLAY_ENABLED: Rule(True, Renews.TEK, TakesEffect.AFTER_EXPIRY),
    Kind.REPLAY_DISABLED: Rule(True, Renews.TEK, TakesEffect.AFTER_EXPIRY),
    Kind.REPLAY_COUNTER_WINDOW: Rule(False, Renews.NOTHING, TakesEffect.NEXT_REKEY),
    Kind.REPLAY_TIME_WINDOW: Rule(False, Renews.NOTHING, TakesEffect.AFTER_CLEAR),
    Kind.SA_ADDED: Rule(True, Renews.TEK, TakesEffect.AFTER_REKEY),
    Kind.SA_REMOVED: Rule(True, Renews.NOTHING, TakesEffect.AFTER_REKEY),
    Kind.RECEIVE_ONLY_ENABLED: Rule(True, Renews.TEK, TakesEffect.AFTER_REKEY),
    Kind.RECEIVE_ONLY_DISABLED: Rule(True, Renews.TEK, TakesEffect.AFTER_REKEY),
    Kind.KEK_LIFETIME: Rule(False, Renews.NOTHING, TakesEffect.NEXT_REKEY),
    Kind.KEK_CIPHER: Rule(True, Renews.KEK, TakesEffect.AFTER_REKEY),
    Kind.SIGNATURE_HASH: Rule(True, Renews.KEK, TakesEffect.AFTER_REKEY),
    Kind.REKEY_ENABLED: Rule(True, Renews.KEK, TakesEffect.NEXT_REGISTRATION),
    Kind.REKEY_DISABLED: Rule(False, Renews.NOTHING, TakesEffect.IMMEDIATELY),
    Kind.REKEY_KEY: Rule(True, Renews.KEK, TakesEffect.AFTER_REKEY),
    Kind.TO_MULTICAST: Rule(True, Renews.KEK, TakesEffect.AFTER_REKEY),
    Kind.TO_UNICAST: Rule(True, Renews.KEK, TakesEffect.AFTER_REKEY),
    Kind.REKEY_ADDRESS: Rule(True, Renews.KEK, TakesEffect.AFTER_REKEY),
    Kind.REKEY_ADDRESS_ENTRIES: Rule(False, Renews.NOTHING, TakesEffect.IMMEDIATELY),
    Kind.RETRANSMISSION: Rule(False, Renews.NOTHING, TakesEffect.NEXT_REKEY),
    Kind.ACKNOWLEDGEMENT: Rule(True, Renews.KEK, TakesEffect.AFTER_REKEY),
    Kind.SOURCE_ADDRESS: Rule(True, Renews.NOTHING, TakesEffect.AFTER_REKEY),
    Kind.AUTHORIZATION: Rule(False, Renews.NOTHING, TakesEffect.NEXT_REGISTRATION),
    Kind.IDENTITY: Rule(False, Renews.NOTHING, TakesEffect.NEXT_REGISTRATION),
    Kind.REGISTRATION_INTERFACE: Rule(False, Renews.NOTHING, TakesEffect.NEXT_REGISTRATION),
    Kind.SENDER_ID_WIDTH: Rule(False, Renews.NOTHING, TakesEffect.AFTER_CLEAR),
}
"""The table. `docs/decisions/rekey-triggers.md` has it too, and says what we chose where the manuals contradict themselves.

Two rows deserve a word. A changed access list renews no key: the keys that members have serve the new list at once. A changed way of
sending rekeys (transport, address, signature key) renews the KEK: the old KEK, in the old way, carries the news to every member, and
from then on nothing under the old way is accepted.
"""


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One difference between two configurations; `slot` is the number of the `sa ipsec` entry, None for the group's own settings."""

    kind: Kind
    slot: int | None = None

    @property
    def rule(self) -> Rule:
        """The row of the table."""
        return RULES[self.kind]


def differences(old: KeyServerGroup, new: KeyServerGroup) -> tuple[SettingChange, ...]:
    """Every change between two configurations of one group, in the order of the table's sections: TEKs, the group, the KEK."""
    before = {policy.slot: policy for policy in old.teks}
    after = {policy.slot: policy for policy in new.teks}
    found: list[SettingChange] = []
    for slot in sorted(before.keys() | after.keys()):
        if slot not in after:
            found.append(SettingChange(Kind.SA_REMOVED, slot))
        elif slot not in before:
            found.append(SettingChange(Kind.SA_ADDED, slot))
        else:
            found += [SettingChange(kind, slot) for kind in _tek_kinds(before[slot], after[slot])]
    found += [SettingChange(kind) for kind in (*_group_kinds(old, new), *_rekey_kinds(old.rekey, new.rekey))]
    return tuple(found)


def _tek_kinds(old: TekPolicy, new: TekPolicy) -> list[Kind]:
    kinds: list[Kind] = []
    if old.profile.name != new.profile.name:
        kinds.append(Kind.PROFILE)
    else:
        if old.profile.transform_sets[:1] != new.profile.transform_sets[:1]:
            kinds.append(Kind.TRANSFORM_SET)
        if old.profile.lifetime != new.profile.lifetime:
            kinds.append(Kind.TEK_LIFETIME)
    if old.acl != new.acl:
        kinds.append(Kind.ACL)
    if old.replay != new.replay:
        kinds.append(_replay_kind(old.replay, new.replay))
    return kinds


def _replay_kind(old: Replay, new: Replay) -> Kind:
    if new.method is ReplayMethod.DISABLED:
        return Kind.REPLAY_DISABLED
    if old.method is not new.method:
        return Kind.REPLAY_ENABLED
    return Kind.REPLAY_COUNTER_WINDOW if new.method is ReplayMethod.COUNTER else Kind.REPLAY_TIME_WINDOW


def _group_kinds(old: KeyServerGroup, new: KeyServerGroup) -> list[Kind]:
    kinds: list[Kind] = []
    if old.receive_only != new.receive_only:
        kinds.append(Kind.RECEIVE_ONLY_ENABLED if new.receive_only else Kind.RECEIVE_ONLY_DISABLED)
    if old.identity != new.identity:
        kinds.append(Kind.IDENTITY)
    if old.address != new.address:
        kinds.append(Kind.SOURCE_ADDRESS)
    if old.authorization != new.authorization:
        kinds.append(Kind.AUTHORIZATION)
    if old.registration_addresses != new.registration_addresses:
        kinds.append(Kind.REGISTRATION_INTERFACE)
    if old.sender_id_bits != new.sender_id_bits:
        kinds.append(Kind.SENDER_ID_WIDTH)
    return kinds


def _rekey_kinds(old: RekeyPolicy, new: RekeyPolicy) -> list[Kind]:
    if old.key_label is None or new.key_label is None:
        if old.key_label == new.key_label:
            return []
        return [Kind.REKEY_DISABLED if new.key_label is None else Kind.REKEY_ENABLED]
    kinds: list[Kind] = []
    if old.key_label != new.key_label:
        kinds.append(Kind.REKEY_KEY)
    if old.cipher != new.cipher:
        kinds.append(Kind.KEK_CIPHER)
    if old.signature_hash != new.signature_hash:
        kinds.append(Kind.SIGNATURE_HASH)
    if old.lifetime != new.lifetime:
        kinds.append(Kind.KEK_LIFETIME)
    if (old.retransmit_period, old.retransmit_count) != (new.retransmit_period, new.retransmit_count):
        kinds.append(Kind.RETRANSMISSION)
    if old.acknowledge != new.acknowledge:
        kinds.append(Kind.ACKNOWLEDGEMENT)
    if old.unicast != new.unicast:
        kinds.append(Kind.TO_UNICAST if new.unicast else Kind.TO_MULTICAST)
    elif not new.unicast and old.multicast_acl != new.multicast_acl:
        same_list = old.multicast_acl and new.multicast_acl and old.multicast_acl.name == new.multicast_acl.name
        kinds.append(Kind.REKEY_ADDRESS_ENTRIES if same_list else Kind.REKEY_ADDRESS)
    return kinds
