"""What an interface has counted stays: while it is at fault, when its data path is made anew, and when its SAs end."""

import contextlib
import os
import select
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from member import protected
from namespaces import Namespace, passes
from policies import GCM, deny, permit, sa, state
from recording import RecordedCounters, RecordingEngine
from tests.waiting import until

from groupvpn.dataplane import links
from groupvpn.dataplane.accounts import ENDED, Account
from groupvpn.dataplane.engine import NativeEngine
from groupvpn.dataplane.faults import Fault
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.options import EngineOptions
from groupvpn.dataplane.taps import Tap
from groupvpn.ipsec.sa import DesiredState, SaCounters

Wan = tuple[Namespace, Namespace]
OURS = sa(0x4D02, GCM, sender_id=1, fill=0x62)


@pytest.mark.netns
@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_an_interface_at_fault_says_what_it_drops(wan: Wan, steer: str) -> None:
    gateway, outside = wan
    engine = RecordingEngine()
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        assert plane.apply(state(permit(spi=5), sas=(sa(5),))) == ()
        assert passes(outside, "10.9.0.2", gateway, "10.9.0.1", 3) == 0
        (before,) = plane.counters()
        engine.refuses_ports, engine.ports[0].trouble = True, "the thread has ended"
        assert len(plane.refresh()) == 1
        assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 4) == 0
        assert passes(outside, "10.9.0.2", gateway, "10.9.0.1", 2) == 0
        (counters,) = plane.counters()
        assert counters.drops["outbound_no_sa"] == before.drops["outbound_no_sa"] + 4
        assert (before.drops["inbound_clear"], counters.drops["inbound_clear"]) == (3, 5)
        engine.refuses_ports = False
        assert plane.refresh() == ()
        (after,) = plane.counters()
        assert after.drops["inbound_clear"] == 5
        assert after.delivered["outbound_delivered"] == 2  # of each port one
        assert plane.counters() == (after,)


@pytest.mark.netns
@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_what_rules_can_lead_to_the_engine_no_more_is_counted(wan: Wan, steer: str) -> None:
    """Of a TAP that is gone, whose own count went with it, only the rules know what they led there."""
    gateway, outside = wan
    engine = RecordingEngine()
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        assert plane.apply(state(permit(spi=5), sas=(sa(5),))) == ()
        (before,) = plane.counters()
        assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 4) == 0
        (port,) = engine.ports
        assert len(port.frames(port.queues[0])) == port.traffic()["outbound_frames"] == 4
        gateway.run("ip", "link", "del", f"gv{links.index('wan')}o0")
        assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 2) == 0
        assert plane.counters()[0].drops == before.drops
        for _ in range(2):  # and once is enough
            assert plane.refresh() == ()
            assert plane.counters()[0].drops["outbound_restarted"] == 2
        assert plane.take_restored() == frozenset(), "nobody has touched rules of ours"


@pytest.mark.netns
@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_a_tap_that_goes_takes_no_count_of_its_full_queue_away(wan: Wan, steer: str) -> None:
    gateway, outside = wan
    engine = RecordingEngine()
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        assert plane.apply(state(permit(spi=5), sas=(sa(5),))) == ()
        tap = f"gv{links.index('wan')}o0"
        gateway.run("ip", "link", "set", tap, "txqueuelen", "4")
        assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 7) == 0
        drops = plane.counters()[0].drops
        assert drops["outbound_queue_full"] == 3
        gateway.run("ip", "link", "del", tap)
        assert plane.counters()[0].drops == drops
        assert plane.refresh() == ()
        assert plane.counters()[0].drops["outbound_queue_full"] == 3


