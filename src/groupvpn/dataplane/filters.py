"""The BPF programs of an interface (`verdicts`) at its hooks: what is loaded, and whether it is still there as we left it."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from groupvpn.dataplane import clsact, links
from groupvpn.dataplane.bytecode import LAST, NEXT, on_the_wire
from groupvpn.dataplane.clsact import Hook
from groupvpn.dataplane.steering import PASSED, Steering, closed
from groupvpn.dataplane.verdicts import COUNTERS, Maps, inbound_program, outbound_program

if TYPE_CHECKING:
    from groupvpn import _engine

_WRITERS = {Hook.EGRESS: outbound_program, Hook.INGRESS: inbound_program}
_NAMES = {Hook.EGRESS: "gvpn_outbound", Hook.INGRESS: "gvpn_inbound"}
"""What `bpftool prog` calls them."""
_OWNER = "@"
"""Stands in the name of a filter between that of the rules and the node."""


class FiltersError(RuntimeError):
    """The kernel will not have the programs; the text says why."""


class Left(NamedTuple):
    """Filters of ours on an interface: the name of the rules, the node that made them, and the number of the interface."""

    rules: str
    node: str
    interface: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    """`filters` are the kernel's numbers of the programs in clsact, `programs` of those before it, which `attachments` keep there."""

    steering: Steering
    is_alone: bool
    filters: dict[Hook, int]
    programs: dict[Hook, int]
    attachments: "tuple[_engine.Attachment, ...]"


class Filters:
    """The programs of an interface. `load` and `delete` raise `FiltersError` if the kernel refuses.

    At each hook there are two. One decides: it comes first (tcx, Linux 6.6) and goes with the process. The other one, a filter of clsact,
    costs a packet three times as much, so the first one spares packets that; it stays when the process ends, however that is, and drops
    what must be protected. Where somebody else has programs or filters at a hook, which have to be asked too, packets come to ours as well.
    Before Linux 6.6 the filter decides.
    """

    def __init__(self, name: str) -> None:
        """`name` is that of the rules, by which whoever comes after us knows the filters."""
        self._name = name
        self._maps: Maps | None = None
        self._closing: _engine.Counters | None = None
        """Of the programs that know no TAP."""
        self._past: Counter[str] = Counter()
        """What programs had counted before the last `delete`."""
        self._began: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()
        """What the filter let pass behind the program that decides, which had counted it."""
        self._spis: frozenset[int] = frozenset()
        self._loaded: _Loaded | None = None
        self.reason = ""
        """Why the filter decides and nothing comes before it; empty if that is not so."""

    def load(self, steering: Steering) -> None:
        """Make the programs so; what is so already is not touched. They are replaced one after the other, each of them in one step."""
        loaded = self._loaded
        with _refusing():
            maps = self._maps = self._maps or _make_maps()
            self._set_spis(maps.spis, frozenset(steering.spis))
            if loaded is None or replace(loaded.steering, spis=steering.spis) != steering or not _holds(loaded):
                loaded = self._replace(steering, maps)
                self._repeated += self._repeats()
                self._began = _read(self._closing)
        self._loaded = replace(loaded, steering=steering)

    def _set_spis(self, words: "_engine.Words", spis: frozenset[int]) -> None:
        for spi in spis - self._spis:
            words.add(on_the_wire(spi, 4))
            self._spis |= {spi}
        for spi in self._spis - spis:
            words.discard(on_the_wire(spi, 4))
            self._spis -= {spi}

    def _replace(self, steering: Steering, maps: Maps) -> _Loaded:
        """Everything is loaded before anything changes. Old attachments are let go of when the new ones are there."""
        from groupvpn import _engine

        is_alone = _is_alone(steering, self._loaded.programs if self._loaded is not None else {})
        deciding = _programs(steering, maps, LAST if is_alone else NEXT)
        self._closing = self._closing or _engine.Counters(len(COUNTERS))
        closing = _programs(closed(steering), replace(maps, counters=self._closing), NEXT)
        attachments: list[_engine.Attachment] = []
        self.reason = ""
        try:
            for hook, program in deciding.items():
                after = steering.ring_program if hook is Hook.INGRESS else 0
                attachments.append(_engine.Attachment(program, _hook(hook), steering.index, after))
        except _engine.EngineError as problem:  # before Linux 6.6
            self.reason = f"filters of clsact alone: {problem}"
            attachments.clear()
        filters = closing if attachments else deciding
        for hook, program in filters.items():
            clsact.attach(steering.index, hook, program.fileno(), f"{self._name}{_OWNER}{steering.node}")
        numbers = [{hook: program.number for hook, program in programs.items()} for programs in (filters, deciding)]
        return _Loaded(steering, is_alone, numbers[0], numbers[1] if attachments else {}, tuple(attachments))

    def verify(self) -> bool:
        """Whether the programs are at their hooks; if not, the next `load` puts them back. Raises `FiltersError` where that cannot be found
        out, as of an interface that goes just now."""
        if self._loaded is None:
            return True
        with _refusing():
            return _holds(self._loaded)

    def forget(self) -> None:
        """Let go of what ends with us, and expect nothing of the rest: the next `load` replaces everything. The filter counts on."""
        self._repeated += self._repeats()
        self._loaded = None

    def counters(self) -> dict[str, int]:
        """Packets by what became of them (`verdicts.COUNTERS`), since the first `load`."""
        total = Counter(self._past)
        total.update(_read(self._maps.counters if self._maps is not None else None))
        total.update(_read(self._closing))
        total.subtract(self._repeated)
        total.subtract(self._repeats())
        return dict(total)

    def _repeats(self) -> "Counter[str]":
        """What the filter has let pass since a program stands before it."""
        if self._loaded is None or not self._loaded.attachments:
            return Counter()
        now = _read(self._closing)
        return Counter({name: now[name] - self._began[name] for name in PASSED})

    def delete(self) -> None:
        """Remove the programs from their hooks."""
        remove(self._name)
        self.forget()
        self._past = Counter(self.counters())
        self._maps, self._closing, self._spis = None, None, frozenset()
        self._repeated.clear()


