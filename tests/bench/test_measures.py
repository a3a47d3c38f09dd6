"""The search for the highest UDP rate, on links whose limit is known, ratios of rounds and of turns, and reports. Nothing is sent."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.load import Trial
from bench.measures import UDP_LOSS, highest_rate
from bench.results import Results, Sample, medians, write
from bench.run import BY_TURNS, TURNS, in_turns

from bench import report

SECONDS = 1.0


def link(limit: float, *, sender: float = 1e6, misfortunes: tuple[int, ...] = ()) -> Callable[[float], Trial]:
    """A link that carries `limit` packets per second and a sender that can do `sender`; some trials lose packets by chance."""
    turns = iter(range(1000))

    def trial(rate: float) -> Trial:
        sent = min(rate or sender, sender)
        arrived = min(sent, limit) * (0.9 if next(turns) in misfortunes else 1)
        return Trial(rate, round(sent * SECONDS), round(arrived * SECONDS), SECONDS, 0, 0)

    return trial


@pytest.mark.parametrize("limit", [700, 40_000, 130_000, 950_000])
def test_the_limit_is_found_within_the_step_of_the_search(limit: int) -> None:
    found, trials = highest_rate(link(limit), 12)
    assert 0.93 * limit <= found <= (1 + UDP_LOSS) * limit
    assert len(trials) <= 12


def test_what_a_sender_gets_rid_of_without_loss_is_the_answer() -> None:
    found, trials = highest_rate(link(500_000, sender=200_000), 12)
    assert found == 200_000
    assert [trial.asked for trial in trials] == [0, 0, 0]


def test_the_best_of_what_a_sender_did_that_was_held_up_is_the_answer() -> None:
    able = iter((120_000, 200_000, 90_000))
    found, _ = highest_rate(lambda rate: link(500_000, sender=next(able))(rate), 12)
    assert found == 200_000


def test_a_sender_that_was_held_up_at_first_does_not_end_the_search() -> None:
    able = iter((120_000, *[1e6] * 20))
    found, trials = highest_rate(lambda rate: link(400_000, sender=next(able))(rate), 12)
    assert found >= 0.93 * 400_000
    assert trials[1].asked == 0


@pytest.mark.parametrize("unlucky", range(1, 6))
def test_one_loss_by_chance_does_not_lower_the_answer(unlucky: int) -> None:
    found, _ = highest_rate(link(100_000, misfortunes=(unlucky,)), 20)
    assert found >= 0.93 * 100_000


def test_a_link_that_always_loses_gives_nothing() -> None:
    found, trials = highest_rate(link(100_000, misfortunes=tuple(range(100))), 8)
    assert found == 0
    assert len(trials) == 8


def test_a_trial_of_which_nothing_arrives_is_followed_by_a_slower_one() -> None:
    asked: list[float] = []

    def trial(rate: float) -> Trial:
        asked.append(rate)
        return Trial(rate, round(rate or 1e6), 0 if len(asked) < 4 else round(rate), SECONDS, 0, 0)

    found, _ = highest_rate(trial, 12)
    assert 0 < asked[3] < asked[2] < asked[1]
    assert found > 0


def test_ratios_are_taken_within_a_round() -> None:
    values = {("ours", 0): 4.0, ("theirs", 0): 2.0, ("ours", 1): 1.0, ("theirs", 1): 1.0, ("ours", 2): 9.0}
    results = Results([Sample(system, "tcp", turn, value) for (system, turn), value in values.items()])
    ratio = results.ratio("ours", "theirs", "tcp")
    assert ratio is not None
    assert (ratio.minimum, ratio.median, ratio.maximum, ratio.count) == (1.0, 1.5, 2.0, 2)
    assert results.ratio("ours", "nobody", "tcp") is None


@pytest.mark.parametrize("group", BY_TURNS)
def test_those_side_by_side_have_equally_many_turns_and_places(group: tuple[str, ...]) -> None:
    order = list(in_turns(group, TURNS))
    places = Counter((name, place % len(group)) for place, name in enumerate(order))
    assert set(places.values()) == {TURNS // len(group)}
    assert len(places) == len(group) ** 2


def test_a_round_has_the_median_of_its_turns() -> None:
    taken = [Sample(system, "tcp_turn", 1, value) for system, value in (("one", 3.0), ("other", 7.0), ("one", 1.0), ("one", 2.0))]
    found = Results(medians(taken))
    assert (found.values("one", "tcp_turn"), found.values("other", "tcp_turn")) == ({1: 2.0}, {1: 7.0})
    assert found.samples[0].details == {"turns": [3.0, 1.0, 2.0]}


def test_a_report_is_made_of_what_a_run_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [
        Sample("plain", "udp64", 0, 200.0),
        Sample("plain", "udp64_cost", 0, 5.0),
        Sample("groupvpn-gcm/clear", "udp64_cost", 0, 5.2),
    ]
    write(tmp_path / "run.json", Results(samples), {}, [])
    assert report.main([str(tmp_path / "run.json")]) == 0
    said = capsys.readouterr().out
    assert "| plain | 200 |" in said
    assert "| groupvpn-gcm/clear | 5.2 |" in said
    assert "| engine, clear (denied) over no crypto map: machine's CPU per 64 B datagram | < 1.05 × | 1.04 | met |" in said


@pytest.mark.parametrize("text", [None, "", "{}", '{"samples": [{"what": 1}], "failures": []}', '{"samples": 3, "failures": []}'])
def test_a_report_of_another_file_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None) -> None:
    other = tmp_path / "other.json"
    if text is not None:
        other.write_text(text)
    with pytest.raises(SystemExit) as caught:
        report.main([str(other)])
    assert caught.value.code == 2
    assert str(other) in capsys.readouterr().err
