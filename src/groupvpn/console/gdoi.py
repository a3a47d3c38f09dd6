"""Commands that act on groups: `clear crypto gdoi`, `clear crypto sa`, `crypto gdoi ks rekey`, `crypto gdoi gm ipsec direction`."""

from ipaddress import IPv4Address

from groupvpn.config.arguments import Address, Name, Number, OneOf
from groupvpn.console.exec import TOPICS, ExecCommand, Request
from groupvpn.ipsec.sa import FIRST_SPI, Direction, PeerSa
from groupvpn.ipsec.transform import SecurityProtocol
from groupvpn.node.by_hand import ByHand
from groupvpn.node.control import CommandError
from groupvpn.node.cores import RunningMember
from groupvpn.node.operations import RekeyError, RekeyOutcome, UnknownGroupError
from groupvpn.node.router import Router

DEFAULT_ACTIVATION_DELAY = 30
"""Seconds: as long as members wait between getting a new TEK and using it in a rekey that comes in time."""
_GROUP = Name("name of the GDOI group", 80, "GROUP")
_MAP = Name("name of the crypto map", 80, "MAP")
_NO_PEER = IPv4Address(0)
_DIRECTION = OneOf(
    {"both": Direction.BOTH, "inbound optional": Direction.INBOUND_OPTIONAL, "inbound only": Direction.INBOUND_ONLY},
    "how the traffic of the group is protected until the next rekey",
)


def _clear_gdoi(router: Router, request: Request) -> str:
    try:
        untold = router.operations.clear_gdoi(request.name("group"))
    except (UnknownGroupError, RekeyError) as error:
        raise CommandError(f"% {error}") from error
    return "\n".join(
        f"% Group {name}: members that hear nothing of this, for they take no rekey until they have registered again: {count}. "
        "Until then they keep the old keys, apart from those with new ones"
        for name, count in untold.items()
        if count
    )


def _clear_replay(router: Router, request: Request) -> str:
    if not router.cores.groups and router.cores.key_server is None:
        raise CommandError("% This node has no group")
    try:
        router.operations.clear_replay(request.name("group"))
    except UnknownGroupError as error:
        raise CommandError(f"% {error}") from error
    return ""


def _clear_sa(router: Router, request: Request) -> str:
    router.operations.clear_peer_sa()
    router.operations.clear_sa()
    return ""


def _clear_counters(router: Router, request: Request) -> str:
    router.operations.clear_counters()
    return ""


def _clear_map(router: Router, request: Request) -> str:
    wanted = request.name("map")
    if wanted not in router.configuration.crypto_maps:
        raise CommandError(f"% No crypto map {wanted!r} is configured")
    router.operations.clear_peer_sa(lambda by_hand, sa: by_hand.crypto_map == wanted)
    router.operations.clear_sa(lambda member: member.bound.crypto_map == wanted)
    return ""


def _clear_peer(router: Router, request: Request) -> str:
    peer = request.get("address")
    if peer == _NO_PEER:
        router.operations.clear_sa()
    elif not router.operations.clear_peer_sa(lambda by_hand, sa: peer != by_hand.local and peer in (sa.source, sa.destination)):
        raise CommandError(f"% No SA has the peer {peer}: those of groups have none, which is {_NO_PEER}")
    return ""


def _clear_entry(router: Router, request: Request) -> str:
    """One SA, and so all that came by the same registration; of keys set by hand no other."""
    protocol = SecurityProtocol.AH if "ah" in request.keywords else SecurityProtocol.ESP
    address, number = request.get("address"), request.get("spi")

    def has_it(member: RunningMember) -> bool:
        is_ours = address in (_NO_PEER, member.address)
        return is_ours and any((sa.spi, sa.transform.protocol) == (number, protocol) for sa in member.core.sas)

    def is_it(by_hand: ByHand, sa: PeerSa) -> bool:
        return (sa.destination, sa.spi, sa.transform.protocol) == (address, number, protocol)

    if not router.operations.clear_peer_sa(is_it) and not router.operations.clear_sa(has_it):
        raise CommandError("% No such SA; `show crypto ipsec sa address` has them all")
    return ""


