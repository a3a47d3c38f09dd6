"""Drops as routers count errors: each in one class, and what is no error in none."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from show_samples import GDOI_DENY, GM, MEMBER, SITES, TEK

from groupvpn.config import parse
from groupvpn.console.registry import exec_commands
from groupvpn.console.show import commands, ipsec
from groupvpn.console.show.errors import HARMLESS, INTERNAL, errors
from groupvpn.console.show.ipsec import ProtectedInterface
from groupvpn.dataplane import guard
from groupvpn.dataplane.steering import COPIES, DROP_REASONS
from groupvpn.ipsec.sa import InterfaceCounters, SaCounters, TrafficRule
from groupvpn.node.control import CommandError

ENGINE = Path(__file__).parents[2] / "engine" / "reason.hpp"
DROPS = {
    "outbound_no_sa": 1,
    "outbound_too_big": 2,
    "outbound_sequence_exhausted": 4,
    "outbound_send_failed": 8,
    "inbound_unknown_spi": 16,
    "inbound_padding": 32,
    "inbound_next_header": 64,
    "inbound_authentication": 128,
    "inbound_not_permitted": 256,
    "inbound_esp_length": 512,
    "inbound_replayed": 1024,
    "inbound_queue_full": 2048,
} | dict.fromkeys(HARMLESS, 1_000_000)
COUNTERS = InterfaceCounters(
    "eth0",
    (SaCounters(TEK.spi, 100, 9000, 90, 8000),),
    DROPS,
    {"outbound_delivered": 107, "inbound_delivered": 96, "outbound_passed": 5000},
    {COPIES: 6},
)
PROTECTED = ProtectedInterface(
    "GigabitEthernet0/0", "bankmap", GM, 1500, (TrafficRule(GDOI_DENY), TrafficRule(SITES, TEK.spi)), {TEK.spi: TEK}, COUNTERS
)


def test_every_drop_is_an_error_of_its_direction_unless_it_is_known_to_be_none() -> None:
    names = re.search(r"reason_names = \{(.*?)\};", ENGINE.read_text(encoding="utf-8"), re.DOTALL)
    assert names
    reasons = set(re.findall(r'"(\w+)"', names.group(1))) - {"delivered"}
    drops = {f"{way}_{reason}": 1 for way in ("outbound", "inbound") for reason in reasons}
    drops |= dict.fromkeys((*DROP_REASONS, *guard.REASONS, "outbound_queue_full", "inbound_queue_full"), 1)
    assert drops.keys() >= HARMLESS
    for way in ("outbound", "inbound"):
        ours = [name for name in drops if name.startswith(way)]
        assert sum(errors(InterfaceCounters("eth0", drops=drops), way).values()) == len(set(ours) - HARMLESS)
    assert set(errors(None, "inbound").values()) == {0}


def test_classes_are_named_by_routers_and_all_others_are_internal() -> None:
    assert errors(COUNTERS, "outbound") == {"no sa": 1, "failed": 2, "rollover": 4, INTERNAL: 8}
    inbound = {"no sa": 16, "failed": 32, "protocol": 64, "verify": 128, "identity": 256, "length": 512, "replay": 1024, INTERNAL: 2048}
    assert errors(COUNTERS, "inbound") == inbound


def test_ipsec_sas_in_detail() -> None:
    lines = ipsec.associations([PROTECTED], is_detailed=True).splitlines()
    start = lines.index("    #pkts not decompressed: 0, #pkts decompress failed: 0") + 1
    assert lines[start : start + 11] == [
        "    #pkts no sa (send) 1, #pkts invalid sa (rcv) 16",
        "    #pkts encaps failed (send) 2, #pkts decaps failed (rcv) 32",
        "    #pkts invalid prot (recv) 64, #pkts verify failed: 128",
        "    #pkts invalid identity (recv) 256, #pkts invalid len (rcv) 512",
        "    #pkts replay rollover (send): 4, #pkts replay rollover (rcv) 0",
        "    ##pkts replay failed (rcv): 1024",
        "    #pkts tagged (send): 0, #pkts untagged (rcv): 0",
        "    #pkts not tagged (send): 0, #pkts not untagged (rcv): 0",
        "    #pkts internal err (send): 8, #pkts internal err (recv) 2048",
        "",
        "     local crypto endpt.: 10.1.0.1, remote crypto endpt.: 0.0.0.0",
    ]
    assert "    #send errors 15, #recv errors 4080" in ipsec.associations([PROTECTED])


def test_flows_alone_and_sas_alone() -> None:
    flows = ipsec.associations([PROTECTED], has_sas=False)
    assert flows.endswith("    #send errors 15, #recv errors 4080")
    assert "current_peer 0.0.0.0 port 848" in flows
    other = replace(TEK, spi=0x77)
    sas = ipsec.addresses([replace(PROTECTED, teks={TEK.spi: TEK, other.spi: other}), PROTECTED])
    assert [line.strip() for line in sas.splitlines() if re.search("address|protocol|spi:", line)] == [
        "fvrf/address: (none)/0.0.0.0",
        "protocol: ESP",
        "spi: 0x77(119)",
        "spi: 0x5AE90201(1525219841)",
    ]


def test_counters_of_a_member() -> None:
    """The layout that routers print, as a program reads it line by line."""
    other = InterfaceCounters("eth1", drops={"inbound_authentication": 1}, delivered={"outbound_delivered": 3, "inbound_delivered": 4})
    assert ipsec.group_counters("bank", [COUNTERS, other]).splitlines() == [
        "Data-plane statistics for group bank:",
        "    #pkts encrypt            : 110         #pkts decrypt            : 100",
        "    #pkts tagged (send)      : 0        #pkts untagged (rcv)     : 0",
        "    #pkts no sa (send)       : 1        #pkts invalid sa (rcv)   : 16",
        "    #pkts encaps fail (send) : 6        #pkts decap fail (rcv)   : 1824",
        "    #pkts invalid prot (rcv) : 64       #pkts verify fail (rcv)  : 129",
        "    #pkts not tagged (send)  : 0        #pkts not untagged (rcv) : 0",
        "    #pkts internal err (send): 8        #pkts internal err (rcv) : 2048",
    ]


MAPS = """
crypto gdoi group bank
 identity number 1
 server address ipv4 10.9.0.1
