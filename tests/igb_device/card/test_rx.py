"""Receive: filters, steering, checksums, descriptor formats, full rings, pausing (datasheet 7.1)."""

import random
import struct
import zlib

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData

from igb_device.wire.base import DATA_VALID, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, Offload

RCTL, RLPML, RXCSUM, CTRL, ICR, MRQC = 0x100, 0x5004, 0x5000, 0, 0xC0, 0x5818
UPE, MPE, LPE, BAM, VFE, SECRC, EN = 1 << 3, 1 << 4, 1 << 5, 1 << 15, 1 << 18, 1 << 26, 2
SLU, TFCE, VME = 1 << 6, 1 << 28, 1 << 30
PCSD, TUOFLD, IPOFLD = 1 << 13, 1 << 9, 1 << 8
DROP_EN = 1 << 31
ONEBUF, LEGACY, SPLIT, SPLIT_ALWAYS = 1 << 25, 0, 2 << 25, 5 << 25
IPCS, L4CS, UDPCS, VP = 1 << 6, 1 << 5, 1 << 4, 1 << 3
IPE, L4E, HBO = 1 << 30, 1 << 29, 1 << 23
MINE = "52:54:00:12:34:56"
SRC = "02:00:00:00:00:01"


def frame_to(destination, n=60):
    return (
        bytes.fromhex(destination.replace(":", ""))
        + bytes.fromhex("02000000000188b5")
        + bytes(i & 0xFF for i in range(n - 14))
    )


def udp(n=50, dst=MINE, **ip):
    return bytes(Ether(dst=dst, src=SRC) / IP(src="10.0.0.1", dst="10.0.0.2", **ip) / UDP(dport=7) / (b"u" * n))


def tcp(n=50, dst=MINE, **fields):
    fields = {"dport": 80, "flags": "A", **fields}
    return bytes(Ether(dst=dst, src=SRC) / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(**fields) / (b"t" * n))


@pytest.fixture
def rx(bench):
    bench.rx_setup()
    bench.rx_on()
    return bench


def got(bench, queue=0):
    return [received.data for received in bench.rx_take(queue)]


# --- filters


@pytest.mark.parametrize(
    ("bits", "to", "passes"),
    [
        (0, MINE, True),
        (0, "52:54:00:12:34:57", False),
        (UPE, "52:54:00:12:34:57", True),
        (0, "ff:ff:ff:ff:ff:ff", False),
        (BAM, "ff:ff:ff:ff:ff:ff", True),
        (0, "01:00:5e:00:00:01", False),
        (MPE, "01:00:5e:00:00:01", True),
        (UPE, "01:00:5e:00:00:01", False),
        (MPE, "52:54:00:12:34:57", False),
    ],
)
def test_address_filters(bench, bits, to, passes):
    bench.rx_setup()
    bench.write(RCTL, EN | SECRC | bits)
    bench.wire.give(frame_to(to))
    assert got(bench) == [frame_to(to)] * passes
    assert [v.reason.name if v.reason else None for v in bench.wire.verdicts] == [None if passes else "NO_MATCH"]


def test_exact_filters_and_their_valid_bit(rx):
    rx.write(0x5408, 0x33221100)
    rx.write(0x540C, 0x80005544)
    rx.write(0x54F0, 0x33221102)  # entry 18, in the second block
    rx.write(0x54F4, 0x80005544)
    for to in ("00:11:22:33:44:55", "02:11:22:33:44:55"):
        rx.wire.give(frame_to(to))
    assert len(got(rx)) == 2
    rx.write(0x540C, 0x5544)
    rx.wire.give(frame_to("00:11:22:33:44:55"))
    assert got(rx) == []


def test_multicast_table(rx):
    """Linux's hash: bits 47:36 of the address pick a bit of MTA (RCTL.MO 0)."""
    address = bytes.fromhex("01005e010203")
    value = (address[4] >> 4 | address[5] << 4) & 0xFFF
    rx.write(0x5200 + 4 * (value >> 5), 1 << (value & 31))
    rx.wire.give(frame_to(address.hex(":")), frame_to("01:00:5e:01:02:13"), frame_to("33:33:5e:01:02:03"))
    assert got(rx) == [frame_to(address.hex(":")), frame_to("33:33:5e:01:02:03")]


