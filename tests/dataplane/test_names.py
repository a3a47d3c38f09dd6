"""An interface is what its name stands for: it may be an alternative one, move, or be one that nft cannot write."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from lifecycle import Wire, data_plane, everything, flood, held, wanted
from namespaces import Namespace, connect, passes
from policies import permit, sa, state
from recording import RecordingEngine
from tests.engine.packets import ipv4

from groupvpn.dataplane import links, nftables, recovery
from groupvpn.dataplane.accounts import Counts
from groupvpn.dataplane.attachment import Attachment
from groupvpn.dataplane.faults import Effect
from groupvpn.dataplane.linux import Fault, LinuxDataPlane
from groupvpn.dataplane.steering import interface_name, table_name
from groupvpn.dataplane.taps import IFF_NO_PI, TUNSETIFF
from groupvpn.ipsec.sa import DesiredState

pytestmark = pytest.mark.netns
IFF_TUN = 0x1
SHORT = "gi0-0"
"""The alternative name by which the interface is configured."""


@pytest.fixture
def wire(namespaces: list[Namespace]) -> Wire:
    made = Wire(Namespace("g"), Namespace("o"))
    namespaces += [made.gateway, made.outside]
    made.make()
    name_shortly(made.gateway)
    return made


@pytest.fixture(params=["bpf", "nftables"])
def steer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def name_shortly(gateway: Namespace, device: str = "wan", which: str = "add") -> None:
    gateway.run("ip", "link", "property", which, "dev", device, "altname", SHORT)


@contextlib.contextmanager
def planes(wire: Wire, steer: str, *policies: DesiredState) -> Iterator[LinuxDataPlane]:
    """A data plane in the gateway that follows events and has policies in force."""
    with wire.gateway.entered(), data_plane(steer) as plane:
        plane.fileno()
        assert plane.apply(DesiredState(tuple(policy for state in policies for policy in state.interfaces))) == ()
        plane.on_event()
        yield plane


def rename(gateway: Namespace, old: str, new: str) -> None:
    gateway.run("ip", "link", "set", old, "name", new)


def test_an_interface_with_an_alternative_name_leaks_nothing_when_it_is_renamed(wire: Wire, steer: str) -> None:
    with planes(wire, steer, wanted(SHORT)) as plane:
        for old, new in (("wan", "other"), ("other", "third"), ("third", "wan")):
            with flood(wire):
                rename(wire.gateway, old, new)
                assert plane.on_event() == ()
            assert plane.take_restored() == frozenset(), "nobody changed anything"
            assert [(port.device, port.called) for port in plane.engine().ports] == [(SHORT, new)]
        assert nftables.tables() == (f"groupvpn_{SHORT}",)


def test_an_interface_with_an_alternative_name_leaks_nothing_when_it_is_made_anew(wire: Wire, steer: str) -> None:
    """It has its own name and addresses before it has the alternative one."""
    with planes(wire, steer, wanted(SHORT)) as plane:
        wire.gone()
        (fault,) = plane.on_event()
        assert fault.effect is Effect.ABSENT
        wire.make()
        with flood(wire):
            assert [fault.device for fault in plane.on_event()] == [SHORT]
            name_shortly(wire.gateway)
            assert plane.on_event() == ()
        assert wire.leaks() == (0, 0)
        assert held(wire.gateway, table=f"groupvpn_{SHORT}") >= {"table", "guard"} if steer == "nftables" else {"filter", "guard sleeps"}


def test_an_interface_that_is_shut_is_not_missed_and_closed_when_it_comes(wire: Wire, steer: str) -> None:
    shut = DesiredState(tuple(replace(policy, is_shut=True) for policy in wanted(SHORT).interfaces))
    with planes(wire, steer, shut) as plane:
        wire.gone()
        (fault,) = plane.on_event()
        assert fault.effect is Effect.HARMLESS
        wire.make()
        name_shortly(wire.gateway)
        assert plane.on_event() == ()
        with flood(wire):
            assert plane.on_event() == ()
        assert wire.leaks() == (0, 0)


def test_an_interface_that_comes_back_while_its_fault_rests_is_closed_at_once(wire: Wire, steer: str) -> None:
    with wire.gateway.entered(), data_plane(steer, refuses_ports=True) as plane:
        plane.fileno()
        assert len(plane.apply(wanted(SHORT))) == 1
        wire.gone()
        wire.make()
        name_shortly(wire.gateway)
        assert len(plane.on_event()) == 1
        with flood(wire):
            plane.on_event()
        assert wire.leaks() == (0, 0)


def test_an_interface_that_loses_its_alternative_name_stays_protected(wire: Wire, steer: str) -> None:
    with planes(wire, steer, wanted(SHORT)) as plane:
        with flood(wire):
            name_shortly(wire.gateway, which="del")
            assert plane.on_event() == ()
            rename(wire.gateway, "wan", "other")
            assert plane.on_event() == ()
        assert [port.called for port in plane.engine().ports] == ["other"]


def test_an_alternative_name_that_moves_takes_the_rules_along(wire: Wire, steer: str) -> None:
    """What was protected on the interface before does not leave there in the clear at once."""
    second = Wire(wire.gateway, wire.outside, "wan2", "core2", 8)
    second.make()
    with planes(wire, steer, wanted(SHORT)) as plane:
        assert wire.leaks() == (0, 0)
        assert second.leaks() == (2, 2)
        name_shortly(wire.gateway, which="del")
        name_shortly(wire.gateway, "wan2")
        assert plane.on_event() == ()
        assert second.leaks() == (0, 0)
        if steer == "bpf":
            assert wire.leaks() == (0, 0)
        plane.close()
        assert (wire.leaks(), second.leaks()) == ((2, 2), (2, 2))


def test_an_interface_that_is_configured_by_another_name_leaks_nothing(wire: Wire, steer: str) -> None:
    before = everything(wire.gateway)
    with planes(wire, steer, wanted("wan")) as plane:
        for name in (SHORT, "wan", SHORT):
            with flood(wire):
                assert plane.apply(wanted(name)) == ()
            plane.on_event()
            assert plane.refresh() == ()
            assert plane.take_restored() == frozenset()
            assert nftables.tables() == (f"groupvpn_{name}",)
    assert everything(wire.gateway) == before


def test_old_rules_stay_where_new_ones_cannot_be_loaded(wire: Wire, steer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with planes(wire, steer, wanted("wan")) as plane:
        with monkeypatch.context() as patch:
            patch.setattr("groupvpn.dataplane.rules.InterfaceRules.load", _refuse)
            patch.setattr("groupvpn.dataplane.rules.InterfaceRules.hold", _refuse)
            with flood(wire):
                assert [fault.effect for fault in plane.apply(wanted(SHORT))] == [Effect.OPEN, Effect.OPEN]
            assert nftables.tables() == ("groupvpn_wan",)
        assert plane.refresh() == ()
        assert nftables.tables() == (f"groupvpn_{SHORT}",)


def _refuse(*arguments: object) -> None:
    raise OSError(12, "Cannot allocate memory")


def test_interfaces_that_swap_their_names_stay_closed(wire: Wire, steer: str) -> None:
    second = Wire(wire.gateway, wire.outside, "wan2", "core2", 8)
    second.make()
    with planes(wire, steer, wanted("wan"), wanted("wan2", second.near)) as plane:
        with flood(wire), flood(second):
            for old, new in (("wan", "between"), ("wan2", "wan"), ("between", "wan2")):
                rename(wire.gateway, old, new)
            assert plane.on_event() == ()
        assert [(port.device, port.called) for port in plane.engine().ports] == [("wan", "wan"), ("wan2", "wan2")]
        assert wire.leaks() == second.leaks() == (0, 0)


def test_what_two_policies_of_one_interface_protect_is_protected_or_dropped(wire: Wire, steer: str) -> None:
    first, second = permit("10.9.0.0/24", "10.77.0.0/24", spi=5), permit("10.9.0.0/24", "10.9.0.0/24", spi=5)
    both = (state(rule, sas=(sa(5),), device=device) for rule, device in ((first, "wan"), (second, SHORT)))
    with wire.gateway.entered(), data_plane(steer) as plane:
        faults = plane.apply(DesiredState(tuple(policy for state in both for policy in state.interfaces)))
        why = "it is the same Linux device as wan, whose rules apply; give one of them another: --interface NAME=DEVICE"
        assert [(fault.device, fault.problem) for fault in faults] == [(SHORT, f"interface {SHORT}: {why}")]
        assert faults[0].effect is not Effect.OPEN
        assert wire.leaks() == (0, 0)
        assert [port.device for port in plane.engine().ports] == ["wan"]


@pytest.mark.parametrize("steer", ["auto", "bpf", "nftables"])
def test_an_interface_without_ethernet_is_closed(namespaces: list[Namespace], steer: str) -> None:
    """As that of a tunnel or of PPP, whose packets begin with their IP header; also when it is renamed."""
    gateway = Namespace("g")
    namespaces.append(gateway)
    with gateway.entered(), open_tun("ppp0") as tun, data_plane(steer) as plane:
        plane.fileno()
        gateway.run("ip", "addr", "add", "10.9.0.1/24", "dev", "ppp0")
        gateway.run("ip", "link", "set", "ppp0", "up")
        assert crosses(gateway, tun) == (True, True)
        (fault,) = plane.apply(wanted("ppp0"))
        assert "not Ethernet" in fault.problem
        assert fault.effect is not Effect.OPEN
        assert crosses(gateway, tun) == (False, False)
        rename(gateway, "ppp0", "other")
        assert crosses(gateway, tun) == (False, False)
        assert len(plane.on_event()) == 1
        assert crosses(gateway, tun) == (False, False)


@contextlib.contextmanager
def open_tun(name: str) -> Iterator[int]:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("=16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        yield tun
    finally:
        os.close(tun)


def crosses(gateway: Namespace, tun: int) -> tuple[bool, bool]:
    """Whether a datagram leaves, and whether one arrives."""
    with contextlib.closing(gateway.udp("10.9.0.1")) as end:
        with contextlib.suppress(PermissionError):
            end.sendto(b"it leaves", ("10.9.0.2", 7000))
        left = False
        with contextlib.suppress(BlockingIOError):
            while not left:
                left = b"it leaves" in os.read(tun, 2048)
        os.write(tun, datagram(b"it arrives"))
        try:
            return left, end.recv(2048) == b"it arrives"
        except TimeoutError:
            return left, False


def datagram(payload: bytes) -> bytes:
    """From 10.9.0.2 to 10.9.0.1, without a checksum of UDP."""
    content = struct.pack("!4H", 7000, 7000, 8 + len(payload), 0) + payload
    return ipv4(content, source="10.9.0.2", destination="10.9.0.1", protocol=17)


@pytest.mark.parametrize("name", ["wan+1", "w@n;{}#$", "wan*", 'w"n', "w/2bn".replace("/", "\\"), "wän"])
@pytest.mark.parametrize("configured", [SHORT, ""])
def test_an_interface_with_a_name_that_nft_cannot_write_is_closed(wire: Wire, steer: str, name: str, configured: str) -> None:
    before = everything(wire.gateway)
    device = configured or name
    rename(wire.gateway, "wan", name)
    with wire.gateway.entered(), data_plane(steer) as plane:
        plane.fileno()
        (fault,) = plane.apply(wanted(device))
        assert "nftables cannot name" in fault.problem
        assert fault.effect is not Effect.OPEN
        assert wire.leaks() == (0, 0)
        assert recovery.leftovers("gm1") == (device,)
        rename(wire.gateway, name, "wan")
        if configured:
            assert plane.on_event() == ()
        assert wire.leaks() == (0, 0)
        plane.close()
    assert everything(wire.gateway) == before


def test_an_odd_name_that_nft_can_write_is_closed_before_it_comes_back(wire: Wire, steer: str) -> None:
    rename(wire.gateway, "wan", "wan+1")
    with wire.gateway.entered(), data_plane(steer) as plane:
        plane.fileno()
        plane.apply(wanted("wan+1"))
        wire.gateway.run("ip", "link", "del", "wan+1")
        connect(wire.gateway, "wan+1", "10.9.0.1/24", wire.outside, "core", "10.9.0.2/24")
        assert wire.leaks() == (0, 0)


def test_what_is_absent_and_cannot_be_named_is_said_to_be_open(wire: Wire, steer: str) -> None:
    with wire.gateway.entered(), data_plane(steer) as plane:
        assert [fault.effect for fault in plane.apply(wanted("wan*"))] == [Effect.OPEN]


@pytest.mark.parametrize("name", ["wan", "wan+1", "br-lan", "eth0.100", 'w"n', "wän", "w@n/2b", "\\", os.fsdecode(b"\xff")])
def test_the_name_of_a_table_tells_the_interface(name: str) -> None:
    table = table_name(name)
    assert interface_name(table) == name
    assert set(table) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-./")


def test_the_loopback_interface_is_never_closed(wire: Wire, steer: str) -> None:
    with wire.gateway.entered(), data_plane(steer) as plane:
        (fault,) = plane.apply(wanted("lo"))
        assert fault.effect is Effect.HARMLESS
        assert nftables.tables() == ()


class _Trouble(RecordingEngine):
    """Meets something that nobody expects on one interface."""

    def make_port(self, device: str, *arguments: object) -> object:  # type: ignore[override]
        if device == "wan":
            raise self.error
        return super().make_port(device, *arguments)  # type: ignore[arg-type]

    error: BaseException = OSError(24, "Too many open files")


@pytest.mark.parametrize("name", [b"bad\xff", b"a\x1cb", b"a\x1eb", b"a\x85b", "a\u2028b".encode()])
def test_a_name_that_is_no_text_keeps_nobody_from_reading_the_others(wire: Wire, name: bytes) -> None:
    with wire.gateway.entered():
        device = os.fsdecode(name)
        wire.gateway.run("ip", "link", "add", device, "type", "bridge")
        wire.gateway.run("ip", "link", "set", device, "up")
        wire.gateway.run("ip", "addr", "add", "2001:db8:77::1/64", "dev", device, "nodad")
        wire.gateway.run("ip", "addr", "add", "2001:db8:9::1/64", "dev", "wan", "nodad")
        found = links.ipv6_addresses(links.index("wan") or 0)
        assert {IPv6Address("2001:db8:77::1"), IPv6Address("2001:db8:9::1")} <= set(found)
        assert links.transmit_drops().keys() == set(links.names())


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError(), ImportError("no module"), KeyError("wan")])
def test_nothing_that_goes_wrong_on_one_interface_opens_it_or_holds_up_another(wire: Wire, steer: str, error: Exception) -> None:
    second = Wire(wire.gateway, wire.outside, "wan2", "core2", 8)
    second.make()
    engine = _Trouble()
    engine.error = error
    with wire.gateway.entered(), LinuxDataPlane("gm1", engine=engine, steer=steer) as plane:  # type: ignore[arg-type]
        policies = (*wanted("wan").interfaces, *wanted("wan2", second.near).interfaces)
        (fault,) = plane.apply(DesiredState(policies))
        assert fault == Fault("wan", f"{type(error).__name__}: {error}")
        assert wire.leaks() == second.leaks() == (0, 0)
        assert [port.device for port in plane.engine().ports] == ["wan2"]
        assert links.index("wan") is not None
        assert passes(wire.gateway, wire.near, wire.outside, wire.far) == 0


def test_a_data_path_that_ends_badly_leaves_no_tap_and_holds_up_nobody(wire: Wire, steer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    second = Wire(wire.gateway, wire.outside, "wan2", "core2", 8)
    second.make()
    with planes(wire, steer, wanted("wan"), wanted("wan2", second.near)) as plane:
        with monkeypatch.context() as patch:
            patch.setattr(Attachment, "counted", _fail)
            for device in ("wan", "wan2"):
                wire.gateway.run("ip", "link", "del", f"gv{links.index(device)}i")
            faults = plane.refresh()
        assert {(fault.device, fault.effect) for fault in faults} == {("wan", Effect.HARMLESS), ("wan2", Effect.HARMLESS)}
        assert all("what its data path counted is lost: ValueError" in fault.problem for fault in faults)
        assert [port.device for port in plane.engine().ports] == ["wan", "wan2"]
        assert plane.refresh() == ()
        assert wire.leaks() == second.leaks() == (0, 0)
        with monkeypatch.context() as patch:
            patch.setattr(Attachment, "counted", _fail)
            (fault,) = plane.apply(wanted("wan"))
        assert fault.device == "wan2"
        assert not [name for name in links.names() if name.startswith(f"gv{links.index('wan2')}")]


def _fail(_: Attachment) -> Counts:
    raise ValueError("broken by the test")


def test_rules_that_could_not_be_removed_are_removed_later(wire: Wire, steer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(wire.gateway)
    with planes(wire, steer, wanted("wan")) as plane:
        with monkeypatch.context() as patch:
            patch.setattr("groupvpn.dataplane.rules.InterfaceRules.delete", _refuse)
            (fault,) = plane.apply(DesiredState())
            assert "its rules (groupvpn_wan) are still there: " in fault.problem
            assert wire.leaks() == (0, 0)
        assert plane.refresh() == ()
        assert wire.leaks() == (2, 2)
        plane.close()
        assert everything(wire.gateway) == before
