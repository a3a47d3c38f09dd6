"""BPF programs at the hooks of an interface: filters of tc's qdisc `clsact`, through rtnetlink (rtnetlink(7), tc-bpf(8)).

Such a filter belongs to the interface by number, so that a rename changes nothing, and it stays when the process that made it ends, even
by SIGKILL; a tcx link does not. The program `tc` cannot take a descriptor, and a netlink library would cost 150 ms of start-up.

The calls act in the network namespace of the calling thread and take less than a millisecond. While clsact is made or removed, an
interface that is up sends nothing and loses what waits in its queue (`qdisc_graft` in Linux); to replace a program loses nothing.
"""

import contextlib
import errno
import itertools
import os
import socket
import struct
import sys
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from groupvpn.dataplane import links
from groupvpn.dataplane.netlink import RECEIVE_SIZE, Message, attribute, attributes, messages, text

OWN = "groupvpn_"
"""How the names of our filters begin. What is named otherwise is somebody else's: it is neither replaced nor removed."""
PREFERENCE = 1
"""Lower than this there is none: our filter comes first."""
HANDLE = 1
SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK = 10, 11
NLMSG_ERROR, NLMSG_DONE, NLMSGERR_ATTR_MSG = 2, 3, 1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
RTM_NEWQDISC, RTM_DELQDISC = 36, 37
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
TC_H_CLSACT, CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
TCA_KIND, TCA_OPTIONS, TCA_CHAIN = 1, 2, 11
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_ID = 6, 7, 8, 11
TCA_BPF_FLAG_ACT_DIRECT = 1
TCA_U32_ACT, TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_MIRRED_PARMS = 7, 1, 2, 2
MIRRED_TARGET = 24
"""Where `struct tc_mirred` has the number of the interface."""
ETH_P_ALL = 3
MAX_ERRNO = 4095
ANSWER_SECONDS = 5.0
_sequences = itertools.count(1)


class Hook(Enum):
    """Where packets meet the program. The value is what the kernel calls the parent of such filters."""

    EGRESS = 0xFFFFFFF3
    INGRESS = 0xFFFFFFF2


class FilterError(OSError):
    """A filter cannot be made, replaced, read or removed. `errno` is None if it was not the kernel that refused."""

    def __init__(self, index: int, hook: Hook, problem: str, code: int | None = None) -> None:
        super().__init__(f"interface number {index}, {hook.name.lower()}: {problem}")
        self.index = index
        self.hook = hook
        self.problem = problem
        self.errno = code


@dataclass(frozen=True, slots=True)
class Attached:
    """Our filter at a hook: its name, and the kernel's number of its program."""

    name: str
    program: int


class Filter(NamedTuple):
    """Any filter, as the kernel tells of it. Its handle is 0 in the message that begins a list of filters of one preference.

    `target` is the number of the interface to which a u32 filter redirects; 0 if it does not, or if that is gone, which the kernel has the
    filter forget for ever.
    """

    chain: int
    preference: int
    handle: int
    kind: str
    name: str
    program: int
    target: int = 0


def attach(index: int, hook: Hook, program: int, name: str) -> None:
    """Let `program` (the descriptor of a BPF_PROG_TYPE_SCHED_CLS) decide on every packet at `hook`, before all other filters of clsact.

    A program that was attached before is replaced in one step: every packet meets one of the two. `name` begins with `OWN`. Raises
    `FilterError`, also if a qdisc or a filter of somebody else has the place.
    """
    if not name.startswith(OWN):
        raise ValueError(f"the name of a filter begins with {OWN}, {name!r} does not")
    try:
        _change_qdisc(index, hook, RTM_NEWQDISC, NLM_F_CREATE)  # which changes nothing if it is there
    except FilterError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _in_the_way(index, hook, "the qdisc ingress has the place of clsact", "qdisc del dev {} ingress") from error
    place = [there for there in filters(index, hook) if (there.chain, there.preference) == (0, PREFERENCE)]
    for there in place:
        if there.kind != "bpf" or (there.handle and not there.name.startswith(OWN)):
            what = f"a filter of somebody else ({there.kind} {there.name}".rstrip() + f") has preference {PREFERENCE}"
            which = f" handle {there.handle:#x} bpf" if there.kind == "bpf" else ""  # ours may stand beside it
            raise _in_the_way(index, hook, what, f"filter del dev {{}} {hook.name.lower()} pref {PREFERENCE}{which}")
    ours = any(there.handle == HANDLE for there in place)
    options = (
        attribute(TCA_BPF_FD, struct.pack("=I", program))
        + attribute(TCA_BPF_NAME, name.encode() + b"\0")
        + attribute(TCA_BPF_FLAGS, struct.pack("=I", TCA_BPF_FLAG_ACT_DIRECT))
    )
    _change_filter(index, hook, RTM_NEWTFILTER, NLM_F_CREATE | (NLM_F_REPLACE if ours else NLM_F_EXCL), attribute(TCA_OPTIONS, options))


def attached(index: int, hook: Hook) -> Attached | None:
    """Our filter at `hook` as it is now; None if there is none, or no clsact, or no such interface."""
    for there in filters(index, hook):
        if there[:4] == (0, PREFERENCE, HANDLE, "bpf") and there.name.startswith(OWN):
            return Attached(there.name, there.program)
    return None


def is_shared(index: int, hook: Hook) -> bool:
    """Whether somebody else has a filter at `hook` too."""
    return any(there.handle and not there.name.startswith(OWN) for there in filters(index, hook))


