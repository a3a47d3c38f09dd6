"""The one registry of algorithms: IANA numbers, key sizes, the configuration's keywords, the engine's names.

Nothing else in the project holds a table of ciphers. Every member of these enums carries what the standards say of it; lookups by wire
value or by keyword are class methods, which raise `UnknownAlgorithmError` with the offending value.
"""

from enum import Enum
from typing import ClassVar, Self


class UnknownAlgorithmError(ValueError):
    """A number or keyword that names no algorithm we have."""


class _ByAttribute(Enum):
    """Algorithms each of which one value of an attribute names; `called` is how errors name them."""

    attribute: int
    called: ClassVar[str]

    def __init_subclass__(cls, *, called: str) -> None:
        cls.called = called

    @classmethod
    def from_wire(cls, attribute: int) -> Self:
        """The algorithm with this value of the attribute. Raises `UnknownAlgorithmError` if there is none."""
        for algorithm in cls:
            if algorithm.attribute == attribute:
                return algorithm
        raise UnknownAlgorithmError(f"{cls.called} {attribute}")


class _BlockCipher(Enum):
    """Ciphers of ISAKMP messages: `(value of the attribute, key octets, block octets, keyword)`; `called` is how errors name them.

    Of one value the shortest key comes first.
    """

    called: ClassVar[str]

    def __init_subclass__(cls, *, called: str) -> None:
        cls.called = called

    def __init__(self, attribute: int, key_length: int, block_length: int, keyword: str) -> None:
        self.attribute = attribute
        self.key_length = key_length
        self.block_length = block_length
        self.keyword = keyword

    @classmethod
    def from_wire(cls, attribute: int, key_bits: int) -> Self:
        """The cipher with this value; `key_bits` is 0 where no attribute for the length came.

        Raises `UnknownAlgorithmError` if there is none.
        """
        for cipher in cls:
            if cipher.attribute == attribute and cipher.key_length * 8 == (key_bits or cipher.key_length * 8):
                return cipher
        raise UnknownAlgorithmError(f"{cls.called} {attribute} with {key_bits} bits")


