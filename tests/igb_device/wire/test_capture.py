"""Capture and PcapngWriter, read back by others: scapy always, tshark where it's installed."""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader, RawPcapNgReader

from igb_device.clock import SimClock
from igb_device.drops import DropReason
from igb_device.wire.base import GSO_TCPV4, NEEDS_CSUM, Accepts, Frame, Offload
from igb_device.wire.cable import cable
from igb_device.wire.capture import Capture, complete
from igb_device.wire.none import NoWire
from igb_device.wire.pcapng import (
    BLOCK,
    FLUSH_AFTER,
    INBOUND,
    OUTBOUND,
    PACKET,
    PcapngWriter,
    whole_blocks,
)

EPOCH = 1_700_000_000_123_456_789


def udp(payload=b"hello", **fields):
    return bytes(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.0.0.1", dst="10.0.0.2")
        / UDP(sport=1000, dport=2000, **fields)
        / payload
    )


def unfinished(data):
    """A UDP or TCP frame as a kernel hands it over: the checksum holds the pseudo-header's sum, which scapy's
    checksum of an empty payload isn't, so it's summed here word by word."""
    frame = bytearray(data)
    protocol = frame[23]
    at = 34 + (6 if protocol == 17 else 16)
    words = struct.unpack("!4H", frame[26:34])
    total = sum(words) + protocol + len(frame) - 34
    while total > 0xFFFF:
        total = total // 65536 + total % 65536
    frame[at : at + 2] = total.to_bytes(2, "big")
    return bytes(frame), Offload(NEEDS_CSUM, csum_start=34, csum_offset=at - 34)


@pytest.fixture
def captured(tmp_path, clock, card):
    """Two cards on a cable; the first one's end is captured. A call returns the file once closed."""
    a, b = cable(clock)
    writer = PcapngWriter(tmp_path / "c.pcapng", clock, "igb7", epoch=EPOCH - 1000, comment="a note")
    capture = Capture(a, writer, clock)
    mine, theirs = card(capture), card(b)

    def close():
        capture.close()
        return str(tmp_path / "c.pcapng")

    yield capture, mine, theirs, close
    capture.close()


def test_sent_and_received_as_scapy_reads_them(captured, clock):
    capture, mine, theirs, close = captured
    assert capture.accepts == Accepts.CSUM | Accepts.TSO4 | Accepts.TSO6 | Accepts.USO
    assert capture.link
    assert capture.wants_verdicts
    outgoing = udp(b"out")
    capture.send([Frame((outgoing[:20], memoryview(outgoing)[20:]), queue=3)])
    clock.advance(1500)
    incoming = udp(b"in")
    theirs.send(incoming, incoming)
    frames = []
    mine.ready = lambda: None
    capture.connect(lambda: frames.extend(capture.receive(10)), lambda up: None)
    clock.advance(7)
    capture.settled(frames[0], 5, None)
    capture.settled(frames[1], 0, DropReason.NO_MATCH)
    assert theirs.frames == [outgoing]
    with PcapNgReader(close()) as reader:
        packets = list(reader)
    assert [bytes(packet) for packet in packets] == [outgoing, incoming, incoming]
    assert [packet.direction for packet in packets] == [2, 1, 1]
    assert [packet.comments for packet in packets] == [None, None, [b"dropped: no address filter matched"]]
    assert [round(packet.time * 10**9) for packet in packets] == [EPOCH, EPOCH + 1507, EPOCH + 1507]
    assert packets[0].sniffed_on == "igb7"


