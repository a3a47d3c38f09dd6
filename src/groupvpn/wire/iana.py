"""Numbers that IANA keeps for IP, ISAKMP, IPsec DOI and GDOI, each written once.

Algorithms are not here: ciphers, hashes and groups live in `groupvpn.crypto.registry`. Fields on the wire are decoded to plain `int`, for a
peer may send a number that is not listed; these enums compare equal to it.
"""

from enum import IntEnum, IntFlag


class IpProtocol(IntEnum):
    """Protocol of an IPv4 header, Next Header of IPv6: the values that we look at."""

    ICMP = 1
    IGMP = 2
    TCP = 6
    UDP = 17
    ESP = 50
    AH = 51
    ICMPV6 = 58
    PIM = 103


class Doi(IntEnum):
    """Domain of interpretation (RFC 2408 3.4, RFC 2407 4.1, RFC 6407 5.2)."""

    ISAKMP = 0
    IPSEC = 1
    GDOI = 2


class PayloadType(IntEnum):
    """Next Payload (RFC 2408 3.1, RFC 6407 5, RFC 3947 3.2 and 5.2; 19 is IANA's for RFC 3547 5.7)."""

    NONE = 0
    SA = 1
    PROPOSAL = 2
    TRANSFORM = 3
    KE = 4
    ID = 5
    CERT = 6
    CERTREQ = 7
    HASH = 8
    SIG = 9
    NONCE = 10
    NOTIFY = 11
    DELETE = 12
    VENDOR_ID = 13
    CONFIGURATION = 14
    SAK = 15
    SAT = 16
    KD = 17
    SEQ = 18
    POP = 19
    NAT_D = 20
    NAT_OA = 21
    GAP = 22


class ExchangeType(IntEnum):
    """Exchange Type (RFC 2408 3.1, RFC 2409 5, RFC 6407 3.3 and 4.2, RFC 8263 8).

    From 32 on the number means what the DOI says: 32 is quick mode under the IPsec DOI and GROUPKEY-PULL under GDOI, so QUICK is an alias.
    """

    BASE = 1
    MAIN = 2
    AUTHENTICATION_ONLY = 3
    AGGRESSIVE = 4
    INFORMATIONAL = 5
    TRANSACTION = 6
    GROUPKEY_PULL = 32
    QUICK = 32
    GROUPKEY_PUSH = 33
    GROUPKEY_PUSH_ACK = 35


class Flag(IntFlag):
    """Flags of the ISAKMP header (RFC 2408 3.1)."""

    NONE = 0
    ENCRYPTION = 1
    COMMIT = 2
    AUTHENTICATION_ONLY = 4


class ProtocolId(IntEnum):
    """Security protocols of the IPsec DOI (RFC 2407 4.4.1)."""

    ISAKMP = 1
    AH = 2
    ESP = 3
    IPCOMP = 4


class TekProtocolId(IntEnum):
    """Security protocols of a SAT, and of a Delete under GDOI, where 0 stands for the KEK (RFC 6407 5.5, 5.9)."""

    KEK = 0
    ESP = 1
    AH = 2


class IdType(IntEnum):
    """Identification types (RFC 2407 4.6.2.1, RFC 8052 2.1 for the last)."""

    IPV4_ADDR = 1
    FQDN = 2
    USER_FQDN = 3
    IPV4_ADDR_SUBNET = 4
    IPV6_ADDR = 5
    IPV6_ADDR_SUBNET = 6
    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11
    LIST = 12
    OID = 13


class CertificateEncoding(IntEnum):
    """Certificate encodings (RFC 2408 3.9)."""

    NONE = 0
    PKCS7 = 1
    PGP = 2
    DNS_SIGNED_KEY = 3
    X509_SIGNATURE = 4
    X509_KEY_EXCHANGE = 5
    KERBEROS = 6
    CRL = 7
    ARL = 8
    SPKI = 9
    X509_ATTRIBUTE = 10


