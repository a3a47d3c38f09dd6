"""The node's sockets in a namespace of their own: which datagrams are ours, where answers come from, multicast, a port that is taken."""

import asyncio
import errno
import re
import secrets
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from groupvpn.dataplane import links
from groupvpn.effects import Endpoint, Send
from groupvpn.node import departures
from groupvpn.node.namespace import entered
from groupvpn.node.sockets import READS_PER_WAKE, DatagramSockets, PortUnavailableError

pytestmark = pytest.mark.netns
ONE, TWO, THREE, PEER = (IPv4Address(f"10.7.0.{number}") for number in (1, 2, 3, 9))
GROUP = IPv4Address("239.7.7.7")


@pytest.fixture(autouse=True)
def namespace() -> Iterator[str]:
    """A namespace with four addresses on a veth whose other end is in it too."""
    name = f"n{secrets.token_hex(4)}"
    lines = ["link set lo up multicast on", *(f"address add {address}/24 dev lo" for address in (ONE, TWO, THREE, PEER))]
    lines.append("route add 224.0.0.0/4 dev lo")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(lines), text=True, check=True)
        with entered(name):
            yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


class Node:
    """Sockets that echo what they get, and remember it."""

    def __init__(self, *local: IPv4Address) -> None:
        self.received: list[tuple[bytes, Endpoint, Endpoint]] = []
        self.warnings: list[str] = []
        self.sockets = DatagramSockets(self.deliver, self.warnings.append, self.warnings.append, pytest.fail)
        self.sockets.open(local)

    def deliver(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        self.received.append((datagram, source, destination))
        if not destination.address.is_multicast:
            self.sockets.send(Send(b"echo " + datagram, destination, source))


def _peer() -> socket.socket:
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind((str(PEER), 4000))
    peer.setblocking(False)
    return peer


async def _answer(peer: socket.socket) -> tuple[bytes, tuple[str, int]]:
    loop = asyncio.get_running_loop()
    answer: tuple[bytes, tuple[str, int]] = await asyncio.wait_for(loop.sock_recvfrom(peer, 2000), 2)
    return answer


async def _hears_rekeys(node: Node) -> bool:
    """Whether a datagram to the group comes to the node; one behind it does."""
    with _peer() as peer:
        peer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, PEER.packed)
        peer.sendto(b"rekey", (str(GROUP), 848))
        peer.sendto(b"marker", (str(ONE), 848))
        await _answer(peer)
    return (b"rekey", Endpoint(PEER, 4000), Endpoint(GROUP, 848)) in node.received


def test_an_answer_leaves_from_the_address_and_port_that_was_asked() -> None:
    async def scene() -> None:
        node = Node(ONE, TWO)
        with _peer() as peer:
            for address, port in ((ONE, 848), (TWO, 848), (TWO, 500), (ONE, 4500)):
                peer.sendto(b"hello", (str(address), port))
                assert await _answer(peer) == (b"echo hello", (str(address), port))
        assert node.received[0] == (b"hello", Endpoint(PEER, 4000), Endpoint(ONE, 848))
        node.sockets.close()

    asyncio.run(scene())


def test_addresses_that_are_not_configured_do_not_answer() -> None:
    async def scene() -> None:
        node = Node(ONE)
        with _peer() as peer:
            peer.sendto(b"hello", (str(THREE), 848))
            peer.sendto(b"hello", (str(ONE), 848))
            assert (await _answer(peer))[1] == (str(ONE), 848)
            assert node.sockets.counters["not for us"] == 1
            node.sockets.set_local([THREE])
            peer.sendto(b"again", (str(THREE), 848))
            assert (await _answer(peer))[1] == (str(THREE), 848)
        node.sockets.close()

    asyncio.run(scene())


