"""The types of arguments: numbers, addresses, names, choices, secrets, interfaces. Each checks a word and says what would be right."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Protocol

from groupvpn.config.interfaces import InterfaceName, InterfaceNameError, interface_type, interface_unit
from groupvpn.config.language import Alternatives, ArgumentError, ArgumentType, Leaf, Node, Rank, Sequence
from groupvpn.crypto.secret import Secret

DAY = 86400
"""Seconds of a day."""

_NUMBER = re.compile(r"\d{1,10}\Z", re.ASCII)
_HOSTNAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z", re.ASCII)


class Number(ArgumentType):
    """A decimal number within one of some ranges (both ends belong to them)."""

    rank = Rank.TYPED

    def __init__(self, low: int, high: int, purpose: str = "", *more: tuple[int, int]) -> None:
        super().__init__(purpose)
        self.ranges = ((low, high), *more)
        self.label = "<" + ", ".join(f"{first}-{last}" for first, last in self.ranges) + ">"

    def accept(self, text: str) -> int:
        """The number."""
        if not _NUMBER.match(text):
            raise ArgumentError(f"`{text}` is not a number; {self.span} is")
        value = int(text)
        if not any(first <= value <= last for first, last in self.ranges):
            raise ArgumentError(f"{value} is outside {self.span}")
        return value

    @property
    def span(self) -> str:
        """The ranges in words."""
        return " or ".join(f"{first} to {last}" for first, last in self.ranges)


class Days(Number):
    """A number of days; its value is their seconds."""

    def accept(self, text: str) -> int:
        """The seconds."""
        return super().accept(text) * DAY


class NumberOf(ArgumentType):
    """One of some numbers."""

    rank = Rank.TYPED

    def __init__(self, numbers: Iterable[int], purpose: str = "") -> None:
        super().__init__(purpose)
        self.numbers = tuple(numbers)
        self.label = " | ".join(map(str, self.numbers))

    def accept(self, text: str) -> int:
        """The number."""
        if not _NUMBER.match(text) or int(text) not in self.numbers:
            raise ArgumentError(f"`{text}` is none of {', '.join(map(str, self.numbers))}")
        return int(text)


class Address(ArgumentType):
    """An IPv4 address."""

    label = "A.B.C.D"
    rank = Rank.TYPED

    def accept(self, text: str) -> IPv4Address:
        """The address."""
        try:
            return IPv4Address(text)
        except AddressValueError:
            raise ArgumentError(f"`{text}` is not an IPv4 address such as 10.0.0.1") from None


class Mask(Address):
    """A network mask: ones, then zeros."""

    def accept(self, text: str) -> IPv4Address:
        """The mask."""
        value = int(super().accept(text)) ^ 0xFFFFFFFF
        if value & (value + 1):
            raise ArgumentError(f"`{text}` is not a network mask such as 255.255.255.0")
        return IPv4Address(text)


class Wildcard(Address):
    """A wildcard mask: a set bit is not compared."""


class HostAddress(ArgumentType):
    """An IPv4 address, or a name that `ip host` resolves."""

    label = "A.B.C.D or NAME"

    def accept(self, text: str) -> object:
        """The address, or the name as a string."""
        try:
            return IPv4Address(text)
        except AddressValueError:
            if re.match(r"[\d.]+\Z", text) or not _HOSTNAME.match(text):
                raise ArgumentError(f"`{text}` is neither an IPv4 address nor a host name") from None
            return text


class Name(ArgumentType):
    """A name the operator chooses."""

    def __init__(self, purpose: str = "", length: int = 80, label: str = "NAME") -> None:
        super().__init__(purpose)
        self.length = length
        self.label = label

    def accept(self, text: str) -> str:
        """The name."""
        if len(text) > self.length:
            raise ArgumentError(f"the name has {len(text)} characters, at most {self.length} are allowed")
        return text


class HostName(Name):
    """A host name: letters, digits, hyphens, dots."""

    def accept(self, text: str) -> str:
        """The name."""
        if not _HOSTNAME.match(text):
            raise ArgumentError(f"`{text}` is not a host name")
        return super().accept(text)


class UserName(Name):
    """A user's name, such as `user@example.com`: printable ASCII."""

    def accept(self, text: str) -> str:
        """The name."""
        if not all("!" <= letter <= "~" for letter in text):
            raise ArgumentError(f"`{text}` is not a user's name such as user@example.com")
        return super().accept(text)


