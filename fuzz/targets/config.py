"""Any text: diagnostics or a configuration; and the running-config of a configuration is a text that means the same."""

from dataclasses import fields

from groupvpn.config import Configuration, Severity, diff, parse, render, running_config
from groupvpn.config.grammar import COMMANDS

_VALUES = (
    "0 1 7 10 120 1234 3600 86400 65535 4294967296 eq range any host 10.0.0.1 10.1.0.0 0.0.255.255 255.255.255.0 0.0.0.0 A B KEYS".split()
)
_NAMES = (
    "GigabitEthernet0/0 Loopback1 Tunnel0 eth0 ! exit end no default permit deny ip udp tcp esp-aes esp-sha256-hmac esp-gcm 256".split()
)
_KEYWORDS = {word for command in COMMANDS for word in command.syntax.replace("{", " ").replace("}", " ").replace("|", " ").split()}
VOCABULARY = ["\n", "\n ", *_VALUES, *_NAMES, *sorted(word.strip("[]<>") for word in _KEYWORDS)]
LINES = ["\n" + command.syntax for command in COMMANDS if "<" not in command.syntax and "{" not in command.syntax]


def text_of(data: bytes) -> str:
    """Text in UTF-8 as far as it is that; behind an octet of 255, pairs of octets that stand for words of the language."""
    if data[:1] != b"\xff":
        return data.decode("utf-8", "replace")
    words = VOCABULARY + LINES
    return " ".join(words[int.from_bytes(data[at : at + 2], "big") % len(words)] for at in range(1, len(data), 2))


def one_input(data: bytes) -> None:
    """See `text_of`."""
    result = parse(text_of(data), "fuzz")
    assert render(result.diagnostics) or not result.diagnostics
    if result.configuration is None:
        assert any(item.severity is Severity.ERROR for item in result.diagnostics)
        return
    text = running_config(result.configuration)
    again = parse(text, "again")
    assert again.configuration is not None, (text, render(again.diagnostics))
    assert _meaning(again.configuration) == _meaning(result.configuration), text
    assert running_config(again.configuration) == text
    assert not diff(result.configuration, again.configuration), text
    running_config(result.configuration, redact=True)


def _meaning(configuration: Configuration) -> object:
    """All but the text that it came from."""
    return [getattr(configuration, field.name) for field in fields(configuration) if field.name not in ("sections", "notices")]
