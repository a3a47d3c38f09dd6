"""Interfaces: addresses, the crypto map, sizes of packets. What only a router needs is in `router_interface`."""

from groupvpn.config.arguments import Address, InterfaceArgument, Line, Mask, Name, Number
from groupvpn.config.grammar.ipsec import DF, FRAGMENTATION
from groupvpn.config.grammar.modes import GLOBAL, INTERFACE
from groupvpn.config.language import Add, Command, Enter, Negation, Set

COMMANDS = (
    Command(
        GLOBAL,
        "interface <interface> [point-to-point | multipoint]",
        "An interface; `! linux-device NAME` in it names the Linux device behind it",
        Enter(INTERFACE, ("interface",), is_hardware=True),
        {"interface": InterfaceArgument("Type and number, such as GigabitEthernet0/0")},
        negation=Negation.FULL,
        details="`default interface` forgets what was said in it, apart from the Linux device. The kind of a subinterface "
        "(`point-to-point`, `multipoint`) is kept and has no effect.",
    ),
    Command(INTERFACE, "description <text>", "Free text", Set(), {"text": Line("Description of the interface")}),
    Command(
        INTERFACE,
        "ip address <address> <mask>",
        "The interface's address",
        Set(replaces=("ip address dhcp",), takes_along=("ip address dhcp", "ip address secondary")),
        {"address": Address("Address"), "mask": Mask("Network mask")},
        negation_syntax="ip address [<address> <mask>]",
        details="`no ip address` takes away every address of the interface.",
    ),
    Command(
        INTERFACE,
        "ip address <address> <mask> secondary",
        "A further address",
        Add(("address",)),
        {"address": Address("Address"), "mask": Mask("Network mask")},
        negation=Negation.FULL,
        label="ip address secondary",
    ),
    Command(
        INTERFACE,
        "ip address dhcp",
        "The interface's address comes by DHCP",
        Set(replaces=("ip address",)),
        negation=Negation.FULL,
        details="A DHCP client of the system sees to that. With a crypto map, UDP from port 68 to port 67 and back passes in the clear, "
        "whatever lists and fail-close say, so that the address can come.",
    ),
    Command(
        INTERFACE,
        "crypto map <name> [redundancy <standby> [stateful]]",
        "Protect the interface's traffic with a crypto map",
        Set(),
        {"name": Name("Name of the crypto map"), "standby": Name("Name of the standby group")},
        details="`redundancy` is accepted and has no effect yet.",
    ),
    Command(
        INTERFACE,
        "crypto ipsec fragmentation <when>",
        "Which packet is cut where one would be too large",
        Set(),
        {"when": FRAGMENTATION},
        details="Goes before the global setting.",
    ),
    Command(
        INTERFACE,
        "crypto ipsec df-bit <action>",
        "The don't-fragment bit of the outer header",
        Set(),
        {"action": DF},
        details="For SAs whose keys are set by hand, before the global setting. A group honours the global one alone.",
    ),
    Command(
        INTERFACE,
        "shutdown",
        "Take the interface out of service",
        Set(),
        details="With a crypto map all IPv4 and IPv6 is dropped there, both ways, our own key exchange included, and no member registers "
        "by it. A stop of the node leaves that in place: `groupvpn clean` lifts it. The Linux device itself stays up. Without a crypto map "
        "its addresses count no more, and its traffic is left alone.",
    ),
    Command(
        INTERFACE,
        "ip mtu <octets>",
        "Size of the largest IP packet",
        Set(),
        {"octets": Number(68, 9216, "Octets")},
        details="Protected packets are made to fit it, if the Linux device does not ask for less. The device itself is left alone: set "
        "its MTU for what leaves unprotected.",
    ),
    Command(
        INTERFACE,
        "ip tcp adjust-mss <octets>",
        "Lower the segment size that TCP connections agree on",
        Set(),
        {"octets": Number(500, 1460, "Octets")},
        details="Applies to TCP over IPv4 through the Linux device, both ways, protected or not. Not on loopbacks, nor with `shutdown`; "
        "while the device is not there the log says so.",
    ),
    Command(
        INTERFACE,
        "ip igmp join-group <group> [source <source>]",
        "Join a multicast group",
        Add(("group", "source")),
        {"group": Address("Multicast group"), "source": Address("Only from this source")},
        negation=Negation.FULL,
        details="A member joins the multicast group of its rekeys by itself: that needs no line.",
        not_yet="joining multicast groups by configuration",
    ),
)
