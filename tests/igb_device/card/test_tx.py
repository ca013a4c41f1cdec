"""Transmit: descriptors of both formats, offloads by the context's lengths, reports, a wire that blocks (7.2)."""

import random
import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.layers.vxlan import VXLAN

from igb_device.wire.base import NEEDS_CSUM, Accepts, Offload

EOP, IFCS, RS, DEXT, VLE, TSE = 1 << 24, 1 << 25, 1 << 27, 1 << 29, 1 << 30, 1 << 31
IC = 1 << 26  # legacy
IXSM, TXSM = 1, 2
UDP_, TCP_, SCTP_ = range(3)
ETH = {"dst": "02:00:00:00:00:02", "src": "52:54:00:12:34:56"}
VME = 1 << 30
SLU = 1 << 6


def pattern(n, seed=0):
    return random.Random(seed).randbytes(n)


def legacy(bench, data, at=0, *, cmd=EOP | IFCS | RS, cso=0, css=0, vlan=0):
    address = 0x600000 + at
    bench.memory[address : address + len(data)] = data
    return address, len(data) | cso << 16 | cmd | (css << 8 | vlan << 16) << 32


def unchecked(packet, layer, field="chksum"):
    """The packet as Linux hands it to a card that fills in the checksum: the pseudo-header's sum in the field."""
    whole = Ether(bytes(packet))
    inner = whole.getlayer(layer)
    addresses = whole.getlayer(IPv6) or whole.getlayer(IP)
    raw = addresses.__class__
    length = len(bytes(inner))
    number = {TCP: 6, UDP: 17}[layer]
    pack = struct.pack
    if raw is IPv6:
        pseudo = bytes.fromhex(_v6(addresses.src) + _v6(addresses.dst)) + pack(">IxxxB", length, number)
    else:
        pseudo = _v4(addresses.src) + _v4(addresses.dst) + pack(">xBH", number, length)
    setattr(inner, field, fold(pseudo))
    return bytes(whole)


def _v4(address):
    return bytes(map(int, address.split(".")))


def _v6(address):
    import ipaddress

    return ipaddress.IPv6Address(address).packed.hex()


