"""Crypto maps: those of groups and those with keys set by hand, which are in effect, and classic ones of IKE, which are known."""

from collections.abc import Iterable

from groupvpn.config.arguments import HexKey, HostAddress, InterfaceArgument, Line, Name, Number, OneOf
from groupvpn.config.grammar.ipsec import PFS_GROUPS, REPLAY_WINDOW, VOLUME
from groupvpn.config.grammar.modes import CLASSIC_MAP, CRYPTO_MAP, FAIL_CLOSE, GLOBAL, MANUAL_MAP
from groupvpn.config.language import Add, Alias, Command, Enter, Ignore, Negation, Set
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.ipsec.sa import FIRST_SPI
from groupvpn.ipsec.transform import LIFETIME_RANGE

ACCESS_LIST = Name("Name or number of an access list")
MAP_NAME = Name("Name of the crypto map")
SEQUENCE = Number(1, 65535, "Number of the entry; the lowest is tried first")
_CLASSIC = "classic IPsec crypto maps"
_DIRECTION = OneOf({"inbound": "inbound", "outbound": "outbound"}, "What arrives, or what leaves")
_ESP_KEYS = "{cipher <cipher> [authenticator <authenticator>] | authenticator <authenticator>}"
_SPI = Number(FIRST_SPI, 4294967295, "SPI, which the receiving end chooses")


def _digits(members: Iterable[EspCipher | EspIntegrity]) -> str:
    """How long the keys of algorithms are, in words."""
    several = [(item.keyword, 2 * item.key_length) for item in members]
    lengths = sorted({digits for _, digits in several if digits})
    return ", ".join(f"{length} for {', '.join(f'`{keyword}`' for keyword, digits in several if digits == length)}" for length in lengths)


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
        Enter(CRYPTO_MAP, ("name", "sequence"), takes_along=("crypto map ipsec-manual", "crypto map classic")),
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
        "crypto map <name> <sequence> ipsec-manual",
        "An entry with keys set by hand, for one peer",
        Enter(MANUAL_MAP, ("name", "sequence")),
        {"name": MAP_NAME, "sequence": SEQUENCE},
        negation=Negation.FULL,
        details="It needs neither IKE nor a key server, and each of its lines once: a list, a peer, a transform set, and session keys for "
        "both directions. There is no anti-replay, and nothing renews the keys.",
        label="crypto map ipsec-manual",
    ),
    Command(MANUAL_MAP, "description <text>", "Free text", Set(), {"text": Line("Description of the entry")}),
    Command(
        MANUAL_MAP,
        "match address <list>",
        "Traffic of the entry: the first permit of the list, but for what denies before it take out",
        Set(),
        {"list": ACCESS_LIST},
        details="What a deny takes out goes on to the later entries of the map, and leaves in the clear if none of them takes it.",
    ),
    Command(
        MANUAL_MAP,
        "set peer <peer>",
        "The peer",
        Add(("peer",)),
        {"peer": HostAddress("Address of the peer, or a name that `ip host` gives one")},
        negation=Negation.FULL,
        details="There is one: `no set peer` takes it away before another one is set.",
    ),
    Command(
        MANUAL_MAP,
        "set transform-set <transform> ...",
        "The transform set",
        Set(),
        {"transform": Name("Name of a transform set")},
        details="One alone, and the same at the peer. Ciphers of counter mode (`esp-gcm`, `esp-gmac`, `esp-ctr`) are refused: their keys "
        "must be fresh for each SA (RFC 4106 2, RFC 4543 2, RFC 3686 2.1). `mode transport` is for what the two ends say to each other "
        "(`permit ip host LOCAL host PEER`); all else has a tunnel.",
    ),
    Command(
        MANUAL_MAP,
        f"set session-key <direction> esp <spi> {_ESP_KEYS}",
        "SPI and keys of ESP in one direction",
        Add(("direction",)),
        {
            "direction": _DIRECTION,
            "spi": _SPI,
            "cipher": HexKey("Key of the cipher; `esp-null` has none"),
            "authenticator": HexKey("Key of the integrity algorithm"),
        },
        negation_syntax=f"set session-key <direction> esp [<spi> [{_ESP_KEYS}]]",
        details="Both directions are needed. A key is as long as its algorithm wants it. Hexadecimal digits of the cipher: "
        f"{_digits(cipher for cipher in EspCipher if not cipher.is_counter_mode)}. Of the authenticator: {_digits(EspIntegrity)}. Of a "
        "longer key the first digits count. Another key counts at once.",
        label="set session-key esp",
    ),
    Command(
        MANUAL_MAP,
        "set session-key <direction> ah <spi> <key>",
        "SPI and key of AH in one direction",
        Add(("direction",)),
        {"direction": _DIRECTION, "spi": _SPI, "key": HexKey("Key of the integrity algorithm")},
        negation_syntax="set session-key <direction> ah [<spi> [<key>]]",
        details="As for ESP.",
        label="set session-key ah",
    ),
    Command(
        GLOBAL,
        "crypto map <name> <sequence> ipsec-isakmp [dynamic <dynamic> [discover] | profile <profile>]",
        "A classic entry, whose keys IKE negotiates",
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
