"""What the builders share: the source tree, what was built so far, and the way to report."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import IPv4Address

from groupvpn.config.diagnostics import Diagnostic, Place, Severity
from groupvpn.config.section import Section, Statement
from groupvpn.ipsec.acl import AccessList
from groupvpn.ipsec.transform import Profile, TransformSet

MAXIMUM_REMARKS = 500
"""Diagnostics of one build beyond which only errors are kept."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to say about an access list entry if a group uses the list."""

    place: Place
    severity: Severity
    message: str
    hint: str = ""


@dataclass(slots=True)
class Context:
    """State of one build. `lines` are the file's lines with secrets masked; `devices` and `present` are the caller's."""

    root: Section
    lines: Mapping[int, str]
    devices: Mapping[str, str] = field(default_factory=dict)
    present: Collection[str] | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    hosts: dict[str, tuple[IPv4Address, ...]] = field(default_factory=dict)
    access_lists: dict[str, AccessList] = field(default_factory=dict)
    rules: dict[str, tuple[Statement, ...]] = field(default_factory=dict)
    """The statement of each entry of a list, in the order of the entries."""
    remarks: dict[str, list[Remark]] = field(default_factory=dict)
    """What there is to say of a list's entries where a group policy uses the list."""
    incomplete: set[str] = field(default_factory=set)
    """Lists with an entry whose host name has no address."""
    transform_sets: dict[str, TransformSet] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    unusable_profiles: set[str] = field(default_factory=set)
    """Profiles whose transform sets are all there, and all of algorithms that we do not have."""
    missing_sets: dict[str, str] = field(default_factory=dict)
    """By profile, a transform set that it names and that does not exist."""
    refused: set[str] = field(default_factory=set)
    """Words of what has an error already, names among them."""
    _told: set[tuple[str, str]] = field(default_factory=set)
    _names: dict[str, frozenset[str]] = field(default_factory=dict)

    def names(self, command: str) -> frozenset[str]:
        """The names of all sections that the command called `command` opens."""
        if command not in self._names:
            self._names[command] = frozenset(item.header.value("name") for item in self.root.sections(command) if item.header)
        return self._names[command]

    def say(self, severity: Severity, place: Place, message: str, hint: str = "") -> None:
        """Add a diagnostic; of warnings only so many that a reader has a chance."""
        if severity is not Severity.ERROR and len(self.diagnostics) >= MAXIMUM_REMARKS:
            return
        source = self.lines.get(place.line, "")
        self.diagnostics.append(Diagnostic(severity, place.file, place.line, place.column, message, hint, source, place.length))

    def error(self, place: Place, message: str, hint: str = "") -> None:
        """Report what keeps the file from being applied."""
        self.say(Severity.ERROR, place, message, hint)

    def warn(self, place: Place, message: str, hint: str = "") -> None:
        """Report what asks for attention."""
        self.say(Severity.WARNING, place, message, hint)

    def first_time(self, what: str, name: str) -> bool:
        """Whether nobody has asked so of `what` with this `name`: what several use is told of once."""
        is_first = (what, name) not in self._told
        self._told.add((what, name))
        return is_first

    def missing(self, statement: Statement, argument: str, message: str, known: Collection[str]) -> None:
        """Report a name that nothing has, although what protects traffic needs it; `known` are the names that there are.

        It is an error, unless there is nothing of the kind at all: excerpts that manuals print are such.
        """
        if statement.value(argument) in self.refused:
            return
        report = self.error if known else self.warn
        report(statement.where(argument), message, nearest(str(statement.value(argument)), known))

    def policy_list(self, statement: Statement | None, user: str, *, protects: bool = False) -> AccessList | None:
        """The access list that `statement` names (argument `list`) for a group policy, None if there is none fit for use.

        Reports a missing list, and one with a host that has no address, as an error if the list `protects`; and once per list whatever its
        entries hold that a group policy cannot.
        """
        if statement is None:
            return None
        name = str(statement.value("list"))
        found = self.access_lists.get(name)
        if found is None:
            message = f"{user} names access list `{name}`, which does not exist"
            if protects:
                self.missing(statement, "list", f"{message}: nothing would be protected by it", self.access_lists)
            else:
                self.warn(statement.where("list"), f"{message}: it is incomplete and left out", nearest(name, self.access_lists))
            return None
        if self.first_time("entries", name):
            for remark in self.remarks.get(name, ()):
                self.say(remark.severity, remark.place, remark.message, remark.hint)
        if name in self.incomplete and protects:
            message = f"{user}: access list `{name}` names hosts without an address: nothing would be protected by it"
            self.error(statement.where("list"), message, "add `ip host NAME A.B.C.D`")
            return None
        if name in self.incomplete:
            self.warn(statement.where("list"), f"{user} is left out: access list `{name}` names hosts without an address")
            return None
        return found


def nearest(name: str, known: Collection[str]) -> str:
    """A hint for a name that nothing has: the one that was most likely meant."""
    close = get_close_matches(name[:80], [item for item in known if len(item) <= 80], n=1)
    return f"did you mean `{close[0]}`?" if close else ""
