"""Lines of an interface that only a router needs: known by their keywords, kept, and without effect.

Each row is a syntax and what the line is about; the group of rows says why nothing is done. Those that filter, translate or separate
traffic on a router stand apart: of these the operator is told line by line.
"""

from groupvpn.config.arguments import InterfaceArgument, Line, Name, Number, SecretLine
from groupvpn.config.grammar.modes import INTERFACE
from groupvpn.config.language import Add, Command, Ignore, Set

_ARGUMENTS = {
    "options": Line("Options"),
    "name": Name("Name"),
    "group": Number(0, 4095, "Group"),
    "octets": Number(64, 18000, "Octets"),
    "interface": InterfaceArgument("Interface"),
    "secret": SecretLine("Kind and key"),
}
_IGMP = "version | query-interval | query-max-response-time | query-timeout | querier-timeout | last-member-query-count | " + (
    "last-member-query-interval | static-group | helper-address | limit | immediate-leave | mroute-proxy | proxy-service | v3lite"
)

_ROWS: dict[str, tuple[tuple[str, str], ...]] = {
    "Linux and its routing daemons do this": (
        ("ip pim <options>", "Multicast routing"),
        (f"ip igmp {{{_IGMP}}} [<options>]", "Multicast groups"),
        ("ip multicast {ttl-threshold | rate-limit | helper-map} [<options>]", "Multicast routing"),
        ("ip ospf <options>", "Routing protocol"),
        ("ip ospf authentication-key <secret>", "Routing protocol"),
        ("ip ospf message-digest-key <secret>", "Routing protocol"),
        ("ip rip <options>", "Routing protocol"),
        ("ip router <options>", "Routing protocol"),
        ("ip hello-interval <options>", "Routing protocol"),
        ("ip hold-time <options>", "Routing protocol"),
        ("ip authentication <options>", "Routing protocol"),
        ("ip split-horizon [<options>]", "Routing protocol"),
        ("ip summary-address <options>", "Routing protocol"),
        ("ip bandwidth-percent <options>", "Routing protocol"),
        ("ip next-hop-self <options>", "Routing protocol"),
        ("ip policy route-map <name>", "Routing by policy"),
        ("ip load-sharing <options>", "Routing"),
        ("bfd {interval | template | echo | neighbor} [<options>]", "Liveness of a neighbour"),
        ("mpls {ip | mtu | bgp | traffic-eng | label | netflow} [<options>]", "Label switching"),
        ("mpls ldp {discovery | igp} <options>", "Label switching"),
        ("ip proxy-arp", "ARP for others"),
        ("ip local-proxy-arp", "ARP for others"),
        ("ip arp <options>", "ARP"),
        ("arp <options>", "ARP"),
        ("ip redirects", "ICMP redirects"),
        ("ip unreachables", "ICMP unreachables"),
        ("ip mask-reply", "ICMP masks"),
        ("ip information-reply", "ICMP information"),
        ("ip directed-broadcast [<options>]", "Broadcasts to a subnet"),
        ("ip helper-address <options>", "Broadcasts to a server"),
        ("ip dhcp {client | relay | server | snooping} <options>", "DHCP"),
        ("ip unnumbered <interface>", "Borrowed address"),
        ("bandwidth <options>", "Metric"),
        ("delay <options>", "Metric"),
        ("dampening [<options>]", "Links that flap"),
        ("ntp {disable | broadcast | multicast} [<options>]", "Time"),
    ),
    "a queue or cache of routers": (
        ("ip route-cache [<options>]", "Packet switching path"),
        ("ip mroute-cache [<options>]", "Packet switching path"),
        ("ip virtual-reassembly [<options>]", "Fragments"),
        ("ip flow {ingress | egress}", "Flow accounting"),
        ("ip flow monitor <options>", "Flow accounting"),
        ("ip accounting [<options>]", "Accounting"),
        ("ip nbar <options>", "Accounting"),
        ("load-interval <options>", "Statistics"),
        ("hold-queue <options>", "Queue length"),
        ("tx-ring-limit <options>", "Queue length"),
        ("queue-limit <options>", "Queue length"),
        ("fair-queue [<options>]", "Queueing"),
        ("random-detect [<options>]", "Queueing"),
        ("max-reserved-bandwidth <options>", "Queueing"),
        ("snmp trap <options>", "Link traps"),
        ("logging event <options>", "Link traps"),
    ),
    "use tc": (
        ("service-policy <options>", "Quality of service"),
        ("rate-limit <options>", "Quality of service"),
        ("traffic-shape <options>", "Quality of service"),
    ),
    "use keepalived": (
        ("standby <options>", "First hop redundancy"),
        ("standby [<group>] authentication <secret>", "First hop redundancy"),
        ("vrrp <options>", "First hop redundancy"),
        ("vrrp <group> authentication <secret>", "First hop redundancy"),
        ("glbp <options>", "First hop redundancy"),
        ("glbp <group> authentication <secret>", "First hop redundancy"),
    ),
    "IPv6 is not protected and left alone": (("ipv6 <options>", "IPv6"),),
    "a setting of router hardware": (
        ("duplex <name>", "Ethernet duplex"),
        ("speed <name>", "Ethernet speed"),
        ("media-type <name>", "Connector"),
        ("negotiation auto", "Ethernet negotiation"),
        ("flowcontrol <options>", "Ethernet flow control"),
        ("autostate", "State of a VLAN interface"),
        ("switchport [<options>]", "Port of the built-in switch"),
        ("spanning-tree <options>", "Spanning tree"),
        ("channel-group <options>", "Bundled links"),
        ("lacp <options>", "Bundled links"),
        ("carrier-delay <options>", "Delay until a link counts as down"),
        ("clock rate <options>", "Serial clock"),
        ("encapsulation <options>", "Link layer"),
        ("keepalive [<options>]", "Link keepalives"),
        ("cdp enable", "Neighbour discovery"),
        ("lldp {transmit | receive | med-tlv-select | tlv-select} [<options>]", "Neighbour discovery"),
        ("mop <options>", "Old protocol"),
    ),
    "set it on the Linux device": (("mtu <octets>", "Link MTU"),),
}

