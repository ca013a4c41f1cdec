"""One end of a conversation, run as a program in the guest or beside it; only what python3-minimal has is used.

    endpoint.py receive PORT COUNT SECONDS [GROUP INTERFACE]
    endpoint.py send ADDRESS PORT SIZE COUNT [SEGMENTS]
    endpoint.py sctp-receive PORT SIZE
    endpoint.py sctp-send ADDRESS PORT SIZE

Datagrams hold their number and bytes made from it. `receive` says "ready", takes COUNT of them or what comes within
SECONDS, and says in JSON how many came whole and how many didn't. With GROUP it joins that. With SEGMENTS, `send` hands
so many datagrams to the kernel as one (UDP_SEGMENT), which the card is to cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import sys
import time

SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103
IPPROTO_SCTP = 132
_BURST_BYTES = 1 << 15
_PAUSE = 0.002  # seconds: nobody has to buffer more than a burst


def datagram(number: int, size: int) -> bytes:
    head = number.to_bytes(8, "big")
    return head + hashlib.shake_128(head).digest(size - len(head))


def receive(port: int, count: int, seconds: float, group: str = "", interface: str = "") -> dict[str, int]:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        sock.bind(("::", port))
        if ":" in group:
            index = socket.if_nametoindex(interface)
            request = struct.pack("16sI", socket.inet_pton(socket.AF_INET6, group), index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        elif group:
            request = struct.pack("4s4si", socket.inet_aton(group), bytes(4), socket.if_nametoindex(interface))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        print("ready", flush=True)
        taken: list[bytes] = []
        deadline = time.monotonic() + seconds
        while len(taken) < count and (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                taken.append(sock.recv(65536))
            except TimeoutError:
                break
    # Only now: nothing is to overflow meanwhile.
    whole = {data for data in taken if len(data) >= 8 and data == datagram(int.from_bytes(data[:8], "big"), len(data))}
    return {"whole": len(whole), "bad": len(taken) - len(whole)}


def send(address: str, port: int, size: int, count: int, segments: int = 1) -> None:
    family, _, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if segments > 1:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        sent = 0
        for first in range(0, count, segments):
            data = b"".join(datagram(number, size) for number in range(first, min(first + segments, count)))
            sock.sendto(data, target)
            sent += len(data)
            if sent >= _BURST_BYTES:
                sent = 0
                time.sleep(_PAUSE)


def sctp_receive(port: int, size: int) -> dict[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP) as sock:
        sock.bind(("0.0.0.0", port))
        sock.listen(1)
        print("ready", flush=True)
        sock.settimeout(20)
        connection, _ = sock.accept()
        with connection:
            data = b""
            while len(data) < size and (piece := connection.recv(65536)):
                data += piece
    return {"whole": int(data == datagram(0, size))}


def sctp_send(address: str, port: int, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP) as sock:
        sock.settimeout(20)
        sock.connect((address, port))
        data = datagram(0, size)
        for at in range(0, size, 8192):
            sock.send(data[at : at + 8192])


def main(verb: str, *words: str) -> None:
    if verb == "receive":
        port, count, seconds, *rest = words
        print(json.dumps(receive(int(port), int(count), float(seconds), *rest)))
    elif verb == "send":
        address, *numbers = words
        send(address, *map(int, numbers))
    elif verb == "sctp-receive":
        print(json.dumps(sctp_receive(*map(int, words))))
    else:
        address, *numbers = words
        sctp_send(address, *map(int, numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