def test_vlan_filter(rx):
    rx.rx_on(VFE)
    rx.write(0x5600 + 4 * (100 >> 5), 1 << (100 & 31))
    tagged = [bytes(Ether(dst=MINE, src=SRC) / Dot1Q(vlan=v) / IP() / UDP()) for v in (100, 101)]
    rx.wire.give(*tagged, udp())
    assert len(got(rx)) == 2
    assert [v.reason.name if v.reason else None for v in rx.wire.verdicts] == [None, "VLAN_FILTER", None]


def test_receiver_off(rx):
    rx.write(RCTL, 0)
    rx.wire.give(udp())
    rx.rx_on()
    assert got(rx) == []
    assert rx.wire.verdicts[0].reason.name == "RX_DISABLED"


def test_nothing_is_heard_without_link(rx):
    rx.wire.set_link(False)
    rx.wire.give(udp())
    assert got(rx) == []
    assert rx.wire.verdicts[0].reason.name == "LINK_DOWN"


def test_short_frames_are_padded(rx):
    """A far end without wires hands over frames that were never padded: they arrive as from a wire, and none is an
    error."""
    arp = frame_to(MINE, 42)
    rx.wire.give(arp)
    assert got(rx) == [arp + bytes(18)]
    assert rx["RUC"] == rx["RLEC"] == 0
    assert rx["PRC64"] == 1


@pytest.mark.parametrize("frame", [b"", b"x", bytes(13)])
def test_no_ethernet_frame(rx, frame):
    rx.wire.give(frame)
    assert got(rx) == []
    assert rx.wire.verdicts[0].reason.name == "BAD_FRAME"


# --- lengths


@pytest.mark.parametrize(
    ("lpe", "rlpml", "length", "tag", "passes"),
    [
        (0, 0x2600, 1514, False, True),
        (0, 0x2600, 1515, False, False),
        (0, 0x2600, 1518, True, True),
        (0, 0x2600, 1519, True, False),
        (LPE, 1522, 1518, False, True),  # RLPML counts the FCS
        (LPE, 1522, 1519, False, False),
        (LPE, 9022, 9018, False, True),
        (LPE, 9022, 9019, False, False),
        (LPE, 0x3FFF, 0x3FFF - 4, False, True),
        (LPE, 0x3FFF, 65535, False, False),
    ],
)
def test_length_limits(bench, lpe, rlpml, length, tag, passes):
    bench.rx_setup()
    bench.rx_on(lpe)
    bench.write(RLPML, rlpml)
    frame = bytes(Ether(dst=MINE, src=SRC) / Dot1Q(vlan=1)) if tag else bytes(Ether(dst=MINE, src=SRC, type=0x88B5))
    frame += random.Random(1).randbytes(length - len(frame))
    bench.wire.give(frame)
    assert got(bench) == [frame] * passes
    assert bench["ROC"] == (not passes)