crypto map bankmap 10 gdoi
 set group bank
crypto map other 10 gdoi
 set group bank
interface GigabitEthernet0/0
 ip address 10.1.0.1 255.255.255.0
 crypto map bankmap
interface GigabitEthernet0/1
 ip address 10.1.1.1 255.255.255.0
"""


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Any:
    second = replace(PROTECTED, name="GigabitEthernet0/1", crypto_map="other")
    monkeypatch.setattr(commands, "_protected", lambda router, request: [("bank", PROTECTED), ("bank", second)])
    bound = SimpleNamespace(interfaces=[SimpleNamespace(name="GigabitEthernet0/0", device="eth0")])
    member = SimpleNamespace(status=MEMBER, bound=bound)
    monkeypatch.setattr(commands, "_members", lambda router, request: [member])
    monkeypatch.setattr(commands, "_counters", lambda router: {"eth0": COUNTERS})
    return SimpleNamespace(configuration=parse(MAPS).configuration, enforcement=SimpleNamespace(faults=()))


def _asked(router: Any, line: str) -> str:
    return asyncio.run(exec_commands().run(router, line))


@pytest.mark.parametrize(
    ("line", "interfaces", "shown"),
    [
        ("show crypto ipsec sa", 2, "#send errors"),
        ("show crypto ipsec sa detail", 2, "##pkts replay failed"),
        ("show crypto ipsec sa map bankmap", 1, "#send errors"),
        ("show crypto ipsec sa map other detail", 1, "##pkts replay failed"),
        ("show crypto ipsec sa interface gi0/1 detail", 1, "##pkts replay failed"),
        ("show crypto ipsec sa identity", 2, "#send errors"),
        ("show crypto ipsec sa identity detail", 2, "##pkts replay failed"),
        ("show crypto ipsec sa address", 0, "fvrf/address"),
        ("show crypto ruleset", 0, "  11 ANY/848 ANY/848 DENY"),
        ("show crypto ruleset detail", 0, "  20000002000019 11 ANY/848 ANY/848 DENY"),
        ("show crypto gdoi gm dataplan counter", 0, "Data-plane statistics for group bank:"),
        ("show crypto gkm group bank gm dataplane counters", 0, "Data-plane statistics for group bank:"),
    ],
)
def test_commands_choose_what_is_shown(router: Any, line: str, interfaces: int, shown: str) -> None:
    output = _asked(router, line)
    assert output.count("interface: ") == interfaces
    assert shown in output
    assert ("#send errors" in output) == (shown == "#send errors")
    assert ("inbound esp sas:" in output) == (interfaces > 0 and "identity" not in line)


def test_what_is_no_address_of_a_member_is_invalid_input(router: Any) -> None:
    with pytest.raises(CommandError, match="Invalid input detected"):
        _asked(router, "show crypto gdoi ks members 192.0.2.999")


@pytest.mark.parametrize(
    ("options", "maps"), [("", ["bankmap", "other"]), ("tag other", ["other"]), ("interface g0/0", ["bankmap"]), ("interface g0/1", [])]
)
def test_crypto_maps_by_name_and_by_interface(router: Any, options: str, maps: list[str]) -> None:
    assert re.findall(r'Crypto Map IPv4 "(\w+)"', _asked(router, f"show crypto map {options}")) == maps


@pytest.mark.parametrize("line", ["show crypto ipsec sa map nothing", "show crypto map tag nothing", "show crypto map interface g0/7"])
def test_what_is_not_configured_is_said(router: Any, line: str) -> None:
    with pytest.raises(CommandError, match="is configured"):
        _asked(router, line)