def test_multicast_comes_while_joined() -> None:
    async def scene() -> None:
        node = Node(ONE)
        with _peer() as peer:
            peer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, PEER.packed)
            for joined in (False, True, False):
                if joined:
                    node.sockets.join(GROUP, ONE)
                    node.sockets.join(GROUP, ONE)
                    node.sockets.leave(GROUP, ONE)
                peer.sendto(b"rekey", (str(GROUP), 848))
                peer.sendto(b"marker", (str(ONE), 848))
                await _answer(peer)
                node.sockets.leave(GROUP, ONE)
        rekeys = [item for item in node.received if item[0] == b"rekey"]
        assert rekeys == [(b"rekey", Endpoint(PEER, 4000), Endpoint(GROUP, 848))]
        node.sockets.close()

    asyncio.run(scene())


def test_multicast_comes_when_the_address_does_by_which_it_is_joined(namespace: str) -> None:
    late = IPv4Address("10.0.0.77")

    async def scene() -> None:
        node = Node(ONE)
        node.sockets.join(GROUP, late)
        subprocess.run(["ip", "-n", namespace, "address", "add", f"{late}/24", "dev", "lo"], check=True)
        node.sockets.join_again()
        node.sockets.join_again()
        assert await _hears_rekeys(node)
        node.sockets.close()

    asyncio.run(scene())


def test_groups_beyond_the_limit_of_the_kernel_are_said_once_and_joined_when_there_is_room() -> None:
    Path("/proc/sys/net/ipv4/igmp_max_memberships").write_text("1")
    other = IPv4Address("239.7.7.8")

    async def scene() -> None:
        node = Node(ONE)
        node.sockets.join(other, ONE)
        node.sockets.join(GROUP, ONE)
        node.sockets.join_again()
        node.sockets.join_refused()
        assert len(node.warnings) == 1
        assert "239.7.7.7 cannot be joined" in node.warnings[0]
        assert "net.ipv4.igmp_max_memberships" in node.warnings[0]
        node.sockets.leave(other, ONE)
        node.sockets.join_refused()
        assert await _hears_rekeys(node)
        assert len(node.warnings) == 1
        node.sockets.close()

    asyncio.run(scene())


def _make_anew(name: str, namespace: str, address: IPv4Address, mtu: int = 1500) -> None:
    """A pair of interfaces, `name` with the address and `name`-far, in place of the one that there was."""
    lines = [
        f"link add {name} mtu {mtu} type veth peer name {name}-far mtu {mtu}",
        f"address add {address}/24 dev {name}",
        f"link set {name} up",
        f"link set {name}-far up",
    ]
    subprocess.run(["ip", "-n", namespace, "link", "delete", name], check=False, capture_output=True)
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def test_an_interface_that_is_made_anew_many_times_leaks_no_membership(namespace: str) -> None:
    """The kernel has 20 for each socket, and counts those on interfaces that are gone."""
    address, other = IPv4Address("10.8.0.1"), IPv4Address("239.7.7.8")

    async def scene() -> None:
        node = Node(ONE)
        node.sockets.join(GROUP, ONE)
        node.sockets.join(GROUP, address)
        node.sockets.join(other, address)
        for _ in range(25):
            _make_anew("wan", namespace, address)
            node.sockets.join_again()
            node.sockets.join_again()
        assert node.warnings == []
        igmp = Path("/proc/thread-self/net/igmp").read_text(encoding="ascii")
        (wan,) = [part for part in re.split(r"\n(?=\d)", igmp) if re.match(r"\d+\s+wan ", part)]
        assert {"070707EF", "080707EF"} <= set(wan.split())
        assert await _hears_rekeys(node)
        node.sockets.close()

    asyncio.run(scene())


def test_as_many_groups_as_the_kernel_has_places_for_outlive_their_interface(namespace: str) -> None:
    Path("/proc/sys/net/ipv4/igmp_max_memberships").write_text("2")
    address, other = IPv4Address("10.8.0.1"), IPv4Address("239.7.7.8")

    async def scene() -> None:
        _make_anew("wan", namespace, address)
        node = Node(ONE)
        for group in (GROUP, other):
            node.sockets.join(group, address)
        _make_anew("wan", namespace, address)
        node.sockets.join_again()
        assert node.warnings == []
        node.sockets.close()

    asyncio.run(scene())


