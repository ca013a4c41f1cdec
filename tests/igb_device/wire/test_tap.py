"""TapWire against the kernel: a real TAP in a network namespace, kernel sockets behind it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from igb_device.wire.base import (
    DATA_VALID,
    GSO_TCPV4,
    GSO_UDP_L4,
    NEEDS_CSUM,
    NO_OFFLOAD,
    Accepts,
    Frame,
    Offload,
    WireError,
)
from igb_device.wire.tap import TapWire, check_offload, open_tap

HOST = "10.9.0.1"
GUEST = "10.9.0.2"
GUEST_MAC = "02:00:00:00:00:02"
VNET = "=BBHHHH"


@pytest.fixture
def tap(netns, loop):
    """A TAP that is up, with HOST on it and GUEST known as a neighbour."""
    fd = netns.run(lambda: open_tap("tap0", create=True))
    wire = TapWire(fd, loop, "tap0")
    netns.ip("link", "set", "tap0", "up")
    netns.ip("addr", "add", f"{HOST}/24", "dev", "tap0")
    netns.ip("neigh", "add", GUEST, "lladdr", GUEST_MAC, "dev", "tap0")
    wire.host_mac = netns.ip("-o", "link", "show", "tap0").split("link/ether ")[1].split()[0]
    yield wire
    wire.close()


def ether(wire):
    return Ether(src=GUEST_MAC, dst=wire.host_mac)


def l3(data):
    """The IPv4 packet of a frame, for picking out what a test sent (the kernel chatters IPv6 by itself)."""
    packet = Ether(data)
    return packet if IP in packet else None


@pytest.fixture
def pair(loop):
    """A wire on one end of a socket pair that keeps messages apart, as a TAP does."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    there.setblocking(False)
    wire = TapWire(here.detach(), loop, accepts=Accepts.CSUM)
    yield wire, there
    wire.close()
    there.close()


@pytest.mark.netns
def test_ping_of_a_kernel_is_answered(tap, loop, card):
    """A frame sent reaches the kernel, its answer comes back: ARP, without any offload."""
    mine = card(tap)
    request = ether(tap) / ARP(op=1, hwsrc=GUEST_MAC, psrc=GUEST, pdst=HOST)
    assert mine.send(bytes(request)) == 1
    loop.until(lambda: any(ARP in Ether(f) and Ether(f)[ARP].op == 2 for f in mine.frames))
    reply = next(Ether(f) for f in mine.frames if ARP in Ether(f) and Ether(f)[ARP].op == 2)
    assert (reply[ARP].psrc, reply[ARP].hwsrc, reply[ARP].hwdst) == (HOST, tap.host_mac, GUEST_MAC)
    assert tap.errors == 0


@pytest.mark.netns
def test_this_kernel_permits_all(tap):
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    everything = Accepts.CSUM | Accepts.TSO4 | Accepts.TSO6
    assert tap.accepts == (everything | Accepts.USO if release >= (6, 2) else everything)


@pytest.mark.netns
def test_parts_are_joined_on_the_way_out(tap, netns):
    """A frame scattered over more parts than writev takes arrives whole."""
    server = netns.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server:
        server.bind((HOST, 700))
        server.settimeout(5)
        payload = bytes(range(256)) * 5
        raw = bytes(ether(tap) / IP(src=GUEST, dst=HOST) / UDP(sport=1, dport=700) / payload)
        for size in (1, 3, 400):
            parts = [raw[at : at + size] for at in range(0, len(raw), size)]
            assert tap.send([Frame(parts)]) == 1
            assert server.recv(4096) == payload


@pytest.mark.netns
def test_kernel_fills_in_a_checksum(tap, netns):
    server = netns.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server:
        server.bind((HOST, 700))
        server.settimeout(0.3)
        frame = bytearray(bytes(ether(tap) / IP(src=GUEST, dst=HOST) / UDP(sport=1, dport=700) / b"unfinished"))
        frame[40:42] = b"\x12\x34"
        tap.send([Frame((frame,))])
        with pytest.raises(TimeoutError):  # the checksum is wrong, so this proves that the next one isn't by chance
            server.recv(100)
        tap.send([Frame((frame,), Offload(NEEDS_CSUM, csum_start=34, csum_offset=6))])
        assert server.recv(100) == b"unfinished"


@pytest.mark.netns
def test_uso_segment_reaches_a_socket_as_datagrams(tap, netns):
    if Accepts.USO not in tap.accepts:
        pytest.skip("this kernel has no USO on TAPs")
    server = netns.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server:
        server.bind((HOST, 700))
        server.settimeout(5)
        payload = os.urandom(3500)
        frame = ether(tap) / IP(src=GUEST, dst=HOST) / UDP(sport=1, dport=700, chksum=0) / payload
        note = Offload(NEEDS_CSUM, GSO_UDP_L4, 42, 1000, 34, 6)
        assert tap.send([Frame((bytes(frame),), note)]) == 1
        assert tap.errors == 0
        got = [server.recv(4096) for _ in range(4)]
        assert [len(part) for part in got] == [1000, 1000, 1000, 500]
        assert b"".join(got) == payload


