"""The programs of an interface, run by the kernel on frames that nobody sends, against a model that reads the frames by itself.

BPF_PROG_TEST_RUN needs no network and takes two microseconds, so there is time for frames of every kind: whole, cut off, changed anywhere.
Frames without a whole IP header, which it refuses, go through a real interface.
"""

from dataclasses import replace

import pytest
from verdict_model import (
    ARRIVED,
    FRAMES,
    GIVEN,
    LEFT,
    NOT_OURS,
    TO_TAP,
    UNKNOWN_SPI,
    Fate,
    Model,
    read,
)
from verdict_programs import Programs, World

from groupvpn.dataplane.bytecode import DROP
from groupvpn.dataplane.classify import SHORT, Branch, compile_list
from groupvpn.dataplane.steering import DROP_REASONS, TOLD_OF

pytestmark = pytest.mark.netns


@pytest.mark.parametrize(("most", "policies"), [(6, 30), (80, 12)], ids=["walked", "trees"])
def test_whatever_leaves_or_arrives_meets_the_fate_of_the_model(most: int, policies: int) -> None:
    """Every policy twice, with one TAP left each time, since the answer does not say to which one a packet goes."""
    fates, trees = set(), 0
    for seed in range(policies):
        world = World(seed)
        drawn = world.steering(most)
        tree = compile_list([rule.entry for rule in drawn.rules if rule.entry.version == 4])
        trees += any(isinstance(node, Branch) for node in tree.nodes)
        frames = [world.frame(drawn) for _ in range(FRAMES)]
        for tap in ("out0", "out1"):
            one = replace(drawn, taps=tuple(name if name == tap else None for name in drawn.taps))
            programs, model = Programs(one), Model(one)
            for frame in frames:
                for run, expect in ((programs.outbound, model.outbound), (programs.inbound, model.inbound)):
                    answer, expected = run(frame), expect(frame)
                    if programs.copies >= TOLD_OF:
                        expected = expected._replace(copy=answer.copy and expected.copy)
                    assert answer == expected, (seed, tap, frame.hex(), read(frame))
                    fates.add(answer)
    assert bool(trees) is (most > SHORT)
    dropped = {Fate(DROP, reason) for reason in DROP_REASONS}
    assert fates >= {*dropped, LEFT, ARRIVED, NOT_OURS, TO_TAP, GIVEN, Fate(DROP)}
    told = {ARRIVED._replace(copy="inbound_told"), ARRIVED._replace(copy="inbound_copies"), UNKNOWN_SPI._replace(copy="inbound_told")}
    assert fates >= told
