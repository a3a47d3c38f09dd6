"""Real nodes in namespaces, seen as an operator sees a daemon: start, stop, reload, files, limits, restarts."""

import contextlib
import json
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from groupvpn.lab.hosts import LabError, LabNode
from groupvpn.lab.lab import Lab
from groupvpn.node.control import ControlError
from groupvpn.node.namespace import entered

pytestmark = pytest.mark.netns
RESIDENT_LIMIT_KIB = 80 * 1024


def _passes(lab: Lab) -> bool:
    return lab.host("h1").ping(lab.host("h2").address, 3) == 3


def _state(node: LabNode) -> dict[str, object]:
    state: dict[str, object] = json.loads((node.directory / "key-server.json").read_bytes())
    return state


def test_a_member_registers_after_a_restart_and_stays_small(small_lab: Lab, measured: Callable[[str], None]) -> None:
    gm1 = small_lab.node("gm1")
    gm1.stop()
    began = time.monotonic()
    gm1.start()
    gm1.wait_registered()
    measured(f"a member has registered {time.monotonic() - began:.2f} s after its start, the start of Python included")
    assert _passes(small_lab)
    for node in small_lab.nodes:
        assert node.process is not None
        assert node.process.resident_kib < RESIDENT_LIMIT_KIB


def test_sigterm_stops_in_time_and_leaves_the_system_as_it_was(small_lab: Lab) -> None:
    gm1 = small_lab.node("gm1")
    assert "groupvpn" in gm1.run("nft", "list", "tables")
    assert "10.9.1.1" in gm1.run("ip", "address", "show", "lo")
    assert gm1.stop() < 2
    assert gm1.run("nft", "list", "tables") == ""
    assert "gv" not in gm1.run("ip", "-brief", "link"), "its TAPs are called gvNi and gvNoM"
    assert "10.9.1.1" not in gm1.run("ip", "address", "show", "lo")
    assert not (gm1.directory / "control.sock").exists()
    assert _passes(small_lab) is False, "the other member still wants its traffic protected"


def test_files_are_for_the_owner_and_memory_for_nobody(shared_lab: Lab) -> None:
    server = shared_lab.node("ks")
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
    files = [entry for entry in server.directory.rglob("*") if not entry.is_dir()]
    assert {entry.name for entry in files} == {"control.sock", "lock", "namespace", "key-server.json", "GROUPKEY.json"}
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in files} == {0o600}
    assert server.process is not None
    limits = Path(f"/proc/{server.process.pid}/limits").read_text(encoding="ascii")
    assert re.search(r"Max core file size\s+0\s+0", limits)


def test_reload_takes_over_a_change_and_tells_the_members(small_lab: Lab) -> None:
    server, file = small_lab.node("ks"), small_lab.topology.nodes["ks"].configuration
    assert file is not None
    text = file.read_text(encoding="utf-8") + " permit udp any eq 5001 any eq 5001\n"
    file.write_text(text, encoding="utf-8")
    server.reload()
    server.wait_log("Configured from")
    for name in ("gm1", "gm2"):
        small_lab.node(name).wait_log("GM_RECV_REKEY")
        small_lab.node(name).wait(lambda name=name: "5001" in small_lab.node(name).run("nft", "list", "ruleset"), "steering", 5)
    assert _passes(small_lab)


def test_reload_with_errors_keeps_the_old_configuration(small_lab: Lab) -> None:
    server, file = small_lab.node("ks"), small_lab.topology.nodes["ks"].configuration
    assert file is not None
    before = server.show("show running-config")
    file.write_text(file.read_text(encoding="utf-8") + "crypto nonsense\nhostname other\n", encoding="utf-8")
    server.reload()
    server.wait_log("CONFIG_REJECTED")
    assert "nonsense" in server.log
    assert server.show("show running-config") == before
    assert server.process is not None


def test_reload_of_an_unchanged_file_changes_nothing(shared_lab: Lab) -> None:
    gm1 = shared_lab.node("gm1")
    before = gm1.log.count("GM_REGSTER")
    gm1.reload()
    gm1.wait_log("no change")
    assert gm1.log.count("GM_REGSTER") == before
    assert _passes(shared_lab)


