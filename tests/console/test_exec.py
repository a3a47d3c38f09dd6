"""Exec commands: abbreviation, complaints, filters, completion; with a registry of three commands."""

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import pytest

from groupvpn.config.arguments import Name, Number
from groupvpn.console.exec import TOPICS, Exec, ExecCommand, Request
from groupvpn.console.registry import exec_commands
from groupvpn.node.control import CommandError
from groupvpn.node.router import Router

ROUTER = cast(Router, None)


def _lines(router: Router, request: Request) -> str:
    return "one\ntwo\nthree and two"


async def _slow(router: Router, request: Request) -> str:
    await asyncio.sleep(0)
    return f"{request.name('label')} {request.number('bits', 7)} {'export' in request.keywords} {request.text}"


COMMANDS = Exec(
    (
        ExecCommand("show lines", "Some lines", _lines),
        ExecCommand("show logging", "Other lines", _lines),
        ExecCommand(
            "make key [label <label>] [bits <bits>] [export]",
            "A key",
            _slow,
            {"label": Name("its label"), "bits": Number(1, 9, "its size")},
        ),
    )
)


def _run(line: str, text: str = "") -> str:
    return asyncio.run(COMMANDS.run(ROUTER, line, text))


@pytest.mark.parametrize("line", ["show lines", "SHOW LINES", "sh li", "  show   lines  "])
def test_keywords_may_be_abbreviated_in_any_case(line: str) -> None:
    assert _run(line) == "one\ntwo\nthree and two"


def test_arguments_and_input_reach_the_command() -> None:
    assert _run("make key label MINE bits 9 export", "pasted") == "MINE 9 True pasted"
    assert _run("m k") == "None 7 False "


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("sh l", "Ambiguous command:  'l' could be lines, logging"),
        ("show", "Incomplete command. Next could be: lines, logging"),
        ("show nothing", "     ^\n% Invalid input detected at '^' marker. Here could be: lines, logging"),
        ("make key bits 10", "10 is outside 1 to 9"),
        ("show lines more", "Here could be: nothing more"),
        ("show lines | grep x", "comes one of include, exclude, begin, section, count"),
        ("show lines | include", "comes one of include"),
        ("show lines |", "comes one of include"),
        ("show lines | exclude e | include o", "One filter at a time"),
        ("show lines | include (two", "'(two' cannot be looked for: `(` is not closed"),
    ],
)
def test_what_is_wrong_is_answered_with_what_is_right(line: str, complaint: str) -> None:
    with pytest.raises(CommandError) as caught:
        _run(line)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("show lines | include two", "two\nthree and two"),
        ("show lines | ex two", "one"),
        ("show lines | begin two", "two\nthree and two"),
        ("show lines | include three and", "three and two"),
        ("show lines | begin four", ""),
        ("show lines | include one|three", "one\nthree and two"),
        ("show lines | section two", "two\nthree and two"),
        ("show lines | count two", "Number of lines which match regexp = 2"),
        ("show lines | cou four", "Number of lines which match regexp = 0"),
        ("show lines | include ^[ot]..$", "one\ntwo"),
        ("", ""),
    ],
)
def test_output_can_be_cut_down(line: str, output: str) -> None:
    assert _run(line) == output


def test_a_section_is_a_line_with_what_is_indented_behind_it() -> None:
    text = "one\n a one\n  deeper\n\n b\ntwo\n one\n  below\n beside"
    console = Exec((ExecCommand("show text", "Some text", lambda router, request: text),))
    shown = {word: asyncio.run(console.run(ROUTER, f"show text | section {word}")) for word in ("^one", "below", "^ one")}
    assert shown == {"^one": "one\n a one\n  deeper\n b", "below": "  below", "^ one": " one\n  below"}


def test_help_lists_what_may_follow() -> None:
    assert COMMANDS.following("show") == [("lines", "Some lines"), ("logging", "Other lines")]
    assert [word for word, _ in COMMANDS.following("make key")] == ["<cr>", "bits", "export", "label"]
    assert COMMANDS.following("make key bits") == [("<1-9>", "its size")]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("show ?", "  lines    Some lines\n  logging  Other lines"),
        ("make key bits ?", "  <1-9>  its size"),
        ("sh?", f"  show  {TOPICS['show']}"),
        ("show l?", "  lines    Some lines\n  logging  Other lines"),
        ("SHOW LI?", "  lines  Some lines"),
        ("make key b?", "  bits  A key"),
        ("make key ?", "  <cr>\n  bits    A key\n  export  A key\n  label   A key"),
    ],
)
def test_a_question_mark_asks_what_may_follow(line: str, answer: str) -> None:
    assert _run(line) == answer


@pytest.mark.parametrize(
    "line",
    [
        "show crypto ipsec sa",
        "crypto key generate rsa",
        "crypto key export rsa L pem terminal",
        "crypto key import rsa L",
        "crypto gdoi ks",
        "crypto gdoi gm ipsec direction",
        "show crypto map",
        "show crypto gdoi gm acl",
        "debug crypto",
    ],
)
def test_options_have_a_help_of_their_own(line: str) -> None:
    """Not that of their command, time and again."""
    helped = [meaning for word, meaning in exec_commands().following(line) if word != "<cr>"]
    assert all(helped)
    assert len(set(helped)) == len(helped) > 1


def test_help_is_for_words_that_are_there() -> None:
    for command in exec_commands().commands:
        spelled = [spelling for kind in command.arguments.values() for spelling in getattr(kind, "choices", {})]
        known = re.split(r"[\s{}\[\]|]+", " ".join([command.syntax, *spelled]))
        assert set(command.words) <= set(known), command.syntax


def test_a_question_after_a_wrong_word_is_answered_with_what_is_right() -> None:
    for line in ("show nothing ?", "show nothing?"):
        with pytest.raises(CommandError, match="Here could be: lines, logging"):
            _run(line)


def test_every_word_of_the_program_has_help() -> None:
    console = exec_commands()

    def check(line: str, depth: int) -> None:
        for word, meaning in console.following(line):
            assert meaning or word == "<cr>", f"{line} {word}"
            if word.islower() and depth:
                check(f"{line} {word}".strip(), depth - 1)

    check("", 4)


def test_a_word_has_the_help_of_the_command_that_ends_with_it() -> None:
    """And not that of whichever command below it comes last."""
    console = exec_commands()
    assert dict(console.following("show crypto"))["key"] == "Public keys of this node", "only one command goes on from here"
    assert dict(console.following(""))["show"] == TOPICS["show"]
    below = dict(console.following("show crypto gdoi"))
    assert below["group"] == TOPICS["group"]
    assert below["gm"].endswith("registration of its groups")
    assert below["ks"].endswith("its groups")


def test_every_command_of_the_program_has_help_and_begins_with_a_known_verb() -> None:
    commands = exec_commands().commands
    assert {command.syntax.split()[0] for command in commands} <= {
        "show",
        "clear",
        "crypto",
        "debug",
        "undebug",
        "no",
        "terminal",
        "configure",
        "copy",
        "reload",
        "write",
    }
    assert all(command.help and not command.help.endswith(".") for command in commands)
    syntaxes = [command.syntax for command in commands]
    assert len(set(syntaxes)) == len(syntaxes)


def test_a_request_knows_nothing_it_was_not_given(tmp_path: Path) -> None:
    request = Request(cast(Any, {}), frozenset())
    assert (request.get("label"), request.name("label"), request.number("bits", 3)) == (None, None, 3)
