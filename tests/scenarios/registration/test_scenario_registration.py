import os
import time
from collections.abc import Callable
from pathlib import Path

from observations import installed, shown

from groupvpn.lab.lab import Lab

MEMBERS = ("gm1", "gm2", "gm3")
MEMORY_KIB = 80 * 1024
BUDGET = 2.0
"""Seconds of CPU that a member may take until it is registered. Other processes do not count, so this one is meant."""
SLOWEST = 10.0
"""Seconds: what a machine that is busy with other things may need for what takes less than one."""


def test_members_register_soon_after_their_start(network: Lab, measured: Callable[[str], None]) -> None:
    before = {name: installed(network.host(name)) for name in MEMBERS}
    network.start(["ks"])
    began = time.monotonic()
    network.start(["gm1"])
    network.node("gm1").wait_registered()
    alone = time.monotonic() - began
    process = network.node("gm1").process
    assert process
    processor = cpu_seconds(process.pid)
    began = time.monotonic()
    network.start(["gm2", "gm3"])
    for name in MEMBERS[1:]:
        network.node(name).wait_registered()
    together = time.monotonic() - began
    measured(
        f"start of the process to registered: {alone:.2f} s for one member ({processor:.2f} s of CPU), {together:.2f} s for two at once"
    )
    assert processor < BUDGET
    assert alone < SLOWEST
    assert together < SLOWEST
    network.node("gm3").stop()
    assert installed(network.host("gm3")) == before["gm3"]
    network.start(["gm3"])
    network.node("gm3").wait_registered()


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its threads have used, in user space and in the kernel (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_key_server_shows_its_members(network: Lab) -> None:
    server = network.node("ks")
    assert shown(server, "show crypto gdoi", "Group Name") == "OFFICES (Unicast)"
    assert shown(server, "show crypto gdoi", "Group Members") == "3"
    members = server.show("show crypto gdoi ks members")
    for number in (1, 2, 3):
        assert f"Group Member ID    : 10.0.{number}.2" in members
    assert members.count("GM State          : Registered") == 3
    assert "GDOI_IDLE" in server.show("show crypto isakmp sa")


def test_a_member_shows_its_group(network: Lab) -> None:
    member = network.node("gm1")
    assert shown(member, "show crypto gdoi", "Group Name") == "OFFICES"
    assert shown(member, "show crypto gdoi", "Group Identity") == "1234"
    assert shown(member, "show crypto gdoi", "Registration status") == "Registered"
    assert shown(member, "show crypto gdoi", "Registered with") == "10.0.0.2"
    assert "permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255" in member.show("show crypto gdoi gm acl")
    associations = member.show("show crypto isakmp sa")
    assert "GDOI_IDLE" in associations
    assert "GDOI_REKEY" in associations
    spi = member.status()["members"][0]["teks"][0]
    assert f"current outbound spi: 0x{spi:X}({spi})" in member.show("show crypto ipsec sa")


def test_the_log_tells_of_it(network: Lab) -> None:
    server, member = network.node("ks").log, network.node("gm1").log
    assert "%CRYPTO-5-GM_REGSTER: Start registration for group OFFICES using address 10.0.1.2" in member
    assert "%GDOI-5-GM_REGS_COMPL: Registration complete for group OFFICES using address 10.0.1.2" in member
    assert "%GDOI-6-KS_FIRST_GM: First GM 10.0.1.2 joined the group OFFICES" in server
    assert server.count("%GDOI-5-KS_REGS_COMPL") == 4, "three members, one of them twice"


def test_nodes_at_rest_are_small(network: Lab, measured: Callable[[str], None]) -> None:
    sizes = {node.name: process.resident_kib for node in network.nodes if (process := node.process)}
    measured("resident memory at rest: " + ", ".join(f"{name} {size / 1024:.0f} MiB" for name, size in sizes.items()))
    assert len(sizes) == 4
    assert max(sizes.values()) < MEMORY_KIB
