"""The keys of one SA, whoever holds it: drawn, compared and wiped together."""

from dataclasses import dataclass, field
from typing import Self

from groupvpn.crypto.secret import Secret
from groupvpn.effects import Entropy
from groupvpn.ipsec.transform import Transform


@dataclass(frozen=True, slots=True)
class TrafficKeys:
    """What an SA encrypts and authenticates with.

    `encryption` is the cipher key alone; `salt` is what a counter-mode cipher has before the IV, such as the 4 octets of GCM
    (RFC 4106 4). Each is empty where the transform needs none.
    """

    encryption: Secret
    integrity: Secret
    salt: Secret = field(default_factory=lambda: Secret(b""))

    @classmethod
    def draw(cls, transform: Transform, entropy: Entropy) -> Self:
        """New keys for an SA of this transform."""
        return cls(*(Secret(entropy(length)) for length in _lengths(transform)))

    def fit(self, transform: Transform) -> bool:
        """Whether each is as long as `transform` needs it; keys that were wiped are not."""
        return (len(self.encryption), len(self.integrity), len(self.salt)) == _lengths(transform)

    def copy(self) -> Self:
        """The same keys in octets of their own, which outlive a `wipe` of these."""
        return type(self)(*(Secret(secret.reveal()) for secret in (self.encryption, self.integrity, self.salt)))

    def wipe(self) -> None:
        """Overwrite the octets, which nobody may use any more."""
        for secret in (self.encryption, self.integrity, self.salt):
            secret.wipe()


def _lengths(transform: Transform) -> tuple[int, int, int]:
    return transform.cipher.key_length, transform.integrity.key_length, transform.cipher.salt_length
