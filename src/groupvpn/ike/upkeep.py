"""What an ISAKMP SA needs while it lives: its end, proof of life, NAT keepalives, and a memory against replays."""

from collections import deque

from groupvpn.effects import Entropy, Send
from groupvpn.ike.dpd import Liveness
from groupvpn.ike.exchange import Duplicates
from groupvpn.ike.natt import KEEPALIVE_INTERVAL
from groupvpn.ike.policy import Keepalive
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.natt import KEEPALIVE

REMEMBERED_MESSAGES = 64
"""Message ids of informational exchanges that are remembered, so that none is obeyed twice."""


class Upkeep:
    """One SA with its timers. `due` is the earliest of them in monotonic seconds."""

    __slots__ = ("_keepalive_due", "_message_ids", "duplicates", "liveness", "sa")

    def __init__(self, sa: IkeSa, duplicates: Duplicates, keepalive: Keepalive | None, entropy: Entropy) -> None:
        self.sa = sa
        self.duplicates = duplicates
        self.liveness = Liveness(keepalive, entropy, sa.established)
        self._message_ids: deque[int] = deque(maxlen=REMEMBERED_MESSAGES)
        self._keepalive_due = sa.established + KEEPALIVE_INTERVAL if sa.nat.local else None

    @property
    def due(self) -> float:
        """When the SA wants attention next."""
        return min(self.sa.expires, self.liveness.due or self.sa.expires, self._keepalive_due or self.sa.expires)

    def is_replayed(self, message_id: int) -> bool:
        """Whether an informational exchange with this id was obeyed lately."""
        return message_id in self._message_ids

    def remember(self, message_id: int) -> None:
        """An informational exchange was obeyed."""
        self._message_ids.append(message_id)

    def nat_keepalive(self, now: float) -> Send | None:
        """The keepalive to send now, if it is time for one (RFC 3948 4); only the side behind the NAT sends any."""
        if self._keepalive_due is None or now < self._keepalive_due:
            return None
        self._keepalive_due = now + KEEPALIVE_INTERVAL
        return Send(KEEPALIVE, self.sa.local, self.sa.peer)
