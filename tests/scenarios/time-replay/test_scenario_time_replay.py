import json
import re
import socket

from observations import assert_lossless, esp, listening, marker, passes, rekeyed, streams, teks
from tests.waiting import until

from groupvpn.lab.capture import Frame
from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab
from groupvpn.node.namespace import entered

PACKETS = 10


def raw(lab: Lab) -> socket.socket:
    """A socket in the core that sends IP packets with any source address."""
    with entered(lab.host("core").namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def refused(node: LabNode, why: str) -> int:
    """Packets that the member has refused for this reason."""
    line = node.show(f"show crypto gdoi gm replay | include {why}")
    return int(line.rpartition(":")[2])


def pseudotime(node: LabNode, role: str) -> float:
    """What the node's clock of the group shows."""
    found = re.search(r"Pseudotime +: ([0-9.]+) secs", node.show(f"show crypto gdoi {role} replay"))
    assert found
    return float(found[1])


def send_again(lab: Lab, frames: list[Frame]) -> None:
    """The core sends recorded packets once more."""
    with raw(lab) as hostile:
        for frame in frames:
            hostile.sendto(frame.packet, (str(frame.destination), 0))


def record(lab: Lab) -> list[Frame]:
    """ESP packets from host 1 to host 2, which have arrived."""
    mark = marker("recorded")
    with listening(lab.host("h2")) as receiver, lab.capture("core:togm1", incoming_only=True) as capture:
        sender = lab.host("h1").sender(lab.host("h2").address, mark)
        sender.send(PACKETS, 0.001)
        assert receiver.wait(mark, PACKETS)
        sender.stop()
        assert receiver.tally(mark, PACKETS).duplicates == 0
    return esp(capture)


def test_three_members_lose_nothing(lab: Lab) -> None:
    members = [lab.node(name) for name in ("gm1", "gm2", "gm3")]
    assert "Replay method        : Time Based" in members[0].show("show crypto gdoi gm replay")
    with streams(lab, ("h1", "h2"), ("h2", "h3"), ("h3", "h2"), ("h2", "h1"), ("h3", "h1")) as found, rekeyed(members):
        lab.node("ks").show("crypto gdoi ks rekey activation-delay 1")
    assert_lossless(found)
    assert {refused(member, why) for member in members for why in ("Seen before", "too old", "too new")} == {0}


def test_the_sequence_number_is_the_time(lab: Lab) -> None:
    told = int.from_bytes(record(lab)[0].packet[24:28], "big") / 100
    assert abs(told - pseudotime(lab.node("ks"), "ks")) < 5
    assert int.from_bytes(record(lab)[0].packet[24:28], "big") / 100 >= told


def test_what_comes_again_is_refused_inside_the_window_and_behind_it(lab: Lab) -> None:
    receiver = lab.node("gm2")
    frames = record(lab)
    seen, old = refused(receiver, "Seen before"), refused(receiver, "too old")
    send_again(lab, frames)
    until(lambda: refused(receiver, "Seen before") == seen + len(frames), "the copies are refused as seen", 4.0)
    assert refused(receiver, "too old") == old

    def refuses_as_old() -> bool:
        send_again(lab, frames[:1])
        return refused(receiver, "too old") > old

    assert until(refuses_as_old, "a copy is refused as too old", 15.0) > 2
    assert passes(lab, "h1", "h2")


def test_a_member_that_starts_again_takes_no_packet_from_before(lab: Lab) -> None:
    receiver = lab.node("gm2")
    frames = record(lab)
    receiver.kill()
    receiver.start()
    receiver.wait_registered()
    with listening(lab.host("h2")) as host:
        send_again(lab, frames)
        until(lambda: refused(receiver, "too old") == len(frames), "all are refused as too old")
        mark = marker("after")
        sender = lab.host("h1").sender(lab.host("h2").address, mark)
        sender.send(PACKETS, 0.001)
        assert host.wait(mark, PACKETS)
        sender.stop()
    assert passes(lab, "h2", "h1")


def set_clock(lab: Lab, seconds: float) -> None:
    """Kill the key server, put its pseudotime ahead by so many seconds (or back), and start it again."""
    server = lab.node("ks")
    server.kill()
    file = server.directory / "key-server.json"
    record = json.loads(file.read_text())
    record["state"]["groups"]["OFFICES"]["pseudotime"] += seconds
    file.write_text(json.dumps(record))
    server.start()


def test_members_follow_the_key_servers_clock(lab: Lab) -> None:
    members = [lab.node(name) for name in ("gm1", "gm2", "gm3")]
    before = pseudotime(members[0], "gm")
    with rekeyed(members):
        set_clock(lab, 3)
    assert not any("PSEUDO_TIME" in member.log for member in members)
    assert pseudotime(members[0], "gm") > before + 3
    assert passes(lab, "h1", "h2")

    with rekeyed(members):
        set_clock(lab, 10000)
    assert all("%GDOI-3-PSEUDO_TIME_LARGE: Pseudotime difference between key server (" in member.log for member in members)
    assert pseudotime(members[0], "gm") > before + 10000
    assert all(passes(lab, *flow) for flow in (("h1", "h2"), ("h2", "h3"), ("h3", "h1")))


def test_a_rekey_from_the_past_is_dropped(lab: Lab) -> None:
    members = [lab.node(name) for name in ("gm1", "gm2", "gm3")]
    keys = [set(teks(member)) for member in members]
    set_clock(lab, -600)
    for member in members:
        member.wait_log("%GDOI-3-PSEUDO_TIME_TOO_OLD: Rekey received in group OFFICES is too old and fail PST check: my_pst is ")
        assert "allowable_skew is 5 sec" in member.log
    assert [set(teks(member)) for member in members] == keys
    assert pseudotime(members[0], "gm") > pseudotime(lab.node("ks"), "ks") + 500
    assert passes(lab, "h1", "h2")
    members[0].show("clear crypto gdoi")  # a registration is believed, and with it the clock of all keys that it brings
    members[0].wait_registered()
    until(lambda: pseudotime(members[0], "gm") < pseudotime(lab.node("ks"), "ks") + 1, "the member has the key server's clock")
