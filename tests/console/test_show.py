"""The layouts of `show crypto …`, from made-up status values: labels, columns and numbers as operators' parsers expect them."""

import asyncio
import re
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from show_samples import ACL, GDOI_DENY, GM, KEK, KS, MEMBER, SERVED, SITES, TEK

from groupvpn import __version__
from groupvpn.config import parse
from groupvpn.console.registry import exec_commands
from groupvpn.console.show import commands, engine, ipsec, isakmp, key_server, member, replay
from groupvpn.console.show.ipsec import ProtectedInterface
from groupvpn.console.show.layout import clock, entry
from groupvpn.crypto.registry import EspCipher, IkeCipher, IkeGroup, IkeHash
from groupvpn.dataplane.options import BackEnd, EngineStatus, PortStatus
from groupvpn.effects import Endpoint
from groupvpn.gdoi.member_status import status_of_waiting
from groupvpn.gdoi.policy import MemberGroup, Replay, ReplayMethod
from groupvpn.gdoi.status import (
    RegistrationStatus,
    SaPolicyStatus,
)
from groupvpn.ike.machine import State
from groupvpn.ike.policy import IkeConfiguration, IsakmpPolicy
from groupvpn.ipsec.acl import AccessList
from groupvpn.ipsec.sa import Direction, InterfaceCounters, SaCounters, TrafficRule
from groupvpn.node.control import CommandError


def expect(output: str, *wanted: str) -> None:
    """Every wanted line stands in the output, in this order, to the letter."""
    position = 0
    lines = output.splitlines()
    for line in wanted:
        assert line in lines[position:], f"{line!r} is not (or not in order) in\n{output}"
        position = lines.index(line, position) + 1


def test_entries_print_ports_as_numbers() -> None:
    assert entry(GDOI_DENY) == "deny udp any port = 848 any port = 848"
    assert entry(SITES) == "permit ip 10.0.0.0 0.255.255.255 any"
    assert entry(replace(SITES, protocol=200)) == "permit 200 10.0.0.0 0.255.255.255 any"
    unreachable = replace(GDOI_DENY, protocol=1, source_port=0, destination_port=0, icmp_type=3)
    assert entry(unreachable) == "deny icmp any any unreachable"
    assert entry(replace(unreachable, icmp_code=3)) == "deny icmp any any port-unreachable"
    assert entry(replace(unreachable, icmp_type=13, icmp_code=0)) == "deny icmp any any 13 0"
    assert clock(3725) == "01:02:05"


def test_member_overview() -> None:
    output = member.overview([(MEMBER, "GigabitEthernet0/0")])
    expect(
        output,
        "GROUP INFORMATION",
        "    Group Name               : bank",
        "    Group Identity           : 1234",
        "    Group Type               : GDOI (ISAKMP)",
        "    Rekeys received          : 25",
        "    IPSec SA Direction       : Both",
        "     Group Server list       : 10.9.0.1",
        "                               10.9.0.2",
        "Group Member Information For Group bank:",
        "    ACL Received From KS     : gdoi_group_bank_temp_acl",
        "    Group member             : 10.1.0.1        vrf: None",
        "       Local addr/port       : 10.1.0.1/848",
        "       Remote addr/port      : 10.9.0.1/848",
        "       fvrf/ivrf             : None/None",
        f"       Version               : {__version__}",
        "       Registration status   : Registered",
        "       Registered with       : 10.9.0.1",
        "       Re-registers in       : 650 sec",
        "       Succeeded registration: 1",
        "       Attempted registration: 2",
        "       Last rekey seq num    : 7",
        "       Rekey Rcvd(hh:mm:ss)  : 01:02:05",
        "       Active TEK Number     : 1",
        "       allowable rekey cipher: any",
        "       After latest register : 3",
        " ACL Downloaded From KS 10.9.0.1:",
        "   access-list   deny udp any port = 848 any port = 848",
        "KEK POLICY:",
        "    Rekey Transport Type     : Unicast",
        "    Lifetime (secs)          : 1109",
        "    Encrypt Algorithm        : AES",
        "    Key Size                 : 256",
        "    Sig Hash Algorithm       : HMAC_AUTH_SHA256",
        "TEK POLICY for the current KS-Policy ACEs Downloaded:",
        "  GigabitEthernet0/0:",
        "        spi: 0x5AE90201(1525219841)",
        "        transform: esp-256-aes esp-sha256-hmac",
        "        sa timing:remaining key lifetime (sec): (710)",
        "        Anti-Replay(Counter Based) : 64",
    )


