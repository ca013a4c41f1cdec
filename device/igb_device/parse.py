"""What the card's receive parser learns of a frame in one pass: the packet type of the write-back (82576 datasheet
7.1.5.2), where the layers begin, the bytes RSS hashes (7.1.1.7) and the verdict on the checksums (7.1.11).

Left out: NFS, IPsec and tunnels (the outer headers are the ones reported), and packets whose type isn't known are not
an error: they have no L3. A frame is the bytes from the destination address on, without FCS.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from igb_device.checksum import Buffer, crc32c, sum16
from igb_device.wire.base import DATA_VALID, NEEDS_CSUM, Offload

ETH_IPV4 = 0x0800
ETH_IPV6 = 0x86DD
ETH_VLAN = 0x8100
ETH_QINQ = 0x88A8

TCP = 6
UDP = 17
SCTP = 132

# Parsed.ptype: the packet type in its place in the write-back's low dword (bits 16:4; the RSS type is 3:0)
PTYPE_IPV4 = 0x10
PTYPE_IPV4_OPTIONS = 0x20  # with PTYPE_IPV4
PTYPE_IPV6 = 0x40
PTYPE_IPV6_EXTENSIONS = 0x80  # with PTYPE_IPV6
PTYPE_TCP = 0x100
PTYPE_UDP = 0x200
PTYPE_SCTP = 0x400

# The write-back's status and error bits that `verify` gives
STATUS_UDPCS = 0x10
STATUS_L4CS = 0x20
STATUS_IPCS = 0x40
ERROR_L4E = 0x20000000
ERROR_IPE = 0x40000000

# Parsed.rss_kind
RSS_NONE = 0
RSS_IPV4 = 1
RSS_TCP4 = 2
RSS_UDP4 = 3
RSS_IPV6 = 4
RSS_TCP6 = 5
RSS_UDP6 = 6

_EXTENSION_LIMIT = 8  # IPv6 extension headers looked at before giving up on L4
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION, _MOBILITY = 0, 43, 44, 51, 60, 135
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION, _MOBILITY})
_HOME_ADDRESS = 0xC9  # destination option, RFC 6275 6.3

_ETHERTYPE = struct.Struct(">12xH")
_U16 = struct.Struct(">H")
# Ethernet, an IPv4 header without options, and the ports: what nearly every frame is.
_IPV4_FRAME = struct.Struct(">12xHBxHxxHxBxx12s")
_IPV6_FRAME = struct.Struct(">12xHBxxxHBx36s")

_L4_TYPE = {TCP: PTYPE_TCP, UDP: PTYPE_UDP, SCTP: PTYPE_SCTP}
_L4_MINIMUM = {TCP: 20, UDP: 8, SCTP: 12}
_RSS4 = {TCP: RSS_TCP4, UDP: RSS_UDP4}
_RSS6 = {TCP: RSS_TCP6, UDP: RSS_UDP6}


class Parsed(NamedTuple):
    """What one pass over a frame has found. Offsets are from the frame's start; 0 means there's no such layer."""

    ethertype: int
    """Of the payload, behind any tags; at most 1500 is an 802.3 length."""
    vlan: int
    """The outer tag's TCI, or -1."""
    inner_vlan: int
    """The second tag's TCI, or -1."""
    l3: int
    """The IP header, if it is whole."""
    l4: int
    """The TCP, UDP or SCTP header, if it is whole and the packet isn't a fragment."""
    l3_end: int
    """Where the IP packet ends by its own length, at most the frame's end: padding follows."""
    ptype: int
    """PTYPE_ bits."""
    proto: int
    """IP protocol of the payload behind any extension headers; -1 without IP."""
    fragment: bool
    rss_kind: int
    """RSS_: the most specific kind this packet could be hashed as."""
    rss4: bytes
    """Source and destination address (8 or 32 bytes), b"" without IP."""
    rss_l4: bytes
    """The same and both ports, b"" unless it's TCP or UDP."""


_make: Callable[[type[Parsed], tuple[object, ...]], Parsed] = tuple.__new__


def parse(frame: Buffer) -> Parsed:
    """Reads the headers of a frame of at least 14 bytes. Never raises: a header that is cut short, or whose lengths
    contradict each other, is a layer the card doesn't know."""
    size = len(frame)
    # IPv4 without options, one pass of one struct. A fragment, an odd length or another L4 goes the long way.
    if size >= 38:
        ethertype, version, total, fragment, proto, flow = _IPV4_FRAME.unpack_from(frame)
        if ethertype == 0x0800 and version == 0x45 and not fragment & 0x3FFF:
            end = 14 + total
            if end <= size:
                if proto == 6 and total >= 40:
                    return _make(Parsed, (0x0800, -1, -1, 14, 34, end, 0x110, 6, False, RSS_TCP4, flow[:8], flow))
                if proto == 17 and total >= 28:
                    return _make(Parsed, (0x0800, -1, -1, 14, 34, end, 0x210, 17, False, RSS_UDP4, flow[:8], flow))
        elif ethertype == 0x86DD and size >= 58:
            _, version, payload, proto, flow = _IPV6_FRAME.unpack_from(frame)
            end = 54 + payload
            if version >> 4 == 6 and end <= size:
                if proto == 6 and payload >= 20:
                    return _make(Parsed, (0x86DD, -1, -1, 14, 54, end, 0x140, 6, False, RSS_TCP6, flow[:32], flow))
                if proto == 17 and payload >= 8:
                    return _make(Parsed, (0x86DD, -1, -1, 14, 54, end, 0x240, 17, False, RSS_UDP6, flow[:32], flow))
    return _parse_slowly(frame)


