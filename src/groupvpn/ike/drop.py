"""Why a datagram was dropped, and the one exception by which a step of phase 1 says so."""

from enum import Enum

from groupvpn.reports import Report
from groupvpn.wire.iana import NotifyType


class Drop(Enum):
    """Reasons; the values are the keys of `IkeEndpoint.counters`, in words for operators."""

    MALFORMED = "malformed"
    UNKNOWN_SA = "no such SA"
    UNEXPECTED = "unexpected in this state"
    REFUSED_MODE = "aggressive mode, which is refused"
    WRONG_SOURCE = "from another address than before"
    DUPLICATE = "duplicate"
    REPLAYED = "replayed"
    NO_KEY = "no key for the peer"
    NO_PROPOSAL = "no proposal chosen"
    PUBLIC_VALUE = "bad public value"
    IDENTITY = "bad identity"
    NAT = "NAT-D and port disagree"
    AUTHENTICATION = "authentication failed"
    HALF_OPEN = "too many half-open exchanges"
    UNAUTHENTICATED_NOTIFY = "unauthenticated notify"
    TOO_LONG = "too long"


class RejectedError(Exception):
    """A message that a step of phase 1 will not have. The exchange stays as it was.

    `notify` is what the sender may be told without protection, None to stay silent; `report` is for our operator.
    """

    def __init__(self, drop: Drop, notify: NotifyType | None = None, report: Report | None = None) -> None:
        super().__init__(drop.value)
        self.drop = drop
        self.notify = notify
        self.report = report
