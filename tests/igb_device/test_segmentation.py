"""Segmentation against the kernel's own (a GSO frame sent through a TAP that takes none) and, segment by segment,
against scapy."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from igb_device.segmentation import Segments, cut, to_offload, tso
from igb_device.wire.base import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Offload,
)

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
IP4 = IP(src="10.1.2.3", dst="10.9.8.7", id=0xFFFE, flags="DF", tos=2)
IP6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
TCP_OPTIONS = [("NOP", None), ("NOP", None), ("Timestamp", (123456, 7890))]
TCPS = TCP(sport=0x1234, dport=0x5678, seq=0xFFFFF000, ack=77, flags="PAFC", options=TCP_OPTIONS, window=500)
UDPS = UDP(sport=0x1234, dport=0x5678)
RNG = random.Random(1)

VNET_HDR = struct.Struct("=BBHHHH")


def words(data: bytes) -> int:
    """The folded one's complement sum, the long way."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Big:
    """A big frame in the two forms there are: NEEDS_CSUM with a gso_type, and as a driver hands it to the card."""

    def __init__(self, packet: Packet, payload: int | bytes, mss: int) -> None:
        self.payload = payload if isinstance(payload, bytes) else RNG.randbytes(payload)
        whole = bytearray(bytes(packet / Raw(self.payload)))
        self.mss = mss
        self.tcp = TCP in packet
        self.ipv4 = IP in packet
        self.maclen = 18 if Dot1Q in packet else 14
        self.size = len(whole) - len(self.payload)
        self.l4len = (20 + 12 if packet[TCP].options else 20) if self.tcp else 8
        self.l4 = self.size - self.l4len
        self.iplen = self.l4 - self.maclen
        proto = 6 if self.tcp else 17
        addresses = (
            whole[self.maclen + 12 : self.maclen + 20] if self.ipv4 else whole[self.maclen + 8 : self.maclen + 40]
        )
        without_length = words(bytes(addresses) + bytes((0, proto)))
        length = len(whole) - self.l4
        field = self.l4 + (16 if self.tcp else 6)
        whole[field : field + 2] = words(without_length.to_bytes(2, "big") + length.to_bytes(4, "big")).to_bytes(
            2, "big"
        )
        kind = (GSO_TCPV4 if self.ipv4 else GSO_TCPV6) if self.tcp else GSO_UDP_L4
        if self.tcp and "C" in packet[TCP].flags:
            kind |= GSO_ECN
        self.offload = Offload(NEEDS_CSUM, kind, self.size, mss, self.l4, 16 if self.tcp else 6)
        self.frame = bytes(whole)
        # As igb_tso leaves it: no IP length, the complement of nothing as IPv4 checksum, a pseudo sum without length.
        if self.ipv4:
            whole[self.maclen + 2 : self.maclen + 4] = b"\0\0"
            whole[self.maclen + 10 : self.maclen + 12] = b"\xff\xff"
        else:
            whole[self.maclen + 4 : self.maclen + 6] = b"\0\0"
        whole[field : field + 2] = without_length.to_bytes(2, "big")
        self.driver_header = bytes(whole[: self.size])
        self.context: dict[str, Any] = {
            "maclen": self.maclen,
            "iplen": self.iplen,
            "l4len": self.l4len,
            "mss": mss,
            "tcp": self.tcp,
            "ipv4": self.ipv4,
            "ixsm": self.ipv4,
        }

    def cut(self) -> Segments:
        return cut(memoryview(bytearray(self.frame)), self.offload)

    def tso(self) -> Segments:
        return tso(self.driver_header, self.payload, **self.context, txsm=True)


CASES = {
    "tcp4": Big(ETHER / IP4 / TCPS, 20000, 1448),
    "tcp4 one odd byte left": Big(ETHER / IP4 / TCPS, 1448 * 4 + 1, 1448),
    "tcp4 nothing left": Big(ETHER / IP4 / TCPS, 1448 * 4, 1448),
    "tcp4 odd mss": Big(ETHER / IP4 / TCPS, 12345, 999),
    "tcp4 mss of 2 mod 4": Big(ETHER / IP4 / TCPS, 12345, 1002),
    "tcp4 ip options": Big(
        ETHER / IP(src="10.1.2.3", dst="10.9.8.7", id=5, options=IPOption_Router_Alert()) / TCPS, 5000, 1444
    ),
    "tcp4 64 KiB": Big(ETHER / IP4 / TCPS, 65483 - 12, 1448),
    "tcp6": Big(ETHER / IP6 / TCPS, 20001, 1428),
    "tcp6 hop-by-hop": Big(ETHER / IP6 / IPv6ExtHdrHopByHop() / TCPS, 8001, 1400),
    "uso4": Big(ETHER / IP4 / UDPS, 10007, 1472),
    "uso4 odd": Big(ETHER / IP4 / UDPS, 10007, 1001),
    "uso6": Big(ETHER / IP6 / UDPS, 10007, 1452),
}