class NotifyType(IntEnum):
    """Notify message types (RFC 2408 3.14.1, RFC 2407 4.6.3, RFC 3706 5.2)."""

    INVALID_PAYLOAD_TYPE = 1
    DOI_NOT_SUPPORTED = 2
    SITUATION_NOT_SUPPORTED = 3
    INVALID_COOKIE = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_MINOR_VERSION = 6
    INVALID_EXCHANGE_TYPE = 7
    INVALID_FLAGS = 8
    INVALID_MESSAGE_ID = 9
    INVALID_PROTOCOL_ID = 10
    INVALID_SPI = 11
    INVALID_TRANSFORM_ID = 12
    ATTRIBUTES_NOT_SUPPORTED = 13
    NO_PROPOSAL_CHOSEN = 14
    BAD_PROPOSAL_SYNTAX = 15
    PAYLOAD_MALFORMED = 16
    INVALID_KEY_INFORMATION = 17
    INVALID_ID_INFORMATION = 18
    INVALID_CERT_ENCODING = 19
    INVALID_CERTIFICATE = 20
    CERT_TYPE_UNSUPPORTED = 21
    INVALID_CERT_AUTHORITY = 22
    INVALID_HASH_INFORMATION = 23
    AUTHENTICATION_FAILED = 24
    INVALID_SIGNATURE = 25
    ADDRESS_NOTIFICATION = 26
    NOTIFY_SA_LIFETIME = 27
    CERTIFICATE_UNAVAILABLE = 28
    UNSUPPORTED_EXCHANGE_TYPE = 29
    UNEQUAL_PAYLOAD_LENGTHS = 30
    CONNECTED = 16384
    RESPONDER_LIFETIME = 24576
    REPLAY_STATUS = 24577
    INITIAL_CONTACT = 24578
    R_U_THERE = 36136
    R_U_THERE_ACK = 36137


class Situation(IntFlag):
    """Situation of the IPsec DOI (RFC 2407 4.2). Under GDOI the field is zero (RFC 6407 5.2)."""

    IDENTITY_ONLY = 1
    SECRECY = 2
    INTEGRITY = 4


class IkeAttribute(IntEnum):
    """Attribute classes of a phase 1 transform (RFC 2409 appendix A)."""

    ENCRYPTION_ALGORITHM = 1
    HASH_ALGORITHM = 2
    AUTHENTICATION_METHOD = 3
    GROUP_DESCRIPTION = 4
    GROUP_TYPE = 5
    GROUP_PRIME = 6
    GROUP_GENERATOR_ONE = 7
    GROUP_GENERATOR_TWO = 8
    GROUP_CURVE_A = 9
    GROUP_CURVE_B = 10
    LIFE_TYPE = 11
    LIFE_DURATION = 12
    PRF = 13
    KEY_LENGTH = 14
    FIELD_SIZE = 15
    GROUP_ORDER = 16


class LifeType(IntEnum):
    """Units of a life duration, in phase 1 and in IPsec alike (RFC 2409 appendix A, RFC 2407 4.5)."""

    SECONDS = 1
    KILOBYTES = 2


KEY_IKE = 1
"""Transform id of every phase 1 transform (RFC 2407 4.4.2.1)."""


class IpsecAttribute(IntEnum):
    """Attribute classes of an IPsec SA, which a SAT carries too (RFC 2407 4.5, RFC 4359 6, RFC 6407 5.5.1.1, IANA)."""

    LIFE_TYPE = 1
    LIFE_DURATION = 2
    GROUP_DESCRIPTION = 3
    ENCAPSULATION_MODE = 4
    AUTHENTICATION_ALGORITHM = 5
    KEY_LENGTH = 6
    KEY_ROUNDS = 7
    COMPRESS_DICTIONARY_SIZE = 8
    COMPRESS_PRIVATE_ALGORITHM = 9
    ECN_TUNNEL = 10
    EXTENDED_SEQUENCE_NUMBER = 11
    AUTHENTICATION_KEY_LENGTH = 12
    SIGNATURE_ENCODING = 13
    ADDRESS_PRESERVATION = 14
    SA_DIRECTION = 15


class EncapsulationMode(IntEnum):
    """Encapsulation modes (RFC 2407 4.5, RFC 3947 5.1)."""

    TUNNEL = 1
    TRANSPORT = 2
    UDP_TUNNEL = 3
    UDP_TRANSPORT = 4


class AddressPreservation(IntEnum):
    """Which inner addresses the outer header repeats; both when the attribute is absent (RFC 6407 5.5.1.1.1)."""

    NONE = 1
    SOURCE_ONLY = 2
    DESTINATION_ONLY = 3
    SOURCE_AND_DESTINATION = 4


class SaDirection(IntEnum):
    """Which way a data-security SA is installed; symmetric when the attribute is absent (RFC 6407 5.5.1.1.2)."""

    SENDER_ONLY = 1
    RECEIVER_ONLY = 2
    SYMMETRIC = 3


