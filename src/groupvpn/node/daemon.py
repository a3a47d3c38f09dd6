"""`groupvpn run`: one node as a well-behaved daemon.

Starts in this order, so that nothing is touched before it is sure that we may: limits, configuration, namespace, locks, control socket,
sockets, data plane, READY. SIGTERM and SIGINT stop it within two seconds. SIGHUP, or `groupvpn reload`, reads the configuration again;
one with errors changes nothing (systemd.service(5), Type=notify).
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from groupvpn import __version__
from groupvpn.config import Configuration, Severity, parse, render
from groupvpn.dataplane.options import EngineOptions
from groupvpn.node import background, limits, location, messages, namespace, signals
from groupvpn.node.addresses import AddressError
from groupvpn.node.control import STOPPING, CommandError, ControlServer
from groupvpn.node.exposure import exposure
from groupvpn.node.notify import Notifier
from groupvpn.node.router import Router
from groupvpn.node.sockets import PortUnavailableError
from groupvpn.node.state import NodeNameError, StateDirectory, StateError
from groupvpn.node.syslog import Log, Sink

STOPPED, FAILED, WRONG_CONFIGURATION, WRONG_COMMAND_LINE = 0, 1, 2, 2
STOP_TIMEOUT = 1.5
"""Seconds that taking leave of peers may last."""

Execute = Callable[[Router, str, str], Awaitable[str]]
"""Answers an exec command in a router, given the command and its further input."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a node."""

    file: Path
    name: str
    namespace: str | None = None
    state_directory: Path | None = None
    devices: dict[str, str] = field(default_factory=dict)
    """Interface name -> Linux device, for interfaces whose usual device does not fit."""
    rsa_keys: tuple[tuple[str, int], ...] = ()
    """Label and modulus bits of RSA keys to make unless they exist."""
    sink: Sink = Sink.STDERR
    debug: bool = False
    key_table: Path | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)


class ConfigurationError(Exception):
    """The configuration has errors; the text is what the parser has to say about them."""


class UnreadableError(ConfigurationError):
    """There is no configuration to read."""


class ReloadError(Exception):
    """A configuration was not taken over; the text says why, and what goes on."""


def run(options: Options, execute: Execute) -> int:
    """Run the node until it is stopped; returns the exit status, or ends the process with it where work in the background still runs."""
    limits.harden()
    try:
        text = _read(options)
        configuration = _parsed(options, text)
        if options.namespace:
            namespace.enter(options.namespace)
        state = StateDirectory(options.name, options.state_directory)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return FAILED if isinstance(error, UnreadableError) else WRONG_CONFIGURATION
    except (OSError, StateError, namespace.NamespaceError) as error:
        print(f"groupvpn: {error}", file=sys.stderr)
        return WRONG_COMMAND_LINE if isinstance(error, NodeNameError) else FAILED
    try:
        status = asyncio.run(_Daemon(options, configuration, state, execute, has_end=_has_end(text)).main())
    finally:
        state.close()
    background.leave(status)
    return status


def _read(options: Options) -> str:
    """The text of the configuration file. Raises `ConfigurationError`."""
    try:
        return options.file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UnreadableError(f"groupvpn: {options.file}: {error.strerror}") from error


def _parsed(options: Options, text: str) -> Configuration:
    """What the text of the configuration file says. Raises `ConfigurationError`."""
    result = parse(text, str(options.file), devices=options.devices)
    if result.configuration is None:
        raise ConfigurationError(render(result.errors))
    return result.configuration


def _has_end(text: str) -> bool:
    """Whether a configuration has the line `end`. More may stand below it, where an operator has added something."""
    return any(line.strip() == "end" for line in text.splitlines())


def _unfinished(before: Configuration, after: Configuration) -> Iterator[tuple[str, int]]:
    """Traffic that a key server served, and that the file still names and lacks lines for: groups and numbers of `sa ipsec`."""
    sections = {section.header.value("name"): section for section in after.sections.sections("crypto gdoi group") if section.header}
    served = {group.name: group.slots for group in after.key_server_groups}
    for group in before.key_server_groups:
        local = sections[group.name].section("server local") if group.name in sections else None
        named = {section.header.value("sequence") for section in local.sections("sa ipsec") if section.header} if local else set()
        for slot in sorted(group.slots & named - served.get(group.name, frozenset())):
            yield group.name, slot