def _groups_of(device: str) -> set[str]:
    igmp = Path("/proc/thread-self/net/igmp").read_text(encoding="ascii")
    (part,) = [part for part in re.split(r"\n(?=\d)", igmp) if re.match(rf"\d+\s+{device} ", part)]
    return set(part.split())


@pytest.mark.parametrize("is_noticed", [False, True])
def test_an_interface_that_was_away_and_has_its_number_again_hears_rekeys(namespace: str, is_noticed: bool) -> None:
    """The kernel forgets what it has joined, and keeps for the socket that it has."""
    address, away = IPv4Address("10.8.0.1"), f"{namespace}a"
    subprocess.run(["ip", "netns", "add", away], check=True)

    async def scene() -> None:
        _make_anew("wan", namespace, address)
        number = socket.if_nametoindex("wan")
        node = Node(ONE)
        node.sockets.join(GROUP, address)
        assert "070707EF" in _groups_of("wan")
        subprocess.run(["ip", "-n", namespace, "link", "set", "wan", "netns", away], check=True)
        if is_noticed:
            node.sockets.join_again()
        subprocess.run(["ip", "-n", away, "link", "set", "wan", "netns", namespace], check=True)
        lines = [f"address add {address}/24 dev wan", "link set wan up"]
        subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), text=True, check=True)
        assert socket.if_nametoindex("wan") == number
        assert "070707EF" not in _groups_of("wan")
        node.sockets.join_again()
        assert "070707EF" in _groups_of("wan")
        assert node.warnings == []
        node.sockets.close()

    try:
        asyncio.run(scene())
    finally:
        subprocess.run(["ip", "netns", "delete", away], check=True)


def test_two_addresses_of_an_interface_join_a_group_until_both_leave(namespace: str) -> None:
    first, second = IPv4Address("10.8.0.1"), IPv4Address("10.8.0.2")
    _make_anew("wan", namespace, first)
    subprocess.run(["ip", "-n", namespace, "address", "add", f"{second}/24", "dev", "wan"], check=True)

    async def scene() -> None:
        node = Node(ONE)
        node.sockets.join(GROUP, first)
        node.sockets.join(GROUP, second)
        node.sockets.leave(GROUP, first)
        assert "070707EF" in _groups_of("wan")
        node.sockets.leave(GROUP, second)
        assert "070707EF" not in _groups_of("wan")
        node.sockets.close()

    asyncio.run(scene())


def test_an_interface_is_found_by_any_of_its_addresses(namespace: str) -> None:
    _make_anew("wan", namespace, IPv4Address("10.8.0.1"))
    lines = [*(f"address add 10.8.1.{number}/32 dev wan" for number in range(1, 101)), "address add 10.8.2.1/32 dev wan label wan:2"]
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), text=True, check=True)
    for address in ("10.8.0.1", "10.8.1.100", "10.8.2.1"):
        assert links.number_at(IPv4Address(address)) == socket.if_nametoindex("wan")
    assert links.number_at(IPv4Address("10.8.2.2")) is None


ETHERNET_HEADER, IP_HEADER, DONT_FRAGMENT, FRAGMENT_OFFSET = 14, 20, 0x4000, 0x1FFF
SO_RCVBUFFORCE = 33


