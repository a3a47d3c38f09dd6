"""Lines of router configurations that mean nothing on Linux: known by name, accepted, kept, and summed up in one notice.

Each table row is a syntax and what the line is about; the group of rows says why nothing is done.
"""

from groupvpn.config.arguments import Address, HostName, Line, Name, SecretLine
from groupvpn.config.grammar.modes import (
    ADDRESS_FAMILY,
    ARCHIVE,
    ARCHIVE_LOG,
    CONTROL_PLANE,
    DIAL_PEER_COR,
    GLOBAL,
    LINE,
    MODES,
    OBJECT_GROUP,
    REDUNDANCY,
    ROUTER,
    TIME_RANGE,
    ZONE_PAIR,
)
from groupvpn.config.language import Add, Alias, Command, Ignore, Leave, Mode, Negation, Set

_REST = Line("Rest of the line")
_SECRET = SecretLine("Rest of the line")

_SETTINGS: dict[str, tuple[str, ...]] = {
    "software and start-up of a router": (
        "version <rest>",
        "boot-start-marker",
        "boot-end-marker",
        "boot <rest>",
        "upgrade fpd <rest>",
        "license <rest>",
        "Building configuration...",
        "Current configuration <rest>",
        "Using <rest>",
        "config-register <rest>",
        "file <rest>",
        "warm-reboot <rest>",
        "platform <rest>",
        "card <rest>",
        "diagnostic <rest>",
        "exception <rest>",
        "scheduler <rest>",
        "memory-size <rest>",
        "memory <rest>",
        "buffers <rest>",
        "process <rest>",
        "parser <rest>",
        "resource policy",
        "monitor event-trace <rest>",
        "alias <rest>",
        "privilege <rest>",
    ),
    "services and clock: Linux does these": (
        "service <rest>",
        "clock <rest>",
        "ntp <rest>",
        "sntp <rest>",
        "logging [<rest>]",
        "login <rest>",
        "banner <rest>",
        "prompt <rest>",
        "snmp-server [<rest>]",
        "cdp <rest>",
        "lldp <rest>",
        "call-home <rest>",
        "event manager <rest>",
        "flow <rest>",
        "ip flow-export <rest>",
        "ip flow-cache <rest>",
        "ip http <rest>",
        "ip ssh <rest>",
        "ip scp <rest>",
        "ip ftp <rest>",
        "ip tftp <rest>",
        "ip dhcp <rest>",
        "ip sla <rest>",
        "ip telnet <rest>",
        "ip finger",
        "ip bootp server",
    ),
    "users and accounting: Linux does these": (
        "aaa <rest>",
        "ip radius <rest>",
        "ip tacacs <rest>",
        "dot1x <rest>",
        "security <rest>",
        "key chain <rest>",
    ),
    "routing and forwarding: Linux and its routing daemons do these": (
        "ip cef [<rest>]",
        "ipv6 <rest>",
        "ip routing",
        "ip route <rest>",
        "ip classless",
        "ip subnet-zero",
        "ip source-route",
        "ip forward-protocol <rest>",
        "ip default-gateway <rest>",
        "ip default-network <rest>",
        "ip local <rest>",
        "ip multicast-routing [<rest>]",
        "ip multi-cast routing",
        "ip multicast <rest>",
        "ip mroute <rest>",
        "ip pim <rest>",
        "ip igmp <rest>",
        "ip msdp <rest>",
        "ip vrf <rest>",
        "vrf <rest>",
        "ip inspect <rest>",
        "ip audit <rest>",
        "ip ips <rest>",
        "ip tcp <rest>",
        "ip icmp <rest>",
        "ip arp <rest>",
        "ip prefix-list <rest>",
        "ip as-path <rest>",
        "ip community-list <rest>",
        "ip options <rest>",
        "arp <rest>",
        "route-map <rest>",
        "class-map <rest>",
        "policy-map <rest>",
        "mpls <rest>",
        "mpls ldp <rest>",
        "bridge <rest>",
        "spanning-tree <rest>",
        "vlan <rest>",
        "vtp <rest>",
        "track <rest>",
        "standby <rest>",
        "multilink <rest>",
        "ip name-server <rest>",
        "ip domain lookup [<rest>]",
        "ip domain-lookup [<rest>]",
        "ip domain list <rest>",
    ),
    "policies of subscribers and firewalls": ("subscriber <rest>", "zone security <rest>"),
    "voice and dialling": (
        "mgcp <rest>",
        "voice <rest>",
        "voice-card <rest>",
        "dial-peer <rest>",
        "isdn <rest>",
        "controller <rest>",
        "network-clock-participate <rest>",
        "network-clock-select <rest>",
        "dialer-list <rest>",
        "chat-script <rest>",
        "gateway",
    ),
}

