"""What the members of a group were told that its keys do not show, so that a key server that is started again knows whether it holds."""

from dataclasses import dataclass
from hashlib import sha256

from groupvpn.gdoi.policy import KeyServerGroup, TekPolicy
from groupvpn.ipsec.acl import Entry


@dataclass(frozen=True, slots=True)
class Announced:
    """`lists` has the number of each `sa ipsec` and a digest of its access list, which is enough to see that the list is another one."""

    lists: tuple[tuple[int, str], ...]
    receive_only: bool

    @classmethod
    def of(cls, group: KeyServerGroup) -> "Announced":
        """What a rekey of `group` tells now."""
        return cls(tuple((policy.slot, _digest(policy)) for policy in group.teks), group.receive_only)


def _digest(policy: TekPolicy) -> str:
    return sha256("\n".join(_line(entry) for entry in policy.honoured_entries).encode()).hexdigest()


def _line(entry: Entry) -> str:
    ends = (entry.source, entry.source_port, entry.destination, entry.destination_port)
    return " ".join(map(str, (entry.action.value, entry.protocol, *ends)))
