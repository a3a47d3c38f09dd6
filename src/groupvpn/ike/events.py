"""What `IkeEndpoint` says beyond `Send` and `Report`: SAs that come and go, and messages for the protocols above phase 1."""

from dataclasses import dataclass
from enum import Enum

from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Send
from groupvpn.ike.sa import IkeSa
from groupvpn.reports import Report
from groupvpn.wire.isakmp import Header


class FailureReason(Enum):
    """Why a phase 1 that we initiated came to nothing; the value is a phrase for people."""

    NO_ANSWER = "the peer does not answer"
    NO_PROPOSAL_CHOSEN = "the peer accepts none of our policies"
    AUTHENTICATION = "authentication failed, the pre-shared keys probably differ"
    NO_KEY = "no policy has a key for this peer"
    STOPPED = "given up on request"


class DeletionReason(Enum):
    """Why an established SA is gone; the value is a phrase for people."""

    EXPIRED = "its lifetime ended"
    PEER_DELETED = "the peer deleted it"
    PEER_RESTARTED = "the peer announced an initial contact"
    DEAD_PEER = "the peer no longer answers"
    LOCAL = "deleted here"
    CROWDED_OUT = "the peer has made too many SAs"
    KEY_CHANGED = "its pre-shared key was changed or removed"


@dataclass(frozen=True, slots=True)
class Established:
    """Phase 1 is complete: `sa` is ready for phase 2."""

    sa: IkeSa


@dataclass(frozen=True, slots=True)
class KeysDerived:
    """A phase 1 has its keys: the two columns of tshark's IKEv1 decryption table. Said only by an `IkeEndpoint` that was made to tell them.

    `key` is the encryption key of the SA to come and is wiped with it: use it at once.
    """

    initiator_cookie: bytes
    key: Secret


@dataclass(frozen=True, slots=True)
class Failed:
    """The phase 1 that `IkeEndpoint.initiate(local, peer)` began has ended without an SA; `local` and `peer` are as given there."""

    local: Endpoint
    peer: Endpoint
    reason: FailureReason


@dataclass(frozen=True, slots=True)
class Deleted:
    """`sa` is gone and its keys are wiped after this event has been handled (`IkeEndpoint` forgets it at once)."""

    sa: IkeSa
    reason: DeletionReason


@dataclass(frozen=True, slots=True)
class PhaseTwo:
    """A message under `sa` of an exchange that is not phase 1's business (GROUPKEY-PULL, exchange 32), still encrypted.

    `datagram` is the ISAKMP message without the non-ESP marker: give it to `sa.unprotect`, check its HASH, then give it to `sa.accept`,
    which also moves `sa.peer` if a NAT gave the peer another port. `header` is its header. Nothing in it is authenticated yet.
    """

    sa: IkeSa
    header: Header
    datagram: bytes
    source: Endpoint
    destination: Endpoint


@dataclass(frozen=True, slots=True)
class NotifyReceived:
    """An authenticated notify of the peer under `sa` that phase 1 itself does not use.

    `notify_type` is its type (RFC 2408 3.14.1), `protocol` and `spi` say which SA it is about, `data` is its notification data.
    """

    sa: IkeSa
    notify_type: int
    protocol: int
    spi: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class DeleteReceived:
    """The authenticated peer deleted SAs of another protocol (RFC 2408 3.15): the SPIs are `protocol`'s."""

    sa: IkeSa
    protocol: int
    spis: tuple[bytes, ...]


IkeEvent = Established | Failed | Deleted | PhaseTwo | NotifyReceived | DeleteReceived
"""What a protocol above phase 1 may want to hear of."""
IkeEffect = Send | Report | IkeEvent | KeysDerived
"""All that `IkeEndpoint` says."""