class EspCipher(Enum):
    """Ciphers of ESP: `(engine name, IANA transform id, key octets, IV octets, salt octets, ICV octets, set keyword, show keyword)`.

    Transform ids: RFC 2407 4.4.4 and IANA "IPSEC ESP Transform Identifiers": AES-CBC 12 (RFC 3602), AES-CTR 13 (RFC 3686), AES-GCM with an
    ICV of 8, 12 and 16 octets 18, 19 and 20 (RFC 4106), GMAC without encryption 23 (RFC 4543). Of one id the shortest key comes first.
    """

    NULL = ("null", 11, 0, 0, 0, 0, "esp-null", "esp-null")
    DES = ("des-cbc", 2, 8, 8, 0, 0, "esp-des", "esp-des")
    TRIPLE_DES = ("3des-cbc", 3, 24, 8, 0, 0, "esp-3des", "esp-3des")
    AES_128_CBC = ("aes-128-cbc", 12, 16, 16, 0, 0, "esp-aes", "esp-aes")
    AES_192_CBC = ("aes-192-cbc", 12, 24, 16, 0, 0, "esp-aes 192", "esp-192-aes")
    AES_256_CBC = ("aes-256-cbc", 12, 32, 16, 0, 0, "esp-aes 256", "esp-256-aes")
    AES_128_GCM = ("aes-128-gcm", 20, 16, 8, 4, 16, "esp-gcm", "esp-gcm")
    AES_192_GCM = ("aes-192-gcm", 20, 24, 8, 4, 16, "esp-gcm 192", "esp-gcm 192")
    AES_256_GCM = ("aes-256-gcm", 20, 32, 8, 4, 16, "esp-gcm 256", "esp-gcm 256")
    AES_128_GCM_8 = ("aes-128-gcm-8", 18, 16, 8, 4, 8, "esp-gcm 128 icv 8", "esp-gcm 128 icv 8")
    AES_192_GCM_8 = ("aes-192-gcm-8", 18, 24, 8, 4, 8, "esp-gcm 192 icv 8", "esp-gcm 192 icv 8")
    AES_256_GCM_8 = ("aes-256-gcm-8", 18, 32, 8, 4, 8, "esp-gcm 256 icv 8", "esp-gcm 256 icv 8")
    AES_128_GCM_12 = ("aes-128-gcm-12", 19, 16, 8, 4, 12, "esp-gcm 128 icv 12", "esp-gcm 128 icv 12")
    AES_192_GCM_12 = ("aes-192-gcm-12", 19, 24, 8, 4, 12, "esp-gcm 192 icv 12", "esp-gcm 192 icv 12")
    AES_256_GCM_12 = ("aes-256-gcm-12", 19, 32, 8, 4, 12, "esp-gcm 256 icv 12", "esp-gcm 256 icv 12")
    AES_128_GMAC = ("aes-128-gmac", 23, 16, 8, 4, 16, "esp-gmac", "esp-gmac")
    AES_192_GMAC = ("aes-192-gmac", 23, 24, 8, 4, 16, "esp-gmac 192", "esp-gmac 192")
    AES_256_GMAC = ("aes-256-gmac", 23, 32, 8, 4, 16, "esp-gmac 256", "esp-gmac 256")
    AES_128_CTR = ("aes-128-ctr", 13, 16, 8, 4, 0, "esp-ctr", "esp-ctr")
    AES_192_CTR = ("aes-192-ctr", 13, 24, 8, 4, 0, "esp-ctr 192", "esp-ctr 192")
    AES_256_CTR = ("aes-256-ctr", 13, 32, 8, 4, 0, "esp-ctr 256", "esp-ctr 256")

    def __init__(
        self,
        engine: str,
        transform_id: int,
        key_length: int,
        iv_length: int,
        salt_length: int,
        icv_length: int,
        keyword: str,
        show_keyword: str,
    ) -> None:
        self.engine = engine
        self.transform_id = transform_id
        self.key_length = key_length
        self.iv_length = iv_length
        self.salt_length = salt_length
        self.icv_length = icv_length
        self.keyword = keyword
        self.show_keyword = show_keyword

    @property
    def is_counter_mode(self) -> bool:
        """Whether two packets under one key must never share an IV, so that senders of a group need Sender-IDs (RFC 6054)."""
        return self.salt_length > 0

    @property
    def is_combined(self) -> bool:
        """Whether it authenticates by itself, so that no integrity algorithm goes with it: GCM and GMAC."""
        return self.icv_length > 0

    @property
    def hides(self) -> bool:
        """Whether it encrypts at all: NULL and GMAC do not (RFC 2410, RFC 4543)."""
        return self is not EspCipher.NULL and self.transform_id != 23

    @property
    def has_variable_key(self) -> bool:
        """Whether the Key Length attribute (in bits) must accompany it on the wire (RFC 2407 4.5): all that build on AES."""
        return self.transform_id in (12, 13, 18, 19, 20, 23)

    @property
    def is_legacy(self) -> bool:
        """Whether RFC 8221 says MUST NOT or SHOULD NOT, so that configuring it earns a warning."""
        return self in (EspCipher.DES, EspCipher.TRIPLE_DES)

    @classmethod
    def from_wire(cls, transform_id: int, key_length: int) -> "EspCipher":
        """The cipher with this transform id; `key_length` in octets tells AES sizes apart, 0 if the wire named none (then 128 bits).

        Raises `UnknownAlgorithmError` if there is none.
        """
        for cipher in cls:
            if cipher.transform_id == transform_id and cipher.key_length == (key_length or cipher.key_length):
                return cipher
        raise UnknownAlgorithmError(f"ESP transform {transform_id} with a {key_length}-octet key")


class EspIntegrity(_ByAttribute, called="ESP authentication algorithm"):
    """Integrity of ESP and AH: `(engine name, IANA authentication algorithm, AH transform id, key octets, ICV octets, keyword)`.

    Numbers: RFC 2407 4.5 and 4.4.3, RFC 4868, IANA "IPSEC AH Transform Identifiers". AH calls each by two of them.
    """

    NONE = ("none", 0, 0, 0, 0, "")
    HMAC_MD5_96 = ("hmac-md5-96", 1, 2, 16, 12, "esp-md5-hmac")
    HMAC_SHA1_96 = ("hmac-sha1-96", 2, 3, 20, 12, "esp-sha-hmac")
    HMAC_SHA2_256_128 = ("hmac-sha2-256-128", 5, 5, 32, 16, "esp-sha256-hmac")
    HMAC_SHA2_384_192 = ("hmac-sha2-384-192", 6, 6, 48, 24, "esp-sha384-hmac")
    HMAC_SHA2_512_256 = ("hmac-sha2-512-256", 7, 7, 64, 32, "esp-sha512-hmac")

    def __init__(self, engine: str, attribute: int, ah_transform_id: int, key_length: int, icv_length: int, keyword: str) -> None:
        self.engine = engine
        self.attribute = attribute
        self.ah_transform_id = ah_transform_id
        self.key_length = key_length
        self.icv_length = icv_length
        self.keyword = keyword

    @property
    def ah_keyword(self) -> str:
        """The keyword of AH with it; nothing for `NONE`."""
        return self.keyword.replace("esp", "ah", 1)

    @property
    def is_legacy(self) -> bool:
        """Whether RFC 8221 advises against it."""
        return self in (EspIntegrity.HMAC_MD5_96, EspIntegrity.HMAC_SHA1_96)


