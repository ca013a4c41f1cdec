"""DgramWire against plain datagram sockets."""

from __future__ import annotations

import os
import socket

import pytest

from igb_device.wire.address import parse_address
from igb_device.wire.base import MAX_FRAME, Accepts, Frame, WireError
from igb_device.wire.dgram import DgramWire


def address(text):
    return parse_address(text, socket.SOCK_DGRAM)


@pytest.fixture
def unix_wire(tmp_path, loop):
    wire = DgramWire(address(f"unix:{tmp_path}/here"), address(f"unix:{tmp_path}/there"), loop)
    yield wire
    wire.close()
    assert not os.path.exists(tmp_path / "here")


def unix_peer(tmp_path):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.bind(str(tmp_path / "there"))
    peer.settimeout(5)
    return peer


def test_unix_both_ways(tmp_path, unix_wire, loop, card):
    mine = card(unix_wire)
    assert unix_wire.link
    assert unix_wire.accepts == Accepts.NONE
    with unix_peer(tmp_path) as peer:
        assert unix_wire.send([Frame((b"a" * 14, b"b" * 46)), Frame([b"c"] * 1500)]) == 2
        assert peer.recv(70000) == b"a" * 14 + b"b" * 46
        assert peer.recv(70000) == b"c" * 1500
        frames = [bytes([number]) * 60 for number in range(5)]
        for frame in frames:
            peer.sendto(frame, str(tmp_path / "here"))
        loop.until(lambda: len(mine.frames) == 5)
        assert mine.frames == frames
    assert unix_wire.errors == 0


def test_nobody_there_then_there_then_restarted(tmp_path, unix_wire, loop, card):
    mine = card(unix_wire)
    assert mine.send(b"a" * 60, b"b" * 60) == 2
    assert unix_wire.errors == 2
    for turn in range(2):
        with unix_peer(tmp_path) as peer:
            frame = bytes([turn]) * 60
            assert mine.send(frame) == 1
            assert peer.recv(100) == frame
            peer.sendto(frame, str(tmp_path / "here"))
            loop.until(lambda turn=turn: len(mine.frames) == turn + 1)
        os.unlink(tmp_path / "there")
    assert unix_wire.errors == 2


def test_restarted_peer_is_heard_before_it_is_sent_to(tmp_path, unix_wire, loop, card):
    mine = card(unix_wire)
    with unix_peer(tmp_path) as peer:
        mine.send(b"a" * 60)
    os.unlink(tmp_path / "there")
    with unix_peer(tmp_path) as peer:
        peer.sendto(b"b" * 60, str(tmp_path / "here"))
        loop.until(lambda: mine.frames)
    os.unlink(tmp_path / "there")


def test_full_peer_takes_no_more_without_spinning(tmp_path, unix_wire, loop, card):
    mine = card(unix_wire)
    frames = [b"%8d" % number * 180 for number in range(3000)]
    with unix_peer(tmp_path) as peer:
        sent = mine.send(*frames)
        assert 0 < sent < len(frames)
        assert [loop.turn() for _ in range(20)] == [0] * 20
        assert mine.readies == 0
        got = [peer.recv(2000) for _ in range(sent)]
        loop.until(lambda: mine.readies)
        assert got == frames[:sent]
        assert mine.send(frames[sent]) == 1
        assert peer.recv(2000) == frames[sent]
    os.unlink(tmp_path / "there")
    assert unix_wire.errors == 0


def test_udp_both_ways_and_only_with_the_remote(loop, card):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        other.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            here = probe.getsockname()
        wire = DgramWire(address(f"127.0.0.1:{here[1]}"), address(f"127.0.0.1:{peer.getsockname()[1]}"), loop)
        mine = card(wire)
        mine.send(b"a" * 60)
        assert peer.recvfrom(100) == (b"a" * 60, here)
        other.sendto(b"not for you" * 6, here)
        peer.sendto(b"b" * 60, here)
        loop.until(lambda: mine.frames)
        assert mine.frames == [b"b" * 60]
    # The peer is gone: what ICMP reports is neither a lost link nor the end of receiving.
    for _ in range(5):
        assert mine.send(b"c" * 60) == 1
        loop.turn(0.01)
    assert wire.link
    wire.close()


def test_overlong_and_empty_datagrams_are_counted(tmp_path, unix_wire, loop, card):
    mine = card(unix_wire)
    with unix_peer(tmp_path) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for data in (b"", bytes(MAX_FRAME + 1), b"good" * 15):
            peer.sendto(data, str(tmp_path / "here"))
        loop.until(lambda: mine.frames)
    os.unlink(tmp_path / "there")
    assert mine.frames == [b"good" * 15]
    assert unix_wire.errors == 2


def test_pause(tmp_path, unix_wire, loop, card):
    mine = card(unix_wire)
    unix_wire.pause(True)
    with unix_peer(tmp_path) as peer:
        peer.sendto(b"a" * 60, str(tmp_path / "here"))
        assert loop.turn() == 0
        unix_wire.pause(False)
        loop.until(lambda: mine.frames)
    os.unlink(tmp_path / "there")


def test_addresses_that_do_not_go_together(tmp_path, loop):
    with pytest.raises(WireError, match="of one kind"):
        DgramWire(address(f"unix:{tmp_path}/a"), address("127.0.0.1:9"), loop)
    with pytest.raises(WireError, match="can't listen"):
        DgramWire(address(f"unix:{tmp_path}/no/such/a"), address(f"unix:{tmp_path}/b"), loop)
