"""RSA keys, certificates and the names in them. Keys are made by exec commands; trustpoints wait for the PKI slice."""

from groupvpn.config.arguments import Hex, Line, Name, OneOf, SecretLine
from groupvpn.config.grammar.modes import CERTIFICATE, CERTIFICATE_CHAIN, CRYPTO_IDENTITY, GLOBAL, TRUSTPOINT
from groupvpn.config.language import Add, Alias, Command, Enter, Ignore, Negation, Set

_PKI = "certificates"
_EXEC = "keys are made and kept by exec commands, not by a configuration: run it with `groupvpn exec NAME`"
_LINES = (
    ("enrollment {mode ra | url <url> | terminal [pem] | selfsigned | retry <text>}", "How to get a certificate"),
    ("serial-number [none]", "Put the serial number into the subject"),
    ("ip-address [<text>]", "Put an address into the subject"),
    ("fqdn <text>", "Put a name into the subject"),
    ("subject-name [<text>]", "The subject of the certificate"),
    ("revocation-check <text>", "How to learn of revoked certificates"),
    ("auto-enroll [<text>]", "Renew by itself"),
    ("rsakeypair <text>", "The key pair to certify"),
    ("crl <text>", "Revocation list"),
    ("source interface <text>", "Interface to enrol from"),
    ("usage <text>", "What the certificate is for"),
    ("password <secret>", "Challenge password"),
    ("hash <text>", "Hash of the request"),
    ("vrf <text>", "Routing table to enrol through"),
    ("authorization <text>", "Authorization of peers"),
    ("match certificate <text>", "Filter of peers' certificates"),
    ("chain-validation [<text>]", "Depth of validation"),
)

COMMANDS = (
    Command(
        GLOBAL,
        "crypto key {generate | zeroize | export | import} rsa [<options>]",
        "Make, delete, export or import RSA keys",
        Ignore(_EXEC, warns=True),
        {"options": Line("Options")},
        negation=Negation.NONE,
    ),
    Command(
        GLOBAL,
        "crypto identity <name>",
        "Certificate names, for authorization",
        Enter(CRYPTO_IDENTITY, ("name",)),
        {"name": Name("Name of the list")},
        negation=Negation.FULL,
        not_yet=_PKI,
    ),
    Command(CRYPTO_IDENTITY, "dn <names>", "Parts of a distinguished name", Set(), {"names": Line("ou=NAME, ...")}, not_yet=_PKI),
    Command(CRYPTO_IDENTITY, "fqdn <name>", "A host name", Set(), {"name": Name("Host name")}, not_yet=_PKI),
    Command(
        GLOBAL,
        "crypto pki trustpoint <name>",
        "A certificate authority and how to use it",
        Enter(TRUSTPOINT, ("name",)),
        {"name": Name("Name of the trustpoint")},
        negation=Negation.FULL,
        aliases=(Alias("crypto ca trustpoint <name>", "crypto pki trustpoint {name}"),),
        not_yet=_PKI,
    ),
    *(
        Command(
            TRUSTPOINT,
            syntax,
            summary,
            Add(),
            {"url": Name("URL", 256), "text": Line("Value"), "secret": SecretLine("Value")},
            not_yet=_PKI,
        )
        for syntax, summary in _LINES
    ),
    Command(
        GLOBAL,
        "crypto pki certificate chain <name>",
        "The certificates of a trustpoint",
        Enter(CERTIFICATE_CHAIN, ("name",)),
        {"name": Name("Name of the trustpoint")},
        negation=Negation.FULL,
        aliases=(Alias("crypto ca certificate chain <name>", "crypto pki certificate chain {name}"),),
        not_yet=_PKI,
    ),
    Command(
        CERTIFICATE_CHAIN,
        "certificate [<kind>] <serial> [nvram <file>]",
        "A certificate",
        Enter(CERTIFICATE, ("kind", "serial")),
        {
            "kind": OneOf({word: word for word in ("ca", "self-signed", "rollover")}, "Kind of certificate"),
            "serial": Hex("Serial number"),
            "file": Name("File"),
        },
        negation=Negation.FULL,
        not_yet=_PKI,
    ),
    Command(CERTIFICATE, "<octets> ...", "The certificate, in hexadecimal", Add(), {"octets": Hex("Octets")}, not_yet=_PKI),
    Command(
        GLOBAL,
        "crypto key pubkey-chain rsa",
        "Public keys of peers",
        Ignore("peers' keys come by certificate or rekey policy"),
    ),
    Command(
        GLOBAL,
        "crypto engine <options>",
        "Hardware",
        Ignore("a setting of router hardware"),
        {"options": Line("Options")},
    ),
    Command(
        GLOBAL,
        "crypto call admission limit <options>",
        "Limits",
        Ignore("the node has limits of its own"),
        {"options": Line("Options")},
    ),
    Command(
        GLOBAL,
        "crypto logging <options>",
        "Logging",
        Ignore("the node logs sessions by itself"),
        {"options": Line("Options")},
    ),
)
