"""The signals that a node answers to. One that comes before the node can answer waits, instead of ending the process.

They are blocked at the head of the command and let through once they are handled, before the first thread or child could inherit that
(signal(7)).
"""

import signal

STOPS = (signal.SIGTERM, signal.SIGINT)
RELOADS = (signal.SIGHUP,)


def hold() -> None:
    """Have them wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*STOPS, *RELOADS))


def let_through() -> None:
    """They are handled: those that wait come now. Whoever has started the process may have blocked them, too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOPS, *RELOADS))