def _parse_slowly(frame: Buffer) -> Parsed:
    size = len(frame)
    vlan = inner_vlan = -1
    ethertype = _ETHERTYPE.unpack_from(frame)[0] if size >= 14 else 0
    l3 = 14
    if ethertype in (ETH_VLAN, ETH_QINQ) and size >= 18:
        vlan, ethertype = struct.unpack_from(">HH", frame, 14)
        l3 = 18
        if ethertype == ETH_VLAN and size >= 22:
            inner_vlan, ethertype = struct.unpack_from(">HH", frame, 18)
            l3 = 22
    if ethertype == ETH_IPV4:
        return _parse_ipv4(frame, vlan, inner_vlan, l3)
    if ethertype == ETH_IPV6:
        return _parse_ipv6(frame, vlan, inner_vlan, l3)
    return Parsed(ethertype, vlan, inner_vlan, 0, 0, size, 0, -1, False, RSS_NONE, b"", b"")


def _parse_ipv4(frame: Buffer, vlan: int, inner_vlan: int, l3: int) -> Parsed:
    size = len(frame)
    header = (frame[l3] & 15) * 4 if size >= l3 + 20 else 0
    if header < 20 or frame[l3] >> 4 != 4 or l3 + header > size:
        return Parsed(ETH_IPV4, vlan, inner_vlan, 0, 0, size, 0, -1, False, RSS_NONE, b"", b"")
    total, _, fragment_field, _, proto = struct.unpack_from(">HHHBB", frame, l3 + 2)
    ptype = PTYPE_IPV4 if header == 20 else PTYPE_IPV4 | PTYPE_IPV4_OPTIONS
    addresses = bytes(frame[l3 + 12 : l3 + 20])
    fragment = bool(fragment_field & 0x3FFF)
    end = l3 + total
    l4 = 0
    if not fragment and total >= header and end <= size:
        l4 = l3 + header
    if l4 and (minimum := _L4_MINIMUM.get(proto)) and l4 + minimum <= end:
        rss = _RSS4.get(proto, RSS_IPV4)
        flow = addresses + bytes(frame[l4 : l4 + 4]) if rss != RSS_IPV4 else b""
        ptype |= _L4_TYPE[proto]
        return Parsed(ETH_IPV4, vlan, inner_vlan, l3, l4, end, ptype, proto, False, rss, addresses, flow)
    end = min(max(end, l3 + header), size)
    return Parsed(ETH_IPV4, vlan, inner_vlan, l3, 0, end, ptype, proto, fragment, RSS_IPV4, addresses, b"")


def _parse_ipv6(frame: Buffer, vlan: int, inner_vlan: int, l3: int) -> Parsed:
    size = len(frame)
    if size < l3 + 40 or frame[l3] >> 4 != 6:
        return Parsed(ETH_IPV6, vlan, inner_vlan, 0, 0, size, 0, -1, False, RSS_NONE, b"", b"")
    payload, proto = struct.unpack_from(">HB", frame, l3 + 4)
    addresses = bytes(frame[l3 + 8 : l3 + 40])
    end = l3 + 40 + payload
    whole = end <= size
    end = min(end, size)
    ptype = PTYPE_IPV6
    fragment = False
    at = l3 + 40
    for _ in range(_EXTENSION_LIMIT):
        if proto not in _EXTENSIONS or fragment:
            break
        ptype |= PTYPE_IPV6_EXTENSIONS
        if at + 8 > end:
            break
        if proto == _FRAGMENT:
            # Offset and M both zero is an atomic fragment (RFC 6946): a whole packet.
            fragment = bool(_U16.unpack_from(frame, at + 2)[0] & 0xFFF9)
            length = 8
        elif proto == _AUTHENTICATION:
            length = (frame[at + 1] + 2) * 4
        else:
            length = (frame[at + 1] + 1) * 8
            if proto == _ROUTING and frame[at + 2] != 2 and frame[at + 3]:
                # Source routed and not there yet: the checksum covers a destination only its routers know to find.
                whole = False
        proto = frame[at]
        at += length
    minimum = _L4_MINIMUM.get(proto)
    if whole and not fragment and minimum and at + minimum <= end:
        rss = _RSS6.get(proto, RSS_IPV6)
        flow = addresses + bytes(frame[at : at + 4]) if rss != RSS_IPV6 else b""
        ptype |= _L4_TYPE[proto]
        return Parsed(ETH_IPV6, vlan, inner_vlan, l3, at, end, ptype, proto, False, rss, addresses, flow)
    return Parsed(ETH_IPV6, vlan, inner_vlan, l3, 0, end, ptype, proto, fragment, RSS_IPV6, addresses, b"")