@contextmanager
def _capture(device: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as capture:
        capture.bind((device, 0x0800))
        capture.settimeout(2)
        yield capture


def test_a_multicast_rekey_leaves_by_the_interface_of_its_source_whatever_the_routes_say(namespace: str) -> None:
    first, second = IPv4Address("10.8.0.1"), IPv4Address("10.9.0.1")
    _make_anew("wan", namespace, first)
    _make_anew("lan", namespace, second)
    subprocess.run(["ip", "-n", namespace, "route", "replace", "224.0.0.0/4", "dev", "lan"], check=True)
    subprocess.run(["ip", "-n", namespace, "route", "add", "default", "via", "10.9.0.2", "dev", "lan"], check=True)

    async def scene() -> None:
        node = Node(ONE)
        with _capture("wan-far") as capture:
            node.sockets.send(Send(b"rekey", Endpoint(first, 848), Endpoint(GROUP, 848)))
            frame = capture.recv(2000)
        assert frame.endswith(b"rekey")
        assert frame[ETHERNET_HEADER + 12 : ETHERNET_HEADER + IP_HEADER] == first.packed + GROUP.packed
        node.sockets.close()

    asyncio.run(scene())


def test_a_multicast_rekey_from_a_loopback_address_leaves_where_the_routes_lead(namespace: str) -> None:
    """Linux would keep it on the loopback interface, where nobody hears it."""
    loopback = IPv4Address("10.1.1.1")
    _make_anew("lan", namespace, IPv4Address("10.9.0.1"))
    _make_anew("wan", namespace, IPv4Address("10.8.0.1"))
    subprocess.run(["ip", "-n", namespace, "address", "add", f"{loopback}/32", "dev", "lo"], check=True)
    rekey = Send(b"rekey", Endpoint(loopback, 848), Endpoint(GROUP, 848))

    async def scene() -> None:
        node = Node(ONE)
        node.sockets.send(rekey)
        node.sockets.send(rekey)
        assert node.sockets.counters["send errors"] == 2
        (warning,) = node.warnings
        assert "no route leads to 239.7.7.7" in warning
        subprocess.run(["ip", "-n", namespace, "route", "delete", "224.0.0.0/4", "dev", "lo"], check=True)
        way = ["default", "via", "10.8.0.2", "dev", "wan", "src", str(loopback)]
        subprocess.run(["ip", "-n", namespace, "route", "add", *way], check=True)
        with _capture("wan-far") as capture:
            node.sockets.send(rekey)
            frame = capture.recv(2000)
        assert frame[ETHERNET_HEADER + 12 : ETHERNET_HEADER + IP_HEADER] == loopback.packed + GROUP.packed
        subprocess.run(["ip", "-n", namespace, "route", "add", f"{GROUP}/32", "dev", "lan"], check=True)
        with _capture("lan-far") as capture:
            node.sockets.send(rekey)
            assert capture.recv(2000).endswith(b"rekey")
        subprocess.run(["ip", "-n", namespace, "route", "flush", "dev", "lan"], check=True)
        subprocess.run(["ip", "-n", namespace, "route", "delete", "default"], check=True)
        node.sockets.send(rekey)
        assert len(node.warnings) == 2, "said again once one did"
        node.sockets.close()

    asyncio.run(scene())


def test_who_is_a_member_too_does_not_hear_its_own_rekeys(namespace: str) -> None:
    address = IPv4Address("10.8.0.1")
    _make_anew("wan", namespace, address)

    async def scene() -> None:
        node = Node(ONE)
        node.sockets.join(GROUP, address)
        node.sockets.send(Send(b"rekey", Endpoint(address, 848), Endpoint(GROUP, 848)))
        with _peer() as peer:
            peer.sendto(b"marker", (str(ONE), 848))
            await _answer(peer)
        assert [datagram for datagram, *_ in node.received] == [b"marker"]
        node.sockets.close()

    asyncio.run(scene())


@pytest.mark.parametrize("destination", [IPv4Address("10.8.0.9"), GROUP])
def test_a_datagram_may_be_cut_on_its_way(namespace: str, destination: IPv4Address) -> None:
    """A link behind the first one may be narrower, and a rekey is sent to many: no report of a router makes it smaller."""
    address = IPv4Address("10.8.0.1")
    _make_anew("wan", namespace, address)
    subprocess.run(
        ["ip", "-n", namespace, "neighbour", "add", "10.8.0.9", "lladdr", "02:00:00:00:00:09", "dev", "wan", "nud", "permanent"], check=True
    )

    async def scene() -> None:
        node = Node(ONE)
        with _capture("wan-far") as capture:
            node.sockets.send(Send(bytes(1450), Endpoint(address, 848), Endpoint(destination, 848)))
            frame = capture.recv(2000)
        assert len(frame) == ETHERNET_HEADER + IP_HEADER + 8 + 1450
        assert not int.from_bytes(frame[ETHERNET_HEADER + 6 : ETHERNET_HEADER + 8], "big") & DONT_FRAGMENT
        node.sockets.close()

    asyncio.run(scene())


def _make_narrow(namespace: str, address: IPv4Address, rate: str) -> None:
    """A link `wan` that takes so much in a second, and whose queue drops nothing."""
    _make_anew("wan", namespace, address)
    subprocess.run(["ip", "-n", namespace, "link", "set", "wan", "arp", "off"], check=True)
    subprocess.run(["ip", "-n", namespace, "route", "add", "10.8.0.0/16", "dev", "wan"], check=True)
    shape = f"tc -n {namespace} qdisc add dev wan root tbf rate {rate} burst 16kb latency 60s"
    subprocess.run(shape.split(), check=True)


def _rekey(octets: int, source: IPv4Address, member: IPv4Address) -> Send:
    return Send(bytes(octets), Endpoint(source, 848), Endpoint(member, 848), may_wait=True)


def _destinations(capture: socket.socket) -> Iterator[IPv4Address]:
    """Where the datagrams of a capture go; of one in fragments the first counts."""
    with suppress(BlockingIOError):
        while True:
            header = capture.recv(ETHERNET_HEADER + IP_HEADER)[ETHERNET_HEADER:]
            if not int.from_bytes(header[6:8], "big") & FRAGMENT_OFFSET:
                yield IPv4Address(header[16:20])


@pytest.mark.parametrize(("count", "octets"), [(50, 8000), (300, 8000), (50, 65507)])
def test_a_rekey_to_many_members_leaves_a_slow_link_whole_and_in_order(namespace: str, count: int, octets: int) -> None:
    address = IPv4Address("10.8.0.1")
    _make_narrow(namespace, address, "100mbit")
    members = [IPv4Address("10.8.100.1") + number for number in range(count)]
    left: list[IPv4Address] = []

    async def scene() -> None:
        node = Node(ONE)
        with _capture("wan-far") as capture:
            capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            capture.setblocking(False)
            for member in members:
                node.sockets.send(_rekey(octets, address, member))
            async with asyncio.timeout(20):
                while len(left) < count:
                    await asyncio.sleep(0.01)
                    left.extend(_destinations(capture))
        counters = node.sockets.counters
        assert (counters["sent"], counters["send errors"], counters["send queue overflows"]) == (count, 0, 0)
        assert not node.warnings
        node.sockets.close()

    asyncio.run(scene())
    assert left == members


def test_what_a_link_cannot_take_is_counted_and_said_once(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "LONGEST_QUEUE", 1 << 20)
    address = IPv4Address("10.8.0.1")
    _make_narrow(namespace, address, "1mbit")

    async def scene() -> None:
        node = Node(ONE)
        for _ in range(100):
            node.sockets.send(_rekey(60000, address, IPv4Address("10.8.0.9")))
        counters = node.sockets.counters
        lost = counters["send queue overflows"]
        assert lost == 100 - counters["sent"] - (1 << 20) // (60000 + departures.OVERHEAD)
        (warning,) = node.warnings
        assert warning == "more than 1048576 octets wait to be sent from UDP port 848; what comes now is lost"
        node.sockets.close()
        assert counters["sent"] + counters["send queue overflows"] == 100, "nothing waits behind the end"
        await asyncio.sleep(0.1)

    asyncio.run(scene())


@pytest.mark.parametrize("strangers", [0, 200_000])
def test_what_answers_strangers_keeps_no_rekey_from_leaving(namespace: str, strangers: int) -> None:
    """Anybody can have a key server answer, from as many addresses as it likes to make up."""
    address, member = IPv4Address("10.8.0.1"), IPv4Address("10.8.0.9")
    _make_narrow(namespace, address, "1mbit")
    left: list[IPv4Address] = []

    async def scene() -> None:
        node = Node(ONE)
        answers = [Send(bytes(84), Endpoint(address, 848), Endpoint(IPv4Address("10.8.100.1") + n % 5000, 848)) for n in range(strangers)]
        with _capture("wan-far") as capture:
            capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            capture.setblocking(False)
            for answer in answers:
                node.sockets.send(answer)
            node.sockets.send(_rekey(8000, address, member))
            async with asyncio.timeout(departures.LONGEST_WAIT):
                while member not in left:
                    for answer in answers[:100]:
                        node.sockets.send(answer)
                    await asyncio.sleep(0.01)
                    left.extend(_destinations(capture))
        counters = node.sockets.counters
        assert counters["send errors"] == 0
        if strangers:
            assert counters["send queue overflows"] > 0.9 * strangers
        assert not node.warnings
        node.sockets.close()

    asyncio.run(scene())


class _Link:
    """What takes datagrams while `failures` is empty, and else raises what stands first in it; `is_full` says whether it has no room."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.counted: list[str] = []
        self.told: list[str] = []
        self.bugs: list[str] = []
        self.is_full = False
        self.failures: list[Exception] = []
        self._opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.departures = departures.Departures(
            self._opened, self._transmit, self.counted.append, self.told.append, lambda what, error: self.bugs.append(f"{what}: {error}")
        )

    def __enter__(self) -> "_Link":
        return self

    def __exit__(self, *_: object) -> None:
        self.departures.close()
        self._opened.close()

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.departures.send(Send(datagram, Endpoint(ONE, 848), Endpoint(PEER, 848), may_wait=True))

    def _transmit(self, send: Send) -> None:
        if self.is_full:
            raise OSError(errno.ENOBUFS, "no")
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(send.datagram)


def test_a_socket_that_only_wants_memory_is_tried_again_in_order() -> None:
    """ENOBUFS leaves a socket writable, so that no event ends it."""

    async def scene() -> None:
        with _Link() as link:
            link.failures = [OSError(code, "no") for code in (errno.ENOBUFS, errno.ENOBUFS, errno.ENETUNREACH)]
            link.send(b"1", b"2", b"3")
            assert not link.sent
            await asyncio.sleep(4 * departures.REST)
            assert link.sent == [b"2", b"3"]
            assert link.counted == ["send errors", "sent", "sent"]
            assert not link.told

    asyncio.run(scene())


@pytest.mark.parametrize("waits", [False, True])
def test_a_bug_in_sending_costs_the_datagram_that_met_it(waits: bool) -> None:
    async def scene() -> None:
        with _Link() as link:
            link.is_full = waits
            if waits:
                link.send(b"0")
            link.is_full, link.failures = False, [ValueError("what is this?")]
            link.send(b"1", b"2")
            await asyncio.sleep(4 * departures.REST)
            link.send(b"3")
            assert link.sent == ([b"1", b"2", b"3"] if waits else [b"2", b"3"])
            assert link.counted == ["send errors", *["sent"] * len(link.sent)]
            assert link.bugs == ["sending: what is this?"]

    asyncio.run(scene())


def test_what_has_waited_too_long_makes_room_for_its_retransmission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lifetimes and pseudotime in it are those of the moment at which it was made."""
    monkeypatch.setattr(departures, "LONGEST_WAIT", 0.5)

    async def scene() -> None:
        with _Link() as link:
            link.is_full = True
            link.send(b"1", b"2")
            await asyncio.sleep(0.7)
            link.send(b"1 again")
            assert link.counted == ["send queue overflows"] * 2
            link.is_full = False
            await asyncio.sleep(2 * departures.REST)
            assert link.sent == [b"1 again"]
            assert link.told == ["datagrams wait for more than 0.5 seconds to be sent from UDP port 848; those are lost"]
            link.is_full = True
            link.send(b"3")
            await asyncio.sleep(0.15)
            link.is_full = False
            await asyncio.sleep(2 * departures.REST)
            assert link.sent == [b"1 again", b"3"]
            link.is_full = True
            link.send(b"4")
            await asyncio.sleep(0.7 + departures.REST)
            link.is_full = False
            assert link.counted[4:] == ["send queue overflows"], "also where nothing follows"
            assert len(link.told) == 2, "said again, for none did wait meanwhile"

    asyncio.run(scene())


def test_short_datagrams_count_with_the_memory_that_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "LONGEST_QUEUE", 1 << 20)

    async def scene() -> None:
        with _Link() as link:
            link.is_full = True
            link.send(*[bytes(28)] * 5000)
            assert link.counted.count("send queue overflows") == 5000 - (1 << 20) // (28 + departures.OVERHEAD)
            assert len(link.told) == 1

    asyncio.run(scene())


