"""What an ISAKMP SA needs while it lives: its end, proof of life, and a memory against replays."""

from collections import deque

from groupvpn.effects import Entropy
from groupvpn.ike.dpd import Liveness
from groupvpn.ike.exchange import Duplicates
from groupvpn.ike.policy import Keepalive, PeerKey
from groupvpn.ike.sa import IkeSa

REMEMBERED_MESSAGES = 256
"""Message ids of informational exchanges that are remembered, so that none is obeyed twice. Those of dead peer detection, of which there
are thousands, have numbers of their own; of others there are a few, and what can still be repeated of them ends a registration under way at
most."""


class Upkeep:
    """One SA with its timers, and the key that vouched for its peer. `due` is the earliest of the timers in monotonic seconds."""

    __slots__ = ("_message_ids", "duplicates", "liveness", "peer_key", "sa")

    def __init__(self, sa: IkeSa, peer_key: PeerKey, duplicates: Duplicates, keepalive: Keepalive | None, entropy: Entropy) -> None:
        self.sa = sa
        self.peer_key = peer_key
        self.duplicates = duplicates
        self.liveness = Liveness(keepalive, entropy, sa.established)
        self._message_ids: deque[int] = deque(maxlen=REMEMBERED_MESSAGES)

    @property
    def due(self) -> float:
        """When the SA wants attention next."""
        return min(self.sa.expires, self.liveness.due or self.sa.expires)

    def is_replayed(self, message_id: int) -> bool:
        """Whether an informational exchange with this id was obeyed lately."""
        return message_id in self._message_ids

    def remember(self, message_id: int) -> None:
        """An informational exchange was obeyed."""
        self._message_ids.append(message_id)
