"""The few shapes that every `show` output is made of."""

from collections.abc import Iterable
from ipaddress import IPv4Address

from groupvpn.config.grammar.access_list import ICMP_MESSAGES, PROTOCOLS
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.ipsec.acl import ANY_PORT, ANY_PROTOCOL, Entry

FIRST_HANDLE = 0x80000002
"""Handle of the first group and of the first key server of a node; others count up."""
_MESSAGE_NAMES = {numbers: name for name, numbers in ICMP_MESSAGES.items()}
_PROTOCOL_NAMES = {number: name for name, number in reversed(PROTOCOLS.items())}


def labelled(label: str, value: object, *, indent: int = 4, width: int = 25) -> str:
    """`    Group Name               : value`: the colon stands `width` columns after the indent."""
    return f"{' ' * indent}{label:<{width}}: {value}"


def entry(item: Entry) -> str:
    """An access list entry with its ports as numbers: `deny udp any port = 848 any`."""
    protocol = "ip" if item.protocol == ANY_PROTOCOL else protocol_name(item.protocol)
    source = f"{item.source}{_port(item.source_port)}"
    return f"{item.action.value} {protocol} {source} {item.destination}{_port(item.destination_port)}{message(item)}"


def message(item: Entry) -> str:
    """The message of ICMP that an entry names, behind a blank: as a keyword where there is one."""
    if item.icmp_type is None:
        return ""
    numbers = str(item.icmp_type) if item.icmp_code is None else f"{item.icmp_type} {item.icmp_code}"
    return f" {_MESSAGE_NAMES.get((item.icmp_type, item.icmp_code), numbers)}"


def protocol_name(number: int) -> str:
    """The keyword of an IP protocol, or its number where routers have none."""
    return _PROTOCOL_NAMES.get(number, str(number))


def _port(port: int) -> str:
    return "" if port == ANY_PORT else f" port = {port}"


def clock(seconds: int) -> str:
    """A time span as `hh:mm:ss`."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def spi(value: int) -> str:
    """An SPI in both notations: `0x5AE90201(1525219841)`."""
    return f"0x{value:X}({value})"


def address(value: IPv4Address | None) -> str:
    """An address, 0.0.0.0 where there is none."""
    return str(IPv4Address(0) if value is None else value)


def replay(value: Replay) -> str:
    """The anti-replay line of a TEK."""
    if value.method is ReplayMethod.DISABLED or not value.window:
        return "Disabled"
    return f"{'Counter' if value.method is ReplayMethod.COUNTER else 'Time'} Based : {value.window}"


def text(lines: Iterable[str]) -> str:
    """Lines without blanks at their ends, and without empty lines at the end."""
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")
