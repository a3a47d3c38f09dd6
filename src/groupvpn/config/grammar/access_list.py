"""Access lists, numbered and named, standard and extended, with the service and protocol names of routers.

Group policies match addresses, protocol and single ports (RFC 6407 5.4.1); options beyond those parse here, and `config.access_lists`
says what becomes of an entry that uses them.
"""

from ipaddress import IPv4Address
from typing import NamedTuple

from groupvpn.config.arguments import HostAddress, Line, Name, Number, OneOf, Wildcard
from groupvpn.config.grammar.modes import EXTENDED_LIST, GLOBAL, STANDARD_LIST
from groupvpn.config.language import Alias, ArgumentType, Command, Enter, Negation, Rule
from groupvpn.config.section import Statement
from groupvpn.ipsec.acl import Action

STANDARD_RANGES = ((1, 99), (1300, 1999))
EXTENDED_RANGES = ((100, 199), (2000, 2699))


class Named(NamedTuple):
    """A number with the name it was written by; `514` is `cmd` over TCP and `syslog` over UDP, so the name is kept."""

    number: int
    name: str


PROTOCOLS: dict[str, int] = {
    "ip": 0,
    "icmp": 1,
    "igmp": 2,
    "ipinip": 4,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ahp": 51,
    "eigrp": 88,
    "ospf": 89,
    "nos": 94,
    "pim": 103,
    "pcp": 108,
    "vrrp": 112,
    "sctp": 132,
}
"""Protocol names of access lists and their IANA numbers; `ip` stands for every protocol."""

SERVICES: dict[str, int] = {
    "bgp": 179,
    "biff": 512,
    "bootpc": 68,
    "bootps": 67,
    "chargen": 19,
    "cmd": 514,
    "daytime": 13,
    "discard": 9,
    "dnsix": 195,
    "domain": 53,
    "echo": 7,
    "exec": 512,
    "finger": 79,
    "ftp": 21,
    "ftp-data": 20,
    "gopher": 70,
    "hostname": 101,
    "ident": 113,
    "irc": 194,
    "isakmp": 500,
    "klogin": 543,
    "kshell": 544,
    "ldp": 646,
    "login": 513,
    "lpd": 515,
    "mobile-ip": 434,
    "nameserver": 42,
    "netbios-dgm": 138,
    "netbios-ns": 137,
    "netbios-ss": 139,
    "nntp": 119,
    "non500-isakmp": 4500,
    "ntp": 123,
    "pim-auto-rp": 496,
    "pop2": 109,
    "pop3": 110,
    "rip": 520,
    "smtp": 25,
    "snmp": 161,
    "snmptrap": 162,
    "snmp-trap": 162,
    "ssh": 22,
    "sunrpc": 111,
    "syslog": 514,
    "tacacs": 49,
    "talk": 517,
    "telnet": 23,
    "tftp": 69,
    "time": 37,
    "uucp": 540,
    "who": 513,
    "whois": 43,
    "www": 80,
    "xdmcp": 177,
}
"""Service names of access lists and their ports."""

ICMP_MESSAGES: dict[str, tuple[int, int | None]] = {
    "administratively-prohibited": (3, 13),
    "echo": (8, None),
    "echo-reply": (0, None),
    "host-unreachable": (3, 1),
    "net-unreachable": (3, 0),
    "packet-too-big": (3, 4),
    "parameter-problem": (12, None),
    "port-unreachable": (3, 3),
    "redirect": (5, None),
    "source-quench": (4, None),
    "time-exceeded": (11, None),
    "traceroute": (30, None),
    "ttl-exceeded": (11, 0),
    "unreachable": (3, None),
}
"""Messages of ICMP by type and code (RFC 792, RFC 1812 5.2.7.1, RFC 1393); without a code all that the type has."""

_ACTION = OneOf({"permit": Action.PERMIT, "deny": Action.DENY}, "permit: protect what matches; deny: leave it in the clear")
_PROTOCOL = OneOf({name: Named(number, name) for name, number in PROTOCOLS.items()}, "IP protocol", other=Number(0, 255, "Protocol number"))
_PORT = OneOf({name: Named(number, name) for name, number in SERVICES.items()}, "Port", other=Number(0, 65535, "Port number"))
_OPERATOR = OneOf({word: word for word in ("eq", "lt", "gt", "neq")}, "How the port is compared")
_SOURCE = "{any | host <source> | <source> <source-wildcard>}"
_STANDARD_SOURCE = "{any | host <source> | <source> [<source-wildcard>]}"
_DESTINATION = "{any | host <destination> | <destination> <destination-wildcard>}"
_SOURCE_PORT = "[<source-operator> <source-port> ... | range <source-port> <source-port-end>]"
_DESTINATION_PORT = "[<destination-operator> <destination-port> ... | range <destination-port> <destination-port-end>]"
_OPTIONS = (
    "[{log | log-input | established | fragments | precedence <option> | tos <option> | dscp <option> | time-range <option>"
    " | ttl <option> | reflect <option>} ...]"
)
_ICMP = "[<icmp-type> [<icmp-code>]]"
_EXTENDED = f"<action> <protocol> {_SOURCE} {_SOURCE_PORT} {_DESTINATION} {_DESTINATION_PORT} {_ICMP} {_OPTIONS}"
_STANDARD = f"<action> {_STANDARD_SOURCE} [log]"

