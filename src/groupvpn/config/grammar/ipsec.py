"""Transform sets, IPsec profiles and the few global IPsec settings."""

from dataclasses import dataclass

from groupvpn.config.arguments import DAY, Days, Line, Name, Number, NumberOf, OneOf
from groupvpn.config.grammar.modes import GLOBAL, IPSEC_PROFILE, TRANSFORM_SET
from groupvpn.config.language import Alias, Command, Enter, Ignore, Negation, Set
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.ipsec.sa import DontFragment, Fragmentation
from groupvpn.ipsec.transform import DEFAULT_LIFETIME, DEFAULT_VOLUME, LIFETIME_RANGE
from groupvpn.ipsec.transform import Mode as EncapsulationMode


@dataclass(frozen=True, slots=True)
class AuthenticationHeader:
    """The transform `ah-…-hmac` on a line, beside the `EspIntegrity` that means `esp-…-hmac`."""

    integrity: EspIntegrity


_CIPHERS: dict[str, object] = {cipher.keyword: cipher for cipher in EspCipher}
_CIPHERS |= {f"{cipher.keyword} 128": cipher for cipher in EspCipher if cipher.has_variable_key and " " not in cipher.keyword}
_CIPHERS |= {"esp-192-aes": EspCipher.AES_192_CBC, "esp-256-aes": EspCipher.AES_256_CBC}
_INTEGRITY: dict[str, object] = {item.keyword: item for item in EspIntegrity if item.keyword}
_INTEGRITY |= {"esp-sha": EspIntegrity.HMAC_SHA1_96}  # how the manuals' samples shorten it, from a time when there was no other SHA
_AUTHENTICATION_HEADERS: dict[str, object] = {item.ah_keyword: AuthenticationHeader(item) for item in EspIntegrity if item.keyword}
REFUSED = {
    "esp-seal": "SEAL has no standard for ESP, and only one vendor's routers ever had it: use `esp-ctr 256` with `esp-sha256-hmac`",
    "esp-rfc1829": "ESP of RFC 1829 has neither integrity nor replay detection: use `esp-aes` with `esp-sha256-hmac`",
    "ah-rfc1828": "AH of RFC 1828 has no replay detection, and its keyed MD5 is broken: use `ah-sha256-hmac`",
    "comp-lzs": "LZS compression is not there: leave the word out, and packets are encrypted as they are",
}
"""Transforms that the manuals know and we do not have: why, and what to write instead."""
_WORDS = _CIPHERS | _INTEGRITY | _AUTHENTICATION_HEADERS | {word: word for word in REFUSED}
TRANSFORM = OneOf(_WORDS, "An ESP cipher, or an integrity algorithm of ESP or AH")
SET_NAME = Name("Name of a transform set")
REPLAY_WINDOW = NumberOf((64, 128, 256, 512, 1024), "Window in packets")
DF = OneOf({item.value: item for item in DontFragment}, "What becomes of the bit")
FRAGMENTATION = OneOf({item.value: item for item in Fragmentation}, "The packet before it is encrypted, or after")
PFS_GROUPS = "[group1 | group2 | group5 | group14 | group15 | group16 | group19 | group20 | group21 | group24]"
VOLUME = Number(2560, 4294967295, "Kilobytes")
LIFETIME = Number(LIFETIME_RANGE.start, LIFETIME_RANGE[-1], "Lifetime of an SA in seconds")
LIFETIME_IN_DAYS = Days(1, LIFETIME_RANGE[-1] // DAY, "Lifetime of an SA in days")
IDLE_TIME = Number(60, 86400, "Seconds without a packet")

COMMANDS = (
    Command(
        GLOBAL,
        "crypto ipsec transform-set <name> <transform> ...",
        "The algorithms of an SA, under a name",
        Enter(TRANSFORM_SET, ("name",)),
        {"name": SET_NAME, "transform": TRANSFORM},
        negation_syntax="crypto ipsec transform-set <name> [<transform> ...]",
        aliases=(
            Alias(
                "crypto transform-set <name> <transform> ...",
                "crypto ipsec transform-set {name} {transform}",
                warning="read as `crypto ipsec transform-set`",
            ),
        ),
        details="Either one ESP cipher and, unless it authenticates by itself (`esp-gcm`, `esp-gmac`), one integrity algorithm of ESP; or "
        "one of AH alone (`ah-…-hmac`). AH and ESP together are refused. `icv` shortens the integrity check value of GCM, which has 16 "
        "octets else (RFC 4106 6).",
    ),
    Command(
        TRANSFORM_SET,
        "mode <mode>",
        "Encapsulation of an SA",
        Set(),
        {"mode": OneOf({"tunnel": EncapsulationMode.TUNNEL, "transport": EncapsulationMode.TRANSPORT}, "Encapsulation")},
        default="mode tunnel",
        details="A group SA in tunnel mode keeps the original addresses in the outer header (address preservation). Transport mode adds no "
        "second IP header, which saves 20 octets; fragments cannot be protected then and are dropped (RFC 4303 3.3.4).",
    ),
    Command(
        GLOBAL,
        "crypto ipsec fragmentation <when>",
        "Which packet is cut where one would be too large",
        Set(),
        {"when": FRAGMENTATION},
        default="crypto ipsec fragmentation before-encryption",
        details="`before-encryption` cuts the packet into equal parts and protects each; `after-encryption` cuts the protected packet, "
        "which the far gateway must reassemble. An interface may say otherwise. An SA in transport mode always cuts after "
        "encryption, and refuses what is too large where it sends in UDP. It counts on members.",
    ),
    Command(
        GLOBAL,
        "crypto ipsec nat-transparency {udp-encapsulation | spi-matching}",
        "How IPsec passes a NAT",
        Ignore("NATs are found out by phase 1 itself", exact=True),
    ),
    Command(
        GLOBAL,
        "crypto ipsec profile <name>",
        "A policy for SAs: transform sets and lifetime",
        Enter(IPSEC_PROFILE, ("name",)),
        {"name": Name("Name of the profile")},
        negation=Negation.FULL,
    ),
    Command(IPSEC_PROFILE, "description <text>", "Free text", Set(), {"text": Line("Description of the profile")}),
    Command(
        IPSEC_PROFILE,
        "set security-association lifetime seconds <seconds>",
        "Lifetime of an SA: for a group, of its TEK",
        Set(),
        {"seconds": LIFETIME, "days": LIFETIME_IN_DAYS},
        negation_syntax="set security-association lifetime {[seconds] [<seconds>] | days [<days>]}",
        aliases=(
            Alias("set security-association lifetime <seconds>", "set security-association lifetime seconds {seconds}"),
            Alias("set security-association lifetime days <days>", "set security-association lifetime seconds {days}"),
        ),
        details="Days are kept as seconds. Without it the global setting counts. More than 900 s is advised, two hours recommended. A new "
        "value counts from the next rekey, on the key server.",
    ),
    Command(
        IPSEC_PROFILE,
        "set security-association lifetime kilobytes {<kilobytes> | disable}",
        "Kilobytes that an SA of this profile may protect; SAs of groups have no such limit",
        Set(),
        {"kilobytes": VOLUME},
        not_yet="classic IPsec",
    ),
    Command(
        IPSEC_PROFILE,
        f"set pfs {PFS_GROUPS}",
        "Perfect forward secrecy, which SAs of groups cannot have",
        Set(),
        not_yet="classic IPsec",
    ),
    Command(
        IPSEC_PROFILE,
        "set security-association replay {window-size [<packets>] | disable}",
        "Anti-replay of SAs of this profile",
        Set(),
        {"packets": REPLAY_WINDOW},
        details="Without it the global setting counts. A group's `sa ipsec` may say something else with `replay`. No number means 64. It "
        "counts on the key server.",
    ),
    Command(
        IPSEC_PROFILE,
        "set security-association idle-time <seconds> [default]",
        "Silence after which an SA of this profile is removed; SAs of groups stay",
        Set(),
        {"seconds": IDLE_TIME},
        not_yet="classic IPsec",
    ),
    Command(
        IPSEC_PROFILE,
        "set transform-set <name> ...",
        "Transform sets, the preferred one first",
        Set(),
        {"name": SET_NAME},
        details="A group uses the first that is there: its members do not negotiate. A warning says so where more are named.",
    ),
    Command(
        GLOBAL,
        "crypto ipsec df-bit <action>",
        "The don't-fragment bit of the outer header",
        Set(),
        {"action": DF},
        default="crypto ipsec df-bit copy",
        details="A packet with the bit that is too large is dropped, and its sender told, unless this says `clear`. `clear` also lets the "
        "core fragment encrypted packets; the receiving member reassembles them. A group honours the global setting alone. It counts on "
        "members.",
    ),
    Command(
        GLOBAL,
        "crypto ipsec security-association replay {window-size [<packets>] | disable}",
        "Anti-replay of SAs whose profile says nothing of it",
        Set(),
        {"packets": REPLAY_WINDOW},
        default="crypto ipsec security-association replay window-size 64",
        details="A group of a transform that does not tell senders apart (all but those of counter mode) has no window even so, unless "
        "its profile or its `sa ipsec` asks for one; a notice says where there is none. It counts on the key server, for SAs that are made "
        "later: members keep the window that they are told.",
    ),
    Command(
        GLOBAL,
        "crypto ipsec security-association idle-time <seconds> [default]",
        "Silence after which an SA is removed; SAs of groups stay",
        Set(),
        {"seconds": IDLE_TIME},
        not_yet="classic IPsec",
    ),
    Command(
        GLOBAL,
        "crypto ipsec security-association lifetime seconds <seconds>",
        "Lifetime of SAs whose profile names none",
        Set(),
        {"seconds": LIFETIME, "days": LIFETIME_IN_DAYS},
        default=f"crypto ipsec security-association lifetime seconds {DEFAULT_LIFETIME}",
        negation_syntax="crypto ipsec security-association lifetime {seconds [<seconds>] | days [<days>]}",
        aliases=(
            Alias("crypto ipsec security-association lifetime days <days>", "crypto ipsec security-association lifetime seconds {days}"),
        ),
        details="Days are kept as seconds. It counts on the key server.",
    ),
    Command(
        GLOBAL,
        "crypto ipsec security-association lifetime kilobytes {<kilobytes> | disable}",
        "Kilobytes that an SA may protect; SAs of groups have no such limit",
        Set(),
        {"kilobytes": VOLUME},
        default=f"crypto ipsec security-association lifetime kilobytes {DEFAULT_VOLUME}",
        not_yet="classic IPsec",
    ),
)