@pytest.mark.netns
def test_what_a_table_leads_to_a_tap_that_is_gone_is_counted_also_where_nft_fails(
    wan: Wan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The table stays as it was, between the end of one data path and the beginning of the next."""
    gateway, outside = wan
    with gateway.entered(), LinuxDataPlane(engine=NativeEngine(EngineOptions(workers=1)), steer="nftables") as plane:
        assert plane.apply(state(permit(spi=OURS.spi), sas=(OURS,))) == ()
        gateway.run("ip", "link", "del", f"gv{links.index('wan')}o0")
        (tmp_path / "nft").symlink_to("/bin/false")
        with monkeypatch.context() as broken:
            broken.setenv("PATH", str(tmp_path), prepend=os.pathsep)
            assert plane.refresh()
            assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 5) == 0
        plane.refresh()
        assert plane.refresh() == ()
        assert plane.counters()[0].drops["outbound_restarted"] == 5


@pytest.mark.netns
def test_a_thread_that_ends_is_noticed_at_once(wan: Wan) -> None:
    gateway, _ = wan
    engine = RecordingEngine()
    with gateway.entered(), LinuxDataPlane(engine=engine) as plane:
        plane.fileno()
        assert plane.apply(state(permit(spi=5), sas=(sa(5),))) == ()
        until(lambda: is_quiet(plane), "it is quiet")
        engine.ports[0].trouble = "the thread has ended"
        os.eventfd_write(engine.alarm(), 1)
        assert select.select([plane.fileno()], [], [], 10)[0]
        assert plane.on_event() == ()
        assert [port.is_running for port in engine.ports] == [False, True]
        until(lambda: is_quiet(plane), "it is quiet again")
        assert [port.is_running for port in engine.ports] == [False, True]


def is_quiet(plane: LinuxDataPlane) -> bool:
    """Whether there is nothing to be told of, else it is taken."""
    if not select.select([plane.fileno()], [], [], 0)[0]:
        return True
    assert plane.on_event() == ()
    return False


@pytest.mark.netns
def test_the_engine_tells_when_a_queue_of_its_is_gone(wan: Wan) -> None:
    gateway, _ = wan
    engine = NativeEngine(EngineOptions(workers=1))
    with gateway.entered(), LinuxDataPlane(engine=engine) as plane:
        assert plane.apply(state(permit(spi=OURS.spi), sas=(OURS,))) == ()
        assert not select.select([engine.alarm()], [], [], 0)[0]
        gateway.run("ip", "link", "del", f"gv{links.index('wan')}o0")
        assert select.select([engine.alarm()], [], [], 10)[0]
        assert plane.refresh() == ()


@pytest.mark.netns
@pytest.mark.parametrize("receive", ["bpf", "ring", "tap"])
@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_what_waits_for_the_engine_when_its_data_path_ends_is_counted(wan: Wan, receive: str, steer: str) -> None:
    gateway, outside = wan
    with outside.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    engine = NativeEngine(EngineOptions(receive=receive, workers=2))
    with gateway.entered(), contextlib.closing(sender), LinuxDataPlane(engine=engine, steer=steer) as plane:
        assert plane.apply(state(permit(spi=OURS.spi), sas=(OURS,))) == ()
        plane._attachments["wan"]._port.stop()
        for _ in range(5):
            sender.sendto(protected(OURS), ("10.9.0.1", 0))
        assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 4) == 0
        plane._detach("wan")
        drops = {reason: packets for reason, packets in plane.counters()[0].drops.items() if packets and not reason.endswith("clear")}
        assert drops == {"inbound_restarted": 5, "outbound_restarted": 4}
        assert plane.refresh() == ()


@pytest.mark.netns
def test_what_sas_have_done_outlives_them(wan: Wan) -> None:
    gateway, _ = wan
    engine = RecordingEngine()
    with gateway.entered(), LinuxDataPlane(engine=engine) as plane:
        for spi in (5, 6, 7):
            assert plane.apply(state(permit(spi=spi), sas=(sa(spi),))) == ()
            engine.sas[-1].counted.encrypted_packets = spi
        (counters,) = plane.counters()
        assert counters.sas == (SaCounters(7, 7),)
        assert counters.ended == (SaCounters(5, 5), SaCounters(6, 6))
        plane.refresh()
        assert plane.counters()[0].ended == counters.ended


def test_sas_that_ended_long_ago_are_one_sum() -> None:
    account = Account()
    for spi in range(1, ENDED + 11):
        counters = RecordedCounters()
        counters.encrypted_packets = spi
        account.end(sa(spi), (counters,))
    first, *others = account.ended()
    assert first == SaCounters(0, sum(range(1, 11)))
    assert [counters.spi for counters in others] == list(range(11, ENDED + 11))
    account.end(sa(20), (RecordedCounters(),))
    assert account.ended()[-1] == SaCounters(20, 20)
    assert len(account.ended()) == ENDED + 1


class _Nowhere(LinuxDataPlane):
    """A data plane that only counts."""

    def _reconcile(self) -> tuple[Fault, ...]:
        self._keyring.update([(one, policy.df_of(one)) for policy in self._state.interfaces for one in policy.every_sa])
        return ()


def test_an_sa_of_two_policies_for_one_interface_does_not_end_by_that() -> None:
    plane = _Nowhere(engine=RecordingEngine())
    both = DesiredState((*state(permit(spi=5), sas=(sa(5),)).interfaces, *state(permit(spi=6), sas=(sa(6),)).interfaces))
    for _ in range(3):
        plane.apply(both)
    assert plane._account("wan").ended() == ()
    plane.apply(DesiredState(both.interfaces[:1]))
    assert [counters.spi for counters in plane._account("wan").ended()] == [6]


def test_an_sa_that_comes_back_while_another_interface_has_it_counts_once() -> None:
    engine = RecordingEngine()
    plane = _Nowhere(engine=engine)
    one, two = (state(permit(spi=5), sas=(sa(5),), device=device).interfaces[0] for device in ("one", "two"))
    without = replace(one, sas=())
    plane.apply(DesiredState((one, two)))
    engine.sas[-1].counted.encrypted_packets = 7
    for _ in range(2):
        plane.apply(DesiredState((without, two)))
        (counters, _) = plane.counters()
        assert (counters.sas, counters.ended) == ((), (SaCounters(5, 7),))
        plane.apply(DesiredState((one, two)))
        (counters, _) = plane.counters()
        assert (counters.sas, counters.ended) == ((SaCounters(5, 7),), ())


@pytest.mark.netns
def test_nothing_is_kept_of_an_interface_without_a_policy(wan: Wan) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=RecordingEngine()) as plane:
        plane.apply(DesiredState((*state(permit(spi=5), sas=(sa(5),)).interfaces, *state(permit(spi=6), device="away").interfaces)))
        plane.counters()
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        assert plane._accounts.keys() <= {"wan"}
        plane.apply(DesiredState(()))
        assert not plane._accounts


@pytest.mark.netns
def test_a_table_loses_no_count_when_its_list_changes(wan: Wan) -> None:
    gateway, outside = wan

    def among(network: str) -> DesiredState:
        return state(deny(destination="10.9.0.0/24"), permit(destination=network, spi=5), sas=(sa(5),))

    with gateway.entered(), LinuxDataPlane(engine=RecordingEngine(), steer="nftables") as plane:
        assert plane.apply(among("10.77.0.0/16")) == ()

        def passed() -> int:
            return plane.counters()[0].delivered["outbound_passed"]

        before = passed()
        assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 10) == 10
        plane.apply(among("10.78.0.0/16"))
        assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 20) == 20
        assert passed() >= before + 30


@pytest.mark.netns
def test_what_only_wakes_the_engine_is_no_packet_that_waited_for_it(wan: Wan) -> None:
    gateway, _ = wan
    token = bytes.fromhex("02a1b2c3")
    with gateway.entered(), contextlib.closing(Tap("tap", bytes.fromhex("020000000001"), 1)) as tap:
        with contextlib.closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as kernel:
            kernel.bind(("tap", 0x88B5))
            for source in (token, bytes.fromhex("02a1b2c4"), token, bytes.fromhex("06a1b2c3"), bytes.fromhex("02a1b2c4")):
                kernel.send(bytes(6) + source + bytes(2) + b"\x88\xb5" + bytes(46))
        assert tap.drain(uncounted=token) == 3
        assert tap.drain(uncounted=token) == 0
