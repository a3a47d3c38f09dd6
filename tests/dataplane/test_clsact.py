"""BPF programs at the hooks of an interface, in a real kernel: what they drop, whom they outlive, and whose filters are left alone."""

import contextlib
import errno
import multiprocessing
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from namespaces import Namespace, passes

from groupvpn import _engine
from groupvpn.dataplane import clsact, links
from groupvpn.dataplane.clsact import Attached, FilterError, Hook, attach, attached, detach
from groupvpn.dataplane.netlink import Message, attribute, messages

Wan = tuple[Namespace, Namespace]
PASS, SHOT = -1, 2
"""TC_ACT_UNSPEC (the next filter decides) and TC_ACT_SHOT."""


def loaded(answer: int) -> _engine.Program:
    """A program that says the same of every packet."""
    code = _engine.Assembler()
    code.set(_engine.Register.R0, answer)
    code.leave()
    return _engine.Program("test", code)


@pytest.fixture
def drop() -> _engine.Program:
    return loaded(SHOT)


@pytest.fixture
def wan_index(wan: Wan) -> Iterator[int]:
    """The number of the gateway's `wan`, with the test inside the gateway; both ends know each other's Ethernet address for ever."""
    gateway, outside = wan
    ends = ((gateway, "wan", "10.9.0.1"), (outside, "core", "10.9.0.2"))
    addresses = [namespace.run("cat", f"/sys/class/net/{device}/address").strip() for namespace, device, _ in ends]
    for (namespace, device, _), (_, _, address), mac in zip(ends, ends[::-1], addresses[::-1], strict=True):
        namespace.run("ip", "neigh", "replace", address, "dev", device, "lladdr", mac, "nud", "permanent")
    with gateway.entered():
        index = links.index("wan")
        assert index is not None
        yield index


def outbound(wan: Wan) -> int:
    gateway, outside = wan
    return passes(gateway, "10.9.0.1", outside, "10.9.0.2")


def inbound(wan: Wan) -> int:
    gateway, outside = wan
    return passes(outside, "10.9.0.2", gateway, "10.9.0.1")


def tc(words: str) -> str:
    return subprocess.run(["tc", *words.split()], check=True, capture_output=True, text=True).stdout


def has_clsact() -> bool:
    return "clsact" in tc("qdisc show dev wan")


@pytest.mark.netns
def test_each_hook_drops_what_its_program_says(wan: Wan, wan_index: int, drop: _engine.Program) -> None:
    passing = loaded(PASS)
    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    attach(wan_index, Hook.INGRESS, passing.fileno(), "groupvpn_in")
    assert (outbound(wan), inbound(wan)) == (0, 1)
    attach(wan_index, Hook.EGRESS, passing.fileno(), "groupvpn_out")
    attach(wan_index, Hook.INGRESS, drop.fileno(), "groupvpn_in")
    assert (outbound(wan), inbound(wan)) == (1, 0)
    detach(wan_index)
    assert (outbound(wan), inbound(wan)) == (1, 1)


@pytest.mark.netns
def test_what_is_attached_has_a_name_and_a_program(wan_index: int, drop: _engine.Program) -> None:
    assert attached(wan_index, Hook.EGRESS) is None
    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_one")
    assert attached(wan_index, Hook.EGRESS) == Attached("groupvpn_one", drop.number)
    assert attached(wan_index, Hook.INGRESS) is None
    other = loaded(SHOT)
    assert other.number != drop.number
    attach(wan_index, Hook.EGRESS, other.fileno(), "groupvpn_two")
    assert attached(wan_index, Hook.EGRESS) == Attached("groupvpn_two", other.number)
    assert tc("filter show dev wan egress").count("handle 0x1") == 1


@pytest.mark.netns
def test_detach_leaves_nothing(wan: Wan, wan_index: int, drop: _engine.Program) -> None:
    before = wan[0].snapshot()
    for hook in Hook:
        attach(wan_index, hook, drop.fileno(), "groupvpn_any")
    assert has_clsact()
    detach(wan_index)
    detach(wan_index)
    assert [attached(wan_index, hook) for hook in Hook] == [None, None]
    assert not has_clsact()
    assert wan[0].snapshot() == before


@pytest.mark.netns
@pytest.mark.parametrize("hook", Hook)
def test_no_packet_slips_through_while_a_program_is_replaced(wan: Wan, wan_index: int, drop: _engine.Program, hook: Hook) -> None:
    gateway, outside = wan
    ends = ((gateway, "10.9.0.1"), (outside, "10.9.0.2"))
    (sender, source), (receiver, destination) = ends if hook is Hook.EGRESS else ends[::-1]
    stop = threading.Event()
    sent = 0

    def flood(origin: socket.socket) -> None:
        nonlocal sent
        while not stop.is_set():
            origin.sendto(b"flood", (destination, 7000))
            sent += 1

    other = loaded(SHOT)
    with contextlib.closing(receiver.udp(destination)) as sink, contextlib.closing(sender.udp(source)) as origin:
        attach(wan_index, hook, drop.fileno(), "groupvpn_any")
        flooding = threading.Thread(target=flood, args=(origin,))
        flooding.start()
        for number in range(200):
            attach(wan_index, hook, (other, drop)[number % 2].fileno(), "groupvpn_any")
        stop.set()
        flooding.join()
        with pytest.raises(TimeoutError):
            sink.recv(2048)
        detach(wan_index)
        origin.sendto(b"after", (destination, 7000))
        assert sink.recv(2048) == b"after"
    assert sent > 200