_GUARDS: dict[str, tuple[tuple[str, str], ...]] = {
    "use nftables": (
        ("ip access-group <options>", "Packet filter"),
        ("ip inspect <options>", "Firewall"),
        ("ip nat {inside | outside | enable}", "Address translation"),
        ("ip multicast boundary <options>", "Packet filter for multicast"),
        ("ip igmp access-group <options>", "Filter of multicast groups"),
        ("ipv6 traffic-filter <options>", "Packet filter"),
        ("zone-member security <name>", "Firewall"),
    ),
    "use nftables, or the kernel's `rp_filter`": (("ip verify <options>", "Check of source addresses"),),
    "use an intrusion detection system": (
        ("ip audit <options>", "Intrusion detection"),
        ("ip ips <options>", "Intrusion detection"),
    ),
    "put the Linux device into a VRF": (
        ("ip vrf forwarding <name>", "Routing table"),
        ("vrf forwarding <name>", "Routing table"),
        ("tunnel vrf <name>", "Routing table of a tunnel's outside"),
    ),
}


def _ignored(syntax: str, purpose: str, reason: str, guards: bool) -> Command:
    used = {name: kind for name, kind in _ARGUMENTS.items() if f"<{name}>" in syntax}
    return Command(INTERFACE, syntax, purpose, Ignore(reason, exact=True, guards=guards), used)


_TUNNELS = "tunnel interfaces"

TUNNELS = (
    Command(INTERFACE, "tunnel source <source>", "Near end of a tunnel", Set(), {"source": Line("Address or interface")}, not_yet=_TUNNELS),
    Command(
        INTERFACE,
        "tunnel destination <destination>",
        "Far end of a tunnel",
        Set(),
        {"destination": Line("Address or name")},
        not_yet=_TUNNELS,
    ),
    Command(INTERFACE, "tunnel mode <mode>", "Kind of a tunnel", Set(), {"mode": Line("Kind")}, not_yet=_TUNNELS),
    Command(INTERFACE, "tunnel key <key>", "Number of a tunnel", Set(), {"key": Number(0, 2**32 - 1, "Number")}, not_yet=_TUNNELS),
    Command(
        INTERFACE,
        "tunnel protection ipsec profile <name> [shared]",
        "Protection of a tunnel by SAs of its own",
        Set(),
        {"name": Name("Name of the profile")},
        details="Not yet in effect: nothing protects the tunnel, which a warning says; it is an error if the machine has such a device.",
    ),
    Command(
        INTERFACE,
        "tunnel path-mtu-discovery [<options>]",
        "Size of what a tunnel takes",
        Set(),
        {"options": Line("Options")},
        not_yet=_TUNNELS,
    ),
    Command(INTERFACE, "tunnel checksum", "Checksums in a tunnel", Set(), not_yet=_TUNNELS),
    Command(INTERFACE, "tunnel bandwidth <options>", "Metric of a tunnel", Add(), {"options": Line("Options")}, not_yet=_TUNNELS),
    Command(INTERFACE, "ip nhrp <options>", "Next hops of a tunnel", Add(), {"options": Line("Options")}, not_yet=_TUNNELS),
    Command(
        INTERFACE, "ip nhrp authentication <secret>", "Key of next hop messages", Set(), {"secret": SecretLine("The key")}, not_yet=_TUNNELS
    ),
)

COMMANDS = (
    *TUNNELS,
    *(_ignored(syntax, purpose, reason, True) for reason, rows in _GUARDS.items() for syntax, purpose in rows),
    *(_ignored(syntax, purpose, reason, False) for reason, rows in _ROWS.items() for syntax, purpose in rows),
)
