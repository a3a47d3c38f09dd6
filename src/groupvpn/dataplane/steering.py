"""What the rules of one interface have to say, whichever way they are written down: as an nftables table (`ruleset`) or as BPF programs
(`bytecode`).

Outbound, what leaves is judged by the merged access list; inbound, what arrives is judged by the same list as it applies to it
(`Entry.inbound`): mirrored, and for multicast as it is. What no entry matches is left in the clear.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from groupvpn.effects import GDOI_PORT, ISAKMP_PORT, NAT_T_PORT
from groupvpn.ipsec.acl import ANY_PROTOCOL, Action, Entry, IPAddress
from groupvpn.ipsec.sa import Direction, TrafficRule

DROP_REASONS = {
    "outbound_no_sa": "left in the direction of the group, but no SA is there to protect it",
    "inbound_clear": "arrived in the clear where the policy wants it encrypted",
    "inbound_unknown_spi": "arrived there under an SA that we do not hold",
    "inbound_not_permitted": "was decrypted, but no permit entry covers it",
    "inbound_restarted": "was ESP of ours when nobody was there to decrypt it",
}
"""Counters of packets that the rules themselves dropped, by reason."""
COPIES = "inbound_copies"
"""Counter of the packets that pass of which the engine got a copy. The copies are no packets of their own."""
TOLD = "inbound_told"
"""The same of packets whose addresses the list wants encrypted. It drops and counts them, or they pass by their protocol or ports: either
way the copies are no drops of the engine."""
PASSED = ("outbound_passed", "inbound_passed")
"""Counters of what the rules let pass in the clear."""
GIVEN = {way: (f"{way}_given", f"{way}_given_next") for way in ("outbound", "inbound")}
"""Counters of the frames that the rules led to TAPs, copies apart: what the engine did not get of them was lost on the way. Data paths take
turns, so that those of one that has ended are told from those of the next one."""
TABLE_PREFIX = "groupvpn_"
"""Every table we own is called this and the name that the interface is configured by, in the family `netdev`."""
_ODD = re.compile(r"[^A-Za-z0-9_.-]")
_ESCAPED = re.compile(r"/([0-9a-f]{2})")
OWNER = "groupvpn node"
"""How the comment of a table of ours begins; the node's name follows."""
SERVED = "by"
"""How the comment of a rule in a guard begins; the name of the inbound TAP follows."""
TOLD_OF = 20
"""Packets with an unknown SPI of which the engine gets a copy in a second, about."""
OWN_IPV6 = 64
"""At most so many addresses of IPv6 are known as ours: they are for telling alone, and a program may not become too long."""
ISAKMP_PORTS = (ISAKMP_PORT, GDOI_PORT, NAT_T_PORT)
"""Where our own ISAKMP and GDOI comes from and goes to, which is never protected."""


TOKEN_PREFIX = 4
"""With so many octets of the token begins the source address of every frame that the engine gives back."""
UNTAGGED = bytes(2)
"""The tag of an SA that was given none."""


@dataclass(frozen=True, slots=True)
class Selectors:
    """The entries that judge what came out of some SAs (RFC 4301 5.2), and the tag by which their packets are known."""

    tag: bytes
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Steering:
    """All that the rules of one interface depend on. `index` and `device` are the interface's number and what it is called now, `table`
    what it is configured as. `own` are the addresses under which this node speaks with key servers, `own_ipv6` those of IPv6 that it has,
    or some of them.

    `taps[i]` is the TAP of rule i, or None where no SA serves it. `token` is the source MAC of ICMP that the engine says by itself, and how
    that of all frames that it gives back begins (`TOKEN_PREFIX`); decrypted ones end with a tag of `selectors`. `mark` is the mark of the
    frames that the engine sends. All of these are drawn at random. `tap_in` is None where the engine could not be
    started: then whatever must be protected is dropped. `peers` are the far ends of SAs between two ends. Whole ESP packets of up to
    `copy_limit` octets are copies: the engine has them by its packet ring before these rules see them. `ring_program` is the kernel's
    number of the program that stands before them and has taken ESP already, 0 if there is none. `turn` is 0 or 1, another one than that of
    the data path before: rules lead to TAPs by number, so those that lead to others of the same names are others. No key is ever part of
    this.
    """

    table: str
    index: int
    device: str
    node: str
    own: tuple[IPv4Address, ...]
    bypass: tuple[IPv4Address, ...]
    rules: tuple[TrafficRule, ...]
    taps: tuple[str | None, ...]
    tap_in: str | None
    token: bytes
    mark: int
    spis: tuple[int, ...]
    peers: tuple[IPAddress, ...]
    esp_ports: tuple[int, ...]
    selectors: tuple[Selectors, ...] = ()
    copy_limit: int = 0
    ring_program: int = 0
    own_ipv6: tuple[IPv6Address, ...] = ()
    turn: int = 0


