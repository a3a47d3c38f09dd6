import subprocess
import sys

from observations import assert_unreadable, blocked, esp, installed, passes, streams

from groupvpn.lab.lab import Lab


def test_a_dead_member_drops_does_not_leak_and_leaves_nothing(network: Lab) -> None:
    network.start(["ks"])
    clean = installed(network.host("gm2"))
    network.start(["gm1", "gm2"])
    member = network.node("gm2")
    for name in ("gm1", "gm2"):
        network.node(name).wait_registered()
    assert passes(network, "h1", "h2")
    assert passes(network, "h2", "h1"), "the other member now knows sequence numbers of this one"
    assert installed(network.host("gm2")) != clean

    with network.capture("core", incoming_only=True) as capture, streams(network, ("h1", "h2"), ("h2", "h1")) as found:
        member.kill()
        assert blocked(network, "h2", "h1")
        assert blocked(network, "h1", "h2")
    assert_unreadable(capture)
    assert esp(capture), "member 1 still protects what it sends"
    assert all(stream.tally.lost for stream in found)

    with network.capture("core", incoming_only=True) as capture:
        with streams(network, ("h1", "h2"), ("h2", "h1")):  # also while it has started and is not registered yet
            member.start()
            member.wait_registered()
        assert passes(network, "h1", "h2")
        assert passes(network, "h2", "h1")
    assert_unreadable(capture)
    assert "replay detection support: Y" in network.node("gm1").show("show crypto ipsec sa")

    assert member.stop() < 2
    assert installed(network.host("gm2")) == clean

    member.start()
    member.wait_registered()
    command = [
        sys.executable,
        "-m",
        "groupvpn",
        "clean",
        member.control_name,
        "--netns",
        member.namespace,
        "--state-dir",
        str(member.directory),
    ]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "in use by process" in refused.stderr
    member.kill()
    left = installed(network.host("gm2"))["rules"]
    assert "table inet groupvpn_" in left
    assert "table ip groupvpn-mss_" in left
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert installed(network.host("gm2")) == clean
