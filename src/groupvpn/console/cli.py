"""The `groupvpn` command.

Exit statuses: 0 all is well; 1 what was asked could not be done, and the message says why; 2 the command line is wrong (or, for `check` and
`run`, the configuration has errors); 3 no such node or lab runs.

Heavy modules are imported inside the commands that need them, so that each starts as fast as it can.
"""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from groupvpn import __version__
from groupvpn.console.completion import exec_words, node_names
from groupvpn.console.lab_cli import lab_commands

FAILED, WRONG, NOT_RUNNING = 1, 2, 3
_OUTPUT_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE))
"""Why a stream takes no more; that of a file has its name besides."""

app = typer.Typer(
    name="groupvpn",
    help="The open, tunnel-less group VPN for Linux: GDOI key server and group member, configured as routers are.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lab_commands, name="lab")


def fail(message: str, status: int = FAILED) -> NoReturn:
    """Say why it cannot be done, and end."""
    print(f"groupvpn: {message}", file=sys.stderr)
    raise SystemExit(status)


def _print_version(value: bool) -> None:
    if value:
        print(f"groupvpn {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", readable=False, help="Configuration files.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Check configurations: prints errors, warnings and notices; status 2 if one has errors."""
    from groupvpn.config import Severity, parse, render
    from groupvpn.node.exposure import exposure

    wrong = unreadable = False
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            print(f"groupvpn: {file}: {error.strerror}", file=sys.stderr)
            unreadable = True
            continue
        result = parse(text, str(file))
        exposed = exposure(file, result.configuration) if result.configuration is not None else None
        said = ([exposed] if exposed else []) + list(result.diagnostics)
        shown = [item for item in said if not quiet or item.severity is Severity.ERROR]
        if shown:
            print(render(shown))
        wrong = wrong or result.configuration is None
        if result.configuration is not None and not quiet:
            idle = (
                ": nothing to do, for it serves and joins no group, and no interface has keys set by hand"
                if result.configuration.is_idle
                else ""
            )
            print(f"{file}: good ({result.configuration.role.value}){idle}")
    if wrong or unreadable:
        raise SystemExit(WRONG if wrong else FAILED)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The node's configuration.")],
    name: Annotated[str | None, typer.Option(help="The node's name; the file's name without its ending, unless given.")] = None,
    netns: Annotated[str | None, typer.Option(help="Run inside this network namespace (`ip netns`).")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where keys and state are kept; /var/lib/groupvpn/NAME unless given.")] = None,
    interface: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DEVICE", help="Linux device of an interface, such as GigabitEthernet0/0=eth0.")
    ] = None,
    rsa_key: Annotated[
        list[str] | None, typer.Option(metavar="LABEL[:BITS]", help="Make this RSA key pair first, unless the node has it.")
    ] = None,
    log: Annotated[str, typer.Option(help="Where log lines go: stderr or syslog.")] = "stderr",
    transmit: Annotated[str, typer.Option(help="How ESP leaves: auto, bpf, xdp, packet or raw.")] = "auto",
    receive: Annotated[str, typer.Option(help="How ESP comes in: auto, bpf, ring or tap.")] = "auto",
    steer: Annotated[str, typer.Option(help="What decides over packets: auto, bpf or nftables.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Threads for each interface and direction; one for each two processors, up to 8, unless given.")
    ] = None,
    pin: Annotated[
        str | None,
        typer.Option(metavar="CPU,CPU…", help="Bind these threads to processors in turn: out and in of the first, of the second, …"),
    ] = None,
    debug: Annotated[bool, typer.Option(help="Log the node's own events too, for its developers.")] = False,
    debug_key_table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="DANGER: write the keys of every ISAKMP SA to FILE, in the form of tshark's ikev1_decryption_table.",
        ),
    ] = None,
) -> None:
    """Run a node until it is stopped. SIGTERM or SIGINT stops it, SIGHUP, or `groupvpn reload`, makes it read its configuration again."""
    from groupvpn.node import signals

    signals.hold()
    from groupvpn.console.registry import exec_commands
    from groupvpn.dataplane.options import EngineOptions, default_workers
    from groupvpn.node import daemon
    from groupvpn.node.syslog import Sink

    try:
        processors = tuple(int(text) for text in pin.split(",")) if pin else ()
    except ValueError:
        fail(f"--pin {pin}: write numbers of processors, such as 2,3", WRONG)
    try:
        engine = EngineOptions(transmit, receive, default_workers() if workers is None else workers, processors, steer)
    except ValueError as error:
        fail(str(error), WRONG)
    if log not in {sink.value for sink in Sink}:
        fail(f"--log {log}: choose stderr or syslog", WRONG)
    devices: dict[str, str] = {}
    for text in interface or ():
        interface_name, equals, device = text.partition("=")
        if not equals or not device:
            fail(f"--interface {text}: write NAME=DEVICE, such as GigabitEthernet0/0=eth0", WRONG)
        devices[interface_name] = device
    wanted = daemon.Options(
        file=file,
        name=file.stem if name is None else name,
        namespace=netns,
        state_directory=state_dir,
        devices=devices,
        rsa_keys=tuple(_rsa_key(text) for text in rsa_key or ()),
        sink=Sink(log),
        debug=debug,
        key_table=debug_key_table,
        engine=engine,
    )
    raise SystemExit(daemon.run(wanted, exec_commands().run))


