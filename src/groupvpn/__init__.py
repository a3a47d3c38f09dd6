"""groupvpn: the open, tunnel-less group VPN for Linux.

The package is laid out in layers; `docs/architecture.md` is the map. The version below is the only place it is written.
"""

__version__ = "0.1.0"
