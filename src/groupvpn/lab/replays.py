"""What each way of telling replays lets pass: attacks on the engine's own code, and on the vendor's rule as its manual has it.

    python -m groupvpn.lab.replays

prints the table of `docs/protocol/esp-time-based-replay.md`. Time is simulated, and the outcome is the same in every run.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

from groupvpn import _engine
from groupvpn.gdoi.policy import REPLAY_TICK, REPLAY_WINDOW, TIMED_REPLAY_WINDOW

WINDOW = 5
"""Seconds of the time window, where there is one."""
START = 1_000_000
"""Milliseconds, as all times here: any moment will do."""
PACKETS = 50
SPACING = 20
"""Milliseconds from one packet to the next."""
ALICE, BOB, CAROL = 1, 2, 3


class Member(Protocol):
    """One member as one scheme has it."""

    def send(self, now: int) -> object:
        """A packet that leaves at `now`."""

    def takes(self, packet: object, now: int) -> bool:
        """Whether a packet that arrives at `now` is let in."""

    def set_clock(self, error: int) -> None:
        """Its pseudotime is `error` milliseconds ahead from now on."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to tell replays: `make` makes a member from Sender-ID, clock error and the moment it starts, `generation` tells SAs apart."""

    name: str
    make: Callable[[int, int, int, int], Member]


