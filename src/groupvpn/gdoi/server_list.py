"""The key servers of a member, in the order in which it asks them.

The first that answers wins. After one that does not answer the next is asked at once; after a round without success comes a pause that
grows. A new registration begins at the top again. One that renews another begins with the server that gave it: there may be a minute until
the SA dies, and each dead server at the top takes 20 s of it.
"""

from ipaddress import IPv4Address

from groupvpn.gdoi.timers import retry_delay


class ServerList:
    """Where to ask next, and after which pause."""

    __slots__ = ("_order", "_position", "_rounds", "servers")

    def __init__(self, servers: tuple[IPv4Address, ...]) -> None:
        self.servers = servers
        self._order = servers
        self._position = 0
        self._rounds = 0

    @property
    def current(self) -> IPv4Address:
        """The server whose turn it is. There must be one."""
        return self._order[self._position]

    def restart(self, first: IPv4Address | None = None) -> None:
        """Begin at the top, or with `first` if it is on the list, without memory of failures."""
        self._order = tuple(sorted(self.servers, key=lambda server: server != first))
        self._position = 0
        self._rounds = 0

    def failed(self, chance: float) -> float:
        """The current server was asked in vain: move on, and return the seconds to wait before asking. `chance` is 0 to 1."""
        self._position = (self._position + 1) % len(self._order)
        if self._position:
            return 0.0
        self._rounds += 1
        return retry_delay(self._rounds, chance)
