"""Data attributes (RFC 2408 3.3), the one list format inside transforms, SAK, SAT, GAP and key packets.

```
 offset  size  field
      0     2  AF bit (highest) and attribute type (lower 15 bits)
      2     2  AF = 1 (TV, "basic"): the value
               AF = 0 (TLV, "variable"): length of the value in octets, which then follows
```
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from groupvpn.wire.cursor import Cursor, put_u16
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import NotifyType

MAXIMUM_ATTRIBUTES = 256
"""Attributes in one list. The longest that we know of is a SID key packet, one attribute for each Sender-ID."""
MAXIMUM_NUMBER_OCTETS = 8
"""Longest variable value that still counts as a number; lifetimes have 4 octets."""
_BASIC = 0x8000


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute. A basic one (TV) has an `int` as value, 0 to 65535; a variable one (TLV) has `bytes`.

    A variable value does not show in `repr`, since in a key packet it is a key.
    """

    kind: int
    value: int | bytes

    @classmethod
    def number(cls, kind: int, value: int) -> Self:
        """An attribute that may be of either form and holds a number: basic if it fits two octets, else variable with four.

        RFC 2408 3.3 and RFC 2407 4.5 allow the short form for classes that are defined as variable, not the other way round.
        """
        return cls(kind, value if value <= 0xFFFF else value.to_bytes(4, "big"))

    def __repr__(self) -> str:
        shown = self.value if isinstance(self.value, int) else f"<{len(self.value)} octets>"
        return f"Attribute({self.kind}, {shown})"

    def as_number(self) -> int | None:
        """The value as a big-endian number whichever form it came in; None if it is longer than 8 octets or empty."""
        if isinstance(self.value, int):
            return self.value
        if not 0 < len(self.value) <= MAXIMUM_NUMBER_OCTETS:
            return None
        return int.from_bytes(self.value, "big")

    def as_octets(self) -> bytes:
        """The value as octets; two for a basic attribute."""
        return self.value.to_bytes(2, "big") if isinstance(self.value, int) else self.value

    def encode(self) -> bytes:
        """The attribute's octets; raises `EncodeError` if type or value does not fit its field."""
        if not 0 <= self.kind < _BASIC:
            raise EncodeError(f"attribute type {self.kind} does not fit 15 bits")
        if isinstance(self.value, int):
            return put_u16(_BASIC | self.kind, "attribute type") + put_u16(self.value, f"value of attribute {self.kind}")
        return put_u16(self.kind, "attribute type") + put_u16(len(self.value), f"length of attribute {self.kind}") + self.value


def read_attributes(cursor: Cursor, repeatable: Collection[int] = ()) -> tuple[Attribute, ...]:
    """All attributes up to the end of the cursor's window; raises `DecodeError`.

    Two attributes of one class with different values are refused (RFC 2407 4.5.2), but for the classes that are `repeatable`.
    """
    attributes: list[Attribute] = []
    values: dict[int, int | bytes] = {}
    while cursor.remaining:
        if len(attributes) == MAXIMUM_ATTRIBUTES:
            raise cursor.error(f"more than {MAXIMUM_ATTRIBUTES} attributes")
        start = cursor.position
        attribute = _read_attribute(cursor)
        if attribute.kind not in repeatable and values.setdefault(attribute.kind, attribute.value) != attribute.value:
            raise DecodeError(start, f"a second value of attribute {attribute.kind}", NotifyType.ATTRIBUTES_NOT_SUPPORTED)
        attributes.append(attribute)
    return tuple(attributes)


def _read_attribute(cursor: Cursor) -> Attribute:
    head = cursor.get_u16("attribute type")
    second = cursor.get_u16("attribute value or length")
    if head & _BASIC:
        return Attribute(head & ~_BASIC, second)
    return Attribute(head, cursor.get_octets(second, f"value of attribute {head}"))


def encode_attributes(attributes: Iterable[Attribute]) -> bytes:
    """The list's octets, in the order given."""
    return b"".join(attribute.encode() for attribute in attributes)


def find(attributes: Iterable[Attribute], kind: int) -> Attribute | None:
    """The first attribute of this class, if any."""
    return next((attribute for attribute in attributes if attribute.kind == kind), None)


def find_number(attributes: Iterable[Attribute], kind: int) -> int | None:
    """The number that the first attribute of this class holds, in either form; None if there is none or it holds no number."""
    attribute = find(attributes, kind)
    return None if attribute is None else attribute.as_number()


def lifetimes(attributes: Iterable[Attribute], type_class: int, duration_class: int) -> dict[int, int]:
    """Life durations by life type (seconds 1, kilobytes 2).

    A duration counts in the units of the life type before it (RFC 2407 4.5); one without a type before it is passed over. Phase 1 and
    IPsec have their own class numbers for the pair, so both are parameters. Raises `DecodeError` if two durations of one type differ.
    """
    result: dict[int, int] = {}
    unit: int | None = None
    for attribute in attributes:
        if attribute.kind == type_class:
            unit = attribute.as_number()
        elif attribute.kind == duration_class and unit is not None:
            duration = attribute.as_number()
            if duration is not None and result.setdefault(unit, duration) != duration:
                raise DecodeError(0, f"life durations {result[unit]} and {duration} of one type", NotifyType.ATTRIBUTES_NOT_SUPPORTED)
            unit = None
    return result
