"""RSS against the vectors that Microsoft published with it ("Verifying the RSS Hash Calculation")."""

from __future__ import annotations

import ipaddress
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import HAO, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from igb_device.parse import parse
from igb_device.steering import Steering, toeplitz, toeplitz_batch

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
# (source, port, destination, port, hash of the addresses, hash with the ports)
VECTORS = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4B61E985, 0x02D1FEEF),
]
RETA = bytes(range(128))

IPV4, TCP4, UDP4 = 1 << 17, 1 << 16, 1 << 22
IPV6, TCP6, UDP6 = 1 << 20, 1 << 21, 1 << 23
IPV6_EX, TCP6_EX, UDP6_EX = 1 << 19, 1 << 18, 1 << 24
LINUX = 2 | TCP4 | IPV4 | TCP6_EX | IPV6 | TCP6  # what igb programs by default


def _data(source: str, sport: int, destination: str, dport: int) -> bytes:
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return ends + struct.pack(">HH", sport, dport)


def _steer(steering: Steering, packet: Packet) -> tuple[int, int, int]:
    frame = bytes(ETHER / packet)
    return steering.queue(parse(frame), frame)


def _ip(source: str, destination: str) -> Packet:
    return (IPv6 if ":" in source else IP)(src=source, dst=destination)


def _steering(mrqc: int, rfctl: int = 0) -> Steering:
    steering = Steering()
    steering.update(mrqc, RETA, KEY, rfctl)
    return steering


@pytest.mark.parametrize(("source", "sport", "destination", "dport", "l3", "l4"), VECTORS)
def test_published_hashes(source: str, sport: int, destination: str, dport: int, l3: int, l4: int) -> None:
    data = _data(source, sport, destination, dport)
    assert toeplitz(KEY, data[:-4]) == l3
    assert toeplitz(KEY, data) == l4


def test_published_hashes_in_batches() -> None:
    for vectors in (VECTORS[:5], VECTORS[5:]):
        rows = np.array([list(_data(*vector[:4])) for vector in vectors], np.uint8)
        assert toeplitz_batch(KEY, rows[:, :-4]).tolist() == [vector[4] for vector in vectors]
        assert toeplitz_batch(KEY, rows).tolist() == [vector[5] for vector in vectors]


@given(st.binary(min_size=40, max_size=40), st.binary(max_size=36))
def test_batch_is_the_plain_hash(key: bytes, data: bytes) -> None:
    row = np.frombuffer(data, np.uint8).reshape(1, -1)
    assert toeplitz_batch(key, row).tolist() == [toeplitz(key, data)]


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError):
        toeplitz(bytes(39), bytes(36))
    with pytest.raises(ValueError):
        toeplitz_batch(bytes(39), np.zeros((1, 36), np.uint8))


@pytest.mark.parametrize(("source", "sport", "destination", "dport", "l3", "l4"), VECTORS)
def test_frames_get_the_published_hashes(
    source: str, sport: int, destination: str, dport: int, l3: int, l4: int
) -> None:
    v6 = ":" in source
    packet = _ip(source, destination)
    steering = _steering(LINUX)
    for _ in range(2):  # the second time out of the cache
        assert _steer(steering, packet / TCP(sport=sport, dport=dport)) == (l4 & 15, l4, 3 if v6 else 1)
        # UDP's ports are left out unless asked for
        assert _steer(steering, packet / UDP(sport=sport, dport=dport)) == (l3 & 15, l3, 5 if v6 else 2)
    steering = _steering(LINUX | UDP4 | UDP6)
    assert _steer(steering, packet / UDP(sport=sport, dport=dport)) == (l4 & 15, l4, 8 if v6 else 7)


def test_reta_picks_one_of_sixteen_queues_by_seven_bits() -> None:
    source, sport, destination, dport, _, l4 = VECTORS[0]
    reta = bytearray(128)
    reta[l4 & 127] = 0xF5
    steering = Steering()
    steering.update(LINUX, bytes(reta), KEY)
    assert _steer(steering, _ip(source, destination) / TCP(sport=sport, dport=dport))[0] == 5


