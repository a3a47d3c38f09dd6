"""Outputs as programs of operators read them: line by line, with one pattern for each value, and nothing found if a line differs.

The patterns are ours, and as narrow as the ones that are in use: an address is digits and dots, a setting one word.
"""

import re
from dataclasses import replace

import pytest
from show_samples import GDOI_DENY, GM, KEK, KS, MEMBER, SERVED, SITES, TEK

from groupvpn import __version__
from groupvpn.console.show import ipsec, key_server, member, replay
from groupvpn.console.show.ipsec import ProtectedInterface
from groupvpn.gdoi.member_status import status_of_waiting
from groupvpn.gdoi.policy import MemberGroup, Replay, ReplayMethod
from groupvpn.gdoi.status import RegistrationStatus
from groupvpn.ipsec.sa import InterfaceCounters, SaCounters, TrafficRule

ADDRESS, WORD, NUMBER = r"([0-9.]+)", r"(\w+)", r"(\d+)"
INTERFACE = "GigabitEthernet0/0"
TIMED = replace(MEMBER, pseudotime=77.5, teks=(replace(TEK, replay=Replay(ReplayMethod.TIME, 20)),))
REGISTERING = replace(
    MEMBER,
    active_server=None,
    registration_status=RegistrationStatus.REGISTERING,
    reregisters_in=None,
    next_attempt_in=9,
    kek=None,
    teks=(),
    last_rekey_from=None,
    rekey_received_ago=None,
)
WAITING = status_of_waiting(MemberGroup("bank", 1234, (KS,)), INTERFACE)
COUNTERS = InterfaceCounters("eth0", (SaCounters(TEK.spi, 100, 9000, 90, 8000),), {"inbound_too_old": 2})
PROTECTED = ProtectedInterface(
    INTERFACE, "GROUP-MAP", GM, 1500, (TrafficRule(GDOI_DENY), TrafficRule(SITES, TEK.spi)), {TEK.spi: TEK}, COUNTERS
)

MEMBERS = {
    f"Group member +: {ADDRESS} +vrf: {WORD}": ["10.1.0.1", "None"],
    rf"Local addr/port +: {ADDRESS}/{NUMBER}": ["10.1.0.1", "848"],
    rf"Remote addr/port +: {ADDRESS}/{NUMBER}": ["10.9.0.1", "848"],
    rf"fvrf/ivrf +: {WORD}/{WORD}": ["None", "None"],
    f"Version +: {ADDRESS}": [__version__],
    f"Registration status +: {WORD}": ["Registered"],
    f"Registered with +: {ADDRESS}": ["10.9.0.1"],
    f"Re-registers in +: {NUMBER} sec": ["650"],
    f"Succeeded registration: {NUMBER}": ["1"],
    f"Attempted registration: {NUMBER}": ["2"],
    f"Last rekey from +: {ADDRESS}": ["10.9.0.1"],
    f"Last rekey seq num +: {NUMBER}": ["7"],
    f"Unicast rekey received: {NUMBER}": ["25"],
    f"Rekey ACKs sent +: {NUMBER}": ["24"],
    r"Rekey Rcvd\(hh:mm:ss\) +: ([\d:]+)": ["01:02:05"],
    f"PFS Rekey received +: {NUMBER}": ["0"],
    f"DP Error Monitoring +: {WORD}": ["OFF"],
    f"IPSEC init reg executed +: {NUMBER}": ["0"],
    f"IPSEC init reg postponed +: {NUMBER}": ["0"],
    f"Active TEK Number +: {NUMBER}": ["1"],
    rf"SA Track \(OID/status\) +: {WORD}": ["disabled"],
    f"Fail-Close Revert +: {WORD}": ["Disabled"],
}
NOT_REGISTERED = {
    f"Version +: {ADDRESS}": [__version__],
    f"Registration status +: {WORD}": ["Registering"],
    f"Registered with +: {ADDRESS}": ["0.0.0.0"],
    f"Re-registers in +: {NUMBER} sec": ["9"],
    f"Last rekey from +: {ADDRESS}": ["0.0.0.0"],
    r"Rekey Rcvd\(hh:mm:ss\) +: ([\d:]+)": ["00:00:00"],
    f"Active TEK Number +: {NUMBER}": ["0"],
}
OVERVIEW = MEMBERS | {
    f"ACL Downloaded From KS {ADDRESS}:": ["10.9.0.1"],
    rf"Anti-Replay\(Counter Based\) : {NUMBER}": ["64"],
    f"tag method : {WORD}": ["disabled"],
    rf"alg key size: {NUMBER} \(bytes\)": ["32"],
    f"REG_GM: local_addr {ADDRESS}": ["10.1.0.1"],
    "(KGS|P2P) POLICY:": ["KGS"],
}
KEY_SERVER = {
    f"Total group members registered to this box: {NUMBER}": ["1"],
    f"Re-auth on new CRL +: {WORD}": ["Disabled"],
    f"Group Identity +: {NUMBER}": ["1234"],
    f"Rekey Acknowledgement Cfg: {WORD}": ["Interoperable"],
    f"IPSec SA Direction +: {WORD}": ["Both"],
    f"IP D3P Window +: {WORD}": ["Disabled"],
    f"Split Resiliency Factor +: {NUMBER}": ["0"],
    f"CKM status +: {WORD}": ["Disabled"],
    f"access-list {WORD}": ["traffic"],
}
KS_MEMBERS = {
    f"Number of rekeys sent for group bank : {NUMBER}": ["4"],
    f"Group Member ID +: {ADDRESS} +GM Version: {ADDRESS}": ["10.1.0.1", "0.0.0"],
    f"UDP port +: {NUMBER}": ["848"],
    f"Sent seq num : {NUMBER} +{NUMBER} +{NUMBER} +{NUMBER}": ["4", "5", "0", "0"],
}
SUMMARY = {rf"{ADDRESS} +{ADDRESS} +{NUMBER} +{NUMBER}": ["10.1.0.1", "0.0.0", "4", "1"]}
POLICY = {
    f"sig key name +: {WORD}": ["rekeys"],
    f"acknowledgement +: {WORD}": ["Interoperable"],
    f"override life.sec. +: {NUMBER} +antireplay window size: {NUMBER}": ["0", "64"],
}
SAS = {
    rf"plaintext mtu {NUMBER}, path mtu {NUMBER}, ip mtu {NUMBER}, ip mtu idb (\S+)": ["1438", "1500", "1500", INTERFACE],
    f"#pkts encaps: {NUMBER}, #pkts encrypt: {NUMBER}, #pkts digest: {NUMBER}": ["100", "100", "100"],
    f"#pkts decrypt: {NUMBER}, #bytes decrypt: {NUMBER}": ["90", "8000"],
    f"#pkts encrypt: {NUMBER}, #bytes encrypt: {NUMBER}": ["100", "9000"],
    r"transform: (\S.*) ,": ["esp-256-aes esp-sha256-hmac"],
}
GROUP_SAS = {rf"direction: {WORD}, replay\(method/window\): {WORD}/{NUMBER}": ["Both", "Disabled", "0"]}
TIMED_REPLAY = {
    "Timebased Replay:()": [""],
    r"Replay Value : ([\d.]+) secs": ["77.50"],
    f"Input Packets : {NUMBER} Output Packets : {NUMBER}": ["90", "100"],
    f"Input Error Packets : {NUMBER} Output Error Packets : {NUMBER}": ["2", "0"],
}
COUNTED_REPLAY = {"Timebased Replay:()": [""], "(is not enabled)": ["is not enabled"]}


