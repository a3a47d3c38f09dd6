"""`groupvpn lab …`: topologies of network namespaces, brought up, looked at and taken down."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from groupvpn.lab.lab import Lab

lab_commands = typer.Typer(
    help="Labs: nodes, hosts and links in network namespaces of this machine (needs root).", no_args_is_help=True, rich_markup_mode=None
)
TOPOLOGIES = Path("topologies")
Topology = Annotated[str, typer.Argument(metavar="TOPOLOGY", help="Folder with a topology.yaml, or the name of one in ./topologies.")]
LabName = Annotated[str, typer.Argument(metavar="LAB", help="The lab's name (that of its topology, unless it was given another).")]


def _fail(message: str, status: int = 1) -> NoReturn:
    print(f"groupvpn: {message}", file=sys.stderr)
    raise SystemExit(status)


def _folder(topology: str) -> Path:
    here = Path(topology)
    return here if here.exists() else TOPOLOGIES / topology


def _only_root(purpose: str) -> None:
    if os.geteuid():
        _fail(f"a lab is made of network namespaces: only root may {purpose}")


def _lab(name: str) -> "Lab":
    from groupvpn.lab.hosts import LabError
    from groupvpn.lab.lab import Lab
    from groupvpn.lab.topology import TopologyError

    try:
        return Lab.named(Path(name).name)
    except LabError as error:
        _fail(str(error), 3)
    except TopologyError as error:
        _fail(f"{error}; {_mend(Path(name).name)}")


def _mend(name: str) -> str:
    return f"`groupvpn lab down {name}` takes away what is left"


@lab_commands.command()
def up(
    topology: Topology,
    name: Annotated[str | None, typer.Option(help="Another name for the lab, so that a topology can be up twice.")] = None,
    nodes: Annotated[bool, typer.Option("--nodes/--no-nodes", help="Start groupvpn in the nodes that have a configuration.")] = True,
) -> None:
    """Build a topology and start its nodes."""
    from groupvpn.lab.hosts import LabError
    from groupvpn.lab.lab import Lab
    from groupvpn.lab.network import NetworkError
    from groupvpn.lab.topology import TopologyError, load

    _only_root("bring one up")
    try:
        lab = Lab(load(_folder(topology)), name)
        lab.up(start=nodes)
    except (LabError, NetworkError, TopologyError) as error:
        _fail(str(error))
    print(f"lab {lab.name} is up: {lab.topology.description}")
    print(f"try: groupvpn lab status {lab.name}")


@lab_commands.command()
def down(lab: LabName) -> None:
    """Take a lab down: every process, namespace and file of it, after a crash too."""
    from groupvpn.lab.hosts import LabError
    from groupvpn.lab.lab import dismantle

    _only_root("take one down")
    try:
        left = dismantle(Path(lab).name)
    except LabError as error:
        _fail(str(error), 3)
    if left:
        _fail("still there: " + ", ".join(left))
    print(f"lab {Path(lab).name} is down")


@lab_commands.command()
def status(lab: Annotated[str | None, typer.Argument(metavar="LAB", help="The lab; all of them, if not given.")] = None) -> None:
    """Show which nodes run, and whether they are registered."""
    from groupvpn.lab.hosts import LabError
    from groupvpn.lab.lab import Lab, running
    from groupvpn.lab.topology import TopologyError

    if lab:
        _describe(_lab(lab))
        return
    names = running()
    if not names:
        print("no lab is up")
    for name in names:
        try:
            found = Lab.named(name)
        except LabError:
            print(f"{name}: there is no record of it; {_mend(name)}")
        except TopologyError as error:
            print(f"{name}: {error}; {_mend(name)}")
        else:
            _describe(found)


def _describe(lab: "Lab") -> None:
    print(f"{lab.name}: {lab.topology.description}")
    for name in lab.topology.nodes:
        print(f"  {name:10} {lab.describe(name)}")


@lab_commands.command("exec", context_settings={"ignore_unknown_options": True})
def execute(
    lab: LabName,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node or host of the lab.")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="A program and its arguments, or an exec command (show …).")],
) -> None:
    """Run a program in a node's namespace.

    Words that begin an exec command (show, clear, crypto), or words together in quotes, go to its groupvpn instead.
    """
    from groupvpn.lab.hosts import LabError
    from groupvpn.node.control import ControlError

    found = _lab(lab)
    try:
        if command[0] in ("show", "clear", "crypto") or (len(command) == 1 and " " in command[0]):
            print(found.node(node).show(" ".join(command)))
            return
        namespace = found.host(node).namespace
    except (LabError, ControlError) as error:
        _fail(str(error))
    os.execvp("ip", ["ip", "netns", "exec", namespace, *command])  # noqa: S606 - the operator's own command


@lab_commands.command()
def capture(
    lab: LabName,
    place: Annotated[str, typer.Argument(metavar="NODE[:DEVICE]", help="Where: a node with all its devices, or one of them.")],
    file: Annotated[Path, typer.Option("--write", "-w", metavar="FILE", readable=False, help="The pcap file to write.")],
    seconds: Annotated[float | None, typer.Option(help="How long; until Ctrl-C or SIGTERM, if not given.")] = None,
) -> None:
    """Write the frames that pass somewhere to a pcap file, as they come."""
    import signal
    import time

    from groupvpn.lab.hosts import LabError
    from groupvpn.node.namespace import NamespaceError

    _only_root("look into one")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as with Ctrl-C
    try:
        capturing = _lab(lab).capture(place, file=file)
    except (LabError, NamespaceError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or place}: {error.strerror}")
    with capturing, suppress(KeyboardInterrupt):
        time.sleep(seconds if seconds is not None else float(1 << 30))
    print(f"{len(capturing)} frames in {file}")
