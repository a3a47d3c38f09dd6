"""A peer that holds the keys says anything it likes, under a HASH or signature that verifies: key server and member live on."""

from functools import partial

from groupvpn.effects import Endpoint, Send
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.iana import ExchangeType
from groupvpn.wire.payload import GENERIC_HEADER_LENGTH
from targets.rekey import signed
from targets.rig import MEMBER, NOW, SERVER, Rig

SECOND_MESSAGE, FOURTH_MESSAGE = 8, 10
"""Datagrams that were delivered when the member waits for message 2, and for message 4, of its registration."""


def sealed(sa: IkeSa, exchange: int, message_id: int, nonces: bytes, first: int, octets: bytes) -> bytes:
    """The protected message that carries `octets`, whose first payload has type `first`, behind a proper HASH payload."""
    digest = sa.prf(message_id.to_bytes(4, "big"), nonces, octets)
    head = bytes((first, 0)) + (GENERIC_HEADER_LENGTH + len(digest)).to_bytes(2, "big")
    return sa.protect(exchange, message_id, 8, head + digest + octets)


def one_input(data: bytes) -> None:
    """Octet 0: which message is replaced. Octet 1: the type of the first payload behind HASH. The rest are the payloads."""
    if len(data) < 2:
        return
    kind, first, octets = data[0] % 5, data[1], data[2:]
    rig = Rig((SECOND_MESSAGE, FOURTH_MESSAGE, 40, 40, 40)[kind])
    to, say = (MEMBER, partial(_answer, rig)) if kind < 2 else (_receiver(kind), partial(_speak, rig, kind))
    message = say(first, octets)
    effects = rig.receive(to, message)
    assert all(len(effect.datagram) < 4096 for effect in effects if isinstance(effect, Send))
    for end, speaker in rig.speakers.items():
        speaker.tick(NOW + 100)
        assert rig.server.status(NOW + 100)
        assert rig.member.status(NOW + 100), end


def _receiver(kind: int) -> Endpoint:
    return SERVER if kind == 2 else MEMBER


def _answer(rig: Rig, first: int, octets: bytes) -> bytes:
    """What the key server could have said instead of message 2 or 4."""
    (sa,) = rig.speakers[SERVER].ike.sas()
    pull = rig.member.enrollment._pull
    assert pull is not None
    (exchange,) = rig.server._registrars[sa.cookies].pull._exchanges.values()
    nonces = exchange.nonces[0] if len(exchange.received) < 2 else b"".join(exchange.nonces)
    _rewind(sa, rig, pull.message_id)
    return sealed(sa, ExchangeType.GROUPKEY_PULL, pull.message_id, nonces, first, octets)


def _rewind(sa: IkeSa, rig: Rig, message_id: int) -> None:
    """The key server has sent its own answer already, which moved its IV; the member's is where ours has to be."""
    (other,) = rig.speakers[MEMBER].ike.sas()
    sa._chains[message_id] = other._chains[message_id]


def _speak(rig: Rig, kind: int, first: int, octets: bytes) -> bytes:
    """A new request to the key server, an informational message to either, or a rekey for the member."""
    if kind == 4:
        assert rig.member.rekey_sa.kek is not None
        return signed(first, octets, rig.member.rekey_sa.kek)
    (sa,) = rig.speakers[MEMBER if kind == 2 else SERVER].ike.sas()
    if kind == 2 and first == 10:
        return sealed(sa, ExchangeType.GROUPKEY_PULL, 0x01020304, b"", first, octets)
    return sealed(sa, ExchangeType.INFORMATIONAL, 0x01020304, b"", first, octets)
