"""What holds while an interface and its table have lost each other: the same list once more, on the hooks of routing.

The kernel takes a table of the family `netdev` off an interface that is renamed (seen on Linux 6.18), and a new interface of the same name
may come without one, as without programs. The node follows within milliseconds, if it lives, but an interface that is up sends on
meanwhile. Routing's hooks belong to no interface: there a packet of the interface that has both its number and its name passes by one
rule; one of an interface that has only one of the two meets the list, and is dropped where a permit covers it.

Beside programs the guard sleeps: it has no chain at a hook. Whoever wakes it need know no rules. Then it is alone, and packets of the
interface itself meet the list too.
"""

import re
from collections.abc import Iterator, Sequence
from enum import Enum

from groupvpn.dataplane.chains import Judged, Rules, rules_of
from groupvpn.dataplane.steering import OWNER, SERVED, Steering, arrives_clear, arriving, interface_name, leaves_clear
from groupvpn.ipsec.acl import Entry

REASONS = {
    "outbound_unsteered": "was to be protected when the interface had lost its rules",
    "inbound_unsteered": "arrived in the clear where the policy wants it encrypted, when the interface had lost its rules",
}
"""Named counters of the guard: packets that it dropped, by reason. They go on when rules change."""
_WRITABLE = re.compile(r"""[!#-)+-.0-\[\]-~]{1,15}""")
"""Names of interfaces that mean themselves between quotes of nft, which cannot escape a quote, and takes an asterisk for any ending."""
_VERSIONS = {4: "ipv4", 6: "ipv6"}
_HOOKS = {"outbound": "postrouting", "inbound": "prerouting"}
"""Base chains, and where they are. A guard that sleeps has none, so it costs nothing."""


class State(Enum):
    """How a guard stands."""

    BESIDE = "beside rules that hold: lets pass what is of the interface that has them"
    ALONE = "nothing else may be there"
    ASLEEP = "does nothing; woken, it is alone"


def render(steering: Steering, state: State) -> str:
    """Input for `nft -f -` that makes the guard so, whatever there was before: a table of the family `inet`."""
    table = steering.table
    outbound = [(rule.entry, leaves_clear(rule)) for rule in steering.rules]
    inbound = [(entry, arrives_clear(rule)) for rule, entry in arriving(steering)]
    lines = [f'add table inet {table} {{ comment "{OWNER} {steering.node}"; }}']
    lines += [f'add counter inet {table} {name} {{ comment "{text}"; }}' for name, text in REASONS.items()]
    for name, rules in (*_chains("outbound", "oif", steering, outbound), *_chains("inbound", "iif", steering, inbound)):
        lines += [f"add chain inet {table} {name}", f"flush chain inet {table} {name}"]
        lines += [f"add rule inet {table} {name} {rule}" for rule in rules]
    for way, which in (("outbound", "oif"), ("inbound", "iif")):
        lines += [_base(table, way), f"flush chain inet {table} {way}"]
        if state is State.ASLEEP:
            lines.append(f"delete chain inet {table} {way}")
        if state is State.BESIDE:
            lines.append(f'add rule inet {table} {way} {which} {steering.index} {which}name "{steering.device}" accept')
        if state is not State.ASLEEP:
            lines.append(_watch(table, way))
    return "\n".join([*lines, ""])


def wake(table: str) -> str:
    """Commands of nft in one line that wake the guard that sleeps; refused if there is none."""
    return "; ".join(command for way in _HOOKS for command in (_base(table, way), _watch(table, way)))


def _base(table: str, way: str) -> str:
    return f"add chain inet {table} {way} {{ type filter hook {_HOOKS[way]} priority filter; policy accept; }}"


def _watch(table: str, way: str) -> str:
    return f"add rule inet {table} {way} goto {way}_watch"


def _chains(way: str, which: str, steering: Steering, listed: Sequence[tuple[Entry, bool]]) -> Iterator[tuple[str, Rules]]:
    """Chains by name with their rules; none before those that it leads to."""
    for version, family in _VERSIONS.items():
        judged = [Judged(entry, "accept" if passes else f"counter name {way}_unsteered drop") for entry, passes in listed]
        yield f"{way}_{family}", [rule for item in judged if item.entry.version == version for rule in rules_of(item)]
    yield f"{way}_unsteered", [f"meta nfproto {family} goto {way}_{family}" for family in _VERSIONS.values()]
    own = [f"{which} {steering.index}"] if steering.index else []
    served = f' comment "{SERVED} {steering.tap_in}"' if steering.tap_in else ""
    yield f"{way}_watch", [f"{it} goto {way}_unsteered{served}" for it in (*own, *(f'{which}name "{name}"' for name in _names(steering)))]


def stands(steering: Steering) -> bool:
    """Whether there is anything to know the interface by: a number, or a name that nft can write."""
    return bool(steering.index or _names(steering))


def _names(steering: Steering) -> list[str]:
    """What the interface is called, and what it is configured as."""
    names = dict.fromkeys((steering.device, interface_name(steering.table)))
    return [name for name in names if _WRITABLE.fullmatch(name)]
