"""open_wire: what a user can write, and what is said of what they can't."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igb_device.wire.address import parse_address
from igb_device.wire.base import Wire, WireError
from igb_device.wire.dgram import DgramWire
from igb_device.wire.none import NoWire
from igb_device.wire.pcap import PcapWire
from igb_device.wire.spec import GRAMMAR, KINDS, open_wire
from igb_device.wire.stream import StreamWire
from igb_device.wire.tap import TapWire
from pyvfio_user.loop import EventLoop


def test_every_kind_opens(tmp_path, loop, clock):
    opened: list[tuple[str, type]] = [
        ("none", NoWire),
        (f"stream:unix:{tmp_path}/a", StreamWire),
        (f"stream:listen:unix:{tmp_path}/a", StreamWire),
        ("stream:127.0.0.1:9", StreamWire),
        (f"dgram:unix:{tmp_path}/b,unix:{tmp_path}/c", DgramWire),
        ("dgram:127.0.0.1:40123,127.0.0.1:40124", DgramWire),
        (f"cable:{tmp_path}/d", StreamWire),
        (f"pcap:out={tmp_path}/e", PcapWire),
    ]
    for spec, kind in opened:
        wire: Wire = open_wire(spec, loop, clock)
        assert type(wire) is kind, spec
        wire.close()
    assert {line.split(":")[0].split()[0] for line in GRAMMAR.splitlines()[:-1] if line[0] != " "} == set(KINDS)


@pytest.mark.netns
def test_tap_and_fd(netns, loop, clock):
    netns.ip("tuntap", "add", "tap1", "mode", "tap")
    wire = netns.run(lambda: open_wire("tap:tap1", loop, clock))
    assert isinstance(wire, TapWire)
    again = open_wire(f"fd:{os.dup(wire._fd)}", loop, clock)
    assert isinstance(again, TapWire)
    assert again.accepts == wire.accepts
    wire.close()
    again.close()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "is no wire; there are tap, fd, stream, dgram, cable, pcap, none"),
        ("tun:x", "is no wire"),
        ("none:up", "none has nothing after it"),
        ("tap", "lacks what comes after tap:"),
        ("tap:", "lacks what comes after tap:"),
        ("fd:x", "is a number"),
        ("fd:-1", "is a number"),
        ("fd:987654321", "is no TAP"),
        ("fd:0", "TAP"),
        ("stream:unix:", "lacks a path"),
        ("stream:/path", "neither unix:/path nor HOST:PORT"),
        ("stream:host:0", "neither"),
        ("stream:host:65536", "neither"),
        ("stream:host:١", "neither"),
        ("stream:::1:80", "in brackets"),
        ("stream:unix:" + "a" * 108, "at most 107"),
        ("stream:no such host:80", "can't look up"),
        ("stream:" + "a" * 64 + ":80", "can't look up"),
        ("dgram:unix:/a", "two addresses"),
        ("dgram:unix:/a,b:1,c:2", "two addresses"),
        ("cable:/no/such/folder/a", "can't listen"),
        ("pcap:/no/such/file", "No such file"),
    ],
)
def test_errors_are_one_line(spec, says, loop, clock):
    with pytest.raises(WireError) as raised:
        open_wire(spec, loop, clock)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text(alphabet="unixstreamdgpcafdl:,=/[]0129.\0\n é", max_size=40))
def test_any_text_is_an_address_or_one_line(text):
    # host names would be looked up, so only what has none
    if not text.startswith("unix:"):
        text = text.rpartition(":")[0] + ":" + "x"
    try:
        address = parse_address(text, socket.SOCK_STREAM)
    except WireError:
        return
    assert parse_address(str(address), socket.SOCK_STREAM) == address


def test_addresses_as_text():
    for text in ("unix:/a/b", "127.0.0.1:80", "[::1]:80"):
        assert str(parse_address(text, socket.SOCK_STREAM)) == text


def test_cable_across_processes(tmp_path, card):
    """The first one listens, the second connects; when the first goes, a third takes its place."""
    loop = EventLoop()
    spec = f"cable:{tmp_path}/cable"
    first, second = (card(open_wire(spec, loop, loop)) for _ in range(2))

    def until(condition):
        deadline = loop.now() + 5_000_000_000
        while not condition():
            assert loop.now() < deadline
            loop.run_once(0.1)

    until(lambda: first.wire.link and second.wire.link)
    first.send(b"1" * 60)
    second.send(b"2" * 60)
    until(lambda: first.frames and second.frames)
    assert (first.frames, second.frames) == ([b"2" * 60], [b"1" * 60])
    first.wire.close()
    third = card(open_wire(spec, loop, loop))
    until(lambda: third.wire.link and second.wire.link)
    third.send(b"3" * 60)
    until(lambda: len(second.frames) == 2)
    second.wire.close()
    third.wire.close()
    loop.close()
