"""Reading one line against the commands of a mode: abbreviations, arguments, ambiguity, and what could have stood there instead."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from groupvpn.config.language import ArgumentError, Command, Ignore, Leaf, Rank
from groupvpn.config.lexer import Line, Token
from groupvpn.config.section import Word
from groupvpn.config.syntax import Pattern
from groupvpn.crypto.secret import Secret


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A value that is still to be filled in, such as `<address>`."""

    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pattern that a line may match, and what it stands for (a command, its `no` form, an alias)."""

    pattern: Pattern
    command: Command
    negated: bool = False
    alias: int | None = None
    """Index into the command's aliases, None for its own syntax."""


@dataclass(frozen=True, slots=True)
class Match:
    """A line that was understood."""

    candidate: Candidate
    words: tuple[Word, ...]
    values: Mapping[str, tuple[object, ...]]
    keywords: frozenset[str]
    tokens: Mapping[str, Token]
    """Where the first word of each argument stands."""

    @property
    def has_placeholder(self) -> bool:
        """Whether a value is still to be filled in."""
        return any(isinstance(value, Placeholder) for values in self.values.values() for value in values)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A line that was not: the index of the first word that no command takes, what could stand there, and why words were refused.

    `complete` is set where the words before it are a whole command (so that word is one too many), `ambiguous` lists full keywords where
    an abbreviation fits several. `position` equals the number of words where the line is too short.
    """

    position: int
    expected: tuple[Leaf, ...]
    reasons: tuple[str, ...] = ()
    complete: Match | None = None
    ambiguous: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Step:
    """One word read: the leaf it matched, its value, and how well."""

    leaf: Leaf
    value: object
    token: Token
    rank: Rank


@dataclass(frozen=True, slots=True)
class _Thread:
    candidate: Candidate
    leaf: Leaf
    ranks: tuple[Rank, ...] = ()
    steps: tuple[_Step, ...] = field(default=(), repr=False)


def match(candidates: Iterable[Candidate], tokens: tuple[Token, ...], line: Line) -> Match | Mismatch:
    """Read `tokens` as one of `candidates`. Bounded: each word is tried once against each state that can follow the words before it."""
    threads: list[_Thread] = []
    fresh = [(candidate, leaf, None) for candidate in candidates for leaf in candidate.pattern.first]
    options: list[tuple[Candidate, Leaf, _Thread | None]] = list(fresh)
    ambiguous: tuple[str, ...] = ()
    for position, token in enumerate(tokens):
        reasons: list[str] = []
        advanced = _advance(options, token, line, reasons)
        if not advanced:
            return Mismatch(position, _leaves(options), tuple(dict.fromkeys(reasons)), _best(threads), ambiguous)
        threads = advanced
        ambiguous = _abbreviations(threads, token)
        options = [(thread.candidate, leaf, thread) for thread in threads for leaf in thread.leaf.follow]
    accepted = [thread for thread in threads if thread.leaf.last]
    if not accepted:
        return Mismatch(len(tokens), _leaves(options), ambiguous=ambiguous)
    best = min(thread.ranks for thread in accepted)
    finished = [_finish(thread) for thread in accepted if thread.ranks == best]
    if any(_differ(other, finished[0]) for other in finished[1:]):
        place = next(index for index in range(len(tokens)) if len({_word(item, index) for item in accepted if item.ranks == best}) > 1)
        choices = dict.fromkeys(_word(item, place) for item in accepted if item.ranks == best)
        return Mismatch(place, (), ambiguous=tuple(choices))
    return finished[0]


def following(candidates: Iterable[Candidate], tokens: tuple[Token, ...], line: Line) -> tuple[list[tuple[Candidate, Leaf]], bool]:
    """What may follow `tokens`, for completion and help; and whether they are a whole command already."""
    options: list[tuple[Candidate, Leaf, _Thread | None]] = [(item, leaf, None) for item in candidates for leaf in item.pattern.first]
    threads: list[_Thread] = []
    for token in tokens:
        threads = _advance(options, token, line, [])
        best = min((thread.ranks for thread in threads), default=())
        if best and best[-1] is Rank.KEYWORD:
            threads = [thread for thread in threads if thread.ranks == best]
        options = [(thread.candidate, leaf, thread) for thread in threads for leaf in thread.leaf.follow]
    return [(candidate, leaf) for candidate, leaf, _ in options], any(thread.leaf.last for thread in threads)


def _advance(options: list[tuple[Candidate, Leaf, _Thread | None]], token: Token, line: Line, reasons: list[str]) -> list[_Thread]:
    """The threads alive after `token`, the best one for each state; `reasons` collects why arguments refused it."""
    best: dict[int, _Thread] = {}
    folded = token.text.lower()
    for candidate, leaf, before in options:
        if leaf.word is not None and not leaf.folded.startswith(folded):
            continue
        step = _take(leaf, token, line, reasons)
        if step is None or (step.rank is Rank.ABBREVIATION and _exact(candidate)):
            continue
        steps = before.steps if before else ()
        ranks = before.ranks if before else ()
        repeats_greedy = bool(before and before.leaf is leaf and leaf.type and leaf.type.greedy)
        thread = _Thread(candidate, leaf, (*ranks, step.rank), steps if repeats_greedy else (*steps, step))
        known = best.get(id(leaf))
        if known is None or thread.ranks < known.ranks:
            best[id(leaf)] = thread
    threads = list(best.values())
    if any(thread.ranks[-1] is Rank.KEYWORD for thread in threads):
        # A keyword in full is never also the abbreviation of a longer one: `ip` is not `ipv6`.
        threads = [thread for thread in threads if thread.ranks[-1] is not Rank.ABBREVIATION]
    return threads


def _exact(candidate: Candidate) -> bool:
    effect = candidate.command.effect
    return isinstance(effect, Ignore) and effect.exact


def _take(leaf: Leaf, token: Token, line: Line, reasons: list[str]) -> _Step | None:
    """The step that `leaf` makes of `token`; a keyword is known to begin with it already."""
    if leaf.word is not None:
        rank = Rank.KEYWORD if len(leaf.word) == len(token.text) else Rank.ABBREVIATION
        return _Step(leaf, leaf.value, token, rank)
    kind = leaf.type
    if kind is None:
        return None
    if kind.greedy:
        return _Step(leaf, kind.accept(line.text_from(token)), token, Rank.LINE)
    if token.is_placeholder:
        return _Step(leaf, Placeholder(token.text), token, Rank.LINE)
    try:
        return _Step(leaf, (leaf.accept or kind.accept)(token.text), token, kind.rank)
    except ArgumentError as error:
        reasons.append(str(error))
        return None


def _finish(thread: _Thread) -> Match:
    """The match that a thread's steps make."""
    words: list[Word] = []
    values: dict[str, tuple[object, ...]] = {}
    keywords: set[str] = set()
    places: dict[str, Token] = {}
    parts: list[object] = []
    for step in thread.steps:
        leaf = step.leaf
        if leaf.argument is None or leaf.type is None:
            words.append(leaf.word or "")
            keywords.add(leaf.word or "")
            continue
        places.setdefault(leaf.argument, step.token)
        if leaf.word is None:
            parts.append(step.value)
        if not leaf.closes:
            continue
        if leaf.word is not None:
            value: object = leaf.value
        else:
            filled = next((part for part in parts if isinstance(part, Placeholder)), None)
            value = filled or leaf.type.join(tuple(parts))
        parts = []
        values[leaf.argument] = (*values.get(leaf.argument, ()), value)
        if isinstance(value, Secret):
            words.append(value)
        else:
            words.append(value.text if isinstance(value, Placeholder) else leaf.type.spell(value))
    return Match(thread.candidate, tuple(words), values, frozenset(keywords), places)


def _best(threads: list[_Thread]) -> Match | None:
    accepted = [thread for thread in threads if thread.leaf.last]
    return _finish(min(accepted, key=lambda thread: thread.ranks)) if accepted else None


def _differ(one: Match, other: Match) -> bool:
    return one.candidate.command is not other.candidate.command or one.words != other.words


def _word(thread: _Thread, index: int) -> str:
    if index >= len(thread.steps):
        return thread.steps[-1].leaf.label
    return thread.steps[index].leaf.label


def _abbreviations(threads: list[_Thread], token: Token) -> tuple[str, ...]:
    """The keywords that `token` abbreviates, if there is more than one and it is none of them in full."""
    words = dict.fromkeys(thread.leaf.word for thread in threads if thread.leaf.word is not None)
    if len(words) < 2 or any(word.lower() == token.text.lower() for word in words if word):
        return ()
    return tuple(word for word in words if word)


def _leaves(options: list[tuple[Candidate, Leaf, _Thread | None]]) -> tuple[Leaf, ...]:
    return tuple(dict.fromkeys(leaf for _, leaf, _ in options))
