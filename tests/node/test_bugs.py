"""A bug costs what met it, and one line of the log."""

import io
from contextlib import redirect_stderr

import pytest

from groupvpn.node import bugs, clock
from groupvpn.node.bugs import MOST_BUGS, Bugs
from groupvpn.node.syslog import Log


def _meet(bugs: Bugs, what: str, error: Exception) -> None:
    with bugs.contained(what):
        raise error


def test_a_bug_goes_no_further_and_is_logged_with_its_place_and_not_its_data() -> None:
    log = Log("r")
    met = Bugs(log)
    with redirect_stderr(io.StringIO()):
        _meet(met, "a core", KeyError("secret octets"))
    (line,) = log.lines
    assert (line.severity, line.mnemonic) == (2, "BUG")
    assert line.text.startswith("internal error: KeyError in a core (test_bugs.py:")
    assert "secret octets" not in line.text
    assert met.met == {"KeyError": 1}


def test_a_bug_that_is_met_again_and_again_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = Log("r"), 0.0
    met = Bugs(log, debug=True)
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    with redirect_stderr(io.StringIO()):
        for step in range(100):
            now = float(step)
            _meet(met, "one place", KeyError("a bug"))
        _meet(met, "another place", KeyError("a bug"))
    lines = [line.text for line in log.lines if line.severity == 2]
    assert ["Please report this line (since the last line: 59 more)" in text for text in lines] == [False, True, False]
    tracebacks = [line.text for line in log.lines if line.severity == 7]
    assert tracebacks.count("KeyError: 'a bug'") == len(lines), "nor are the tracebacks repeated"
    assert met.met == {"KeyError": 101}


def test_each_line_of_a_traceback_is_one_of_the_log_so_that_its_end_is_not_cut() -> None:
    def deep(levels: int) -> None:
        if not levels:
            raise KeyError("the cause")
        deep(levels - 1)

    log = Log("r")
    met = Bugs(log, debug=True)
    with redirect_stderr(io.StringIO()), met.contained("a core"):
        deep(1)
        deep(2)
    texts = [line.text for line in log.lines if line.severity == 7]
    assert texts[0] == "Traceback (most recent call last):"
    assert "    deep(1)" in texts
    assert texts[-1] == "KeyError: 'the cause'"


def test_what_is_remembered_of_bugs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was forgotten is logged as if it were new."""
    log = Log("r")
    met = Bugs(log)
    monkeypatch.setattr(bugs, "BUG_PERIOD", 1e9)
    with redirect_stderr(io.StringIO()):
        for number in (*range(MOST_BUGS + 1), MOST_BUGS, 0):
            _meet(met, f"place {number}", KeyError("a bug"))
    assert sum(line.text.startswith("internal error: KeyError in place 0 ") for line in log.lines) == 2
    assert sum(line.text.startswith(f"internal error: KeyError in place {MOST_BUGS} ") for line in log.lines) == 1