@pytest.mark.netns
def test_a_renamed_interface_keeps_its_filter(wan: Wan, wan_index: int, drop: _engine.Program) -> None:
    gateway, _ = wan
    attach(wan_index, Hook.INGRESS, drop.fileno(), "groupvpn_in")
    for words in ("down", "name uplink", "up"):
        gateway.run("ip", "link", "set", "dev", links.name(wan_index) or "", *words.split())
    assert attached(wan_index, Hook.INGRESS) == Attached("groupvpn_in", drop.number)
    assert inbound(wan) == 0
    detach(wan_index)
    assert inbound(wan) == 1


@pytest.mark.netns
def test_filters_of_others_stay_and_keep_their_qdisc(wan: Wan, wan_index: int, drop: _engine.Program) -> None:
    tc("qdisc add dev wan clsact")
    detach(wan_index)
    assert has_clsact()
    tc("filter add dev wan ingress pref 7 protocol ip u32 match ip dport 9 0xffff classid 1:7")
    theirs = tc("filter show dev wan ingress")
    for hook in Hook:
        attach(wan_index, hook, drop.fileno(), "groupvpn_any")
    assert (outbound(wan), inbound(wan)) == (0, 0)
    detach(wan_index)
    assert has_clsact()
    assert tc("filter show dev wan ingress") == theirs
    assert tc("filter show dev wan egress") == ""


@pytest.mark.netns
def test_a_filter_of_another_kind_is_refused_its_preference(wan_index: int, drop: _engine.Program) -> None:
    tc("qdisc add dev wan clsact")
    tc("filter add dev wan egress pref 1 protocol ip u32 match ip dport 9 0xffff classid 1:7")
    theirs = tc("filter show dev wan egress")
    with pytest.raises(
        FilterError, match=r"egress: a filter of somebody else \(u32\) has preference 1: .* \(tc filter del dev wan egress pref 1\)"
    ):
        attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    assert attached(wan_index, Hook.EGRESS) is None
    attach(wan_index, Hook.INGRESS, drop.fileno(), "groupvpn_in")
    detach(wan_index)
    assert tc("filter show dev wan egress") == theirs