_SECRETS: tuple[str, ...] = (
    "enable <secret>",
    "username <secret>",
    "radius-server <secret>",
    "tacacs-server <secret>",
    "snmp-server community <secret>",
    "snmp-server host <secret>",
    "snmp-server user <secret>",
    "ntp authentication-key <secret>",
    "key config-key <secret>",
    "event manager environment <secret>",
)

_TRANSLATION: tuple[str, ...] = (
    "ip nat <rest>",
    "ip nat inside source <rest>",
    "ip nat inside destination <rest>",
    "ip nat outside source <rest>",
)

_BLOCKS: tuple[tuple[Mode, str, str, tuple[str, ...]], ...] = (
    (
        ROUTER,
        "router <rest>",
        "a routing protocol: run a routing daemon",
        (
            "network <rest>",
            "neighbor <rest>",
            "auto-summary",
            "synchronization",
            "eigrp <rest>",
            "bgp <rest>",
            "redistribute <rest>",
            "passive-interface <rest>",
            "router-id <rest>",
            "maximum-paths <rest>",
            "distance <rest>",
            "default-information <rest>",
            "default-metric <rest>",
            "log-adjacency-changes [<rest>]",
            "area <rest>",
            "timers <rest>",
            "version <rest>",
            "variance <rest>",
            "metric <rest>",
            "distribute-list <rest>",
            "aggregate-address <rest>",
            "summary-address <rest>",
            "offset-list <rest>",
        ),
    ),
    (
        ADDRESS_FAMILY,
        "address-family <rest>",
        "a routing protocol: run a routing daemon",
        (
            "network <rest>",
            "neighbor <rest>",
            "auto-summary",
            "synchronization",
            "redistribute <rest>",
            "maximum-paths <rest>",
            "aggregate-address <rest>",
            "default-information <rest>",
            "bgp <rest>",
            "distance <rest>",
        ),
    ),
    (
        LINE,
        "line <rest>",
        "terminal lines of a router",
        (
            "exec-timeout <rest>",
            "login [<rest>]",
            "logging <rest>",
            "stopbits <rest>",
            "speed <rest>",
            "transport <rest>",
            "modem <rest>",
            "access-class <rest>",
            "privilege <rest>",
            "length <rest>",
            "width <rest>",
            "session-timeout <rest>",
            "history <rest>",
            "flowcontrol <rest>",
            "databits <rest>",
            "rotary <rest>",
            "authorization <rest>",
            "accounting <rest>",
            "exec",
            "monitor",
        ),
    ),
    (ARCHIVE, "archive", "a log of configuration changes", ("path <rest>", "write-memory", "maximum <rest>", "time-period <rest>")),
    (ARCHIVE_LOG, "log config", "a log of configuration changes", ("hidekeys", "logging <rest>", "notify <rest>", "record <rest>")),
    (CONTROL_PLANE, "control-plane [<rest>]", "policing of a router's own traffic", ("service-policy <rest>",)),
    (DIAL_PEER_COR, "dial-peer cor custom", "voice and dialling", ("name <rest>",)),
    (
        REDUNDANCY,
        "redundancy [<rest>]",
        "two routers, or two processors of one, that stand in for each other",
        ("mode <rest>", "main-cpu", "auto-sync <rest>", "scheme <rest>", "security <rest>", "application <rest>"),
    ),
    (
        OBJECT_GROUP,
        "object-group <rest>",
        "sets of addresses and services: an access list cannot name one here",
        (
            "description <rest>",
            "host <rest>",
            "range <rest>",
            "group-object <rest>",
            "<address> <address>",
            "any",
            "ip",
            "icmp [<rest>]",
            "tcp [<rest>]",
            "udp [<rest>]",
            "tcp-udp [<rest>]",
        ),
    ),
    (TIME_RANGE, "time-range <rest>", "times of day: an access list cannot name one here", ("periodic <rest>", "absolute <rest>")),
    (
        ZONE_PAIR,
        "zone-pair security <rest>",
        "policies of subscribers and firewalls",
        ("description <rest>", "service-policy <rest>"),
    ),
)