def test_member_that_has_not_registered_yet() -> None:
    waiting = replace(
        MEMBER,
        active_server=None,
        remote=None,
        registration_status=RegistrationStatus.REGISTERING,
        reregisters_in=None,
        rekey_received_ago=None,
        kek=None, teks=(), acl_server=None, acl_downloaded=(), last_rekey_from=None,
    )  # fmt: skip
    output = member.overview([(waiting, "GigabitEthernet0/0")])
    expect(
        output, "       Registration status   : Registering", "       Registered with       : 0.0.0.0", "       Re-registers in       : ---"
    )
    assert "KEK POLICY" not in output
    assert "TEK POLICY" not in output
    kept = member.overview([(replace(waiting, acl_kept=(SITES,)), "GigabitEthernet0/0")])
    for shown in (output, member.access_lists([(waiting, "GigabitEthernet0/0")])):
        assert " ACL Downloaded From KS UNKNOWN:" in shown
        assert "Kept" not in shown
    assert f" ACL Kept From Before The Start:\n   access-list   {entry(SITES)}" in kept


def test_member_that_is_registering_tells_with_whom_and_when_it_goes_on() -> None:
    asking = replace(
        MEMBER,
        active_server=None,
        local=Endpoint(GM, 4500),
        remote=Endpoint(IPv4Address("10.9.0.2"), 4500),
        registration_status=RegistrationStatus.REGISTERING,
        reregisters_in=None,
        next_attempt_in=13,
    )
    expect(
        member.members([(asking, "GigabitEthernet0/0")]),
        "       Local addr/port       : 10.1.0.1/4500",
        "       Remote addr/port      : 10.9.0.2/4500",
        "       Registered with       : 0.0.0.0",
        "       Re-registers in       : 13 sec",
    )


def test_member_that_waits_for_an_address() -> None:
    group = MemberGroup("bank", 1234, (KS,), passive=True)
    expect(
        member.overview([(status_of_waiting(group, "GigabitEthernet0/0"), "GigabitEthernet0/0")]),
        "    Group Name               : bank",
        "    Group member             : 0.0.0.0         vrf: None",
        "       Remote addr/port      : 10.9.0.1/848",
        "       Registration status   : Not registered",
        "       Waits for             : an address of GigabitEthernet0/0",
        "       Re-registers in       : ---",
    )


def test_member_rekey_and_acl() -> None:
    expect(
        member.rekeys([(MEMBER, "x")]),
        "Group bank (Unicast)",
        "    Number of Rekeys received (cumulative)       : 25",
        "    Number of Rekeys received after registration : 3",
        "    Number of Rekey Acks sent                    : 24",
        "          dst             src             conn-id  my-cookie  his-cookie",
        f"New     : 10.1.0.1        10.9.0.1        {member.connection_id(KEK.spi):>6}   A0A1A2A3   A8A9AAAB",
    )
    local = replace(MEMBER, acl_local=AccessList("mine", (GDOI_DENY,)))
    assert "ACL Configured Locally" not in member.access_lists([(local, "x")], local=False)
    expect(member.access_lists([(local, "x")]), " ACL Configured Locally:", "   access-list mine")


def test_key_server_policy() -> None:
    expect(
        key_server.policy([SERVED]),
        "Key Server Policy:",
        "For group bank (handle: 0x80000002) server 10.9.0.1 (handle: 0x80000002):",
        "  # of teks : 1  Seq num : 7",
        "  KEK POLICY (transport type : Unicast)",
        "    spi : 0xA0A1A2A3A4A5A6A7A8A9AAABACADAEAF",
        "    management alg     : disabled      encrypt alg           : AES",
        "    crypto iv length   : 16            key size              : 32",
        "    orig life(sec)     : 86400         remaining life(sec)   : 1109",
        "    sig hash algorithm : enabled       sig key length        : 294",
        "    sig size           : 256",
        "    sig key name       : rekeys",
        "  TEK POLICY (encaps : ENCAPS_TUNNEL)",
        "    spi                : 0x5AE90201",
        "    access-list        : traffic",
        "    transform          : esp-256-aes esp-sha256-hmac",
        "    alg key size       : 32            sig key size          : 32",
        "    orig life(sec)     : 3600          remaining life(sec)   : 710",
        "    tek life(sec)      : 3600          elapsed time(sec)     : 2890",
    )