@pytest.mark.netns
def test_a_bpf_filter_of_somebody_else_is_not_replaced(wan_index: int, drop: _engine.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(clsact, "OWN", "")
        attach(wan_index, Hook.EGRESS, drop.fileno(), "cil_to_netdev")
    with pytest.raises(FilterError, match=r"\(bpf cil_to_netdev\) has preference 1"):
        attach(wan_index, Hook.EGRESS, loaded(PASS).fileno(), "groupvpn_out")
    assert attached(wan_index, Hook.EGRESS) is None
    detach(wan_index)
    assert f"cil_to_netdev direct-action not_in_hw id {drop.number} " in tc("filter show dev wan egress")


@pytest.mark.netns
def test_what_to_do_about_a_filter_beside_ours_spares_ours(wan_index: int, drop: _engine.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    with monkeypatch.context() as patch:
        patch.setattr(clsact, "OWN", "")
        patch.setattr(clsact, "HANDLE", 2)
        attach(wan_index, Hook.EGRESS, drop.fileno(), "theirs")
    with pytest.raises(FilterError, match="theirs") as caught:
        attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    remedy = caught.value.problem.partition("(tc ")[2].partition(")")[0]
    assert remedy == "filter del dev wan egress pref 1 handle 0x2 bpf"
    tc(remedy)
    assert attached(wan_index, Hook.EGRESS) == Attached("groupvpn_out", drop.number)
    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")


@pytest.mark.netns
def test_the_same_preference_in_another_chain_is_not_our_place(wan: Wan, wan_index: int, drop: _engine.Program) -> None:
    tc("qdisc add dev wan clsact")
    tc("filter add dev wan egress chain 5 pref 1 protocol ip u32 match ip dport 9 0xffff classid 1:7")
    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    assert outbound(wan) == 0
    detach(wan_index)
    assert "chain 5" in tc("filter show dev wan egress")


@pytest.mark.netns
def test_the_qdisc_ingress_is_refused(wan_index: int, drop: _engine.Program) -> None:
    tc("qdisc add dev wan ingress")
    for hook in Hook:
        with pytest.raises(FilterError, match=r"the qdisc ingress has the place of clsact: remove it \(tc qdisc del dev wan ingress\)"):
            attach(wan_index, hook, drop.fileno(), "groupvpn_any")
        assert attached(wan_index, hook) is None
    detach(wan_index)
    assert "qdisc ingress" in tc("qdisc show dev wan")


@pytest.mark.netns
def test_an_interface_that_is_gone(wan: Wan, wan_index: int, drop: _engine.Program) -> None:
    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    wan[0].run("ip", "link", "del", "wan")
    assert attached(wan_index, Hook.EGRESS) is None
    detach(wan_index)
    with pytest.raises(FilterError, match=f"^interface number {wan_index}, egress: No such device$") as caught:
        attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    assert caught.value.errno == errno.ENODEV


@pytest.mark.netns
def test_a_qdisc_that_is_removed_behind_our_back(wan_index: int, drop: _engine.Program) -> None:
    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    tc("qdisc del dev wan clsact")
    assert attached(wan_index, Hook.EGRESS) is None
    detach(wan_index)
    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    assert attached(wan_index, Hook.EGRESS) is not None


@pytest.mark.netns
def test_a_filter_that_vanishes_under_detach_is_no_error(wan_index: int, drop: _engine.Program, monkeypatch: pytest.MonkeyPatch) -> None:
    change = clsact._change_filter

    def late(*arguments: int) -> None:
        tc("qdisc del dev wan clsact")
        change(*arguments)  # type: ignore[arg-type]

    attach(wan_index, Hook.EGRESS, drop.fileno(), "groupvpn_out")
    monkeypatch.setattr(clsact, "_change_filter", late)
    detach(wan_index)


@pytest.mark.netns
def test_the_kernel_says_what_is_wrong(wan_index: int, drop: _engine.Program) -> None:
    with pytest.raises(FilterError, match=f"^interface number {wan_index}, ingress: Bad file descriptor$"):
        attach(wan_index, Hook.INGRESS, 999, "groupvpn_in")
    tc("qdisc del dev wan clsact")
    tc("qdisc add dev wan ingress_block 21 egress_block 22 clsact")
    with pytest.raises(FilterError, match=r"Operation not supported \(This filter block is shared"):
        attach(wan_index, Hook.INGRESS, drop.fileno(), "groupvpn_in")


@pytest.mark.netns
def test_filters_outlive_the_process_that_attached_them(wan: Wan, wan_index: int) -> None:
    def attach_and_wait(told: Connection) -> None:
        descriptor = loaded(SHOT)
        attach(wan_index, Hook.EGRESS, descriptor.fileno(), "groupvpn_out")
        told.send(descriptor.number)
        time.sleep(60)

    fork = multiprocessing.get_context("fork")
    hears, tells = fork.Pipe(duplex=False)
    child = fork.Process(target=attach_and_wait, args=(tells,), daemon=True)
    child.start()
    assert hears.poll(10)
    number = hears.recv()
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert attached(wan_index, Hook.EGRESS) == Attached("groupvpn_out", number)
    assert outbound(wan) == 0
    detach(wan_index)
    assert outbound(wan) == 1


def test_a_name_that_we_would_not_know_again_is_refused() -> None:
    with pytest.raises(ValueError, match="begins with groupvpn_"):
        attach(1, Hook.EGRESS, 0, "other")


def test_an_error_in_the_words_of_the_kernel() -> None:
    payload = struct.pack("=i", -errno.EPERM) + bytes(16)
    assert clsact.verdict(Message(2, 0, payload)) == (errno.EPERM, "Operation not permitted")
    worded = Message(2, 0, payload + attribute(1, b"Try again\0"))
    assert clsact.verdict(worded) == (errno.EPERM, "Operation not permitted (Try again)")
    assert clsact.verdict(Message(3, 0, bytes(4))) == (0, "Success")
    assert clsact.verdict(Message(2, 0, b"\0"))[0] == errno.EBADMSG


@given(st.binary(max_size=200))
def test_any_octets_are_read_to_their_end(datagram: bytes) -> None:
    for answer in messages(datagram):
        code, words = clsact.verdict(answer)
        assert 0 <= code <= clsact.MAX_ERRNO
        assert words
        clsact.filter_of(answer.payload)


@given(st.binary(max_size=60), st.sampled_from([b"bpf\0", b"u32\0", b"\xff"]), st.integers(0, 65535), st.sampled_from([2, 3, 44]))
def test_any_attributes_are_read_to_their_end(octets: bytes, kind: bytes, number: int, message: int) -> None:
    body = bytes(20) + attribute(1, kind) + attribute(2, octets) + attribute(number, octets) + octets
    datagram = struct.pack("=IHHII", 16 + len(body), message, 0, 7, 0) + body
    (answer,) = messages(datagram)
    assert (answer.kind, answer.sequence) == (message, 7)
    clsact.filter_of(answer.payload)
    clsact.verdict(answer)