class KernelCutter:
    """A TAP without any offload, in a network namespace of its own that goes when its descriptors do."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        # A network namespace is a thread's, so a thread makes the descriptors and this process stays where it is.
        thread = threading.Thread(target=self._open)
        thread.start()
        thread.join()
        if self.error:
            raise self.error

    def _open(self) -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(0x40000000):  # CLONE_NEWNET
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.tap, 0x400454CA, struct.pack("16sH22x", b"cut0", 0x0002 | 0x1000))  # IFF_TAP | IFF_NO_PI
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.socket.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
            fcntl.ioctl(self.socket, 0x8914, struct.pack("16sH22x", b"cut0", 0x1))  # SIOCSIFFLAGS, IFF_UP
            self.socket.bind(("cut0", 0))
        except OSError as error:
            self.error = error

    def cut(self, frame: bytes, offload: Offload, count: int) -> list[bytes]:
        """The first `count` frames out of the TAP that are of the frame's sender."""
        self.socket.send(VNET_HDR.pack(*offload) + frame)
        segments: list[bytes] = []
        deadline = time.monotonic() + 10
        while len(segments) < count:
            if not select.select([self.tap], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            segment = os.read(self.tap, 70000)
            if segment[6:12] == frame[6:12]:
                segments.append(segment)
        return segments

    def close(self) -> None:
        self.socket.close()
        os.close(self.tap)


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelCutter]:
    try:
        cutter = KernelCutter()
    except OSError as error:
        pytest.skip(f"no network namespace with a TAP: {error}")
    yield cutter
    cutter.close()