def test_key_server_members_and_summary() -> None:
    expect(
        key_server.members([SERVED]),
        "Number of rekeys sent for group bank : 4",
        "Number of retransmits during the last rekey for group bank : 1",
        "Duration of the last rekey for group bank : 10000 msec",
        "Group Member ID    : 10.1.0.1  GM Version: 0.0.0",
        " UDP port          : 848",
        " Rekeys sent       : 4",
        " Rekeys retries    : 1",
        " Rekey Acks Rcvd   : 3",
        " Rekey Acks missed : 1",
        " Sent seq num : 4     5     0     0",
        " Rcvd seq num : 4     0     0     0",
    )
    expect(key_server.members([SERVED], "10.1.0.2"), "Group Member not Found")
    expect(
        key_server.members_summary([SERVED]),
        "Group Name: bank, ID: 1234, Group Members: 1",
        "  10.1.0.1          0.0.0       4              1",
    )


def test_key_server_overview_with_and_without_rekeys() -> None:
    output = key_server.overview([SERVED])
    expect(
        output,
        "    Group Name               : bank (Unicast)",
        "    Group Members            : 1",
        "    Group Rekey Lifetime     : 86400 secs",
        "        Remaining Lifetime   : 1109 secs",
        "    Rekey Retransmit Period  : 10 secs",
        "      IPSec SA Number        : 10",
        "      IPSec SA Rekey Lifetime: 3600 secs",
        "      Profile Name           : bank-profile",
        "         Remaining Lifetime  : 710 secs",
        "      ACL Configured         : access-list traffic",
        "     Group Server list       : Local",
    )
    silent = key_server.overview([replace(SERVED, kek=None, rekey_lifetime=None, rekey_remaining=None)])
    assert "Group Rekey" not in silent
    expect(key_server.access_lists([SERVED]), "   access-list traffic  deny udp any port = 848 any port = 848")
    expect(key_server.rekeys([SERVED]), "    Number of Rekeys sent                : 4")
    expect(key_server.summary([SERVED]), "Total group members registered to this box: 1", "        access-list traffic")


def test_anti_replay_of_a_key_server() -> None:
    timed = SaPolicyStatus(20, "bank-profile", 3600, Replay(ReplayMethod.TIME, 100), ACL, 710)
    quiet = SaPolicyStatus(30, "bank-profile", 3600, Replay(ReplayMethod.DISABLED), ACL, 710)
    output = replay.key_server([replace(SERVED, sas=(*SERVED.sas, timed, quiet), pseudotime=10057.128, sync_in=1204)])
    expect(
        output,
        "Anti-replay Information For Group bank:",
        "    Pseudotime               : 10057.13 secs",
        "    Next synchronization     : in 1204 secs",
        "    IPSec SA Number          : 10",
        "        Replay method        : Count Based",
        "        Replay Window Size   : 64 packets",
        "    IPSec SA Number          : 20",
        "        Replay method        : Time Based",
        "        Replay Window Size   : 100 secs",
        "        Tick                 : 10 msec",
        "        Allowed skew         : 30 secs",
        "    IPSec SA Number          : 30",
        "        Replay method        : Disabled",
    )
    expect(replay.key_server([SERVED]), "    Pseudotime               : ---", "    Next synchronization     : ---")


def test_anti_replay_of_a_member() -> None:
    drops = {"inbound_replayed": 3, "inbound_too_old": 41, "inbound_too_new": 1, "inbound_padding": 7, "outbound_no_sender_id": 4}
    counters = InterfaceCounters("eth0", (SaCounters(TEK.spi, 100, 9000, 90, 8000), SaCounters(7, 1, 1, 1, 1)), drops)
    status = replace(MEMBER, teks=(replace(TEK, replay=Replay(ReplayMethod.TIME, 5)),), pseudotime=77.5, drops={"pseudotime too old": 2})
    output = replay.member([(status, [("GigabitEthernet0/0", counters), ("GigabitEthernet0/1", None)], False)])
    expect(
        output,
        "Anti-replay Information For Group bank:",
        "    Timebased Replay:",
        "        Replay Value : 77.50 secs",
        "        Input Packets : 90 Output Packets : 100",
        "        Input Error Packets : 42 Output Error Packets : 4",
        "    Pseudotime               : 77.50 secs",
        "    Rekeys refused as old    : 2",
        "    IPSec SA                 : 0x5AE90201(1525219841)",
        "        Replay method        : Time Based",
        "        Replay Window Size   : 5 secs",
        "        Allowed skew         : 5 secs",
        "    Packets refused on GigabitEthernet0/0:",
        "        Seen before, or left of window : 3",
        "        Pseudotime too old             : 41",
        "        Pseudotime too new             : 1",
        "    Packets refused on GigabitEthernet0/1:",
        "        Pseudotime too old             : 0",
    )
    assert "7" not in output.split("Packets refused")[1]


