"""The examples of `docs/protocol/` are what the code sends, octet for octet."""

import re
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from gdoi_samples import deny, ike_pair, kek, permit, subnet, tek

from groupvpn.gdoi.acknowledgement import build_acknowledgement
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.offer import offer_of
from groupvpn.gdoi.payloads import read_offer, write_offer
from groupvpn.gdoi.pull import group_id, seal
from groupvpn.gdoi.rekey import Deletion, build_push
from groupvpn.ipsec.acl import AddressMatch
from groupvpn.wire.attributes import Attribute
from groupvpn.wire.gdoi_keys import KeyPacket
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation
from groupvpn.wire.payload import encode_payloads
from groupvpn.wire.payloads import Nonce

DOCUMENTS = Path(__file__).parents[2] / "docs" / "protocol"
EXAMPLE = re.compile(r"<!-- example: ([a-z0-9-]+) -->\n```\n([0-9a-f\s]+)```")
PAGES = ("access-lists", "registration", "rekey", "sender-ids")
EXAMPLES = {name: bytes.fromhex(octets) for page in PAGES for name, octets in EXAMPLE.findall((DOCUMENTS / f"{page}.md").read_text())}

NI, NR = b"\xaa" * 16, b"\xbb" * 16
ENTRIES = (
    deny(AddressMatch.any(), AddressMatch.any(), 17, 848, 848),
    permit(subnet("10.1.0.0", "0.0.255.255"), subnet("10.2.0.0", "0.0.255.255")),
    deny(AddressMatch.host(IPv4Address("10.3.0.9")), subnet("10.0.1.0", "0.255.0.255")),
    permit(AddressMatch.any(), AddressMatch.host(IPv4Address("239.1.1.1"))),
)


def access_list() -> bytes:
    """The SATs alone: what stands behind the twelve octets of the SA payload's own fields."""
    return write_offer(offer_of(Download((tek(entries=ENTRIES),)))).encode()[12:]


def pull_message(number: int) -> bytes:
    """The payloads of a message, read off the peer that decrypts it; the trailing zeros are the cipher's padding."""
    member, server = ike_pair()
    if number == 1:
        datagram = seal(member, 0x01020304, (), (Nonce(NI), group_id(3333)))
    else:
        datagram = seal(member, 0x01020304, (NI, NR), (GroupAssociatedPolicy((Attribute(3, 1),)),))
    _, plain = server.unprotect(datagram)
    return plain


class KeptSigner:
    """Keeps what it is asked to sign."""

    signature_length = 128

    def __init__(self) -> None:
        self.signed = b""

    def sign(self, _algorithm: object, octets: bytes) -> bytes:
        self.signed = octets
        return bytes(self.signature_length)


def signed() -> bytes:
    signer = KeptSigner()
    build_push(None, kek(), signer, 6, deletion=Deletion(kek=True))
    return signer.signed


MADE = {
    "access-list": access_list,
    "message-1": lambda: pull_message(1),
    "message-3": lambda: pull_message(3),
    "sender-ids": lambda: KeyPacket.sid(24, (5, 6)).encode(),
    "signed": signed,
    "acknowledgement": lambda: build_acknowledgement(kek(), 7, IPv4Address("10.0.1.1")),
}


def test_every_example_is_checked() -> None:
    assert sorted(EXAMPLES) == sorted(MADE)


@pytest.mark.parametrize("name", sorted(MADE))
def test_the_example_is_what_the_code_makes(name: str) -> None:
    made = MADE[name]()
    written = EXAMPLES[name]
    assert made[: len(written)].hex(" ") == written.hex(" ")
    assert not any(made[len(written) :]), "only a cipher's padding may be missing from an example"


def test_a_reader_of_the_example_gets_the_list() -> None:
    head = bytes.fromhex("00000002 00000000 0010 0000")
    (offered,) = read_offer(GroupSecurityAssociation.decode(head + EXAMPLES["access-list"])).teks
    assert offered.entries == ENTRIES


def test_the_sizes_that_the_page_tells() -> None:
    def octets(*lists: tuple[object, ...]) -> int:
        teks = tuple(tek(0x1000 + number, entries=entries) for number, entries in enumerate(lists))  # type: ignore[arg-type]
        return len(encode_payloads((Nonce(bytes(16)), write_offer(offer_of(Download(teks, kek())))))[1])

    one_permit = permit(subnet("10.1.0.0"), subnet("10.2.0.0"))
    one_deny = deny(subnet("10.1.0.0"), subnet("10.2.0.0"))
    assert octets((one_permit, one_permit)) - octets((one_permit,)) == 55
    assert octets((one_permit, one_deny)) - octets((one_permit,)) == 34
    _, server = ike_pair()
    longest = tuple(permit(subnet("10.1.0.0"), subnet("10.2.0.0"), 6, 0, port) for port in range(1, 101))
    sa = write_offer(offer_of(Download((tek(entries=longest),), kek())))
    assert len(seal(server, 1, (NI,), (Nonce(NR), sa))) == 5692
