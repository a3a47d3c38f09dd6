"""Whether the keys in a configuration file are there for everybody: a node runs with them all the same, and says so."""

import stat
from collections.abc import Iterator
from pathlib import Path

from groupvpn.config import Configuration, Diagnostic, Severity
from groupvpn.config.section import Section, Statement

_OTHERS = stat.S_IROTH | stat.S_IWOTH


def exposure(file: Path, configuration: Configuration) -> Diagnostic | None:
    """A warning if all users of this machine may read or write `file`, whose text is `configuration`, and it has keys or passwords.

    Its group may read it: that is how a service comes to it.
    """
    try:
        found = file.stat()
    except OSError:
        return None
    exposed = found.st_mode & _OTHERS if stat.S_ISREG(found.st_mode) else 0
    if not exposed or not any(_has_secret(statement) for statement in _statements(configuration.sections)):
        return None
    rights = " and ".join(word for word, bit in (("read", stat.S_IROTH), ("write", stat.S_IWOTH)) if exposed & bit)
    message = f"the file has keys and mode {stat.S_IMODE(found.st_mode):04o}: every user of this machine may {rights} it"
    return Diagnostic(Severity.WARNING, str(file), 1, 1, message, f"`chmod 600 {file}`, or 640 where a service reads it by its group")


def _statements(section: Section) -> Iterator[Statement]:
    if section.header is not None:
        yield section.header
    for child in section.children:
        if isinstance(child, Statement):
            yield child
        else:
            yield from _statements(child)


def _has_secret(statement: Statement) -> bool:
    """Whether a part of it is left out where it is shown."""
    return statement.text(redact=True) != statement.text()
