"""Every transform against the Linux kernel's ESP: it opens what the engine seals, and the engine opens what it answers.

The kernel is set up as a member of a group would be: one SPI and one key for both directions, tunnel mode, and an outer header with the
addresses of the inner one. Its ICMP answers the questions, so both the request and its octets must have come through whole.
"""

import re
import struct
from collections.abc import Iterator

import pytest
from tests.engine.packets import DESTINATION, SOURCE, checksum, ipv4
from tests.engine.transforms import SPI, TRANSFORMS, Keys
from uml import INTERFACE, OUR_LINK, Guest

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

pytestmark = [pytest.mark.interop("linux.uml", "modprobe", "cc"), pytest.mark.netns]

KERNEL_CIPHER = {
    EspCipher.NULL: "ecb(cipher_null)",
    EspCipher.DES: "cbc(des)",
    EspCipher.TRIPLE_DES: "cbc(des3_ede)",
    EspCipher.AES_128_CBC: "cbc(aes)",
    EspCipher.AES_192_CBC: "cbc(aes)",
    EspCipher.AES_256_CBC: "cbc(aes)",
    **{cipher: "rfc4106(gcm(aes))" for cipher in EspCipher if "GCM" in cipher.name},
}
KERNEL_INTEGRITY = {
    EspIntegrity.HMAC_MD5_96: "hmac(md5)",
    EspIntegrity.HMAC_SHA1_96: "hmac(sha1)",
    EspIntegrity.HMAC_SHA2_256_128: "hmac(sha256)",
    EspIntegrity.HMAC_SHA2_384_192: "hmac(sha384)",
    EspIntegrity.HMAC_SHA2_512_256: "hmac(sha512)",
}
SIZES = (0, 1, 2, 15, 64, 1400)
WIRE_MTU = 2000
ESP, ICMP = 50, 1
ECHO_REPLY, ECHO_REQUEST = 0, 8
EXPEDITED = 0xB8
ICV_AND_REPLAY = re.compile(r"replay-window \d+ replay (\d+) failed (\d+)")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A kernel that protects what it exchanges with us, and has no SA yet."""
    guest = Guest(tmp_path_factory.mktemp("uml"), WIRE_MTU)
    try:
        guest.run(
            f"ip addr add {DESTINATION}/32 dev {INTERFACE}",
            f"ip route add {SOURCE}/32 dev {INTERFACE}",
            f"ip neigh add {SOURCE} lladdr {OUR_LINK.hex(':')} dev {INTERFACE}",
            *(
                f"ip xfrm policy add src {source} dst {destination} dir {way} tmpl src {source} dst {destination} proto esp mode tunnel"
                for source, destination, way in ((SOURCE, DESTINATION, "in"), (DESTINATION, SOURCE, "out"))
            ),
        )
        yield guest
    finally:
        guest.close()


def give(kernel: Guest, keys: Keys) -> None:
    """Replace the kernel's SAs with this one, for both directions."""
    if keys.cipher.is_counter_mode:
        bits = keys.cipher.icv_length * 8
        algorithms = f"aead '{KERNEL_CIPHER[keys.cipher]}' 0x{(keys.encryption + keys.salt).hex()} {bits}"
    else:
        encryption = f"0x{keys.encryption.hex()}" if keys.encryption else "''"
        algorithms = (
            f"auth-trunc '{KERNEL_INTEGRITY[keys.integrity]}' 0x{keys.authentication.hex()} {keys.integrity.icv_length * 8} "
            f"enc '{KERNEL_CIPHER[keys.cipher]}' {encryption}"
        )
    kernel.run(
        "ip xfrm state flush",
        *(
            f"ip xfrm state add src {source} dst {destination} proto esp spi {SPI:#x} mode tunnel replay-window 32 {algorithms}"
            for source, destination in ((SOURCE, DESTINATION), (DESTINATION, SOURCE))
        ),
    )


def refusals(kernel: Guest) -> tuple[int, int]:
    """What its inbound SA refused: packets that it has seen, and packets whose ICV does not verify."""
    found = ICV_AND_REPLAY.search(kernel.run(f"ip -s xfrm state get src {SOURCE} dst {DESTINATION} proto esp spi {SPI:#x}"))
    assert found is not None
    return int(found[1]), int(found[2])


