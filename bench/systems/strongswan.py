"""strongSwan with its user-space ESP (the plugin kernel-libipsec), IKEv2 with a pre-shared key."""

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.place import TUNNEL_MTU, BenchError, Gateway, Place

_CHARON = "/usr/lib/ipsec/charon"
_DEVICE = "ipsec0"
_PLUGINS = "random nonce openssl aes sha1 sha2 hmac gcm kdf kernel-libipsec kernel-netlink socket-default vici"

_DAEMON = """
charon {{
  load = {plugins}
  install_routes = yes
  plugins {{
    vici {{ socket = unix://{folder}/vici }}
  }}
  filelog {{
    log {{
      path = {folder}/log
      default = 1
      flush_line = yes
    }}
  }}
}}
"""
_CONNECTION = """
connections {{
  bench {{
    version = 2
    local_addrs = {local}
    remote_addrs = {remote}
    proposals = aes128-sha256-ecp256
    local {{
      auth = psk
      id = {node}
    }}
    remote {{
      auth = psk
      id = {peer}
    }}
    children {{
      bench {{
        local_ts = {local_network}
        remote_ts = {remote_network}
        esp_proposals = {proposal}
        rekey_time = 0
      }}
    }}
  }}
}}
secrets {{
  ike-bench {{
    secret = "{secret}"
  }}
}}
"""


def with_proposal(proposal: str) -> Callable[[Place, dict[str, str]], AbstractContextManager[None]]:
    """A set-up with this ESP proposal."""

    @contextmanager
    def up(place: Place, options: dict[str, str]) -> Iterator[None]:
        secret = secrets.token_hex(16)
        for gateway, peer in place.ends:
            _start(place, gateway, peer, proposal, secret)
        for gateway in place.gateways:
            _control(place, gateway, "--load-all")
        _control(place, place.gateways[0], "--initiate", "--child", "bench")
        for gateway in place.gateways:
            place.run(gateway.namespace, "ip", "link", "set", _DEVICE, "mtu", str(TUNNEL_MTU))
        yield

    return up


def _folder(place: Place, gateway: Gateway) -> Path:
    return place.folder / f"charon-{gateway.node}"


def _start(place: Place, gateway: Gateway, peer: Gateway, proposal: str, secret: str) -> None:
    folder = _folder(place, gateway)
    (folder / "swanctl").mkdir(parents=True)
    (folder / "strongswan.conf").write_text(_DAEMON.format(plugins=_PLUGINS, folder=folder))
    connection = _CONNECTION.format(
        local=gateway.address,
        remote=peer.address,
        node=gateway.node,
        peer=peer.node,
        local_network=gateway.protected,
        remote_network=peer.protected,
        proposal=proposal,
        secret=secret,
    )
    (folder / "swanctl/swanctl.conf").write_text(connection)
    environment = {"STRONGSWAN_CONF": str(folder / "strongswan.conf")}
    # Its process id file has a fixed name: each gets a /run of its own.
    script = f"mount -t tmpfs none /run && exec {_CHARON}"
    place.start(gateway.namespace, "unshare", "-m", "sh", "-c", script, log=f"{gateway.node}.log", environment=environment)
    deadline = time.monotonic() + 10
    while not (folder / "vici").exists():
        if time.monotonic() > deadline:
            raise BenchError(f"charon did not start: {place.log(f'{gateway.node}.log')}")
        time.sleep(0.05)


def _control(place: Place, gateway: Gateway, *words: str) -> None:
    folder = _folder(place, gateway)
    environment = {"SWANCTL_DIR": str(folder / "swanctl"), "STRONGSWAN_CONF": str(folder / "strongswan.conf")}
    try:
        place.run(gateway.namespace, "swanctl", *words, "--uri", f"unix://{folder}/vici", environment=environment, timeout=20)
    except (BenchError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"swanctl {words[0]}: {error}; charon says {place.log(f'{folder.name}/log')}") from error
