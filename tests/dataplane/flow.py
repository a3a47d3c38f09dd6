"""One flow at full rate, run as a program: its sender is in one network namespace, its receiver in another, its window outside of both.

    python flow.py SENDER_NAMESPACE SOURCE RECEIVER_NAMESPACE DESTINATION PORT

It sends numbered datagrams until its standard input ends, never more than WINDOW ahead of what has arrived, so that no queue on the way
overruns. The first one goes alone: packets that wait for a neighbour's address to be found are sent while later ones may pass them, by any
Linux router. Then it prints a JSON object: how many were `sent`, how many `lost`, and how many came after a later one (`late`).
"""

import ctypes
import json
import os
import select
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
WINDOW = 96
BURST = 32
PATIENCE = 0.5
"""Seconds without any datagram after which those under way are given up."""
NUMBER = struct.Struct("!Q")
PADDING = bytes(192)


def endpoint(namespace: str, address: str, port: int) -> socket.socket:
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    os.close(descriptor)
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    return made


def main(sender_namespace: str, source: str, receiver_namespace: str, destination: str, port: int) -> dict[str, int]:
    sender = endpoint(sender_namespace, source, 0)
    receiver = endpoint(receiver_namespace, destination, port)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    receiver.setblocking(False)
    sender.sendto(NUMBER.pack(0) + PADDING, (destination, port))
    sent = 1
    expected = lost = late = 0
    is_stopping = False
    while not is_stopping or expected < sent:
        while not is_stopping and expected and sent - expected <= WINDOW - BURST:
            for number in range(sent, sent + BURST):
                sender.sendto(NUMBER.pack(number) + PADDING, (destination, port))
            sent += BURST
        ready, _, _ = select.select([receiver, *([] if is_stopping else [sys.stdin])], [], [], PATIENCE)
        is_stopping = is_stopping or sys.stdin in ready
        if not ready:
            lost += sent - expected
            expected = sent
        while receiver in ready:
            try:
                (number,) = NUMBER.unpack_from(receiver.recv(2048))
            except BlockingIOError:
                break
            if number < expected:
                late += 1
            else:
                lost += number - expected
                expected = number + 1
    return {"sent": sent, "lost": lost, "late": late}


if __name__ == "__main__":
    sender_namespace, source, receiver_namespace, destination, port = sys.argv[1:]
    print(json.dumps(main(sender_namespace, source, receiver_namespace, destination, int(port))))
