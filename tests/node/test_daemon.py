"""The life of a node around its router."""

import asyncio
import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from node_samples import BY_HAND, KEY_SERVER

from groupvpn.config import Configuration, parse
from groupvpn.node.addresses import AddressError
from groupvpn.node.control import CommandError
from groupvpn.node.daemon import Options, _Daemon
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory, StateError


@pytest.mark.parametrize(
    ("error", "answer", "is_bug"),
    [
        (StateError("rsa/K.json is not a key pair"), "% rsa/K.json is not a key pair", False),
        (KeyError("secret"), "% The command met a bug; the log says where", True),
    ],
)
def test_what_a_command_meets_is_answered(tmp_path: Path, error: Exception, answer: str, is_bug: bool) -> None:
    """A damaged file of the operator's is no bug of ours."""

    async def execute(router: Router, command: str, text: str) -> str:
        raise error

    state = StateDirectory("r", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse("hostname r\n").configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        daemon = _Daemon(Options(tmp_path / "r.cfg", "r"), configuration, state, execute)
        with pytest.raises(CommandError) as caught:
            asyncio.run(daemon._answer("show crypto key mypubkey rsa", ""))
    assert str(caught.value) == answer
    assert any(line.mnemonic == "BUG" for line in daemon.log.lines) == is_bug
    state.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[_Daemon]:
    async def execute(router: Router, command: str, text: str) -> str:
        return ""

    state = StateDirectory("r", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse("hostname r\n").configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        yield _Daemon(Options(tmp_path / "r.cfg", "r"), configuration, state, execute)
    state.close()


def test_a_status_that_meets_a_bug_is_answered(daemon: _Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon.router.enforcement, "counters", {}.popitem)
    answer = asyncio.run(daemon.control._reply({"query": "status"}))
    assert answer == {"error": "% The status met a bug; the log says where"}
    assert [line.mnemonic for line in daemon.log.lines] == ["BUG"]


def test_a_daemon_that_stops_answers_no_command_and_has_no_status(daemon: _Daemon) -> None:
    daemon._stop.set()
    for wanted in ({"command": "crypto key zeroize rsa K"}, {"query": "status"}, {"action": "reload"}):
        assert asyncio.run(daemon.control._reply(wanted)) == {"error": "% The node is stopping"}


def test_a_daemon_that_stops_takes_no_connections_meanwhile(daemon: _Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    socket, seen = daemon.router.state.control_socket, []

    async def scene() -> None:
        await daemon.control.start()
        _, early = await asyncio.open_unix_connection(socket)

        async def stop() -> None:
            for _ in range(2):
                try:
                    _, late = await asyncio.open_unix_connection(socket)
                except ConnectionRefusedError as error:
                    seen.append(error)
                else:
                    late.close()
            early.write(b'{"query": "status"}\n')

        monkeypatch.setattr(daemon.router, "stop", stop)
        await daemon._shut_down()
        early.close()

    asyncio.run(scene())
    assert len(seen) == 2
    assert daemon._stop.is_set(), "also where the start has failed"


def test_a_bug_in_a_callback_of_the_event_loop_is_a_line_of_the_log(daemon: _Daemon) -> None:
    def callback() -> None:
        raise KeyError("a bug")

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(daemon.unhandled)
        loop.call_soon(callback)
        await asyncio.sleep(0)
        loop.call_exception_handler({"message": "a task was lost", "exception": ValueError("never raised")})

    asyncio.run(scene())
    texts = [line.text for line in daemon.log.lines]
    assert ["KeyError in Exception in callback" in text for text in texts] == [True, False]
    assert "ValueError in a task was lost" in texts[1]


MEMBER = """
crypto gdoi group G
 identity number 1
 server address ipv4 10.0.0.2
!
end
"""


class Manager:
    """Hears what the service manager is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.status = ""

    def reloading(self, moment: int) -> None:
        self.heard.append("reloading")

    def ready(self, status: str) -> None:
        self.heard.append("ready")
        self.status = status


class Reloading:
    """A daemon in the middle of its life, of which the router only notes what it is to take over."""

    def __init__(self, folder: Path, state: StateDirectory, text: str = MEMBER) -> None:
        async def execute(router: Router, command: str, text: str) -> str:
            return ""

        self.file, self.taken, self.manager = folder / "r.cfg", [], Manager()
        self.taken: list[Configuration]
        configuration = parse(text).configuration
        assert configuration is not None
        self.daemon = _Daemon(Options(self.file, "r"), configuration, state, execute, has_end="end" in text)
        self.daemon._notifier = self.manager  # type: ignore[assignment]
        self.daemon.router.reconfigure = self._reconfigure  # type: ignore[method-assign]
        self.daemon._is_serving = True
        self.fails: Exception | None = None

    def _reconfigure(self, configuration: Configuration) -> None:
        if self.fails:
            raise self.fails
        self.taken.append(configuration)
        self.daemon.router.configuration = configuration

    def __call__(self, text: str) -> str:
        """Reload `text`; returns why it was rejected."""
        self.file.write_text(text)
        before = len(self.daemon.log.lines)
        self.daemon._hang_up()
        return "; ".join(line.text for line in self.daemon.log.lines[before:] if line.mnemonic == "CONFIG_REJECTED")


@pytest.fixture
def reload(tmp_path: Path) -> Iterator[Reloading]:
    state = StateDirectory("r", tmp_path / "state", run_root=tmp_path / "run")
    with redirect_stderr(io.StringIO()):
        yield Reloading(tmp_path, state)
    state.close()


def test_a_reload_is_told_to_the_manager_and_taken_over(reload: Reloading) -> None:
    assert reload(MEMBER.replace("10.0.0.2", "10.0.0.3")) == ""
    assert len(reload.taken) == 1
    assert reload.manager.heard == ["reloading", "ready"]


@pytest.mark.parametrize(
    ("error", "is_bug"),
    [
        (AddressError("ip: Cannot allocate memory"), False),
        (StateError("no disk"), False),
        (OSError(11, "busy"), False),
        (KeyError("x"), True),
    ],
)
def test_a_reload_that_fails_is_rejected_and_over(reload: Reloading, error: Exception, is_bug: bool) -> None:
    reload.fails = error
    assert "the configuration before goes on" in reload(MEMBER)
    assert reload.manager.heard == ["reloading", "ready"]
    assert any(line.mnemonic == "BUG" for line in reload.daemon.log.lines) == is_bug


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no group any more"),
        ("hostname r\n!\nend\n", "stop the node"),
        (MEMBER.removesuffix("!\nend\n"), "has no line `end` any more"),
        (MEMBER.removesuffix("d\n"), "has no line `end` any more"),
        ("crypto nonsense", "crypto nonsense"),
    ],
)
def test_what_a_file_is_while_it_is_written_ends_no_protection(reload: Reloading, text: str, reason: str) -> None:
    assert reason in reload(text)
    assert not reload.taken
    assert reload(MEMBER + "interface Loopback0\n ip address 10.9.9.9 255.255.255.255\n") == "", "added below it"


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[Reloading]:
    """A daemon with nothing but keys set by hand, on one interface."""
    state = StateDirectory("h", tmp_path / "state", run_root=tmp_path / "run")
    with redirect_stderr(io.StringIO()):
        yield Reloading(tmp_path, state, KEYS)
    state.close()


KEYS = BY_HAND.format(address="192.0.2.1 255.255.255.0", inbound="01" * 16, outbound="02" * 16, authenticator="03" * 32)


def test_the_only_interface_with_keys_set_by_hand_can_be_shut(by_hand: Reloading) -> None:
    assert by_hand(KEYS + " shutdown\n") == ""
    (taken,) = by_hand.taken
    (policy,) = by_hand.daemon.router.cores.desired_state(taken).interfaces
    assert policy.is_shut
    assert not any("nothing to do" in line.text for line in by_hand.daemon.log.lines)
    assert "nor an interface that is shut" in by_hand("hostname r\n"), "that would open it"
    assert by_hand(KEYS) == ""


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Reloading]:
    """A daemon that serves a group."""
    state = StateDirectory("k", tmp_path / "state", run_root=tmp_path / "run")
    with redirect_stderr(io.StringIO()):
        yield Reloading(tmp_path, state, KEY_SERVER)
    state.close()


PROFILE = "crypto ipsec profile P\n set transform-set T\n"
TRAFFIC = "  sa ipsec 1\n   profile P\n   match address ipv4 101\n"


@pytest.mark.parametrize(
    "gone",
    [
        (PROFILE, "   profile P\n"),
        (PROFILE,),
        ("access-list 101 permit ip any any\n", "   match address ipv4 101\n"),
        ("access-list 101 permit ip any any\n",),
    ],
)
def test_traffic_that_has_lost_a_line_is_not_taken_for_removed(serving: Reloading, gone: tuple[str, ...]) -> None:
    """Where nothing of its kind is left the file may be an excerpt, of which there are warnings."""
    text = KEY_SERVER
    for lines in gone:
        assert lines in text
        text = text.replace(lines, "")
    assert "`sa ipsec 1` of group `G` is incomplete, and members would send its traffic in the clear" in serving(text)
    assert not serving.taken
    assert serving(KEY_SERVER.replace(TRAFFIC, "")) == "", "that is a word of its own"
    assert serving(text) == "", "there is nothing to lose"


def test_who_reloads_is_told_how_it_went(reload: Reloading) -> None:
    file, daemon = reload.file, reload.daemon
    file.write_text(MEMBER, encoding="utf-8")
    assert daemon._reload_for_operator() == f"{file} taken over: {daemon.router.operations.summary()}"
    file.write_text("crypto nonsense\n" + MEMBER, encoding="utf-8")
    with pytest.raises(CommandError, match=r"r\.cfg:1") as caught:
        daemon._reload_for_operator()
    assert str(caught.value) in "\n".join(line.text for line in daemon.log.lines)
    daemon._stop.set()
    with pytest.raises(CommandError, match="stopping"):
        daemon._reload_for_operator()


def test_the_manager_shows_a_refused_reload_until_one_is_taken_over(reload: Reloading) -> None:
    reload("crypto nonsense")
    assert reload.manager.status.endswith("; the last reload was refused")
    reload(MEMBER)
    assert "refused" not in reload.manager.status


def test_a_file_without_end_stays_one(tmp_path: Path) -> None:
    state = StateDirectory("n", tmp_path / "state", run_root=tmp_path / "run")
    without = MEMBER.removesuffix("!\nend\n")
    with redirect_stderr(io.StringIO()):
        reload = Reloading(tmp_path, state, without)
        assert reload(without + "hostname other\n") == ""
        assert reload(MEMBER) == ""
        assert "`end`" in reload(without)
    state.close()


def test_a_reload_during_the_start_waits_and_one_during_the_stop_is_nothing(reload: Reloading) -> None:
    reload.daemon._is_serving = False
    assert reload(MEMBER) == ""
    assert (reload.taken, reload.daemon._reload_waits, reload.manager.heard) == ([], True, [])
    reload.daemon._is_serving = True
    reload.daemon._stop.set()
    assert reload(MEMBER) == ""
    assert (reload.taken, reload.manager.heard) == ([], [])


def test_a_reload_tells_what_the_start_would_tell(tmp_path: Path) -> None:
    async def execute(router: Router, command: str, text: str) -> str:
        return ""

    file = tmp_path / "r.cfg"
    file.write_text("hostname r\ncrypto gdoi group G\n", encoding="utf-8")
    state = StateDirectory("r", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse("hostname r\n").configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        daemon = _Daemon(Options(file, "r"), configuration, state, execute)
        daemon._is_serving = True
        asyncio.run(_reloaded(daemon))
    told = [line.text for line in daemon.log.lines if line.mnemonic == "CONFIG"]
    assert any("group `G` has no identity" in text for text in told)
    assert any("nothing to do" in text for text in told)
    assert any(text.startswith(f"{file}:2: ") for text in told), "the place of the line"
    assert any(text.endswith("; add `identity number N`") for text in told), "the way to mend it"
    state.close()


@pytest.mark.parametrize(
    ("mode", "rights"), [(0o600, ""), (0o640, ""), (0o644, "read"), (0o622, "write"), (0o666, "read and write"), (0o660, "")]
)
def test_keys_that_every_user_may_read_are_warned_of(reload: Reloading, mode: int, rights: str) -> None:
    text = MEMBER + "crypto isakmp key a-long-and-random-secret address 10.0.0.2\n"
    reload.file.touch()
    reload.file.chmod(mode)
    assert reload(text) == ""
    told = [line.text for line in reload.daemon.log.lines if "the file has keys" in line.text]
    warning = (
        f"{reload.file}:1: the file has keys and mode {mode:04o}: every user of this machine may {rights} it; `chmod 600 {reload.file}`"
    )
    assert [line.startswith(warning) for line in told] == ([True] if rights else [])
    before = len(reload.daemon.log.lines)
    reload(MEMBER)
    assert "keys and mode" not in " ".join(line.text for line in list(reload.daemon.log.lines)[before:]), "there is no key in it now"


async def _reloaded(daemon: _Daemon) -> None:
    daemon._hang_up()
    daemon.router._alarm.close()
