"""Hypothesis strategies that speak the configuration language: lines made from the grammar's own descriptions."""

from hypothesis import strategies as st

from groupvpn.config.arguments import (
    Address,
    Hex,
    HostAddress,
    HostName,
    InterfaceArgument,
    Line,
    Mask,
    Name,
    Number,
    SecretLine,
    SecretWord,
)
from groupvpn.config.grammar import COMMANDS
from groupvpn.config.language import Alternatives, ArgumentType, Command, Leaf, Leave, Maybe, Node, Repeated, Sequence
from groupvpn.config.syntax import parse_syntax

_NAMES = st.sampled_from(["G", "m", "p", "t", "101", "5", "L", "getvpn-acl", "group1"])
_ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "239.0.0.1", "0.0.0.0", "192.0.2.255"])
_MASKS = st.sampled_from(["255.255.255.0", "255.255.255.255", "0.0.0.0", "255.0.0.0"])


def _value(kind: ArgumentType) -> st.SearchStrategy[str]:
    match kind:
        case Number():
            ends = st.sampled_from([end for pair in kind.ranges for end in pair])
            return ends.map(str)
        case InterfaceArgument():
            return st.sampled_from(["gi0/0", "GigabitEthernet0/1", "Loopback0", "Vlan10"])
        case Mask():
            return _MASKS
        case Address():
            return _ADDRESSES
        case HostAddress():
            return _ADDRESSES | st.just("ks1")
        case Hex():
            return st.sampled_from(["0A", "FF00"])
        case SecretWord():
            return st.sampled_from(["secret", "s3cr!t", "6", "address"])
        case Line() | SecretLine():
            return st.sampled_from(["some text", "x", "a  b"])
        case HostName():
            return st.sampled_from(["ks1", "gm.example.com"])
        case Name():
            return _NAMES
        case _:
            return _ADDRESSES


def words_of(node: Node) -> st.SearchStrategy[str]:
    """A text that `node` describes."""
    match node:
        case Leaf():
            if node.word is not None:
                return st.just(node.word)
            if node.accept is not None:
                return st.just("Loopback") if not node.closes else st.just("1")
            return _value(node.type) if node.type else st.just("x")
        case Sequence(items):
            return st.tuples(*(words_of(item) for item in items)).map(" ".join)
        case Alternatives(items):
            return st.one_of([words_of(item) for item in items])
        case Maybe(item):
            return st.just("") | words_of(item)
        case Repeated(item):
            return st.lists(words_of(item), min_size=1, max_size=2).map(" ".join)


def line_of(command: Command) -> st.SearchStrategy[str]:
    """A line of `command`, sometimes taken back."""
    text = words_of(parse_syntax(command.syntax, command.arguments))
    return st.tuples(st.sampled_from(["", "", "", "", "no "]), text).map(lambda parts: parts[0] + " ".join(parts[1].split()))


_LINES = {id(command): line_of(command) for command in COMMANDS if not isinstance(command.effect, Leave)}


@st.composite
def _block(draw: st.DrawFn) -> list[str]:
    """A line that opens a mode, and lines of that mode; or one global line."""
    from groupvpn.config.grammar.modes import GLOBAL

    lines: list[str] = []
    mode = GLOBAL
    for _ in range(draw(st.integers(1, 12))):
        own = [command for command in COMMANDS if command.mode is mode and id(command) in _LINES]
        if not own:
            break
        command = draw(st.sampled_from(own))
        line = draw(_LINES[id(command)])
        lines.append(line)
        opened = getattr(command.effect, "mode", None)
        if opened is not None and not line.startswith("no "):
            mode = opened
        elif mode is GLOBAL:
            break
    return lines


def configurations() -> st.SearchStrategy[str]:
    """A configuration of some blocks; most of its lines are right, few of them go together."""
    return st.lists(_block(), min_size=1, max_size=8).map(lambda blocks: "\n".join(line for block in blocks for line in ["!", *block]))