@pytest.mark.parametrize(
    ("output", "patterns"),
    [
        (member.members([(MEMBER, INTERFACE)]), MEMBERS),
        (member.members([(REGISTERING, INTERFACE)]), NOT_REGISTERED),
        (
            member.members([(WAITING, INTERFACE)]),
            {f"Registration status +: {WORD} registered": ["Not"], f"Registered with +: {ADDRESS}": ["0.0.0.0"]},
        ),
        (member.overview([(MEMBER, INTERFACE)]), OVERVIEW),
        (member.overview([(TIMED, INTERFACE)]), {rf"Anti-Replay\(Time Based\) : {NUMBER} sec interval": ["20"]}),
        (key_server.summary([SERVED]), KEY_SERVER),
        (key_server.members([SERVED]), KS_MEMBERS),
        (key_server.members_summary([SERVED]), SUMMARY),
        (key_server.policy([SERVED]), POLICY),
        (key_server.policy([replace(SERVED, kek=replace(KEK, acknowledge=False))]), {f"acknowledgement +: {WORD}": ["None"]}),
        (ipsec.associations([PROTECTED]), SAS),
        (ipsec.group_associations("bank", PROTECTED), GROUP_SAS),
        (replay.member([(TIMED, [(INTERFACE, COUNTERS)], False)]), TIMED_REPLAY),
        (replay.member([(MEMBER, [(INTERFACE, COUNTERS)], False)]), COUNTED_REPLAY),
    ],
    ids=[
        "gm", "gm-registering", "gm-waiting", "gdoi", "gdoi-timed", "ks", "ks-members", "ks-summary", "ks-policy", "ks-policy-silent",
        "ipsec-sa", "gdoi-ipsec-sa", "replay-timed", "replay-counted",
    ],
)  # fmt: skip
def test_every_value_is_found_where_it_is_looked_for(output: str, patterns: dict[str, list[str]]) -> None:
    lines = [line.strip() for line in output.splitlines()]
    found = {pattern: [hit.groups() for line in lines if (hit := re.fullmatch(pattern, line))] for pattern in patterns}
    expected = {pattern: tuple(values) for pattern, values in patterns.items()}
    assert {pattern: hits[0] if hits else None for pattern, hits in found.items()} == expected


def test_both_policies_of_the_registered_member_are_named() -> None:
    """They come behind the TEKs, and a member that is not registered has none."""
    output = member.overview([(MEMBER, INTERFACE)])
    assert output.endswith("KGS POLICY:\n  REG_GM: local_addr 10.1.0.1\n\nP2P POLICY:\n  REG_GM: local_addr 10.1.0.1")
    assert "POLICY" not in member.overview([(REGISTERING, INTERFACE)])
