"""What the node says of a data plane that cannot do what it should."""

from groupvpn.dataplane.linux import Fault
from groupvpn.ipsec.sa import DesiredState
from groupvpn.node.steering import Steering
from groupvpn.node.syslog import Log


class _Faulty:
    def __init__(self, *faults: Fault) -> None:
        self.faults = faults

    def refresh(self) -> tuple[Fault, ...]:
        return self.faults

    def take_restored(self) -> frozenset[str]:
        return frozenset()


def _lines(*faults: Fault) -> list[str]:
    log = Log("gm1")
    written: list[str] = []
    log.observe(written.append)
    steering = Steering("gm1", log, DesiredState, lambda: None, lambda: None)
    steering.data_plane = _Faulty(*faults)  # type: ignore[assignment]
    steering.repair()
    steering.repair()
    return written


def test_a_fault_of_a_device_is_told_once_with_what_becomes_of_packets() -> None:
    (line,) = _lines(Fault("lo", "the engine has stopped"))
    assert "%CRYPTO-3-DATAPLANE: lo: the engine has stopped. What must be protected is dropped there" in line


def test_nobody_is_told_that_packets_are_dropped_on_a_device_that_is_not_there() -> None:
    (line,) = _lines(Fault("gi0-0", "interface gi0-0: No such device"))
    assert "there is no device gi0-0: nothing is protected" in line
    assert "dropped" not in line


def test_what_cannot_even_be_blocked_is_said_to_be_open() -> None:
    lines = _lines(Fault("lo", "nft: not found"), Fault("lo", "cannot even block it: nft: not found", is_open=True))
    assert len(lines) == 2
    assert all("packets may pass in the clear" in line and "dropped" not in line for line in lines)
