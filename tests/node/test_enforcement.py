"""What the node says of a data plane that cannot do what it should, and when it steers anew."""

import asyncio
import os
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest
from node_samples import MEMBER, member_of

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane import linux, recovery
from groupvpn.dataplane.faults import Effect, Fault
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfacePolicy, SaCounters
from groupvpn.ipsec.transform import Transform
from groupvpn.node import clock
from groupvpn.node.enforcement import REPAIR_PERIOD, Enforcement, LeftBehind, is_needed_by
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log


class _Faulty:
    def __init__(self, *faults: Fault, restored: frozenset[str] = frozenset()) -> None:
        self.faults, self.restored = faults, restored
        self.applied: list[DesiredState] = []

    def apply(self, state: DesiredState) -> tuple[Fault, ...]:
        self.applied.append(state)
        return self.faults

    def refresh(self) -> tuple[Fault, ...]:
        return self.faults

    def on_event(self) -> tuple[Fault, ...]:
        return self.faults

    def take_restored(self) -> frozenset[str]:
        return self.restored


def _lines(*faults: Fault) -> list[str]:
    log = Log("gm1")
    written: list[str] = []
    log.observe(written.append)
    steering = Enforcement("gm1", log, DesiredState, lambda: None, lambda: None)
    steering.data_plane = _Faulty(*faults)  # type: ignore[assignment]
    steering.repair()
    steering.repair()
    return written


def test_a_fault_of_a_device_is_told_once_with_what_becomes_of_packets() -> None:
    (line,) = _lines(Fault("lo", "the engine has stopped"))
    assert "%CRYPTO-3-DATAPLANE: lo: the engine has stopped. What must be protected is dropped there" in line


def test_nobody_is_told_that_packets_are_dropped_on_a_device_that_is_not_there() -> None:
    (line,) = _lines(Fault("gi0-0", "interface gi0-0: No such device", Effect.ABSENT))
    assert "there is no device gi0-0: nothing is protected" in line
    assert "dropped" not in line


def test_what_cannot_even_be_blocked_is_said_to_be_open() -> None:
    lines = _lines(*(Fault("lo", text, Effect.OPEN) for text in ("nft: not found", "cannot even block it: nft: not found")))
    assert len(lines) == 2
    assert all("packets may pass in the clear" in line and "dropped" not in line for line in lines)


def test_what_the_engine_cannot_do_is_told_in_the_words_of_routers() -> None:
    lines = _lines(Fault("lo", "SA 0x100 (esp-seal): no such cipher", is_of_engine=True), Fault("lo", "cannot even block it", Effect.OPEN))
    assert ["%GDOI-3-GM_NO_CRYPT_ENGINE: lo: SA 0x100" in line for line in lines] == [True, False]
    assert "%CRYPTO-3-DATAPLANE: lo: cannot" in lines[1]


def test_a_fault_that_protects_no_less_is_told_as_such(steering: Enforcement) -> None:
    """The service manager says of a node with others that not all is protected."""
    faults = Fault("lan", "there is no device lan", Effect.HARMLESS), Fault("lo", "the engine has stopped")
    steering.data_plane = _Faulty(*faults)  # type: ignore[assignment]
    steering.repair()
    assert steering.harmless == {"lan: there is no device lan"} < steering.faults


class _Plane(_Faulty):
    """Fails, when it is told what to do, as long as `troubles` are left; so does its watch for `deaf` times."""

    def __init__(self, *troubles: Exception, deaf: int = 0) -> None:
        super().__init__()
        self.troubles, self.deaf = list(troubles), deaf
        self.told: list[DesiredState] = []
        self.descriptors = os.pipe()

    def fileno(self) -> int:
        if self.deaf:
            self.deaf -= 1
            raise OSError(24, "Too many open files")
        return self.descriptors[0]

    def events_fileno(self) -> int:
        return self.descriptors[1]

    def apply(self, state: DesiredState) -> tuple[Fault, ...]:
        if self.troubles:
            raise self.troubles.pop(0)
        self.told.append(state)
        return ()

    def on_event(self) -> tuple[Fault, ...]:
        return ()

    def close(self, block: frozenset[str]) -> tuple[Fault, ...]:
        for descriptor in self.descriptors:
            os.close(descriptor)
        return self.faults


@pytest.fixture
def log() -> Log:
    return Log("gm1")


@pytest.fixture
def steering(log: Log) -> Enforcement:
    return Enforcement("gm1", log, DesiredState, lambda: None, lambda: None)


def _plays(steering: Enforcement, monkeypatch: pytest.MonkeyPatch, plane: _Plane) -> None:
    monkeypatch.setattr(linux, "LinuxDataPlane", lambda *arguments, **options: plane)


