"""Phase 1 with strongSwan's charon: both roles, both modes, keepalive questions, deletes, NAT traversal, and a wrong key."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from peers import OURS, THEIRS, Charon, Connection, Namespaces, Ours

from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import ISAKMP_PORT, Endpoint
from groupvpn.ike.events import Deleted, DeletionReason, Established, Failed, FailureReason
from groupvpn.ike.identity import local_identity
from groupvpn.ike.policy import ClientEndpoint, IkeConfiguration, IsakmpPolicy, Keepalive, PresharedKey
from groupvpn.reports import Report
from groupvpn.wire.iana import Doi, ExchangeType

pytestmark = [pytest.mark.interop("swanctl"), pytest.mark.netns]

Suite = tuple[str, IkeCipher, IkeHash, IkeGroup]
SUITES: dict[str, Suite] = {
    "aes256-sha256-14": ("aes256-sha256-modp2048", IkeCipher.AES_256, IkeHash.SHA2_256, IkeGroup.MODP_2048),
    "3des-sha1-2": ("3des-sha1-modp1024", IkeCipher.TRIPLE_DES, IkeHash.SHA1, IkeGroup.MODP_1024),
    "aes128-sha1-14": ("aes128-sha1-modp2048", IkeCipher.AES_128, IkeHash.SHA1, IkeGroup.MODP_2048),
    "aes128-sha256-19": ("aes128-sha256-ecp256", IkeCipher.AES_128, IkeHash.SHA2_256, IkeGroup.ECP_256),
    "aes192-sha384-20": ("aes192-sha384-ecp384", IkeCipher.AES_192, IkeHash.SHA2_384, IkeGroup.ECP_384),
    "aes256-sha512-21": ("aes256-sha512-ecp521", IkeCipher.AES_256, IkeHash.SHA2_512, IkeGroup.ECP_521),
    "des-md5-1": ("des-md5-modp768", IkeCipher.DES, IkeHash.MD5, IkeGroup.MODP_768),
    "aes128-sha1-5": ("aes128-sha1-modp1536", IkeCipher.AES_128, IkeHash.SHA1, IkeGroup.MODP_1536),
    "aes128-sha256-15": ("aes128-sha256-modp3072", IkeCipher.AES_128, IkeHash.SHA2_256, IkeGroup.MODP_3072),
    "aes128-sha256-16": ("aes128-sha256-modp4096", IkeCipher.AES_128, IkeHash.SHA2_256, IkeGroup.MODP_4096),
    "aes128-sha256-24": ("aes128-sha256-modp2048s256", IkeCipher.AES_128, IkeHash.SHA2_256, IkeGroup.MODP_2048_256),
}
BOTH_MODES = ("aes128-sha1-14", "aes128-sha256-19")
CASES = [(name, False) for name in SUITES] + [(name, True) for name in BOTH_MODES]
SECRET = "correct horse battery"


class Meeting:
    """One of ours and one charon."""

    def __init__(self, folder: Path, suite: str, *, aggressive: bool = False, secret: str = SECRET, encapsulate: bool = False) -> None:
        proposal, cipher, algorithm, group = SUITES[suite]
        policy = IsakmpPolicy(10, cipher, algorithm, IkeAuthentication.PRE_SHARED_KEY, group)
        configuration = IkeConfiguration(
            policies=(policy,),
            keys=(PresharedKey(Secret(SECRET.encode()), network=IPv4Network(f"{THEIRS}/32")),),
            keepalive=Keepalive(1, periodic=True),
            doi=Doi.IPSEC,
        )
        if aggressive:
            asked = ClientEndpoint(THEIRS, local_identity(configuration, Endpoint(OURS, ISAKMP_PORT)))
            configuration = replace(configuration, client_endpoints=(asked,))
        self.namespaces = Namespaces()
        self._closing: list[Callable[[], None]] = [self.namespaces.close]
        try:
            connection = Connection(proposal, aggressive, secret, encapsulate)
            self.charon = Charon(self.namespaces.theirs, folder / "charon", connection)
            self._closing.append(self.charon.close)
            self.ours = Ours(self.namespaces.ours, configuration)
            self._closing.append(self.ours.close)
        except BaseException:
            self.close()
            raise

    def establish(self, *, we_initiate: bool) -> None:
        """Phase 1, until both sides have it."""
        begun = None if we_initiate else self.charon.initiate()
        if we_initiate:
            self.ours.initiate()
        established = self.ours.run(lambda: bool(self.ours.events(Established)) and "ESTABLISHED" in self.charon.swanctl("--list-sas"))
        if begun is not None:
            begun.wait(10)
        assert established, f"{self.ours.heard}\n{self.ours.endpoint.counters}\n{self.charon.log()}"

    def close(self) -> None:
        """Take everything down."""
        for close in reversed(self._closing):
            close()


@pytest.fixture
def meet(tmp_path: Path) -> Iterator[Callable[..., Meeting]]:
    """Makes a meeting that ends with the test."""
    made: list[Meeting] = []

    def make(suite: str, **options: object) -> Meeting:
        made.append(Meeting(tmp_path, suite, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for meeting in made:
        meeting.close()


@pytest.mark.parametrize("we_initiate", [True, False], ids=["initiator", "responder"])
@pytest.mark.parametrize(("suite", "aggressive"), CASES, ids=lambda item: item if isinstance(item, str) else ("main", "aggressive")[item])
def test_phase_1(meet: Callable[..., Meeting], suite: str, aggressive: bool, we_initiate: bool) -> None:
    meeting = meet(suite, aggressive=aggressive)
    meeting.establish(we_initiate=we_initiate)
    (sa,) = meeting.ours.endpoint.sas()
    assert sa.is_initiator == we_initiate
    assert sa.mode == (ExchangeType.AGGRESSIVE if aggressive else ExchangeType.MAIN)
    shown = meeting.charon.swanctl("--list-sas")
    assert sa.initiator_cookie.hex() in shown
    assert sa.responder_cookie.hex() in shown
    assert not meeting.ours.endpoint.counters


@pytest.mark.parametrize("we_initiate", [True, False], ids=["initiator", "responder"])
@pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
def test_nat_traversal(meet: Callable[..., Meeting], aggressive: bool, we_initiate: bool) -> None:
    meeting = meet("aes128-sha256-19", aggressive=aggressive, encapsulate=True)
    meeting.establish(we_initiate=we_initiate)
    (sa,) = meeting.ours.endpoint.sas()
    assert sa.nat.found
    assert (sa.local.port, sa.peer.port) == (4500, 4500)
    assert meeting.ours.run(lambda: 4500 in meeting.ours.seen_ports, 4), "nothing came to port 4500, not even the answer to our question"
    assert not meeting.ours.endpoint.counters


def test_dead_peer_detection_and_deletes_are_understood(meet: Callable[..., Meeting]) -> None:
    meeting = meet("aes128-sha256-19")
    meeting.establish(we_initiate=True)
    assert meeting.ours.run(lambda: "DPD" in meeting.charon.log(), 4)
    meeting.ours.run(lambda: False, 2.5)
    assert meeting.ours.endpoint.sas(), "charon answered our questions, so the SA lives"
    assert not meeting.ours.endpoint.counters
    meeting.charon.swanctl("--terminate", "--ike", "ours", "--timeout", "1")
    assert meeting.ours.run(lambda: bool(meeting.ours.events(Deleted)), 4)
    assert [event.reason for event in meeting.ours.events(Deleted) if isinstance(event, Deleted)] == [DeletionReason.PEER_DELETED]


def test_charon_understands_our_delete(meet: Callable[..., Meeting]) -> None:
    meeting = meet("aes128-sha256-19")
    meeting.establish(we_initiate=False)
    (sa,) = meeting.ours.endpoint.sas()
    meeting.ours.carry_out(meeting.ours.endpoint.delete(sa))
    assert meeting.ours.run(lambda: "ESTABLISHED" not in meeting.charon.swanctl("--list-sas"), 4), meeting.charon.log()


@pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
def test_a_wrong_key_is_noticed_when_charon_initiates(meet: Callable[..., Meeting], aggressive: bool) -> None:
    meeting = meet("aes128-sha256-19", aggressive=aggressive, secret="something else")
    begun = meeting.charon.initiate()
    try:
        assert meeting.ours.run(lambda: any(isinstance(effect, Report) for effect in meeting.ours.heard) or begun.poll() is not None, 8)
    finally:
        begun.terminate()
        begun.wait()
    assert not meeting.ours.endpoint.sas()
    assert not meeting.ours.events(Established)
    if not aggressive:
        assert "IKMP_AUTH_FAIL" in [effect.mnemonic for effect in meeting.ours.heard if isinstance(effect, Report)]


def test_a_wrong_key_is_noticed_when_we_initiate(meet: Callable[..., Meeting]) -> None:
    meeting = meet("aes128-sha256-19", secret="something else")
    meeting.ours.initiate()
    assert meeting.ours.run(lambda: bool(meeting.ours.events(Failed)), 35), meeting.charon.log()
    assert [event.reason for event in meeting.ours.events(Failed) if isinstance(event, Failed)] == [FailureReason.AUTHENTICATION]


def test_no_common_proposal(meet: Callable[..., Meeting]) -> None:
    meeting = meet("aes256-sha256-14")
    meeting.ours.endpoint.update(
        IkeConfiguration(
            policies=(IsakmpPolicy(1, IkeCipher.AES_128, IkeHash.SHA1, IkeAuthentication.PRE_SHARED_KEY, IkeGroup.MODP_2048),),
            keys=meeting.ours.configuration.keys,
            doi=Doi.IPSEC,
        )
    )
    meeting.ours.initiate()
    assert meeting.ours.run(lambda: bool(meeting.ours.events(Failed)), 8)
    assert [event.reason for event in meeting.ours.events(Failed) if isinstance(event, Failed)] == [FailureReason.NO_PROPOSAL_CHOSEN]
