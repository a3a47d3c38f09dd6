"""What is on the disk of a policy in force: it comes back as it was, and whatever else is there does no harm."""

import io
import json
from contextlib import redirect_stderr
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction, TrafficRule
from groupvpn.node.in_force import FILE, InForce
from groupvpn.node.state import StateDirectory, StateError
from groupvpn.node.syslog import Log

LOOPBACKS = frozenset((IPv4Interface("10.9.1.1/32"), IPv4Interface("10.9.2.1/24")))
HOLED = AddressMatch(IPv4Address("10.1.0.1"), IPv4Address("0.0.255.254"))
RULES = {
    ("SITES", "GigabitEthernet0/0"): (
        TrafficRule(Entry(Action.DENY, 17, AddressMatch.any(), HOLED, 500, 4500)),
        TrafficRule(Entry(Action.DENY, 1, AddressMatch.any(), HOLED, icmp_type=0)),
        TrafficRule(Entry(Action.DENY, 1, AddressMatch.any(), HOLED, icmp_type=3, icmp_code=1)),
        TrafficRule(Entry(Action.PERMIT, 0, HOLED, AddressMatch.any()), direction=Direction.INBOUND_ONLY),
    ),
    ("OTHER", "Loopback0"): (TrafficRule(Entry(Action.PERMIT, 6, AddressMatch.any(6), AddressMatch.any(6))),),
}


def test_what_was_in_force_is_known_to_the_next_run(state: StateDirectory) -> None:
    first = InForce(state, Log("m"))
    assert (first.last_rules, first.last_loopbacks) == ({}, frozenset())
    first.note_loopbacks(LOOPBACKS)
    first.note_rules(RULES)
    second = InForce(state, Log("m"))
    assert (second.last_rules, second.last_loopbacks) == (RULES, LOOPBACKS)
    second.note_loopbacks(frozenset())
    assert InForce(state, Log("m")).last_rules == RULES, "a run that is killed early has not forgotten them"


@pytest.mark.parametrize("by", ["the end of the run", "nothing in force"])
def test_there_is_no_file_for_nothing(state: StateDirectory, by: str) -> None:
    in_force = InForce(state, Log("m"))
    in_force.note_loopbacks(frozenset())
    assert not (state.path / FILE).exists()
    in_force.note_rules(RULES)
    assert (state.path / FILE).exists()
    if by == "the end of the run":
        in_force.forget()
    else:
        in_force.note_rules({})
    assert not (state.path / FILE).exists()


def test_the_disk_is_left_alone_while_nothing_changes(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    in_force = InForce(state, Log("m"))
    in_force.note_rules(RULES)
    monkeypatch.setattr(state, "write", lambda *_: pytest.fail("it was written again"))
    in_force.note_rules(dict(RULES))


def test_what_is_in_force_again_is_on_the_disk_again(state: StateDirectory) -> None:
    in_force = InForce(state, Log("m"))
    for rules in (RULES, {}, RULES):
        in_force.note_rules(rules)
    assert InForce(state, Log("m")).last_rules == RULES


def test_a_disk_that_is_full_is_told_of_and_tried_again(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, octets: bytes) -> None:
        raise StateError(f"{name} cannot be written: No space left on device")

    log = Log("m")
    in_force = InForce(state, log)
    monkeypatch.setattr(state, "write", full)
    in_force.note_rules(RULES)
    assert log.lines[-1].body.startswith("%SYS-4-STATE_NOTE: ")
    assert "No space left on device" in log.lines[-1].text
    assert in_force.next_retry is not None
    in_force.retry()
    assert len(log.lines) == 1, "once is enough"
    monkeypatch.undo()
    in_force.retry()
    assert in_force.next_retry is None
    assert log.lines[-1].body.startswith("%SYS-5-STATE_WRITTEN: ")
    assert InForce(state, log).last_rules == RULES


def test_a_file_that_cannot_be_removed_is_told_of(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(name: str) -> bool:
        raise StateError(f"{name} cannot be removed: Read-only file system")

    log = Log("m")
    in_force = InForce(state, log)
    in_force.note_rules(RULES)
    monkeypatch.setattr(state, "remove", read_only)
    in_force.note_rules({})
    assert "Read-only file system" in log.lines[-1].text
    monkeypatch.undo()
    in_force.retry()
    assert not (state.path / FILE).exists()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.sampled_from(["rules", "loopbacks", "group", "interface"]), inner),
    max_leaves=12,
)


@given(st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_octets_are_rules_or_are_told_of(octets: bytes) -> None:
    class State:
        path = Path()

        def read(self, name: str) -> bytes:
            return octets

    log = Log("m")
    with redirect_stderr(io.StringIO()):
        found = InForce(State(), log)  # type: ignore[arg-type]
    if log.lines:
        assert "cannot be used" in log.lines[-1].text
        assert found.is_unknown
        assert (found.last_rules, found.last_loopbacks) == ({}, frozenset())


def test_a_rule_that_cannot_be_is_told_of(state: StateDirectory) -> None:
    InForce(state, Log("m")).note_rules(RULES)
    record = json.loads(state.read(FILE) or b"")
    for at, value in ((0, "ALLOW"), (1, 70000), (2, ["10.0.0.0"]), (3, ["::", "::"]), (4, None), (6, "SIDEWAYS")):
        damaged = json.loads(json.dumps(record))
        damaged["rules"][0]["rules"][0][at] = value
        state.write(FILE, json.dumps(damaged).encode())
        log = Log("m")
        assert InForce(state, log).last_rules == {}
        assert len(log.lines) == 1


@pytest.mark.parametrize("octets", [b"[" * 100_000, b'{"rules": 1e400, "loopbacks": []}', b'{"rules": [], "loopbacks": [1e400]}'])
def test_octets_that_no_decoder_expects_are_told_of(state: StateDirectory, octets: bytes) -> None:
    state.write(FILE, octets)
    log = Log("m")
    assert InForce(state, log).last_rules == {}
    assert "cannot be used" in log.lines[-1].text


def test_a_file_that_cannot_be_read_is_told_of(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> bytes:
        raise StateError(f"{name} cannot be read: Input/output error")

    monkeypatch.setattr(state, "read", broken)
    log = Log("m")
    assert InForce(state, log).last_rules == {}
    assert "Input/output error" in log.lines[-1].text


def test_a_file_that_cannot_be_used_stays_until_it_is_known_what_holds(state: StateDirectory) -> None:
    """Else a second kill, right after the start, would leave a file which says that nothing was protected."""
    state.write(FILE, bytes(40))
    in_force = InForce(state, Log("m"))
    in_force.note_loopbacks(LOOPBACKS)
    assert InForce(state, Log("m")).is_unknown
    in_force.note_rules({})
    last = InForce(state, Log("m"))
    assert (last.is_unknown, last.last_loopbacks) == (False, LOOPBACKS)