@pytest.mark.netns
def test_tcp_both_ways_in_big_segments(tap, netns, loop, card):
    """A kernel's TCP is spoken to by hand: it sends segments with a GSO note, and takes one from here."""
    mine = card(tap)
    server = netns.run(lambda: socket.create_server((HOST, 80)))
    blob = os.urandom(40_000)
    received = bytearray()

    def serve():
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            connection.sendall(blob)
            while len(received) < len(blob):
                data = connection.recv(65536)
                if not data:
                    break
                received.extend(data)

    thread = threading.Thread(target=serve)
    thread.start()
    options = [("MSS", 1460), ("WScale", 7)]
    syn = TCP(sport=5000, dport=80, flags="S", seq=1000, window=65535, options=options)
    ip = IP(src=GUEST, dst=HOST)
    mine.send(bytes(ether(tap) / ip / syn))

    def segments():
        return [
            (packet[TCP], note)
            for packet, note in zip(map(l3, mine.frames), mine.offloads, strict=True)
            if packet is not None and TCP in packet
        ]

    loop.until(segments)
    synack, note = segments()[0]
    assert synack.flags == "SA"
    assert note.flags == NEEDS_CSUM
    assert (note.csum_start, note.csum_offset) == (34, 16)
    base = synack.seq + 1

    def stream():
        data = bytearray(len(blob))
        top = 0
        for tcp, _ in segments():
            payload = bytes(tcp.payload)
            if payload and tcp.flags.A and not tcp.flags.S:
                at = (tcp.seq - base) & 0xFFFFFFFF
                data[at : at + len(payload)] = payload
                top = max(top, at + len(payload))
        return data[:top]

    acked = -1

    def all_there():
        nonlocal acked
        top = len(stream())
        if top != acked:
            acked = top
            ack = TCP(sport=5000, dport=80, flags="A", seq=1001, ack=base + top, window=1024)
            mine.send(bytes(ether(tap) / ip / ack))
        return top == len(blob)

    loop.until(all_there)
    assert bytes(stream()) == blob
    big = [(tcp, note) for tcp, note in segments() if note.gso_type == GSO_TCPV4]
    assert big, "the kernel cut all segments itself"
    for tcp, note in big:
        assert note.flags == NEEDS_CSUM
        assert len(tcp.payload) > note.gso_size > 1000
        assert note.hdr_len == 34 + tcp.dataofs * 4

    # and back: one segment of 40000 bytes, which a wire of 1500 bytes would carry as 28 frames
    header = ether(tap) / ip / TCP(sport=5000, dport=80, flags="PA", seq=1001, ack=base + len(blob), window=1024)
    frame = bytearray(bytes(header / blob))
    total = len(frame) - 34
    pseudo = socket.inet_aton(GUEST) + socket.inet_aton(HOST) + struct.pack("!HH", socket.IPPROTO_TCP, total)
    add = sum(struct.unpack("!6H", pseudo))
    while add >> 16:
        add = (add & 0xFFFF) + (add >> 16)
    frame[50:52] = add.to_bytes(2, "big")
    offload = Offload(NEEDS_CSUM, GSO_TCPV4, 54, 1460, 34, 16)
    assert tap.send([Frame((memoryview(frame)[:54], memoryview(frame)[54:]), offload)]) == 1
    thread.join(5)
    server.close()
    assert not thread.is_alive()
    assert bytes(received) == blob
    assert tap.errors == 0


@pytest.mark.netns
def test_interface_down_loses_frames_and_keeps_the_link(tap, netns, loop, card):
    mine = card(tap)
    netns.ip("link", "set", "tap0", "down")
    assert mine.send(b"\xff" * 60, b"\xff" * 60) == 2
    assert tap.errors == 2
    assert tap.link
    netns.ip("link", "set", "tap0", "up")
    assert mine.send(bytes(ether(tap) / ARP(op=1, hwsrc=GUEST_MAC, psrc=GUEST, pdst=HOST))) == 1
    assert tap.errors == 2
    loop.until(lambda: any(ARP in Ether(f) for f in mine.frames))


@pytest.mark.netns
def test_frames_the_kernel_refuses_are_counted(tap, card):
    mine = card(tap)
    assert mine.send(b"", b"\x01", b"\x02" * 60) == 3
    assert tap.errors == 2
    assert tap.send([Frame((b"\x02" * 60,), Offload(NEEDS_CSUM, csum_start=50, csum_offset=16))]) == 1
    assert tap.errors == 3


