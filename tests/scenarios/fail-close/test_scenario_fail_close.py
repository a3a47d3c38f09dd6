import subprocess
import sys
from ipaddress import IPv4Address

from observations import PLAIN, assert_only_esp, blocked, esp, passes

from groupvpn.lab.lab import Lab

CORE = IPv4Address("10.0.0.1")
EXCEPTION = 7777


def test_closed_open_and_closed_again(network: Lab) -> None:
    network.start(["gm1", "gm2"])
    closed_or_open_before_registration(network)
    network.start(["ks"])
    for name in ("gm1", "gm2"):
        network.node(name).wait_registered(30)
    protected_after_it(network)
    closed_while_stopped(network)
    opened_by_hand(network)
    network.node("ks").kill()
    network.node("gm1").show("clear crypto gdoi")
    assert not network.node("gm1").registered
    assert network.host("h1").ping(CORE, 3, timeout=0.2) == 0
    with network.capture("core", incoming_only=True) as capture:
        assert blocked(network, "h1", "h2", port=EXCEPTION), "member 2 is registered and takes no clear packets"
    assert len(capture.containing(PLAIN)) == 20, "but member 1 has let them out"


def closed_or_open_before_registration(network: Lab) -> None:
    with network.capture("core", incoming_only=True) as capture:
        assert network.host("h1").ping(CORE, 3, timeout=0.2) == 0
        assert network.host("h2").ping(CORE, 3) == 3
        assert blocked(network, "h1", "h2")
        assert blocked(network, "h2", "h1")
        assert passes(network, "h1", "h2", port=EXCEPTION)
        assert passes(network, "h2", "h1", port=EXCEPTION)
    assert not esp(capture)
    assert "Activate: yes" in network.node("gm1").show("show crypto map gdoi fail-close")


def closed_while_stopped(network: Lab) -> None:
    member = network.node("gm1")
    member.stop()
    assert "FAIL_CLOSE" in member.log
    with network.capture("core", incoming_only=True) as capture:
        assert blocked(network, "h1", "h2")
    assert not capture.containing(PLAIN)
    member.start()
    member.wait_registered(30)
    assert passes(network, "h1", "h2")


def opened_by_hand(network: Lab) -> None:
    """A member that stopped and will not be started again: an operator lifts the block, and is told what that means."""
    member = network.node("gm1")
    member.stop()
    assert f"`groupvpn clean {member.control_name} --netns {member.namespace} --state-dir {member.directory}` opens it" in member.log
    command = [sys.executable, "-m", "groupvpn", "clean", member.control_name, "--state-dir", str(member.directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "removed the block of eth0: what leaves by it is in the clear now" in done.stdout
    assert member.run("nft", "list", "tables") == ""
    with network.capture("core", incoming_only=True) as capture:
        assert blocked(network, "h1", "h2"), "member 2 is registered and takes no clear packets"
    assert len(capture.containing(PLAIN)) == 20, "but nothing keeps them here any more"
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == "nothing to remove\n"
    member.start()
    member.wait_registered(30)
    assert passes(network, "h1", "h2")


def protected_after_it(network: Lab) -> None:
    with network.capture("core", incoming_only=True) as capture:
        assert passes(network, "h1", "h2")
        assert passes(network, "h2", "h1")
    assert_only_esp(capture, least=40)
    assert network.host("h1").ping(CORE, 3) == 3
