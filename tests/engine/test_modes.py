"""Every transform in every mode and family against scapy's ESP and AH, both ways; and the reference of `test_every_size.py` with them."""

import random
from itertools import product
from typing import Any

import pytest
from tests.engine.forms import ESP_TRANSFORMS, FORMS, FORMS_IN_UDP, INTEGRITIES, Ah, Esp, Form, parsed
from tests.engine.reference import Sender

from groupvpn import _engine

LARGEST = 9000


def sizes(*what: object, count: int = 2) -> list[int]:
    """Nothing, much, and some others: not the same for each case, so that all together fall on every remainder of every block."""
    drawn = random.Random(repr(what))
    return [0, *(drawn.randrange(1, 64) for _ in range(count)), *(drawn.randrange(64, LARGEST) for _ in range(count)), LARGEST]


def read_each_other(transform: Esp | Ah, form: Form, lengths: list[int], *, esn: bool = False) -> None:
    keys = transform.keys()
    ours, theirs = transform.pair(form, esn=esn, keys=keys)
    reference = Sender(transform, form, *keys, esn=esn)
    for number, size in enumerate(lengths, start=1):
        packet = form.packet(size)
        sealed = _engine.encapsulate(ours, packet)
        assert bytes(theirs.decrypt(parsed(sealed))) == packet, size
        assert bytes(theirs.decrypt(parsed(reference.protect(packet, number, sealed)))) == packet, size
        assert _engine.decapsulate([ours], bytes(theirs.encrypt(parsed(packet)))) == (packet, "ok"), size
        theirs.seq_num += 1  # ours counts on, which its window expects of scapy too


@pytest.mark.interop
@pytest.mark.parametrize("form", [*FORMS, *FORMS_IN_UDP], ids=lambda form: form.name)
def test_esp_of_every_transform(form: Form) -> None:
    for transform in ESP_TRANSFORMS:
        read_each_other(transform, form, sizes(form, transform, count=1))


@pytest.mark.interop
@pytest.mark.parametrize("transform", ESP_TRANSFORMS, ids=lambda transform: transform.name)
def test_esp_with_extended_sequence_numbers(transform: Esp) -> None:
    form = random.Random(transform.name).choice([*FORMS, *FORMS_IN_UDP])
    read_each_other(transform, form, sizes(transform), esn=True)


@pytest.mark.interop
@pytest.mark.parametrize(("form", "esn"), [*product(FORMS, [False, True])], ids=str)
def test_ah(form: Form, esn: bool) -> None:
    for integrity in INTEGRITIES:
        read_each_other(Ah(integrity), form, sizes(form, integrity, esn), esn=esn)


BOUNDARY = 2**32


def numbered(sa: Any, number: int, packet: bytes) -> bytes:
    """What scapy sends under this extended sequence number."""
    sa.seq_num, sa.esn = number % BOUNDARY, number // BOUNDARY
    return bytes(sa.encrypt(parsed(packet)))


@pytest.mark.interop
@pytest.mark.parametrize(
    "transform", [*ESP_TRANSFORMS[-12:], ESP_TRANSFORMS[0], ESP_TRANSFORMS[17], Ah(INTEGRITIES[1])], ids=lambda transform: transform.name
)
def test_extended_sequence_numbers_go_past_32_bits(transform: Esp | Ah) -> None:
    """RFC 4303 appendix A: the half that no packet carries, out of order on both sides of the step."""
    form = FORMS[0]
    ours, theirs = transform.pair(form, esn=True, last_sequence=BOUNDARY - 4)
    packet = form.packet(33)
    for number in range(BOUNDARY - 3, BOUNDARY + 4):
        theirs.esn = number // BOUNDARY
        sealed = _engine.encapsulate(ours, packet)
        assert bytes(theirs.decrypt(parsed(sealed))) == packet, number
    assert ours.counters()["last_sequence"] == BOUNDARY + 3

    arriving = {
        BOUNDARY - 40: "ok",  # a jump from 0, which is new
        BOUNDARY + 20: "ok",
        BOUNDARY - 3: "ok",  # within the window, which spans the step
        BOUNDARY: "ok",
        BOUNDARY + 19: "ok",
        BOUNDARY - 43: "ok",  # the oldest that the window holds
        BOUNDARY - 44: "authentication",  # left of it: taken for a number of the next 2^32, which it is not
        2 * BOUNDARY - 10: "authentication",  # so far ahead that it reads as BOUNDARY - 10
        BOUNDARY + 1000: "ok",
        2 * BOUNDARY - 9: "ok",  # and now it does not
        2 * BOUNDARY + 5: "ok",
        2 * BOUNDARY - 8: "ok",
    }
    sealed = {number: numbered(theirs, number, packet) for number in arriving}
    assert {number: _engine.decapsulate([ours], sealed[number])[1] for number in arriving} == arriving
    assert [_engine.decapsulate([ours], sealed[number])[1] for number in (2 * BOUNDARY + 5, 2 * BOUNDARY - 8)] == ["replayed"] * 2