def table_name(interface: str) -> str:
    """The table of an interface. nft takes letters, digits, dots, dashes and underscores as they are; others are octets behind a slash,
    which no interface has in its name."""
    return TABLE_PREFIX + _ODD.sub(lambda found: "".join(f"/{octet:02x}" for octet in os.fsencode(found[0])), interface)


def interface_name(table: str) -> str:
    """The interface of a table of ours, as `table_name` got it."""
    octets = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), table.removeprefix(TABLE_PREFIX)).encode("latin-1", errors="replace")
    return os.fsdecode(octets)


def closed(steering: Steering) -> Steering:
    """The same without anybody to protect packets or to open them."""
    return replace(steering, taps=(None,) * len(steering.taps), tap_in=None, copy_limit=0)


def arriving(steering: Steering) -> Iterator[tuple[TrafficRule, Entry]]:
    """Each rule with its entry, or its two entries, as they apply to what arrives."""
    return ((rule, entry) for rule in steering.rules for entry in rule.entry.inbound())


def decrypted(selectors: Selectors) -> Iterator[Entry]:
    """The entries of some SAs as they apply to what came out of them."""
    return (form for entry in selectors.entries for form in entry.inbound())


def leaves_clear(rule: TrafficRule) -> bool:
    """Whether what a rule matches is left in the clear on its way out."""
    return rule.entry.action is Action.DENY or rule.direction is Direction.INBOUND_ONLY


def arrives_clear(rule: TrafficRule) -> bool:
    """Whether what a rule matches may arrive in the clear."""
    return rule.entry.action is Action.DENY or rule.direction is not Direction.BOTH


def by_addresses(steering: Steering) -> Iterator[tuple[Entry, bool]]:
    """What the list says of ESP by its addresses alone, which the outer header of a group's SA repeats: each permit without its protocol
    and ports, and the denies that have none. Behind them the permits of SAs whose list is another one by now.

    With each, whether what it matches may arrive in the clear: of several permits of the same addresses the first one without a protocol
    and ports says so, for it takes ESP.
    """
    found: dict[Entry, bool] = {}
    whole: set[Entry] = set()
    for rule, entry in arriving(steering):
        addresses = Entry(entry.action, ANY_PROTOCOL, entry.source, entry.destination)
        if entry == addresses and addresses not in whole:
            whole.add(addresses)
            found[addresses] = arrives_clear(rule)
        elif entry.action is Action.PERMIT:
            found.setdefault(addresses, arrives_clear(rule))
    for entry in (entry for selectors in steering.selectors for entry in decrypted(selectors)):
        if entry.action is Action.PERMIT:
            found.setdefault(Entry(entry.action, ANY_PROTOCOL, entry.source, entry.destination), True)
    return iter(found.items())


def meets_ipv6(steering: Steering) -> bool:
    """Whether anything of IPv6 is to be protected, inside or outside. If not, all of it passes."""
    listed = (*(rule.entry for rule in steering.rules), *(entry for selectors in steering.selectors for entry in selectors.entries))
    return any(item.version == 6 for item in (*listed, *steering.peers))


def takes_link_control(entries: Sequence[Entry], *protocols: int) -> bool:
    """Whether a permit could take multicast of these protocols."""
    permits = (entry for entry in entries if entry.action is Action.PERMIT)
    return any(entry.protocol in (ANY_PROTOCOL, *protocols) and entry.destination.multicast is not None for entry in permits)