class _Daemon:
    """The life of one node in an event loop."""

    def __init__(
        self, options: Options, configuration: Configuration, state: StateDirectory, execute: Execute, *, has_end: bool = False
    ) -> None:
        """`has_end` says that the file of the configuration has the line `end`: then a whole one always has it."""
        self._options, self._has_end = options, has_end
        self._is_serving = self._reload_waits = self._is_refused = False
        self._notifier = Notifier()
        self.log = Log(options.name, options.sink)
        self.router = Router(
            options.name,
            options.file,
            configuration,
            state,
            self.log,
            debug=options.debug,
            key_table=options.key_table,
            engine=options.engine,
        )
        self._execute = execute
        self.control = ControlServer(state.control_socket, self._answer, self._status, self._reload_for_operator)
        self._stop = asyncio.Event()

    async def _answer(self, command: str, text: str) -> str:
        self._refuse_in_stop()
        try:
            return await self._execute(self.router, command, text)
        except CommandError:
            raise
        except StateError as error:
            raise CommandError(f"% {error}") from error
        except Exception as error:
            self.router.note_bug(f"the command {command.split()[:3]}", error)
            raise CommandError("% The command met a bug; the log says where") from error

    def _status(self) -> dict[str, Any]:
        self._refuse_in_stop()
        try:
            return self.router.operations.status()
        except Exception as error:
            self.router.note_bug("the status", error)
            raise CommandError("% The status met a bug; the log says where") from error

    def _refuse_in_stop(self) -> None:
        """Cores that take leave answer nobody: a command would have them begin anew. Raises `CommandError`."""
        if self._stop.is_set():
            raise CommandError(STOPPING)

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What escapes a callback of the event loop: asyncio would tell it to nobody but the standard error stream."""
        error = context.get("exception")
        if isinstance(error, Exception):
            self.router.note_bug(str(context["message"]).splitlines()[0], error)
        else:
            loop.default_exception_handler(context)

    async def main(self) -> int:
        """Start, serve, stop."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.unhandled)
        for number in signals.STOPS:
            loop.add_signal_handler(number, self._stop.set)
        for number in signals.RELOADS:
            loop.add_signal_handler(number, self._hang_up)
        signals.let_through()
        self.log.observe(self.control.publish)
        self.router.on_change = self._tell_status
        self.log.write(messages.STARTS(version=__version__, role=self.router.configuration.role.value))
        self._tell_remarks(self.router.configuration)
        location.note(self.router.state, self.log)
        try:
            for label, bits in self._options.rsa_keys:
                self.router.keys.ensure(label, bits)
            await self.control.start()
            self.router.start()
        except (PortUnavailableError, StateError, AddressError, OSError) as error:
            self.log.write(messages.START_FAILED(error=error))
            await self._shut_down()
            return FAILED
        self._notifier.ready(self._summary())
        self._is_serving = True
        if self._reload_waits:
            self._hang_up()
        await self._stop.wait()
        await self._shut_down()
        return STOPPED

    async def _shut_down(self) -> None:
        self._notifier.stopping()
        self._stop.set()
        self.control.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await self.router.stop()
        await self.control.stop()

    def _tell_status(self) -> None:
        self._notifier.send(f"STATUS={self._summary()}")

    def _summary(self) -> str:
        """The node in a few words; that its file was refused stays there until one is taken over."""
        return f"{self.router.operations.summary()}{'; the last reload was refused' if self._is_refused else ''}"

    def _tell_remarks(self, configuration: Configuration) -> None:
        if configuration.is_idle:
            self.log.write(messages.NO_GROUP())
        exposed = exposure(self._options.file, configuration)
        for remark in (*([exposed] if exposed else []), *configuration.notices):
            hint = f"; {remark.hint}" if remark.hint else ""
            text = f"{remark.file}:{remark.line}: {remark.message}{hint}"
            message = messages.CONFIG_WARNING if remark.severity is Severity.WARNING else messages.CONFIG_NOTICE
            self.log.write(message(remark=text))

    def _hang_up(self) -> None:
        """SIGHUP: take over the configuration as it stands in the file now. It waits for the end of the start, and is nothing in a stop."""
        if self._stop.is_set():
            return
        if not self._is_serving:
            self._reload_waits = True
            return
        with suppress(ReloadError):  # the log has it
            self._reload()

    def _reload_for_operator(self) -> str:
        """`groupvpn reload`: the same, and the operator is told how it went."""
        self._refuse_in_stop()
        try:
            self._reload()
        except ReloadError as error:
            raise CommandError(str(error)) from error
        return f"{self._options.file} taken over: {self.router.operations.summary()}"

    def _reload(self) -> None:
        """Take over the file. Raises `ReloadError`; then the configuration before goes on, and the log says why."""
        self._notifier.reloading(time.monotonic_ns() // 1000)
        self._is_refused = True
        try:
            self._take_over_file()
            self._is_refused = False
        except ConfigurationError as error:
            self._refuse(str(error), error)
        except (AddressError, StateError, OSError) as error:
            self._refuse(f"{self._options.file} could not be taken over: {error}; the configuration before goes on; reload again", error)
        except Exception as error:
            self.router.note_bug("a reload", error)
            self._refuse(f"{self._options.file} could not be taken over; the configuration before goes on", error)
        finally:
            self._notifier.ready(self._summary())

    def _take_over_file(self) -> None:
        text = _read(self._options)
        configuration, has_end = _parsed(self._options, text), _has_end(text)
        self._refuse_remains(configuration, has_end)
        self._tell_remarks(configuration)
        self.router.reconfigure(configuration)
        self._has_end = has_end

    def _refuse_remains(self, configuration: Configuration, has_end: bool) -> None:
        """Raise `ConfigurationError` for a file that looks as one does while it is written, or on a full disk: it would end protection."""
        file = self._options.file
        if configuration.is_idle and not self.router.configuration.is_idle:
            text = (
                "has no group any more, nor keys set by hand, nor an interface that is shut, which would remove all policy and all keys; "
                "the configuration before goes on"
            )
            raise ConfigurationError(f"{file} {text}. If it is meant so, stop the node")
        for group, slot in _unfinished(self.router.configuration, configuration):
            text = f"`sa ipsec {slot}` of group `{group}` is incomplete, and members would send its traffic in the clear"
            raise ConfigurationError(f"{file}: {text}; the configuration before goes on. If it is meant so, `no sa ipsec {slot}`")
        if self._has_end and not has_end:
            text = "has no line `end` any more, as if it were cut off; the configuration before goes on"
            raise ConfigurationError(f"{file} {text}. If it is whole, write `end` below it")

    def _refuse(self, reason: str, cause: Exception) -> NoReturn:
        for line in reason.splitlines():
            self.log.write(messages.CONFIG_REJECTED(reason=line))
        raise ReloadError(reason) from cause