class SecretWord(ArgumentType):
    """A secret of one word, such as a pre-shared key; kept as `Secret`."""

    label = "KEY"
    secret = True

    def accept(self, text: str) -> Secret:
        """The secret's octets (UTF-8)."""
        if len(text) > 128:
            raise ArgumentError("a key has at most 128 characters")
        return Secret(text.encode())


class HexKey(SecretWord):
    """A key in hexadecimal, in any case. Whether it is one is asked where it is used: what is said of this word must not show it."""

    label = "HEX-KEY"

    def accept(self, text: str) -> Secret:
        """The digits, in small letters."""
        if len(text) > 256:
            raise ArgumentError("a key has at most 256 digits")
        return Secret(text.lower().encode())


class Line(ArgumentType):
    """The rest of the line as it was typed."""

    label = "LINE"
    rank = Rank.LINE
    greedy = True


class SecretLine(Line):
    """The rest of the line where it may hold a password; kept as `Secret`."""

    secret = True

    def accept(self, text: str) -> Secret:
        """The rest of the line as octets (UTF-8)."""
        return Secret(text.encode())


class Hex(ArgumentType):
    """Hexadecimal digits, as certificates are printed."""

    label = "HEX"
    rank = Rank.TYPED

    def accept(self, text: str) -> str:
        """The digits."""
        if not re.match(r"[0-9A-Fa-f]{1,64}\Z", text):
            raise ArgumentError(f"`{text}` is not hexadecimal")
        return text


class OneOf(ArgumentType):
    """One of some values, each spelled as one or more keywords.

    `choices` maps spellings to values; of several spellings of one value the first is canonical. `other` takes what no keyword does.
    """

    def __init__(self, choices: Mapping[str, object], purpose: str = "", other: ArgumentType | None = None) -> None:
        super().__init__(purpose)
        self.choices = dict(choices)
        self.other = other
        self.label = " | ".join(self.choices)
        self._spellings: list[tuple[object, str]] = []
        for spelling, value in self.choices.items():
            if not any(value is known or value == known for known, _ in self._spellings):
                self._spellings.append((value, spelling))

    def spell(self, value: object) -> str:
        """The canonical keywords of `value`."""
        for known, spelling in self._spellings:
            if known is value or known == value:
                return spelling
        return self.other.spell(value) if self.other else str(value)

    def expand(self, name: str) -> Node:
        """One branch of keywords for each spelling."""
        branches: list[Node] = []
        for spelling, value in self.choices.items():
            words = spelling.split()
            leaves = [Leaf(word=word, argument=name, type=self, closes=False) for word in words[:-1]]
            branches.append(Sequence((*leaves, Leaf(word=words[-1], argument=name, type=self, value=value))))
        if self.other is not None:
            branches.append(Leaf(argument=name, type=self.other))
        return Alternatives(tuple(branches))


class Algorithm(Protocol):
    """An algorithm of the registry, as far as the grammar looks at it."""

    keyword: str


def one_of(members: Iterable[Algorithm], purpose: str = "", also: Mapping[str, object] | None = None) -> OneOf:
    """A choice among algorithms of the registry, by their `keyword`; `also` adds other spellings."""
    return OneOf({member.keyword: member for member in members} | dict(also or {}), purpose)


class InterfaceArgument(ArgumentType):
    """An interface in one word (`gi0/0`) or two (`GigabitEthernet 0/0`)."""

    label = "INTERFACE"
    rank = Rank.TYPED

    def accept(self, text: str) -> InterfaceName:
        """The interface."""
        try:
            return InterfaceName.parse(text)
        except InterfaceNameError as error:
            raise ArgumentError(str(error)) from None

    def join(self, parts: tuple[object, ...]) -> object:
        """Type and unit together."""
        return InterfaceName(str(parts[0]), str(parts[1])) if len(parts) == 2 else parts[0]

    def expand(self, name: str) -> Node:
        """Both spellings."""
        whole = Leaf(argument=name, type=self)
        kind = Leaf(argument=name, type=self, accept=_interface_type, closes=False)
        unit = Leaf(argument=name, type=self, accept=_interface_unit)
        return Alternatives((whole, Sequence((kind, unit))))


def _interface_type(text: str) -> str:
    """A type in a word of its own; what has a unit too is said to be wrong as the whole name of an interface is."""
    try:
        if any(letter.isdigit() for letter in text):
            InterfaceName.parse(text)
        return interface_type(text)
    except InterfaceNameError as error:
        raise ArgumentError(str(error)) from None


def _interface_unit(text: str) -> str:
    try:
        return interface_unit(text)
    except InterfaceNameError as error:
        raise ArgumentError(str(error)) from None
