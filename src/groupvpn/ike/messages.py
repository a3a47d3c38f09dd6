"""What phase 1 says to operators: one table of syslog lines, and the reports that fill them.

Facility and mnemonic are the routers' where the manuals print one (IKMP_MODE_FAILURE, ISAKMP_ON_OFF); the texts of the others are ours.
"""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.effects import Endpoint, Report
from groupvpn.wire.iana import ExchangeType, exchange_name, notify_name


@dataclass(frozen=True, slots=True)
class Message:
    """A syslog line: `%FACILITY-SEVERITY-MNEMONIC: text`; severity as in syslog (3 error … 7 debug), `text` is for `str.format`."""

    facility: str
    severity: int
    text: str


MESSAGES = {
    "IKMP_MODE_FAILURE": Message("CRYPTO", 6, "Processing of {mode} failed with peer at {peer}"),
    "IKMP_AUTH_FAIL": Message("CRYPTO", 4, "The peer at {peer} did not prove its key in {mode}; the pre-shared keys probably differ"),
    "IKMP_NO_PROPOSAL": Message("CRYPTO", 4, "None of the policies that {peer} offers in {mode} matches one of ours"),
    "IKMP_NO_KEY": Message("CRYPTO", 4, "No pre-shared key is configured for the peer at {peer}"),
    "IKMP_PEER_NOTIFY": Message("CRYPTO", 5, "Unauthenticated notify {notify} from {peer}: compare policies and pre-shared keys"),
    "IKMP_NO_ANSWER": Message("CRYPTO", 5, "No answer from {peer} in {mode}: does it run, and does UDP 848 pass?"),
    "IKMP_HALF_OPEN": Message("CRYPTO", 4, "Too many half-open exchanges: the oldest with {peer} makes room. See show crypto isakmp sa"),
    "IKMP_SA_UP": Message("CRYPTO", 6, "ISAKMP SA with {peer} is up, identity {identity}, {mode}"),
    "IKMP_SA_DOWN": Message("CRYPTO", 6, "ISAKMP SA with {peer} is gone: {reason}"),
    "IKMP_NAT": Message("CRYPTO", 6, "A NAT sits between here and {peer}; ISAKMP moves to port 4500"),
}
"""By mnemonic."""


def render(report: Report) -> str:
    """The syslog line of a report of this package, without time and host; `KeyError` for a mnemonic of another package."""
    message = MESSAGES[report.mnemonic]
    return f"%{message.facility}-{message.severity}-{report.mnemonic}: {message.text.format(**report.fields)}"


class Restraint:
    """Keeps hostile traffic from filling a log: the same thing about the same address is said once in `INTERVAL` seconds.

    A flood comes from as many addresses as it likes, so of each subject no more than `BURST` is said in an interval either.
    """

    INTERVAL = 10.0
    CAPACITY = 512
    BURST = 32

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, IPv4Address], float] = OrderedDict()
        self._bursts: dict[str, tuple[float, int]] = {}

    def allows(self, subject: str, address: IPv4Address, now: float) -> bool:
        """Whether `subject` may be said about `address` at `now`; asking counts as saying it."""
        key = (subject, address)
        last = self._said.get(key)
        if last is not None and now - last < self.INTERVAL:
            return False
        began, count = self._bursts.get(subject, (now, 0))
        if now - began >= self.INTERVAL:
            began, count = now, 0
        if count >= self.BURST:
            return False
        self._bursts[subject] = (began, count + 1)
        self._said[key] = now
        self._said.move_to_end(key)
        if len(self._said) > self.CAPACITY:
            self._said.popitem(last=False)
        return True


def mode_name(mode: int) -> str:
    """`main mode` or `aggressive mode`."""
    return exchange_name(mode)


def authentication_failed(peer: Endpoint, mode: ExchangeType) -> Report:
    """The HASH was wrong, or decryption gave no payloads."""
    return Report("IKMP_AUTH_FAIL", {"peer": peer.address, "mode": mode_name(mode)})


def no_proposal(peer: Endpoint, mode: ExchangeType) -> Report:
    """No offered transform fits a policy of ours."""
    return Report("IKMP_NO_PROPOSAL", {"peer": peer.address, "mode": mode_name(mode)})


def no_key(peer: Endpoint) -> Report:
    """Nothing to authenticate this peer with."""
    return Report("IKMP_NO_KEY", {"peer": peer.address})


def peer_notify(peer: Endpoint, notify_type: int) -> Report:
    """An error notify that anybody could have sent."""
    return Report("IKMP_PEER_NOTIFY", {"peer": peer.address, "notify": notify_name(notify_type)})


def mode_failure(peer: Endpoint, mode: ExchangeType) -> Report:
    """A phase 1 that we began came to nothing."""
    return Report("IKMP_MODE_FAILURE", {"mode": mode_name(mode).capitalize(), "peer": peer.address})


def no_answer(peer: Endpoint, mode: ExchangeType) -> Report:
    """Why it came to nothing: silence."""
    return Report("IKMP_NO_ANSWER", {"peer": peer.address, "mode": mode_name(mode)})


def half_open(peer: Endpoint) -> Report:
    """A limit was reached, and `peer` has the most of them."""
    return Report("IKMP_HALF_OPEN", {"peer": peer.address})


def sa_up(peer: Endpoint, identity: str, mode: ExchangeType) -> Report:
    """Phase 1 is complete."""
    return Report("IKMP_SA_UP", {"peer": peer.address, "identity": identity, "mode": mode_name(mode)})


def sa_down(peer: Endpoint, reason: str) -> Report:
    """An SA is gone."""
    return Report("IKMP_SA_DOWN", {"peer": peer.address, "reason": reason})


def nat_found(peer: Endpoint) -> Report:
    """A NAT was found in phase 1."""
    return Report("IKMP_NAT", {"peer": peer.address})