def mobile_addresses(frame: Buffer, p: Parsed) -> bytes:
    """The addresses that the Ex kinds of RSS hash: the home address option's instead of the source, a type 2 routing
    header's instead of the destination (RFC 6275). b"" if the packet has neither."""
    if not p.ptype & PTYPE_IPV6_EXTENSIONS:
        return b""
    source = destination = b""
    at = p.l3 + 40
    proto = frame[p.l3 + 6]
    for _ in range(_EXTENSION_LIMIT):
        if proto not in _EXTENSIONS or at + 8 > p.l3_end:
            break
        length = 8 if proto == _FRAGMENT else (frame[at + 1] + 1) * 8
        if proto == _AUTHENTICATION:
            length = (frame[at + 1] + 2) * 4
        if at + length > p.l3_end:
            break
        if proto == _ROUTING and length == 24 and frame[at + 2] == 2:
            destination = bytes(frame[at + 8 : at + 24])
        elif proto == _DESTINATION:
            source = _home_address(bytes(frame[at + 2 : at + length])) or source
        elif proto == _FRAGMENT and _U16.unpack_from(frame, at + 2)[0] & 0xFFF8:
            break
        proto = frame[at]
        at += length
    if not source and not destination:
        return b""
    return (source or p.rss4[:16]) + (destination or p.rss4[16:])


def _home_address(options: bytes) -> bytes:
    at = 0
    while at + 1 < len(options):
        kind = options[at]
        if kind == 0:  # Pad1 has no length
            at += 1
            continue
        length = options[at + 1]
        if kind == _HOME_ADDRESS and length == 16 and at + 18 <= len(options):
            return options[at + 2 : at + 18]
        at += 2 + length
    return b""


def verify(frame: Buffer, p: Parsed, offload: Offload) -> tuple[int, int]:
    """The status bits (IPCS, L4CS, UDPCS) and error bits (IPE, L4E) of the write-back, as with RXCSUM.IPOFLD and
    RXCSUM.TUOFLD on; the caller masks what is off.

    UDP sets both L4CS and UDPCS. Fragments and UDP over IPv4 without a checksum have no L4 verdict. A frame whose
    checksum is known good (DATA_VALID) or not yet filled in (NEEDS_CSUM) passes without a sum over its bytes.
    """
    l3 = p.l3
    if not l3:
        return 0, 0
    status = errors = 0
    ipv4 = p.ptype & PTYPE_IPV4
    if ipv4:
        status = STATUS_IPCS
        # A header that sums to nothing but ones is intact, and % 0xFFFF makes that 0; a version of 4 keeps it from 0.
        if int.from_bytes(frame[l3 : l3 + (frame[l3] & 15) * 4], "big") % 0xFFFF:
            errors = ERROR_IPE
    l4 = p.l4
    if not l4:
        return status, errors
    proto = p.proto
    trusted = offload.flags & (DATA_VALID | NEEDS_CSUM)
    end = p.l3_end
    if proto == SCTP:
        status |= STATUS_L4CS
        if not trusted and not _sctp_intact(frame, l4, end):
            errors |= ERROR_L4E
        return status, errors
    if proto == UDP:
        if not trusted:
            length, check = struct.unpack_from(">HH", frame, l4 + 4)
            if check == 0 and ipv4:
                return status, errors
            if length < 8 or l4 + length > end:
                return status | STATUS_L4CS | STATUS_UDPCS, errors | ERROR_L4E
            end = l4 + length
        status |= STATUS_L4CS | STATUS_UDPCS
    else:
        status |= STATUS_L4CS
    if not trusted:
        addresses = p.rss4
        if p.ptype & PTYPE_IPV6_EXTENSIONS:
            addresses = mobile_addresses(frame, p) or addresses
        pseudo = int.from_bytes(addresses, "big") + proto + end - l4
        if (sum16(frame, l4, end) + pseudo) % 0xFFFF:
            errors |= ERROR_L4E
    return status, errors


def _sctp_intact(frame: Buffer, start: int, end: int) -> bool:
    packet = bytearray(frame[start:end])
    stored = int.from_bytes(packet[8:12], "little")
    packet[8:12] = bytes(4)
    return crc32c(packet) == stored


def packet_checksum(frame: Buffer, start: int) -> int:
    """The packet checksum of the write-back with RXCSUM.PCSD = 0: the complement of the sum over all bytes from
    RXCSUM.PCSS on (0xFFFF if there are none). The caller hands over the frame as it is stored: a VLAN tag that is
    stripped isn't counted, an FCS that is kept is."""
    return 0xFFFF - sum16(frame, start)
