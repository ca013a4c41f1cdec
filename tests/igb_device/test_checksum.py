"""Checksums against published vectors, scapy, and the RFCs' own definition written out."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet, Raw
from scapy.utils import checksum as scapy_checksum

from igb_device.checksum import L4T_SCTP, L4T_TCP, L4T_UDP, crc32c, fcs, finish, insert_tx, sum16

# Addresses given, or scapy would ask the network for them.
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def by_definition(data: bytes) -> int:
    """RFC 1071 section 1: add the words, then the carries."""
    if len(data) % 2:
        data += b"\0"
    total = sum(data[i] << 8 | data[i + 1] for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_sum_of_rfc_1071_section_3() -> None:
    assert sum16(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


@given(st.binary(max_size=700), st.integers(0, 40), st.none() | st.integers(0, 800))
def test_sum_is_the_definition(data: bytes, start: int, end: int | None) -> None:
    assert sum16(data, start, end) == by_definition(data[start:end] if start <= len(data) else b"")


@pytest.mark.parametrize("length", [1, 2, 3, 4, 255, 256, 257, 258, 259, 1460, 65535])
def test_all_zero_is_0_and_all_ones_is_ffff(length: int) -> None:
    assert sum16(bytes(length)) == 0
    ones = b"\xff" * (length & ~1)
    assert sum16(ones) == (0xFFFF if ones else 0)


@pytest.mark.parametrize("length", [20, 300, 1461])
def test_checksum_is_scapys(length: int) -> None:
    data = bytes(i * 7 & 0xFF for i in range(length))
    assert 0xFFFF - sum16(memoryview(bytearray(data))) == scapy_checksum(data)


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        # RFC 3720 appendix B.4, the CRCs read as the little-endian bytes they are stored in
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_crc32c_vectors(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@given(st.binary(max_size=900))
def test_crc32c_is_the_bitwise_one(data: bytes) -> None:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


def test_frame_with_its_fcs_has_the_ethernet_residue() -> None:
    frame = bytes(ETHER / IP() / UDP() / Raw(b"x" * 30))
    assert zlib.crc32(frame + fcs(frame)) == 0x2144DF1C


def _pseudo_sum(ip: bytes, length: int, proto: int) -> int:
    addresses = ip[12:20] if ip[0] >> 4 == 4 else ip[8:40]
    return by_definition(addresses + proto.to_bytes(2, "big") + length.to_bytes(4, "big"))


L2 = [ETHER, ETHER / Dot1Q(vlan=5), ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6)]
L3 = [
    IP(src="10.1.2.3", dst="10.9.8.7"),
    IP(options=IPOption_Router_Alert()),
    IPv6(src="2001:db8::1", dst="2001:db8::2"),
]
L4 = [(TCP(options=[("MSS", 1460)]), 6, 16, L4T_TCP), (UDP(sport=9), 17, 6, L4T_UDP)]


@pytest.mark.parametrize("l2", L2, ids=["untagged", "tagged", "QinQ"])
@pytest.mark.parametrize("l3", L3, ids=["IPv4", "IPv4 options", "IPv6"])
@pytest.mark.parametrize("l4", L4, ids=["TCP", "UDP"])
@pytest.mark.parametrize("size", [0, 1, 400, 1401])
def test_insert_gives_scapys_frame(l2: Packet, l3: Packet, l4: tuple[Packet, int, int, int], size: int) -> None:
    layer, proto, offset, l4t = l4
    expected = bytes(l2 / l3 / layer / Raw((bytes(range(256)) * 6)[:size]))
    maclen = len(l2)
    ipv4 = isinstance(l3, IP)
    iplen = (expected[maclen] & 15) * 4 if ipv4 else 40
    frame = bytearray(expected)
    start = maclen + iplen
    pseudo = _pseudo_sum(expected[maclen:], len(expected) - start, proto)
    frame[start + offset : start + offset + 2] = pseudo.to_bytes(2, "big")
    if ipv4:
        frame[maclen + 10 : maclen + 12] = b"\0\0"
    insert_tx(frame, maclen=maclen, iplen=iplen, ixsm=True, txsm=True, ipv4=ipv4, l4t=l4t)
    assert frame == expected


def test_insert_does_what_is_asked_only() -> None:
    frame = bytes(ETHER / IP(chksum=0) / TCP(chksum=0) / Raw(b"abc"))
    ip_only, l4_only, none = bytearray(frame), bytearray(frame), bytearray(frame)
    lengths = {"maclen": 14, "iplen": 20, "ipv4": True, "l4t": L4T_TCP}
    insert_tx(ip_only, ixsm=True, txsm=False, **lengths)  # type: ignore[arg-type]
    insert_tx(l4_only, ixsm=False, txsm=True, **lengths)  # type: ignore[arg-type]
    insert_tx(none, ixsm=False, txsm=False, **lengths)  # type: ignore[arg-type]
    assert none == frame
    assert ip_only[24:26] != b"\0\0"
    assert ip_only[34:] == frame[34:]
    assert l4_only[:34] == frame[:34]
    assert l4_only[50:52] != b"\0\0"


def test_inner_checksum_of_a_tunnel_by_lengths() -> None:
    inner = ETHER / IP(src="1.1.1.1", dst="2.2.2.2") / TCP() / Raw(b"payload")
    outer = ETHER / IP() / UDP(dport=4789, chksum=0) / Raw(bytes.fromhex("0800000000002a00") + bytes(inner))
    expected = bytes(outer)
    frame = bytearray(expected)
    start = 14 + 20 + 8 + 8 + 14 + 20
    frame[start + 16 : start + 18] = _pseudo_sum(bytes(inner)[14:], 27, 6).to_bytes(2, "big")
    insert_tx(frame, maclen=14, iplen=start - 14, ixsm=False, txsm=True, ipv4=True, l4t=L4T_TCP)
    assert frame == expected


@pytest.mark.parametrize("size", [0, 3, 1200])
def test_sctp_crc(size: int) -> None:
    packet = ETHER / IP() / SCTP(sport=1, dport=2) / SCTPChunkData(data=b"s" * size)
    expected = bytes(packet)
    frame = bytearray(expected)
    frame[42:46] = b"\xde\xad\xbe\xef"
    insert_tx(frame, maclen=14, iplen=20, ixsm=False, txsm=True, ipv4=True, l4t=L4T_SCTP)
    # scapy stores the CRC as RFC 9260 wants it; it is checked against the bitwise CRC above
    assert frame == expected


def _udp_that_sums_to_zero() -> bytearray:
    """A UDP frame with its pseudo sum in place whose checksum comes out 0, by RFC 768 to be sent as ones."""
    packet = bytes(ETHER / IP() / UDP(chksum=0) / Raw(b"\0\0"))
    frame = bytearray(packet)
    frame[40:42] = _pseudo_sum(packet[14:], 10, 17).to_bytes(2, "big")
    frame[42:44] = (0xFFFF - by_definition(bytes(frame[34:]))).to_bytes(2, "big")
    return frame


def test_udp_checksum_0_is_sent_as_ones() -> None:
    frame = _udp_that_sums_to_zero()
    insert_tx(frame, maclen=14, iplen=20, ixsm=False, txsm=True, ipv4=True, l4t=L4T_UDP)
    assert frame[40:42] == b"\xff\xff"
    frame = _udp_that_sums_to_zero()
    finish(frame, 34, 6)
    assert frame[40:42] == b"\xff\xff"


@pytest.mark.parametrize(("start", "offset"), [(34, 16), (-1, 16), (34, -1), (2000, 6), (65535, 65535)])
def test_finish_outside_the_frame(start: int, offset: int) -> None:
    frame = bytearray(51)
    with pytest.raises(ValueError):
        finish(frame, start, offset)
    assert frame == bytes(51)


@given(
    st.binary(max_size=120),
    st.integers(0, 127),
    st.integers(0, 511),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_any_context_is_done_or_refused_whole(
    data: bytes, maclen: int, iplen: int, ixsm: bool, txsm: bool, ipv4: bool, l4t: int
) -> None:
    frame = bytearray(data)
    try:
        insert_tx(frame, maclen=maclen, iplen=iplen, ixsm=ixsm, txsm=txsm, ipv4=ipv4, l4t=l4t)
    except ValueError:
        assert frame == data
    assert len(frame) == len(data)
