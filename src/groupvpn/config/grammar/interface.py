"""Interfaces: addresses, the crypto map, and the lines of an interface that only a router needs."""

from groupvpn.config.arguments import Address, InterfaceArgument, Line, Mask, Name, Number
from groupvpn.config.grammar.ipsec import DF, FRAGMENTATION
from groupvpn.config.grammar.modes import GLOBAL, INTERFACE
from groupvpn.config.language import Add, Command, Enter, Ignore, Negation, Set

_ROUTING = "Linux and its routing daemons do this"
_HARDWARE = "a setting of router hardware"
_TUNING = "a queue or cache of routers"


def _known(reason: str) -> Ignore:
    return Ignore(reason, exact=True)


COMMANDS = (
    Command(
        GLOBAL,
        "interface <interface>",
        "An interface; `! linux-device NAME` in it names the Linux device behind it",
        Enter(INTERFACE, ("interface",), is_hardware=True),
        {"interface": InterfaceArgument("Type and number, such as GigabitEthernet0/0")},
        negation=Negation.FULL,
        details="`default interface` forgets what was said in it, apart from the Linux device.",
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
        details="For SAs between two ends, which nothing configures yet. A group honours the global setting alone.",
    ),
    Command(INTERFACE, "shutdown", "Take the interface out of service: its crypto map does nothing", Set()),
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
        details="Applies to TCP over IPv4 through the Linux device, both ways, protected or not.",
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
    Command(INTERFACE, "ip pim <mode>", "Multicast routing", _known(_ROUTING), {"mode": Line("Mode")}),
    Command(INTERFACE, "ip route-cache [<options>]", "Packet switching path", _known(_TUNING), {"options": Line("Path")}),
    Command(INTERFACE, "ip mroute-cache [<options>]", "Packet switching path", _known(_TUNING), {"options": Line("Path")}),
    Command(INTERFACE, "ip virtual-reassembly [<options>]", "Fragments", _known(_TUNING), {"options": Line("Options")}),
    Command(INTERFACE, "ip nat {inside | outside}", "Address translation", _known("use nftables")),
    Command(INTERFACE, "ip access-group <options>", "Packet filter", _known("use nftables"), {"options": Line("List and direction")}),
    Command(INTERFACE, "ip inspect <options>", "Firewall", _known("use nftables"), {"options": Line("Inspection rule")}),
    Command(INTERFACE, "ip ospf <options>", "Routing protocol", _known(_ROUTING), {"options": Line("Options")}),
    Command(INTERFACE, "ip hello-interval <options>", "Routing protocol", _known(_ROUTING), {"options": Line("Options")}),
    Command(INTERFACE, "ip vrf forwarding <name>", "Routing table", _known("put the Linux device into a VRF"), {"name": Name("VRF")}),
    Command(INTERFACE, "ip proxy-arp", "ARP for others", _known(_ROUTING)),
    Command(INTERFACE, "ip redirects", "ICMP redirects", _known(_ROUTING)),
    Command(INTERFACE, "ip unreachables", "ICMP unreachables", _known(_ROUTING)),
    Command(INTERFACE, "ip flow {ingress | egress}", "Flow accounting", _known(_TUNING)),
    Command(INTERFACE, "ip unnumbered <interface>", "Borrowed address", _known(_ROUTING), {"interface": InterfaceArgument("Interface")}),
    Command(INTERFACE, "ipv6 <options>", "IPv6", _known("IPv6 is not protected and left alone"), {"options": Line("Options")}),
    Command(INTERFACE, "duplex <mode>", "Ethernet duplex", _known(_HARDWARE), {"mode": Name("Mode")}),
    Command(INTERFACE, "speed <mode>", "Ethernet speed", _known(_HARDWARE), {"mode": Name("Mode")}),
    Command(INTERFACE, "media-type <mode>", "Connector", _known(_HARDWARE), {"mode": Name("Mode")}),
    Command(INTERFACE, "negotiation auto", "Ethernet negotiation", _known(_HARDWARE)),
    Command(INTERFACE, "autostate", "State of a VLAN interface", _known(_HARDWARE)),
    Command(INTERFACE, "switchport [<options>]", "Port of the built-in switch", _known(_HARDWARE), {"options": Line("Options")}),
    Command(INTERFACE, "spanning-tree <options>", "Spanning tree", _known(_HARDWARE), {"options": Line("Options")}),
    Command(INTERFACE, "clock rate <options>", "Serial clock", _known(_HARDWARE), {"options": Line("Options")}),
    Command(INTERFACE, "encapsulation <options>", "Link layer", _known(_HARDWARE), {"options": Line("Options")}),
    Command(INTERFACE, "keepalive [<options>]", "Link keepalives", _known(_HARDWARE), {"options": Line("Options")}),
    Command(INTERFACE, "mtu <octets>", "Link MTU", _known("set it on the Linux device"), {"octets": Number(64, 18000, "Octets")}),
    Command(INTERFACE, "bandwidth <options>", "Metric", _known(_ROUTING), {"options": Line("Kilobits")}),
    Command(INTERFACE, "delay <options>", "Metric", _known(_ROUTING), {"options": Line("Tens of microseconds")}),
    Command(INTERFACE, "load-interval <options>", "Statistics", _known(_TUNING), {"options": Line("Seconds")}),
    Command(INTERFACE, "hold-queue <options>", "Queue length", _known(_TUNING), {"options": Line("Packets and direction")}),
    Command(INTERFACE, "tx-ring-limit <options>", "Queue length", _known(_TUNING), {"options": Line("Packets")}),
    Command(INTERFACE, "fair-queue [<options>]", "Queueing", _known(_TUNING), {"options": Line("Options")}),
    Command(INTERFACE, "service-policy <options>", "Quality of service", _known("use tc"), {"options": Line("Direction and policy")}),
    Command(INTERFACE, "standby <options>", "First hop redundancy", _known("use keepalived"), {"options": Line("Options")}),
    Command(INTERFACE, "cdp enable", "Neighbour discovery", _known(_HARDWARE)),
    Command(INTERFACE, "arp <options>", "ARP", _known(_ROUTING), {"options": Line("Options")}),
    Command(INTERFACE, "mop <options>", "Old protocol", _known(_HARDWARE), {"options": Line("Options")}),
    Command(INTERFACE, "snmp trap <options>", "Link traps", _known(_TUNING), {"options": Line("Options")}),
)
