"""A small lab for tests of real nodes: one key server and two members around a router."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from groupvpn.lab.lab import Lab
from groupvpn.lab.topology import Topology, load

TOPOLOGY = """
description: one key server, two members with a host each
nodes:
  core: {}
  ks: {configuration: ks.cfg, rsa keys: {GROUPKEY: 2048}}
  gm1: {configuration: gm1.cfg, loopbacks: [10.9.1.1/32]}
  gm2: {configuration: gm2.cfg, interfaces: {GigabitEthernet0/0: eth0}}
  h1: {}
  h2: {}
links:
  - core:toks 10.0.0.1/30 -- ks:eth0 10.0.0.2/30
  - core:togm1 10.0.1.1/30 -- gm1:eth0 10.0.1.2/30
  - core:togm2 10.0.2.1/30 -- gm2:eth0 10.0.2.2/30
  - h1:eth0 10.1.1.2/24 -- gm1:eth1 10.1.1.1/24
  - h2:eth0 10.1.2.2/24 -- gm2:eth1 10.1.2.1/24
"""
KEY_SERVER = """
hostname ks
crypto isakmp policy 10
 encr aes 256
 hash sha256
 authentication pre-share
 group 14
crypto isakmp key one-secret address 10.0.1.2
crypto isakmp key two-secret address 10.0.2.2
crypto ipsec transform-set SUITE esp-gcm 256
crypto ipsec profile PROFILE
 set transform-set SUITE
crypto gdoi group GETVPN
 identity number 7
 server local
  rekey authentication mypubkey rsa GROUPKEY
  rekey transport unicast
  sa ipsec 1
   profile PROFILE
   match address ipv4 TRAFFIC
   no replay counter window-size
  address ipv4 10.0.0.2
interface GigabitEthernet0/0
 ! linux-device eth0
 ip address 10.0.0.2 255.255.255.252
ip access-list extended TRAFFIC
 permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255
"""
MEMBER = """
hostname gm{number}
crypto isakmp policy 10
 encr aes 256
 hash sha256
 authentication pre-share
 group 14
 lifetime 300
crypto isakmp key {secret}-secret address 10.0.0.2
crypto gdoi group GETVPN
 identity number 7
 server address ipv4 10.0.0.2
crypto map MAP 10 gdoi
 set group GETVPN
interface Loopback0
 ip address 10.9.{number}.1 255.255.255.255
interface GigabitEthernet0/0
 {device}
 ip address 10.0.{number}.2 255.255.255.252
 crypto map MAP
"""


def write_topology(folder: Path) -> Topology:
    """Write the topology and its configurations into `folder`."""
    (folder / "topology.yaml").write_text(TOPOLOGY, encoding="utf-8")
    (folder / "ks.cfg").write_text(KEY_SERVER, encoding="utf-8")
    one = MEMBER.format(number=1, secret="one", device="! linux-device eth0")
    (folder / "gm1.cfg").write_text(one, encoding="utf-8")
    (folder / "gm2.cfg").write_text(MEMBER.format(number=2, secret="two", device=""), encoding="utf-8")
    return load(folder)


def _registered_lab(folder: Path) -> Iterator[Lab]:
    with Lab(write_topology(folder), f"t{secrets.token_hex(4)}") as lab:
        lab.up()
        for name in ("gm1", "gm2"):
            lab.node(name).wait_registered()
        yield lab


@pytest.fixture
def small_lab(tmp_path: Path, privileged: None) -> Iterator[Lab]:
    """The lab, up and registered, for one test that may break it."""
    yield from _registered_lab(tmp_path)


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory, privileged: None) -> Iterator[Lab]:
    """The lab, up and registered, for tests that leave it as it was."""
    yield from _registered_lab(tmp_path_factory.mktemp("shared"))