@pytest.mark.parametrize(("srrctl", "size"), [(ONEBUF | 2, 2048), (ONEBUF | 1, 1024), (ONEBUF, 2048), (2, 2048)])
def test_jumbo_over_several_descriptors(bench, srrctl, size):
    bench.rx_setup(srrctl=srrctl)
    bench.rx_on(LPE)
    frame = random.Random(1).randbytes(9000)
    frame = bytes.fromhex("525400123456") + frame[6:]
    bench.wire.give(frame, udp())
    if srrctl & ONEBUF:
        first, second = bench.rx_take()
    else:
        first, second = legacy_take(bench, size)
    assert first.data == frame
    assert second.data == udp()
    assert first.lengths == [size] * (9000 // size) + [9000 % size]


@pytest.mark.parametrize(("bsize", "size"), [(0, 2048), (1, 1024), (2, 512), (3, 256)])
def test_buffer_size_of_rctl(bench, bsize, size):
    """With SRRCTL.BSIZEPACKET 0, RCTL.BSIZE holds."""
    bench.rx_setup(srrctl=ONEBUF)
    bench.rx_on(bsize << 16)
    frame = frame_to(MINE)[:14] + bytes(1400)
    bench.wire.give(frame)
    (received,) = bench.rx_take()
    assert received.data == frame
    assert received.lengths[0] == min(size, 1414)


def test_a_jumbo_frame_never_begins_without_room_for_its_end(bench):
    bench.rx_setup(count=16, buffers=False, srrctl=ONEBUF | 1)
    bench.rx_on(LPE)
    frame = frame_to(MINE)[:14] + bytes(5000)
    bench.rx_give(0, 4)
    bench.wire.give(frame)
    assert bench["RDH"] == 0
    bench.rx_give(0, 1)
    assert got(bench) == [frame]


# --- descriptors


def legacy_take(bench, size=2048, base=0x10000):
    """All frames in legacy descriptors: address untouched; length, checksum, status, errors, VLAN."""
    frames, data, lengths = [], b"", []
    index = bench.rx_next[0]
    while True:
        at = base + 16 * index
        address, length, checksum, status, errors, vlan = struct.unpack_from("<QHHBBH", bench.memory, at)
        if not status & 1:
            return frames
        assert address == bench.rx_buffer(0, index), "the address is left alone"
        struct.pack_into("<QQ", bench.memory, at, 0, 0)
        data += bytes(bench.memory[address : address + length])
        lengths.append(length)
        index = (index + 1) % bench.rx_count[0]
        bench.rx_next[0] = index
        if status & 2:
            frame = type("LegacyFrame", (), {})()
            frame.data, frame.lengths, frame.checksum = data, lengths, checksum
            frame.status, frame.errors, frame.vlan = status, errors, vlan
            frames.append(frame)
            data, lengths = b"", []


def test_legacy_descriptors_by_the_old_registers(bench):
    """Queue 0 at 0x2800, neither SRRCTL nor RXDCTL written: what drivers of old do."""
    for i in range(15):
        struct.pack_into("<QQ", bench.memory, 0x10000 + 16 * i, bench.rx_buffer(0, i), 0)
    bench.write(0x2800, 0x10000)
    bench.write(0x2804, 0)
    bench.write(0x2808, 256)
    bench.write(0x2810, 0)
    bench.write(0x2818, 15)
    bench.write(CTRL, SLU | VME)
    bench.rx_on()
    bench.rx_next[0], bench.rx_count[0] = 0, 16
    tagged = bytes(Ether(dst=MINE, src=SRC) / Dot1Q(vlan=5, prio=3) / IP() / UDP() / (b"x" * 40))
    bad = bytearray(tcp())
    bad[-1] ^= 1
    bench.wire.give(udp(), tagged, bytes(bad))
    plain, stripped, broken = legacy_take(bench)
    assert plain.data == udp()
    assert plain.status & (IPCS | L4CS) == IPCS | L4CS
    assert plain.errors == 0
    assert plain.vlan == 0
    assert stripped.data == tagged[:12] + tagged[16:]
    assert stripped.vlan == 0x6005
    assert stripped.status & VP
    assert broken.errors == 0x20, "TCPE"
    # RXCSUM.PCSD is 0 and PCSS 0: the sum over the whole frame
    assert plain.checksum == ones_complement(plain.data)
    assert stripped.checksum == ones_complement(stripped.data)


def ones_complement(data):
    data += b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@pytest.mark.parametrize("pcss", [0, 14, 34])
@pytest.mark.parametrize("secrc", [SECRC, 0])
def test_packet_checksum(bench, pcss, secrc):
    """RXCSUM.PCSD 0: the sum from byte PCSS on, over what is stored: without a stripped tag, with a kept FCS."""
    bench.rx_setup()
    bench.write(CTRL, SLU | VME)
    bench.write(RXCSUM, pcss)
    bench.write(RCTL, EN | BAM | secrc)
    tagged = bytes(Ether(dst=MINE, src=SRC) / Dot1Q(vlan=5) / IP() / UDP() / (b"x" * 41))
    bench.wire.give(tagged, udp(51))
    for received in bench.rx_take():
        assert received.low >> 48 == ones_complement(received.data[pcss:])


def test_hash_replaces_the_packet_checksum(bench):
    bench.rx_setup()
    bench.rx_on()
    bench.write(RXCSUM, PCSD)
    bench.wire.give(udp())
    assert bench.rx_take()[0].low >> 32 == 0, "no RSS, no hash"


@pytest.mark.parametrize("length", [60, 100, 1514])
def test_fcs_is_kept_without_secrc(bench, length):
    bench.rx_setup()
    bench.write(RCTL, EN)
    frame = frame_to(MINE)[:14] + bytes(length - 14)
    bench.wire.give(frame, frame_to(MINE, 40))
    first, second = got(bench)
    assert first == frame + zlib.crc32(frame).to_bytes(4, "little")
    padded = frame_to(MINE, 40) + bytes(20)
    assert second == padded + zlib.crc32(padded).to_bytes(4, "little")


def split_ring(bench, kind, room=256):
    bench.rx_setup(srrctl=kind | room // 64 << 8 | 2)
    bench.rx_on(LPE)


def header_info(received):
    """(SPH, HDR_LEN) of the write-back."""
    return bool(received.low >> 31 & 1), received.low >> 21 & 0x3FF


def test_header_split(bench):
    split_ring(bench, SPLIT)
    vlan = bytes(Ether(dst=MINE, src=SRC) / Dot1Q(vlan=3) / IP() / UDP() / (b"v" * 100))
    bench.wire.give(tcp(500), udp(600), vlan, frame_to(MINE, 300))
    first, second, third, fourth = bench.rx_take()
    assert header_info(first) == (True, 54)
    assert (first.header, first.data) == (tcp(500)[:54], tcp(500)[54:])
    assert header_info(second) == (True, 42)
    assert second.header + second.data == udp(600)
    assert header_info(third) == (True, 46)
    assert header_info(fourth) == (False, 0), "no headers it knows"
    assert fourth.data == frame_to(MINE, 300)


def test_header_longer_than_its_buffer(bench):
    split_ring(bench, SPLIT, room=64)
    frame = tcp(500, options=[("NOP", None)] * 40)
    assert len(frame) == 54 + 40 + 500
    bench.wire.give(frame)
    (received,) = bench.rx_take()
    assert header_info(received) == (True, 94)
    assert received.status & HBO
    assert received.data == frame


def test_split_always(bench):
    """The table of 7.1.10 for split-always: the header buffer gets something of each frame."""
    split_ring(bench, SPLIT_ALWAYS, room=128)
    long_header = tcp(500, options=[("NOP", None)] * 40)
    bench.wire.give(udp(20), frame_to(MINE, 300), udp(500))
    whole, unknown, split = bench.rx_take()
    assert header_info(whole) == (False, 62)
    assert (whole.header, whole.data) == (udp(20), b"")
    assert header_info(unknown) == (False, 128)
    assert unknown.header + unknown.data == frame_to(MINE, 300)
    assert header_info(split) == (True, 42)
    assert split.header + split.data == udp(500)
    split_ring(bench, SPLIT_ALWAYS, room=64)
    bench.wire.give(long_header)
    at = bench.rx_buffer(0, 0)
    low, status, length, _ = struct.unpack_from("<QIHH", bench.memory, 0x10000)
    assert (low >> 31 & 1, low >> 21 & 0x3FF) == (1, 94)
    assert status & HBO
    assert length == len(long_header) - 64
    assert bytes(bench.memory[at + 0x20000 : at + 0x20040]) + bytes(bench.memory[at : at + length]) == long_header


def test_split_of_a_jumbo_frame(bench):
    split_ring(bench, SPLIT)
    bench.write(RLPML, 9022)
    frame = tcp(8000)
    bench.wire.give(frame)
    (received,) = bench.rx_take()
    assert received.header + received.data == frame
    assert received.lengths == [2048, 2048, 2048, 8000 - 3 * 2048]


def test_largest_header_buffer(bench):
    """HDR_LEN has ten bits: nothing spills over into the hash."""
    bench.rx_setup(srrctl=SPLIT_ALWAYS | 63 << 8 | 2)
    bench.rx_on(LPE)
    bench.write(RXCSUM, PCSD)
    bench.wire.give(frame_to(MINE, 60)[:14] + bytes(3000))
    low = struct.unpack_from("<Q", bench.memory, 0x10000)[0]
    assert low >> 32 == 0


# --- VLAN


def test_vlan_strip(rx):
    tagged = bytes(Ether(dst=MINE, src=SRC) / Dot1Q(vlan=0x123, prio=5) / IP() / UDP() / (b"x" * 60))
    rx.wire.give(tagged)
    rx.write(CTRL, SLU | VME)
    rx.wire.give(tagged, udp())
    kept, stripped, plain = rx.rx_take()
    assert kept.data == tagged
    assert kept.status & VP == kept.vlan == 0
    assert stripped.data == tagged[:12] + tagged[16:]
    assert stripped.status & VP
    assert stripped.vlan == 0xA123
    assert plain.status & VP == plain.vlan == 0


def test_stripped_short_frame(rx):
    """The wire's minimum counts the tag: what is stored is four bytes shorter."""
    rx.write(CTRL, SLU | VME)
    rx.wire.give(bytes(Ether(dst=MINE, src=SRC) / Dot1Q(vlan=1) / b"hello"))
    (received,) = rx.rx_take()
    assert len(received.data) == 56


# --- RSS


def test_rss(bench):
    """Microsoft's published key and vectors: hash, type and queue in the descriptor."""
    key = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
    for i in range(10):
        bench["RSSRK", i] = int.from_bytes(key[4 * i : 4 * i + 4], "little")
    for i in range(32):
        bench["RETA", i] = sum(((4 * i + j) & 7) << 8 * j for j in range(4))
    bench.write(RXCSUM, PCSD | TUOFLD | IPOFLD)
    bench.write(MRQC, 2 | 0x00370000)
    for queue in range(8):
        bench.rx_setup(queue, count=16)
    bench.rx_on()
    for src, dst, sport, dport, with_ports, without in (
        ("66.9.149.187", "161.142.100.80", 2794, 1766, 0x51CCC178, 0x323E8FC2),
        ("199.92.111.2", "65.69.140.83", 14230, 4739, 0xC626B0EA, 0xD718262A),
        ("24.19.198.95", "12.22.207.184", 12898, 38024, 0x5C2B394A, 0xD2D0A5DE),
    ):
        ether = Ether(dst=MINE, src=SRC) / IP(src=src, dst=dst)
        for frame, value, kind in (
            (bytes(ether / TCP(sport=sport, dport=dport)), with_ports, 1),
            (bytes(ether / UDP(sport=sport, dport=dport)), without, 2),  # UDP isn't enabled: the addresses
        ):
            bench.wire.give(frame)
            queue = value & 7
            (received,) = bench.rx_take(queue)
            assert received.low >> 32 == value
            assert received.low & 15 == kind
            assert bench.wire.verdicts[-1].queue == queue


# --- checksums


def verdict(bench, frame, offload=None):
    bench.wire.give(frame, offload=offload)
    (received,) = bench.rx_take()
    return received.status & (IPCS | L4CS | UDPCS | IPE | L4E)


def broken(frame, at):
    data = bytearray(frame)
    data[at] ^= 0x10
    return bytes(data)


def test_checksum_verdicts(rx):
    assert verdict(rx, tcp()) == IPCS | L4CS
    assert verdict(rx, udp()) == IPCS | L4CS | UDPCS
    assert verdict(rx, broken(tcp(), -1)) == IPCS | L4CS | L4E
    assert verdict(rx, broken(udp(), -1)) == IPCS | L4CS | UDPCS | L4E
    assert verdict(rx, broken(tcp(), 22)) == IPCS | L4CS | IPE
    v6 = bytes(Ether(dst=MINE, src=SRC) / IPv6(src="fe80::1", dst="fe80::2") / TCP() / (b"x" * 33))
    assert verdict(rx, v6) == L4CS
    assert verdict(rx, broken(v6, -1)) == L4CS | L4E
    assert verdict(rx, frame_to(MINE)) == 0
    sctp = bytes(Ether(dst=MINE, src=SRC) / IP() / SCTP() / SCTPChunkData(data=b"x" * 40))
    assert verdict(rx, sctp) & (L4CS | L4E) == L4CS
    assert verdict(rx, broken(sctp, -2)) & L4E
    assert verdict(rx, udp(frag=5)) == IPCS, "a fragment has no L4 verdict"


def test_checksum_offload_can_be_off(rx):
    rx.write(RXCSUM, IPOFLD)
    assert verdict(rx, broken(tcp(), -1)) == IPCS
    rx.write(RXCSUM, TUOFLD)
    assert verdict(rx, broken(tcp(), -1)) == L4CS | L4E
    rx.write(RXCSUM, 0)
    assert verdict(rx, broken(tcp(), 22)) == 0


def test_known_good_is_not_looked_at(rx):
    assert verdict(rx, broken(tcp(), -1), Offload(DATA_VALID)) == IPCS | L4CS


def pseudo(packet, number):
    """The pseudo-header's folded sum, as a frame with NEEDS_CSUM has it in its checksum field."""
    ip = packet.getlayer(IP) or packet.getlayer(IPv6)
    import ipaddress

    data = ipaddress.ip_address(ip.src).packed + ipaddress.ip_address(ip.dst).packed
    data += struct.pack(">HH", number, len(bytes(ip.payload)))
    return ones_complement(data) ^ 0xFFFF


@pytest.mark.parametrize("secrc", [SECRC, 0])
def test_unfinished_checksums_are_filled_in(bench, secrc):
    """The guest sees what a wire would have carried, whatever it does with checksums."""
    bench.rx_setup()
    bench.write(RCTL, EN | secrc)
    for frame, layer, number, offset in ((tcp(77), TCP, 6, 16), (udp(78), UDP, 17, 6)):
        packet = Ether(frame)
        packet[layer].chksum = pseudo(packet, number)
        bench.wire.give(bytes(packet), offload=Offload(NEEDS_CSUM, csum_start=34, csum_offset=offset))
        (received,) = bench.rx_take()
        wanted = frame if secrc else frame + zlib.crc32(frame).to_bytes(4, "little")
        assert received.data == wanted
        assert received.status & (L4CS | L4E) == L4CS


def test_a_short_unfinished_frame(rx):
    packet = Ether(dst=MINE, src=SRC) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(dport=7) / b"ab"
    wanted = bytes(packet)
    packet = Ether(wanted)
    packet[UDP].chksum = pseudo(packet, 17)
    rx.wire.give(bytes(packet), offload=Offload(NEEDS_CSUM, csum_start=34, csum_offset=6))
    assert got(rx) == [wanted + bytes(60 - len(wanted))]


@pytest.mark.parametrize("offload", [Offload(NEEDS_CSUM, 0, 0, 0, 65535, 65535), Offload(NEEDS_CSUM, 0, 0, 0, 100, 6),
                                     Offload(NEEDS_CSUM, GSO_TCPV4, 54, 0, 34, 16), Offload(0, 77, 0, 1400),
                                     Offload(NEEDS_CSUM, GSO_UDP_L4, 42, 1000, 34, 6)])  # fmt: skip
def test_nonsense_about_offloads(rx, offload):
    rx.wire.give(tcp(), offload=offload)
    assert got(rx) == []
    assert rx.wire.verdicts[0].reason.name == "BAD_FRAME"


# --- big segments


def big(kind, size, mss):
    """A segment of up to 64 KiB as a TAP hands it over, and the frames it stands for."""
    payload = random.Random(size).randbytes(size)
    ether = Ether(dst=MINE, src=SRC)
    ip = IP(src="10.0.0.1", dst="10.0.0.2", id=7) if kind != GSO_TCPV6 else IPv6(src="fd00::1", dst="fd00::2")
    if kind == GSO_UDP_L4:
        l4, number, offset, head = UDP(sport=1, dport=2), 17, 6, 8
    else:
        l4, number, offset, head = TCP(sport=1, dport=2, seq=99, flags="PA"), 6, 16, 20
    whole = Ether(bytes(ether / ip / l4 / payload))
    start = len(whole) - size - head
    whole[type(l4)].chksum = pseudo(whole, number)
    frames = []
    for n, at in enumerate(range(0, size, mss)):
        last = at + mss >= size
        segment_ip = ip.copy()
        segment = l4.copy()
        if isinstance(ip, IP):
            segment_ip.id = 7 + n
        if number == 6:
            segment.seq = 99 + at
            segment.flags = "PA" if last else "A"
        frames.append(bytes(ether / segment_ip / segment / payload[at : at + mss]))
    return bytes(whole), Offload(NEEDS_CSUM, kind, start + head, mss, start, offset), frames


@pytest.mark.parametrize("kind", [GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4])
@pytest.mark.parametrize(("size", "mss"), [(14000, 1400), (60000, 1428), (3100, 1400), (500, 1400)])
def test_big_segments_are_cut(rx, kind, size, mss):
    whole, offload, frames = big(kind, size, mss)
    rx.wire.give(whole, offload=offload)
    received = rx.rx_take()
    assert [r.data for r in received] == frames
    assert all(r.status & (L4CS | L4E | IPE) == L4CS for r in received)
    assert rx["GPRC"] == len(frames)
    assert rx["GORCL"] == sum(len(f) + 4 for f in frames)


def test_cut_segments_with_fcs_and_vlan(bench):
    bench.rx_setup()
    bench.write(RCTL, EN)
    bench.write(CTRL, SLU | VME)
    whole, offload, frames = big(GSO_TCPV4, 5000, 1000)
    tag = bytes.fromhex("81000064")
    tagged = [f[:12] + tag + f[12:] for f in frames]
    shifted = offload._replace(hdr_len=offload.hdr_len + 4, csum_start=offload.csum_start + 4)
    bench.wire.give(whole[:12] + tag + whole[12:], offload=shifted)
    received = bench.rx_take()
    assert [r.data for r in received] == [
        f + zlib.crc32(t).to_bytes(4, "little") for f, t in zip(frames, tagged, strict=True)
    ]
    assert all(r.vlan == 100 for r in received)


def test_segments_that_are_too_long(rx):
    whole, offload, _ = big(GSO_TCPV4, 9000, 3000)
    rx.wire.give(whole, offload=offload)
    assert got(rx) == []
    assert rx["ROC"] == 3


def test_segments_that_find_too_few_descriptors(bench):
    """The first ones are delivered, the rest waits."""
    bench.rx_setup(count=32, buffers=False)
    bench.rx_on()
    bench.rx_give(0, 4)
    whole, offload, frames = big(GSO_TCPV4, 14000, 1400)
    bench.wire.give(whole, offload=offload)
    assert got(bench) == frames[:4]
    bench.rx_give(0, 20)
    assert got(bench) == frames[4:]


# --- full rings


def test_a_frame_before_the_descriptors_waits(bench):
    bench.rx_setup(buffers=False)
    bench.rx_on()
    bench.wire.give(udp(), tcp())
    assert bench["RNBC"] == 2
    assert bench["MPC"] == 0
    bench.rx_give(0, 1)
    assert got(bench) == [udp()]
    bench.rx_give(0, 1)
    assert got(bench) == [tcp()]


def test_full_packet_buffer(bench):
    """RXPBS: 64 KB hold what waits; the rest is missed, counted and told by ICR.RXO."""
    bench.rx_setup(buffers=False)
    bench.rx_on()
    bench.read(ICR)
    frame = frame_to(MINE)[:14] + bytes(1000)
    bench.wire.give(*[frame] * 100)
    kept = 65536 // 1014
    assert bench["RNBC"] == kept
    assert bench["MPC"] == 100 - kept
    assert bench.read(ICR) & 0x40
    assert bench.wire.verdicts[-1].reason.name == "BUFFER_FULL"
    assert bench.nic.drops()[bench.wire.verdicts[-1].reason] == 100 - kept
    bench.rx_give(0, 63)
    bench.rx_give(0, 0)
    first = got(bench)
    bench.rx_give(0, 30)
    assert first + got(bench) == [frame] * kept
    bench.wire.give(udp())
    assert got(bench) == [udp()]


def test_drop_en(bench):
    """SRRCTL.DROP_EN: a full ring drops at once, counted for the queue."""
    bench.rx_setup(3, count=16, srrctl=ONEBUF | 2 | DROP_EN)
    bench.write(MRQC, 3 << 3)
    bench.rx_on()
    bench.wire.give(*[udp()] * 20)
    assert len(got(bench, 3)) == 15
    assert bench["RQDPC", 3] == 5
    assert bench["RQDPC", 3] == 0, "cleared by reading"
    assert bench["MPC"] == bench["RNBC"] == 0
    assert bench.wire.verdicts[-1].reason.name == "RING_FULL"


def test_a_queue_that_is_off(bench):
    bench.write(0xC028, 0)
    bench.rx_on()
    bench.wire.give(udp())
    assert bench.wire.verdicts[0].reason.name == "QUEUE_OFF"


def test_pause(bench):
    """CTRL.TFCE: the far end is paused before anything is lost, and goes on when there's room again."""
    bench.write(CTRL, SLU | TFCE)
    bench.rx_setup(count=256, buffers=False)
    bench.rx_on()
    frame = frame_to(MINE)[:14] + bytes(1000)
    frames = [frame + bytes([n]) for n in range(200)]
    bench.wire.give(*frames)
    assert bench.wire.paused
    assert bench["XOFFTXC"] == 1
    taken = []
    for _ in range(40):
        bench.rx_give(0, 8)
        taken += got(bench)
        if not bench.wire.paused:
            bench.wire.give()
    assert taken == frames
    assert not bench.wire.paused
    assert bench["XONTXC"] >= 1
    assert bench["MPC"] == 0


def test_a_paused_wire_is_left_alone(bench):
    """A guest that goes on sending while its far end is paused makes the card take nothing more."""
    bench.write(CTRL, SLU | TFCE)
    bench.rx_setup(buffers=False)
    bench.tx_setup()
    bench.rx_on()
    frame = frame_to(MINE)[:14] + bytes(1000)
    bench.wire.give(*[frame] * 300)
    assert bench.wire.paused
    waiting = len(bench.nic.rx.rings[0].waiting)
    for _ in range(10):
        bench.send(frame)
    assert len(bench.nic.rx.rings[0].waiting) == waiting


def test_reset_ends_a_pause(bench):
    bench.write(CTRL, SLU | TFCE)
    bench.rx_setup(buffers=False)
    bench.rx_on()
    bench.wire.give(*[frame_to(MINE)[:14] + bytes(1000)] * 100)
    assert bench.wire.paused
    bench.write(CTRL, SLU | 1 << 26)
    assert not bench.wire.paused


def test_frames_that_wait_while_the_receiver_is_off(bench):
    """Descriptors given while RCTL.EN is 0 are used when it is set."""
    bench.rx_setup(buffers=False)
    bench.rx_on()
    bench.wire.give(udp())
    bench.write(RCTL, 0)
    bench.rx_give(0, 4)
    assert got(bench) == []
    bench.rx_on()
    assert got(bench) == [udp()]


def test_disabling_a_queue_forgets_what_waits(bench):
    bench.rx_setup(buffers=False)
    bench.rx_on()
    bench.wire.give(udp())
    bench.rx_setup()
    assert got(bench) == []
    bench.wire.give(tcp())
    assert got(bench) == [tcp()]


@pytest.mark.parametrize("count", [8, 16, 64])
def test_the_ring_wraps(bench, count):
    bench.rx_setup(count=count)
    bench.rx_on()
    frames = [udp(n) for n in range(20, 120)]
    taken = []
    for n in range(0, 100, 5):
        bench.wire.give(*frames[n : n + 5])
        new = got(bench)
        taken += new
        bench.rx_give(0, len(new))
    assert taken == frames


# --- statistics


def test_statistics(rx):
    sizes = (60, 61, 200, 300, 600, 1200)
    for size in sizes:
        rx.wire.give(frame_to(MINE)[:14] + bytes(size - 14))
    rx.rx_on(MPE)
    rx.wire.give(frame_to("ff:ff:ff:ff:ff:ff"), frame_to("01:00:5e:00:00:01"), frame_to("52:00:00:00:00:00"))
    octets = sum(sizes) + 4 * 6
    assert rx["GPRC"] == 8
    assert rx["GORCL"] == octets + 2 * 64
    assert rx["GORCH"] == 0
    assert rx["TPR"] == 9, "those that no filter wanted count here"
    assert rx["TORL"] == octets + 3 * 64
    assert rx["TORH"] == 0
    assert rx["BPRC"] == rx["MPRC"] == 1
    assert [rx.read(at) for at in range(0x405C, 0x4074, 4)] == [3, 1, 1, 1, 1, 1]
    for name in ("GPRC", "GORCL", "TPR", "TORL", "BPRC", "MPRC", "PRC64"):
        assert rx[name] == 0, name


def test_64_bit_counters(rx):
    """Reading the low half keeps both, reading the high one clears both."""
    rx.nic.stats.counts["GORC"] = 0x5_0000_0007
    assert rx["GORCL"] == 7
    assert rx["GORCL"] == 7
    assert rx["GORCH"] == 5
    assert rx["GORCL"] == rx["GORCH"] == 0


def test_counters_stick_at_their_top(rx):
    rx.nic.stats.counts["GPRC"] = (1 << 32) + 5
    assert rx["GPRC"] == 0xFFFFFFFF


def test_a_reset_clears_the_registers_and_not_the_reasons(rx):
    rx.wire.give(frame_to("52:00:00:00:00:00"), udp())
    rx.write(CTRL, SLU | 1 << 26)
    assert rx["TPR"] == rx["GPRC"] == 0
    assert sum(rx.nic.drops().values()) == 1


def test_wrong_address_is_the_far_ends_business(rx):
    """Frames that no filter wants are no errors: no error counter moves."""
    rx.wire.give(frame_to("52:00:00:00:00:00"))
    assert all(rx.read(at) == 0 for at in range(0x4000, 0x4040, 4))


@pytest.mark.parametrize("words", [0, 4, 15])
def test_a_big_segment_with_a_wrong_data_offset(rx, words):
    """TCP's header length says less than a header, or more than the packet has."""
    whole, offload, _ = big(GSO_TCPV4, 30, 10)
    data = bytearray(whole)
    data[34 + 12] = words << 4
    rx.wire.give(bytes(data[:60]), offload=offload)
    assert got(rx) == []
    assert rx.wire.verdicts[0].reason.name == "BAD_FRAME"


def test_turning_a_queue_off_ends_the_pause_it_caused(bench):
    """The frames that waited for it are lost, so there's room again: the far end mustn't wait for ever."""
    bench.write(CTRL, SLU | TFCE)
    bench.rx_setup(buffers=False)
    bench.rx_on()
    frame = bytes.fromhex("ffffffffffff020000000001") + b"\x88\xb5" + bytes(1486)
    for _ in range(64):
        if bench.wire.paused:
            break
        bench.wire.give(frame)
    assert bench.wire.paused
    bench["RXDCTL", 0] = 0
    assert not bench.wire.paused
