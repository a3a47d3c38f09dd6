"""tshark reads a whole registration and a rekey of ours, and what it shows is what we meant.

tshark 4.0 predates much of GDOI: it calls exchange 32 Quick Mode and 33 New Group Mode, gives KEK attributes the names of IPsec attributes
of the same numbers, and reads identity lengths in a SAT as two octets. So each message is shown twice: as it was sent, decrypted by tshark
with the key table; and in the clear with the other width of those lengths, so that tshark finds the fields behind them.
"""

import re
import subprocess
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from captures import pcap

from groupvpn.config import Configuration, parse
from groupvpn.crypto import cbc
from groupvpn.effects import Effect, Send
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import KeysDerived
from groupvpn.lab.seeded_rsa import seeded_key
from groupvpn.lab.simulation import Simulation
from groupvpn.wire.chain import decode_chain
from groupvpn.wire.gdoi_sa import GroupSecurityAssociation, SaTek
from groupvpn.wire.iana import Doi, ExchangeType, Flag, PayloadType
from groupvpn.wire.isakmp import HEADER_LENGTH, Header, encode_message
from groupvpn.wire.payload import Payload

pytestmark = pytest.mark.interop("tshark")
SERVER, MEMBER = IPv4Address("10.0.0.1"), IPv4Address("10.0.1.1")

PHASE_1 = """
crypto isakmp policy 10
 encr aes 256
 hash sha256
 authentication pre-share
 group 14
crypto isakmp key a-shared-key address 0.0.0.0 0.0.0.0
"""
KEY_SERVER = f"""{PHASE_1}
crypto ipsec transform-set CBC esp-aes 256 esp-sha256-hmac
crypto ipsec transform-set GCM esp-gcm 256
crypto ipsec profile ONE
 set security-association lifetime seconds 3600
 set transform-set CBC
crypto ipsec profile TWO
 set security-association lifetime seconds 7200
 set transform-set GCM
crypto gdoi group GET
 identity number 1234
 server local
  rekey algorithm aes 256
  rekey lifetime seconds 86400
  rekey sig-hash algorithm sha256
  rekey authentication mypubkey rsa KEYS
  rekey transport unicast
  sa ipsec 1
   profile ONE
   match address ipv4 FIRST
  sa ipsec 2
   profile TWO
   match address ipv4 SECOND
  address ipv4 {SERVER}
ip access-list extended FIRST
 permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255
ip access-list extended SECOND
 permit tcp 10.3.0.0 0.0.255.255 host 10.4.0.1 eq 443
end
"""
MEMBER_TEXT = f"""{PHASE_1}
crypto gdoi group GET
 identity number 1234
 server address ipv4 {SERVER}
end
"""


def model(text: str) -> Configuration:
    result = parse(text, "test")
    assert result.configuration is not None, result.diagnostics
    return result.configuration


@dataclass
class Recording:
    """A registration and a rekey, as they were sent and in the clear; and the keys that protect them."""

    sent: list[Send] = field(default_factory=list)
    clear: list[Send] = field(default_factory=list)
    keys: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.simulation = Simulation(7)
        self.simulation.intercept = self._note
        served, joined = model(KEY_SERVER), model(MEMBER_TEXT)
        entropy = self.simulation.entropy("server")
        ike = IkeEndpoint(served.ike, entropy)
        self.server = KeyServer(served.key_server_groups, ike, {"KEYS": seeded_key("tshark", 1024)}.get, entropy)
        self._speakers = {SERVER: Speaker(ike, self.server)}
        entropy = self.simulation.entropy("member")
        spoken = replace(joined.ike, doi=Doi.IPSEC)  # tshark 4.0 reads no transforms under DOI 2, and so decrypts nothing
        ike = IkeEndpoint(spoken, entropy, tells_keys=True)
        self.simulation.observers.append(self._note_keys)
        self.member = GroupMember(joined.member_groups["GET"], MEMBER, ike, entropy)
        self._speakers[MEMBER] = Speaker(ike, members=[self.member])
        for address, speaker in self._speakers.items():
            self.simulation.attach(address, speaker)
            self.simulation.carry_out(address, speaker.start(0.0))
        self.simulation.run_for(10)
        assert self.member.is_registered
        self.first_sas = [replace(sa, keys=sa.keys.copy()) for sa in self.member.sas]
        self.offered = tuple(sa.spi for sa in self.first_sas)
        self.rekey()

    def rekey(self) -> None:
        """New keys at once, to be used 15 s later, which makes a GAP payload."""
        effects = self.server.rekey("GET", 15, self.simulation.now)
        self.simulation.carry_out(SERVER, self._speakers[SERVER].settle(effects, self.simulation.now))
        self.simulation.run_for(10)

    def _note_keys(self, _address: IPv4Address, effect: Effect, _now: float) -> None:
        if isinstance(effect, KeysDerived):
            self.keys.append((effect.initiator_cookie.hex(), effect.key.reveal().hex()))

    def _note(self, send: Send) -> Send:
        self.sent.append(send)
        header = Header.decode(send.datagram)
        if header.exchange == ExchangeType.GROUPKEY_PUSH:
            kek = self.member.rekey_sa.kek
            assert kek is not None
            opened = header.next_payload, cbc.decrypt(kek.cipher, kek.key, kek.iv, send.datagram[HEADER_LENGTH:])
        elif header.exchange == ExchangeType.GROUPKEY_PULL:
            (sa,) = self._speakers[send.destination.address].ike.sas()
            opened = sa.unprotect(send.datagram)
        else:
            return send
        payloads = [_with_wide_lengths(payload) for payload in decode_chain(*opened).payloads]
        message = encode_message(replace(header, flags=int(Flag.NONE)), payloads)
        self.clear.append(replace(send, datagram=message))
        return send