def test_what_is_not_enabled_is_not_hashed() -> None:
    source, sport, destination, dport, l3, _ = VECTORS[0]
    tcp = _ip(source, destination) / TCP(sport=sport, dport=dport)
    assert _steer(_steering(2 | TCP6 | IPV6), tcp) == (0, 0, 0)
    assert _steer(_steering(2 | IPV4), tcp) == (l3 & 15, l3, 2)
    assert _steer(_steering(2 | TCP4), _ip(source, destination) / ICMP()) == (0, 0, 0)
    assert _steer(_steering(LINUX & ~7), tcp) == (0, 0, 0)  # fields but no RSS
    assert _steer(_steering(LINUX & ~7 | 5), tcp)[2] == 1  # RSS inside VMDq pools
    assert _steer(_steering(LINUX & ~7 | 3), tcp)[2] == 0  # VMDq alone


def test_default_queue_takes_what_is_not_hashed() -> None:
    arp = ARP(op=1, hwsrc=ETHER.src, hwdst=ETHER.dst, psrc="10.0.0.1", pdst="10.0.0.2")
    assert _steer(_steering(LINUX | 3 << 3), arp) == (3, 0, 0)
    assert _steer(_steering(6 << 3), arp) == (6, 0, 0)
    assert _steer(_steering(0), arp) == (0, 0, 0)


def test_fragments_hash_without_ports() -> None:
    source, sport, destination, dport, l3, _ = VECTORS[0]
    first = IP(src=source, dst=destination, flags="MF") / UDP(sport=sport, dport=dport)
    assert _steer(_steering(LINUX | UDP4), first) == (l3 & 15, l3, 2)


@pytest.mark.parametrize(
    ("mrqc", "rfctl", "kind", "l4"),
    [
        (2 | TCP6_EX | IPV6_EX, 0, 6, True),
        (2 | TCP6, 0, 3, True),
        (2 | IPV6_EX, 0, 4, False),
        (2 | IPV6, 0, 5, False),
        (LINUX, 1 << 16, 5, False),  # IPV6_EX_DIS, as Linux sets it: nothing behind the IPv6 header is known
        (2 | TCP6, 1 << 16, 0, False),
    ],
)
def test_extension_headers(mrqc: int, rfctl: int, kind: int, l4: bool) -> None:
    source, sport, destination, dport, l3_hash, l4_hash = VECTORS[5]
    packet = _ip(source, destination) / IPv6ExtHdrHopByHop() / TCP(sport=sport, dport=dport)
    expected = (l4_hash if l4 else l3_hash) if kind else 0
    assert _steer(_steering(mrqc, rfctl), packet) == (expected & 15 if kind else 0, expected, kind)


@pytest.mark.parametrize(
    ("mrqc", "rfctl", "kind", "home"),
    [
        (2 | TCP6_EX | TCP6, 0, 6, True),
        (2 | TCP6, 0, 3, False),
        (2 | UDP6_EX | IPV6_EX | IPV6, 0, 4, True),
        (2 | TCP6_EX | TCP6, 1 << 17, 3, False),  # NEW_IPV6_EXT_DIS
    ],
)
def test_home_address_replaces_the_source(mrqc: int, rfctl: int, kind: int, home: bool) -> None:
    source, sport, destination, dport, l3_hash, l4_hash = VECTORS[5]
    care_of = "2001:db8::1"
    packet = (
        IPv6(src=care_of, dst=destination)
        / IPv6ExtHdrDestOpt(options=[HAO(hoa=source)])
        / TCP(sport=sport, dport=dport)
    )
    expected = (l3_hash if kind == 4 else l4_hash) if home else toeplitz(KEY, _data(care_of, sport, destination, dport))
    assert _steer(_steering(mrqc, rfctl), packet)[1:] == (expected, kind)


def test_a_new_key_forgets_the_old_hashes() -> None:
    source, sport, destination, dport, _, l4 = VECTORS[0]
    packet = _ip(source, destination) / TCP(sport=sport, dport=dport)
    steering = _steering(LINUX)
    assert _steer(steering, packet)[1] == l4
    steering.update(LINUX, RETA, bytes(40))
    assert _steer(steering, packet)[1] == 0


def test_a_flood_of_flows_does_not_grow_the_cache() -> None:
    steering = _steering(LINUX)
    frame = bytearray(bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / TCP()))
    for flow in range(10000):
        frame[34:36] = (flow & 0xFFFF).to_bytes(2, "big")
        queue, value, kind = steering.queue(parse(frame), frame)
        assert (queue, kind) == (value & 15, 1)
    assert len(steering._hashes) <= 4096


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError):
        Steering().update(0, bytes(127), bytes(40))
    with pytest.raises(ValueError):
        Steering().update(0, bytes(128), bytes(39))
