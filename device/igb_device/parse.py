"""What the card's receive parser learns of a frame in one pass: the packet type of the write-back (82576 datasheet
7.1.5.2), where the layers begin, the bytes RSS hashes (7.1.1.7) and the verdict on the checksums (7.1.11).

Left out: NFS, IPsec and tunnels (the outer headers are the ones reported), and packets whose type isn't known are not
an error: they have no L3. A frame is the bytes from the destination address on, without FCS.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from igb_device.checksum import Buffer, crc32c, sum16
from igb_device.wire.base import DATA_VALID, NEEDS_CSUM, Offload
from igb_hw.descriptors import HDR_INFO, PKT_INFO, STATUS_ERROR

ETH_IPV4 = 0x0800
ETH_IPV6 = 0x86DD
ETH_VLAN = 0x8100
ETH_QINQ = 0x88A8

TCP = 6
UDP = 17
SCTP = 132

# Parsed.ptype: the packet type in its place in the write-back's low dword (bits 16:4; the RSS type is 3:0)
PTYPE_IPV4: Final = PKT_INFO["IPV4"]
PTYPE_IPV4_OPTIONS: Final = PKT_INFO["IPV4_EXT"]  # with PTYPE_IPV4
PTYPE_IPV6: Final = PKT_INFO["IPV6"]
PTYPE_IPV6_EXTENSIONS: Final = PKT_INFO["IPV6_EXT"]  # with PTYPE_IPV6
PTYPE_TCP: Final = PKT_INFO["TCP"]
PTYPE_UDP: Final = PKT_INFO["UDP"]
PTYPE_SCTP: Final = PKT_INFO["SCTP"]
PTYPE_VLAN: Final = HDR_INFO["VLAN"] << 16

# The write-back's status and error bits that `verify` gives
STATUS_UDPCS: Final = STATUS_ERROR["UDPCS"]
STATUS_L4CS: Final = STATUS_ERROR["L4CS"]
STATUS_IPCS: Final = STATUS_ERROR["IPCS"]
ERROR_L4E: Final = STATUS_ERROR["L4E"]
ERROR_IPE: Final = STATUS_ERROR["IPE"]

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

_U16 = struct.Struct(">H")
# Ethernet, an IPv4 header without options, and the ports: what nearly every frame is.
_IPV4_FRAME = struct.Struct(">12xHBxHxxHxBxx12s")
_IPV6_FRAME = struct.Struct(">12xHBxxxHBx36s")

_L4_TYPE = {TCP: PTYPE_TCP, UDP: PTYPE_UDP, SCTP: PTYPE_SCTP}
_L4_MINIMUM = {TCP: 20, UDP: 8, SCTP: 12}
_TCP4 = PTYPE_IPV4 | PTYPE_TCP
_UDP4 = PTYPE_IPV4 | PTYPE_UDP
_TCP6 = PTYPE_IPV6 | PTYPE_TCP
_UDP6 = PTYPE_IPV6 | PTYPE_UDP
_RSS4 = {TCP: RSS_TCP4, UDP: RSS_UDP4}
_RSS6 = {TCP: RSS_TCP6, UDP: RSS_UDP6}


class Parsed(NamedTuple):
    """What one pass over a frame has found. Offsets are from the frame's start; 0 means there's no such layer."""

    ethertype: int
    """Of the payload, behind any tags; at most 1500 is an 802.3 length."""
    vlan: int
    """TCI of the tag that the card filters and strips, or -1."""
    vlan_at: int
    """Where that tag begins: 12, or 16 behind an outer tag; 0 without one."""
    outer_vlan: int
    """TCI of the outer tag, or -1; only with double VLAN."""
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


_Tags = tuple[int, int, int]  # Parsed's vlan, vlan_at, outer_vlan
_make: Callable[[type[Parsed], tuple[object, ...]], Parsed] = tuple.__new__


def parse(frame: Buffer, vet: int = ETH_VLAN, outer_vet: int = 0) -> Parsed:
    """Reads the headers of a frame of at least 14 bytes. Never raises: a header that is cut short, or whose lengths
    contradict each other, is a layer the card doesn't know.

    Args:
        vet: VET.VET, the type of the tags that the card filters and strips (section 7.4). L3 is also found behind up
            to two tags of other well-known types, which are then just bytes.
        outer_vet: VET.VET_EXT with CTRL_EXT.EXT_VLAN set (double VLAN), else 0.
    """
    size = len(frame)
    # IPv4 without options, one pass of one struct. A fragment, an odd length or another L4 goes the long way.
    if size >= 38:
        ethertype, version, total, fragment, proto, flow = _IPV4_FRAME.unpack_from(frame)
        if ethertype == 0x0800 and version == 0x45 and not fragment & 0x3FFF:
            end = 14 + total
            if end <= size:
                if proto == 6 and total >= 40:
                    return _make(Parsed, (0x0800, -1, 0, -1, 14, 34, end, _TCP4, 6, False, RSS_TCP4, flow[:8], flow))
                if proto == 17 and total >= 28:
                    return _make(Parsed, (0x0800, -1, 0, -1, 14, 34, end, _UDP4, 17, False, RSS_UDP4, flow[:8], flow))
        elif ethertype == 0x86DD and size >= 58:
            _, version, payload, proto, flow = _IPV6_FRAME.unpack_from(frame)
            end = 54 + payload
            if version >> 4 == 6 and end <= size:
                if proto == 6 and payload >= 20:
                    return _make(Parsed, (0x86DD, -1, 0, -1, 14, 54, end, _TCP6, 6, False, RSS_TCP6, flow[:32], flow))
                if proto == 17 and payload >= 8:
                    return _make(Parsed, (0x86DD, -1, 0, -1, 14, 54, end, _UDP6, 17, False, RSS_UDP6, flow[:32], flow))
    return _parse_slowly(frame, vet, outer_vet)


def _parse_slowly(frame: Buffer, vet: int, outer_vet: int) -> Parsed:
    size = len(frame)
    vlan = outer_vlan = -1
    vlan_at = 0
    ethertype = _U16.unpack_from(frame, 12)[0] if size >= 14 else 0
    l3 = 14
    while l3 < 22 and size >= l3 + 4:
        if outer_vet and l3 == 14 and ethertype == outer_vet:
            outer_vlan = _U16.unpack_from(frame, 14)[0]
        elif vlan < 0 and ethertype == vet and (l3 == 14 or outer_vlan >= 0):
            vlan = _U16.unpack_from(frame, l3)[0]
            vlan_at = l3 - 2
        elif ethertype not in (ETH_VLAN, ETH_QINQ):
            break
        ethertype = _U16.unpack_from(frame, l3 + 2)[0]
        l3 += 4
    tags = (vlan, vlan_at, outer_vlan)
    if ethertype == ETH_IPV4:
        return _parse_ipv4(frame, tags, l3)
    if ethertype == ETH_IPV6:
        return _parse_ipv6(frame, tags, l3)
    return _no_ip(ethertype, tags, size)


def _no_ip(ethertype: int, tags: _Tags, size: int) -> Parsed:
    ptype = PTYPE_VLAN if tags[1] else 0
    return Parsed(ethertype, *tags, 0, 0, size, ptype, -1, False, RSS_NONE, b"", b"")


def _parse_ipv4(frame: Buffer, tags: _Tags, l3: int) -> Parsed:
    size = len(frame)
    header = (frame[l3] & 15) * 4 if size >= l3 + 20 else 0
    if header < 20 or frame[l3] >> 4 != 4 or l3 + header > size:
        return _no_ip(ETH_IPV4, tags, size)
    total, _, fragment_field, _, proto = struct.unpack_from(">HHHBB", frame, l3 + 2)
    ptype = PTYPE_IPV4 | (PTYPE_VLAN if tags[1] else 0)
    if header > 20:
        ptype |= PTYPE_IPV4_OPTIONS
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
        return Parsed(ETH_IPV4, *tags, l3, l4, end, ptype, proto, False, rss, addresses, flow)
    end = min(max(end, l3 + header), size)
    return Parsed(ETH_IPV4, *tags, l3, 0, end, ptype, proto, fragment, RSS_IPV4, addresses, b"")


def _parse_ipv6(frame: Buffer, tags: _Tags, l3: int) -> Parsed:
    size = len(frame)
    if size < l3 + 40 or frame[l3] >> 4 != 6:
        return _no_ip(ETH_IPV6, tags, size)
    payload, proto = struct.unpack_from(">HB", frame, l3 + 4)
    addresses = bytes(frame[l3 + 8 : l3 + 40])
    end = l3 + 40 + payload
    whole = end <= size
    end = min(end, size)
    ptype = PTYPE_IPV6 | (PTYPE_VLAN if tags[1] else 0)
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
        return Parsed(ETH_IPV6, *tags, l3, at, end, ptype, proto, False, rss, addresses, flow)
    return Parsed(ETH_IPV6, *tags, l3, 0, end, ptype, proto, fragment, RSS_IPV6, addresses, b"")


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
