"""Every transform at every size from 0 to 9000 octets, octet for octet against the reference of `reference.py`.

What the engine seals must be what the reference makes of the same packet, and the engine must open it. Each transform goes through all
sizes, which are dealt out to the forms and to both kinds of sequence numbers so that each of them has hundreds, of every remainder of a
block. DES alone would take as long as all others, so its sizes are dealt out to the integrity algorithms too. `make test-long` gives
all sizes to each form of each transform.
"""

import os
from dataclasses import dataclass
from itertools import product

import pytest
from tests.engine.forms import ESP_TRANSFORMS, FORMS, FORMS_IN_UDP, INTEGRITIES, Ah, Esp, Form
from tests.engine.packets import ipv4, ipv6
from tests.engine.reference import Sender

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

LARGEST = 9000
CONTENT = os.urandom(LARGEST)
MAKE = {4: ipv4, 6: ipv6}
TRANSFORMS = [*ESP_TRANSFORMS, *map(Ah, INTEGRITIES)]
SENDER_ID = 0xABCDE
LAST_SEQUENCE = 2**32 - 3
"""Where extended sequence numbers begin, so that the half that is not sent is soon not 0. A window that knows none yet takes it for 0."""


def forms(transform: Esp | Ah) -> list[Form]:
    return FORMS if isinstance(transform, Ah) else [*FORMS, *FORMS_IN_UDP]


def sizes(transform: Esp | Ah) -> range:
    if isinstance(transform, Esp) and "des" in transform.cipher:
        names = [integrity.engine for integrity in INTEGRITIES]
        return range(names.index(transform.integrity), LARGEST + 1, len(names))
    return range(LARGEST + 1)


@dataclass
class Side:
    """An SA in the engine and in the reference."""

    engine: _engine.Sa
    reference: Sender
    number: int

    @classmethod
    def fresh(cls, transform: Esp | Ah, form: Form, *, esn: bool) -> "Side":
        keys = transform.keys()
        salt = keys[2]
        options = {"sender_id": SENDER_ID, "sender_id_bits": 24} if salt and not esn else {}
        number = LAST_SEQUENCE if esn else 0
        engine = transform.engine(form, keys, esn=esn, last_sequence=number, **options)
        return cls(engine, Sender(transform, form, *keys, sender_id=SENDER_ID if options else None, esn=esn), number)

    def check(self, size: int) -> None:
        packet = MAKE[self.reference.form.inner](CONTENT[:size])
        self.number += 1
        sealed = _engine.encapsulate(self.engine, packet)
        expected = self.reference.protect(packet, self.number, sealed)
        assert sealed == expected, size
        assert _engine.decapsulate([self.engine], expected) == (packet, "ok"), size


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform.name)
def test_every_transform_at_every_size(transform: Esp | Ah) -> None:
    sides = [Side.fresh(transform, form, esn=esn) for form, esn in product(forms(transform), (False, True))]
    for turn, size in enumerate(sizes(transform)):
        sides[(turn + turn // len(sides)) % len(sides)].check(size)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("transform", "form"),
    [(transform, form) for transform in TRANSFORMS for form in forms(transform)],
    ids=lambda item: item.name,
)
def test_every_transform_in_every_form_at_every_size(transform: Esp | Ah, form: Form) -> None:
    sides = [Side.fresh(transform, form, esn=esn) for esn in (False, True)]
    for size in range(LARGEST + 1):
        for side in sides:
            side.check(size)


def test_the_transforms_are_all_that_the_registry_has() -> None:
    known = {(transform.cipher, transform.integrity) for transform in ESP_TRANSFORMS}
    assert known == {
        (cipher.engine, integrity.engine)
        for cipher in EspCipher
        for integrity in EspIntegrity
        if cipher.is_combined == (integrity is EspIntegrity.NONE)
    }