def _clear_isakmp(router: Router, request: Request) -> str:
    router.operations.clear_isakmp()
    return ""


def _rekey(router: Router, request: Request) -> str:
    delay = request.number("delay", DEFAULT_ACTIVATION_DELAY)
    try:
        groups = router.operations.rekey(request.name("group"), delay)
    except (UnknownGroupError, RekeyError) as error:
        raise CommandError(f"% {error}") from error
    told = [name for name, outcome in groups.items() if outcome.has_rekeys and not outcome.untold]
    lines = [_whom_a_rekey_misses(name, outcome) for name, outcome in groups.items() if name not in told]
    if told:
        whose = f" for group {', '.join(told)}" if lines else ""
        lines.insert(0, f"% Rekey triggered{whose}; members send with the new keys in {delay} seconds")
    return "\n".join(lines)


def _whom_a_rekey_misses(name: str, outcome: RekeyOutcome) -> str:
    if not outcome.has_rekeys:
        return f"% Group {name} has no rekeys: its members get the new keys when they register again"
    return (
        f"% Group {name}: rekey triggered. Members that take none until they have registered again: {outcome.untold}. "
        "So all send with the new keys when the old ones end"
    )


def _direction(router: Router, request: Request) -> str:
    direction = request.get("direction")
    if not isinstance(direction, Direction) or not router.cores.members:
        raise CommandError("% This node is not a member of any group")
    router.operations.set_direction(direction)
    return ""


COMMANDS = (
    ExecCommand(
        "clear crypto {gdoi | gkm} [group <group>]",
        "Member: leave the group and register again. Key server: drop all registrations and make new keys",
        _clear_gdoi,
        {"group": _GROUP},
    ),
    ExecCommand(
        "clear crypto {gdoi | gkm} [group <group>] replay",
        "Count what anti-replay refuses from zero on; a key server refuses nothing",
        _clear_replay,
        {"group": _GROUP},
    ),
    ExecCommand("clear crypto sa", "Delete all IPsec SAs: groups register again, keys set by hand make new ones at once", _clear_sa),
    ExecCommand("clear crypto sa counters", "Count packets of IPsec SAs and errors from zero on; the SAs stay", _clear_counters),
    ExecCommand("clear crypto sa map <map>", "Delete the IPsec SAs of a crypto map; its groups register again", _clear_map, {"map": _MAP}),
    ExecCommand(
        "clear crypto sa peer <address>",
        "Delete the IPsec SAs with a peer; those of groups, which register again, have the peer 0.0.0.0",
        _clear_peer,
        {"address": Address("peer of an SA")},
    ),
    ExecCommand(
        "clear crypto sa {entry | spi} <address> {ah | esp} <spi>",
        "Delete one IPsec SA, with all of its group, and register again",
        _clear_entry,
        {"address": Address("where the SA leads: our address or the peer's, or 0.0.0.0"), "spi": Number(FIRST_SPI, 4294967295, "SPI")},
        {"entry": "One SA, with all of its group", "spi": "The same as entry", "ah": "An SA of AH", "esp": "An SA of ESP"},
    ),
    ExecCommand("clear crypto isakmp", "Delete all ISAKMP SAs", _clear_isakmp),
    ExecCommand(
        "crypto {gdoi | gkm} ks [group <group>] rekey [activation-delay <delay>]",
        "Make new TEKs and send them to the members now",
        _rekey,
        {"group": _GROUP, "delay": Number(1, 3600, "seconds after which members send with the new keys")},
        {
            "group": TOPICS["group"],
            "activation-delay": f"When members send with the new keys; after {DEFAULT_ACTIVATION_DELAY} s unless given",
        },
    ),
    ExecCommand(
        "crypto {gdoi | gkm} gm ipsec direction <direction>",
        "Override how the groups' traffic is protected, until the next rekey",
        _direction,
        {"direction": _DIRECTION},
        {
            "both": "Protect what is sent, drop what comes in the clear",
            "inbound": "Take what comes in the clear too",
            "optional": "Protect what is sent",
            "only": "Send in the clear",
        },
    ),
)
