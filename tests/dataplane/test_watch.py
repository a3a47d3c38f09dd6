"""What rtnetlink notifications say, and that garbage in their place does no harm."""

import contextlib
import os
import resource
import select
import socket
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from namespaces import Namespace
from recording import RecordingEngine

from groupvpn.dataplane import links
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.watch import RTM_DELLINK, RTM_NEWLINK, RULES, Watch, link_names


def message(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    body = bytes(16)
    for number, value in attributes:
        body += struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_names_of_all_messages_of_a_datagram() -> None:
    datagram = message(RTM_NEWLINK, (1, b"\2" * 6), (3, b"eth0\0")) + message(RTM_DELLINK, (3, b"gv12o0\0"))
    assert link_names(datagram) == {"eth0", "gv12o0"}


def test_other_messages_are_changes_without_a_name() -> None:
    assert link_names(message(99)) == {RULES}
    assert link_names(message(RTM_NEWLINK)) == {RULES}
    assert link_names(b"") == {RULES}


@pytest.mark.parametrize("kind", [36, 37, 44, 45])
def test_filters_of_an_interface_are_rules_and_those_of_one_that_is_gone_nothing(kind: int) -> None:
    def of(number: int) -> bytes:
        return struct.pack("=IHHII", 36, kind, 0, 0, 0) + struct.pack("=BxxxiIII", 0, number, 0, 0, 0)

    assert link_names(of(links.index("lo") or 0)) == {RULES}
    assert link_names(of(1 << 30)) == set()


@pytest.mark.parametrize("kind", [20, 21])
def test_addresses_are_told_of_by_the_name_of_their_interface(kind: int) -> None:
    def of(number: int) -> bytes:
        return struct.pack("=IHHII", 24, kind, 0, 0, 0) + struct.pack("=BBBBI", 2, 24, 0, 0, number)

    assert link_names(of(links.index("lo") or 0)) == {"lo"}
    assert link_names(of(1 << 30)) == set()


@pytest.mark.netns
def test_notifications_that_were_lost_are_changes_of_rules_and_what_waits_is_taken_all_the_same(namespaces: list[Namespace]) -> None:
    namespaces.append(Namespace("w"))
    with namespaces[0].entered(), contextlib.closing(Watch()) as watch:
        watch._links.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        links.set_mtu("lo", 2000)
        assert watch.drain() == {"lo"}
        for number in range(500):
            links.set_mtu("lo", 1500 + number)
        assert watch.drain() == {"lo", RULES}
        assert watch.drain() == set()
        links.set_mtu("lo", 2000)
        assert watch.drain() == {"lo"}


@pytest.mark.netns
def test_an_address_that_is_renewed_is_no_change(namespaces: list[Namespace]) -> None:
    namespaces.append(Namespace("w"))
    gateway = namespaces[0]
    address = "2001:db8::1/64", "dev", "lo", "nodad"
    with gateway.entered():
        gateway.run("ip", "addr", "add", *address)
        with contextlib.closing(Watch()) as watch:
            for lifetime in ("100", "200"):
                gateway.run("ip", "addr", "change", *address, "valid_lft", lifetime, "preferred_lft", lifetime)
                assert select.select([watch.fileno()], [], [], 1)[0]
                assert watch.drain() == set()
            for which in ("add", "del"):
                gateway.run("ip", "addr", which, "2001:db8::2/64", "dev", "lo")
                assert watch.drain() == {"lo"}
            gateway.run("ip", "addr", "del", *address[:3])
            assert watch.drain() == {"lo"}
            gateway.run("ip", "addr", "add", "10.0.0.1/24", "dev", "lo", "valid_lft", "100", "preferred_lft", "100")
            assert watch.drain() == {"lo"}
            gateway.run("ip", "addr", "change", "10.0.0.1/24", "dev", "lo", "valid_lft", "200", "preferred_lft", "200")
            assert watch.drain() == {"lo"}


def test_a_process_is_followed_by_a_descriptor_of_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = 1100
    if hard <= high:
        pytest.fail(f"needs more than {high} descriptors: raise the hard limit (`ulimit -Hn`)", pytrace=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, high + 1), hard))
    watch = Watch()
    try:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
            opened = os.pidfd_open(process.pid)
            os.dup2(opened, high, inheritable=False)
            os.close(opened)
            monkeypatch.setattr(os, "pidfd_open", lambda process: high)
            watch.follow(process.pid)
            assert RULES not in watch.drain()
        assert RULES in watch.drain()
    finally:
        watch.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@given(st.binary(max_size=200))
def test_any_octets_end_in_an_answer(datagram: bytes) -> None:
    assert isinstance(link_names(datagram), set)


@given(st.binary(max_size=60), st.integers(0, 65535))
def test_any_attributes_end_in_an_answer(attributes: bytes, kind: int) -> None:
    assert isinstance(link_names(struct.pack("=IHHII", 32 + len(attributes), kind, 0, 0, 0) + bytes(16) + attributes), set)


class _Short(RecordingEngine):
    """An engine for whose alarm there is no descriptor the first time."""

    is_short = True

    def alarm(self) -> int:
        if self.is_short:
            self.is_short = False
            raise OSError(24, "Too many open files")
        return super().alarm()


def test_the_alarm_of_the_engine_is_heard_although_the_first_attempt_fails() -> None:
    engine = _Short()
    plane = LinuxDataPlane(engine=engine)
    with pytest.raises(OSError, match="Too many open files"):
        plane.fileno()
    events = plane.fileno()
    assert not select.select([events], [], [], 0)[0]
    os.eventfd_write(engine.alarm(), 1)
    assert select.select([events], [], [], 1)[0]
    plane._watch.close()  # type: ignore[union-attr]
