"""Any message in any state of phase 1: no exception, and no more in answer than a message of phase 1 brings."""

from groupvpn.effects import Send
from groupvpn.wire.isakmp import HEADER_LENGTH
from targets.rig import MEMBER, SERVER, Rig

STATES = 8
LONGEST_ANSWER = 600


def one_input(data: bytes) -> None:
    """Octet 0: how far phase 1 has come, and its mode. Octet 1: whether the header is honest. The rest is the message, or its body."""
    if len(data) < 2:
        return
    rig = Rig(data[0] % STATES, aggressive=bool(data[0] & 0x80))
    to = rig.waiting.destination if rig.waiting is not None else SERVER
    honest = rig.waiting.datagram if rig.waiting is not None else b""
    message = data[2:]
    if data[1] & 1 and len(honest) > HEADER_LENGTH:
        message = honest[:24] + (HEADER_LENGTH + len(message)).to_bytes(4, "big") + message
    if data[1] & 2 and len(message) >= HEADER_LENGTH:
        message = message[:16] + bytes((data[1] >> 2,)) + message[17:]
    answers = rig.receive(to, message)
    assert sum(len(effect.datagram) for effect in answers if isinstance(effect, Send)) <= LONGEST_ANSWER
    if message != honest and rig.waiting is not None:
        rig.receive(to, honest)
        rig.receive(MEMBER if to == SERVER else SERVER, message)
    for speaker in rig.speakers.values():
        speaker.tick(2000.0)
        assert speaker.ike.next_timer() is None or speaker.ike.next_timer() > 2000.0