def filters(index: int, hook: Hook) -> list[Filter]:
    """All filters at `hook`; none if there is no such interface, for the kernel says so to who asks for a list."""
    return [filter_of(payload) for payload in _exchange(index, hook, RTM_GETTFILTER, NLM_F_DUMP, 0, 0)]


def detach(index: int) -> None:
    """Remove our filters from both hooks, and then clsact, unless a filter of somebody else is left; raises `FilterError` if one stays.

    That the interface, the qdisc or a filter is gone is no error. A clsact in which we have no filter is not touched.
    """
    ours = [hook for hook in Hook if attached(index, hook) is not None]
    for hook in ours:
        try:
            _change_filter(index, hook, RTM_DELTFILTER, 0)
        except FilterError:
            if attached(index, hook) is not None:
                raise
    with contextlib.suppress(FilterError):  # it is gone, or somebody adds a filter just now
        if ours and not any(filters(index, hook) for hook in Hook):
            _change_qdisc(index, ours[0], RTM_DELQDISC, 0)


def verdict(answer: Message) -> tuple[int, str]:
    """What an NLMSG_ERROR or NLMSG_DONE says: an errno (0 for success) and its meaning, with the kernel's own words if it has any."""
    payload = answer.payload
    code = min(abs(int.from_bytes(payload[:4], sys.byteorder, signed=True)), MAX_ERRNO) if len(payload) >= 4 else errno.EBADMSG
    words = text(attributes(payload[20 if answer.kind == NLMSG_ERROR else 4 :]).get(NLMSGERR_ATTR_MSG, b""))
    return code, f"{os.strerror(code)} ({words})" if words else os.strerror(code)


def filter_of(payload: bytes) -> Filter:
    """What an RTM_NEWTFILTER holds: `tcmsg` (20 octets: family, interface, handle, parent, preference and protocol) and attributes."""
    handle, _, information = struct.unpack("=III", payload[8:20].ljust(12, b"\0"))
    found = attributes(payload[20:])
    kind = text(found.get(TCA_KIND, b""))
    options = attributes(found.get(TCA_OPTIONS, b"")) if kind in ("bpf", "u32") else {}
    target = _target(options) if kind == "u32" else 0
    ours = options if kind == "bpf" else {}
    name, program = text(ours.get(TCA_BPF_NAME, b"")), _number(ours.get(TCA_BPF_ID, b""))
    return Filter(_number(found.get(TCA_CHAIN, b"")), information >> 16, handle, kind, name, program, target)


def _target(options: dict[int, bytes]) -> int:
    """Where the mirred action of a u32 filter leads; actions are attributes numbered from 1."""
    for action in attributes(options.get(TCA_U32_ACT, b"")).values():
        there = attributes(action)
        if text(there.get(TCA_ACT_KIND, b"")) == "mirred":
            parameters = attributes(there.get(TCA_ACT_OPTIONS, b"")).get(TCA_MIRRED_PARMS, b"")
            return _number(parameters[MIRRED_TARGET:])
    return 0


def _change_filter(index: int, hook: Hook, request: int, flags: int, options: bytes = b"") -> None:
    information = PREFERENCE << 16 | socket.htons(ETH_P_ALL)
    _exchange(index, hook, request, NLM_F_ACK | flags, HANDLE, information, attribute(TCA_KIND, b"bpf\0") + options)


def _change_qdisc(index: int, hook: Hook, request: int, flags: int) -> None:
    """Make or remove clsact; the kernel says EINVAL if the qdisc in its place is another, which can only be `ingress`."""
    _exchange(index, hook, request, NLM_F_ACK | flags, CLSACT_HANDLE, 0, attribute(TCA_KIND, b"clsact\0"))


def _exchange(index: int, hook: Hook, request: int, flags: int, handle: int, information: int, more: bytes = b"") -> list[bytes]:
    """Ask the kernel for one thing; returns what its messages hold, and raises `FilterError` if it says no, or nothing in time."""
    sequence = next(_sequences) & 0xFFFFFFFF
    parent = TC_H_CLSACT if request in (RTM_NEWQDISC, RTM_DELQDISC) else hook.value
    body = struct.pack("=B3xiIII", socket.AF_UNSPEC, index, handle, parent, information) + more
    payloads = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as control:
            control.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)  # an error holds the header of the request and no more of it
            control.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            control.settimeout(ANSWER_SECONDS)
            control.send(struct.pack("=IHHII", 16 + len(body), request, NLM_F_REQUEST | flags, sequence, 0) + body)
            for answer in itertools.chain.from_iterable(map(messages, map(control.recv, itertools.repeat(RECEIVE_SIZE)))):
                if answer.sequence == sequence and answer.kind in (NLMSG_ERROR, NLMSG_DONE):
                    break
                if answer.sequence == sequence:
                    payloads.append(answer.payload)
    except OSError as error:
        raise FilterError(index, hook, f"netlink: {error.strerror or error}", error.errno) from error
    code, problem = verdict(answer)
    if code:
        raise FilterError(index, hook, problem, code)
    return payloads


def _in_the_way(index: int, hook: Hook, what: str, command: str) -> FilterError:
    remedy = f"remove it (tc {command.format(links.name(index) or index)}) and add to clsact, with a higher preference, what you need of it"
    return FilterError(index, hook, f"{what}: {remedy}")


def _number(value: bytes) -> int:
    return int.from_bytes(value[:4], sys.byteorder)
