"""Groups: `crypto gdoi group` for key servers and members, and the modes inside it (RFC 6407)."""

from groupvpn.config.arguments import DAY, Address, Days, HostAddress, InterfaceArgument, Name, Number, OneOf, one_of
from groupvpn.config.grammar.modes import COOPERATIVE, GDOI_GROUP, GLOBAL, IDENTIFIER, LOCAL_SERVER, SA_IPSEC
from groupvpn.config.language import Add, Alias, Command, Enter, Ignore, Negation, Set
from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.effects import NAT_T_PORT
from groupvpn.gdoi.policy import MAXIMUM_KEY_SERVERS, MAXIMUM_TIME_WINDOW, REPLAY_WINDOW
from groupvpn.gdoi.timers import KEK_LIFETIME_RANGE

ACCESS_LIST = Name("Name or number of an access list")
KEK_CIPHER = one_of(KekCipher, "Cipher of the KEK", {"aes": KekCipher.AES_128_CBC})
KEK_HASH = one_of(SignatureHash, "Hash under the signature of rekey messages")
_COOPERATION = "cooperative key servers"
_KEY_SERVER_ID = Number(0, 127, "Number of a key server")
SENDER_ID_SIZES = {"small 8": 8, "small 12": 12, "small 16": 16, "medium": 24, "large": 32}

_GROUP = (
    Command(
        GLOBAL,
        "crypto gdoi group <name>",
        "A group that shares its security associations",
        Enter(GDOI_GROUP, ("name",)),
        {"name": Name("Name of the group, up to 80 characters", 80)},
        negation=Negation.FULL,
        aliases=(Alias("crypto gkm group <name>", "crypto gdoi group {name}"),),
    ),
    Command(
        GDOI_GROUP,
        "identity {number <number> | address ipv4 <address>}",
        "The group's identity, the same on key server and members",
        Set(),
        {"number": Number(0, 2**32 - 1, "Identity as a number of 32 bits"), "address": Address("Identity as an address")},
        aliases=(Alias("identity <number>", "identity number {number}"),),
    ),
    Command(
        GDOI_GROUP,
        "server address ipv4 <address>",
        "A key server to register with",
        Add(("address",), limit=MAXIMUM_KEY_SERVERS),
        {"address": HostAddress("Address of the key server, or a name that `ip host` gives an address")},
        negation=Negation.FULL,
        details="Up to eight, tried in the order given; the first that answers serves this member. It is asked before the others when the "
        "member has to register again; after `clear crypto gdoi` the order counts anew.",
    ),
    Command(GDOI_GROUP, "passive", "Encrypt what goes out, accept clear and encrypted packets", Set()),
    Command(
        GDOI_GROUP,
        "client rekey encryption <cipher> ...",
        "Ciphers this member accepts for the KEK",
        Set(),
        {"cipher": KEK_CIPHER},
    ),
    Command(
        GDOI_GROUP,
        "client rekey hash <hash> ...",
        "Hashes this member accepts for rekey signatures",
        Set(),
        {"hash": KEK_HASH},
    ),
    Command(
        GDOI_GROUP,
        "client transform-sets <name> ...",
        "Transform sets this member accepts for the TEK, up to six",
        Set(),
        {"name": Name("Name of a transform set")},
    ),
    Command(
        GDOI_GROUP,
        "client esp-in-udp [port <port>] [receive-only]",
        "Send ESP inside UDP, which only groupvpn members can read",
        Set(),
        {"port": Number(1, 65535, f"UDP port at both ends; {NAT_T_PORT} without it")},
        details=(
            "An extension of groupvpn's own: no router has this command, and members of another make drop what is sent so. It lets "
            "the kernel carry many packets as one, which makes a member faster; see [ESP in UDP](protocol/esp-in-udp.md). It says only how "
            f"this member sends: every groupvpn member takes both forms, in UDP on port {NAT_T_PORT} and on the port named here. With "
            "`receive-only` it takes ESP on that port and sends as if the line were not there."
        ),
    ),
    Command(
        GDOI_GROUP,
        "client registration interface <interface>",
        "The interface whose address a router registers with",
        Set(),
        {"interface": InterfaceArgument("Interface")},
        details="Not in effect, which a warning says: `crypto map NAME local-address INTERFACE` chooses that address here.",
    ),
    Command(
        GDOI_GROUP,
        "client fail-close revert",
        "Go back to fail-close when a registration fails",
        Set(),
        details="Not in effect, which a warning says: the last policy stays, and what it protects is dropped once its keys have expired.",
    ),
    Command(
        GDOI_GROUP,
        "client recovery-check interval <seconds>",
        "Register again after errors of received packets, so often at most",
        Set(),
        {"seconds": Number(100, 1000, "Seconds between two such registrations")},
        not_yet="registration after errors of received packets",
    ),
    Command(
        GDOI_GROUP,
        "client status active-sa track <object>",
        "A tracking object that is up while there is a TEK",
        Set(),
        {"object": Number(1, 1000, "Number of the object")},
        not_yet="tracking objects",
    ),
    Command(
        GDOI_GROUP,
        "client bypass-policy",
        "Let key management for this member pass its policy",
        Ignore("a member's own key management passes every list", exact=True),
    ),
    Command(GDOI_GROUP, "client protocol gdoi", "Register by GDOI", Ignore("GDOI is the protocol that there is", exact=True)),
    Command(GDOI_GROUP, "server local", "This node is the group's key server", Enter(LOCAL_SERVER)),
)

