"""The ESP engine as the data plane sees it, and its making from our own values.

`Engine` is what `LinuxDataPlane` asks for; `NativeEngine` is the C++ engine `groupvpn._engine`. Key octets leave their `Secret` here
and nowhere else on this side.
"""

from typing import Protocol

from groupvpn.ipsec.sa import GroupSa


class EngineSa(Protocol):
    """One ESP SA inside the engine."""

    def counters(self) -> dict[str, int]:
        """`encrypted_packets`, `encrypted_bytes`, `decrypted_packets`, `decrypted_bytes`, `last_sequence`."""


class EnginePort(Protocol):
    """The threads that serve one interface; see `groupvpn/_engine.pyi` for the terms."""

    def add_outbound(self, tap_fd: int) -> int:
        """Serve one more outbound TAP; returns its queue number."""

    def start(self) -> None:
        """Start the threads."""

    def stop(self) -> None:
        """Stop and join the threads."""

    def set_sas(self, inbound: list[EngineSa], outbound: dict[int, EngineSa]) -> None:
        """Replace the SAs in one step."""

    def set_wire_mtu(self, mtu: int) -> None:
        """Octets of the largest IP packet that the WAN carries."""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them; all keys but the two `_delivered` ones are drops."""

    def fault(self) -> str:
        """Why a thread or queue has stopped working, or nothing."""


class Engine(Protocol):
    """Makes SAs and ports. What it cannot make it refuses with `EngineRefusal`."""

    def make_sa(self, sa: GroupSa, clear_df: bool) -> EngineSa:
        """An SA that serves every port it is given to."""

    def make_port(self, device: str, tap_descriptor: int, token: bytes, mtu: int, mark: int) -> EnginePort:
        """A port that is not started yet."""


class EngineRefusal(RuntimeError):  # noqa: N818 - it is the engine's answer, and the interface or SA goes without
    """The engine cannot serve an SA or an interface; the text says which and why, and never holds key octets."""


class NativeEngine:
    """The C++ engine of this package, loaded when the first interface needs it."""

    def make_sa(self, sa: GroupSa, clear_df: bool) -> EngineSa:
        """Hand one SA to the engine; raises `EngineRefusal` for an algorithm or size it does not have."""
        from groupvpn import _engine

        try:
            return _engine.Sa(
                spi=sa.spi,
                cipher=sa.transform.cipher.engine,
                encryption_key=sa.encryption_key.reveal(),
                integrity=sa.transform.integrity.engine,
                integrity_key=sa.integrity_key.reveal(),
                salt=sa.salt.reveal(),
                sender_id=-1 if sa.sender_id is None else sa.sender_id,
                sender_id_bits=sa.sender_id_bits,
                replay_window=sa.replay_window,
                clear_df=clear_df,
            )
        except (_engine.EngineError, ValueError) as error:
            raise EngineRefusal(f"SA {sa.spi:#010x} ({sa.transform.keywords}): {error}") from error

    def make_port(self, device: str, tap_descriptor: int, token: bytes, mtu: int, mark: int) -> EnginePort:
        """Prepare the data path of `device`; raises `EngineRefusal` if the kernel denies the engine its sockets."""
        from groupvpn import _engine

        try:
            return _engine.Port(device, tap_descriptor, token, mtu, mark)  # type: ignore[return-value]  # it takes its own Sa only
        except (_engine.EngineError, ValueError) as error:
            raise EngineRefusal(f"interface {device}: {error}") from error
