"""Examples and references of README and docs hold: configurations pass the check, commands are ones that exist, links lead somewhere.

What is played on two machines is in `test_playing.py`; `test_rfc_tables.py` looks after `docs/rfc/`.
"""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from documents import GUIDE, PAGES, ROOT, Block, applied, blocks, steps

from groupvpn.config import Severity, parse
from groupvpn.console.cli import app
from groupvpn.console.registry import exec_commands
from groupvpn.dataplane import guard
from groupvpn.dataplane.steering import DROP_REASONS
from groupvpn.gdoi import messages as gdoi_messages
from groupvpn.ike import messages as ike_messages
from groupvpn.lab import demo
from groupvpn.lab.topology import load
from groupvpn.node import messages as node_messages
from groupvpn.reports import Message
from groupvpn.reports import Severity as Grade

README = ROOT / "README.md"
FILES = {block.words[0]: block.text for block in blocks(README) if block.language == "ios"}
BLOCKS = [block for page in PAGES for block in blocks(page)]
CONSOLE = [block for block in BLOCKS if block.language in ("console", "") and steps(block)]
CONFIGURATIONS = [block for block in BLOCKS if block.language == "ios"]
EXEC = exec_commands()
EVERY_MESSAGE = (*gdoi_messages.MESSAGES.values(), *ike_messages.MESSAGES.values(), *node_messages.MESSAGES)
COMMAND = typer.main.get_command(app)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SPOKEN = re.compile(r"^(show|clear|crypto gdoi (?:ks|gm)|crypto key) ")
_OPEN = re.compile(r"[\[\]{}…]|\.\.\.")


def refused(line: str) -> str | None:
    """Why the console of a node would not take `line`; None if it would."""
    command = line.split("|")[0].strip().replace("CIPHER", "aes")
    try:
        options = EXEC.following(command)
    except Exception as error:
        return f"{error}"
    return None if ("<cr>", "") in options else f"after `{command}` could come {options}"


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def groupvpn_commands(block: Block) -> Iterator[list[str]]:
    """The words behind `groupvpn` in each command of a console block."""
    for step in steps(block):
        for part in re.split(r"\s(?:&&|;|&|\|)\s(?=groupvpn)", step.command):
            if part.startswith(("groupvpn ", "/opt/groupvpn/bin/groupvpn ")):
                yield shlex.split(re.split(r"\s[<>]\s", part)[0])[1:]


def test_the_pages_are_there() -> None:
    assert FILES.keys() == {"ks.cfg", "east.cfg", "west.cfg"}
    assert GUIDE in PAGES
    assert len(CONSOLE) > 20


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_a_configuration_passes_the_check(block: Block) -> None:
    name = block.words[0]
    text = FILES[name[1:]] + block.text if name.startswith("+") else block.text
    found = parse(text, str(block)).diagnostics
    assert [str(item) for item in found if item.severity is not Severity.NOTICE] == []


def test_topologies_load(tmp_path: Path) -> None:
    found = [block for block in BLOCKS if block.language == "yaml"]
    assert found
    for block in found:
        (tmp_path / "topology.yaml").write_text(block.text, encoding="utf-8")
        for name in re.findall(r"\w+\.cfg", block.text):
            (tmp_path / name).write_text("hostname x\ninterface Loopback0\n ip address 10.9.9.9 255.255.255.255\n", encoding="utf-8")
        assert load(tmp_path).nodes, str(block)