def fold(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def right(frame):
    """The same frame with every checksum and length made by scapy."""
    packet = Ether(bytes(frame))
    layer = packet
    while layer:
        for name in ("chksum",):
            if name in layer.fields and not (isinstance(layer, UDP) and layer.fields[name] == 0):
                del layer.fields[name]
        layer = layer.payload if layer.payload else None
    return bytes(packet)


@pytest.fixture
def tx(bench):
    bench.tx_setup()
    return bench


# --- descriptors


@pytest.mark.parametrize("make", ["legacy", "advanced"])
@pytest.mark.parametrize("pieces", [[200], [14, 186], [1] * 60, [60, 0, 140], [6, 6, 2, 1500 - 14]])
def test_a_frame_of_several_parts(tx, make, pieces):
    frame = pattern(sum(pieces))
    at = 0
    for i, n in enumerate(pieces):
        last = i == len(pieces) - 1
        part = frame[at : at + n]
        if make == "legacy":
            tx.tx_put(0, legacy(tx, part, i * 0x800, cmd=(EOP | RS) if last else 0))
        else:
            flags = DEXT | (EOP | RS if last else 0)
            tx.tx_put(0, tx.tx_data(part, i * 0x800, flags=flags, total=len(frame)))
        at += n
        tx.tx_kick()  # each part with a doorbell of its own
        assert len(tx.wire.sent) == last
    assert tx.wire.frames == [frame]


def test_reports_only_where_asked(tx):
    indexes = tx.tx_put(
        0,
        tx.tx_data(pattern(100), 0, flags=DEXT | EOP),
        tx.tx_data(pattern(100), 0x800, flags=DEXT | EOP | RS),
        tx.tx_data(pattern(50), 0x1000, flags=DEXT, total=100),
        tx.tx_data(pattern(50), 0x1800, flags=DEXT | EOP | RS, total=100),
    )
    before = bytes(tx.memory[0x20000:0x20040])
    tx.tx_kick()
    assert [tx.tx_done(i) for i in indexes] == [False, True, False, True]
    after = bytes(tx.memory[0x20000:0x20040])
    assert after[:16] == before[:16]
    assert after[32:48] == before[32:48]
    assert tx["TDH"] == tx["TDT"] == 4


@pytest.mark.parametrize("alias", [0x3818, 0xE018])
def test_the_ring_wraps(tx, alias):
    """Many frames through a small ring, in groups that cross its end everywhere."""
    tx.tx_setup(count=8)
    sent = []
    for n in range(60):
        frames = [pattern(60 + n, n * 8 + i) for i in range(n % 7 + 1)]
        for i, frame in enumerate(frames):
            tx.tx_put(0, tx.tx_data(frame, i * 0x800))
        tx.write(alias, tx.tx_tail[0])
        sent += frames
    assert tx.wire.frames == sent


def test_all_queues_in_turn(bench):
    for queue in range(16):
        bench.tx_setup(queue)
    for queue in range(16):
        bench.send(pattern(64, queue), queue)
    assert [(data, queue) for data, _, queue in bench.wire.sent] == [(pattern(64, q), q) for q in range(16)]


def test_one_doorbell_one_call(tx):
    for n in range(60):
        tx.tx_put(0, tx.tx_data(pattern(64, n), n * 0x100))
    tx.tx_kick()
    assert tx.wire.calls == 1
    assert len(tx.wire.frames) == 60


def test_a_long_ring_goes_on_by_itself(bench):
    bench.tx_setup(count=4096 // 16 * 16)
    for _ in range(3000):
        bench.tx_put(0, bench.tx_data(pattern(64)))
    bench.tx_kick()
    bench.clock.advance(1000)
    assert len(bench.wire.frames) == 3000
    assert bench["TDH"] == 3000


def test_padding(tx):
    for n in (14, 30, 59, 60, 61):
        tx.send(pattern(n, n))
    assert [len(f) for f in tx.wire.frames] == [60, 60, 60, 60, 61]
    assert tx.wire.frames[1] == pattern(30, 30) + bytes(30)
    tx["TCTL"] = 2
    tx.send(pattern(30))
    assert tx.wire.frames[-1] == pattern(30), "without TCTL.PSP nothing is added"


def test_head_write_back(tx):
    """TDWBAL: the head goes to memory once for a batch, and no descriptor is touched."""
    tx["TDWBAH"] = 0
    tx["TDWBAL"] = 0x30000 | 1
    tx.memory[0x30000:0x30004] = b"\xff" * 4
    before = None
    for n in range(5):
        tx.tx_put(0, tx.tx_data(pattern(100, n), n * 0x100))
    before = bytes(tx.memory[0x20000:0x20050])
    tx.tx_kick()
    assert tx.memory[0x30000:0x30004] == (5).to_bytes(4, "little")
    assert bytes(tx.memory[0x20000:0x20050]) == before
    # a frame that is lost moves the head as well
    tx.tx_put(0, tx.tx_data(pattern(5)))
    tx.tx_kick()
    assert tx.memory[0x30000:0x30004] == (6).to_bytes(4, "little")


def test_transmitter_off(tx):
    tx["TCTL"] = 8
    tx.send(pattern(64))
    assert tx.wire.frames == []
    tx["TCTL"] = 10
    assert len(tx.wire.frames) == 1


def test_queue_off(tx):
    tx["TXDCTL"] = 0
    tx.send(pattern(64))
    assert tx.wire.frames == []
    tx["TXDCTL"] = 1 << 25
    assert len(tx.wire.frames) == 1


@pytest.mark.parametrize("set_up_before", [True, False])
def test_link_down_stalls_and_resumes(bench, set_up_before):
    """Frames stay in the ring while there's no link, also when the ring was set up meanwhile."""
    if set_up_before:
        bench.tx_setup()
    bench.wire.set_link(False)
    if not set_up_before:
        bench.tx_setup()
    index = bench.send(pattern(64))
    assert bench.wire.frames == []
    assert not bench.tx_done(index)
    bench.wire.set_link(True)
    bench.clock.advance(1_000_000_000)
    assert bench.wire.frames == [pattern(64)]
    assert bench.tx_done(index)


# --- a wire that takes no more


def test_blocked_wire_keeps_order_and_reports_late(tx):
    frames = [pattern(64 + n, n) for n in range(30)]
    tx.wire.room = 5
    for n, frame in enumerate(frames[:20]):
        tx.tx_put(0, tx.tx_data(frame, n * 0x800))
    tx.tx_kick()
    assert [tx.tx_done(i) for i in range(20)] == [True] * 5 + [False] * 15
    assert tx["TDH"] == 5
    for n, frame in enumerate(frames[20:], 20):
        tx.tx_put(0, tx.tx_data(frame, n * 0x800))
    tx.tx_kick()
    assert len(tx.wire.frames) == 5
    tx.wire.room = 7
    tx.wire.ready()
    assert [tx.tx_done(i) for i in range(20)] == [True] * 12 + [False] * 8
    tx.wire.room = 1000
    tx.wire.ready()
    assert tx.wire.frames == frames
    assert all(tx.tx_done(i) for i in range(30))
    assert tx["TDH"] == 30


def test_blocked_frames_are_as_they_were(tx):
    """A driver may not touch a buffer before the report; a card may not read it after."""
    tx.wire.room = 0
    index = tx.send(pattern(100))
    assert not tx.tx_done(index)
    tx.wire.room = 1
    tx.wire.ready()
    assert tx.wire.frames == [pattern(100)]
    assert tx.tx_done(index)


def test_disabled_queue_forgets_blocked_frames(tx):
    tx.wire.room = 0
    tx.send(pattern(100))
    tx.tx_setup()
    tx.wire.room = 100
    tx.wire.ready()
    assert tx.wire.frames == []
    tx.send(pattern(70))
    assert tx.wire.frames == [pattern(70)]


def test_a_wire_that_always_takes_one(tx):
    frames = [pattern(64, n) for n in range(40)]
    tx.wire.room = 0
    for n, frame in enumerate(frames):
        tx.tx_put(0, tx.tx_data(frame, n * 0x800))
        tx.tx_kick()
        tx.wire.room = 1
        tx.wire.ready()
    for _ in frames:
        tx.wire.room = 1
        tx.wire.ready()
    assert tx.wire.frames == frames


# --- checksums

PLAIN = {
    "tcp4": (Ether(**ETH) / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(dport=80) / pattern(333), TCP, TCP_, 14, 20),
    "udp4": (Ether(**ETH) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(dport=53) / pattern(100), UDP, UDP_, 14, 20),
    "tcp6": (Ether(**ETH) / IPv6(src="fe80::1", dst="fe80::2") / TCP(dport=80) / pattern(333), TCP, TCP_, 14, 40),
    "udp6": (Ether(**ETH) / IPv6(src="fe80::1", dst="fe80::2") / UDP(dport=53) / pattern(101), UDP, UDP_, 14, 40),
    "vlan": (Ether(**ETH) / Dot1Q(vlan=5) / IP(src="1.2.3.4", dst="1.2.3.5") / TCP() / pattern(50), TCP, TCP_, 18, 20),
}


@pytest.mark.parametrize("accepts", [Accepts.NONE, Accepts.CSUM])
@pytest.mark.parametrize("name", PLAIN)
def test_checksum(make_bench, context, name, accepts):
    packet, layer, l4t, maclen, iplen = PLAIN[name]
    bench = make_bench(accepts)
    bench.link_up()
    bench.tx_setup()
    wanted = bytes(packet)
    data = bytearray(unchecked(packet, layer))
    ipv4 = iplen == 20
    if ipv4:
        data[maclen + 10 : maclen + 12] = b"\0\0"
    bench.tx_put(0, context(maclen=maclen, iplen=iplen, l4t=l4t, ipv4=ipv4))
    bench.tx_put(0, bench.tx_data(bytes(data), popts=TXSM | (IXSM if ipv4 else 0)))
    # IXSM forces the sums to be made here; without it a wire that takes the work gets it
    good = bytes(data[: maclen + 10]) + wanted[maclen + 10 : maclen + 12] + bytes(data[maclen + 12 :])
    bench.tx_put(0, bench.tx_data(good if ipv4 else bytes(data), 0x1000, popts=TXSM))
    bench.tx_kick()
    (first, first_offload, _), (second, second_offload, _) = bench.wire.sent
    offset = 16 if layer is TCP else 6
    for frame, offload in ((first, first_offload), (second, second_offload)):
        if offload.flags:
            assert accepts & Accepts.CSUM
            assert offload == Offload(NEEDS_CSUM, csum_start=maclen + iplen, csum_offset=offset)
        else:
            assert frame == wanted
    if accepts:
        assert second_offload.flags == NEEDS_CSUM
    else:
        assert not second_offload.flags


def test_contexts_are_kept_and_two(tx, context):
    """Contexts 0 and 1 of a queue last until they are written again; each queue has its own."""
    tcp, udp = PLAIN["tcp4"], PLAIN["udp6"]
    data = [unchecked(tcp[0], TCP), unchecked(udp[0], UDP)]
    tx.tx_put(0, context(l4t=TCP_))
    tx.tx_put(0, context(l4t=UDP_, iplen=40, ipv4=False, index=1))
    for n in range(6):
        which = n & 1
        low, high = tx.tx_data(data[which], n * 0x800, popts=TXSM)
        tx.tx_put(0, (low, high | which << 36))
    tx.tx_kick()
    assert tx.wire.frames == [bytes(tcp[0]), bytes(udp[0])] * 3
    bench = tx
    bench.tx_setup(1)
    bench.tx_put(1, context(l4t=UDP_, iplen=40, ipv4=False))
    bench.tx_put(1, bench.tx_data(data[1], popts=TXSM))
    bench.tx_kick(1)
    bench.tx_put(0, bench.tx_data(data[0], 0x1000, popts=TXSM))
    bench.tx_kick(0)
    assert bench.wire.frames[-2:] == [bytes(udp[0]), bytes(tcp[0])]


def test_context_with_report(tx, context):
    low, high = context()
    (index,) = tx.tx_put(0, (low, high | RS))
    tx.tx_kick()
    assert tx.tx_done(index)
    assert tx.wire.frames == []


def test_sctp(tx, context):
    packet = Ether(**ETH) / IP(src="10.0.0.1", dst="10.0.0.2") / SCTP(sport=1, dport=2) / SCTPChunkData(data=b"x" * 77)
    wanted = bytes(packet)
    data = wanted[:42] + bytes(4) + wanted[46:]
    tx.tx_put(0, context(l4t=SCTP_), tx.tx_data(data, popts=TXSM))
    tx.tx_kick()
    assert tx.wire.frames == [wanted]


@pytest.mark.parametrize("accepts", [Accepts.NONE, Accepts.CSUM])
def test_inner_checksum_of_a_tunnel(make_bench, context, accepts):
    """Linux has the inner checksum of VXLAN done by a context whose MACLEN reaches to the inner IP header."""
    bench = make_bench(accepts)
    bench.link_up()
    bench.tx_setup()
    inner = Ether(**ETH) / IP(src="192.168.1.1", dst="192.168.1.2") / TCP(dport=80) / pattern(200)
    outer = Ether(**ETH) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=9, dport=4789, chksum=0) / VXLAN(vni=7)
    wanted = bytes(outer / inner)
    data = wanted[: len(bytes(outer))] + unchecked(inner, TCP)
    maclen = len(bytes(outer)) + 14
    bench.tx_put(0, context(maclen=maclen, l4t=TCP_), bench.tx_data(data, popts=TXSM))
    bench.tx_kick()
    ((frame, offload, _),) = bench.wire.sent
    if accepts:
        assert offload == Offload(NEEDS_CSUM, csum_start=maclen + 20, csum_offset=16)
    else:
        assert frame == wanted


def test_legacy_checksum(tx):
    """IC: the sum from CSS to the end goes to CSO; the driver has put the pseudo-header's sum there."""
    packet = PLAIN["udp4"][0]
    tx.tx_put(0, legacy(tx, unchecked(packet, UDP), cmd=EOP | RS | IC, css=34, cso=40))
    tx.tx_put(0, legacy(tx, pattern(64), 0x800, cmd=EOP | RS | IC, css=34, cso=200))  # beyond the frame: nothing
    tx.tx_kick()
    assert tx.wire.frames == [bytes(packet), pattern(64)]


# --- VLAN


def test_vlan_insertion_legacy(tx):
    """VLE counts only with CTRL.VME."""
    frame = pattern(100)
    tx["CTRL"] = SLU | VME
    tx.tx_put(0, legacy(tx, frame, cmd=EOP | VLE, vlan=0xA123))
    tx.tx_kick()
    tx["CTRL"] = SLU
    tx.tx_put(0, legacy(tx, frame, cmd=EOP | VLE, vlan=0xA123))
    tx.tx_kick()
    assert tx.wire.frames == [frame[:12] + bytes.fromhex("8100a123") + frame[12:], frame]


def test_vlan_insertion_uses_vet(tx):
    frame = pattern(100)
    tx["CTRL"] = SLU | VME
    tx["VET"] = 0x88A8
    tx.tx_put(0, legacy(tx, frame, cmd=EOP | VLE, vlan=1))
    tx.tx_kick()
    assert tx.wire.frames[0][12:16] == bytes.fromhex("88a80001")


@pytest.mark.parametrize("accepts", [Accepts.NONE, Accepts.CSUM])
@pytest.mark.parametrize("split", [0, 5, 14])
def test_vlan_insertion_advanced(make_bench, context, accepts, split):
    """The tag is the context's, and what the wire is told of checksums moves by four bytes."""
    bench = make_bench(accepts)
    bench.link_up()
    bench.tx_setup()
    packet = PLAIN["tcp4"][0]
    wanted = bytes(packet)[:12] + bytes.fromhex("81000064") + bytes(packet)[12:]
    data = unchecked(packet, TCP)
    bench.tx_put(0, context(vlan=100))
    if split:
        bench.tx_put(0, bench.tx_data(data[:split], flags=DEXT | VLE, popts=TXSM, total=len(data)))
    bench.tx_put(0, bench.tx_data(data[split:], 0x800, flags=DEXT | VLE | EOP, popts=TXSM, total=len(data)))
    bench.tx_kick()
    ((frame, offload, _),) = bench.wire.sent
    if accepts:
        assert offload == Offload(NEEDS_CSUM, csum_start=38, csum_offset=16)
        assert frame[:18] == wanted[:18]
    else:
        assert frame == wanted


# --- segmentation


def tso_frame(kind, size, **tcp):
    """(headers as Linux leaves them for the card, payload, context arguments)"""
    payload = pattern(size)
    if kind.endswith("4"):
        ip = IP(src="10.0.0.1", dst="10.0.0.2", id=0xFFF0)
        iplen, ipv4 = 20, True
    else:
        ip = IPv6(src="fd00::1", dst="fd00::2")
        iplen, ipv4 = 40, False
    if kind.startswith("tcp"):
        l4, l4t, l4len, number = TCP(sport=1, dport=2, seq=0xFFFFF000, flags="PAF", **tcp), TCP_, 20, 6
    else:
        l4, l4t, l4len, number = UDP(sport=1, dport=2), UDP_, 8, 17
    header = bytearray(bytes(Ether(**ETH) / ip / l4)[: 14 + iplen + l4len])
    if ipv4:
        header[16:18] = b"\0\0"
        header[24:26] = b"\0\0"
        pseudo = _v4("10.0.0.1") + _v4("10.0.0.2") + bytes((0, number))
    else:
        header[18:20] = b"\0\0"
        pseudo = bytes.fromhex(_v6("fd00::1") + _v6("fd00::2")) + bytes((0, number))
    field = 14 + iplen + (16 if l4t == TCP_ else 6)
    header[field : field + 2] = fold(pseudo).to_bytes(2, "big")
    return bytes(header), payload, {"iplen": iplen, "ipv4": ipv4, "l4t": l4t, "l4len": l4len}


def send_tso(bench, context, kind, size, mss, *, vlan=None, pieces=3):
    header, payload, arguments = tso_frame(kind, size)
    if vlan is not None:
        arguments["vlan"] = vlan
    flags = DEXT | TSE | (VLE if vlan is not None else 0)
    popts = TXSM | (IXSM if arguments["ipv4"] else 0)
    bench.tx_put(0, context(mss=mss, **arguments))
    bench.tx_put(0, bench.tx_data(header, flags=flags, popts=popts, total=len(payload)))
    at, offset = 0, 0x1000
    for i in range(pieces):
        n = len(payload) - at if i == pieces - 1 else len(payload) // pieces
        last = i == pieces - 1
        part = payload[at : at + n]
        (index,) = bench.tx_put(
            0,
            bench.tx_data(part, offset, flags=flags | (EOP | RS if last else 0), popts=popts, total=len(payload)),
        )
        at += n
        offset += (n + 0xFFF) & ~0xFFF
    bench.tx_kick()
    return payload, index


def check_segments(frames, kind, payload, mss, tagged=0):
    """Each segment is what scapy makes of its fields, and together they carry the payload."""
    carried = b""
    for n, data in enumerate(frames):
        packet = Ether(data)
        if tagged:
            assert packet[Dot1Q].vlan == tagged
        last = n == len(frames) - 1
        if kind.endswith("4"):
            assert packet[IP].len == len(data) - 14 - 4 * bool(tagged)
            assert packet[IP].id == (0xFFF0 + n) & 0xFFFF
        else:
            assert packet[IPv6].plen == len(data) - 54 - 4 * bool(tagged)
        if kind.startswith("tcp"):
            assert packet[TCP].seq == (0xFFFFF000 + n * mss) & 0xFFFFFFFF
            assert packet[TCP].flags == ("PAF" if last else "A")
            body = bytes(packet[TCP].payload)
        else:
            assert packet[UDP].len == len(bytes(packet[UDP]))
            body = bytes(packet[UDP].payload)
        assert len(body) == mss or last
        assert right(data) == data, "checksums"
        carried += body
    assert carried == payload
    assert len(frames) == -(-len(payload) // mss)


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "udp4", "udp6"])
@pytest.mark.parametrize(("size", "mss"), [(14600, 1460), (65000, 1448), (3100, 1000), (100, 1400), (1460, 1460)])
def test_segmentation_for_a_wire_that_takes_nothing(tx, context, kind, size, mss):
    payload, index = send_tso(tx, context, kind, size, mss)
    check_segments(tx.wire.frames, kind, payload, mss)
    assert tx.tx_done(index)
    assert tx["TSCTC"] == 1


