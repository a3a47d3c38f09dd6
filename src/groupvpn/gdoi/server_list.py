"""The key servers of a member, in the order in which it asks them.

The first that answers wins. After one that does not answer the next is asked at once; after a round without success comes a pause that
grows. A new registration begins at the top again, so that a member goes home to its first server when that is back.
"""

from ipaddress import IPv4Address

from groupvpn.gdoi.timers import retry_delay


class ServerList:
    """Where to ask next, and after which pause."""

    __slots__ = ("_position", "_rounds", "servers")

    def __init__(self, servers: tuple[IPv4Address, ...]) -> None:
        self.servers = servers
        self._position = 0
        self._rounds = 0

    @property
    def current(self) -> IPv4Address:
        """The server whose turn it is. There must be one."""
        return self.servers[self._position]

    def restart(self) -> None:
        """Begin at the top, without memory of failures."""
        self._position = 0
        self._rounds = 0

    def failed(self, chance: float) -> float:
        """The current server was asked in vain: move on, and return the seconds to wait before asking. `chance` is 0 to 1."""
        self._position = (self._position + 1) % len(self.servers)
        if self._position:
            return 0.0
        self._rounds += 1
        return retry_delay(self._rounds, chance)