def test_a_second_node_of_the_name_refuses(shared_lab: Lab) -> None:
    gm1 = shared_lab.node("gm1")
    assert gm1.process is not None
    configuration = str(shared_lab.topology.nodes["gm1"].configuration)
    command = [sys.executable, "-m", "groupvpn", "run", configuration, "--name", gm1.control_name, "--netns", gm1.namespace]
    done = subprocess.run([*command, "--state-dir", f"{gm1.directory}-other"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"is in use by process {gm1.process.pid}" in done.stderr
    assert _passes(shared_lab)


def test_a_second_node_on_the_ports_says_who_may_have_them(shared_lab: Lab, tmp_path: Path) -> None:
    gm1 = shared_lab.node("gm1")
    configuration = str(shared_lab.topology.nodes["gm1"].configuration)
    command = [sys.executable, "-m", "groupvpn", "run", configuration, "--name", f"{shared_lab.name}-x", "--netns", gm1.namespace]
    done = subprocess.run([*command, "--state-dir", str(tmp_path / "x")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "UDP port 500: Address already in use" in done.stderr


def test_a_killed_key_server_goes_on_where_it_was(small_lab: Lab) -> None:
    server = small_lab.node("ks")
    server.show("crypto gdoi ks rekey activation-delay 1")
    for name in ("gm1", "gm2"):
        small_lab.node(name).wait_log("GM_RECV_REKEY")
    before = server.status()["groups"][0]
    server.kill()
    server.start()
    after = server.status()["groups"][0]
    assert after["members"] == before["members"] == 2
    assert after["sequence"] >= before["sequence"]
    server.show("crypto gdoi ks rekey activation-delay 1")
    small_lab.node("gm1").wait(lambda: small_lab.node("gm1").log.count("GM_RECV_REKEY") >= 2, "rekeyed", 5)
    assert small_lab.node("gm1").log.count("GM_REGSTER") == 1
    assert _passes(small_lab)


def test_a_killed_member_leaks_nothing_and_comes_back(small_lab: Lab) -> None:
    gm1 = small_lab.node("gm1")
    gm1.kill()
    with small_lab.capture("core:togm1") as capture:
        assert not _passes(small_lab)
    assert not [frame for frame in capture if frame.protocol == 1]
    gm1.start()
    gm1.wait_registered()
    assert _passes(small_lab)


def _leaves_in_the_clear(lab: Lab) -> bool:
    """Whether the core sees what one host sends to the other."""
    with lab.capture("core:togm1") as capture:
        _passes(lab)
    return any(frame.protocol == 1 and frame.source == lab.host("h1").address for frame in capture)


def test_a_killed_member_leaks_nothing_before_a_key_server_answers_it(small_lab: Lab) -> None:
    server, gm1 = small_lab.node("ks"), small_lab.node("gm1")
    server.stop()
    for damage in (None, None, bytes(40)):  # from the second time on it has not been registered in between
        gm1.kill()
        if damage is not None:
            (gm1.directory / "in-force.json").write_bytes(damage)
        gm1.start()
        gm1.wait_log("POLICY_KEPT")
        gm1.wait(lambda: "gv" in gm1.run("ip", "-brief", "link"), "steering", 5)
        assert not _leaves_in_the_clear(small_lab)
    gm1.show("clear crypto gdoi")
    gm1.wait(lambda: _leaves_in_the_clear(small_lab), "open", 5)
    server.start()
    gm1.wait_registered()
    assert not _leaves_in_the_clear(small_lab)
    assert gm1.stop() < 2
    gm1.start()
    assert "POLICY_KEPT" not in gm1.log[gm1.log.rindex("RESTART") :], "it ended by itself"


def test_a_block_that_another_node_left_does_not_end_unsaid(small_lab: Lab, tmp_path: Path) -> None:
    gm1 = small_lab.node("gm1")
    small_lab.node("ks").stop()
    gm1.kill()
    words = ["run", str(small_lab.topology.nodes["gm1"].configuration), "--name", f"{gm1.control_name}-2", "--netns", gm1.namespace]
    for directory, line in ((gm1.directory, "POLICY_KEPT"), (tmp_path / "new", "POLICY_LOST")):
        command = [sys.executable, "-m", "groupvpn", *words, "--state-dir", str(directory)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as other:
            assert other.stderr is not None
            said = next((text for text in other.stderr if "POLICY" in text or "START_FAILED" in text), "")
            other.kill()
        assert line in said
    clean = [
        sys.executable,
        "-m",
        "groupvpn",
        "clean",
        f"{gm1.control_name}-2",
        "--netns",
        gm1.namespace,
        "--state-dir",
        str(tmp_path / "new"),
    ]
    subprocess.run(clean, capture_output=True, check=True)


def test_a_killed_member_whose_crypto_map_is_gone_is_open_again(small_lab: Lab) -> None:
    gm1, file = small_lab.node("gm1"), small_lab.topology.nodes["gm1"].configuration
    assert file is not None
    gm1.kill()
    file.write_text(file.read_text(encoding="utf-8").replace(" crypto map MAP\n", ""), encoding="utf-8")
    gm1.start()
    gm1.wait_log("eth0 is in the clear again")
    assert gm1.run("nft", "list", "tables") == ""
    assert _leaves_in_the_clear(small_lab)


def test_loopback_addresses_of_a_killed_node_are_not_taken_for_foreign_ones(small_lab: Lab) -> None:
    gm1 = small_lab.node("gm1")
    gm1.run("ip", "address", "add", "10.9.9.9/32", "dev", "lo")
    gm1.kill()
    assert "10.9.1.1" in gm1.run("ip", "address", "show", "lo")
    gm1.start()
    gm1.wait_registered()
    assert gm1.stop() < 2
    there = gm1.run("ip", "address", "show", "lo")
    assert "10.9.1.1" not in there
    assert "10.9.9.9" in there


def test_loopback_addresses_that_somebody_takes_off_come_back(small_lab: Lab) -> None:
    gm1 = small_lab.node("gm1")
    gm1.run("ip", "address", "flush", "dev", "lo")
    gm1.wait_log("%SYS-4-LOOPBACK: 10.9.1.1/32 was missing on lo and is put back")
    assert "10.9.1.1" in gm1.run("ip", "address", "show", "lo")
    gm1.run("ip", "link", "set", "dev", "lo", "down")
    gm1.wait_log("%SYS-4-LOOPBACK: lo was down and is up again")


def _ask_for_an_address(node: LabNode, port: int) -> None:
    """Send to every DHCP server of the link, from `port`, by a device without an address."""
    with entered(node.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        client.bind(("0.0.0.0", port))
        with contextlib.suppress(PermissionError):  # what the filters drop
            client.sendto(bytes(240), ("255.255.255.255", 67))


def test_an_interface_that_waits_for_its_address_is_closed_and_then_served(small_lab: Lab) -> None:
    gm1, file = small_lab.node("gm1"), small_lab.topology.nodes["gm1"].configuration
    assert file is not None
    gm1.stop()
    text = file.read_text(encoding="utf-8").replace(" ip address 10.0.1.2 255.255.255.252", " ip address dhcp")
    file.write_text(f"{text}crypto map MAP gdoi fail-close\n activate\n", encoding="utf-8")
    gm1.run("ip", "address", "del", "10.0.1.2/30", "dev", "eth0")
    gm1.start()
    assert gm1.stop() < 2
    gm1.start()
    assert "POLICY" not in gm1.log, "what a clean stop leaves closed is as it should be"
    gm1.wait_log("GigabitEthernet0/0: no address yet; group GETVPN is registered when eth0 has one")
    gm1.wait(lambda: "gv" in gm1.run("ip", "-brief", "link"), "steering", 5)
    with small_lab.capture("core:togm1") as capture:
        for port in (68, 69):
            _ask_for_an_address(gm1, port)
        gm1.wait(lambda: any(frame.ports == (68, 67) for frame in capture), "asking", 5)
    assert not any(frame.ports == (69, 67) for frame in capture), "nothing else leaves"
    gm1.run("ip", "address", "add", "10.0.1.2/30", "dev", "eth0")
    gm1.run("ip", "route", "add", "default", "via", "10.0.1.1")
    gm1.wait_registered()
    assert _passes(small_lab)
    gm1.run("ip", "address", "del", "10.0.1.2/30", "dev", "eth0")
    gm1.run("ip", "address", "add", "10.0.1.2/30", "dev", "eth0")
    gm1.run("ip", "route", "add", "default", "via", "10.0.1.1")
    assert _passes(small_lab), "the lease was renewed"


def test_clean_lifts_the_block_of_a_killed_member(small_lab: Lab) -> None:
    gm1 = small_lab.node("gm1")
    gm1.kill()
    assert "groupvpn" in gm1.run("nft", "list", "tables")
    assert "10.9.1.1" in gm1.run("ip", "address", "show", "lo")
    command = [sys.executable, "-m", "groupvpn", "clean", gm1.control_name, "--netns", gm1.namespace]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # it finds the state directory that the node had
    assert "removed the block of eth0: what leaves by it is in the clear now" in done.stdout
    assert "removed the loopback address 10.9.1.1/32" in done.stdout
    assert gm1.run("nft", "list", "tables") == ""
    assert "10.9.1.1" not in gm1.run("ip", "address", "show", "lo")
    gm1.start()
    assert "POLICY_KEPT" not in gm1.log[gm1.log.rindex("RESTART") :]


def test_noise_from_the_network_is_counted_and_harmless(shared_lab: Lab) -> None:
    server = shared_lab.node("ks")
    with entered(shared_lab.node("gm1").namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noisy:
        noisy.bind(("10.0.1.2", 0))
        for port in (500, 848, 4500):
            for octets in (b"", b"\0", b"\xff" * 28, bytes(16) + b"\x01\x10\x21" + bytes(9), bytes(18) + b"\x23" + bytes(80), b"x" * 1400):
                noisy.sendto(octets, ("10.0.0.2", port))
    server.wait(lambda: server.status()["datagrams"]["received"] > 18, "hearing the noise", 5)
    assert "BUG" not in server.log
    assert any(name.startswith("dropped") for name in server.status()["datagrams"])
    assert _passes(shared_lab)


def test_a_key_server_without_its_rsa_key_says_what_to_type(small_lab: Lab) -> None:
    server = small_lab.node("ks")
    server.show("crypto key zeroize rsa GROUPKEY")
    with pytest.raises(ControlError, match="make it with `crypto key generate rsa label GROUPKEY`"):
        server.show("crypto gdoi ks rekey")
    assert "keys will be non-exportable... [OK]" in server.show("crypto key generate rsa general-keys label GROUPKEY modulus 2048")
    assert "Key name: GROUPKEY" in server.show("sh cry key mypub rsa")


def test_commands_are_refused_with_what_could_be_typed(shared_lab: Lab) -> None:
    gm1 = shared_lab.node("gm1")
    with pytest.raises(ControlError, match=r"(?s)show crpyto\n     \^.*Invalid input.*crypto, debugging, ip, logging"):
        gm1.show("show crpyto")
    with pytest.raises(ControlError, match="Incomplete command"):
        gm1.show("show")
    with pytest.raises(ControlError, match="No group 'OTHER' runs here"):
        gm1.show("clear crypto gdoi group OTHER")
    assert gm1.show("show running-config | include hostname") == "hostname gm1"
    assert "one-secret" not in gm1.show("show running-config")


def test_clearing_a_member_registers_it_again(shared_lab: Lab) -> None:
    gm1 = shared_lab.node("gm1")
    before = gm1.log.count("GM_REGS_COMPL")
    gm1.show("clear crypto gdoi")
    gm1.wait(lambda: gm1.log.count("GM_REGS_COMPL") == before + 1, "registered again", 5)
    gm1.wait_registered()
    assert _passes(shared_lab)


def test_a_wrong_configuration_starts_nothing(small_lab: Lab) -> None:
    gm1, file = small_lab.node("gm1"), small_lab.topology.nodes["gm1"].configuration
    assert file is not None
    gm1.stop()
    file.write_text("crypto isakmp policy ten\n", encoding="utf-8")
    with pytest.raises(LabError, match=r"(?s)ended with status 2.*gm1\.cfg:1:22: error"):
        gm1.start()


def test_an_address_that_is_not_there_is_a_warning_with_the_mend(small_lab: Lab) -> None:
    gm1 = small_lab.node("gm1")
    gm1.stop()
    gm1.run("ip", "address", "add", "10.0.1.99/30", "dev", "eth0")
    gm1.run("ip", "address", "del", "10.0.1.2/30", "dev", "eth0")
    gm1.start()
    assert "eth0 has 10.0.1.99/30, the configuration says 10.0.1.2/30; ip address add 10.0.1.2/30 dev eth0" in gm1.log


def test_a_device_that_gets_its_name_later_is_steered_then(small_lab: Lab) -> None:
    gm1 = small_lab.node("gm1")
    gm1.stop()
    for words in ("set eth0 down", "set eth0 name wan0", "set wan0 up"):
        gm1.run("ip", "link", *words.split())
    gm1.run("ip", "route", "add", "default", "via", "10.0.1.1")
    gm1.start()
    assert "there is no device 'eth0'" in gm1.log
    gm1.wait_registered()
    assert "eth0" in gm1.status()["faults"][0]
    gm1.run("ip", "link", "property", "add", "dev", "wan0", "altname", "eth0")
    gm1.wait(lambda: not gm1.status()["faults"], "free of faults", 5)
    assert "groupvpn_eth0" in gm1.run("nft", "list", "tables")
    assert _passes(small_lab)
    gm1.run("ip", "link", "set", "wan0", "name", "wan1")
    gm1.wait(lambda: "(wan1)" in gm1.show("show crypto engine"), "steered by another name", 5)
    assert _passes(small_lab)
    assert "somebody changed" not in gm1.log
