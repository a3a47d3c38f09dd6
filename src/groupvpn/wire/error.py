"""The one error of every decoder, and the one of every encoder."""

from groupvpn.wire.iana import NotifyType


class DecodeError(Exception):
    """Octets from the network that are not what they claim to be.

    `offset` counts octets from the start of the buffer that the caller handed in, `reason` says in words what was found there and what
    was expected, and `notify` says which check of RFC 2408 5 failed, by the notification that it has for that. We send none of them, which
    is allowed: an answer that nothing authenticates serves forgers. The text never contains octets of a payload's body, which may be keys.
    """

    def __init__(self, offset: int, reason: str, notify: NotifyType = NotifyType.PAYLOAD_MALFORMED) -> None:
        super().__init__(offset, reason, notify)
        self.offset = offset
        self.reason = reason
        self.notify = notify

    def __str__(self) -> str:
        return f"octet {self.offset}: {self.reason}"


class EncodeError(ValueError):
    """A value that its field on the wire cannot hold: more octets than a length field can count, or a number too large for its field."""
