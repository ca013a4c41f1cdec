"""StreamWire against plain sockets: QEMU's format by hand, connections that come and go."""

from __future__ import annotations

import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igb_device.wire.address import parse_address
from igb_device.wire.base import MAX_FRAME, Accepts, Frame, WireError
from igb_device.wire.stream import MAX_LENGTH, Deframer, FramingError, StreamWire

SECOND = 1_000_000_000


def unix(path):
    return parse_address(f"unix:{path}", socket.SOCK_STREAM)


def framed(*frames):
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, "closed early"
        data += more
    return data


@pytest.fixture
def linked(tmp_path, loop, clock, card):
    """A wire that connected to a plain socket, its card, and that socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        wire = StreamWire(unix(tmp_path / "s"), loop, clock)
        mine = card(wire)
        clock.advance(0)
        peer, _ = listener.accept()
    peer.settimeout(5)
    assert mine.links == [True]
    yield wire, mine, peer
    wire.close()
    peer.close()


@given(
    st.lists(st.binary(max_size=300) | st.integers(0, 70000), max_size=12),
    st.lists(st.integers(1, 70000), min_size=1, max_size=20),
    st.integers(1, 5),
)
def test_any_chunking_gives_the_same_frames(frames, chunks, limit):
    # a number is so many zeros: Hypothesis would rather not show them
    frames = [frame for frame in map(bytes, frames) if len(frame) <= MAX_LENGTH]
    stream = framed(*frames)
    deframer = Deframer()
    got = []
    at = 0
    turn = 0
    while True:
        taken = deframer.take(limit)
        assert len(taken) <= limit
        got += [bytes(frame) for frame in taken]
        if taken:
            continue
        assert not deframer.has_frame
        if at == len(stream):
            break
        room = deframer.room()
        assert room
        chunk = stream[at : at + min(chunks[turn % len(chunks)], len(room))]
        room[: len(chunk)] = chunk
        deframer.filled(len(chunk))
        at += len(chunk)
        turn += 1
    assert got == frames


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(MAX_LENGTH + 1, 2**32 - 1))
def test_lost_framing_is_told_after_the_frames_before_it(frames, length):
    deframer = Deframer()
    data = framed(*frames) + struct.pack("!I", length)
    deframer.room()[: len(data)] = data
    deframer.filled(len(data))
    if frames:
        assert [bytes(frame) for frame in deframer.take(100)] == frames
    assert deframer.has_frame
    with pytest.raises(FramingError):
        deframer.take(100)


def test_frames_both_ways(linked, loop):
    wire, mine, peer = linked
    assert wire.accepts == Accepts.NONE
    sent = [b"a" * 60, b"b" * 1514, b"c" * 9000]
    peer.sendall(framed(*sent))
    loop.until(lambda: len(mine.frames) == 3)
    assert mine.frames == sent
    parts = [Frame((b"x" * 14, memoryview(b"y" * 46))), Frame((b"z" * 60,))]
    assert wire.send(parts) == 2
    assert read_exactly(peer, 128) == framed(b"x" * 14 + b"y" * 46, b"z" * 60)
    assert wire.errors == 0


def test_a_frame_in_thousands_of_parts(linked):
    wire, _, peer = linked
    body = os.urandom(3000)
    assert wire.send([Frame([body[at : at + 1] for at in range(3000)]), Frame((b"!" * 60,))]) == 2
    assert read_exactly(peer, 3068) == framed(body, b"!" * 60)


def test_slow_peer_gets_every_byte_in_order(linked, loop):
    """The far end takes some, the wire says so, keeps what it sent in part, and goes on when there is room."""
    wire, mine, peer = linked
    frames = [struct.pack("!I", number) * 375 for number in range(1500)]
    sent = mine.send(*frames)
    assert 0 < sent < len(frames)
    assert mine.send(*frames[sent:]) == 0
    got = b""
    peer.setblocking(False)

    def more():
        nonlocal got, sent
        try:
            got += peer.recv(200_000)
        except BlockingIOError:
            pass
        if mine.readies:
            mine.readies = 0
            sent += mine.send(*frames[sent:])
        return len(got) == len(framed(*frames))

    loop.until(more)
    assert got == framed(*frames)
    assert wire.errors == 0


def test_more_frames_than_the_card_takes_at_once(linked, loop, clock):
    """What was read from the socket already is told of by the clock, as the socket has no more to tell."""
    _, mine, peer = linked
    mine.limit = 2
    sent = [bytes([number]) * 60 for number in range(9)]
    peer.sendall(framed(*sent))
    loop.until(lambda: mine.frames)
    assert len(mine.frames) == 2
    loop.turn()
    clock.advance(0)
    assert mine.frames == sent


def test_pause_also_holds_back_what_was_read(linked, loop, clock):
    wire, mine, peer = linked
    mine.limit = 2
    sent = [bytes([number]) * 60 for number in range(5)]
    peer.sendall(framed(*sent))
    loop.until(lambda: mine.frames)
    wire.pause(True)
    clock.advance(SECOND)
    loop.turn()
    assert len(mine.frames) == 2
    wire.pause(False)
    clock.advance(SECOND)
    assert mine.frames == sent


def test_frames_that_are_no_frames_are_counted(linked, loop):
    wire, mine, peer = linked
    peer.sendall(framed(b"", bytes(MAX_FRAME + 1), b"good" * 15))
    loop.until(lambda: mine.frames)
    assert mine.frames == [b"good" * 15]
    assert wire.errors == 2


def test_lost_framing_closes_the_connection(linked, loop, clock):
    wire, mine, peer = linked
    peer.sendall(framed(b"last" * 15) + b"\xff\xff\xff\xff" + b"garbage")
    loop.until(lambda: mine.frames)
    clock.advance(0)
    assert mine.links == [True, False]
    assert mine.frames == [b"last" * 15]
    assert not wire.link
    assert "not in the stream format" in wire.status
    assert peer.recv(1) == b""


def test_peer_gone_is_link_down_and_frames_are_counted(linked, loop):
    wire, mine, peer = linked
    peer.close()
    assert mine.send(b"a" * 60, b"b" * 60) == 2  # found out by the sending
    assert wire.errors == 2
    assert mine.links == [True, False]
    assert mine.send(b"a" * 60) == 1
    assert wire.errors == 3


def test_frames_before_the_end_arrive(linked, loop, clock):
    wire, mine, peer = linked
    mine.limit = 1
    peer.sendall(framed(b"a" * 60, b"b" * 60, b"c" * 60) + b"\0\0")
    peer.close()

    def turn():
        clock.advance(0)
        return not wire.link

    loop.until(turn)
    assert mine.frames == [b"a" * 60, b"b" * 60, b"c" * 60]
    assert mine.links == [True, False]


def test_connecting_is_tried_ever_more_slowly(tmp_path, loop, clock, card):
    path = str(tmp_path / "s")
    wire = StreamWire(unix(path), loop, clock)
    mine = card(wire)
    gaps = []
    last = clock.now()
    clock.advance(0)
    for _ in range(10):
        due = clock.next_due
        gaps.append((due - last) / SECOND)
        last = due
        clock.advance(due - clock.now())
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5])
    assert not wire.link
    assert mine.links == []
    assert "No such file" in wire.status
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        clock.advance(5 * SECOND)
        assert mine.links == [True]
        peer, _ = listener.accept()
        peer.close()
        loop.until(lambda: not wire.link)
        clock.advance(SECOND // 10)  # from the beginning again
        assert mine.links == [True, False, True]
        peer, _ = listener.accept()
        with peer:
            peer.sendall(framed(b"new" * 20))
            loop.until(lambda: mine.frames == [b"new" * 20])
    wire.close()
    clock.advance(60 * SECOND)
    assert clock.next_due is None


def test_a_new_peer_does_not_inherit_half_a_frame(tmp_path, loop, clock, card):
    wire = StreamWire(unix(tmp_path / "s"), loop, clock, listen=True)
    mine = card(wire)
    for turn in range(2):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(tmp_path / "s"))
            loop.until(lambda: wire.link)
            peer.sendall(framed(bytes([turn]) * 60) + b"\0\0\1\0half")
            loop.until(lambda turn=turn: len(mine.frames) == turn + 1)
        loop.until(lambda: not wire.link)
    assert mine.frames == [bytes(60), b"\1" * 60]
    wire.close()


def test_listener_takes_one_peer_at_a_time(tmp_path, loop, clock, card):
    path = str(tmp_path / "s")
    wire = StreamWire(unix(path), loop, clock, listen=True)
    mine = card(wire)
    first, second = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    first.connect(path)
    loop.until(lambda: wire.link)
    second.connect(path)
    second.sendall(framed(b"2" * 60))
    first.sendall(framed(b"1" * 60))
    loop.until(lambda: mine.frames)
    loop.turn()
    assert mine.frames == [b"1" * 60]
    first.close()
    loop.until(lambda: len(mine.frames) == 2)
    assert mine.frames[1] == b"2" * 60
    assert mine.links == [True, False, True]
    second.close()
    wire.close()
    assert not os.path.exists(path)


def test_tcp_both_ways_round(loop, clock, card):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = parse_address(f"127.0.0.1:{port}", socket.SOCK_STREAM)
    listening = StreamWire(address, loop, clock, listen=True)
    connecting = StreamWire(address, loop, clock)
    a, b = card(listening), card(connecting)
    clock.advance(0)
    loop.until(lambda: listening.link and connecting.link)
    a.send(b"from a" * 10)
    b.send(b"from b" * 10)
    loop.until(lambda: a.frames and b.frames)
    assert (a.frames, b.frames) == ([b"from b" * 10], [b"from a" * 10])
    listening.close()
    loop.until(lambda: not connecting.link)
    clock.advance(SECOND)  # refused: nobody listens any more
    loop.turn(0.05)
    assert not connecting.link
    connecting.close()


def test_a_left_behind_socket_file_is_replaced_and_a_live_one_is_not(tmp_path, loop, clock, card):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    wire = StreamWire(unix(path), loop, clock, listen=True)
    mine = card(wire)
    with pytest.raises(WireError, match="in use"):
        StreamWire(unix(path), loop, clock, listen=True)
    loop.turn()
    assert mine.links == []  # the question didn't disturb the one who has it
    wire.close()
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(WireError, match="in use"):
        StreamWire(unix(file), loop, clock, listen=True)
    assert file.read_text() == "precious"


def test_close_leaves_somebody_elses_socket_file(tmp_path, loop, clock):
    path = str(tmp_path / "s")
    wire = StreamWire(unix(path), loop, clock, listen=True)
    os.unlink(path)
    other = StreamWire(unix(path), loop, clock, listen=True)
    wire.close()
    assert os.path.exists(path)
    other.close()


@pytest.mark.netns
def test_close_of_a_wire_that_is_connecting(loop, clock, netns):
    """A connection that nobody answers is given up at once."""
    netns.ip("link", "set", "lo", "up")
    wire = StreamWire(parse_address("10.255.255.1:9", socket.SOCK_STREAM), loop, clock)
    netns.ip("route", "add", "blackhole", "default")
    wire.connect(lambda: None, lambda up: None)
    netns.run(lambda: clock.advance(0))
    wire.close()
    assert loop.watched == 0
