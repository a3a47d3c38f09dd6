"""What a predecessor left behind, and how to lift it.

TAPs, their redirection and the engine die with the process. The rules stay on purpose, as filters or as an nftables table: they forward
what must be protected to a TAP that is gone, and the kernel drops what is forwarded to nowhere. So a killed node leaks nothing until it is
back, or until an operator lifts the block with `groupvpn clean`.
"""

from collections.abc import Collection

from groupvpn.dataplane import filters, links, nftables
from groupvpn.dataplane.steering import interface_name, table_name
from groupvpn.dataplane.taps import name_inbound


def leftovers(node: str | None = None) -> tuple[str, ...]:
    """Interfaces whose rules have no living TAP to forward to. `node` limits it to that node's rules.

    The rules of a living node that could not start its engine look the same, so the caller must know that the node is dead. Raises
    `filters.FiltersError`, `programs.ProgramError` and `OSError`.
    """
    present = frozenset(links.names())
    owners: dict[str, str | None] = {}
    living = set()
    for there in filters.left():
        owners[there.rules] = there.node
        if name_inbound(there.interface) in present:
            living.add(there.rules)
    for table in nftables.tables():
        owners[table] = nftables.owner(table) or owners.get(table)
        if nftables.taps(table) & present:
            living.add(table)
    found = sorted(rules for rules, owner in owners.items() if rules not in living and (node is None or owner == node))
    return tuple(map(interface_name, found))


def lift(devices: Collection[str]) -> None:
    """Remove the rules of interfaces, whoever made them. Raises `filters.FiltersError` and `programs.ProgramError`."""
    for device in devices:
        filters.remove(table_name(device))
        nftables.delete(table_name(device))


def clean(node: str | None = None) -> tuple[str, ...]:
    """Remove the rules of dead nodes; returns the interfaces that are in the clear again.

    Rules that a living node forwards by are never touched. Raises what `leftovers` and `lift` do.
    """
    lifted = leftovers(node)
    lift(lifted)
    return lifted