class KekAttribute(IntEnum):
    """Attribute classes of a SAK (RFC 6407 5.3; 8 was KE_OAKLEY_GROUP in RFC 3547 5.3.9; 9 is RFC 8263 2)."""

    MANAGEMENT_ALGORITHM = 1
    ALGORITHM = 2
    KEY_LENGTH = 3
    KEY_LIFETIME = 4
    SIG_HASH_ALGORITHM = 5
    SIG_ALGORITHM = 6
    SIG_KEY_LENGTH = 7
    KE_OAKLEY_GROUP = 8
    ACK_REQUESTED = 9


class SignatureAlgorithm(IntEnum):
    """SIG_ALGORITHM (RFC 6407 5.3.6)."""

    RSA = 1
    DSS = 2
    ECDSS = 3
    ECDSA_256 = 4
    ECDSA_384 = 5
    ECDSA_521 = 6


class KekAckRequested(IntEnum):
    """KEK_ACK_REQUESTED (RFC 8263 2 and 8)."""

    KEK_SHA256 = 1
    LKH_SHA256 = 2
    KEK_SHA512 = 3
    LKH_SHA512 = 4


class GapAttribute(IntEnum):
    """Attribute classes of a GAP (RFC 6407 5.4)."""

    ACTIVATION_TIME_DELAY = 1
    DEACTIVATION_TIME_DELAY = 2
    SENDER_ID_REQUEST = 3


class KeyDownloadType(IntEnum):
    """KD Type of a key packet (RFC 6407 5.6)."""

    TEK = 1
    KEK = 2
    LKH = 3
    SID = 4


class TekKeyAttribute(IntEnum):
    """Attribute classes of a TEK key packet (RFC 6407 5.6.1)."""

    ALGORITHM_KEY = 1
    INTEGRITY_KEY = 2
    SOURCE_AUTH_KEY = 3


class KekKeyAttribute(IntEnum):
    """Attribute classes of a KEK key packet (RFC 6407 5.6.2)."""

    ALGORITHM_KEY = 1
    SIG_ALGORITHM_KEY = 2


class LkhKeyAttribute(IntEnum):
    """Attribute classes of an LKH key packet (RFC 6407 5.6.3)."""

    DOWNLOAD_ARRAY = 1
    UPDATE_ARRAY = 2
    SIG_ALGORITHM_KEY = 3


class SidAttribute(IntEnum):
    """Attribute classes of a SID key packet (RFC 6407 5.6.4)."""

    NUMBER_OF_SID_BITS = 1
    SID_VALUE = 2


_PAYLOAD_NAMES = {
    PayloadType.NONE: "none",
    PayloadType.PROPOSAL: "P",
    PayloadType.TRANSFORM: "T",
    PayloadType.CERTREQ: "CR",
    PayloadType.NOTIFY: "N",
    PayloadType.DELETE: "D",
    PayloadType.VENDOR_ID: "VID",
    PayloadType.CONFIGURATION: "ATTR",
    PayloadType.NAT_D: "NAT-D",
    PayloadType.NAT_OA: "NAT-OA",
}

_EXCHANGE_NAMES = {
    ExchangeType.BASE: "base",
    ExchangeType.MAIN: "main mode",
    ExchangeType.AUTHENTICATION_ONLY: "authentication only",
    ExchangeType.AGGRESSIVE: "aggressive mode",
    ExchangeType.INFORMATIONAL: "informational",
    ExchangeType.TRANSACTION: "transaction",
    ExchangeType.GROUPKEY_PULL: "GROUPKEY-PULL",
    ExchangeType.GROUPKEY_PUSH: "GROUPKEY-PUSH",
    ExchangeType.GROUPKEY_PUSH_ACK: "GROUPKEY-PUSH-ACK",
}


def payload_name(number: int) -> str:
    """Short name of a payload type for logs, as the RFCs' message diagrams have it: `SA`, `KE`, `NAT-D`, or `payload 99`."""
    try:
        kind = PayloadType(number)
    except ValueError:
        return f"payload {number}"
    return _PAYLOAD_NAMES.get(kind, kind.name)


def exchange_name(number: int) -> str:
    """Name of an exchange type for logs; 32 and up are those of GDOI."""
    try:
        return _EXCHANGE_NAMES[ExchangeType(number)]
    except (ValueError, KeyError):
        return f"exchange {number}"


def notify_name(number: int) -> str:
    """Name of a notify message type for logs, in the RFCs' spelling: `NO-PROPOSAL-CHOSEN`, `R-U-THERE`, or `notify 40500`."""
    try:
        return NotifyType(number).name.replace("_", "-")
    except ValueError:
        return f"notify {number}"