def echo(kind: int, number: int, octets: bytes) -> bytes:
    """An ICMP echo message (RFC 792)."""
    message = struct.pack("!BBHHH", kind, 0, 0, 0x4756, number) + octets
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def pattern(size: int) -> bytes:
    return bytes(index & 0xFF for index in range(size))


def answer(kernel: Guest, ours: _engine.Sa) -> bytes:
    """The ICMP message in the kernel's next packet, which has to be ESP between the same two addresses, outside and inside."""
    sealed = kernel.receive()
    assert sealed[9] == ESP
    assert struct.unpack("!I", sealed[20:24]) == (SPI,)
    opened, reason = _engine.decapsulate([ours], sealed)
    assert reason == "ok"
    assert opened is not None
    assert opened[12:20] == sealed[12:20] == ipv4(b"", source=DESTINATION, destination=SOURCE)[12:20]
    assert opened[9] == ICMP
    assert opened[1] == sealed[1] == EXPEDITED
    return opened[20:]


@pytest.mark.parametrize(("cipher", "integrity"), TRANSFORMS, ids=lambda item: item.engine)
def test_the_kernel_and_the_engine_read_each_other(kernel: Guest, cipher: EspCipher, integrity: EspIntegrity) -> None:
    keys = Keys.fresh(cipher, integrity)
    give(kernel, keys)
    ours = keys.engine()
    for number, size in enumerate(SIZES):
        octets = pattern(size)
        kernel.send(_engine.encapsulate(ours, ipv4(echo(ECHO_REQUEST, number, octets), protocol=ICMP, tos=EXPEDITED)))
        assert answer(kernel, ours) == echo(ECHO_REPLY, number, octets), size
    assert ours.counters()["decrypted_packets"] == len(SIZES)
    assert refusals(kernel) == (0, 0)


@pytest.mark.parametrize(
    ("cipher", "integrity"),
    [
        (EspCipher.AES_128_GCM, EspIntegrity.NONE),
        (EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96),
        (EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128),
    ],
    ids=lambda item: item.engine,
)
def test_what_was_changed_on_the_way_is_not_answered(kernel: Guest, cipher: EspCipher, integrity: EspIntegrity) -> None:
    """Nor what comes in the clear: the first answer is to the whole packet that is sent last, and it is the only one."""
    keys = Keys.fresh(cipher, integrity)
    give(kernel, keys)
    ours = keys.engine()
    requests = [ipv4(echo(ECHO_REQUEST, number, pattern(64)), protocol=ICMP, tos=EXPEDITED) for number in range(7)]
    sealed = [_engine.encapsulate(ours, request) for request in requests]
    sequence, iv, middle, icv = 24, 28, len(sealed[0]) // 2, len(sealed[0]) - 1
    for packet, place in zip(sealed, (sequence, iv, middle, icv), strict=False):
        kernel.send(packet[:place] + bytes([packet[place] ^ 1]) + packet[place + 1 :])
    kernel.send(requests[4])
    kernel.send(sealed[5])
    kernel.send(sealed[6])
    assert [answer(kernel, ours) for _ in range(2)] == [echo(ECHO_REPLY, number, pattern(64)) for number in (5, 6)]
    assert refusals(kernel) == (0, 4)


def test_each_refuses_what_it_has_seen(kernel: Guest) -> None:
    """Both read the other's sequence numbers (RFC 4303 3.4.3)."""
    keys = Keys.fresh(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
    give(kernel, keys)
    ours, window = keys.engine(), keys.engine(replay_window=64)
    sealed = [_engine.encapsulate(ours, ipv4(echo(ECHO_REQUEST, number, b"once"), protocol=ICMP, tos=EXPEDITED)) for number in range(2)]
    for packet in (sealed[0], sealed[0], sealed[0], sealed[1]):
        kernel.send(packet)
    answers = [kernel.receive() for _ in range(2)]
    assert refusals(kernel) == (2, 0)
    assert [_engine.decapsulate([window], packet)[1] for packet in (*answers, *answers)] == ["ok", "ok", "replayed", "replayed"]
