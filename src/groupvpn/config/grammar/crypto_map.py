"""Crypto maps: those of groups, which are in effect, and classic ones, which are known."""

from groupvpn.config.arguments import InterfaceArgument, Line, Name, Number, SecretWord
from groupvpn.config.grammar.ipsec import PFS_GROUPS, REPLAY_WINDOW, VOLUME
from groupvpn.config.grammar.modes import CLASSIC_MAP, CRYPTO_MAP, FAIL_CLOSE, GLOBAL
from groupvpn.config.language import Add, Alias, Command, Enter, Ignore, Negation, Set
from groupvpn.ipsec.sa import FIRST_SPI
from groupvpn.ipsec.transform import LIFETIME_RANGE

ACCESS_LIST = Name("Name or number of an access list")
MAP_NAME = Name("Name of the crypto map")
SEQUENCE = Number(1, 65535, "Number of the entry; the lowest is tried first")
_CLASSIC = "classic IPsec crypto maps"

COMMANDS = (
    Command(
        GLOBAL,
        "crypto map <name> local-address <interface>",
        "The interface whose address stands for this node, whichever interface packets use",
        Add(("name",)),
        {"name": MAP_NAME, "interface": InterfaceArgument("Interface, usually a loopback")},
        negation_syntax="crypto map <name> local-address [<interface>]",
        label="crypto map local-address",
    ),
    Command(
        GLOBAL,
        "crypto map <name> gdoi fail-close",
        "Drop traffic until this member has registered",
        Enter(FAIL_CLOSE, ("name",)),
        {"name": MAP_NAME},
        negation=Negation.FULL,
        label="crypto map fail-close",
    ),
    Command(
        FAIL_CLOSE,
        "match address <list>",
        "Exceptions: what it denies passes in the clear before registration",
        Set(),
        {"list": ACCESS_LIST},
    ),
    Command(FAIL_CLOSE, "activate", "Turn fail-close on; without this line it is only prepared", Set()),
    Command(
        GLOBAL,
        "crypto map <name> <sequence> gdoi",
        "An entry that joins a group",
        Enter(CRYPTO_MAP, ("name", "sequence")),
        {"name": MAP_NAME, "sequence": SEQUENCE},
        negation_syntax="crypto map <name> [<sequence> [gdoi]]",
        aliases=(Alias("crypto map <name> <sequence>", "crypto map {name} {sequence} gdoi", warning="read as an entry of type `gdoi`"),),
        details="`no crypto map NAME` removes every entry.",
        label="crypto map gdoi",
    ),
    Command(CRYPTO_MAP, "description <text>", "Free text", Set(), {"text": Line("Description of the entry")}),
    Command(
        CRYPTO_MAP,
        "qos pre-classify",
        "Classify packets before they are encrypted",
        Ignore("classify by addresses and DSCP, which encrypted packets keep", exact=True),
    ),
    Command(CRYPTO_MAP, "set group <name>", "The group to join", Set(), {"name": Name("Name of the group")}),
    Command(
        CRYPTO_MAP,
        "match address <list>",
        "Local exceptions: what it denies stays in the clear, before the key server's list",
        Set(),
        {"list": ACCESS_LIST},
        details="Only denies have a place here: traffic that a permit matches is dropped.",
    ),
    Command(
        GLOBAL,
        "crypto map <name> <sequence> {ipsec-isakmp [dynamic <dynamic> [discover] | profile <profile>] | ipsec-manual}",
        "A classic entry, for one peer",
        Enter(CLASSIC_MAP, ("name", "sequence")),
        {"name": MAP_NAME, "sequence": SEQUENCE, "dynamic": Name("Dynamic map"), "profile": Name("Crypto profile")},
        negation=Negation.FULL,
        not_yet=_CLASSIC,
        label="crypto map classic",
    ),
    Command(
        GLOBAL,
        "crypto dynamic-map <name> <sequence>",
        "A template for peers that are not known beforehand",
        Enter(CLASSIC_MAP, ("name", "sequence")),
        {"name": MAP_NAME, "sequence": SEQUENCE},
        negation=Negation.FULL,
        not_yet=_CLASSIC,
    ),
    Command(CLASSIC_MAP, "match address <list>", "Traffic of the entry", Set(), {"list": ACCESS_LIST}, not_yet=_CLASSIC),
    Command(
        CLASSIC_MAP,
        "set peer <peer>",
        "A peer",
        Add(("peer",)),
        {"peer": Name("Address or name of the peer")},
        negation=Negation.FULL,
        not_yet=_CLASSIC,
    ),
    Command(
        CLASSIC_MAP,
        "set transform-set <transform> ...",
        "Transform sets, the preferred one first",
        Set(),
        {"transform": Name("Name of a transform set")},
        not_yet=_CLASSIC,
    ),
    Command(
        CLASSIC_MAP,
        "set session-key {inbound | outbound} {ah <spi> <key> | esp <spi> cipher <key> [authenticator <key>]}",
        "A key set by hand",
        Add(),
        {"spi": Number(FIRST_SPI, 4294967295, "SPI"), "key": SecretWord("Key")},
        not_yet=_CLASSIC,
    ),
    Command(
        CLASSIC_MAP,
        "set security-association lifetime {seconds <seconds> | kilobytes {<kilobytes> | disable}}",
        "Lifetime of the SAs",
        Add(),
        {"seconds": Number(LIFETIME_RANGE.start, LIFETIME_RANGE[-1], "Seconds"), "kilobytes": VOLUME},
        not_yet=_CLASSIC,
    ),
    Command(
        CLASSIC_MAP,
        "set security-association replay {window-size [<packets>] | disable}",
        "Anti-replay of the SAs",
        Set(),
        {"packets": REPLAY_WINDOW},
        not_yet=_CLASSIC,
    ),
    Command(
        CLASSIC_MAP,
        f"set pfs {PFS_GROUPS}",
        "Perfect forward secrecy",
        Set(),
        not_yet=_CLASSIC,
    ),
)