def _with_wide_lengths(payload: Payload) -> Payload:
    """A SAT as tshark expects it: identity lengths of two octets. Our extension, a SAT of a private protocol, is left out."""
    if not isinstance(payload, GroupSecurityAssociation):
        return payload
    known = [item for item in payload.payloads if isinstance(item, SaTek) or item.payload_type != PayloadType.SAT]
    return replace(payload, payloads=tuple(replace(item, id_length_octets=2) if isinstance(item, SaTek) else item for item in known))


def shown_by_tshark(sends: list[Send], keys: list[tuple[str, str]], folder: Path) -> list[str]:
    """What tshark has to say about each datagram."""
    file = folder / "capture.pcap"
    file.write_bytes(pcap(sends))
    command = ["tshark", "-r", str(file), "-d", "udp.port==848,isakmp", "-O", "isakmp", "-V"]
    for cookie, key in keys:
        command += ["-o", f"uat:ikev1_decryption_table:{cookie},{key}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    frames = re.split(r"^Frame \d+: ", text, flags=re.MULTILINE)[1:]
    assert len(frames) == len(sends)
    return frames


def payloads_in(frame: str) -> list[str]:
    """The names of the payloads of one message, in order."""
    return re.findall(r"Payload: ([A-Z][\w -]*?)(?: Payload)? \(\d+\)", frame)


def values(frame: str, name: str) -> list[str]:
    """Every value that is shown behind `name:`."""
    return re.findall(rf"^ *{re.escape(name)}: *(.*)$", frame, re.MULTILINE)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording()


def values_of_attributes(text: str) -> dict[int, str]:
    """Attributes by number, as the hexadecimal octets that tshark shows, cut or not."""
    shown = re.findall(r"\(t=(\d+),l=\d+\).*?Value: ([0-9a-f]+)", text, re.DOTALL)
    return {int(kind): value for kind, value in shown}


def test_every_message_is_named(recording: Recording, tmp_path: Path) -> None:
    frames = shown_by_tshark(recording.sent, recording.keys, tmp_path)
    kinds = [(values(frame, "Exchange type")[0], payloads_in(frame)) for frame in frames]
    main, pull = "Identity Protection (Main Mode) (2)", "Quick Mode (32)"
    offer = ["Security Association", "Proposal", "Transform", "Vendor ID", "Vendor ID", "Vendor ID"]
    keys = ["Key Exchange", "Nonce", "NAT-D", "NAT-D"]
    assert kinds[:7] == [
        (main, offer),
        (main, offer),
        (main, [name for name in keys if name != "NAT-D"]),
        (main, [name for name in keys if name != "NAT-D"]),
        (main, ["Identification", "Hash"]),
        (main, ["Identification", "Hash"]),
        (pull, ["Hash", "Nonce", "Identification"]),
    ]
    assert [payloads for kind, payloads in kinds if kind == pull] == [
        ["Hash", "Nonce", "Identification"],
        ["Hash", "Nonce", "Security Association", "SA TEK"],  # and stops at the first SAT, whose lengths it takes for two octets
        ["Hash", "Group Associated Policy"],
        ["Hash", "Sequence Number", "Key Download"],
    ]
    assert ("Informational (5)", ["Hash", "Notification"]) in kinds
    assert ("New Group Mode (33)", []) in kinds  # encrypted under a KEK, for which tshark has no table
    assert ("Unknown (35)", ["Hash", "Sequence Number", "Identification"]) in kinds


def test_the_group_that_was_asked_for(recording: Recording, tmp_path: Path) -> None:
    request, *_ = shown_by_tshark(recording.clear, [], tmp_path)
    assert payloads_in(request) == ["Hash", "Nonce", "Identification"]
    assert values(request, "ID type") == ["KEY_ID (11)"]
    assert values(request, "ID_KEY_ID") == [f"{1234:08x}"]


def test_the_policy_that_was_offered(recording: Recording, tmp_path: Path) -> None:
    _, offer, *_ = shown_by_tshark(recording.clear, [], tmp_path)
    assert "Malformed" not in offer
    assert payloads_in(offer) == ["Hash", "Nonce", "Security Association", "SA TEK", "SA TEK"]
    assert values(offer, "Domain of interpretation") == ["GDOI (2)"]
    sak, first, second = re.split(r"Payload: SA TEK Payload", offer)
    kek = recording.server.groups[0].keys.kek
    assert kek is not None
    assert values(sak, "SRC ID Data") + values(sak, "DST ID Data") == [SERVER.packed.hex(), MEMBER.packed.hex()]
    assert values(sak, "SPI") == [kek.spi.hex()]
    # KEK_ALGORITHM AES, KEK_KEY_LENGTH, KEK_KEY_LIFETIME, SIG_HASH_ALGORITHM SHA-256, SIG_ALGORITHM RSA, SIG_KEY_LENGTH (RFC 6407 5.3)
    told = values_of_attributes(sak)
    assert [int(told[kind], 16) for kind in (2, 3, 5, 6, 7)] == [3, 256, 3, 1, 1024]
    assert 86390 <= int(told[4], 16) <= 86400
    one, two = recording.offered
    assert values(first, "SPI") + values(second, "SPI") == [f"{one:08x}", f"{two:08x}"]
    assert values(first, "ID_IPV4_ADDR") == ["10.1.0.0", "10.2.0.0"]
    assert values(first, "ID_IPV4_SUBNET") == ["255.255.0.0", "255.255.0.0"]
    assert values(first, "Transform ID") + values(second, "Transform ID") == ["12", "20"]
    assert values(first, "Authentication Algorithm") == ["HMAC-SHA2-256 (5)"]
    assert values(second, "Authentication Algorithm") == []
    assert values(first, "Encapsulation Mode") == values(second, "Encapsulation Mode") == ["Tunnel (1)"]
    assert values(first, "Key Length") == values(second, "Key Length") == ["256"]
    assert 3590 <= int(values(first, "Life Duration")[0]) <= 3600
    assert 7190 <= int(values(second, "Life Duration")[0]) <= 7200
    assert values(second, "Internet Protocol") == ["TCP (6)"]
    assert values(second, "DST ID Port") == ["443"]
    assert values(second, "ID_IPV4_ADDR")[-1] == "10.4.0.1"


def test_the_keys_that_were_given(recording: Recording, tmp_path: Path) -> None:
    download = shown_by_tshark(recording.clear, [], tmp_path)[3]
    assert payloads_in(download) == ["Hash", "Sequence Number", "Key Download"]
    assert values(download, "Number of Key Packets") == ["4"]
    assert values(download, "Type")[0::3][:1] == ["TEK (1)"]
    packets = download.split("Key Download Payload")[1:]
    assert [values(packet, "Type")[0] for packet in packets] == ["TEK (1)", "TEK (1)", "KEK (2)", "SID (4)"]
    one, two = recording.offered
    kek = recording.server.groups[0].keys.kek
    assert kek is not None
    assert [values(packet, "SPI")[0] for packet in packets[:3]] == [f"{one:08x}", f"{two:08x}", kek.spi.hex()]
    lengths = [re.findall(r"\(t=(\d+),l=(\d+)\)", packet) for packet in packets]
    assert lengths[:2] == [[("1", "32"), ("2", "32")], [("1", "36")]]  # AES and HMAC keys; an AES key with its salt
    assert [length for _, length in lengths[2]] == [str(16 + 32), str(len(kek.public_key))]  # IV and KEK; the RSA key in DER
    sent = {tek.spi: tek.keys.encryption.reveal().hex() for tek in recording.first_sas}
    assert values_of_attributes(packets[0])[1] == sent[one]


def test_the_rekey(recording: Recording, tmp_path: Path) -> None:
    push = shown_by_tshark(recording.clear, [], tmp_path)[-1]
    assert values(push, "Exchange type") == ["New Group Mode (33)"]
    assert "Malformed" not in push
    kek = recording.server.groups[0].keys.kek
    assert kek is not None
    assert values(push, "Initiator SPI") + values(push, "Responder SPI") == [kek.spi[:8].hex(), kek.spi[8:].hex()]
    assert payloads_in(push)[:2] == ["Sequence Number", "Security Association"]
    assert payloads_in(push)[-2:] == ["Key Download", "Signature"]
    assert values(push, "Sequence Number") == ["1"]
    held = {sa.spi for sa in recording.member.sas}
    assert {int(spi, 16) for spi in values(push.split("Payload: Key Download")[1], "SPI")} == held
    assert len(held) == 4
    assert re.search(r"Payload: Signature \(9\).*?Payload length: 132\n", push, re.DOTALL)  # 1024 bits


def test_the_acknowledgement(recording: Recording, tmp_path: Path) -> None:
    answer = shown_by_tshark(recording.sent, [], tmp_path)[-1]
    assert values(answer, "Sequence Number") == ["1"]
    assert values(answer, "ID_IPV4_ADDR") == [str(MEMBER)]
    assert values(answer, "Message ID") == ["0x00000000"]
