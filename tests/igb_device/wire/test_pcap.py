"""Replay and the capture readers, on files that scapy wrote, and on garbage."""

from __future__ import annotations

import io
import logging
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader, PcapWriter, wrpcap, wrpcapng

from igb_device.clock import SimClock
from igb_device.drops import DropReason
from igb_device.wire.base import Frame, WireError
from igb_device.wire.pcap import PcapWire, open_pcap
from igb_device.wire.pcapng import OUTBOUND, PcapngWriter
from igb_device.wire.pcapread import Packet, read_packets

MS = 1_000_000


def packets_at(*times):
    """Frames that hold their number, captured at these times in ms."""
    made = []
    for number, time in enumerate(times):
        packet = Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:01", type=0x88B5) / bytes([number] * 46)
        packet.time = 1_600_000_000 + time / 1000
        made.append(packet)
    return made


@pytest.fixture
def replay(tmp_path, clock):
    """Opens a replay of frames at these times; the card keeps (number, ms since the first)."""
    wires = []

    def start(*times, pace="real", verdict=lambda number: None, limit=64):
        path = tmp_path / "in.pcap"
        wrpcap(str(path), packets_at(*times))
        wire = open_pcap(f"in={path},pace={pace}", clock)
        wires.append(wire)
        got = []

        def ready():
            while frames := wire.receive(limit):
                for frame in frames:
                    number = frame.parts[0][20]
                    reason = verdict(number)
                    if wire.wants_verdicts:
                        wire.settled(frame, 0, reason)
                    if reason is None:
                        got.append((number, clock.now() // MS))

        wire.connect(ready, lambda up: None)
        return wire, got

    yield start
    for wire in wires:
        wire.close()


def test_real_pace(replay, clock):
    wire, got = replay(0, 10, 10, 35)
    assert wire.link
    assert got == []  # never from within connect
    clock.advance(0)
    assert [number for number, _ in got] == [0]
    clock.advance(100 * MS)
    assert got == [(0, 0), (1, 10), (2, 10), (3, 35)]
    assert wire.finished
    assert clock.next_due is None


def test_fast(replay, clock):
    wire, got = replay(*range(0, 100_000, 1000), pace="fast", limit=7)
    clock.advance(0)
    assert [number for number, _ in got] == list(range(100))
    assert wire.finished


def test_times_that_run_backwards_or_leap(replay, clock):
    _, got = replay(50, 10, 60)
    clock.advance(20 * MS)
    assert got == [(0, 0), (1, 0), (2, 10)]
    _, got = replay(0, 1000 * 3600 * 24 * 365)
    clock.advance(3600 * 24 * 364 * 1000 * MS)
    assert len(got) == 1
    clock.advance(3600 * 24 * 2 * 1000 * MS)
    assert len(got) == 2


def test_replay_begins_when_the_card_listens(replay, clock):
    """A card whose receiver is off drops the first frame; it's offered again until the driver has started."""
    state = {"reason": DropReason.RX_DISABLED, "offers": 0}

    def verdict(number):
        state["offers"] += 1
        return state["reason"]

    _, got = replay(0, 10, verdict=verdict)
    clock.advance(2_000 * MS)
    assert got == []
    assert 15 <= state["offers"] <= 25
    state["reason"] = None
    clock.advance(200 * MS)
    assert [number for number, _ in got] == [0, 1]
    assert got[1][1] - got[0][1] == 10


def test_other_drops_do_not_hold_it_up(replay, clock):
    wire, got = replay(0, 1, 2, verdict=lambda number: None if number == 2 else DropReason.NO_MATCH)
    clock.advance(10 * MS)
    assert [number for number, _ in got] == [2]
    assert wire.finished


def test_pause_holds_it_up(replay, clock):
    wire, got = replay(0, 10, 20)
    clock.advance(5 * MS)
    wire.pause(True)
    clock.advance(1000 * MS)
    assert len(got) == 1
    wire.pause(False)
    clock.advance(0)
    assert len(got) == 3


def test_a_card_that_takes_nothing_does_not_hang_the_clock(tmp_path, clock):
    wrpcap(str(tmp_path / "c"), packets_at(0, 1))
    wire = open_pcap(str(tmp_path / "c"), clock)
    calls = []
    wire.connect(lambda: calls.append(1), lambda up: None)
    clock.advance(10 * MS)
    assert 5 <= len(calls) <= 20
    wire.close()


def test_recording(tmp_path, clock):
    wire = open_pcap(f"out={tmp_path}/out.pcapng", clock, epoch=5_000_000_000)
    wire.connect(lambda: None, lambda up: None)
    frames = [Frame((b"a" * 14, b"b" * 46), queue=2), Frame((b"c" * 60,))]
    assert wire.send(frames) == 2
    assert list(wire.receive(10)) == []
    assert not wire.wants_verdicts
    wire.close()
    with PcapNgReader(str(tmp_path / "out.pcapng")) as reader:
        got = list(reader)
    assert [bytes(packet) for packet in got] == [b"a" * 14 + b"b" * 46, b"c" * 60]
    assert float(got[0].time) == pytest.approx(5.000001)


def test_cut_and_foreign_packets_are_left_out(tmp_path, clock, card):
    path = tmp_path / "c"
    writer = PcapngWriter(path, clock, snaplen=50)
    writer.add(0, b"a" * 40, OUTBOUND, 0)
    writer.add(0, b"b" * 60, OUTBOUND, 0)
    writer.add(0, b"", OUTBOUND, 0)
    writer.add(0, b"c" * 50, OUTBOUND, 0)
    writer.close()
    wire = open_pcap(f"in={path},pace=fast", clock)
    mine = card(wire)
    clock.advance(MS)
    assert mine.frames == [b"a" * 40, b"c" * 50]
    assert wire.errors == 2
    wire.close()


def test_damage_within_the_file_ends_the_replay_with_one_line(tmp_path, clock, card, caplog):
    path = tmp_path / "c"
    wrpcap(str(path), packets_at(0, 1, 2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    wire = open_pcap(f"in={path},pace=fast", clock)
    mine = card(wire)
    with caplog.at_level(logging.ERROR):
        clock.advance(MS)
    assert len(mine.frames) == 2
    assert (wire.errors, wire.finished, wire.link) == (1, True, True)
    assert [record.getMessage() for record in caplog.records] == [
        f"the replay ends early: {path} is damaged at byte {len(whole) - 60}: cut short"
    ]
    wire.close()


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_classic_pcap_in_all_its_forms(tmp_path, endian, nano):
    path = str(tmp_path / "c")
    wanted = packets_at(0, 1500)
    with PcapWriter(path, endianness=endian, nano=nano) as writer:
        writer.write(wanted)
    with open(path, "rb") as file:
        got = list(read_packets(file, path))
    assert [packet.data for packet in got] == [bytes(packet) for packet in wanted]
    assert [packet.time // MS - 1_600_000_000_000 for packet in got] == [0, 1500]
    assert {packet.link_type for packet in got} == {1}


def test_pcapng_of_another_writer(tmp_path):
    path = str(tmp_path / "c")
    wanted = packets_at(0, 1500)
    wrpcapng(path, wanted)
    with open(path, "rb") as file:
        got = list(read_packets(file, path))
    assert [packet.data for packet in got] == [bytes(packet) for packet in wanted]
    assert [packet.time // MS - 1_600_000_000_000 for packet in got] == [0, 1500]


def block(kind, body, order):
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def test_pcapng_by_hand():
    """Both byte orders in one file, power-of-two ticks with an offset, an obsolete and a simple packet block."""
    file = b""
    for order in "<>":
        file += block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
        options = struct.pack(order + "HHB3xHHqHH", 9, 1, 0x80 | 10, 14, 8, 100, 0, 0)
        file += block(1, struct.pack(order + "HHI", 1, 0, 6) + options, order)
        file += block(0x0BAD, b"unknown block...", order)
        file += block(6, struct.pack(order + "IIIII", 0, 0, 1536, 3, 5) + b"abc\0", order)
        file += block(2, struct.pack(order + "HHIIII", 0, 9, 0, 2048, 4, 4) + b"defg", order)
        file += block(3, struct.pack(order + "I", 10) + b"hijklm\0\0", order)
    one = [(101_500_000_000, b"abc", 5, 1), (102_000_000_000, b"defg", 4, 1), (0, b"hijklm", 10, 1)]
    assert list(read_packets(io.BytesIO(file), "it")) == one * 2


GOOD_CLASSIC = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 1, 2, 3, 3) + b"abc"
GOOD_NG = (
    block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1), "<")
    + block(1, struct.pack("<HHI", 1, 0, 0) + struct.pack("<HHB3xHH", 9, 1, 9, 0, 0), "<")
    + block(6, struct.pack("<IIIII", 0, 0, 0, 3, 3) + b"abc\0", "<")
)


@given(
    st.sampled_from([b"", GOOD_CLASSIC, GOOD_NG, GOOD_CLASSIC[:24], GOOD_NG[:28]]),
    st.binary(max_size=60),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    st.integers(0, 300),
)
@example(GOOD_NG, b"", [(28 + 20, 0xFF)], 300)  # 10^127 ticks a second
def test_garbage_is_one_line(base, more, changes, length):
    data = bytearray((base + more)[:length])
    for at, value in changes:
        if at < len(data):
            data[at] = value
    said = "it is fine"
    try:
        for packet in read_packets(io.BytesIO(bytes(data)), "it"):
            assert len(packet.data) <= len(data)
    except WireError as error:
        said = str(error)
    assert said.startswith("it ")
    assert "\n" not in said


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6), st.booleans())
def test_any_times_can_be_replayed(times, real):
    clock = SimClock()
    asked = []
    call_at = clock.call_at
    clock.call_at = lambda when, call: asked.append(when) or call_at(when, call)
    source = iter([Packet(time * 10**9, b"a" * 60, 60, 1) for time in times])
    wire = PcapWire(source, None, clock, real)
    wire.connect(lambda: wire.receive(10), lambda up: None)
    clock.advance(10 * MS)
    wire.close()
    assert clock.next_due is None
    assert max(asked) < 2**63


def test_what_cannot_be_opened_is_one_line(tmp_path, clock):
    def why(rest):
        with pytest.raises(WireError) as raised:
            open_pcap(rest, clock)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("no capture at all")
    (tmp_path / "short").write_bytes(GOOD_CLASSIC[:10])
    other = bytearray(GOOD_CLASSIC)
    other[20] = 101
    (tmp_path / "raw_ip").write_bytes(other)
    assert "No such file" in why(f"{tmp_path}/none")
    assert "not a regular file" in why(str(tmp_path))
    assert "is empty" in why(f"{tmp_path}/empty")
    assert "neither pcapng nor pcap" in why(f"{tmp_path}/text")
    assert "cut short" in why(f"{tmp_path}/short")
    assert "link type is 101" in why(f"{tmp_path}/raw_ip")
    assert "isn't one of" in why("in=a,speed=3")
    assert "isn't one of" in why("in=a,in=b")
    assert "isn't one of" in why("in=")
    assert "real or fast" in why("pace=slow")
    assert "can't write" in why(f"out={tmp_path}/no/dir")
    with pytest.raises(WireError):
        open_pcap("a\0b", clock)
