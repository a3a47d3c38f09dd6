"""The heap of deadlines, against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from groupvpn.ike.deadlines import Deadlines


def test_the_earliest_comes_first() -> None:
    deadlines = Deadlines()
    assert deadlines.next() is None
    deadlines.set("b", 2.0)
    deadlines.set("a", 1.0)
    assert deadlines.next() == 1.0
    assert list(deadlines.take_due(0.9)) == []
    assert list(deadlines.take_due(5.0)) == ["a", "b"]
    assert deadlines.next() is None


def test_a_key_has_one_deadline() -> None:
    deadlines = Deadlines()
    for when in (3.0, 1.0, 2.0, 2.0):
        deadlines.set("a", when)
    assert deadlines.next() == 2.0
    deadlines.set("a", None)
    deadlines.set("unknown", None)
    assert deadlines.next() is None


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.floats(0, 100)), max_size=60))
def test_it_behaves_like_a_dictionary(changes: list[tuple[int, float | None]]) -> None:
    deadlines, model = Deadlines(), {}
    for key, when in changes:
        deadlines.set(key, when)
        model.pop(key, None)
        if when is not None:
            model[key] = when
        assert deadlines.next() == min(model.values(), default=None)
    due = list(deadlines.take_due(50.0))
    assert sorted(map(str, due)) == sorted(str(key) for key, when in model.items() if when <= 50.0)
    assert [model[key] for key in due if isinstance(key, int)] == sorted(model[key] for key in due if isinstance(key, int))