@pytest.mark.parametrize(
    ("window", "cipher", "without_ring", "with_ring"),
    [
        (Replay(ReplayMethod.COUNTER, 512), EspCipher.AES_256_CBC, "Window kept          : 512", "Window kept          : 4096"),
        (Replay(ReplayMethod.TIME, 5), EspCipher.AES_256_CBC, "Window of a sender   : 1024", "Window of a sender   : 4096"),
        (Replay(ReplayMethod.TIME, 5), EspCipher.NULL, "", ""),
        (Replay(ReplayMethod.DISABLED), EspCipher.AES_256_CBC, "", ""),
    ],
)
def test_a_member_tells_which_window_it_keeps(window: Replay, cipher: EspCipher, without_ring: str, with_ring: str) -> None:
    """Beside a ring every window has 4096 packets (docs/protocol/esp-replay.md). NULL has no place for a number of the packet."""
    status = replace(MEMBER, teks=(replace(TEK, replay=window, transform=replace(TEK.transform, cipher=cipher)),))
    for has_ring, line in ((False, without_ring), (True, with_ring)):
        lines = [item.strip() for item in replay.member([(status, [], has_ring)]).splitlines() if "Window kept" in item or "sender" in item]
        assert lines == ([f"{line} packets"] if line else [])


def test_isakmp_sa_columns() -> None:
    output = isakmp.associations(
        [], [isakmp.Negotiation(GM, KS, True, State.KEYS_SENT, bytes(16))], [isakmp.RekeySa(KS, GM, KEK.spi), isakmp.RekeySa(KS, GM, None)]
    )
    number = member.connection_id(KEK.spi)
    expect(
        output,
        "IPv4 Crypto ISAKMP SA",
        "dst             src             state          conn-id status",
        "10.9.0.1        10.1.0.1        MM_SA_SETUP       1001 ACTIVE",
        f"10.1.0.1        10.9.0.1        GDOI_REKEY     {number:>7} ACTIVE",
        "10.1.0.1        10.9.0.1        GDOI_REKEY           0 ACTIVE",
    )


def test_isakmp_sa_detail() -> None:
    sa: Any = SimpleNamespace(
        cookies=bytes(16),
        local=Endpoint(GM, 4500),
        peer=Endpoint(KS, 4500),
        policy=IsakmpPolicy(10, IkeCipher.AES_256, IkeHash.SHA2_256, group=IkeGroup.MODP_2048),
        expires=900.0,
        nat=SimpleNamespace(found=True),
        peer_dead_peer_detection=True,
    )
    keepalives: Any = SimpleNamespace(interval=20, sent=1, received=2)
    under_way = isakmp.Negotiation(GM, KS, True, State.KEYS_SENT, bytes(16))
    output = isakmp.details([sa], [under_way], [isakmp.RekeySa(KS, GM, None)], keepalives, 0.0)
    expect(
        output,
        "IPv4 Crypto ISAKMP SA",
        "1001  10.1.0.1        10.9.0.1               ACTIVE aes  sha256 psk  14 00:15:00 DN",
        "       Engine-id:Conn-id =  SW:1001",
        "1001  10.1.0.1        10.9.0.1               MM_SA_SETUP",
        "NAT keepalives: after 20 sec of silence, 1 sent, 2 received",
    )
    assert output.endswith("\n\nIPv6 Crypto ISAKMP SA")
    sa.peer_dead_peer_detection = sa.nat.found = False
    expect(
        isakmp.details([sa], [], [], keepalives, 0.0),
        "1001  10.1.0.1        10.9.0.1               ACTIVE aes  sha256 psk  14 00:15:00",
    )