@pytest.mark.netns
def test_vanished_tap_is_link_down(netns, loop, card):
    netns.ip("tuntap", "add", "tap1", "mode", "tap")
    wire = TapWire(netns.run(lambda: open_tap("tap1")), loop, "tap1")
    mine = card(wire)
    assert wire.link
    netns.ip("link", "del", "tap1")
    loop.until(lambda: mine.links)
    assert mine.links == [False]
    assert not wire.link
    assert loop.watched == 0
    assert mine.send(b"\xff" * 60, b"\xff" * 60) == 2
    assert wire.errors == 2
    assert wire.receive(10) == []
    assert mine.links == [False]
    wire.close()


@pytest.mark.netns
def test_vanished_tap_does_not_spin_for_a_card_that_does_not_read(netns, loop):
    netns.ip("tuntap", "add", "tap1", "mode", "tap")
    wire = TapWire(netns.run(lambda: open_tap("tap1")), loop, "tap1")
    links = []
    wire.connect(lambda: None, links.append)
    netns.ip("link", "del", "tap1")
    loop.until(lambda: links)
    assert links == [False]
    assert loop.watched == 0
    wire.close()


@pytest.mark.netns
def test_vanished_tap_is_noticed_in_send_while_paused(netns, loop, card):
    netns.ip("tuntap", "add", "tap1", "mode", "tap")
    wire = TapWire(netns.run(lambda: open_tap("tap1")), loop, "tap1")
    mine = card(wire)
    wire.pause(True)
    netns.ip("link", "del", "tap1")
    assert mine.send(b"\xff" * 60, b"\xff" * 60) == 2
    assert mine.links == [False]
    assert wire.errors == 2
    wire.close()


@pytest.mark.netns
def test_multi_queue(netns, loop):
    netns.ip("tuntap", "add", "tap1", "mode", "tap", "multi_queue")
    fds = [netns.run(lambda: open_tap("tap1", multi_queue=True)) for _ in range(3)]
    assert len(set(fds)) == 3
    with pytest.raises(WireError, match=r"with multi_queue"):
        netns.run(lambda: open_tap("tap1"))
    for fd in fds:
        os.close(fd)


@pytest.mark.netns
def test_what_cannot_be_opened_is_one_line(netns, loop):
    def why(name, **options):
        with pytest.raises(WireError) as raised:
            netns.run(lambda: open_tap(name, **options))
        text = str(raised.value)
        assert "\n" not in text
        return text

    before = len(os.listdir("/proc/self/fd"))
    assert "no TAP 'tap7'" in why("tap7")
    for name in ("", "a" * 16, "a/b", "tap%d", "a\0b"):
        assert "can't be the name" in why(name)
    assert "is no TAP" in why("lo")
    netns.ip("tuntap", "add", "tap1", "mode", "tap")
    fd = netns.run(lambda: open_tap("tap1"))
    assert "in use" in why("tap1")
    os.close(fd)
    netns.ip("tuntap", "add", "tun1", "mode", "tun")
    assert "is no TAP" in why("tun1")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.netns
def test_tap_of_another_user_says_how(netns):
    netns.ip("tuntap", "add", "tap1", "mode", "tap", "user", "12345")
    # In a child process, as privileges can't be taken back.
    code = (
        "import os,sys\nfrom igb_device.wire.tap import open_tap\nfrom igb_device.wire.base import WireError\n"
        "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "try: open_tap('tap1')\nexcept WireError as e: print(e)\n"
    )
    mode = os.stat("/dev/net/tun").st_mode & 0o666
    result = netns.run(lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True))
    if "ModuleNotFound" in result.stderr or "Permission" in result.stderr:
        pytest.skip("another user can't run this Python")
    assert "ip tuntap add tap1 mode tap user" in result.stdout or (mode != 0o666 and "/dev/net/tun" in result.stdout)
    assert result.stdout.count("\n") == 1


def test_a_descriptor_that_is_no_tap(loop):
    with open("/dev/null", "rb") as null, pytest.raises(WireError, match="no TAP"):
        TapWire(null.fileno(), loop)


def test_full_far_end_takes_no_more_and_says_when_it_does(pair, loop, card):
    wire, there = pair
    mine = card(wire)
    frames = [b"%6d" % i + bytes(2000) for i in range(2000)]
    sent = mine.send(*frames)
    assert 0 < sent < len(frames)
    assert wire.errors == 0
    assert mine.readies == 0
    got = []

    def drain():
        try:
            while True:
                got.append(there.recv(4096))
        except BlockingIOError:
            pass

    while sent < len(frames):
        drain()
        calls = mine.readies
        loop.until(lambda calls=calls: mine.readies > calls)
        sent += mine.send(*frames[sent:])
    drain()
    assert [data[10:] for data in got] == frames
    loop.turn()
    assert loop.watched == 1  # no more waiting for room