def _ignored(mode: Mode, syntax: str, reason: str, opens: Mode | None = None, guards: bool = False) -> Command:
    arguments = {"rest": _REST, "secret": _SECRET, "peer": Name("Peer"), "address": Address("Address or mask")}
    used = {name: kind for name, kind in arguments.items() if f"<{name}>" in syntax}
    return Command(mode, syntax, f"Accepted without effect: {reason}", Ignore(reason, opens, exact=True, guards=guards), used)


def _blocks() -> tuple[Command, ...]:
    parents = {ADDRESS_FAMILY: ROUTER, ARCHIVE_LOG: ARCHIVE}
    commands: list[Command] = []
    for mode, syntax, reason, inner in _BLOCKS:
        commands.append(_ignored(parents.get(mode, GLOBAL), syntax, reason, mode))
        commands += [_ignored(mode, line, reason) for line in inner]
    commands.append(Command(ADDRESS_FAMILY, "exit-address-family", "Leave the address family", Leave(), negation=Negation.NONE))
    commands.append(_ignored(LINE, "password <secret>", "terminal lines of a router"))
    commands.append(_ignored(ROUTER, "neighbor <peer> password <secret>", "a routing protocol: run a routing daemon"))
    return tuple(commands)


NODE = (
    Command(GLOBAL, "hostname <name>", "The node's name", Set(), {"name": HostName("Name", 63)}, default="hostname Router"),
    Command(
        GLOBAL,
        "password encryption aes",
        "Keep keys encrypted in configurations",
        Set(),
        details="Pre-shared keys stay in clear: keep the file for its owner alone.",
        not_yet="encryption of keys in configurations",
    ),
    Command(
        GLOBAL,
        "ip domain name <name>",
        "The domain of the node's name",
        Set(),
        {"name": HostName("Domain", 253)},
        negation_syntax="ip {domain name | domain-name} [<name>]",
        aliases=(Alias("ip domain-name <name>", "ip domain name {name}"),),
    ),
    Command(
        GLOBAL,
        "ip host <name> <address> ...",
        "Addresses of a name",
        Add(("name",)),
        {"name": HostName("Name", 253), "address": Address("Address")},
        negation_syntax="ip host <name> [<address> ...]",
    ),
)

LEAVING = tuple(
    Command(mode, word, "Leave this mode" if word != "end" else "Leave configuration", Leave(word == "end"), negation=Negation.NONE)
    for mode in MODES
    for word in ("exit", "end", "quit")
)

LINES = (
    *(_ignored(GLOBAL, syntax, reason) for reason, rows in _SETTINGS.items() for syntax in rows),
    *(_ignored(GLOBAL, syntax, "use nftables", guards=True) for syntax in _TRANSLATION),
    *(_ignored(GLOBAL, syntax, "users, passwords and servers: Linux keeps these") for syntax in _SECRETS),
)
BLOCKS = _blocks()