_LOCAL_SERVER = (
    Command(
        LOCAL_SERVER,
        "rekey algorithm <cipher>",
        "Cipher of the KEK",
        Set(),
        {"cipher": KEK_CIPHER},
        default="rekey algorithm 3des-cbc",
    ),
    Command(
        LOCAL_SERVER,
        "rekey sig-hash algorithm <hash>",
        "Hash under the signature of rekey messages",
        Set(),
        {"hash": KEK_HASH},
        default="rekey sig-hash algorithm sha",
    ),
    Command(
        LOCAL_SERVER,
        "rekey address ipv4 <list>",
        "Source and destination of multicast rekeys, as an access list",
        Set(),
        {"list": ACCESS_LIST},
        negation_syntax="rekey address [ipv4 [<list>]]",
        details="The list's first permit names the key server and the multicast address: `permit udp host A eq 848 host G eq 848`. A "
        "source that is no single host leaves the choice to `address ipv4`.",
    ),
    Command(
        LOCAL_SERVER,
        "rekey lifetime seconds <seconds>",
        "Lifetime of the KEK",
        Set(),
        {
            "seconds": Number(KEK_LIFETIME_RANGE.start, KEK_LIFETIME_RANGE.stop - 1, "Seconds"),
            "days": Days(1, KEK_LIFETIME_RANGE[-1] // DAY, "Days"),
        },
        default="rekey lifetime seconds 86400",
        negation_syntax="rekey lifetime [seconds <seconds> | days <days>]",
        aliases=(Alias("rekey lifetime days <days>", "rekey lifetime seconds {days}"),),
        details="Longer than the lifetime of the TEK; at least three times as long is recommended. Days are kept as seconds.",
    ),
    Command(
        LOCAL_SERVER,
        "rekey retransmit <seconds> [number <number>] [periodic]",
        "How often a rekey is sent again, and after how long",
        Set(keeps_no=True),
        {"seconds": Number(10, 60, "Seconds between transmissions"), "number": Number(1, 10, "Retransmissions")},
        default="rekey retransmit 10 number 2",
        details="`no rekey retransmit` sends every rekey once; only one that tells of another `address ipv4` is sent again, from that one. "
        "With `periodic` newer routers go on sending; it is accepted and not yet in effect: the number counts.",
    ),
    Command(
        LOCAL_SERVER,
        "rekey authentication {mypubkey | pubkey} rsa <label>",
        "The RSA key that signs rekey messages",
        Set(),
        {"label": Name("Label of the key pair")},
        details="Without it there are no rekeys: members register anew before their keys expire.",
    ),
    Command(
        LOCAL_SERVER,
        "rekey acknowledgement <kind>",
        "Acknowledgements of unicast rekeys (RFC 8263)",
        Set(keeps_no=True),
        {"kind": OneOf({"interoperable": "interoperable", "any": "any", "cisco": "cisco"}, "Form of acknowledgement")},
        default="rekey acknowledgement interoperable",
    ),
    Command(
        LOCAL_SERVER,
        "rekey transport unicast",
        "Send rekeys to each member; without it they go to a multicast address",
        Set(),
        negation_syntax="rekey transport [unicast]",
    ),
    Command(LOCAL_SERVER, "sa receive-only", "Members send in clear and accept clear and encrypted packets", Set()),
    Command(
        LOCAL_SERVER,
        "authorization address ipv4 <list>",
        "Addresses of the members that may register, as a standard access list",
        Set(),
        {"list": ACCESS_LIST},
        negation_syntax="authorization address [ipv4 [<list>]]",
        details="Of an extended list only the sources are compared.",
    ),
    Command(
        LOCAL_SERVER,
        "authorization identity <name>",
        "Certificate names of the members that may register",
        Set(),
        {"name": Name("Name of a `crypto identity`")},
        details="Not yet in effect: it refuses nobody who has a pre-shared key, which a warning says.",
    ),
    Command(
        LOCAL_SERVER,
        "registration interface <interface>",
        "An interface at whose addresses members may register; at any without it",
        Add(("interface",)),
        {"interface": InterfaceArgument("Interface")},
        negation=Negation.FULL,
        details=(
            "A registration has to be sent to an address of the interface, which needs `ip address A.B.C.D MASK` and has to be in service. "
            "Others are refused with UNREGISTERED_INTERFACE. Rekeys and members that are registered already are not touched."
        ),
    ),
    Command(
        LOCAL_SERVER,
        "group size <size>",
        "Width of the Sender-IDs of counter-mode transforms (RFC 6407 5.4.3)",
        Set(),
        {"size": OneOf(SENDER_ID_SIZES, "Small (8, 12 or 16 bits), medium (24) or large (32)")},
        default="group size medium",
    ),
    Command(
        LOCAL_SERVER,
        "sa ipsec <sequence>",
        "A traffic policy: what is encrypted, and how",
        Enter(SA_IPSEC, ("sequence",)),
        {"sequence": Number(1, 65535, "Number of the policy")},
        negation=Negation.FULL,
    ),
    Command(
        LOCAL_SERVER,
        "address ipv4 <address>",
        "The key server's own address, source of unicast rekeys; to a member behind a NAT they come from the address that it registered "
        "at, which its NAT lets in",
        Set(),
        {"address": Address("Address")},
        negation_syntax="address [[ipv4] <address> | ipv4]",
        aliases=(Alias("address <address>", "address ipv4 {address}"),),
    ),
    Command(
        LOCAL_SERVER,
        "redundancy",
        "Cooperation with other key servers of the group",
        Enter(COOPERATIVE),
        not_yet=_COOPERATION,
    ),
    Command(
        LOCAL_SERVER,
        "identifier",
        "Numbers of this key server, from which its Sender-IDs are made where several lend them",
        Enter(IDENTIFIER),
        not_yet=_COOPERATION,
    ),
    Command(LOCAL_SERVER, "gdoi", "Serve the group by GDOI", Ignore("GDOI is the protocol that there is", exact=True)),
)

_SA_IPSEC = (
    Command(SA_IPSEC, "profile <name>", "IPsec profile: transform and lifetime", Set(), {"name": Name("Name of the profile")}),
    Command(
        SA_IPSEC,
        "match address ipv4 <list>",
        "What is encrypted, as an extended access list",
        Set(),
        {"list": ACCESS_LIST},
        negation_syntax="match address [[ipv4] <list> | ipv4]",
        aliases=(Alias("match address <list>", "match address ipv4 {list}"),),
        details="Denies stay in the clear, permits are encrypted, what matches neither stays in the clear. Up to 100 entries count. "
        "Each list stands alone: it has to permit both directions of what it protects.",
    ),
    Command(
        SA_IPSEC,
        "replay counter window-size <packets>",
        "Anti-replay by packet counter",
        Set(keeps_no=True, replaces=("replay time window-size",)),
        {"packets": Number(1, 1024, "Window in packets")},
        negation_syntax="replay counter [window-size [<packets>]]",
        aliases=(Alias("replay counter [window-size]", f"replay counter window-size {REPLAY_WINDOW}"),),
        details=(
            f"Without this line the window is {REPLAY_WINDOW} packets if the transform is of counter mode (GCM, GMAC, CTR), where "
            "receivers keep a window for each sender, and there is no anti-replay with any other transform: packets do not tell who sent "
            "them, so a window drops honest traffic of more than two members, or of a member that was restarted. "
            f"`replay counter` without a size means {REPLAY_WINDOW}. "
            "`no` switches it off in any case but one: replay by time, which the next command asks for, it leaves alone."
        ),
    ),
    Command(
        SA_IPSEC,
        "replay time window-size <seconds>",
        "Anti-replay by pseudotime",
        Set(replaces=("replay counter window-size",), takes_along=("replay counter window-size",)),
        {"seconds": Number(1, MAXIMUM_TIME_WINDOW, "Window in seconds")},
        negation_syntax="replay [time [window-size [<seconds>]]]",
        aliases=(Alias("replay time [window-size]", f"replay time window-size {MAXIMUM_TIME_WINDOW}"),),
        details=(
            "Members refuse packets that are older, by the key server's pseudotime, than the window; inside it they refuse those that they "
            "have seen, sender by sender. No octet is added to a packet. Right for any number of members and any transform that has an IV; "
            "every member has to know it. "
            f"`replay time` without a size means {MAXIMUM_TIME_WINDOW}, the routers' default, which is long. "
            "A window that is changed counts after `clear crypto gdoi` on the key server. "
            "`no replay` takes back what was said of either kind, also a `no`: what holds without a line is in force again."
        ),
    ),
    Command(
        SA_IPSEC,
        "tag cts sgt",
        "Packets carry the tag of their security group",
        Set(),
        negation_syntax="tag [cts sgt]",
        not_yet="tags of security groups",
    ),
)

_COOPERATIVE = (
    Command(
        COOPERATIVE,
        "local priority <priority>",
        "Priority of this key server; the highest becomes primary",
        Set(),
        {"priority": Number(0, 255, "Priority")},
        default="local priority 1",
        not_yet=_COOPERATION,
    ),
    Command(
        COOPERATIVE,
        "peer address ipv4 <address>",
        "Another key server of the group",
        Add(("address",), limit=MAXIMUM_KEY_SERVERS - 1),
        {"address": Address("Address of the peer")},
        negation=Negation.FULL,
        not_yet=_COOPERATION,
    ),
    Command(
        COOPERATIVE,
        "protocol version <version>",
        "Form of the messages between key servers",
        Set(),
        {"version": OneOf({"base": "base", "optimize": "optimize"}, "Form of messages")},
        not_yet=_COOPERATION,
    ),
)

_IDENTIFIER = (
    Command(
        IDENTIFIER,
        "range <lowest> - <highest>",
        "Numbers of this key server, which no other has",
        Add(("lowest", "highest")),
        {"lowest": _KEY_SERVER_ID, "highest": _KEY_SERVER_ID},
        negation=Negation.FULL,
        aliases=(Alias("range lowest <lowest> highest <highest>", "range {lowest} - {highest}"),),
        not_yet=_COOPERATION,
    ),
    Command(
        IDENTIFIER,
        "value <value>",
        "One such number",
        Add(("value",)),
        {"value": _KEY_SERVER_ID},
        negation=Negation.FULL,
        not_yet=_COOPERATION,
    ),
)

COMMANDS = _GROUP + _LOCAL_SERVER + _SA_IPSEC + _COOPERATIVE + _IDENTIFIER
