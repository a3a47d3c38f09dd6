"""Phase 1: policies, pre-shared keys, identity, keepalives (RFC 2409; the ranges are the routers')."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from groupvpn.config.arguments import Address, HostName, Line, Mask, Number, OneOf, SecretWord, UserName, one_of
from groupvpn.config.grammar.modes import GLOBAL, ISAKMP_PEER, ISAKMP_POLICY
from groupvpn.config.language import Add, Alias, Command, Enter, Ignore, Negation, Set
from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.ike.policy import KEEPALIVE_INTERVAL, LIFETIME_RANGE, IdentityKind

PRIORITY = Number(1, 10000, "Priority of the policy; 1 is tried first")
CIPHER = one_of(IkeCipher, "Cipher that protects phase 1", {"aes 128": IkeCipher.AES_128})
HASH = one_of(IkeHash, "Hash of phase 1, and the base of its key derivation")
AUTHENTICATION = one_of(IkeAuthentication, "How the peers prove who they are", {"pre-shared": IkeAuthentication.PRE_SHARED_KEY})
GROUP = OneOf({str(group.number): group for group in IkeGroup}, "Diffie-Hellman group")
LIFETIME = Number(LIFETIME_RANGE.start, LIFETIME_RANGE.stop - 1, "Lifetime of the ISAKMP SA in seconds")
KEY = SecretWord("The pre-shared key")
ENCODING = OneOf({"0": 0, "6": 6}, "0: the key follows in clear; 6: it follows encrypted, which is refused: give the key in clear")


def peers_of_key(values: Mapping[str, tuple[Any, ...]]) -> IPv4Network | str:
    """The network that `crypto isakmp key` is for, or the host name in small letters. Without a mask it is one host, and 0.0.0.0 is any."""
    if "hostname" in values:
        return str(values["hostname"][0]).lower()
    address: IPv4Address = values["address"][0]
    (mask,) = values.get("mask", (IPv4Address(0) if int(address) == 0 else IPv4Address(0xFFFFFFFF),))
    return IPv4Network((address, str(mask)), strict=False)


COMMANDS = (
    Command(
        GLOBAL,
        "crypto isakmp policy <priority>",
        "A phase 1 policy: algorithms, authentication and lifetime",
        Enter(ISAKMP_POLICY, ("priority",)),
        {"priority": PRIORITY},
        negation=Negation.FULL,
        details="Policies are offered in order of priority. What a policy does not say has the routers' old defaults, which are weak.",
    ),
    Command(
        ISAKMP_POLICY,
        "encryption <cipher>",
        "Cipher of phase 1",
        Set(),
        {"cipher": CIPHER},
        default="encryption des",
    ),
    Command(ISAKMP_POLICY, "hash <hash>", "Hash of phase 1", Set(), {"hash": HASH}, default="hash sha"),
    Command(
        ISAKMP_POLICY,
        "authentication <method>",
        "Authentication of phase 1",
        Set(),
        {"method": AUTHENTICATION},
        default="authentication rsa-sig",
    ),
    Command(ISAKMP_POLICY, "group <group>", "Diffie-Hellman group of phase 1", Set(), {"group": GROUP}, default="group 1"),
    Command(
        ISAKMP_POLICY,
        "lifetime <seconds>",
        "Lifetime of the ISAKMP SA",
        Set(),
        {"seconds": LIFETIME},
        default="lifetime 86400",
        details="A short lifetime (300 s) suits group members, which need phase 1 only to register; a day suits key servers.",
    ),
    Command(
        GLOBAL,
        "crypto isakmp key [<encoding>] <key> {address <address> [<mask>] | hostname <hostname>} [no-xauth]",
        "A pre-shared key and the peers it is for",
        Add(identify=lambda values: (peers_of_key(values),)),
        {
            "encoding": ENCODING,
            "key": KEY,
            "address": Address("Address of the peer, 0.0.0.0 with mask 0.0.0.0 for any"),
            "mask": Mask("Mask, for a key that several peers share"),
            "hostname": HostName("Host name of the peer"),
        },
        negation=Negation.FULL,
        details="A key takes the place of an earlier one for the same peers, and `no` removes it, however they are spelled: no mask means "
        "one host, and any for 0.0.0.0. Where several keys fit, the longest mask counts.",
    ),
    Command(
        GLOBAL,
        "crypto isakmp identity <kind>",
        "What this node calls itself in phase 1",
        Set(),
        {"kind": OneOf({kind.value: kind for kind in IdentityKind}, "Kind of identity")},
        default="crypto isakmp identity address",
        details="`dn` waits for certificates; until then a node with it offers no policy that needs one.",
    ),
    Command(
        GLOBAL,
        "crypto isakmp keepalive <seconds> [<retries>] [periodic | on-demand]",
        "Dead peer detection (RFC 3706)",
        Set(),
        {
            "seconds": Number(10, 3600, "Seconds between messages"),
            "retries": Number(2, 60, "Seconds between retries once a message was not answered; 2 unless given"),
        },
        details="With `periodic` a silent peer is asked each time the seconds have passed; `on-demand` leaves it to answering.",
    ),
    Command(
        GLOBAL,
        "crypto isakmp invalid-spi-recovery",
        "Begin phase 1 with whom sends ESP of an unknown SPI, to tell of it",
        Set(),
        not_yet="recovery from unknown SPIs",
    ),
    Command(
        GLOBAL,
        "crypto isakmp enable",
        "Phase 1 with anybody",
        Set(keeps_no=True),
        default="crypto isakmp enable",
        details="`no` is not in effect, which a warning says: a node is there for its groups, which cannot do without.",
    ),
    Command(
        GLOBAL,
        "crypto isakmp diagnose error [<count>]",
        "Keep the last errors of phase 1",
        Ignore("the log has them: `show logging`", exact=True),
        {"count": Number(1, 2**32 - 1, "Errors")},
    ),
    Command(
        GLOBAL,
        "crypto isakmp default policy",
        "Policies of routers for a configuration that has none",
        Ignore("there are no policies but those that are configured", exact=True),
    ),
    Command(
        GLOBAL,
        "crypto isakmp nat keepalive <seconds>",
        "Silence after which a node behind a NAT sends a keepalive (RFC 3948)",
        Set(keeps_no=True),
        {"seconds": Number(5, 3600, "Seconds")},
        default=f"crypto isakmp nat keepalive {KEEPALIVE_INTERVAL}",
        details="A member behind a NAT keeps its way open as long as it is registered: rekeys come through it. `no` sends none.",
    ),
    Command(
        GLOBAL,
        "crypto isakmp aggressive-mode disable",
        "Refuse aggressive mode",
        Set(),
        details="Without it a node answers whoever asks for aggressive mode, from an address or by a host name for which there is a key, "
        "with a hash against which passwords can be tried. With it a node begins no aggressive mode either, but main mode.",
    ),
    Command(
        GLOBAL,
        "crypto isakmp peer address <address>",
        "What to do with one peer",
        Enter(ISAKMP_PEER, ("address",)),
        {"address": Address("Address of the peer")},
        negation=Negation.FULL,
        aliases=(Alias("crypto isakmp peer ip-address <address>", "crypto isakmp peer address {address}"),),
    ),
    Command(ISAKMP_PEER, "description <text>", "Free text", Set(), {"text": Line("Description of the peer")}),
    Command(
        ISAKMP_PEER,
        "set aggressive-mode client-endpoint {ipv4-address <address> | fqdn <fqdn> | user-fqdn <user>}",
        "Start aggressive mode with this peer",
        Set(),
        {
            "address": Address("Identity to present"),
            "fqdn": HostName("Identity to present"),
            "user": UserName("Identity to present", 128),
        },
        details="The peer finds the key by the address that it sees, and where it has none for that, `fqdn` by a key with `hostname`. "
        "Aggressive mode shows identities in clear and lets anyone who sees it guess at the key; main mode does not.",
    ),
    Command(
        ISAKMP_PEER,
        "set aggressive-mode password [<encoding>] <key>",
        "The pre-shared key for this peer",
        Set(),
        {"encoding": ENCODING, "key": KEY},
        details="Goes before a `crypto isakmp key` for the same address.",
    ),
)
