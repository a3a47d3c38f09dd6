"""What a holder of the KEK and of the signing key pushes: a `Push`, or a `GdoiError`. Any other octets: a `GdoiError`."""

from dataclasses import replace
from ipaddress import IPv4Address

from groupvpn.crypto import cbc
from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.acknowledgement import parse_acknowledgement
from groupvpn.gdoi.download import Kek
from groupvpn.gdoi.refusal import GdoiError
from groupvpn.gdoi.rekey import LABEL, Push, parse_push
from groupvpn.wire.iana import ExchangeType, Flag
from groupvpn.wire.isakmp import HEADER_LENGTH, Header
from groupvpn.wire.payload import GENERIC_HEADER_LENGTH
from targets.rig import SIGNER

KEK = Kek(
    spi=bytes(range(16)),
    cipher=KekCipher.AES_128_CBC,
    key=Secret(bytes(16)),
    iv=bytes(16),
    signature_hash=SignatureHash.SHA2_256,
    public_key=SIGNER.public.der,
    lifetime=86400,
    source=IPv4Address("10.0.0.1"),
    destination=IPv4Address("10.0.1.1"),
    acknowledge=True,
)
SEQUENCE = 18


def one_input(data: bytes) -> None:
    """`o` and octets: any datagram. Else octet 0 is the type of the payload behind SEQ, and the rest are payloads; SIG is made for them."""
    if not data:
        return
    datagram = data[1:] if data[:1] == b"o" else signed(data[0], data[1:])
    try:
        push = parse_push(datagram, KEK)
        assert isinstance(push, Push)
        assert push.sequence == 7
    except GdoiError as error:
        assert str(error)
    try:
        parse_acknowledgement(datagram, KEK)
    except GdoiError as error:
        assert str(error)


def signed(kind: int, octets: bytes, kek: Kek = KEK) -> bytes:
    """SEQ, `octets`, SIG under `kek`. The last payload in `octets` has to say that a SIG (9) follows."""
    covered = bytes((kind, 0, 0, 8, 0, 0, 0, 7)) + octets
    length = HEADER_LENGTH + len(covered) + GENERIC_HEADER_LENGTH + SIGNER.signature_length
    header = Header(kek.spi[:8], kek.spi[8:], SEQUENCE, ExchangeType.GROUPKEY_PUSH, int(Flag.ENCRYPTION), 0, length)
    signature = SIGNER.sign(kek.signature_hash, LABEL + header.encode() + covered)
    last = bytes((0, 0)) + (GENERIC_HEADER_LENGTH + len(signature)).to_bytes(2, "big") + signature
    plain = cbc.pad(kek.cipher, covered + last)
    return replace(header, length=HEADER_LENGTH + len(plain)).encode() + cbc.encrypt(kek.cipher, kek.key, kek.iv, plain)
