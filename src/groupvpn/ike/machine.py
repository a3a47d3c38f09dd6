"""The state machine of phase 1 as a table: (state, mode of the message) -> what it must hold, what is done, where that leads.

A pair that is not in the table is a message that nobody may send now: it is dropped and counted. A step that fails leaves the state. Each
step names the payloads that must be there (exactly once) and those that may be; private payload types (128 and up) are passed over.
`diagram` draws the table, for `docs/decisions/phase-1.md`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from groupvpn.ike import aggressive_mode, main_mode
from groupvpn.ike.context import Context, Surroundings
from groupvpn.ike.main_mode import Result
from groupvpn.wire.chain import Chain
from groupvpn.wire.iana import ExchangeType
from groupvpn.wire.iana import PayloadType as Type


class State(Enum):
    """Where a phase 1 stands. The value says what was sent last."""

    NEW = "nothing"
    OFFER_SENT = "main mode 1"
    CHOICE_SENT = "main mode 2"
    KEYS_SENT = "main mode 3"
    KEYS_ANSWERED = "main mode 4"
    PROOF_SENT = "main mode 5"
    AGGRESSIVE_OFFER_SENT = "aggressive mode 1"
    AGGRESSIVE_ANSWERED = "aggressive mode 2"
    ESTABLISHED = "all"


class Protection(Enum):
    """Whether a message is encrypted."""

    NONE = "clear"
    ENCRYPTED = "encrypted"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the table: a message comes in, an answer (if any) goes out, encrypted or not."""

    required: frozenset[int]
    optional: frozenset[int]
    incoming: Protection
    action: Callable[[Surroundings, Context, Chain], Result]
    outgoing: Protection
    following: State


_EXTRAS = frozenset({Type.VENDOR_ID, Type.NOTIFY, Type.CERT, Type.CERTREQ})
_KEYS = frozenset({Type.KE, Type.NONCE})
_PROOF = frozenset({Type.ID, Type.HASH})
_NAT = frozenset({Type.NAT_D})
_CLEAR, _ENCRYPTED = Protection.NONE, Protection.ENCRYPTED
_SA = frozenset({Type.SA})
_MAIN, _AGGRESSIVE = ExchangeType.MAIN, ExchangeType.AGGRESSIVE

STEPS: dict[tuple[State, ExchangeType], Step] = {
    (State.NEW, _MAIN): Step(_SA, _EXTRAS, _CLEAR, main_mode.answer_offer, _CLEAR, State.CHOICE_SENT),
    (State.OFFER_SENT, _MAIN): Step(_SA, _EXTRAS, _CLEAR, main_mode.take_choice, _CLEAR, State.KEYS_SENT),
    (State.CHOICE_SENT, _MAIN): Step(_KEYS, _EXTRAS | _NAT, _CLEAR, main_mode.answer_keys, _CLEAR, State.KEYS_ANSWERED),
    (State.KEYS_SENT, _MAIN): Step(_KEYS, _EXTRAS | _NAT, _CLEAR, main_mode.take_keys, _ENCRYPTED, State.PROOF_SENT),
    (State.KEYS_ANSWERED, _MAIN): Step(_PROOF, _EXTRAS, _ENCRYPTED, main_mode.answer_proof, _ENCRYPTED, State.ESTABLISHED),
    (State.PROOF_SENT, _MAIN): Step(_PROOF, _EXTRAS, _ENCRYPTED, main_mode.take_proof, _ENCRYPTED, State.ESTABLISHED),
    (State.NEW, _AGGRESSIVE): Step(
        _SA | _KEYS | {Type.ID}, _EXTRAS, _CLEAR, aggressive_mode.answer_offer, _CLEAR, State.AGGRESSIVE_ANSWERED
    ),
    (State.AGGRESSIVE_OFFER_SENT, _AGGRESSIVE): Step(
        _SA | _KEYS | _PROOF, _EXTRAS | _NAT, _CLEAR, aggressive_mode.take_answer, _ENCRYPTED, State.ESTABLISHED
    ),
    (State.AGGRESSIVE_ANSWERED, _AGGRESSIVE): Step(
        frozenset({Type.HASH}), _EXTRAS | _NAT, Protection.EITHER, aggressive_mode.take_proof, _ENCRYPTED, State.ESTABLISHED
    ),
}
"""The whole of phase 1 after the first message."""

STARTS: dict[ExchangeType, tuple[Callable[[Surroundings, Context], Result], State]] = {
    _MAIN: (main_mode.start, State.OFFER_SENT),
    _AGGRESSIVE: (aggressive_mode.start, State.AGGRESSIVE_OFFER_SENT),
}
"""How an initiator begins."""

PRIVATE_TYPES = range(128, 256)
"""Payload types of private use (RFC 2408 3.1): never an error, never understood."""


def has_shape(step: Step, chain: Chain) -> bool:
    """Whether the payloads are those that the step asks for."""
    types = [int(kind) for kind in chain.types]
    if any(types.count(kind) != 1 for kind in step.required):
        return False
    return all(kind in step.required or kind in step.optional or kind in PRIVATE_TYPES for kind in types)


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    NEW --> {state.name}: start {mode.name.lower()}" for mode, (_, state) in STARTS.items()]
    for (state, _mode), step in STEPS.items():
        needs = ", ".join(sorted(Type(kind).name for kind in step.required))
        lines.append(f"    {state.name} --> {step.following.name}: {needs} ({step.incoming.value}) / {step.action.__name__}")
    return "\n".join(lines) + "\n"
