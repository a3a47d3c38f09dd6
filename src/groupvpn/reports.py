"""What operators read: tables of messages, and the reports that fill them.

`%FACILITY-SEVERITY-MNEMONIC: text` is what operators' tools parse. Each part of a node has a table of its own: `ike.messages`,
`gdoi.messages` and `node.messages`. A report carries its row, so whoever writes it needs no table; one whose fields are not exactly those
that the text names is refused where it is made.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from string import Formatter


class Severity(IntEnum):
    """Syslog severities (RFC 5424 6.2.1)."""

    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFORMATIONAL = 6
    DEBUG = 7


class UnknownMessageError(KeyError):
    """A report whose mnemonic or fields do not fit the table: a mistake in the program, found where the report is made."""


@dataclass(frozen=True, slots=True)
class Message:
    """One row of a table. `template` names its fields in braces."""

    mnemonic: str
    severity: Severity
    template: str
    facility: str = "GDOI"

    @property
    def fields(self) -> frozenset[str]:
        """The names that the template needs."""
        return frozenset(name for _, name, _, _ in Formatter().parse(self.template) if name)

    def __call__(self, **fields: object) -> "Report":
        """A report of this row. Raises `UnknownMessageError` unless `fields` are exactly what its text needs."""
        if fields.keys() != self.fields:
            raise UnknownMessageError(f"{self.mnemonic} needs {sorted(self.fields)}, not {sorted(fields)}")
        return Report(self, fields)


@dataclass(frozen=True, slots=True)
class Report:
    """Something an operator may want to read: a line of the log. `fields` fill the text of `message`; no value may be key material."""

    message: Message
    fields: dict[str, object] = field(default_factory=dict)

    @property
    def mnemonic(self) -> str:
        """What its line is known by."""
        return self.message.mnemonic

    @property
    def text(self) -> str:
        """What stands behind the colon."""
        return self.message.template.format_map(self.fields)

    def __str__(self) -> str:
        """The line without its time: `%GDOI-5-GM_REGS_COMPL: Registration complete for group …`."""
        return f"%{self.message.facility}-{self.message.severity:d}-{self.mnemonic}: {self.text}"


class Catalogue(dict[str, Message]):
    """A table in which each mnemonic has one row."""

    def __init__(self, *rows: Message) -> None:
        super().__init__((row.mnemonic, row) for row in rows)

    def report(self, mnemonic: str, **fields: object) -> Report:
        """A report of the row `mnemonic`. Raises `UnknownMessageError` if there is none, or its text needs other fields."""
        message = self.get(mnemonic)
        if message is None:
            raise UnknownMessageError(f"no message {mnemonic}")
        return message(**fields)