@pytest.mark.netns
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_cuts_the_same(kernel: KernelCutter, name: str) -> None:
    big = CASES[name]
    mine = big.cut()
    expected = kernel.cut(big.frame, big.offload, len(mine))
    assert len(expected) == len(mine) == -(-len(big.payload) // big.mss)
    assert mine.frames() == expected


@pytest.mark.netns
@pytest.mark.parametrize("name", [name for name in CASES if "hop-by-hop" not in name])
def test_the_kernel_cuts_what_a_wire_gets_whole(kernel: KernelCutter, name: str) -> None:
    big = CASES[name]
    whole = to_offload(big.driver_header, len(big.frame), **big.context)
    assert whole is not None
    header, offload = whole
    mine = big.tso()
    assert mine.frames() == kernel.cut(header + big.payload, offload, len(mine))


@pytest.mark.parametrize("name", CASES)
def test_a_driver_s_segments_are_those_of_the_whole_frame(name: str) -> None:
    big = CASES[name]
    assert big.tso().frames() == big.cut().frames()


def _recomputed(frame: bytes) -> bytes:
    """The frame with every length and checksum computed anew by scapy."""
    packet = Ether(frame)
    for layer in packet.iterpayloads():
        for field in ("len", "plen", "chksum"):
            if field in layer.fields:
                del layer.fields[field]
    return bytes(packet)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tagged", [False, True], ids=["untagged", "tagged"])
def test_scapy_agrees_on_every_segment(name: str, tagged: bool) -> None:
    big = CASES[name]
    frame, offload = big.frame, big.offload
    if tagged:
        frame = frame[:12] + b"\x81\x00\x00\x05" + frame[12:]
        offload = offload._replace(csum_start=offload.csum_start + 4)
    segments = cut(frame, offload)
    assert len(segments) == segments.n == -(-len(big.payload) // big.mss)
    assert segments.length == sum(map(len, segments.frames()))
    payload = b""
    for i, segment in enumerate(segments.frames()):
        assert _recomputed(bytes(segment)) == segment
        packet = Ether(bytes(segment))
        last = i == segments.n - 1
        if big.ipv4:
            assert packet[IP].id == (Ether(frame)[IP].id + i) & 0xFFFF
            assert packet[IP].tos == Ether(frame)[IP].tos
        if big.tcp:
            assert packet[TCP].seq == (TCPS.seq + i * big.mss) & 0xFFFFFFFF
            assert packet[TCP].flags == "A" + ("C" if i == 0 else "") + ("PF" if last else "")
            assert packet[TCP].options == TCP_OPTIONS
        payload += bytes(segment)[segments.header_length :]
    assert payload == big.payload


def test_gso_partial_tunnel() -> None:
    """VXLAN as igb_tso hands it over: MACLEN to the outer IP header, IPLEN to the inner TCP header."""
    inner = Big(ETHER / IP(src="192.168.0.1", dst="192.168.0.2", id=9, flags="DF") / TCPS, 3000, 1000)
    between = struct.pack(">HHHH", 55555, 4789, 8 + 8 + inner.size + 1000, 0) + bytes.fromhex("0800000000002a00")
    inner_header = bytearray(inner.driver_header)
    inner_header[16:18] = (inner.size - 14 + 1000).to_bytes(2, "big")  # the kernel has set these for each segment
    inner_header[24:26] = b"\0\0"
    inner_header[24:26] = (0xFFFF - words(bytes(inner_header[14:34]))).to_bytes(2, "big")
    outer = bytearray(bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2", id=300, proto=17, flags="DF")))
    extra = between + bytes(inner_header[:34])
    outer[16:18] = b"\0\0"
    outer[24:26] = (0xFFFF - words(extra)).to_bytes(2, "big")
    header = bytes(outer) + between + bytes(inner_header)
    context = {**inner.context, "maclen": 14, "iplen": len(header) - inner.l4len - 14}
    assert to_offload(header, len(header) + 3000, **context) is None
    segments = tso(header, inner.payload, **context, txsm=True).frames()
    assert len(segments) == 3
    for i, segment in enumerate(segments):
        assert segment[34:84] == extra[:50]  # verbatim up to the inner L3 header's end and beyond
        packet = Ether(bytes(segment))
        assert packet[IP].id == 300 + i
        assert packet[IP].len == len(segment) - 14
        outer_header = bytes(segment[14:34])
        assert words(outer_header) == 0xFFFF
        assert segment[34 : 34 + len(extra)] == extra
        inner_frame = bytes(segment[50:])
        assert _recomputed(inner_frame) == inner_frame


def test_ixsm_and_txsm_off_leave_the_fields() -> None:
    big = CASES["tcp4"]
    for segment in tso(big.driver_header, big.payload, **{**big.context, "ixsm": False}, txsm=False).frames():
        assert segment[24:26] == big.driver_header[24:26]
        assert segment[big.l4 + 16 : big.l4 + 18] == big.driver_header[big.l4 + 16 : big.l4 + 18]


def test_a_single_segment_keeps_its_flags() -> None:
    big = Big(ETHER / IP4 / TCPS, 100, 1448)
    for segments in (big.cut(), big.tso()):
        (segment,) = segments.frames()
        assert Ether(bytes(segment))[TCP].flags == TCPS.flags
        assert _recomputed(bytes(segment)) == segment


def test_flag_masks_are_the_callers() -> None:
    big = CASES["tcp4"]
    segments = tso(big.driver_header, big.payload, **big.context, txsm=True, flags=(0x010, 0x000, 0xFFF)).frames()
    flags = [str(Ether(bytes(segment))[TCP].flags) for segment in segments]
    assert flags == ["A", *[""] * (len(segments) - 2), str(TCPS.flags)]
    assert all(_recomputed(bytes(segment)) == segment for segment in segments)


def _zero_checksum(packet: Packet) -> Big:
    """Two segments, the first with a payload that makes its sum 0xFFFF, whose complement is 0."""
    trial = Big(packet, 4, 2)
    first = trial.cut().frames()[0]
    field = trial.offload.csum_start + trial.offload.csum_offset
    missing = int.from_bytes(first[field : field + 2], "big") + int.from_bytes(trial.payload[:2], "big")
    return Big(packet, (missing % 0xFFFF).to_bytes(2, "big") + trial.payload[2:], 2)


@pytest.mark.netns
@pytest.mark.parametrize(("layer", "field", "stored"), [(TCPS, 50, b"\0\0"), (UDPS, 40, b"\xff\xff")])
def test_a_checksum_of_0_is_for_tcp_only(kernel: KernelCutter, layer: Packet, field: int, stored: bytes) -> None:
    big = _zero_checksum(ETHER / IP4 / layer)
    assert big.cut().frames()[0][field : field + 2] == stored
    assert big.tso().frames() == big.cut().frames() == kernel.cut(big.frame, big.offload, 2)


def test_to_offload_keeps_what_a_wire_needs() -> None:
    for name in ("tcp4", "tcp6", "uso4", "uso6"):
        big = CASES[name]
        whole = to_offload(big.driver_header, len(big.frame), **big.context)
        assert whole is not None
        assert whole[1] == big.offload
        assert whole[0] == big.frame[: big.size]


@pytest.mark.parametrize(
    "change",
    [
        {"iplen": 24},
        {"ixsm": False},
        {"ipv4": False},
        {"tcp": False, "l4len": 8},
        {"l4len": 20},
        {"mss": 0},
        {"maclen": 18},
        {"maclen": 0},
    ],
)
def test_to_offload_refuses_what_is_not_plain(change: dict[str, object]) -> None:
    big = CASES["tcp4"]
    assert to_offload(big.frame, len(big.frame), **{**big.context, **change}) is None


@pytest.mark.parametrize(
    "offload",
    [
        {"gso_size": 0},
        {"gso_type": GSO_NONE},
        {"gso_type": GSO_TCPV6},
        {"gso_type": GSO_UDP_L4},
        {"gso_type": 3},
        {"csum_start": 15},
    ],
)
def test_cut_refuses_a_note_that_does_not_fit(offload: dict[str, int]) -> None:
    big = CASES["tcp4"]
    with pytest.raises(ValueError):
        cut(big.frame, big.offload._replace(**offload))


def test_cut_refuses_headers_that_do_not_fit() -> None:
    big = CASES["tcp4"]
    for length in (0, 13, 14, 33, 34, 60, len(big.frame) - 1):
        with pytest.raises(ValueError):
            cut(big.frame[:length], big.offload)


def test_more_headers_than_sense_are_refused() -> None:
    big = Big(ETHER / IP4 / TCPS, 40, 1)
    assert len(big.cut()) == 40
    with pytest.raises(ValueError, match="many"):
        tso(big.driver_header, bytes(262143), **big.context, txsm=True)


@given(st.binary(max_size=200), st.builds(Offload, *[st.integers(0, 255)] * 2, *[st.integers(0, 2000)] * 4))
def test_cut_of_anything(frame: bytes, offload: Offload) -> None:
    try:
        segments = cut(frame, offload)
    except ValueError:
        return
    assert (
        b"".join(bytes(payload) for _, payload in segments) == frame[segments.header_length :][: len(segments.payload)]
    )


@st.composite
def _damaged(draw: st.DrawFn) -> tuple[bytes, Offload]:
    big = CASES[draw(st.sampled_from(sorted(CASES)))]
    frame = bytearray(big.frame[: draw(st.integers(14, 400))])
    if draw(st.booleans()):
        frame[big.maclen + 2 : big.maclen + 4] = (len(frame) - big.maclen).to_bytes(2, "big")
    for _ in range(draw(st.integers(0, 3))):
        frame[draw(st.integers(0, min(90, len(frame)) - 1))] = draw(st.integers(0, 255))
    return bytes(frame), big.offload._replace(gso_size=draw(st.integers(0, 70)))


@given(_damaged())
def test_cut_of_damaged_frames(case: tuple[bytes, Offload]) -> None:
    frame, offload = case
    try:
        segments = cut(frame, offload)
    except ValueError:
        return
    end = segments.header_length + len(segments.payload)
    assert b"".join(bytes(payload) for _, payload in segments) == frame[segments.header_length : end]


@given(
    st.binary(max_size=200),
    st.binary(max_size=300),
    st.integers(0, 127),
    st.integers(0, 511),
    st.integers(0, 255),
    st.integers(0, 65535) | st.integers(0, 20),
    st.tuples(*[st.booleans()] * 5),
)
def test_tso_of_anything(
    data: bytes, payload: bytes, maclen: int, iplen: int, l4len: int, mss: int, bits: tuple[bool, ...]
) -> None:
    tcp, ipv4, ixsm, txsm, fitting = bits
    if fitting:
        maclen, iplen, l4len = 14 + maclen % 10, 40 + iplen % 8, (20 + 4 * (l4len % 4)) if tcp else 8
        data = data.ljust(maclen + iplen + l4len, b"\0")[: maclen + iplen + l4len]
    context: dict[str, Any] = {"maclen": maclen, "iplen": iplen, "l4len": l4len, "mss": mss, "tcp": tcp, "ipv4": ipv4}
    to_offload(data, len(data) + len(payload), **context, ixsm=ixsm)
    try:
        segments = tso(data, payload, **context, ixsm=ixsm, txsm=txsm)
    except ValueError:
        assert not fitting or mss == 0
        return
    assert b"".join(bytes(part) for _, part in segments) == payload
    assert all(len(header) == len(data) and header[:maclen] == data[:maclen] for header, _ in segments)