def test_changes_that_are_not_played_fit_and_pass_the_check() -> None:
    texts = dict(FILES)
    for block in (block for block in blocks(GUIDE) if block.language == "diff"):
        name = block.words[0]
        texts[name] = applied(block, texts[name])
        assert parse(texts[name], str(block)).errors == (), str(block)


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_groupvpn_commands_are_taken_by_the_command_line(block: Block) -> None:
    for words in groupvpn_commands(block):
        group, name = COMMAND, "groupvpn"
        with group.make_context(name, list(words), resilient_parsing=True):
            pass
        while hasattr(group, "commands") and words and words[0] in group.commands:
            group, name = group.commands[words[0]], words[0]
            words = words[1:]
        assert not hasattr(group, "commands"), f"{block}: no command {words}"
        with group.make_context(name, list(words)):  # raises where the command line would end with status 2
            pass


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_exec_commands_are_taken_by_the_console(block: Block) -> None:
    for words in groupvpn_commands(block):
        if words[0] == "exec":
            command = " ".join([word for word in words[1:] if word != "--input"][1:])
            assert refused(command) is None, f"{block}: {refused(command)}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "configuration.md"], ids=lambda page: page.name)
def test_exec_commands_in_the_text_exist(page: Path) -> None:
    for code in _CODE.findall(prose(page)):
        if _SPOKEN.match(code) and not _OPEN.search(code):
            assert refused(code) is None, f"{page.name}: `{code}`: {refused(code)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in _LINK.findall(prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} points to {target}"
        assert file.is_relative_to(ROOT), f"{page.name} points out of the tree: {target}"
        if heading:
            assert heading in anchors(file), f"{page.name} points to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_in_the_text_exist(page: Path) -> None:
    for code in _CODE.findall(prose(page)):
        if re.fullmatch(r"(?:src|docs|engine|tests|topologies|packaging|scripts|bench)/[\w./@-]*", code):
            assert (ROOT / code).exists(), f"{page.name}: {code}"
        if found := re.fullmatch(r"((?:wire|crypto|ike|gdoi|ipsec|pki|config|dataplane|node|console|lab)/[\w/]+\.py)", code):
            assert (ROOT / "src" / "groupvpn" / found.group(1)).exists(), f"{page.name}: {code}"
        if re.fullmatch(r"groupvpn(?:\.[a-z_]\w*)+", code):
            assert is_of_the_package(code), f"{page.name}: {code}"


def is_of_the_package(name: str) -> bool:
    """Whether a dotted name is a module of ours, or may be something in one."""
    module = ROOT / "src" / name.replace(".", "/")
    return any(
        place.exists() for place in (module, module.with_suffix(".py"), module.parent.with_suffix(".py"), module.parent / "__init__.py")
    )


def test_every_page_is_named_by_another() -> None:
    named = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in _LINK.findall(page.read_text(encoding="utf-8"))
        if not target.startswith("http")
    }
    folders = {path for path in named if path.is_dir()}
    for page in PAGES:
        if page.parent != ROOT:
            assert page in named or page.parent in folders, f"no page points to {page.relative_to(ROOT)}"


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    for page in folder.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_each_line_is_given_the_fields_that_its_text_names() -> None:
    """Where a report is made that is refused, it may be where something has failed already, which no test may have played."""
    for file in (ROOT / "src" / "groupvpn").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            message = message_of(node)
            if message is not None and isinstance(node, ast.Call) and all(keyword.arg for keyword in node.keywords):
                assert {keyword.arg for keyword in node.keywords} == message.fields, f"{file.name}:{node.lineno}"


