"""Lines that count on nodes of another kind: a key server protects no packets, a member takes its SAs as they are, and SAs that are set by
hand have neither a lifetime nor a window."""

from groupvpn.config.build.context import Context
from groupvpn.config.diagnostics import Severity
from groupvpn.config.model import Configuration, Role
from groupvpn.config.section import Statement

_OF_KEY_SERVERS = ("security-association replay", "security-association lifetime seconds")
"""Behind `crypto ipsec`, and in a profile behind `set`."""
_OF_MEMBERS = ("crypto ipsec df-bit", "crypto ipsec fragmentation")
_REASONS = {
    Role.MEMBER: "a member keeps the window and the lifetime that its key server names",
    Role.BY_HAND: "SAs set by hand have no lifetime and no anti-replay",
    Role.KEY_SERVER: "a key server protects no packets: this counts on its members",
}


def check_role(configuration: Configuration, context: Context) -> None:
    """Say once for all such lines that they change nothing here."""
    reason = _REASONS.get(configuration.role)
    found = [] if configuration.role is Role.KEY_SERVER and configuration.has_manual_entries else _found(configuration.role, context)
    if reason is not None and found:
        numbers = sorted({item.place.line for item in found})
        listed = f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        context.say(Severity.NOTICE, min((item.place for item in found), key=lambda place: place.line), f"{reason} ({listed})")


def _found(role: Role, context: Context) -> list[Statement]:
    root = context.root
    if role is not Role.KEY_SERVER:
        wanted = [root.statement(f"crypto ipsec {name}") for name in _OF_KEY_SERVERS]
        wanted += [section.statement(f"set {name}") for section in root.sections("crypto ipsec profile") for name in _OF_KEY_SERVERS]
    else:
        wanted = [root.statement(name) for name in _OF_MEMBERS]
        wanted += [section.statement("crypto ipsec fragmentation") for section in root.sections("interface")]
    return [item for item in wanted if item is not None]