def test_isakmp_policy_shows_defaults() -> None:
    strong = IsakmpPolicy(10, IkeCipher.AES_256, IkeHash.SHA2_256, group=IkeGroup.MODP_2048)
    output = isakmp.policies(IkeConfiguration(policies=(strong,)))
    expect(
        output,
        "Protection suite of priority 10",
        "        encryption algorithm:   AES - Advanced Encryption Standard (256 bit keys).",
        "        Diffie-Hellman group:   #14 (2048 bit)",
        "        lifetime:               86400 seconds, no volume limit",
    )
    expect(isakmp.policies(IkeConfiguration()), "Default protection suite", "        Diffie-Hellman group:   #1 (768 bit)")


@pytest.fixture
def protected() -> ProtectedInterface:
    counters = InterfaceCounters("eth0", (SaCounters(TEK.spi, 100, 9000, 90, 8000),), {"inbound_clear": 3, "outbound_no_sa": 0})
    rules = (TrafficRule(GDOI_DENY), TrafficRule(SITES, TEK.spi))
    return ProtectedInterface("GigabitEthernet0/0", "bankmap", GM, 1500, rules, {TEK.spi: TEK}, counters)


def test_sas_of_an_interface_that_cannot_be_protected_say_so(protected: ProtectedInterface, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys without rules protect nothing, however active they look."""
    router: Any = SimpleNamespace(enforcement=SimpleNamespace(faults={"there is no device gi0-0"}))
    monkeypatch.setattr(commands, "_protected", lambda router, request: [(None, protected)])
    output = asyncio.run(exec_commands().run(router, "show crypto ipsec sa"))
    assert output.splitlines()[:2] == ["% there is no device gi0-0", "interface: GigabitEthernet0/0"]
    monkeypatch.setattr(commands, "_protected", lambda router, request: [])
    assert asyncio.run(exec_commands().run(router, "show crypto ipsec sa")) == "No SAs found"


@pytest.mark.parametrize(
    "line",
    [
        "show crypto gdoi",
        "show crypto gdoi gm",
        "show crypto gdoi ipsec sa",
        "show crypto ruleset",
        "show crypto map",
        "show crypto map gdoi fail-close",
    ],
)
def test_what_is_claimed_of_protection_stands_below_what_keeps_it_from_being_there(
    protected: ProtectedInterface, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    fault = "there is no device eht0: nothing is protected, and what leaves by another device passes in the clear"
    configuration = parse("crypto map m 10 gdoi\ncrypto map m gdoi fail-close\n activate\n").configuration
    router: Any = SimpleNamespace(enforcement=SimpleNamespace(faults=()), configuration=configuration)
    monkeypatch.setattr(commands, "_protected", lambda router, request: [("bank", protected)])
    monkeypatch.setattr(commands, "_served", lambda router, request: [])
    monkeypatch.setattr(commands, "_members", lambda router, request: [SimpleNamespace(located=(MEMBER, "GigabitEthernet0/0"))])
    claimed = asyncio.run(exec_commands().run(router, line))
    assert "%" not in claimed
    router.enforcement.faults = {fault}
    assert asyncio.run(exec_commands().run(router, line)) == f"% {fault}\n{claimed}"


@pytest.mark.parametrize("line", ["show crypto ruleset", "show crypto gdoi ipsec sa", "show crypto gdoi group G ipsec sa"])
def test_what_only_members_have_is_refused_elsewhere(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(commands, "_protected", lambda router, request: [])
    with pytest.raises(CommandError, match="% This node is no group member"):
        asyncio.run(exec_commands().run(cast(Any, None), line))


def test_ipsec_sa(protected: ProtectedInterface) -> None:
    output = ipsec.associations([protected])
    expect(
        output,
        "interface: GigabitEthernet0/0",
        "    Crypto map tag: bankmap, local addr 10.1.0.1",
        "   local  ident (addr/mask/prot/port): (10.0.0.0/255.0.0.0/0/0)",
        "   remote ident (addr/mask/prot/port): (0.0.0.0/0.0.0.0/0/0)",
        "   current_peer 0.0.0.0 port 848",
        "    #pkts encaps: 100, #pkts encrypt: 100, #pkts digest: 100",
        "    #pkts decaps: 90, #pkts decrypt: 90, #pkts verify: 90",
        "    #send errors 0, #recv errors 0",
        "     plaintext mtu 1438, path mtu 1500, ip mtu 1500, ip mtu idb GigabitEthernet0/0",
        "     current outbound spi: 0x5AE90201(1525219841)",
        "     inbound esp sas:",
        "      spi: 0x5AE90201(1525219841)",
        "        transform: esp-256-aes esp-sha256-hmac ,",
        "        conn id: 41683, flow_id: SW:39683, sibling_flags 80000040, crypto map: bankmap",
        "        #pkts decrypt: 90, #bytes decrypt: 8000",
        "        sa timing: remaining key lifetime (sec): 710",
        "        Kilobyte Volume Rekey has been disabled",
        "     inbound ah sas:",
        "     inbound pcp sas:",
        "     outbound esp sas:",
        "        conn id: 41684, flow_id: SW:39684, sibling_flags 80000040, crypto map: bankmap",
        "        #pkts encrypt: 100, #bytes encrypt: 9000",
        "     inbound clear: 3",
    )
    assert "no sa" not in output


def test_each_entry_shows_its_own_sas_and_what_went_under_them(protected: ProtectedInterface) -> None:
    """Two policies of a group: each has its list and its TEK, and one list waits for its first."""
    other, bare = replace(SITES, protocol=6), replace(SITES, protocol=17)
    second = replace(TEK, spi=0x77, entries=(other,))
    rules = (TrafficRule(SITES, TEK.spi), TrafficRule(other, second.spi), TrafficRule(bare))
    counters = InterfaceCounters("eth0", (SaCounters(TEK.spi, 100, 9000, 90, 8000), SaCounters(second.spi, 5, 50, 4, 40)))
    interface = replace(protected, rules=rules, teks={TEK.spi: TEK, second.spi: second}, counters=counters)
    first, second_block, third = ipsec.associations([interface]).split("   protected vrf: (none)\n")[1:]
    expect(first, "    #pkts encaps: 100, #pkts encrypt: 100, #pkts digest: 100", "      spi: 0x5AE90201(1525219841)")
    assert "0x77" not in first
    expect(
        second_block,
        "    #pkts decaps: 4, #pkts decrypt: 4, #pkts verify: 4",
        "     current outbound spi: 0x77(119)",
        "      spi: 0x77(119)",
    )
    assert "0x5AE90201" not in second_block
    expect(
        third,
        "    #pkts encaps: 0, #pkts encrypt: 0, #pkts digest: 0",
        "    #pkts decaps: 0, #pkts decrypt: 0, #pkts verify: 0",
        "     plaintext mtu 1500, path mtu 1500, ip mtu 1500, ip mtu idb GigabitEthernet0/0",
        "     current outbound spi: 0x0(0)",
    )
    assert "      spi:" not in third


def test_what_an_entry_counts_goes_on_when_its_sa_is_gone(protected: ProtectedInterface) -> None:
    output = ipsec.associations([replace(protected, ended={SITES: SaCounters(1, 7, 700, 6, 600)})])
    expect(
        output,
        "    #pkts encaps: 107, #pkts encrypt: 107, #pkts digest: 107",
        "    #pkts decaps: 96, #pkts decrypt: 96, #pkts verify: 96",
        "        #pkts decrypt: 90, #bytes decrypt: 8000",
    )


def test_ipsec_sa_of_a_receive_only_member_sends_nothing(protected: ProtectedInterface) -> None:
    rules = (TrafficRule(SITES, TEK.spi, Direction.INBOUND_ONLY),)
    output = ipsec.associations([replace(protected, rules=rules)])
    assert re.search(r"outbound esp sas:\n\n", output)
    assert ipsec.ruleset([replace(protected, rules=rules)]) == "GigabitEthernet0/0:\n  IP 10.0.0.0/8 ANY IPsec SA Passive"


def test_numbered_rules_of_a_passive_member(protected: ProtectedInterface) -> None:
    """The numbers that the manual prints: of the interface, of the entry, and 5 for what is taken in the clear too."""
    every = replace(SITES, source=GDOI_DENY.source)
    rules = tuple(TrafficRule(item, direction=Direction.INBOUND_OPTIONAL) for item in (replace(GDOI_DENY, protocol=89), GDOI_DENY))
    passive = replace(protected, rules=(*rules, TrafficRule(every, TEK.spi, Direction.INBOUND_OPTIONAL)))
    last = "20000001999999"
    assert ipsec.ruleset([passive, replace(protected, name="GigabitEthernet0/1")], is_detailed=True).splitlines() == [
        "GigabitEthernet0/0:",
        f"  20000001000019 59 ANY/848 ANY/848 DENY -> {last}",
        f"  20000001000029 11 ANY/848 ANY/848 DENY -> {last}",
        "  20000001000035 IP ANY ANY IPsec SA Passive",
        "  20000001000039 IP ANY ANY IPsec Cryptomap",
        "GigabitEthernet0/1:",
        "  20000002000019 11 ANY/848 ANY/848 DENY -> 20000002999999",
        "  20000002000029 IP 10.0.0.0/8 ANY IPsec Cryptomap",
    ]


def test_ruleset_and_group_associations(protected: ProtectedInterface) -> None:
    expect(ipsec.ruleset([protected]), "GigabitEthernet0/0:", "  11 ANY/848 ANY/848 DENY", "  IP 10.0.0.0/8 ANY IPsec Cryptomap")
    expect(
        ipsec.group_associations("bank", protected),
        "SA created for group bank:",
        "    protocol = udp",
        "      local ident  = ANY, port = 848",
        "      direction: Both, replay(method/window): Disabled/0",
        "      direction: Both, replay(method/window): Counter/64",
    )


def test_places_of_files_can_be_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    configuration = SimpleNamespace(hostname="r")
    router: Any = SimpleNamespace(configuration=configuration, uptime=0, source=Path("r.cfg"), state=SimpleNamespace(path=tmp_path))
    assert f"Configuration file is {tmp_path}/r.cfg" in asyncio.run(exec_commands().run(router, "show version"))


def test_commands_complete_and_abbreviate() -> None:
    console = exec_commands()
    following = dict(console.following("show crypto gdoi ks"))
    assert {"members", "policy", "acl", "rekey"} <= following.keys()
    assert following["policy"]


def test_the_engine_says_by_which_ways_packets_come_and_go() -> None:
    fast = PortStatus("eth0", (BackEnd("xdp"), BackEnd("packet")), BackEnd("bpf"), BackEnd("bpf"), 1552, 2, 2, (2, 3))
    slow = PortStatus(
        "eth1",
        (BackEnd("packet", "xdp: another AF_XDP socket has the queue"),),
        BackEnd("tap", "ring: no packet socket"),
        BackEnd("nftables", "bpf: BPF map: Operation not permitted"),
        0,
        0,
    )
    counters = {"eth0": InterfaceCounters("eth0", drops={"outbound_queue_full": 3, "inbound_queue_full": 5, "outbound_send_failed": 7})}
    output = engine.status(EngineStatus("1.3.0", "avx512", "openssl", True, (fast, slow), 11, 13), {"eth0": "GigabitEthernet0/0"}, counters)
    expect(
        output,
        "Crypto Engine: software, state = Active",
        "    Library                  : intel-ipsec-mb 1.3.0",
        "    Code for this processor  : avx512",
        "    DES and 3DES by          : openssl",
        "    Library wipes its memory : yes",
        "    Packets not logged       : 13 above the rate, 11 without room",
        "Interface GigabitEthernet0/0 (eth0):",
        "    Transmit                 : xdp, AF_XDP in copy mode: frames are built in memory that the kernel shares",
        "    Transmit, thread 2       : packet, a packet socket, past the queueing discipline",
        "    Steering                 : bpf, BPF programs at the hooks of the interface",
        "    Ring takes packets up to : 1552 bytes",
        "    Threads                  : 2 out, 2 in",
        "    Threads are bound to     : processors 2, 3",
        "    Queues to encrypt        : 2",
        "    Found no room            : 3 out, 5 in",
        "    Not taken by interface   : 7",
        "Interface eth1 (eth1):",
        "    Transmit                 : packet, a packet socket, past the queueing discipline",
        "      not a better one       : xdp: another AF_XDP socket has the queue",
        "    Receive                  : tap, a TAP to which the rules forward ESP",
        "      not a better one       : ring: no packet socket",
        "    Steering                 : nftables, an nftables table",
        "      not a better one       : bpf: BPF map: Operation not permitted",
    )


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("", "4608000 kilobytes/3600 seconds"),
        ("crypto ipsec security-association lifetime kilobytes 5000", "5000 kilobytes/3600 seconds"),
        ("crypto ipsec security-association lifetime kilobytes disable", "no volume limit/3600 seconds"),
    ],
)
def test_the_lifetime_of_sas(line: str, shown: str) -> None:
    router: Any = SimpleNamespace(configuration=parse(line + "\n").configuration)
    output = asyncio.run(exec_commands().run(router, "show crypto ipsec security-association lifetime"))
    assert output == f"Security-association lifetime: {shown}"
