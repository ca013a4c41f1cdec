"""The receive parser against packets that scapy built, and against anything."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    HAO,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw
from scapy.utils import checksum as scapy_checksum

from igb_device.parse import (
    ERROR_IPE,
    ERROR_L4E,
    PTYPE_IPV4,
    PTYPE_IPV4_OPTIONS,
    PTYPE_IPV6,
    PTYPE_IPV6_EXTENSIONS,
    PTYPE_SCTP,
    PTYPE_TCP,
    PTYPE_UDP,
    PTYPE_VLAN,
    STATUS_IPCS,
    STATUS_L4CS,
    STATUS_UDPCS,
    mobile_addresses,
    packet_checksum,
    parse,
    verify,
)
from igb_device.wire.base import DATA_VALID, NEEDS_CSUM, NO_OFFLOAD, Offload

# Addresses given, or scapy would ask the network for them.
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

# (Ethernet, TCI of the card's own tag and where it is)
L2 = {
    "untagged": (ETHER, -1, 0),
    "tagged": (ETHER / Dot1Q(vlan=5, prio=3), 0x6005, 12),
    "two tags": (ETHER / Dot1Q(vlan=7) / Dot1Q(vlan=6), 7, 12),
    "802.1ad": (ETHER / Dot1AD(vlan=9) / Dot1Q(vlan=10), -1, 0),
}
A4 = bytes.fromhex("0a0102030a090807")
A6 = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002")
IP4 = IP(src="10.1.2.3", dst="10.9.8.7")
IP6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
HOP = IPv6ExtHdrHopByHop()
TCPS, UDPS = TCP(sport=0x1234, dport=0x5678), UDP(sport=0x1234, dport=0x5678)
PORTS = bytes.fromhex("12345678")
DATA = Raw(bytes(range(100)))

V6E = PTYPE_IPV6 | PTYPE_IPV6_EXTENSIONS
# (packet behind L2, packet type, L4's offset from L3, addresses, with ports)
PACKETS = {
    "tcp4": (IP4 / TCPS / DATA, PTYPE_IPV4 | PTYPE_TCP, 20, A4, True),
    "udp4": (IP4 / UDPS / DATA, PTYPE_IPV4 | PTYPE_UDP, 20, A4, True),
    "tcp4 without data": (IP4 / TCPS, PTYPE_IPV4 | PTYPE_TCP, 20, A4, True),
    "tcp4 options": (
        IP(src="10.1.2.3", dst="10.9.8.7", options=IPOption_Router_Alert()) / TCPS / DATA,
        PTYPE_IPV4 | PTYPE_IPV4_OPTIONS | PTYPE_TCP,
        24,
        A4,
        True,
    ),
    "sctp4": (IP4 / SCTP() / SCTPChunkData(data=b"abc"), PTYPE_IPV4 | PTYPE_SCTP, 20, A4, False),
    "icmp": (IP4 / ICMP() / DATA, PTYPE_IPV4, 0, A4, False),
    "tcp6": (IP6 / TCPS / DATA, PTYPE_IPV6 | PTYPE_TCP, 40, A6, True),
    "udp6": (IP6 / UDPS / DATA, PTYPE_IPV6 | PTYPE_UDP, 40, A6, True),
    "sctp6": (IP6 / SCTP() / SCTPChunkData(data=b"abc"), PTYPE_IPV6 | PTYPE_SCTP, 40, A6, False),
    "icmp6": (IP6 / ICMPv6EchoRequest(), PTYPE_IPV6, 0, A6, False),
    "tcp6 hop-by-hop": (IP6 / HOP / TCPS / DATA, V6E | PTYPE_TCP, 48, A6, True),
    "udp6 two extensions": (IP6 / HOP / IPv6ExtHdrDestOpt() / UDPS / DATA, V6E | PTYPE_UDP, 56, A6, True),
    "tcp6 atomic fragment": (IP6 / IPv6ExtHdrFragment(nh=6) / TCPS / DATA, V6E | PTYPE_TCP, 48, A6, True),
    "udp6 first fragment": (IP6 / IPv6ExtHdrFragment(nh=17, m=1) / UDPS / DATA, V6E, 0, A6, False),
    "udp4 first fragment": (IP(src="10.1.2.3", dst="10.9.8.7", flags="MF") / UDPS / DATA, PTYPE_IPV4, 0, A4, False),
    "tcp4 later fragment": (IP(src="10.1.2.3", dst="10.9.8.7", frag=5, proto=6) / DATA, PTYPE_IPV4, 0, A4, False),
}


@pytest.mark.parametrize("l2", L2)
@pytest.mark.parametrize("name", PACKETS)
def test_what_scapy_built_is_found(l2: str, name: str) -> None:
    ethernet, vlan, vlan_at = L2[l2]
    packet, ptype, l4, addresses, ports = PACKETS[name]
    frame = bytes(ethernet / packet)
    p = parse(memoryview(bytearray(frame)) if len(name) % 2 else frame)
    l3 = len(ethernet)
    assert (p.vlan, p.vlan_at, p.outer_vlan, p.l3) == (vlan, vlan_at, -1, l3)
    assert p.ethertype == (0x0800 if len(addresses) == 8 else 0x86DD)
    assert p.ptype == (ptype | PTYPE_VLAN if vlan_at else ptype)
    assert p.l4 == (l3 + l4 if l4 else 0)
    assert p.rss4 == addresses
    assert p.rss_l4 == (addresses + PORTS if ports else b"")
    assert p.fragment == ("fragment" in name and "atomic" not in name)
    assert p.l3_end == len(frame)


@pytest.mark.parametrize(
    ("ethernet", "vlan", "vlan_at", "outer_vlan"),
    [
        (ETHER / Dot1AD(vlan=9) / Dot1Q(vlan=10), 10, 16, 9),
        (ETHER / Dot1AD(vlan=9), -1, 0, 9),
        (ETHER / Dot1Q(vlan=10), 10, 12, -1),
        (ETHER, -1, 0, -1),
    ],
)
def test_double_vlan(ethernet: Packet, vlan: int, vlan_at: int, outer_vlan: int) -> None:
    frame = bytes(ethernet / IP4 / TCPS)
    p = parse(frame, 0x8100, 0x88A8)
    assert (p.vlan, p.vlan_at, p.outer_vlan) == (vlan, vlan_at, outer_vlan)
    assert p.l4 == len(ethernet) + 20
    same = bytearray(frame)  # both types the same, as after reset
    for at in (12, 16):
        if same[at : at + 2] == b"\x88\xa8":
            same[at : at + 2] = b"\x81\x00"
    p = parse(same, 0x8100, 0x8100)
    if vlan_at == 12:
        assert (p.vlan, p.outer_vlan) == (-1, vlan)  # a single tag is the outer one
    else:
        assert (p.vlan, p.vlan_at, p.outer_vlan) == (vlan, vlan_at, outer_vlan)


def test_vet_says_what_a_tag_is() -> None:
    frame = bytearray(bytes(ETHER / Dot1Q(vlan=10) / IP4 / TCPS))
    assert parse(frame, 0x9100).vlan == -1
    frame[12:14] = b"\x91\x00"
    assert parse(frame, 0x9100).vlan == 10
    assert (parse(frame).vlan, parse(frame).l3) == (-1, 0)


@pytest.mark.parametrize("name", PACKETS)
def test_intact_packets_verify_and_damaged_ones_do_not(name: str) -> None:
    packet, ptype, l4, _, _ = PACKETS[name]
    frame = bytearray(bytes(ETHER / packet))
    p = parse(frame)
    status, errors = verify(frame, p, NO_OFFLOAD)
    expected = STATUS_IPCS if ptype & PTYPE_IPV4 else 0
    if l4:
        expected |= STATUS_L4CS
    if ptype & PTYPE_UDP:
        expected |= STATUS_UDPCS
    assert (status, errors) == (expected, 0)
    frame[-1] ^= 0x40
    assert verify(frame, p, NO_OFFLOAD) == (expected, ERROR_L4E if l4 else 0)
    for flag in (NEEDS_CSUM, DATA_VALID):
        assert verify(frame, p, Offload(flags=flag)) == (expected, 0)
    if ptype & PTYPE_IPV4:
        frame[14 + 8] ^= 1
        assert verify(frame, p, Offload(flags=DATA_VALID)) == (expected, ERROR_IPE)


def test_padding_is_not_summed() -> None:
    frame = bytes(ETHER / IP4 / TCPS) + b"\xab" * 6
    p = parse(frame)
    assert p.l3_end == 54
    assert verify(frame, p, NO_OFFLOAD) == (STATUS_IPCS | STATUS_L4CS, 0)


def test_udp_without_checksum() -> None:
    frame = bytes(ETHER / IP4 / UDP(chksum=0) / DATA)
    assert verify(frame, parse(frame), NO_OFFLOAD) == (STATUS_IPCS, 0)
    # IPv6 forbids it (RFC 8200 8.1)
    frame = bytes(ETHER / IP6 / UDP(chksum=0) / DATA)
    assert verify(frame, parse(frame), NO_OFFLOAD) == (STATUS_L4CS | STATUS_UDPCS, ERROR_L4E)


def test_udp_shorter_than_its_ip_packet() -> None:
    frame = bytes(ETHER / IP4 / UDPS / Raw(b"abcd"))
    longer = bytearray(frame + b"zz")
    longer[16:18] = (len(longer) - 14).to_bytes(2, "big")
    p = parse(longer)
    assert verify(longer, p, NO_OFFLOAD) == (STATUS_IPCS | STATUS_L4CS | STATUS_UDPCS, ERROR_IPE)


def test_routing_header_type_2_and_home_address() -> None:
    home, care_of, peer = "2001:db8::99", "2001:db8::1", "2001:db8::2"
    packed = {name: bytes(IPv6(src=name))[8:24] for name in (home, care_of, peer)}

    def with_checksum_of(seen: Packet, sent: Packet) -> bytes:
        """`sent` with the TCP checksum that the packet `seen`, of the final addresses, has."""
        checksum = TCP(bytes(seen[TCP])).chksum
        sent[TCP].chksum = checksum
        return bytes(ETHER / sent)

    frame = with_checksum_of(
        IPv6(src=peer, dst=home) / TCPS / DATA,
        IPv6(src=peer, dst=care_of) / IPv6ExtHdrRouting(type=2, addresses=[home]) / TCPS / DATA,
    )
    p = parse(frame)
    assert mobile_addresses(frame, p) == packed[peer] + packed[home]
    assert verify(frame, p, NO_OFFLOAD) == (STATUS_L4CS, 0)
    frame = with_checksum_of(
        IPv6(src=home, dst=peer) / TCPS / DATA,
        IPv6(src=care_of, dst=peer) / IPv6ExtHdrDestOpt(options=[HAO(hoa=home)]) / TCPS / DATA,
    )
    p = parse(frame)
    assert mobile_addresses(frame, p) == packed[home] + packed[peer]
    assert verify(frame, p, NO_OFFLOAD) == (STATUS_L4CS, 0)
    frame = bytes(ETHER / IP6 / HOP / TCPS)
    assert mobile_addresses(frame, parse(frame)) == b""


def test_source_routed_packet_on_its_way_has_no_l4() -> None:
    frame = bytes(ETHER / IP6 / IPv6ExtHdrRouting(addresses=["2001:db8::7"]) / TCPS / DATA)
    p = parse(frame)
    assert (p.l4, p.ptype) == (0, V6E)
    assert verify(frame, p, NO_OFFLOAD) == (0, 0)


def test_not_ip() -> None:
    frame = bytes(ETHER / ARP())
    p = parse(frame)
    assert (p.ethertype, p.l3, p.l4, p.ptype, p.proto) == (0x0806, 0, 0, 0, -1)
    assert verify(frame, p, NO_OFFLOAD) == (0, 0)


@pytest.mark.parametrize("name", PACKETS)
def test_every_truncation_is_survived(name: str) -> None:
    frame = bytes(ETHER / Dot1Q(vlan=1) / PACKETS[name][0])
    for length in range(14, len(frame)):
        short = frame[:length]
        p = parse(short)
        assert p.l3_end <= length
        # A packet that ends before its own length says has no L4 to give a verdict on.
        assert p.l4 == 0
        assert verify(short, p, NO_OFFLOAD)[0] & STATUS_L4CS == 0


def test_packet_checksum_covers_from_its_start() -> None:
    frame = bytes(ETHER / IP4 / UDPS / DATA)
    assert packet_checksum(frame, 0) == scapy_checksum(frame)
    assert packet_checksum(frame, 33) == scapy_checksum(frame[33:])
    assert packet_checksum(frame, 255) == 0xFFFF


@given(st.binary(max_size=40), st.binary(max_size=120), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x81\x00"]))
@example(b"", bytes.fromhex("60000000ffff0000"), b"\x86\xdd")
def test_anything_is_parsed(head: bytes, rest: bytes, ethertype: bytes) -> None:
    for frame in (head.ljust(14, b"\0") + rest, bytes(12) + ethertype + rest):
        parse(frame, 0x8100, 0x8100)
        p = parse(frame)
        assert 0 <= p.l3 <= p.l3_end <= len(frame)
        assert p.l4 < len(frame)
        assert len(p.rss4) in (0, 8, 32)
        for offload in (NO_OFFLOAD, Offload(flags=DATA_VALID)):
            verify(frame, p, offload)
        mobile_addresses(frame, p)


FRAMES = [bytes(ETHER / packet[0]) for packet in PACKETS.values()]


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    frame = bytearray(draw(st.sampled_from(FRAMES)))
    for _ in range(draw(st.integers(1, 4))):
        frame[draw(st.integers(12, min(len(frame), 80) - 1))] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(14, len(frame)))])


@given(_mutated())
def test_damaged_packets_are_parsed(frame: bytes) -> None:
    p = parse(frame)
    verify(frame, p, NO_OFFLOAD)
    assert p.l3_end <= len(frame)
    if p.l4:
        assert p.l3 < p.l4 < p.l3_end
