"""What keeps an interface from doing what it should, and what that means for its packets."""

from dataclasses import dataclass
from enum import Enum


class Effect(Enum):
    """What a fault means for the packets that must be protected on its interface."""

    BLOCKED = "they are dropped"
    OPEN = "not even that could be done: they may pass in the clear"
    ABSENT = "there is no such interface: what would go by it goes another way, or nowhere"
    HARMLESS = "none"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that keeps an interface from doing what it should."""

    device: str
    problem: str
    effect: Effect = Effect.BLOCKED
    is_of_engine: bool = False
    """Whether the engine does not serve it, as an algorithm that it does not have."""
