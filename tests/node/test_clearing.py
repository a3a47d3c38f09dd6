"""`clear crypto sa …` and `clear crypto gdoi replay`: what goes, and what begins at zero."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest
from node_samples import KEY_SERVER, MEMBER, member_of, start_cores

from groupvpn.config import parse
from groupvpn.console.registry import exec_commands
from groupvpn.effects import Effect
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import InterfaceCounters, SaCounters
from groupvpn.ipsec.transform import SecurityProtocol
from groupvpn.node.control import CommandError
from groupvpn.node.flows import Flows, Served
from groupvpn.node.refusals import Refusals
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory

ENTRY = Entry(Action.PERMIT, 6, AddressMatch.any(), AddressMatch.any())
HOLDER = "G", IPv4Address("10.0.0.1")


def _asked(router: Router, line: str) -> str:
    return asyncio.run(exec_commands().run(router, line))


def test_a_key_server_refuses_nothing_and_takes_the_command(router: Router) -> None:
    start_cores(router)
    for group in ("", " group g"):
        assert _asked(router, f"clear crypto gdoi{group} replay") == ""
    with pytest.raises(CommandError, match="No group 'h' runs here"):
        _asked(router, "clear crypto gdoi group h replay")


def test_a_node_without_groups_has_nothing_to_clear(router: Router) -> None:
    with pytest.raises(CommandError, match="no group"):
        _asked(router, "clear crypto gdoi replay")


class _Core:
    """A member core that holds one SA and remembers that it was to let go of it."""

    def __init__(self, spi: int, protocol: SecurityProtocol) -> None:
        self.sas = [SimpleNamespace(spi=spi, transform=SimpleNamespace(protocol=protocol))]
        self.is_cleared = False

    def clear_sas(self, now: float) -> list[Effect]:
        self.is_cleared = True
        return []


@pytest.fixture
def cores(router: Router) -> list[_Core]:
    """Two members in a router, each by a map of its own: one with an SA of ESP, one with one of AH."""
    maps = "".join(f"crypto map {name} 10 gdoi\n set group G\n" for name in ("first", "second", "third"))
    configuration = parse(KEY_SERVER + maps).configuration
    assert configuration is not None
    router.configuration = configuration
    cores = [_Core(500, SecurityProtocol.ESP), _Core(600, SecurityProtocol.AH)]
    members: dict[Any, Any] = {}
    for number, (name, core) in enumerate(zip(("first", "second"), cores, strict=True), start=1):
        address = IPv4Address(f"10.0.0.{number}")
        members["G", address] = SimpleNamespace(core=core, bound=SimpleNamespace(crypto_map=name), address=address)
    router.cores.members = members
    return cores


@pytest.mark.parametrize(
    ("line", "cleared"),
    [
        ("", [True, True]),
        ("peer 0.0.0.0", [True, True]),
        ("map first", [True, False]),
        ("map second", [False, True]),
        ("map third", [False, False]),
        ("entry 10.0.0.1 ESP 500", [True, False]),
        ("spi 0.0.0.0 ah 600", [False, True]),
        ("counters", [False, False]),
    ],
)
def test_sas_are_cleared_by_what_they_belong_to(router: Router, cores: list[_Core], line: str, cleared: list[bool]) -> None:
    assert _asked(router, f"clear crypto sa {line}") == ""
    assert [core.is_cleared for core in cores] == cleared


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("map fourth", "No crypto map 'fourth' is configured"),
        ("peer 10.0.0.1", "No SA has the peer 10.0.0.1"),
        ("entry 10.0.0.2 esp 500", "No such SA"),
        ("entry 10.0.0.1 ah 500", "No such SA"),
        ("entry 10.0.0.1 esp 501", "No such SA"),
        ("entry 10.0.0.1 esp 255", "255 is outside"),
    ],
)
def test_what_names_no_sa_clears_none(router: Router, cores: list[_Core], line: str, complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        _asked(router, f"clear crypto sa {line}")
    assert [core.is_cleared for core in cores] == [False, False]


def _counted(spi: int) -> SaCounters:
    return SaCounters(spi, 10, 1000, 20, 2000)


def test_sas_that_stay_count_from_zero_on_and_hand_no_more_to_their_entries() -> None:
    flows = Flows()
    flows.follow({HOLDER: Served(frozenset((ENTRY,)), {1: (ENTRY,)})}, _counted)
    flows.follow({HOLDER: Served(frozenset((ENTRY,)), {2: (ENTRY,), 3: ()})}, _counted)
    assert flows.ended(HOLDER)
    flows.begin(_counted)
    assert not flows.ended(HOLDER)
    later = SaCounters(2, 11, 1100, 23, 2300)
    assert flows.since(later) == SaCounters(2, 1, 100, 3, 300)
    assert flows.since(SaCounters(7, 5)) == SaCounters(7, 5), "it came afterwards"
    anew = SaCounters(3, 1, 100, 0, 0)
    assert flows.since(anew) == anew, "made anew"
    assert flows.since(replace(anew, encrypted_packets=12)).encrypted_packets == 12
    flows.follow({HOLDER: Served(frozenset((ENTRY,)), {})}, lambda spi: later)
    assert flows.ended(HOLDER) == {ENTRY: SaCounters(2, 1, 100, 3, 300)}
    assert flows.since(later) == later, "the SPI may be given to another"


def test_what_went_on_is_counted_from_zero_on_too() -> None:
    cleared = Refusals()
    cleared.clear([InterfaceCounters("eth0", delivered={"outbound_delivered": 7}, traffic={"inbound_copies": 2, "inbound_pending": 3})])
    now = cleared.since(InterfaceCounters("eth0", delivered={"outbound_delivered": 9}, traffic={"inbound_copies": 5, "inbound_pending": 0}))
    assert now is not None
    assert now.delivered == {"outbound_delivered": 2}
    assert now.traffic == {"inbound_copies": 3, "inbound_pending": 0}, "fragments that wait come and go"


def test_an_operator_clears_the_counters_of_sas_and_interfaces(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = member_of(state, MEMBER)
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    start_cores(router)
    counters = [InterfaceCounters("lo", drops={"outbound_too_big": 4}, delivered={"outbound_delivered": 7, "inbound_delivered": 8})]
    monkeypatch.setattr(router.enforcement, "counters", lambda: tuple(counters))

    def shown() -> list[str]:
        lines = _asked(router, "show crypto gdoi gm dataplane counters").splitlines()
        return [line for line in lines if "encrypt" in line or "encaps" in line]

    assert shown() == [
        "    #pkts encrypt            : 7           #pkts decrypt            : 8",
        "    #pkts encaps fail (send) : 4        #pkts decap fail (rcv)   : 0",
    ]
    assert _asked(router, "clear crypto sa counters") == ""
    counters[0] = InterfaceCounters("lo", drops={"outbound_too_big": 5}, delivered={"outbound_delivered": 9, "inbound_delivered": 8})
    assert shown() == [
        "    #pkts encrypt            : 2           #pkts decrypt            : 0",
        "    #pkts encaps fail (send) : 1        #pkts decap fail (rcv)   : 0",
    ]
