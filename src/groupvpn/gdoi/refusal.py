"""Why a registration or a rekey comes to nothing: typed reasons, and the ISAKMP notifies that tell the peer.

A *refusal* ends an exchange: one side will not go on and says so. A *drop* leaves the exchange as it was: the datagram could have come
from anyone, so it changes nothing but a counter.
"""

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """Why: `(notify message type, words)`.

    The notify types are those of RFC 2408 3.14.1; 8192 and up are its private use range for errors (`docs/protocol/registration.md`). A
    type of 0 is never sent.
    """

    UNSUPPORTED_TEK_PROTOCOL = (10, "TEK protocol that the member does not know")
    POLICY_REJECTED = (14, "policy that the member does not accept")
    MALFORMED = (16, "message that does not decode")
    BAD_GROUP_ID = (18, "group that the key server does not serve")
    HASH_MISMATCH = (23, "HASH payload that is missing or wrong")
    UNAUTHORIZED = (24, "member that may not join the group")
    BAD_SIGNATURE = (25, "signature that does not verify")
    UNREGISTERED_INTERFACE = (29, "interface on which the key server takes no registrations")
    TRY_LATER = (8192, "key server that cannot serve the group at this moment")
    GROUP_FULL = (8192, "group that has its maximum of members")
    SENDER_ID_SHARE = (8192, "member whose address has drawn its share of the Sender-IDs for now")
    OLD_SEQUENCE = (0, "rekey whose sequence number is not above the last one")
    UNEXPECTED = (0, "message that does not belong to this point of the exchange")
    MOVED = (0, "message 3 from another address or port than message 2 was sent to")
    NO_ANSWER = (0, "peer that did not answer in time")

    def __init__(self, notify_type: int, words: str) -> None:
        self.notify_type = notify_type
        self.words = words

    @classmethod
    def from_notify(cls, notify_type: int) -> "Reason | None":
        """The reason that a notify of this type tells of, or None for a type that ends no exchange."""
        return next((reason for reason in cls if reason.notify_type == notify_type and notify_type), None)


class Discard(Enum):
    """Why a datagram was thrown away, beside what is wrong with a message of an exchange or a rekey (`Reason`). The values are words."""

    NO_SUCH_KEK = "no such KEK"
    TOO_OLD = "pseudotime too old"
    NO_REGISTRATION = "message of no registration under way"
    NOT_PULL = "not GROUPKEY-PULL"
    UNASKED = "acknowledgement that nobody asked for"
    OTHER_NAME = "acknowledgement in another's name"
    UNSOLICITED = "acknowledgement of no rekey that it was sent"

    @property
    def words(self) -> str:
        """What it is counted by."""
        return self.value


@dataclass(frozen=True, slots=True)
class Refusal:
    """The end of an exchange. `detail` is for an operator to read and never holds key material."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason.words}: {self.detail}" if self.detail else self.reason.words


@dataclass(frozen=True, slots=True)
class Dropped:
    """Effect: a datagram was thrown away and nothing changed. Counted by reason, never answered."""

    reason: Reason
    detail: str = ""


class GdoiError(ValueError):
    """A message, or a policy to be sent, that cannot be used. The only exception that the GDOI payload code raises."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.words}: {detail}")
        self.reason = reason
        self.detail = detail
