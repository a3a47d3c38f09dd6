"""What was accepted and has no effect, said once per file: lines without a meaning on Linux, and functions that are not built yet."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from groupvpn.config.diagnostics import Diagnostic, Severity
from groupvpn.config.language import Ignore
from groupvpn.config.section import Section, Statement


@dataclass(slots=True)
class Notices:
    """Collects statements without effect while a file is read."""

    ignored: list[Statement] = field(default_factory=list)

    def record(self, statement: Statement) -> None:
        """Remember `statement` if it means nothing here and nothing else is said of it."""
        effect = statement.command.effect
        if isinstance(effect, Ignore) and not effect.warns and (statement.negated or not effect.guards):
            self.ignored.append(statement)

    def summary(self, filename: str, root: Section) -> list[Diagnostic]:
        """A warning for each kind of lines of `root` that guard traffic on a router, a notice for each function that is not built yet, and
        one for all other lines that mean nothing here.
        """
        guards: dict[tuple[str, str], list[Statement]] = {}
        waiting: dict[str, list[Statement]] = {}
        named = {id(statement) for section in root.sections("interface") for statement in vrf_under_map(section)}
        for statement in _said(root):
            effect = statement.command.effect
            if statement.negated or id(statement) in named:
                continue
            if isinstance(effect, Ignore) and effect.guards:
                guards.setdefault((statement.command.head, effect.reason), []).append(statement)
            elif statement.command.not_yet:
                waiting.setdefault(statement.command.not_yet, []).append(statement)
        found: list[Diagnostic] = []
        for (command, reason), statements in guards.items():
            numbers = sorted({statement.place.line for statement in statements})
            message = f"`{command}` does nothing on Linux ({_lines(numbers)})"
            found.append(Diagnostic(Severity.WARNING, filename, numbers[0], 1, message, reason))
        for function, statements in waiting.items():
            numbers = sorted({statement.place.line for statement in statements})
            message = f"{function}: accepted, not yet in effect ({_lines(numbers)})"
            found.append(Diagnostic(Severity.NOTICE, filename, numbers[0], 1, message))
        if self.ignored:
            names = dict.fromkeys(statement.command.head or statement.text(redact=True) for statement in self.ignored)
            listed = ", ".join(list(names)[:12]) + (f" and {len(names) - 12} others" if len(names) > 12 else "")
            count = len(self.ignored)
            message = f"{count} line{'s' if count > 1 else ''} known and without effect on Linux: {listed}"
            found.append(Diagnostic(Severity.NOTICE, filename, self.ignored[0].place.line, 1, message))
        return found


def vrf_under_map(interface: Section) -> list[Statement]:
    """Lines that put an interface in service with a crypto map into a VRF: a warning of their own says what that means."""
    if interface.statement("crypto map") is None or interface.statement("shutdown") is not None:
        return []
    found = [item for name in ("vrf forwarding", "ip vrf forwarding") for item in interface.statements(name)]
    return [item for item in found if not item.negated]


def _said(section: Section) -> Iterator[Statement]:
    """Every statement of `section` and of those in it."""
    for child in section.children:
        if isinstance(child, Statement):
            yield child
        else:
            yield from (child.header,) if child.header else ()
            yield from _said(child)


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8]) + (" …" if len(numbers) > 8 else "")
    return f"line{'s' if len(numbers) > 1 else ''} {shown}"
