"""Re-injection: what the engine writes to a TAP arrives as if from the WAN interface.

A `clsact` filter on the TAP's ingress redirects every frame to the ingress of the WAN (tc-mirred(8)), so routing, multicast
reverse-path checks, joins and firewalls see the interface they expect. The filter goes away with the TAP. `u32` is the classifier,
because it is the one that every kernel with tc has.
"""

from groupvpn.dataplane import clsact
from groupvpn.dataplane.programs import run


def install(tap: str, wan: str) -> None:
    """Redirect what is read from `tap` to the ingress of `wan`; raises `programs.ProgramError`."""
    run(
        ["tc", "-b", "-"],
        f"qdisc add dev {tap} clsact\n"
        f"filter add dev {tap} ingress protocol all prio 1 u32 match u32 0 0 action mirred ingress redirect dev {wan}\n",
    )


def is_there(tap: int, wan: int) -> bool:
    """Whether the TAP of that number redirects to the interface of that number still.

    An operator, or a program that tidies up, may have taken the filter away. An interface that leaves for another namespace takes itself
    out of the filter, and is not in it again when it comes back with the same number.
    """
    try:
        return any(there.kind == "u32" and there.target == wan for there in clsact.filters(tap, clsact.Hook.INGRESS))
    except clsact.FilterError:
        return False


def without_queue(tap: str) -> None:
    """Let frames pass straight into the TAP's own ring: a queueing discipline would cost a lock, and hide that the ring is full."""
    run(["tc", "qdisc", "replace", "dev", tap, "root", "noqueue"])
