"""Any YAML: a topology that can be drawn and routed, or a `TopologyError`."""

import tempfile
from pathlib import Path

from groupvpn.lab.topology import TopologyError, load

_FOLDER = tempfile.TemporaryDirectory(prefix="groupvpn-fuzz-")  # removed when the process ends
_FILE = Path(_FOLDER.name) / "topology.yaml"


def one_input(data: bytes) -> None:
    """The file's octets."""
    _FILE.write_bytes(data)
    try:
        topology = load(_FILE)
    except TopologyError as error:
        assert str(error)
        return
    topology.routes()
    topology.routers()