def test_tshark_reads_it_and_finds_no_fault(captured, tool):
    capture, _, _, close = captured
    small, note = unfinished(udp(b"odd"))
    capture.send([Frame((small,), note, 3)])
    tcp = (
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.0.0.1", dst="10.0.0.2")
        / TCP(sport=1, dport=2)
    )
    big, note = unfinished(bytes(tcp / os.urandom(50_001)))
    capture.send([Frame((big,), note._replace(gso_type=GSO_TCPV4, gso_size=1460, hdr_len=54), 1)])
    capture.settled(Frame((memoryview(small),), unfinished(small)[1]), 2, DropReason.RING_FULL)
    fields = [
        "frame.len",
        "frame.time_epoch",
        "frame.interface_name",
        "frame.packet_flags_direction",
        "frame.interface_queue",
        "frame.comment",
        "udp.checksum.status",
        "tcp.checksum.status",
    ]
    options = [item for field in fields for item in ("-e", field)]
    path = close()
    checks = ["-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]
    result = tool("tshark").run("-n", "-r", path, *checks, "-T", "fields", "-E", "separator=|", *options, check=True)
    assert "Warn" not in result.stderr
    assert "damaged" not in result.stderr
    rows = [line.split("|") for line in result.stdout.splitlines()]
    assert [(row[0], row[6], row[7]) for row in rows] == [
        (str(len(small)), "1", ""),
        (str(len(big)), "", "1"),
        (str(len(small)), "1", ""),
    ]
    assert [row[2] for row in rows] == ["igb7"] * 3
    assert [int(row[3], 0) for row in rows] == [2, 2, 1]
    assert [row[4] for row in rows] == ["3", "1", "2"]
    assert [row[5] for row in rows] == ["", "", "dropped: ring full and DROP_EN set"]
    assert rows[0][1] == "1700000000.123456789"


def test_without_offload_a_frame_is_recorded_as_it_is():
    data = b"\1\2\3" * 30
    assert complete(Frame((data[:7], data[7:]))) == data
    # a note that points outside changes nothing
    assert complete(Frame((data,), Offload(NEEDS_CSUM, csum_start=80, csum_offset=10))) == data


@given(st.binary(max_size=200), st.sampled_from([TCP, UDP]))
def test_checksums_are_those_of_scapy(payload, layer):
    whole = bytes(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2") / layer() / payload
    )
    data, note = unfinished(whole)
    assert complete(Frame((data,), note)) == whole


def test_udp_checksum_is_never_zero():
    """The two bytes that make the sum 0xffff: the checksum would be 0, which says that there is none."""
    base = bytearray(udp(b"\0\0"))
    base[-2:] = base[40:42]  # the payload adds what the checksum of a zero payload was
    data, note = unfinished(bytes(base))
    assert complete(Frame((data,), note))[40:42] == b"\xff\xff"


@given(
    st.integers(0, 2**64 - 1),
    st.binary(max_size=100),
    st.sampled_from([INBOUND, OUTBOUND]),
    st.integers(-1, 15),
    st.text(max_size=20),
)
def test_what_struct_writes_is_what_construct_declares(tmp_path_factory, time, data, direction, queue, comment):
    path = tmp_path_factory.mktemp("w") / "c"
    writer = PcapngWriter(path, SimClock())
    start = os.path.getsize(path)
    writer.add(time, data, direction, queue, comment)
    writer.close()
    block = BLOCK.parse(path.read_bytes()[start:])
    assert block.type == 6
    assert block.length == block.length_again == os.path.getsize(path) - start
    packet = PACKET.parse(block.body)
    assert packet.time_high << 32 | packet.time_low == time
    assert packet.data == data
    assert packet.captured == packet.original == len(data)
    options = {option.code: option.value for option in packet.options}
    assert options.pop(2) == struct.pack("<I", direction)
    assert options.pop(6, None) == (struct.pack("<I", queue) if queue >= 0 else None)
    assert options.pop(1, b"").decode() == comment
    assert options == {0: b""}


def test_snaplen(tmp_path, clock):
    writer = PcapngWriter(tmp_path / "c", clock, snaplen=40)
    data, note = unfinished(udp(b"x" * 100))
    capture = Capture(NoWire(), writer, clock)
    capture.send([Frame((data,), note)])
    capture.close()
    with RawPcapNgReader(str(tmp_path / "c")) as reader:
        packet, meta = next(iter(reader))
    assert packet == udp(b"x" * 100)[:40]
    assert meta.wirelen == len(data)


def test_packets_reach_the_file_in_time(tmp_path, clock):
    """A server that's killed leaves all but the last half second."""
    writer = PcapngWriter(tmp_path / "c", clock)
    empty = os.path.getsize(tmp_path / "c")
    assert empty > 0
    writer.add(0, b"a" * 60, OUTBOUND, 0)
    clock.advance(FLUSH_AFTER)
    one = os.path.getsize(tmp_path / "c")
    assert one > empty
    assert clock.next_due is None
    for _ in range(100):
        writer.add(0, b"a" * 1000, OUTBOUND, 0)
    assert os.path.getsize(tmp_path / "c") > 60_000
    with PcapNgReader(str(tmp_path / "c")) as reader:
        assert 50 < len(list(reader)) < 101
    writer.close()
    with PcapNgReader(str(tmp_path / "c")) as reader:
        assert len(list(reader)) == 101
    assert clock.next_due is None


def test_full_disk_ends_the_capture_not_the_traffic(clock, card, caplog):
    """/dev/full refuses every byte, as a full disk does."""
    with caplog.at_level(logging.ERROR):
        writer = PcapngWriter("/dev/full", clock)
        a, b = cable(clock)
        capture = Capture(a, writer, clock)
        mine, theirs = card(capture), card(b)
        for _ in range(200):
            mine.send(b"a" * 1000)
            clock.advance(FLUSH_AFTER)
        assert len(theirs.frames) == 200
        capture.close()
    assert not writer.working
    assert [record.getMessage() for record in caplog.records] == [
        "the capture /dev/full ends here: No space left on device"
    ]


def test_disk_full_within_a_block_leaves_whole_ones(tmp_path, clock, caplog):
    """The kernel's limit on a file's size stands for the disk's."""
    code = f"""
import resource, signal
from igb_device.clock import SimClock
from igb_device.wire.pcapng import PcapngWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = PcapngWriter({str(tmp_path / "c")!r}, SimClock())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for _ in range(300):
    writer.add(0, b"a" * 1000, 2, 0)
assert not writer.working
writer.close()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("\n") == 1
    with PcapNgReader(str(tmp_path / "c")) as reader:
        packets = list(reader)
    assert 90 <= len(packets) <= 100
    size = os.path.getsize(tmp_path / "c")
    assert whole_blocks((tmp_path / "c").read_bytes(), size) == size


def test_verdicts_reach_a_wire_that_wants_them_and_no_other(tmp_path, clock):
    heard = []

    class Inner(NoWire):
        def settled(self, frame, queue, reason):
            heard.append((queue, reason))

    for wants in (False, True):
        inner = Inner()
        inner.wants_verdicts = wants
        capture = Capture(inner, PcapngWriter(tmp_path / "c", clock), clock)
        capture.settled(Frame((memoryview(b"a" * 60),)), 4, DropReason.BAD_FRAME)
        capture.close()
    assert heard == [(4, DropReason.BAD_FRAME)]


def test_only_what_the_wire_took_is_recorded(tmp_path, clock, card):
    a, b = cable(clock, capacity=2)
    capture = Capture(a, PcapngWriter(tmp_path / "c", clock), clock)
    mine, _ = card(capture), card(b)
    assert mine.send(*[bytes([number]) * 60 for number in range(5)]) == 2
    capture.close()
    with RawPcapNgReader(str(tmp_path / "c")) as reader:
        assert [data[0] for data, _ in reader] == [0, 1]
