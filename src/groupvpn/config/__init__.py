"""The configuration language: grammar as data, parser, immutable model, diff, running-config.

`parse` is the way in. The commands themselves stand in `groupvpn.config.grammar`, each in one place.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from groupvpn.config.build import build
from groupvpn.config.diagnostics import Diagnostic, Place, Severity, render
from groupvpn.config.diff import Change, ChangeKind, diff
from groupvpn.config.model import BoundMember, Configuration, CryptoMap, CryptoMapEntry, FailClose, Interface, Role
from groupvpn.config.parser import read
from groupvpn.config.running import running_config


@dataclass(frozen=True, slots=True)
class ParseResult:
    """What became of a text: the configuration (None if there is an error), and every diagnostic in the order of the lines."""

    configuration: Configuration | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that keep the text from being applied."""
        return tuple(item for item in self.diagnostics if item.severity is Severity.ERROR)


def parse(
    text: str,
    filename: str = "configuration",
    devices: Mapping[str, str] | None = None,
    present: Collection[str] | None = None,
) -> ParseResult:
    """Read a configuration. Never raises for any text; nothing of a text with errors is returned.

    `filename` is for diagnostics only. `devices` maps interface names (any spelling) to Linux devices and goes before what the text says.
    `present`, where given, holds the names and alternative names of this machine's devices: an interface with a crypto map whose device is
    not among them is then an error.
    """
    sections, said, lines, refused = read(text, filename)
    configuration, found = build(sections, lines, devices, present, refused)
    if any(item.severity is Severity.ERROR for item in said):
        # What is warned of may be the lack of a line that could not be read.
        found = [item for item in found if item.severity is Severity.ERROR]
    diagnostics = tuple(sorted((*said, *found), key=lambda item: (item.severity is Severity.NOTICE, item.line, item.column)))
    if any(item.severity is Severity.ERROR for item in diagnostics):
        return ParseResult(None, diagnostics)
    return ParseResult(replace(configuration, notices=diagnostics), diagnostics)


__all__ = [
    "BoundMember",
    "Change",
    "ChangeKind",
    "Configuration",
    "CryptoMap",
    "CryptoMapEntry",
    "Diagnostic",
    "FailClose",
    "Interface",
    "ParseResult",
    "Place",
    "Role",
    "Severity",
    "diff",
    "parse",
    "render",
    "running_config",
]
