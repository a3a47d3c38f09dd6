"""`debug crypto …`: what comes and goes, one line of the log for each datagram, switched on while the node runs.

A line has what stands in the clear: exchange, cookies, message id, length, the ends; and why a datagram that came was not used. Nothing
encrypted is opened for it, so no key or identity comes into the log.
"""

from collections import Counter
from collections.abc import Iterable
from enum import Enum

from groupvpn.effects import Endpoint
from groupvpn.ike.natt import unwrap
from groupvpn.node import messages
from groupvpn.node.syslog import Log
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import ExchangeType
from groupvpn.wire.isakmp import Header

_NAMES = {
    ExchangeType.MAIN: "main mode",
    ExchangeType.AGGRESSIVE: "aggressive mode",
    ExchangeType.INFORMATIONAL: "informational",
    ExchangeType.GROUPKEY_PULL: "GROUPKEY-PULL",
    ExchangeType.GROUPKEY_PUSH: "GROUPKEY-PUSH",
    ExchangeType.GROUPKEY_PUSH_ACK: "GROUPKEY-PUSH-ACK",
}
_GDOI = (ExchangeType.GROUPKEY_PULL, ExchangeType.GROUPKEY_PUSH, ExchangeType.GROUPKEY_PUSH_ACK)


class Topic(Enum):
    """What can be debugged; the values are keywords."""

    GDOI = "gdoi"
    """Registrations, rekeys and their acknowledgements."""
    ISAKMP = "isakmp"
    """Phase 1 and informational exchanges, and what is no message at all."""


class Debugging:
    """What is switched on, nothing at first."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.topics: frozenset[Topic] = frozenset()

    def switch(self, topics: Iterable[Topic], *, on: bool) -> None:
        """Begin or end to log these topics."""
        self.topics = self.topics | set(topics) if on else self.topics - set(topics)

    def sent(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        """A datagram leaves."""
        self._write("sent", datagram, source.port, source, destination)

    def received(self, datagram: bytes, source: Endpoint, destination: Endpoint, dropped: Counter[str]) -> None:
        """A datagram came; `dropped` are the reasons for which it was not used, none if it was."""
        self._write("received", datagram, destination.port, source, destination, f"; dropped: {', '.join(dropped)}" if dropped else "")

    def _write(self, what: str, datagram: bytes, port: int, source: Endpoint, destination: Endpoint, more: str = "") -> None:
        topic, message = _described(datagram, port)
        if topic in self.topics:
            text = f"{what} {message} from {source.address}:{source.port} to {destination.address}:{destination.port}{more}"
            self._log.write((messages.DEBUG_ISAKMP if topic is Topic.ISAKMP else messages.DEBUG_GDOI)(datagram=text))


def _described(datagram: bytes, port: int) -> tuple[Topic, str]:
    try:
        message = unwrap(datagram, port)
        header = Header.decode(message)
    except DecodeError as error:
        return Topic.ISAKMP, f"{len(datagram)} octets that are no message ({error})"
    name = next((text for number, text in _NAMES.items() if number == header.exchange), f"exchange {header.exchange}")
    cookies = f"{header.initiator_cookie.hex()}/{header.responder_cookie.hex()}"
    topic = Topic.GDOI if header.exchange in _GDOI else Topic.ISAKMP
    return topic, f"{name}, message id 0x{header.message_id:08X}, cookies {cookies}, {header.length} octets"