def test_a_policy_that_could_not_be_applied_is_a_fault_and_is_applied_later(
    steering: Enforcement, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where no process can be started, which is no fault of one interface."""
    plane = _Plane(OSError(11, "Resource temporarily unavailable"), ImportError("no module named _engine"))
    _plays(steering, monkeypatch, plane)

    async def scene() -> None:
        steering.apply()
        assert plane.told == []
        assert "may leave in the clear" in " ".join(steering.faults)
        assert steering.next_repair is not None
        steering.follow_system()
        assert "Resource temporarily unavailable" in " ".join(steering.faults), "an event mends nothing by itself"
        steering.repair()
        assert len(plane.told) == 1
        assert steering.faults == frozenset()
        assert steering.next_repair is None
        steering.close()

    asyncio.run(scene())
    assert [line.severity for line in log.lines] == [3, 3, 5]


def test_a_node_without_its_engine_says_so(steering: Enforcement, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = _Plane(ImportError("libIPSec_MB.so.1: cannot open shared object file"))
    _plays(steering, monkeypatch, plane)

    async def scene() -> None:
        steering.apply()
        steering.repair()
        steering.close()

    asyncio.run(scene())
    assert [line.mnemonic for line in log.lines] == ["GM_NO_CRYPT_ENGINE", "DATAPLANE"]
    assert "libIPSec_MB.so.1: cannot open shared object file. Traffic that it protects may leave in the clear" in log.lines[0].text


def test_a_bug_of_the_data_plane_is_a_fault_too(steering: Enforcement, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = _Plane(KeyError("wan"))
    _plays(steering, monkeypatch, plane)

    async def scene() -> None:
        with pytest.raises(KeyError):
            steering.apply()
        assert steering.next_repair is not None
        steering.repair()
        assert len(plane.told) == 1
        steering.close()

    asyncio.run(scene())


def test_a_policy_is_applied_where_nothing_can_be_watched_and_watching_is_tried_again(
    steering: Enforcement, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = _Plane(deaf=2)
    _plays(steering, monkeypatch, plane)

    async def scene() -> None:
        steering.apply()
        assert len(plane.told) == 1
        steering.repair()
        steering.repair()
        assert len(plane.told) == 3
        assert steering.faults == frozenset()
        assert asyncio.get_running_loop().remove_reader(plane.descriptors[0])
        steering.close()

    asyncio.run(scene())
    assert [line.severity for line in log.lines] == [3, 5]


def test_what_cannot_be_removed_at_the_end_is_said(steering: Enforcement, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = _Plane()
    _plays(steering, monkeypatch, plane)

    async def scene() -> None:
        steering.apply()
        plane.faults = (Fault("wan", "its rules (groupvpn_wan) are still there: nft: refused"),)
        steering.close(block={"lan", "wan"})

    asyncio.run(scene())
    problem = "its rules (groupvpn_wan) are still there: nft: refused; `groupvpn clean` removes what is left"
    lan = "lan goes on dropping what must be protected; `groupvpn clean` opens it"
    assert [line.body for line in log.lines] == [f"%CRYPTO-3-DATAPLANE: wan: {problem}", f"%CRYPTO-4-FAIL_CLOSE: {lan}"]


def test_a_fault_is_tried_again_after_a_while_and_only_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 1000.0)
    steering = Enforcement("gm1", Log("gm1"), DesiredState, lambda: None, lambda: None)
    plane = steering.data_plane = _Faulty(Fault("lo", "the engine has stopped"))  # type: ignore[assignment]
    steering.repair()
    assert steering.next_repair == 1000 + REPAIR_PERIOD
    plane.faults = ()
    steering.repair()
    assert steering.next_repair is None


def test_what_the_system_has_changed_is_told() -> None:
    log = Log("gm1")
    steering = Enforcement("gm1", log, DesiredState, lambda: None, lambda: None)
    plane = _Faulty(restored=frozenset({"eth0"}))
    steering.data_plane = plane  # type: ignore[assignment]
    steering.follow_system()
    assert "eth0: somebody changed or removed our rules; they are put back" in log.lines[-1].text
    assert plane.applied == [], "the data plane follows names by itself"


def test_what_a_run_before_has_left_is_not_taken_for_that_of_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"gm1": ["eth0"], None: ["eth0", "eth1", "eth2"]}
    monkeypatch.setattr(recovery, "leftovers", lambda node=None: there[node])
    steering = Enforcement("gm1", Log("gm1"), DesiredState, lambda: None, lambda: None)
    assert steering.left_behind(["eth0", "eth1"]) == LeftBehind(frozenset({"eth0"}), frozenset({"eth1"}))


def test_an_sa_of_a_group_is_counted_by_what_the_data_plane_was_told_last() -> None:
    transform = Transform(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
    sa = GroupSa(5, transform, Secret(bytes(16)), Secret(bytes(20)), udp=(4500, 4500))
    steering = Enforcement("gm1", Log("gm1"), DesiredState, lambda: None, lambda: None)
    assert (steering.counters(), steering.carried(5)) == ((), SaCounters(5)), "before there is a data plane"
    counted = SaCounters(5, 1, 20, 3, 40)
    steering.data_plane = SimpleNamespace(carried=lambda asked: counted if asked is sa else None)  # type: ignore[assignment]
    steering.applied = DesiredState((InterfacePolicy("eth0", IPv4Address("10.0.0.1"), sas=(sa,)),))
    assert (steering.carried(5), steering.carried(6)) == (counted, SaCounters(6))


@pytest.mark.parametrize(
    ("interface", "octets"),
    [("GigabitEthernet0/0", [1360]), ("GigabitEthernet0/0\n shutdown", []), ("Loopback0", [])],
)
def test_segments_are_adjusted_where_connections_pass(interface: str, octets: list[int], state: StateDirectory) -> None:
    """And nothing else needs the data plane there."""
    router = member_of(state, f"interface {interface}\n ip tcp adjust-mss 1360\n")
    assert [clamp.octets for clamp in router.cores.desired_state(router.configuration).clamps] == octets
    assert is_needed_by(router.configuration) == bool(octets)


def test_an_interface_that_is_shut_needs_the_data_plane(state: StateDirectory) -> None:
    assert is_needed_by(member_of(state, MEMBER.replace("dev lo", "dev eth0") + " shutdown\n").configuration)
    assert not is_needed_by(member_of(state, MEMBER.replace(" crypto map M\n", " shutdown\n")).configuration)
