"""What the card's packet functions cost, in microseconds a call: `python tests/bench/bench_packet.py`."""

from __future__ import annotations

import os
import struct
import timeit
from collections.abc import Callable

import numpy as np

from igb_device.checksum import crc32c, finish, sum16
from igb_device.filters import ReceiveFilter
from igb_device.parse import parse, verify
from igb_device.segmentation import cut, to_offload, tso
from igb_device.steering import Steering, toeplitz_batch
from igb_device.wire.base import DATA_VALID, GSO_TCPV4, NEEDS_CSUM, NO_OFFLOAD, Offload

LINUX_MRQC = 2 | 0x00370000  # RSS over what igb enables


def tcp4(payload: int, tag: bytes = b"") -> bytearray:
    """A TCP frame whose checksums are right."""
    ethernet = bytes(12) + tag + b"\x08\x00"
    addresses = bytes((10, 0, 0, 1, 10, 0, 0, 2))
    total = 52 + payload
    ip = struct.pack(">BBHHHBBH", 0x45, 0, total & 0xFFFF, 1, 0x4000, 64, 6, 0) + addresses
    ip = ip[:10] + (0xFFFF - sum16(ip)).to_bytes(2, "big") + ip[12:]
    pseudo = sum16(addresses + struct.pack(">HH", 6, 32 + payload))
    tcp = struct.pack(">HHIIHHHH12x", 1000, 2000, 1, 1, 0x8018, 500, pseudo, 0)
    frame = bytearray(ethernet + ip + tcp + os.urandom(payload))
    finish(frame, len(ethernet) + 20, 16)
    return frame


def measure(name: str, call: Callable[[], object]) -> None:
    timer = timeit.Timer(call)
    count, seconds = timer.autorange()
    best = min([seconds, *timer.repeat(3, count)]) / count
    print(f"{name:48} {best * 1e6:9.2f} us")


def main() -> None:
    frame = memoryview(tcp4(1448))
    tagged = memoryview(tcp4(1448, b"\x81\x00\x00\x05"))
    big = memoryview(tcp4(65483 - 12))
    p, p_big = parse(frame), parse(big)
    good = Offload(flags=DATA_VALID)
    gso = Offload(NEEDS_CSUM, GSO_TCPV4, 66, 1448, 34, 16)
    payload = bytes(frame[54:])

    measure("parse, TCP over IPv4", lambda: parse(frame))
    measure("parse, the same with a VLAN tag", lambda: parse(tagged))
    measure("verify, every byte summed (1448 B)", lambda: verify(frame, p, NO_OFFLOAD))
    measure("verify, known good", lambda: verify(frame, p, good))
    measure("sum16, 20 B", lambda: sum16(frame, 14, 34))
    measure("sum16, 1460 B", lambda: sum16(payload))
    measure("sum16, 64 KiB", lambda: sum16(big))
    measure("crc32c, 1460 B", lambda: crc32c(payload))

    steering = Steering()
    steering.update(LINUX_MRQC, bytes(i & 7 for i in range(128)), bytes(range(40)))
    flows = [memoryview(bytearray(frame)) for _ in range(8192)]
    for i, flow in enumerate(flows):
        flow[34:36] = i.to_bytes(2, "big")
    parsed = [parse(flow) for flow in flows]
    new_flows = iter(range(1 << 62))
    measure("steering, flow seen before", lambda: steering.queue(p, frame))
    measure("steering, new flow", lambda: steering.queue(parsed[next(new_flows) & 8191], frame))
    rows = np.random.default_rng(1).integers(0, 256, (64, 12), np.uint8)
    measure("toeplitz_batch, 64 flows", lambda: toeplitz_batch(bytes(range(40)), rows))

    filters = ReceiveFilter()
    filters.update(1 << 15, [(0, 1 << 31)], [0] * 128, [0] * 128)
    measure("filter, exact address", lambda: filters.verdict(frame, -1))

    measure(f"cut, 64 KiB into {len(cut(big, gso))}", lambda: cut(big, gso))
    measure("the same and going through the segments", lambda: list(cut(big, gso)))
    measure("verify, 64 KiB NEEDS_CSUM", lambda: verify(big, p_big, gso))
    header, rest = bytes(big[:66]), bytes(big[66:])
    context = {"maclen": 14, "iplen": 20, "l4len": 32, "mss": 1448, "tcp": True, "ipv4": True, "ixsm": True}
    measure("tso, 64 KiB", lambda: tso(header, rest, txsm=True, **context))  # type: ignore[arg-type]
    measure("to_offload", lambda: to_offload(header, len(big), **context))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
