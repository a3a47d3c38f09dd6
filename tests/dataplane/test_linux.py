"""`LinuxDataPlane` against a real kernel, with an engine that writes down what it is told."""

import contextlib
import re
import select
import shutil
import socket
import struct
from dataclasses import replace

import pytest
from mode_matrix import Chance
from namespaces import Namespace, connect, passes
from policies import GCM, deny, entry, permit, sa, state
from recording import RecordingEngine
from tests.waiting import until

from groupvpn.dataplane import filters, links, linux, nftables, programs, recovery, redirect
from groupvpn.dataplane.faults import Effect
from groupvpn.dataplane.filters import FiltersError
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.programs import ProgramError
from groupvpn.dataplane.taps import QUEUE_LENGTH
from groupvpn.ipsec.sa import DesiredState, Direction, TrafficRule

pytestmark = pytest.mark.netns
Wan = tuple[Namespace, Namespace]


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture(params=["bpf", "nftables"])
def steer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_close_leaves_nothing(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    before = gateway.snapshot()
    with gateway.entered():
        plane = LinuxDataPlane("gm1", engine=engine, steer=steer)
        assert plane.apply(state(deny(protocol=89), permit(spi=5), sas=(sa(5),), bypass=("10.9.0.2",))) == ()
        assert engine.ports[0].is_running
        assert gateway.snapshot() != before
        engine.sas[0].counted.encrypted_packets = 7
        assert plane.sent(sa(5)) == 7
        plane.close()
    assert gateway.snapshot() == before
    assert not engine.ports[0].is_running
    assert plane.sent(sa(5)) == 0, "the keys are let go"


def test_the_empty_state_leaves_nothing(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    before = gateway.snapshot()
    with gateway.entered():
        plane = LinuxDataPlane(engine=engine, steer=steer)
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        plane.apply(DesiredState())
        assert gateway.snapshot() == before


def test_applying_twice_changes_nothing(wan: Wan, engine: RecordingEngine, steer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, _ = wan
    wanted = state(permit(spi=5), sas=(sa(5),))
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(wanted)
        calls = list(engine.ports[0].calls)
        monkeypatch.setattr(nftables, "load", lambda text: pytest.fail(f"loaded {text}"))
        plane.apply(wanted)
        plane.refresh()
        assert engine.ports[0].calls == calls
        assert len(engine.sas) == 1
        monkeypatch.undo()


def test_a_new_sa_touches_no_rule_and_no_tap(wan: Wan, engine: RecordingEngine, steer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, _ = wan
    loaded: list[str] = []
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        before = kernel(gateway)
        load = nftables.load
        monkeypatch.setattr(nftables, "load", lambda text: (loaded.append(text), load(text)))
        plane.apply(state(permit(spi=5), sas=(sa(5), sa(6))))
        plane.apply(state(permit(spi=6), sas=(sa(5), sa(6))))
        plane.apply(state(permit(spi=6), sas=(sa(6),)))
        plane.apply(state(permit(spi=7), sas=(sa(7),)))
        plane.apply(state(permit(spi=6), sas=(sa(6),)))
        assert kernel(gateway) == before
        if steer == "nftables":
            assert "elements = { 6 }" in gateway.run("nft", "list", "set", "netdev", "groupvpn_wan", "spis")
    assert [call for _, call in engine.ports[0].calls] == [
        ([5], {}),  # received before anything leads packets here
        ([5], {0: 5}),
        ([5, 6], {0: 5}),
        ([5, 6], {0: 6}),
        ([6], {0: 6}),
        ([6, 7], {0: 7}),  # side by side until the rules have changed
        ([7], {0: 7}),
        ([6, 7], {0: 6}),
        ([6], {0: 6}),
    ]
    assert [text.count("\n") for text in loaded[:2]] == ([] if steer == "bpf" else [1, 1])  # two changes of the set of SPIs, nothing else


def kernel(gateway: Namespace) -> tuple[str, ...]:
    """The rules, with the numbers of programs, and the links."""
    filters = (gateway.run("tc", "filter", "show", "dev", "wan", hook) for hook in ("egress", "ingress"))
    return gateway.run("nft", "-t", "list", "ruleset"), gateway.run("ip", "-br", "link"), *filters


def test_replaced_rules_keep_their_counters(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(permit(destination="10.9.0.2/32")))
        assert sends(wan) == 0
        assert plane.counters()[0].drops["outbound_no_sa"] == 2
        plane.apply(state(deny(protocol=6), permit(destination="10.9.0.2/32")))
        assert plane.counters()[0].drops["outbound_no_sa"] == 2


def test_drop_counters_merge_engine_and_kernel(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, outside = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(permit(destination="10.9.0.2/32", spi=5), sas=(sa(5),)))
        assert passes(outside, "10.9.0.2", gateway, "10.9.0.1", 3) == 0
        (port,) = engine.ports
        port.lost_by_ring, port.lost_on_way_out = 7, 4
        (counted,) = plane.counters()
    assert counted.drops == {
        "outbound_too_big": 2,
        "outbound_no_sa": 1,
        "inbound_clear": 3,
        "inbound_unknown_spi": 0,
        "inbound_not_permitted": 0,
        "inbound_restarted": 0,
        "inbound_queue_full": 7,
        "outbound_queue_full": 4,
        "outbound_unsteered": 0,
        "inbound_unsteered": 0,
    }
    assert [one.spi for one in counted.sas] == [5]


def test_taps_carry_the_address_of_the_wan_and_are_invisible_to_routing(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        wan_link = links.read("wan")
        for name in (f"gv{wan_link.index}i", f"gv{wan_link.index}o0"):
            assert links.read(name).mac == wan_link.mac
            assert links.read(name).is_up
            assert int(gateway.run("cat", f"/sys/class/net/{name}/tx_queue_len")) == QUEUE_LENGTH == 4096
            assert gateway.run("ip", "-br", "addr", "show", "dev", name).split()[2:] == []


def test_messages_of_icmp_pass_where_a_deny_names_them_both_ways(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, outside = wan
    named = ((3, None), (11, 1))
    rules = [TrafficRule(replace(entry("deny", protocol=1), icmp_type=kind, icmp_code=code)) for kind, code in named]
    sent = [(3, 1), (11, 0), (3, 13), (8, 0), (11, 1)]
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        assert plane.apply(state(*rules, permit())) == ()
        for sender, receiver, destination in ((gateway, outside, "10.9.0.2"), (outside, gateway, "10.9.0.1")):
            with contextlib.closing(_icmp(sender)) as out, contextlib.closing(_icmp(receiver)) as heard:
                for message in sent:
                    with contextlib.suppress(OSError):
                        out.sendto(bytes(message) + bytes(6), (destination, 0))
                found: list[tuple[int, int]] = []
                while found[-1:] != [sent[-1]]:
                    packet = heard.recv(2048)
                    found.append((packet[20], packet[21]))
            assert found == [(3, 1), (3, 13), (11, 1)]


def _icmp(namespace: Namespace) -> socket.socket:
    with namespace.entered():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        raw.settimeout(2)
        return raw


def test_a_rule_without_a_usable_sa_drops(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    engine.refused_spis = {7}
    rules = (
        permit("any", "10.1.0.0/16"),
        permit("any", "10.2.0.0/16", spi=6),
        permit("any", "10.3.0.0/16", spi=7),
        permit("any", "10.4.0.0/16", spi=8),
    )
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        faults = plane.apply(state(*rules, sas=(sa(7), sa(8, GCM, sender_id=None))))
        assert [(fault.device, fault.is_of_engine, "refused by the test" in fault.problem) for fault in faults] == [("wan", True, True)]
        for number in range(1, 5):
            gateway.run("ip", "route", "add", f"10.{number}.0.0/16", "via", "10.9.0.2")
            with contextlib.closing(gateway.udp("10.9.0.1")) as sender, contextlib.suppress(PermissionError):
                sender.sendto(b"x", (f"10.{number}.0.1", 7000))
        assert plane.counters()[0].drops["outbound_no_sa"] == 4 + 1  # and one of the engine's


def test_an_interface_that_comes_later_is_served_when_it_comes(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, outside = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.fileno()
        (fault,) = plane.apply(state(permit(spi=5), sas=(sa(5),), device="wan2"))
        assert fault.device == "wan2"
        assert "No such device" in fault.problem
        connect(gateway, "wan2", "10.8.0.1/24", outside, "core2", "10.8.0.2/24")
        assert plane.on_event() == ()
        assert "groupvpn_wan2" in nftables.tables()
        gateway.run("ip", "link", "del", "wan2")
        assert len(plane.on_event()) == 1
        assert plane.take_restored() == frozenset(), "nobody has touched rules of ours"
        connect(gateway, "wan2", "10.8.0.1/24", outside, "core2", "10.8.0.2/24")
        assert plane.on_event() == ()
        assert [port.is_running for port in engine.ports] == [False, True]
        assert sends(wan, "10.8.0.2", "10.8.0.1") == 0
        assert len(engine.ports[1].frames(engine.ports[1].queues[0])) == 1


TABLES = "netdev groupvpn_wan", "inet groupvpn_wan"
GUARD = "inet groupvpn_wan"
TAKEN_AWAY = {
    "nftables": (
        "nft flush ruleset",
        *(f"nft flush chain {table} outbound" for table in TABLES),
        *(f"nft delete table {table}" for table in TABLES),
    ),
    "bpf": (
        "nft flush ruleset",
        f"nft flush chain {GUARD} outbound_watch",
        f"nft add chain {GUARD} outbound",
        "tc filter del dev wan egress",
        "tc filter del dev wan ingress",
        "tc qdisc del dev wan clsact",
    ),
}


def test_flushed_rules_and_removed_taps_come_back(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.fileno()
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        plane.on_event()
        before = held(gateway)
        for words in TAKEN_AWAY[steer]:
            gateway.run(*words.split())
            assert held(gateway) != before, words
            assert plane.on_event() == ()
            assert plane.take_restored() == {"wan"}
            assert held(gateway) == before, words
            assert sends(wan) == 0
        tap = f"gv{links.index('wan')}o0"
        gateway.run("ip", "link", "del", tap)
        assert plane.on_event() == ()
        assert links.read(tap).is_up
        engine.ports[-1].frames(engine.ports[-1].queues[0])
        assert sends(wan) == 0
        assert len(engine.ports[-1].frames(engine.ports[-1].queues[0])) == 1
        assert links.index(tap) is not None


def test_a_long_list_leads_to_taps_that_were_made_anew(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(*(permit(f"10.{net}.0.0/16", spi=5) for net in range(1, 30)), sas=(sa(5),)))
        for _ in range(2):
            gateway.run("ip", "link", "del", f"gv{links.index('wan')}o0")
            assert plane.refresh() == ()
            assert sends(wan) == 0
            assert len(engine.ports[-1].frames(engine.ports[-1].queues[0])) == 1


def test_any_number_of_addresses_of_ipv6_is_served(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    gateway.run("ip", "addr", "add", "2001:db8:9::1/64", "dev", "wan", "nodad")
    every = "".join(f"addr add 2001:db8:{number:x}::7/128 dev lo nodad\n" for number in range(0x1000, 0x1000 + 2000))
    gateway.run("sh", "-c", f"ip -batch - <<'END'\n{every}END\n")
    rules = permit(spi=5), permit("2001:db8:1::/48", "2001:db8:2::/48", spi=5)
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        assert plane.apply(state(*rules, sas=(sa(5),))) == ()
        assert len(links.ipv6_addresses(links.index("wan") or 0)) > 2000


DAMAGE = {
    "its inbound TAP is down": "ip link set {tap}i down",
    "its outbound TAP is down": "ip link set {tap}o0 down",
    "nothing is redirected": "tc filter del dev {tap}i ingress",
    "there is no hook": "tc qdisc del dev {tap}i clsact",
}


@pytest.mark.parametrize("command", DAMAGE.values(), ids=DAMAGE)
def test_a_tap_that_is_of_no_use_any_more_is_made_anew(wan: Wan, engine: RecordingEngine, steer: str, command: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.fileno()
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        plane.on_event()
        tap = f"gv{links.index('wan')}"
        gateway.run(*command.format(tap=tap).split())
        assert plane.on_event() == ()
        assert len(engine.ports) == 2
        assert all(links.read(f"{tap}{which}").is_up for which in ("i", "o0"))
        assert "redirect" in gateway.run("tc", "filter", "show", "dev", f"{tap}i", "ingress").lower()
        assert sends(wan) == 0
        plane.on_event()
        assert len(engine.ports) == 2, "what it does itself is no damage"


def held(gateway: Namespace) -> tuple[str, ...]:
    """The rules, whatever the numbers of programs are."""
    filters = (gateway.run("tc", "filter", "show", "dev", "wan", hook) for hook in ("egress", "ingress"))
    return *sorted(gateway.run("nft", "-s", "-t", "list", "ruleset").split("\n}\n")), *(
        re.sub(r"id \d+ |tag \w+ |jited ?", "", listed) for listed in filters
    )


def test_mtu_and_mac_of_the_wan_are_followed(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.fileno()
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        gateway.run("ip", "link", "set", "wan", "mtu", "1400", "address", "02:00:00:00:00:99")
        plane.on_event()
        assert engine.ports[0].mtu == 1400
        assert links.read(f"gv{links.index('wan')}i").mac.hex() == "020000000099"
        assert len(engine.ports) == 1
        engine.ports[0].ring_limit = 1500
        for mtu, ports in (("1500", 1), ("1501", 2)):
            gateway.run("ip", "link", "set", "wan", "mtu", mtu)
            assert plane.on_event() == ()
            assert len(engine.ports) == ports, "the ring takes no longer packets than it was made for"


def test_a_port_with_a_failed_thread_is_made_anew(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        engine.ports[0].trouble = "inbound TAP: gone"
        assert plane.refresh() == ()
        assert [port.is_running for port in engine.ports] == [False, True]
        assert engine.ports[1].calls[-1] == ("set_sas", ([5], {0: 5}))


def test_a_wan_that_was_renamed_is_served_under_its_new_name(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.fileno()
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        for number, (old, new) in enumerate((("wan", "other"), ("other", "wan")), 1):
            gateway.run("ip", "link", "set", old, "name", new)
            assert plane.on_event() == ()
            assert [port.device for port in engine.ports if port.is_running] == [new]
            assert sends(wan) == 0
            assert len(engine.ports[number].frames(engine.ports[number].queues[0])) == 1
        assert nftables.tables() == ("groupvpn_wan",)


def test_a_renamed_wan_that_cannot_be_served_is_blocked(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.fileno()
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        engine.refuses_ports = True
        gateway.run("ip", "link", "set", "wan", "name", "other")
        assert len(plane.on_event()) == 1
        assert sends(wan) == 0
    assert sends(wan) == 1


@pytest.mark.parametrize("event", ["renamed", "made anew"])
def test_a_wan_that_lost_its_table_still_keeps_what_it_must(wan: Wan, engine: RecordingEngine, steer: str, event: str) -> None:
    """In the time before we can follow; a deny passes all the while, and what was dropped is counted on when we have followed."""
    gateway, outside = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.fileno()
        plane.apply(state(deny(protocol=1), permit(spi=5), sas=(sa(5),)))
        assert sends(wan) == 0
        plane.on_event()
        if event == "made anew":
            gateway.run("ip", "link", "del", "wan")
            if steer == "bpf":  # its guard sleeps until we have heard of it
                assert len(plane.on_event()) == 1
            connect(gateway, "wan", "10.9.0.1/24", outside, "core", "10.9.0.2/24")
            if steer == "nftables":
                gateway.run("nft", "delete", "table", "netdev", "groupvpn_wan")  # not every kernel puts it onto the new one
        else:
            gateway.run("ip", "link", "set", "wan", "name", "other")
        for _ in range(3):
            assert sends(wan) == 0
        assert passes(outside, "10.9.0.2", gateway, "10.9.0.1", 2) == 0
        assert gateway.run("ping", "-c", "1", "-W", "2", "10.9.0.2")
        assert plane.on_event() == ()
        drops = plane.counters()[0].drops
        expected = (0, 0) if steer == "bpf" and event == "renamed" else (3, 2)  # a program does not care for a name
        assert (drops["outbound_unsteered"], drops["inbound_unsteered"]) == expected
        assert passes(outside, "10.9.0.2", gateway, "10.9.0.1", 2) == 0
        assert plane.counters()[0].drops["inbound_unsteered"] == expected[1]
    assert gateway.run("nft", "list", "tables") == ""


def test_packets_that_find_the_queue_full_are_counted(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, outside = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        gateway.run("ip", "link", "set", f"gv{links.index('wan')}o0", "txqueuelen", "10")
        assert passes(gateway, "10.9.0.1", outside, "10.9.0.2", 30) == 0
        assert plane.counters()[0].drops["outbound_queue_full"] == 20


def test_packets_that_find_the_queue_of_the_inbound_tap_full_are_counted(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, outside = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        gateway.run("ip", "link", "set", f"gv{links.index('wan')}i", "txqueuelen", "10")
        with outside.entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, 50)
        with sender:
            for sequence in range(1, 31):
                sender.sendto(struct.pack("!II", 5, sequence) + bytes(40), ("10.9.0.1", 0))
        until(lambda: sum(plane.counters()[0].drops.values()) >= 20 + 3, "all have come")  # 3 are the recorded engine's
        assert plane.counters()[0].drops["inbound_queue_full"] == 20
        engine.ports[0].lost_wake_ups = 2  # which found no room either, and are no packets
        assert plane.counters()[0].drops["inbound_queue_full"] == 18
        assert len(engine.ports[0].frames(engine.ports[0].tap_in)) == 10


def test_a_fault_that_stays_does_not_feed_on_its_own_events(
    wan: Wan, engine: RecordingEngine, steer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _ = wan
    engine.refuses_ports = True
    monkeypatch.setattr(linux, "RETRY_AFTER", 1000.0)
    until(lambda: " UP " in gateway.run("ip", "-br", "link", "show", "dev", "wan"), "the link is up")  # the kernel tells of that late
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.fileno()
        faults = plane.apply(state(permit(spi=5), sas=(sa(5),)))
        attempts: list[int] = []
        make_port = engine.make_port
        monkeypatch.setattr(engine, "make_port", lambda *arguments: (attempts.append(1), make_port(*arguments)))
        for _ in range(5):
            assert plane.on_event() == faults
        assert attempts == []
        gateway.run("ip", "link", "set", "wan", "mtu", "1300")  # the interface itself changed: worth another attempt
        assert plane.on_event() == faults
        for _ in range(5):
            plane.on_event()
        assert attempts == [1]


def test_interfaces_share_an_sa_but_nothing_else(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, outside = wan
    connect(gateway, "wan2", "10.8.0.1/24", outside, "core2", "10.8.0.2/24")
    one = state(permit(spi=5), sas=(sa(5),))
    other = state(permit(spi=5), sas=(sa(5),), device="wan2", local="10.8.0.1")
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        assert plane.apply(DesiredState(one.interfaces + other.interfaces)) == ()
        assert [made.spi for made in engine.sas] == [5]
        assert [port.device for port in engine.ports] == ["wan", "wan2"]
        assert engine.ports[0].calls == engine.ports[1].calls
        before = gateway.run("nft", "list", "table", "inet", "groupvpn_wan2")
        plane.apply(other)
        assert [port.is_running for port in engine.ports] == [False, True]
        assert nftables.tables() == ("groupvpn_wan2",)
        assert gateway.run("nft", "list", "table", "inet", "groupvpn_wan2") == before
        assert len(engine.ports[1].calls) == 2  # what it may receive, then what it sends by


def test_a_device_that_cannot_be_served_does_not_hold_up_another(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    good = state(permit(spi=5), sas=(sa(5),))
    bad = [state(permit(), device=device).interfaces[0] for device in ("lo", 'w"an', "x" * 16, "", "gone")]
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        faults = plane.apply(DesiredState((*bad, *good.interfaces)))
        assert [fault.device for fault in faults] == ["lo", 'w"an', "x" * 16, "", "gone"]
        assert "not Ethernet" in faults[0].problem
        assert set(nftables.tables()) == {"groupvpn_wan", "groupvpn_gone"}  # a guard stands for one that may come
        assert engine.ports[0].is_running


def test_without_nft_there_are_faults_that_say_what_to_install(
    wan: Wan, engine: RecordingEngine, steer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _ = wan
    with gateway.entered():
        plane = LinuxDataPlane(engine=engine, steer=steer)
        tc_alone = {"tc": shutil.which("tc"), "nft": "/nowhere/nft"}
        monkeypatch.setattr(programs, "run", lambda command, text="", run=programs.run: run([tc_alone[command[0]], *command[1:]], text))
        for module in (nftables, redirect):
            monkeypatch.setattr(module, "run", programs.run)
        faults = plane.apply(state(permit(spi=5), sas=(sa(5),)))
        assert [fault.device for fault in faults] == ["wan", "wan"]
        assert "not found; install" in faults[0].problem
        blocked = "its guard is refused" in faults[1].problem and {fault.effect for fault in faults} == {Effect.BLOCKED}
        opened = "cannot even block it" in faults[1].problem and {fault.effect for fault in faults} == {Effect.OPEN}
        assert (blocked, opened) == (steer == "bpf", steer == "nftables")
        assert sends(wan) == (steer == "nftables")
        assert not engine.ports[0].is_running
        assert [fault.device for fault in plane.close()] == ["wan"]


def test_rules_that_do_not_load_leave_the_old_table_and_close_it(
    wan: Wan, engine: RecordingEngine, steer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        plane.apply(state(permit(spi=5), sas=(sa(5),)))

        def refuse(text: str) -> None:
            raise ProgramError("nft", "refused by the test")

        with monkeypatch.context() as patch:
            patch.setattr(nftables, "load", refuse)
            assert len(plane.apply(state(deny(protocol=6), permit(spi=5), sas=(sa(5),)))) == 2
            assert sends(wan) == 0
        assert plane.refresh() == ()
        assert "deny 6 any any" in gateway.run("nft", "list", "ruleset")


def test_an_engine_that_fails_means_drop_not_clear(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, outside = wan
    engine.refuses_ports = True
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        (fault,) = plane.apply(state(permit(spi=5), sas=(sa(5),), bypass=("10.9.0.2",)))
        assert "refused by the test" in fault.problem
        assert sends(wan) == 0
        assert speaks_to_the_key_server(wan)
        assert passes(outside, "10.9.0.2", gateway, "10.9.0.1") == 0
        engine.refuses_ports = False
        assert plane.refresh() == ()
        assert sends(wan) == 0
        assert len(engine.ports[0].frames(engine.ports[0].queues[0])) == 1


def test_a_stop_that_blocks_can_be_lifted(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    before = gateway.snapshot()
    with gateway.entered():
        plane = LinuxDataPlane("gm1", engine=engine, steer=steer)
        plane.apply(state(permit(spi=5), sas=(sa(5),)))
        assert recovery.clean() == ()  # its owner lives
        plane.close(block={"wan"})
        assert recovery.leftovers() == ("wan",)
        assert recovery.leftovers("gm2") == ()
        assert sends(wan) == 0
        assert recovery.clean() == ("wan",)
        assert sends(wan) == 1
    assert gateway.snapshot() == before


def test_a_new_start_takes_over_what_the_last_left(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered():
        first = LinuxDataPlane("gm1", engine=engine, steer=steer)
        first.apply(state(permit(spi=5), sas=(sa(5),)))
        first.close(block={"wan"})
        with LinuxDataPlane("gm1", engine=RecordingEngine(), steer=steer) as second:
            assert second.apply(state(deny())) == ()
            assert sends(wan) == 1
        first.apply(state(permit(spi=5), sas=(sa(5),)))
        first.close(block={"wan"})
        with LinuxDataPlane("gm1", engine=RecordingEngine(), steer=steer) as third:
            third.apply(DesiredState())  # the interface is no longer ours
            assert nftables.tables() == ()


def test_what_is_lifted_once_is_not_lifted_again_for_what_cannot_be(wan: Wan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt is a change of rules, which would be the reason for the next one."""
    gateway, _ = wan
    removed = []

    def remove(table: str) -> None:
        removed.append(table)
        if table == "groupvpn_b":
            raise FiltersError("refused by the test")

    monkeypatch.setattr(recovery, "leftovers", lambda node: ("a", "b", "c"))
    monkeypatch.setattr(filters, "remove", remove)
    with gateway.entered(), LinuxDataPlane("gm1", engine=RecordingEngine()) as plane:
        watch = plane.fileno()
        plane.apply(DesiredState())
        assert sorted(removed) == ["groupvpn_a", "groupvpn_b", "groupvpn_c"]
        while select.select([watch], [], [], 0.2)[0] and len(removed) < 9:
            plane.on_event()
        assert removed.count("groupvpn_a") == removed.count("groupvpn_c") == 1
        assert 1 < removed.count("groupvpn_b") < 6


def test_receive_only_sends_clear(wan: Wan, engine: RecordingEngine, steer: str) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(engine=engine, steer=steer) as plane:
        rule = TrafficRule(entry("permit"), 5, Direction.INBOUND_ONLY)
        plane.apply(state(rule, sas=(sa(5),)))
        assert sends(wan) == 1
        assert engine.ports[0].queues == []


@pytest.mark.parametrize("seed", range(3))
def test_where_it_comes_from_does_not_matter(wan: Wan, seed: int) -> None:
    """After any sequence of states the kernel holds what it would hold had the last one been the first; only slots may differ."""
    gateway, _ = wan
    chance = Chance(seed)
    states = [state(*chance.rules(direction, (None, 0x101, 0x102)), sas=(sa(0x101), sa(0x102))) for direction in (*Direction, *Direction)]

    def rules(*sequence: DesiredState) -> list[str]:
        with LinuxDataPlane(engine=RecordingEngine(), steer="nftables", entropy=lambda count: bytes(count)) as plane:
            for wanted in sequence:
                assert plane.apply(wanted) == ()
            tables = "\n\n".join(gateway.run("nft", "-s", "list", "table", *table.split()) for table in TABLES)
            listed = re.sub(r'"gv(\d+)o\d+"', r'"gv\1o"', tables)
            listed = re.sub(r"(outbound_)[0-9a-f]{8}", r"\1", listed)  # trees are called after what they say
            return sorted(chain.rstrip("\t\n}") for chain in listed.split("\n\n"))

    with gateway.entered():
        assert rules(*states) == rules(states[-1])


@pytest.mark.parametrize("chance", [0x00, 0xFF])
def test_frames_of_the_engine_come_from_no_group_and_no_other_device(chance: int) -> None:
    plane = LinuxDataPlane(engine=RecordingEngine(), entropy=lambda count: bytes([chance]) * count)
    assert (len(plane._token), plane._token[0] & 0b11) == (6, 0b10)
    assert 0 < plane._mark < 1 << 31


@pytest.mark.parametrize("name", ["", "a b", 'x"y', "x" * 64])
def test_a_node_name_that_nft_could_not_quote_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="node name"):
        LinuxDataPlane(name)


def speaks_to_the_key_server(wan: Wan) -> bool:
    with contextlib.closing(wan[0].udp("10.9.0.1", 848)) as member, contextlib.closing(wan[1].udp("10.9.0.2", 848)) as server:
        member.sendto(b"question", ("10.9.0.2", 848))
        server.sendto(b"answer", server.recvfrom(100)[1])
        return member.recv(100) == b"answer"


def sends(wan: Wan, destination: str = "10.9.0.2", source: str = "10.9.0.1") -> int:
    """Whether one datagram from the gateway arrives outside."""
    return passes(wan[0], source, wan[1], destination)