class IkeCipher(_BlockCipher, called="IKE encryption algorithm"):
    """Ciphers of IKEv1: `(IANA encryption algorithm, key octets, block octets, keyword)` (RFC 2409 appendix A, RFC 3602)."""

    DES = (1, 8, 8, "des")
    TRIPLE_DES = (5, 24, 8, "3des")
    AES_128 = (7, 16, 16, "aes")
    AES_192 = (7, 24, 16, "aes 192")
    AES_256 = (7, 32, 16, "aes 256")

    @property
    def has_variable_key(self) -> bool:
        """Whether the Key Length attribute (in bits) accompanies it on the wire."""
        return self.attribute == 7

    @property
    def is_legacy(self) -> bool:
        """Whether it is advised against today (RFC 8247)."""
        return self.attribute != 7


class IkeHash(_ByAttribute, called="IKE hash algorithm"):
    """Hashes of IKEv1 (their HMAC is the prf): `(IANA hash algorithm, keyword)` (RFC 2409 appendix A, IANA)."""

    MD5 = (1, "md5")
    SHA1 = (2, "sha")
    SHA2_256 = (4, "sha256")
    SHA2_384 = (5, "sha384")
    SHA2_512 = (6, "sha512")

    def __init__(self, attribute: int, keyword: str) -> None:
        self.attribute = attribute
        self.keyword = keyword

    @property
    def library_name(self) -> str:
        """What `hashlib` calls it."""
        return self.name.lower().replace("sha2_", "sha")

    @property
    def is_legacy(self) -> bool:
        """Whether it is advised against today (RFC 8247)."""
        return self in (IkeHash.MD5, IkeHash.SHA1)


class IkeGroup(Enum):
    """Diffie-Hellman groups: `(IANA group, bits)` (RFC 2409 6, RFC 3526, RFC 5903, RFC 5114 for group 24)."""

    MODP_768 = (1, 768)
    MODP_1024 = (2, 1024)
    MODP_1536 = (5, 1536)
    MODP_2048 = (14, 2048)
    MODP_3072 = (15, 3072)
    MODP_4096 = (16, 4096)
    ECP_256 = (19, 256)
    ECP_384 = (20, 384)
    ECP_521 = (21, 521)
    MODP_2048_256 = (24, 2048)

    def __init__(self, number: int, bits: int) -> None:
        self.number = number
        self.bits = bits

    @property
    def is_legacy(self) -> bool:
        """Whether it is advised against today (RFC 8247)."""
        return self.number in (1, 2, 5, 24)

    @classmethod
    def from_wire(cls, number: int) -> "IkeGroup":
        """The group with this number. Raises `UnknownAlgorithmError` if there is none."""
        for item in cls:
            if item.number == number:
                return item
        raise UnknownAlgorithmError(f"Diffie-Hellman group {number}")


class IkeAuthentication(_ByAttribute, called="IKE authentication method"):
    """How the peers of phase 1 prove who they are: `(IANA authentication method, keyword)`."""

    PRE_SHARED_KEY = (1, "pre-share")
    RSA_SIGNATURES = (3, "rsa-sig")
    RSA_ENCRYPTION = (4, "rsa-encr")

    def __init__(self, attribute: int, keyword: str) -> None:
        self.attribute = attribute
        self.keyword = keyword


class KekCipher(_BlockCipher, called="KEK algorithm"):
    """Ciphers of the rekey SA: `(IANA KEK_ALGORITHM, key octets, block octets, keyword)` (RFC 6407 5.3.2)."""

    DES_CBC = (1, 8, 8, "des-cbc")
    TRIPLE_DES_CBC = (2, 24, 8, "3des-cbc")
    AES_128_CBC = (3, 16, 16, "aes 128")
    AES_192_CBC = (3, 24, 16, "aes 192")
    AES_256_CBC = (3, 32, 16, "aes 256")

    @property
    def has_variable_key(self) -> bool:
        """Whether KEK_KEY_LENGTH (in bits) must accompany it on the wire."""
        return self.attribute == 3

    @property
    def is_legacy(self) -> bool:
        """Whether it is advised against today (RFC 8221)."""
        return self.attribute != 3


class SignatureHash(_ByAttribute, called="signature hash algorithm"):
    """Hash under the signature of a rekey message: `(IANA SIG_HASH_ALGORITHM, keyword)` (RFC 6407 5.3.6)."""

    SHA1 = (2, "sha")
    SHA2_256 = (3, "sha256")
    SHA2_384 = (4, "sha384")
    SHA2_512 = (5, "sha512")

    def __init__(self, attribute: int, keyword: str) -> None:
        self.attribute = attribute
        self.keyword = keyword

    @property
    def library_name(self) -> str:
        """What `hashlib` calls it."""
        return self.name.lower().replace("sha2_", "sha")
