"""What was accepted and has no effect, said once per file: lines without a meaning on Linux, and functions that are not built yet."""

from dataclasses import dataclass, field

from groupvpn.config.diagnostics import Diagnostic, Severity
from groupvpn.config.language import Ignore
from groupvpn.config.section import Statement


@dataclass(slots=True)
class Notices:
    """Collects statements without effect while a file is read."""

    ignored: list[Statement] = field(default_factory=list)
    guards: dict[tuple[str, str], list[Statement]] = field(default_factory=dict)
    """Lines that filter, translate or separate traffic on a router, by their keywords and the reason why nothing is done."""
    waiting: dict[str, list[Statement]] = field(default_factory=dict)

    def record(self, statement: Statement) -> None:
        """Remember `statement` if it is one of these."""
        effect = statement.command.effect
        if isinstance(effect, Ignore):
            if effect.guards and not statement.negated:
                self.guards.setdefault((statement.command.head, effect.reason), []).append(statement)
            elif not effect.warns:
                self.ignored.append(statement)
        elif statement.command.not_yet and not statement.negated:
            self.waiting.setdefault(statement.command.not_yet, []).append(statement)

    def summary(self, filename: str) -> list[Diagnostic]:
        """A warning for each kind of lines that guard traffic on a router, a notice for each function that is not built yet, and one for
        all other lines that mean nothing here.
        """
        found: list[Diagnostic] = []
        for (command, reason), statements in self.guards.items():
            numbers = sorted({statement.place.line for statement in statements})
            message = f"`{command}` does nothing on Linux ({_lines(numbers)})"
            found.append(Diagnostic(Severity.WARNING, filename, numbers[0], 1, message, reason))
        for function, statements in self.waiting.items():
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


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8]) + (" …" if len(numbers) > 8 else "")
    return f"line{'s' if len(numbers) > 1 else ''} {shown}"
