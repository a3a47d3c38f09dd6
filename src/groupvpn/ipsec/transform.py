"""Transform sets: which algorithms protect a packet, under which protocol and in which mode (RFC 4302, RFC 4303; RFC 2407 4.4).

An algorithm is only referred to here; its numbers and sizes stand in `groupvpn.crypto.registry`.
"""

from dataclasses import dataclass
from enum import Enum

from groupvpn.crypto.registry import EspCipher, EspIntegrity

DEFAULT_LIFETIME = 3600
"""Seconds that an SA lives where nothing is configured."""
LIFETIME_RANGE = range(120, 2592001)
"""Seconds that an SA may be configured to live: a shorter life leaves no room for the handover to its successor."""
DEFAULT_VOLUME = 4608000
"""Kilobytes that an SA between two ends may protect where nothing is configured."""
SENDER_ID_BITS = 24
"""Width of a Sender-ID where nothing else is configured or told."""
_IPV4_HEADER, _UDP_HEADER, _ESP_HEADER, _ESP_TRAILER, _AH_HEADER = 20, 8, 8, 2, 12
"""Octets, without options, IV and ICV (RFC 4303 2, RFC 4302 2)."""


class Mode(Enum):
    """Encapsulation mode of an SA (RFC 2407 4.5): values are the IANA numbers of the attribute."""

    TUNNEL = 1
    TRANSPORT = 2


class SecurityProtocol(Enum):
    """The security protocol of an SA: values are the IP protocol numbers (RFC 4302 2, RFC 4303 2)."""

    ESP = 50
    AH = 51


@dataclass(frozen=True, slots=True)
class Transform:
    """The algorithms of one SA. Under AH the cipher is `EspCipher.NULL`, for AH has none."""

    cipher: EspCipher
    integrity: EspIntegrity
    mode: Mode = Mode.TUNNEL
    protocol: SecurityProtocol = SecurityProtocol.ESP

    @property
    def is_whole(self) -> bool:
        """Whether exactly one algorithm authenticates, and AH comes without a cipher: what an SA can be made of."""
        if self.protocol is SecurityProtocol.AH:
            return self.cipher is EspCipher.NULL and self.integrity is not EspIntegrity.NONE
        return (self.integrity is EspIntegrity.NONE) is self.cipher.is_combined

    def needs_sender_id(self, *, timed: bool) -> bool:
        """Whether a member of a group may send under it only with a Sender-ID of its own; `timed` if packets carry pseudotime.

        A counter-mode cipher breaks without one (RFC 6407 3.5). With a time window every other cipher that has an IV hides the sender's
        counter there (`docs/protocol/esp-time-based-replay.md`).
        """
        return self.cipher.is_counter_mode or (timed and self.cipher.iv_length > 0)

    @property
    def transform_id(self) -> int:
        """The IANA transform identifier (RFC 2407 4.4.3 for AH, 4.4.4 for ESP)."""
        return self.integrity.ah_transform_id if self.protocol is SecurityProtocol.AH else self.cipher.transform_id

    def largest_packet(self, mtu: int, *, in_udp: bool = False) -> int:
        """Octets of the largest IPv4 packet that is no more than `mtu` octets once it is protected; 0 where there is none."""
        kept = _IPV4_HEADER if self.mode is Mode.TRANSPORT else 0
        if self.protocol is SecurityProtocol.AH:
            room = mtu - _IPV4_HEADER - _AH_HEADER - self.integrity.icv_length
            return room + kept if room > 0 else 0
        icv = self.cipher.icv_length or self.integrity.icv_length
        alignment = 4 if self.cipher.is_counter_mode else max(4, self.cipher.iv_length)
        room = mtu - _IPV4_HEADER - (_UDP_HEADER if in_udp else 0) - _ESP_HEADER - self.cipher.iv_length - icv
        return room // alignment * alignment - _ESP_TRAILER + kept if room >= alignment else 0

    @property
    def keywords(self) -> str:
        """The keywords that configure it, such as `esp-256-aes esp-sha256-hmac` (the layout of `show`)."""
        if self.protocol is SecurityProtocol.AH:
            return self.integrity.ah_keyword
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
    lifetime: int = DEFAULT_LIFETIME
    replay_window: int | None = None
    """`set security-association replay`: in packets, 0 for `disable`, None where the global setting applies."""
