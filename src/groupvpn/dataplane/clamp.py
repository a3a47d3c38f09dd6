"""`ip tcp adjust-mss`: one nftables table that lowers the segment size which TCP connections through an interface agree on.

It hangs on the hooks of IPv4 routing, before the egress hook and behind the ingress hook, so it sees what will be encrypted and what was
decrypted like everything else. It holds no secret and protects nothing; when the node is killed it stays, and does no harm.
"""

import contextlib

from groupvpn.dataplane import nftables
from groupvpn.dataplane.programs import ProgramError
from groupvpn.ipsec.sa import SegmentClamp

TABLE_PREFIX = "groupvpn-mss_"
"""The table of a node is called this and the node's name, in the family `ip`."""
_HOOKS = {"arriving": ("prerouting", "iifname"), "leaving": ("postrouting", "oifname")}
_SYN = "tcp flags & (syn | rst) == syn"
"""The segments that carry the option (RFC 9293 3.2)."""


class ClampTable:
    """The table of one node: what we loaded last, and whether it is still there as we left it."""

    def __init__(self, node: str) -> None:
        self._name = TABLE_PREFIX + node
        self._loaded: tuple[SegmentClamp, ...] | None = None
        self._seen = ""

    def load(self, clamps: tuple[SegmentClamp, ...]) -> None:
        """Make the table so; none at all where there is nothing to clamp. Raises `programs.ProgramError`."""
        if self._loaded == clamps or not (clamps or self._loaded or _listing(self._name)):
            return
        self._loaded = None
        nftables.load(render(self._name, clamps))
        self._seen = _listing(self._name)
        self._loaded = clamps

    def verify(self) -> bool:
        """Whether the table is as we loaded it; if not, the next `load` puts it back."""
        with contextlib.suppress(ProgramError):  # nobody knows: it is left as it is
            if self._loaded and _listing(self._name) != self._seen:
                self._loaded = None
                return False
        return True


def render(table: str, clamps: tuple[SegmentClamp, ...]) -> str:
    """Input for `nft -f -` that makes the table so in one transaction, or removes it. The kernel only ever lowers the option."""
    lines = [f"add table ip {table}", f"delete table ip {table}"]
    if clamps:
        lines.append(f"table ip {table} {{")
        for name, (hook, device) in _HOOKS.items():
            lines += [f"\tchain {name} {{", f"\t\ttype filter hook {hook} priority mangle; policy accept;"]
            lines += [f'\t\t{device} "{clamp.device}" {_SYN} tcp option maxseg size set {clamp.octets}' for clamp in clamps]
            lines.append("\t}")
        lines.append("}")
    return "\n".join([*lines, ""])


def remove(node: str) -> bool:
    """Remove what a dead node left; whether there was something. Raises `programs.ProgramError`."""
    if not _listing(TABLE_PREFIX + node):
        return False
    nftables.load(render(TABLE_PREFIX + node, ()))
    return True


def _listing(table: str) -> str:
    return nftables.listing(table, ["ip"])