def message_of(node: ast.AST) -> Message | None:
    """The row that a call like `messages.BUG(…)` or `report("KS_GROUP_ADD", …)` fills."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name("messages"), attr=name)):
            found = getattr(node_messages, name)
            assert isinstance(found, Message)
            return found
        case ast.Call(func=ast.Name("report"), args=[ast.Constant(str(mnemonic))]):
            return (gdoi_messages.MESSAGES | ike_messages.MESSAGES)[mnemonic]
    return None


def test_lines_are_found_in_each_form() -> None:
    calls = ('messages.BUG(bug="b", more="")', 'report("KS_GROUP_ADD", group="G")', 'report("IKMP_NAT", peer=1)')
    found = [message_of(ast.parse(call, mode="eval").body) for call in calls]
    assert [message.mnemonic for message in found if message] == ["BUG", "KS_GROUP_ADD", "IKMP_NAT"]


def test_every_line_of_the_node_is_written_somewhere() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "src" / "groupvpn" / "node").glob("*.py"))
    names = [name for name, value in vars(node_messages).items() if isinstance(value, Message)]
    assert [name for name in names if not re.search(rf"\bmessages\.{name}\b", source)] == []


def test_every_grave_log_line_is_explained() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    rows = "\n".join(line for line in guide.splitlines() if line.startswith("| `"))
    grave = {message.mnemonic for message in EVERY_MESSAGE if message.severity <= Grade.WARNING}
    assert [name for name in sorted(grave) if f"`{name}`" not in rows] == []


def test_no_log_line_is_explained_that_does_not_exist() -> None:
    rows = [line for line in GUIDE.read_text(encoding="utf-8").splitlines() if re.match(r"\| `[A-Z_0-9]{3,}`", line)]
    known = {message.mnemonic for message in EVERY_MESSAGE}
    for row in rows:
        for name in _CODE.findall(row.split("|")[1]):
            assert name in known, name


def test_every_drop_reason_is_explained() -> None:
    page = (ROOT / "docs" / "dataplane.md").read_text(encoding="utf-8")
    cells = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    engine = (ROOT / "engine" / "reason.hpp").read_text(encoding="utf-8")
    names = re.search(r"reason_names = \{(.*?)\};", engine, re.DOTALL)
    assert names
    reasons = set(re.findall(r'"(\w+)"', names.group(1))) - {"delivered"}
    assert len(reasons) > 20
    rules = {*DROP_REASONS, *guard.REASONS, "outbound_queue_full", "inbound_queue_full"}
    assert [name for name in sorted(reasons | rules) if f"`{name}`" not in cells] == []


def test_the_readme_shows_rows_of_the_demo() -> None:
    table = next(block for block in blocks(README) if "┃" in block.text)
    source = Path(demo.__file__).read_text(encoding="utf-8")
    labels = [line.split("│")[0].strip() for line in table.lines if "│" in line]
    for label in filter(None, labels):
        assert re.sub(r" \((unicast|multicast)\)$", " ({kind})", label) in source, label


def test_make_targets_of_the_text_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"(?:`|^# )make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


@pytest.mark.parametrize("options", ["", "--workers 2 --pin 2,3 --steer nftables --transmit packet --receive ring"])
def test_the_unit_file_fits_the_command_line(options: str) -> None:
    unit = (ROOT / "packaging" / "groupvpn@.service").read_text(encoding="utf-8")
    words = re.search(r"^ExecStart=\S*groupvpn run (.*)$", unit, re.MULTILINE)
    assert words
    with COMMAND.commands["run"].make_context("run", words.group(1).replace("%i", "east").replace("$OPTIONS", options).split()) as context:
        assert context.params["workers"] == (2 if options else None)
    assert "Type=notify\n" in unit
    stopped = re.search(r"^ExecStopPost=-\S*groupvpn (\w+) %i$", unit, re.MULTILINE)
    assert stopped
    assert stopped.group(1) in COMMAND.commands


def test_the_unit_file_reads_options_where_the_guide_puts_them() -> None:
    """The file of all nodes first: the last one counts. A dash lets either be absent."""
    unit = (ROOT / "packaging" / "groupvpn@.service").read_text(encoding="utf-8")
    files = re.findall(r"^EnvironmentFile=-(\S+)$", unit, re.MULTILINE)
    assert files == ["/etc/default/groupvpn", "/etc/default/groupvpn-%i"]
    for file in files:
        assert file.replace("%i", "NAME") in GUIDE.read_text(encoding="utf-8")


@pytest.mark.interop("systemd-analyze")
def test_systemd_understands_the_unit_file(tmp_path: Path) -> None:
    unit = (ROOT / "packaging" / "groupvpn@.service").read_text(encoding="utf-8")
    (tmp_path / "groupvpn@east.service").write_text(unit.replace("/usr/local/bin/groupvpn", "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "groupvpn@east.service")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "ignoring" not in done.stderr
