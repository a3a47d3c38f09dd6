"""Transform sets, IPsec profiles and the few global IPsec settings."""

from groupvpn.config.arguments import Line, Name, Number, OneOf
from groupvpn.config.grammar.modes import GLOBAL, IPSEC_PROFILE, TRANSFORM_SET
from groupvpn.config.language import Alias, Command, Enter, Negation, Set
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.ipsec.transform import Mode as EncapsulationMode

_CIPHERS: dict[str, object] = {cipher.keyword: cipher for cipher in EspCipher}
_CIPHERS |= {"esp-aes 128": EspCipher.AES_128_CBC, "esp-gcm 128": EspCipher.AES_128_GCM}
_INTEGRITY: dict[str, object] = {item.keyword: item for item in EspIntegrity if item.keyword}
_UNSUPPORTED = ("ah-md5-hmac", "ah-sha-hmac", "ah-sha256-hmac", "ah-sha384-hmac", "ah-sha512-hmac", "comp-lzs", "esp-seal", "esp-gmac")
TRANSFORM = OneOf(_CIPHERS | _INTEGRITY | {word: word for word in _UNSUPPORTED}, "An ESP cipher or integrity algorithm")
SET_NAME = Name("Name of a transform set")
LIFETIME = Number(120, 2592000, "Lifetime of an SA in seconds")

COMMANDS = (
    Command(
        GLOBAL,
        "crypto ipsec transform-set <name> <transform> ...",
        "The ESP algorithms of an SA, under a name",
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
        details="One cipher and, unless it authenticates by itself (GCM), one integrity algorithm.",
    ),
    Command(
        TRANSFORM_SET,
        "mode <mode>",
        "Encapsulation of an SA",
        Set(),
        {"mode": OneOf({"tunnel": EncapsulationMode.TUNNEL, "transport": EncapsulationMode.TRANSPORT}, "Encapsulation")},
        default="mode tunnel",
        details="A group SA in tunnel mode keeps the original addresses in the outer header (address preservation).",
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
        {"seconds": LIFETIME},
        default="set security-association lifetime seconds 3600",
        aliases=(
            Alias(
                "set security-association lifetime <seconds>",
                "set security-association lifetime seconds {seconds}",
            ),
        ),
        details="More than 900 s is advised, two hours recommended. A new value counts from the next rekey.",
    ),
    Command(
        IPSEC_PROFILE,
        "set transform-set <name> ...",
        "Transform sets, the preferred one first",
        Set(),
        {"name": SET_NAME},
    ),
    Command(
        GLOBAL,
        "crypto ipsec df-bit <action>",
        "The don't-fragment bit of the outer header",
        Set(),
        {"action": OneOf({"copy": "copy", "clear": "clear", "set": "set"}, "What becomes of the bit")},
        default="crypto ipsec df-bit copy",
        details="`clear` lets the core fragment encrypted packets; the receiving member reassembles them. Global only.",
    ),
    Command(
        GLOBAL,
        "crypto ipsec security-association lifetime {seconds <seconds> | kilobytes <kilobytes>}",
        "Lifetime of SAs whose profile names none",
        Set(),
        {"seconds": LIFETIME, "kilobytes": Number(2560, 4294967295, "Kilobytes an SA may protect")},
        default="crypto ipsec security-association lifetime seconds 3600",
        not_yet="classic IPsec",
    ),
)