def test_what_has_waited_leaves_the_loop_time_for_other_work() -> None:
    async def scene() -> None:
        with _Link() as link:
            link.is_full = True
            link.send(*[b"1"] * (4 * departures.MOST_AT_ONCE))
            link.is_full = False
            seen = set()
            async with asyncio.timeout(5):
                while len(link.sent) < 4 * departures.MOST_AT_ONCE:
                    await asyncio.sleep(0)
                    seen.add(len(link.sent))
            assert seen >= {departures.MOST_AT_ONCE * number for number in range(4)}

    asyncio.run(scene())


class _Troubled:
    """A socket that reports an error before it gives a datagram."""

    def __init__(self) -> None:
        packet_information = struct.pack("@i4s4s", 1, ONE.packed, ONE.packed)
        ancillary = [(socket.IPPROTO_IP, 8, packet_information)]
        self.results: list[object] = [OSError(errno.EHOSTUNREACH, "No route to host"), (b"hello", ancillary, 0, (str(PEER), 4000))]

    def fileno(self) -> int:
        return 0

    def recvmsg(self, *_: int) -> object:
        result = self.results.pop(0) if self.results else BlockingIOError()
        if isinstance(result, Exception):
            raise result
        return result


def test_an_error_of_the_socket_keeps_no_datagram_behind_it() -> None:
    received: list[bytes] = []
    sockets = DatagramSockets(lambda datagram, source, destination: received.append(datagram), pytest.fail, pytest.fail, pytest.fail)
    sockets.set_local([ONE])
    sockets._sockets[848] = _Troubled()  # type: ignore[assignment]
    sockets._readable(848)
    assert received == [b"hello"]


