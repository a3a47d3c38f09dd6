"""The attacks on ways to tell replays: their outcome is what the protocol page says."""

from pathlib import Path

from groupvpn.lab.replays import SCHEMES, rows, table

PAGE = Path(__file__).parent.parent.parent / "docs" / "protocol" / "esp-time-based-replay.md"
WITH_COUNTERS = ("time, GCM", "time, CBC")


def scores() -> dict[str, dict[str, str]]:
    names = [scheme.name for scheme in SCHEMES]
    return {attack: dict(zip(names, cells, strict=True)) for attack, *cells in rows()}


def test_the_page_has_the_table_that_is_played() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.split("compares -->\n", 1)[1].split("\n<!-- end -->", 1)[0] == table()


def test_no_copy_of_a_packet_that_was_taken_passes_where_there_are_time_and_counters() -> None:
    copies = [name for name in scores() if name.startswith(("copy", "two senders", "sender restarts", "rollover", "receiver's clock"))]
    assert len(copies) == 9
    for scheme in WITH_COUNTERS:
        assert {scores()[name][scheme].split("/")[0] for name in copies} == {"0"}


def test_what_is_held_back_passes_inside_the_window_only() -> None:
    held = {name: cells for name, cells in scores().items() if name.startswith("held back")}
    assert [held[name]["time, GCM"] for name in held] == ["50/50", "50/50", "0/50", "0/50"]
    assert {cells["counter, GCM"] for cells in held.values()} == {"50/50"}


def test_the_attacks_succeed_where_they_should() -> None:
    """Else the table would say nothing."""
    assert scores()["copy at once"]["vendor's time"] == "50/50"
    assert scores()["receiver restarts, the second before is replayed"]["counter, GCM"] == "50/50"
    assert "lost" in scores()["two senders, all copied at the end"]["counter, CBC"]