_ARGUMENTS: dict[str, ArgumentType] = {
    "sequence": Number(1, 2147483647, "Place of the entry in the list"),
    "action": _ACTION,
    "protocol": _PROTOCOL,
    "source": HostAddress("Source address"),
    "source-wildcard": Wildcard("Bits of the source that are not compared"),
    "source-operator": _OPERATOR,
    "source-port": _PORT,
    "source-port-end": _PORT,
    "destination": HostAddress("Destination address"),
    "destination-wildcard": Wildcard("Bits of the destination that are not compared"),
    "destination-operator": _OPERATOR,
    "destination-port": _PORT,
    "destination-port-end": _PORT,
    "icmp-type": OneOf({word: word for word in ICMP_MESSAGES}, "ICMP message", other=Number(0, 255, "ICMP type")),
    "icmp-code": Number(0, 255, "ICMP code"),
    "option": Name("Value of the option"),
    "text": Line("Comment that stays in the list"),
}
_STANDARD_NUMBER = Number(*STANDARD_RANGES[0], "Number of a standard list", *STANDARD_RANGES[1:])
_EXTENDED_NUMBER = Number(*EXTENDED_RANGES[0], "Number of an extended list", *EXTENDED_RANGES[1:])


class _ListName(Name):
    """The name of a list; a name that is a number must be one of the list's kind."""

    def __init__(self, number: Number) -> None:
        super().__init__("Name or number of the list")
        self._number = number

    def accept(self, text: str) -> str:
        """The name."""
        return str(self._number.accept(text)) if text.isdecimal() else super().accept(text)


def meaning(entry: Statement) -> tuple[object, ...]:
    """What an entry says, whatever its number and spelling: `eq ssh` is `eq 22`, `host A` is `A 0.0.0.0`."""
    sides = [f"{side}{part}" for side in ("source", "destination") for part in ("", "-wildcard")]
    values = [
        (name, tuple(value.number if isinstance(value, Named) else value for value in entry.all(name)))
        for name in sorted(entry.values)
        if name not in (*sides, "sequence")
    ]
    flags = tuple(word for word in entry.words if word in entry.keywords and word not in ("any", "host"))
    return (_compared(entry, "source"), _compared(entry, "destination"), flags, *values)


def _compared(entry: Statement, side: str) -> tuple[object, int]:
    """The address of one side without the bits that are not compared, or its host name; and those bits."""
    wildcard = int(entry.value(f"{side}-wildcard", 0))
    address = entry.value(side)
    if address is None:
        return 0, 0xFFFFFFFF
    return int(address) & ~wildcard if isinstance(address, IPv4Address) else str(address).lower(), wildcard


_STANDARD_HEADER = "ip access-list standard {list}"
_EXTENDED_HEADER = "ip access-list extended {list}"

COMMANDS = (
    Command(
        GLOBAL,
        f"access-list <list> {_STANDARD}",
        "An entry of a numbered standard list: source addresses",
        Rule(_STANDARD_HEADER),
        _ARGUMENTS | {"list": _STANDARD_NUMBER},
        negation_syntax=f"access-list <list> [{_STANDARD}]",
        aliases=(
            Alias(
                "access-list <list> <action> <protocol> {any | host <source> | <source> <source-wildcard>} <rest>",
                "access-list {list} {action} {source} {source-wildcard}",
                {"rest": Line("Destination")},
                "a standard list compares source addresses only: protocol and destination are not used",
                {"source": "any"},
            ),
        ),
        details="`no access-list N ...` removes the whole list, as on a router.",
    ),
    Command(
        GLOBAL,
        f"access-list <list> {_EXTENDED}",
        "An entry of a numbered extended list",
        Rule(_EXTENDED_HEADER),
        _ARGUMENTS | {"list": _EXTENDED_NUMBER},
        negation_syntax=f"access-list <list> [{_EXTENDED}]",
    ),
    Command(
        GLOBAL,
        "access-list <list> remark <text>",
        "A comment in a numbered standard list",
        Rule(_STANDARD_HEADER),
        _ARGUMENTS | {"list": _STANDARD_NUMBER},
    ),
    Command(
        GLOBAL,
        "access-list <list> remark <text>",
        "A comment in a numbered extended list",
        Rule(_EXTENDED_HEADER),
        _ARGUMENTS | {"list": _EXTENDED_NUMBER},
    ),
    Command(
        GLOBAL,
        "ip access-list standard <list>",
        "A standard access list",
        Enter(STANDARD_LIST, ("list",)),
        {"list": _ListName(_STANDARD_NUMBER)},
        negation=Negation.FULL,
    ),
    Command(
        GLOBAL,
        "ip access-list extended <list>",
        "An extended access list",
        Enter(EXTENDED_LIST, ("list",)),
        {"list": _ListName(_EXTENDED_NUMBER)},
        negation=Negation.FULL,
    ),
    Command(
        STANDARD_LIST,
        f"[<sequence>] {_STANDARD}",
        "An entry: source addresses",
        Rule(),
        _ARGUMENTS,
        negation_syntax=f"{{<sequence> | {_STANDARD}}}",
    ),
    Command(
        EXTENDED_LIST,
        f"[<sequence>] {_EXTENDED}",
        "An entry: protocol, addresses, ports",
        Rule(),
        _ARGUMENTS,
        negation_syntax=f"{{<sequence> | {_EXTENDED}}}",
        details="New entries go to the end unless they begin with a number, which must be free. `no` knows an entry in any spelling.",
    ),
    Command(
        STANDARD_LIST,
        "[<sequence>] remark <text>",
        "A comment in the list",
        Rule(),
        _ARGUMENTS,
        details="It has the number of the entry behind it; `no <sequence>` takes both away.",
    ),
    Command(
        EXTENDED_LIST,
        "[<sequence>] remark <text>",
        "A comment in the list",
        Rule(),
        _ARGUMENTS,
        details="It has the number of the entry behind it; `no <sequence>` takes both away.",
    ),
)
