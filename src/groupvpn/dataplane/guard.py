"""What holds while an interface and its table have lost each other: the same list once more, on the hooks of routing.

The kernel takes a table of the family `netdev` off an interface that is renamed (seen on Linux 6.18), and a new interface of the same name
may come without one. The node follows within milliseconds, if it lives, but an interface that is up sends on meanwhile. Routing's hooks
belong to no interface: there a packet of the interface that has both its number and its name passes by one rule; one of an interface that
has only one of the two meets the list, and is dropped where a permit covers it.
"""

from collections.abc import Iterator, Sequence

from groupvpn.dataplane.chains import CLEAR, Judged, Rules, rules_of

REASONS = {
    "outbound_unsteered": "was to be protected when the interface had lost its rules",
    "inbound_unsteered": "arrived in the clear where the policy wants it encrypted, when the interface had lost its rules",
}
"""Named counters of the guard: packets that it dropped, by reason. They go on when rules change."""
_VERSIONS = {4: "ipv4", 6: "ipv6"}


def render(table: str, index: int, device: str, outbound: Sequence[Judged], inbound: Sequence[Judged]) -> str:
    """Input for `nft -f -` that makes the guard so, whatever there was before: a table of the family `inet`.

    `index` and `device` are number and name of the interface. Entries whose verdict is `CLEAR` let pass what they match, others do not.
    """
    lines = [f"add table inet {table}"]
    lines += [f'add counter inet {table} {name} {{ comment "{text}"; }}' for name, text in REASONS.items()]
    chains = (
        *_chains("outbound", "postrouting", "oif", index, device, outbound),
        *_chains("inbound", "prerouting", "iif", index, device, inbound),
    )
    for name, head, rules in chains:
        lines += [f"add chain inet {table} {name}{head}", f"flush chain inet {table} {name}"]
        lines += [f"add rule inet {table} {name} {rule}" for rule in rules]
    return "\n".join([*lines, ""])


def _chains(way: str, hook: str, which: str, index: int, device: str, judged: Sequence[Judged]) -> Iterator[tuple[str, str, Rules]]:
    """Chains by name, with what makes a base chain of one and with their rules; none before those that it leads to."""
    for version, family in _VERSIONS.items():
        dropped = [Judged(item.entry, "accept" if item.verdict == CLEAR else f"counter name {way}_unsteered drop") for item in judged]
        yield f"{way}_{family}", "", [rule for item in dropped if item.entry.version == version for rule in rules_of(item)]
    yield f"{way}_unsteered", "", [f"meta nfproto {family} goto {way}_{family}" for family in _VERSIONS.values()]
    number, name = f"{which} {index}", f'{which}name "{device}"'
    head = f" {{ type filter hook {hook} priority filter; policy accept; }}"
    yield way, head, [f"{number} {name} accept", f"{number} goto {way}_unsteered", f"{name} goto {way}_unsteered"]