def left() -> Iterator[Left]:
    """All filters of ours in this network namespace, whoever made them; raises `FiltersError`."""
    try:
        numbers = links.numbers()
    except OSError as problem:
        raise FiltersError(f"cannot list interfaces: {problem.strerror or problem}") from problem
    with _refusing():
        for index in numbers:
            for name in {there.name for hook in Hook if (there := clsact.attached(index, hook)) is not None}:
                rules, _, node = name.partition(_OWNER)
                yield Left(rules, node, index)


def remove(name: str) -> None:
    """Remove the filters of a name from whatever interface has them; raises `FiltersError`."""
    for there in list(left()):
        if there.rules == name:
            with _refusing():
                clsact.detach(there.interface)


def _read(counters: "_engine.Counters | None") -> Counter[str]:
    return Counter({name: counters[number] for number, name in enumerate(COUNTERS)} if counters is not None else {})


def _programs(steering: Steering, maps: Maps, goes_on: int) -> "dict[Hook, _engine.Program]":
    from groupvpn import _engine

    names = {name for name in (*steering.taps, steering.tap_in) if name is not None}
    numbers = {name: links.read(name).index for name in names}
    return {hook: _engine.Program(_NAMES[hook], write(steering, maps, numbers, goes_on)) for hook, write in _WRITERS.items()}


def _holds(loaded: _Loaded) -> bool:
    from groupvpn import _engine

    steering, index = loaded.steering, loaded.steering.index
    if {hook: there.program for hook in Hook if (there := clsact.attached(index, hook)) is not None} != loaded.filters:
        return False
    for hook, program in loaded.programs.items():
        first = [steering.ring_program, program] if hook is Hook.INGRESS and steering.ring_program else [program]
        if _engine.attached(_hook(hook), index)[: len(first)] != first:
            return False
    return _is_alone(steering, loaded.programs) == loaded.is_alone


def _is_alone(steering: Steering, programs: dict[Hook, int]) -> bool:
    """Whether nobody else has programs or filters at the hooks of the interface. `programs` are ours."""
    from groupvpn import _engine

    ours = {steering.ring_program, *programs.values()}
    there: set[int] = set()
    with contextlib.suppress(_engine.EngineError):  # before Linux 6.6
        there = {program for hook in Hook for program in _engine.attached(_hook(hook), steering.index)}
    return there <= ours and not any(clsact.is_shared(steering.index, hook) for hook in Hook)


def _hook(hook: Hook) -> "_engine.Hook":
    from groupvpn import _engine

    return _engine.Hook.EGRESS if hook is Hook.EGRESS else _engine.Hook.INGRESS


def _make_maps() -> Maps:
    from groupvpn import _engine

    return Maps(_engine.Words(), _engine.Counters(len(COUNTERS)), _engine.Cell())


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    from groupvpn import _engine

    try:
        yield
    except (_engine.EngineError, clsact.FilterError) as problem:
        raise FiltersError(str(problem)) from problem