def _rsa_key(text: str) -> tuple[str, int]:
    from groupvpn.crypto.rsa import MODULUS_BITS
    from groupvpn.pki.rsa_keys import DEFAULT_MODULUS_BITS

    label, _, bits = text.partition(":")
    if not label or (bits and not bits.isdecimal()):
        fail(f"--rsa-key {text}: write LABEL or LABEL:BITS, such as GROUPKEY:{DEFAULT_MODULUS_BITS}", WRONG)
    modulus = int(bits or DEFAULT_MODULUS_BITS)
    if modulus not in MODULUS_BITS or modulus % 8:
        fail(f"--rsa-key {text}: a modulus has {MODULUS_BITS.start} to {MODULUS_BITS.stop - 1} bits in whole octets", WRONG)
    return label, modulus


@app.command("exec")
def execute(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node.", autocompletion=node_names)],
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND", help='The exec command, such as "show crypto gdoi".', autocompletion=exec_words),
    ],
    state_dir: Annotated[Path | None, typer.Option(help="The node's state directory, if it cannot be found by its name.")] = None,
    stdin: Annotated[
        bool, typer.Option("--input/--no-input", help="Give what stands on standard input to the command (a passphrase, keys to import).")
    ] = False,
) -> None:
    """Run an exec command in a running node and print its answer."""
    from groupvpn.node import control
    from groupvpn.node.state import StateError, find

    line = " ".join(command)
    text = _typed_in() if stdin or (" import " in f" {line} " and not (sys.stdin and sys.stdin.isatty())) else ""
    try:
        output = control.request(find(name, state_dir), line, text)
    except StateError as error:
        fail(str(error), NOT_RUNNING)
    except control.ControlError as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from error
    if output:
        print(output)


def _typed_in() -> str:
    """All that comes on standard input, nothing if that is closed."""
    return sys.stdin.read() if sys.stdin else ""


@app.command()
def reload(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node.", autocompletion=node_names)],
    state_dir: Annotated[Path | None, typer.Option(help="The node's state directory, if it cannot be found by its name.")] = None,
) -> None:
    """Have a running node take over its changed configuration. One with errors changes nothing: status 1, and what is wrong."""
    from groupvpn.node import control
    from groupvpn.node.state import StateError, find

    try:
        print(control.reload(find(name, state_dir)))
    except StateError as error:
        fail(str(error), NOT_RUNNING)
    except control.ControlError as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from error


@app.command()
def log(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node.", autocompletion=node_names)],
    state_dir: Annotated[Path | None, typer.Option(help="The node's state directory, if it cannot be found by its name.")] = None,
) -> None:
    """Follow the log of a running node."""
    from groupvpn.node import control
    from groupvpn.node.state import StateError, find

    try:
        for line in control.follow(find(name, state_dir)):
            print(line, flush=True)
    except StateError as error:
        fail(str(error), NOT_RUNNING)
    except control.ControlError as error:
        fail(str(error))
    except KeyboardInterrupt:
        pass


@app.command()
def clean(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node that was killed and will not be started again.")],
    netns: Annotated[str | None, typer.Option(help="The network namespace it ran in.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Its state directory; it is kept, only locks and sockets go.")] = None,
) -> None:
    """Remove what a killed node left in the system: its rules, which block, and its name. Its keys and state stay."""
    from groupvpn.dataplane.filters import FiltersError
    from groupvpn.dataplane.programs import ProgramError
    from groupvpn.node import cleaning
    from groupvpn.node.namespace import NamespaceError
    from groupvpn.node.state import StateError

    try:
        is_known = state_dir is not None or cleaning.directory_of(name) is not None
        removed = cleaning.clean(name, netns, state_dir)
    except PermissionError as error:
        fail(f"{error.filename}: {error.strerror}; only root may, or the user that the node's service ran as")
    except (StateError, ProgramError, FiltersError, NamespaceError, OSError) as error:
        fail(str(error))
    for item in removed:
        print(f"removed {item}")
    if not removed:
        mend = f": no node {name} is known here; one that ran with --state-dir or --netns needs them here too"
        print("nothing to remove" + ("" if is_known else mend))


@app.command()
def wake(name: Annotated[str, typer.Argument(metavar="NAME", help="The node, which runs no more.")]) -> None:
    """Have what guards the interfaces of a node that was killed do so in full. The service does it, for a kill may hit who else does."""
    from groupvpn.dataplane.guards import wake_all
    from groupvpn.dataplane.programs import ProgramError
    from groupvpn.node.state import running

    if name in running():
        fail(f"node {name!r} runs, and guards its interfaces itself")
    try:
        woken = wake_all(name)
    except ProgramError as error:
        fail(str(error))
    for device in woken:
        print(f"the guard of {device} is awake: what must be protected is dropped there until the node runs again")


def main() -> None:
    """Entry point of the `groupvpn` command. What a stream cannot express is shown escaped, and a stream that fails ends the command."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        try:
            app()
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_ERRORS:
            raise
        _forget_output()
        if error.errno == errno.EPIPE:
            raise SystemExit(FAILED) from None
        fail(f"standard output: {error.strerror}")


def _forget_output() -> None:
    """Put standard output out of use, so that the end of the program does not try again what it could not write."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