class EngineMember:
    """A member with the engine's SA: keys are those of all members, Sender-ID, windows and clock its own."""

    def __init__(
        self, cipher: str, integrity: str, sizes: tuple[int, int, int], window: int, seconds: int, who: tuple[int, int, int, int]
    ) -> None:
        sender, clock_error, since, generation = who
        key, integrity_key, salt = (bytes([generation % 256, generation // 256, *([7] * (size - 2))]) if size else b"" for size in sizes)
        self._sa = _engine.Sa(
            0x1000 + generation,
            cipher,
            key,
            integrity,
            integrity_key,
            salt,
            sender_id=sender,
            replay_window=window,
            time_window=seconds or None,
            tick=REPLAY_TICK,
            pseudotime_origin=-clock_error,
            now=since,
            apart=True,
        )

    def send(self, now: int) -> object:
        """See `Member`."""
        return _engine.encapsulate(self._sa, INNER, now)

    def takes(self, packet: object, now: int) -> bool:
        """See `Member`."""
        assert isinstance(packet, bytes)
        return _engine.decapsulate([self._sa], packet, now)[0] == INNER

    def set_clock(self, error: int) -> None:
        """See `Member`."""
        self._sa.set_pseudotime(-error)


@dataclass(slots=True)
class VendorMember:
    """The vendor's rule: a packet carries the sender's pseudotime, and is let in if that is within the window around our own."""

    clock_error: int
    generation: int

    def send(self, now: int) -> object:
        """See `Member`."""
        return self.generation, self._pseudotime(now)

    def takes(self, packet: object, now: int) -> bool:
        """See `Member`."""
        packet = cast("tuple[int, int]", packet)
        return packet[0] == self.generation and abs(self._pseudotime(now) - packet[1]) <= WINDOW * 1000

    def set_clock(self, error: int) -> None:
        """See `Member`."""
        self.clock_error = error

    def _pseudotime(self, now: int) -> int:
        return (now + self.clock_error) // REPLAY_TICK * REPLAY_TICK


def _engine_scheme(name: str, cipher: str, integrity: str, sizes: tuple[int, int, int], window: int, seconds: int) -> Scheme:
    return Scheme(name, lambda *who: EngineMember(cipher, integrity, sizes, window, seconds, who))


SCHEMES = (
    _engine_scheme("time, GCM", "aes-128-gcm", "none", (16, 0, 4), TIMED_REPLAY_WINDOW, WINDOW),
    _engine_scheme("time, CBC", "aes-128-cbc", "hmac-sha1-96", (16, 20, 0), TIMED_REPLAY_WINDOW, WINDOW),
    _engine_scheme("time, NULL", "null", "hmac-sha1-96", (0, 20, 0), TIMED_REPLAY_WINDOW, WINDOW),
    _engine_scheme("counter, GCM", "aes-128-gcm", "none", (16, 0, 4), REPLAY_WINDOW, 0),
    _engine_scheme("counter, CBC", "aes-128-cbc", "hmac-sha1-96", (16, 20, 0), REPLAY_WINDOW, 0),
    Scheme("vendor's time", lambda sender, error, since, generation: VendorMember(error, generation)),
)
INNER = bytes.fromhex("4500003c 00010000 40fd62b0 0a010109 0a020209") + bytes(40)
"""An IPv4 packet of protocol 253 (RFC 3692) with 40 octets in it."""


@dataclass(slots=True)
class Play:
    """One attack on one scheme, and its score. Every play has keys of its own."""

    scheme: Scheme
    generation: int
    replayed: int = 0
    passed: int = 0
    honest: int = 0
    lost: int = 0
    recorded: list[object] = field(default_factory=list)
    """What the attacker has seen on the wire."""

    def member(self, sender: int, *, error: int = 0, since: int = START - 60_000) -> Member:
        """A member that starts at `since`."""
        return self.scheme.make(sender, error, since, self.generation)

    def talk(self, sender: Member, receiver: Member | None, begins: int, count: int = PACKETS) -> int:
        """`sender` sends, and the attacker records; without `receiver` he holds everything back. Returns when it ends."""
        for number in range(count):
            now = begins + number * SPACING
            packet = sender.send(now)
            self.recorded.append(packet)
            if receiver is not None:
                self.honest += 1
                self.lost += not receiver.takes(packet, now)
        return begins + count * SPACING

    def replay(self, receiver: Member, now: int) -> None:
        """The attacker sends everything that he has recorded."""
        for packet in self.recorded:
            self.replayed += 1
            self.passed += receiver.takes(packet, now)

    def replay_each_after(self, receiver: Member, begins: int, delay: int) -> None:
        """The attacker sends each packet again `delay` after it was sent first."""
        for number, packet in enumerate(self.recorded):
            self.replayed += 1
            self.passed += receiver.takes(packet, begins + number % PACKETS * SPACING + delay)

    @property
    def score(self) -> str:
        """A cell of the table."""
        cell = f"{self.passed}/{self.replayed}" if self.replayed else "–"
        return f"{cell}, lost {self.lost}/{self.honest}" if self.lost else cell


def _at_once(play: Play) -> None:
    alice, carol = play.member(ALICE), play.member(CAROL)
    for number in range(PACKETS):
        play.talk(alice, carol, START + number * SPACING, 1)
        play.replay(carol, START + number * SPACING)
        play.recorded.clear()


def _copies_after(delay: int) -> Callable[[Play], None]:
    def attack(play: Play) -> None:
        alice, carol = play.member(ALICE), play.member(CAROL)
        play.talk(alice, carol, START)
        play.replay_each_after(carol, START, delay)

    return attack


def _two_senders(play: Play) -> None:
    alice, bob, carol = play.member(ALICE), play.member(BOB), play.member(CAROL)
    for number in range(PACKETS):
        play.talk(alice, carol, START + number * SPACING, 1)
        play.talk(bob, carol, START + number * SPACING + 1, 1)
    play.replay(carol, START + PACKETS * SPACING)


def _held_back(delay: int) -> Callable[[Play], None]:
    def attack(play: Play) -> None:
        alice, carol = play.member(ALICE), play.member(CAROL)
        play.talk(alice, None, START)
        play.replay_each_after(carol, START, delay)

    return attack


def _receiver_restarts(after: int, error: int = 0) -> Callable[[Play], None]:
    def attack(play: Play) -> None:
        alice, carol = play.member(ALICE, error=error), play.member(CAROL)
        ends = play.talk(alice, carol, START)
        again = play.member(CAROL + 1, since=ends + after)
        play.replay(again, ends + after)
        play.recorded.clear()
        play.talk(alice, again, ends + after + SPACING)

    return attack


def _sender_restarts(play: Play) -> None:
    alice, carol = play.member(ALICE), play.member(CAROL)
    ends = play.talk(alice, carol, START, 2 * PACKETS)
    again = play.member(ALICE + 10, since=ends)
    play.talk(again, carol, ends)
    play.replay(carol, ends + PACKETS * SPACING)


def _remade(play: Play) -> None:
    alice, carol = play.member(ALICE), play.member(CAROL)
    ends = play.talk(alice, carol, START)
    play.generation += 1
    new_alice, new_carol = play.member(ALICE), play.member(CAROL)
    play.replay(carol, ends)  # the old SA still decrypts
    play.replay(new_carol, ends)
    play.talk(new_alice, new_carol, ends)


def _drift(error: int, delay: int) -> Callable[[Play], None]:
    def attack(play: Play) -> None:
        alice, carol = play.member(ALICE, error=error), play.member(CAROL)
        play.talk(alice, carol, START)
        play.replay_each_after(carol, START, delay)

    return attack


def _set_back(play: Play) -> None:
    alice, carol = play.member(ALICE), play.member(CAROL)
    ends = play.talk(alice, carol, START)
    carol.set_clock(-WINDOW * 1000)
    play.replay(carol, ends + 2 * WINDOW * 1000 - 1000)


def _out_of_order(play: Play) -> None:
    alice, carol = play.member(ALICE), play.member(CAROL)
    for _ in range(2):
        sent = [alice.send(START) for _ in range(500)]
        play.honest += len(sent)
        play.lost += sum(not carol.takes(packet, START + 1) for packet in reversed(sent))


ATTACKS: dict[str, Callable[[Play], None]] = {
    "copy at once": _at_once,
    "copy after 1 s": _copies_after(1000),
    "copy after 4.9 s": _copies_after(4900),
    "copy after 5.1 s": _copies_after(5100),
    "copy after an hour": _copies_after(3_600_000),
    "two senders, all copied at the end": _two_senders,
    "held back 1 s, first copy": _held_back(1000),
    "held back 4.9 s, first copy": _held_back(4900),
    "held back 5.1 s, first copy": _held_back(5100),
    "held back an hour, first copy": _held_back(3_600_000),
    "receiver restarts, the second before is replayed": _receiver_restarts(0),
    "the same, replayed an hour later": _receiver_restarts(3_600_000),
    "the same at once, the sender's clock 0.2 s ahead": _receiver_restarts(0, 200),
    "the same at once, the sender's clock 0.2 s behind": _receiver_restarts(0, -200),
    "sender restarts, both lives replayed": _sender_restarts,
    "rollover, old packets against old and new SA": _remade,
    "sender's clock 2 s ahead, copy after 6.5 s": _drift(2000, 6500),
    "sender's clock 2 s behind, copy after 3.5 s": _drift(-2000, 3500),
    "sender's clock 6 s ahead": _drift(6000, 1000),
    "receiver's clock set back 5 s, all replayed": _set_back,
    "no attack: packets 500 places out of order": _out_of_order,
}


def rows() -> Iterator[tuple[str, ...]]:
    """The table: attack, then the score of each scheme."""
    generation = 0
    for name, attack in ATTACKS.items():
        cells = []
        for scheme in SCHEMES:
            generation += 2
            play = Play(scheme, generation)
            attack(play)
            cells.append(play.score)
        yield (name, *cells)


def table() -> str:
    """The same as Markdown."""
    lines = ["| | " + " | ".join(scheme.name for scheme in SCHEMES) + " |", "|---|" + "---|" * len(SCHEMES)]
    lines += ["| " + " | ".join(row) + " |" for row in rows()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
