"""What a predecessor left behind, and how to lift it.

TAPs, their redirection and the engine die with the process. The nftables table stays on purpose: it forwards what must be protected to
a TAP that is gone, and the kernel drops what is forwarded to nowhere. So a killed node leaks nothing until it is back, or until an
operator lifts the block with `groupvpn clean`.
"""

from groupvpn.dataplane import links, nftables
from groupvpn.dataplane.ruleset import TABLE_PREFIX


def leftovers(node: str | None = None) -> tuple[str, ...]:
    """Interfaces whose table has no living TAP to forward to. `node` limits it to that node's tables.

    The table of a living node that could not start its engine looks the same, so the caller must know that the node is dead.
    """
    present = frozenset(links.names())
    return tuple(
        table.removeprefix(TABLE_PREFIX)
        for table in nftables.tables()
        if not nftables.taps(table) & present and (node is None or nftables.owner(table) == node)
    )


def clean(node: str | None = None, keep: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Remove the tables of dead nodes, but for the interfaces to `keep`; returns the interfaces that are in the clear again.

    A table that a living node forwards by is never touched.
    """
    lifted = tuple(device for device in leftovers(node) if device not in keep)
    for device in lifted:
        nftables.delete(TABLE_PREFIX + device)
    return lifted