def test_a_flood_does_not_keep_the_loop_from_other_work() -> None:
    async def scene() -> None:
        node = Node(ONE)
        with _peer() as peer:
            for _ in range(2 * READS_PER_WAKE):
                peer.sendto(b"flood", (str(ONE), 848))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert 0 < len(node.received) <= READS_PER_WAKE
        node.sockets.close()

    asyncio.run(scene())


def test_an_unreachable_peer_is_counted() -> None:
    async def scene() -> None:
        node = Node(ONE)
        node.sockets.send(Send(b"x", Endpoint(ONE, 848), Endpoint(IPv4Address("192.0.2.1"), 848)))
        node.sockets.send(Send(b"x", Endpoint(ONE, 1234), Endpoint(PEER, 848)))
        assert node.sockets.counters["send errors"] == 2
        node.sockets.close()

    asyncio.run(scene())


def test_a_port_that_is_taken_is_named_and_nothing_stays_open() -> None:
    async def scene() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", 848))
            with pytest.raises(PortUnavailableError, match="UDP port 848"):
                Node(ONE)
        Node(ONE).sockets.close()

    asyncio.run(scene())


def test_what_to_do_about_a_port_depends_on_why_it_cannot_be_had() -> None:
    assert "CAP_NET_BIND_SERVICE" in str(PortUnavailableError(500, PermissionError(errno.EACCES, "Permission denied")))
    assert "ss -ulpn sport = 500" in str(PortUnavailableError(500, OSError(errno.EADDRINUSE, "Address already in use")))