def test_pause_leaves_frames_at_the_far_end(pair, loop, card):
    wire, there = pair
    mine = card(wire)
    wire.pause(True)
    there.send(bytes(10) + b"a" * 60)
    assert loop.turn() == 0
    assert mine.frames == []
    wire.pause(False)
    loop.turn(1)
    assert mine.frames == [b"a" * 60]


def test_receive_keeps_to_its_limit_and_order(pair, loop):
    wire, there = pair
    there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    sent = [bytes([i]) * (60 + i) for i in range(50)]
    for frame in sent:
        there.send(bytes(10) + frame)
    got = []
    sizes = []
    while frames := wire.receive(20):
        sizes.append(len(frames))
        got += [bytes(frame.parts[0]) for frame in frames]
        assert all(frame.offload is NO_OFFLOAD and frame.queue == 0 for frame in frames)
    assert got == sent
    assert sizes == [20, 20, 10]


def test_headers_come_through_and_bad_ones_are_counted(pair):
    wire, there = pair
    body = bytes(14) + bytes(20) + bytes(12) + b"\x80" + bytes(100)

    def receive(*fields, body=body):
        there.send(struct.pack(VNET, *fields) + body)
        frames = wire.receive(1)
        return frames[0].offload if frames else None

    assert receive(0, 0, 0, 0, 0, 0) is NO_OFFLOAD
    assert receive(DATA_VALID, 0, 0, 0, 0, 0) == Offload(DATA_VALID)
    assert receive(NEEDS_CSUM, 0, 54, 0, 34, 16) == Offload(NEEDS_CSUM, csum_start=34, csum_offset=16)
    # hdr_len is the header's end, whatever the kernel counted as linear
    assert receive(NEEDS_CSUM, GSO_TCPV4, 200, 50, 34, 16) == Offload(NEEDS_CSUM, GSO_TCPV4, 34 + 32, 50, 34, 16)
    assert receive(NEEDS_CSUM, GSO_UDP_L4, 200, 50, 34, 6) == Offload(NEEDS_CSUM, GSO_UDP_L4, 42, 50, 34, 6)
    assert wire.errors == 0
    bad = [
        (NEEDS_CSUM, 0, 0, 0, 0xFFFF, 16),
        (NEEDS_CSUM, 0, 0, 0, 34, 0xFFFF),
        (NEEDS_CSUM, GSO_TCPV4, 54, 0, 34, 16),  # no segment size
        (0, GSO_TCPV4, 54, 50, 34, 16),  # no checksum to fill in
        (NEEDS_CSUM, GSO_TCPV4, 54, 50, 33, 16),  # data offset of 0 words
        (NEEDS_CSUM, GSO_TCPV4, 54, 50, len(body) - 18, 16),  # header beyond the end
        (NEEDS_CSUM, 3, 54, 50, 34, 16),  # UFO was never asked for
        (NEEDS_CSUM, 0x7F, 54, 50, 34, 16),
    ]
    for count, fields in enumerate(bad, 1):
        assert receive(*fields) is None, fields
        assert wire.errors == count
    assert receive(0, 0, 0, 0, 0, 0, body=b"") is None
    assert wire.errors == len(bad) + 1


def test_short_and_overlong_messages(pair):
    wire, there = pair
    there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    there.send(b"\x00" * 9)
    there.send(bytes(80_000))
    there.send(bytes(10) + b"good" * 20)
    got = [bytes(frame.parts[0]) for _ in range(3) for frame in wire.receive(1)]
    assert got == [b"good" * 20]
    assert wire.errors == 2


def test_check_offload_never_raises_and_never_points_outside():
    u8, u16 = st.integers(0, 255), st.integers(0, 65535)

    @given(
        st.tuples(u8, st.sampled_from([0, 1, 4, 5, 0x81, 0x84]) | u8, u16, u16, u16 | u8, u8), st.binary(max_size=200)
    )
    def check(fields, data):
        offload = check_offload(fields, memoryview(data))
        if offload is None:
            return
        if offload.flags & NEEDS_CSUM:
            assert offload.csum_start + offload.csum_offset + 2 <= len(data)
        if offload.gso_type:
            assert offload.csum_start < offload.hdr_len <= len(data)
            assert offload.gso_size > 0

    check()


def test_close_gives_the_descriptor_back(loop):
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wire = TapWire(here.detach(), loop, accepts=Accepts.NONE)
    wire.connect(lambda: None, lambda up: None)
    assert loop.watched == 1
    wire.close()
    wire.close()
    assert there.recv(1) == b""  # the other end is told
    there.close()
    assert wire.send([Frame((b"x" * 60,))]) == 1
    assert wire.receive(1) == []