@pytest.mark.parametrize("kind", ["tcp4", "udp6"])
def test_segmentation_with_vlan(tx, context, kind):
    payload, _ = send_tso(tx, context, kind, 10000, 1400, vlan=77)
    check_segments(tx.wire.frames, kind, payload, 1400, tagged=77)


ACCEPTS = {"tcp4": (Accepts.TSO4, 1), "tcp6": (Accepts.TSO6, 4), "udp4": (Accepts.USO, 5), "udp6": (Accepts.USO, 5)}


@pytest.mark.parametrize("kind", ACCEPTS)
@pytest.mark.parametrize("vlan", [None, 9])
def test_segmentation_left_to_the_wire(make_bench, context, kind, vlan):
    """One frame with the facts of virtio_net_hdr, its IP header whole and the pseudo-header's sum in the L4 field."""
    flag, gso = ACCEPTS[kind]
    bench = make_bench(flag | Accepts.CSUM)
    bench.link_up()
    bench.tx_setup()
    payload, index = send_tso(bench, context, kind, 20000, 1400, vlan=vlan)
    ((frame, offload, _),) = bench.wire.sent
    tag = 4 if vlan else 0
    start = 14 + tag + (20 if kind.endswith("4") else 40)
    l4len = 20 if kind.startswith("tcp") else 8
    assert offload == Offload(
        NEEDS_CSUM, gso, hdr_len=start + l4len, gso_size=1400, csum_start=start, csum_offset=16 if l4len == 20 else 6
    )
    assert frame[start + l4len :] == payload
    packet = Ether(frame)
    if kind.endswith("4"):
        assert packet[IP].len == len(frame) - 14 - tag
        assert fold(frame[14 + tag : start]) == 0xFFFF
    else:
        assert packet[IPv6].plen == len(frame) - start
    assert right(frame)[:start] == frame[:start]
    assert bench.tx_done(index)
    # what hardware would have counted
    n = -(-20000 // 1400)
    assert bench["GPTC"] == n
    assert bench["GOTCL"] == 20000 + n * (start + l4len + 4)


@pytest.mark.parametrize("kind", ACCEPTS)
def test_a_wire_that_takes_other_kinds(make_bench, context, kind):
    others = Accepts.TSO4 | Accepts.TSO6 | Accepts.USO | Accepts.CSUM
    bench = make_bench(others & ~ACCEPTS[kind][0])
    bench.link_up()
    bench.tx_setup()
    payload, _ = send_tso(bench, context, kind, 9000, 1400)
    check_segments(bench.wire.frames, kind, payload, 1400)


def test_segments_when_the_wire_blocks(tx, context):
    """The report comes after the last segment has gone."""
    tx.wire.room = 4
    payload, index = send_tso(tx, context, "tcp4", 14600, 1460)
    assert len(tx.wire.frames) == 4
    assert not tx.tx_done(index)
    tx.wire.room = 100
    tx.wire.ready()
    check_segments(tx.wire.frames, "tcp4", payload, 1460)
    assert tx.tx_done(index)


@pytest.mark.parametrize(
    "arguments",
    [
        {"mss": 0},
        {"mss": 1400, "maclen": 0},
        {"mss": 1400, "iplen": 0},
        {"mss": 1400, "l4len": 0},
        {"mss": 1400, "maclen": 127, "iplen": 511, "l4len": 255},
        {"mss": 1400, "l4t": 3},
        {"mss": 1400, "l4t": 2},
        {"mss": 0xFFFF},
    ],
)
def test_contexts_that_make_no_sense(tx, context, arguments):
    """The frame is lost and counted, the descriptor is reported, the queue goes on."""
    header, payload, good = tso_frame("tcp4", 100)
    tx.tx_put(0, context(**{**good, **arguments}))
    (index,) = tx.tx_put(0, tx.tx_data(header + payload, flags=DEXT | TSE | EOP | RS, popts=3, total=100))
    tx.tx_kick()
    assert tx.tx_done(index)
    assert len(tx.wire.frames) <= 1
    if not tx.wire.frames:
        assert sum(tx.nic.drops().values()) == 1
    tx.wire.sent.clear()
    tx.send(pattern(64))
    assert tx.wire.frames == [pattern(64)]


# --- statistics


def test_statistics(tx):
    unicast = bytes.fromhex("020000000002")
    for size, to in ((60, unicast), (61, b"\xff" * 6), (200, b"\1" + bytes(5)), (300, unicast), (600, unicast),
                     (1200, unicast)):  # fmt: skip
        tx.send(to + pattern(size - 6))
    octets = 60 + 61 + 200 + 300 + 600 + 1200 + 6 * 4
    assert tx["GPTC"] == tx["TPT"] == 6
    assert tx["GOTCL"] == tx["TOTL"] == octets
    assert tx["GOTCH"] == tx["TOTH"] == 0
    assert tx["BPTC"] == tx["MPTC"] == 1
    assert [tx.read(at) for at in range(0x40D8, 0x40F0, 4)] == [1, 1, 1, 1, 1, 1]
    assert tx["GPTC"] == tx["TPT"] == tx["GOTCL"] == tx["TOTL"] == tx["BPTC"] == 0, "cleared by reading"


def test_lost_frames_are_no_sent_frames(tx):
    tx.send(pattern(10))
    assert tx["GPTC"] == 0
    assert [reason.name for reason in tx.nic.drops()] == ["TX_BAD"]


def test_icmp_needs_no_offload(tx):
    frame = bytes(Ether(**ETH) / IP(dst="10.0.0.2") / ICMP() / pattern(56))
    tx.send(frame)
    assert tx.wire.frames == [frame]


def test_broadcast_in_tiny_parts(tx):
    frame = b"\xff" * 6 + pattern(60)
    for i, part in enumerate((frame[:3], frame[3:5], frame[5:])):
        tx.tx_put(0, tx.tx_data(part, i * 0x100, flags=DEXT | (EOP if i == 2 else 0), total=len(frame)))
    tx.tx_kick()
    assert tx["BPTC"] == 1


@pytest.mark.parametrize(("length", "sent"), [(9724, True), (9725, False), (65535, False)])
def test_the_longest_frame(tx, length, sent):
    """9.5 KB with the FCS; longer ones leave only as segments."""
    for make in (legacy, lambda bench, data: bench.tx_data(data)):
        tx.wire.sent.clear()
        frame = pattern(length)
        tx.tx_put(0, make(tx, frame))
        tx.tx_kick()
        assert tx.wire.frames == [frame] * sent
