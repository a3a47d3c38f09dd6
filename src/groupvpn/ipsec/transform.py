"""Transform sets: which ESP algorithms protect a packet, and in which mode (RFC 4303; RFC 2407 4.4.4).

An algorithm is only referred to here; its numbers and sizes stand in `groupvpn.crypto.registry`.
"""

from dataclasses import dataclass
from enum import Enum

from groupvpn.crypto.registry import EspCipher, EspIntegrity


class Mode(Enum):
    """Encapsulation mode of an SA (RFC 2407 4.5): values are the IANA numbers of the attribute."""

    TUNNEL = 1
    TRANSPORT = 2


@dataclass(frozen=True, slots=True)
class Transform:
    """The ESP algorithms of one SA. `integrity` is `EspIntegrity.NONE` exactly when the cipher authenticates by itself (GCM)."""

    cipher: EspCipher
    integrity: EspIntegrity
    mode: Mode = Mode.TUNNEL

    @property
    def keywords(self) -> str:
        """The keywords that configure it, such as `esp-256-aes esp-sha256-hmac` (the layout of `show`)."""
        return " ".join(word for word in (self.cipher.show_keyword, self.integrity.keyword) if word)


@dataclass(frozen=True, slots=True)
class TransformSet:
    """A named transform: `crypto ipsec transform-set NAME ...`."""

    name: str
    transform: Transform


@dataclass(frozen=True, slots=True)
class Profile:
    """`crypto ipsec profile NAME`: transform sets in order of preference, and the lifetime of an SA in seconds."""

    name: str
    transform_sets: tuple[TransformSet, ...]
    lifetime: int = 3600
