"""Cutting big frames into wire frames: on transmit by the context descriptor (TSO and USO, 82576 datasheet 7.2.4), on
receive what a virtio_net_hdr says is still to be cut; and describing a TSO frame to a wire that takes it whole.

All headers of a frame are made at once, as the rows of one array; payload is never copied here. Left out: fragmenting
UDP (UFO), and on receive segments inside a tunnel, which no TAP hands out unless it is asked to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from igb_device.checksum import Buffer, sum16
from igb_device.parse import ETH_IPV4, ETH_IPV6, PTYPE_IPV4, TCP, UDP, mobile_addresses, parse
from igb_device.wire.base import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, Offload

# What is kept of the TCP flags in the first, middle and last segment: the reset values of DTXTCPFLGL and DTXTCPFLGH.
# FIN and PSH stay in the last segment only, CWR in the first only.
FLAGS_FIRST: Final = 0xFF6
FLAGS_MIDDLE: Final = 0xF76
FLAGS_LAST: Final = 0xF7F

_HEADERS_LIMIT = 8 << 20  # bytes of headers made for one frame: enough for 64 KiB of payload byte by byte
_CWR = 0x80
_BE16 = np.dtype(">u2")

_Numbers = npt.NDArray[np.int64]


class Segments:
    """A big frame cut: row i of `headers` goes before payload[i * mss : (i + 1) * mss]."""

    __slots__ = ("headers", "mss", "n", "payload")

    def __init__(self, headers: npt.NDArray[np.uint8], payload: memoryview, mss: int) -> None:
        self.headers = headers
        self.payload = payload
        self.mss = mss
        self.n = len(headers)

    def __len__(self) -> int:
        return self.n

    @property
    def header_length(self) -> int:
        """Bytes of each header."""
        return int(self.headers.shape[1])

    @property
    def length(self) -> int:
        """Bytes of all segments together, headers included."""
        return self.n * self.header_length + len(self.payload)

    def __iter__(self) -> Iterator[tuple[memoryview, memoryview]]:
        """Each segment as (header, payload), both views."""
        size = self.header_length
        mss = self.mss
        payload = self.payload
        rows = self.headers.reshape(-1).data
        at = 0
        for row in range(0, self.n * size, size):
            yield rows[row : row + size], payload[at : at + mss]
            at += mss

    def frames(self) -> list[bytearray]:
        """Each segment as one frame of its own."""
        return [bytearray().join(parts) for parts in self]


def cut(frame: Buffer, offload: Offload) -> Segments:
    """Cuts a received big frame into the frames the wire would have carried, as the kernel's own segmentation does:
    IPv4 IDs counting up from the frame's, TCP sequence numbers, FIN and PSH in the last segment only and CWR in the
    first only, all lengths, all checksums.

    The header's length is read from the frame, as `Offload.hdr_len` is only a hint in virtio_net_hdr. Bytes behind
    the IP packet's own end are dropped.

    Raises:
        ValueError: the frame isn't what `offload` says it is.
    """
    kind = offload.gso_type & ~GSO_ECN
    if kind not in (GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4):
        raise ValueError("not a segment type that can be cut")
    p = parse(frame)
    tcp = kind != GSO_UDP_L4
    ipv4 = bool(p.ptype & PTYPE_IPV4)
    if not p.l4 or p.proto != (TCP if tcp else UDP) or (tcp and ipv4 != (kind == GSO_TCPV4)):
        raise ValueError("the headers aren't those of the segment type")
    l3, l4 = p.l3, p.l4
    if offload.flags & NEEDS_CSUM and offload.csum_start != l4:
        raise ValueError("the checksum isn't that of the L4 header")
    size = l4 + ((frame[l4 + 12] >> 4) * 4 if tcp else 8)
    if size > p.l3_end or size < l4 + (20 if tcp else 8):
        raise ValueError("the length of the L4 header is wrong")
    header = bytearray(frame[:size])
    if ipv4:
        header[l3 + 10 : l3 + 12] = b"\0\0"
    field = l4 + (16 if tcp else 6)
    addresses = mobile_addresses(frame, p) or p.rss4
    header[field : field + 2] = (int.from_bytes(addresses + bytes((0, p.proto)), "big") % 0xFFFF).to_bytes(2, "big")
    payload = memoryview(frame)[size : p.l3_end]
    masks = (FLAGS_FIRST, FLAGS_MIDDLE, FLAGS_LAST)
    return _segment(header, payload, l3, l4, offload.gso_size, masks if tcp else None, ipv4=ipv4, ixsm=True, txsm=True)


def tso(
    header: Buffer,
    payload: Buffer,
    *,
    maclen: int,
    iplen: int,
    l4len: int,
    mss: int,
    tcp: bool,
    ipv4: bool,
    ixsm: bool,
    txsm: bool,
    flags: tuple[int, int, int] = (FLAGS_FIRST, FLAGS_MIDDLE, FLAGS_LAST),
) -> Segments:
    """Segments a frame to be sent by its context descriptor: TSO, or USO with `tcp` false.

    Headers are found by the context's lengths only: with a tunnel MACLEN reaches to the outer IP header and IPLEN from
    there to the inner L4 header, and what lies between is replicated as it is. In each segment the IP length at
    MACLEN is set, the IPv4 ID there counts up, the L4 header's sequence number or length is set. The IPv4 checksum
    (IXSM) is that of all IPLEN bytes with what the field holds, by which a driver cancels the bytes that aren't the
    outer header's. The L4 checksum (TXSM) takes in the field too: the pseudo-header's sum without the length, which
    is added here.

    Args:
        header: the frame's first maclen + iplen + l4len bytes.
        payload: the rest, in one buffer; the result's payload is a view of it.
        flags: the masks of DTXTCPFLGL and DTXTCPFLGH, for the first, middle and last segment. A frame that gives one
            segment only keeps its flags.

    Raises:
        ValueError: the context's lengths aren't those of headers, or MSS is 0 or too big for IP.
    """
    l4 = maclen + iplen
    size = l4 + l4len
    if maclen < 14 or iplen < (20 if ipv4 else 40) or size != len(header):
        raise ValueError("the context's header lengths don't fit the frame")
    if (l4len < 20 or l4len & 3) if tcp else l4len != 8:
        raise ValueError("not the length of an L4 header")
    return _segment(
        bytearray(header), memoryview(payload), maclen, l4, mss, flags if tcp else None, ipv4=ipv4, ixsm=ixsm, txsm=txsm
    )


def _segment(
    header: bytearray,
    payload: memoryview,
    l3: int,
    l4: int,
    mss: int,
    masks: tuple[int, int, int] | None,
    *,
    ipv4: bool,
    ixsm: bool,
    txsm: bool,
) -> Segments:
    """The rows of headers for a template whose checksum fields hold what is to be summed with the rest. TCP has
    `masks` for its flags, UDP None.

    The sum over a header is that of the template's constant words, taken once, and of the words that vary.
    """
    if mss <= 0:
        raise ValueError("a segment size of 0")
    size = len(header)
    count = max(1, -(-len(payload) // mss))
    if count * size > _HEADERS_LIMIT:
        raise ValueError("too many segments")
    if l4 - l3 + size - l4 + min(mss, len(payload)) > 0xFFFF:
        raise ValueError("segments longer than an IP packet can be")
    index = np.arange(count, dtype=np.int64)
    l4_lengths = np.full(count, size - l4 + mss, np.int64)
    l4_lengths[-1] = size - l4 + len(payload) - (count - 1) * mss

    headers = np.empty((count, size), np.uint8)
    if ipv4:
        totals = l4_lengths + (l4 - l3)
        ids = (index + int.from_bytes(header[l3 + 4 : l3 + 6], "big")) & 0xFFFF
        header[l3 + 2 : l3 + 6] = bytes(4)
        headers[:] = np.frombuffer(header, np.uint8)
        _put(headers, l3 + 2, totals)
        _put(headers, l3 + 4, ids)
        if ixsm:
            _put(headers, l3 + 10, _checksums(totals + ids + sum16(header, l3, l4)))
    else:
        headers[:] = np.frombuffer(header, np.uint8)
        _put(headers, l3 + 4, l4_lengths + (l4 - l3 - 40))

    if masks is not None:
        sequence = (index * mss + int.from_bytes(header[l4 + 4 : l4 + 8], "big")) & 0xFFFFFFFF
        high, low = sequence >> 16, sequence & 0xFFFF
        words = _flag_words(int.from_bytes(header[l4 + 12 : l4 + 14], "big"), count, masks)
        header[l4 + 4 : l4 + 8] = bytes(4)
        header[l4 + 12 : l4 + 14] = bytes(2)
        _put(headers, l4 + 4, high)
        _put(headers, l4 + 6, low)
        _put(headers, l4 + 12, words)
        varying = high + low + words + l4_lengths
        field = l4 + 16
    else:
        header[l4 + 4 : l4 + 6] = bytes(2)
        _put(headers, l4 + 4, l4_lengths)
        varying = 2 * l4_lengths  # in the UDP header and in the pseudo-header
        field = l4 + 6
    if txsm:
        sums = varying + _payload_sums(payload, mss, count) + sum16(header, l4)
        # UDP sends 0 as 0xFFFF, which is what this gives: it has no other form of a sum that is a multiple of 0xFFFF.
        _put(headers, field, _checksums(sums) if masks is not None else 0xFFFF - sums % 0xFFFF)
    return Segments(headers, payload, mss)


def _flag_words(word: int, count: int, masks: tuple[int, int, int]) -> _Numbers:
    """TCP's data offset and flags of each segment."""
    if count == 1:
        return np.array([word], np.int64)
    first, middle, last = masks
    words = np.full(count, word & (middle | 0xF000), np.int64)
    words[0] = word & (first | 0xF000)
    words[-1] = word & (last | 0xF000)
    return words


def _checksums(sums: _Numbers) -> _Numbers:
    """The complements of folded sums, none of which is 0: a multiple of 0xFFFF gives 0."""
    return 0xFFFE - (sums - 1) % 0xFFFF


def _put(headers: npt.NDArray[np.uint8], at: int, values: _Numbers) -> None:
    """Stores a big-endian 16-bit number in every row."""
    headers[:, at : at + 2].view(_BE16)[:, 0] = values


def _payload_sums(payload: memoryview, mss: int, count: int) -> _Numbers:
    """The sum of each segment's payload, folded or nearly so."""
    whole = len(payload) // mss
    sums = np.zeros(count, np.int64)
    if whole:
        if mss & 1:
            octets = np.frombuffer(payload, np.uint8, whole * mss).reshape(whole, mss)
            sums[:whole] = octets[:, 0::2].sum(axis=1, dtype=np.int64) * 256
            sums[:whole] += octets[:, 1::2].sum(axis=1, dtype=np.int64)
        else:
            width: type[np.unsignedinteger[Any]] = np.uint16 if mss & 2 else np.uint32
            step = np.dtype(width).itemsize
            words = np.frombuffer(payload, width, whole * mss // step).reshape(whole, mss // step)
            # Words are summed as this machine has them (see sum16); swapping the folded sum puts it right.
            folded = np.add.reduce(words, axis=1, dtype=np.uint64) % np.uint64(0xFFFF)
            sums[:whole] = folded.astype("<u2").byteswap()
    if whole < count:
        sums[-1] = sum16(payload, whole * mss)
    return sums


def to_offload(
    header: Buffer,
    total_len: int,
    *,
    maclen: int,
    iplen: int,
    l4len: int,
    mss: int,
    tcp: bool,
    ipv4: bool,
    ixsm: bool,
) -> tuple[bytes, Offload] | None:
    """Describes a TSO or USO frame (with TXSM) to a wire that takes it whole: its header as Linux wants it of a
    NEEDS_CSUM frame with a gso_type, and the note to go with it. The IP length and checksum are filled in, and the
    L4 field has the pseudo-header's sum, now with the whole length.

    None if the context describes anything but plain IPv4 or IPv6 with TCP or UDP straight behind it (a tunnel,
    extension headers, a fragment, more than an IP packet holds), or an IPv4 checksum that isn't to be filled in: such
    a frame is to be cut by `tso`.

    Args:
        header: the frame's first bytes, at least maclen + iplen + l4len of them; only these are returned.
        total_len: bytes of the whole frame.
    """
    l4 = maclen + iplen
    size = l4 + l4len
    proto = TCP if tcp else UDP
    if maclen < 14 or mss <= 0 or total_len < size or len(header) < size:
        return None
    if total_len - maclen > 0xFFFF or mss > 0xFFFF:
        return None
    ethertype = header[maclen - 2] << 8 | header[maclen - 1]
    patched = bytearray(header[:size])
    if ipv4:
        plain = (
            ethertype == ETH_IPV4
            and iplen >= 20
            and header[maclen] == 0x40 | iplen >> 2
            and not iplen & 3
            and header[maclen + 9] == proto
            and not (header[maclen + 6] & 0x3F or header[maclen + 7])
        )
        if not plain or not ixsm:
            return None
        patched[maclen + 2 : maclen + 4] = (total_len - maclen).to_bytes(2, "big")
        patched[maclen + 10 : maclen + 12] = (0xFFFF - sum16(patched, maclen, l4)).to_bytes(2, "big")
    else:
        if ethertype != ETH_IPV6 or iplen != 40 or header[maclen] >> 4 != 6 or header[maclen + 6] != proto:
            return None
        patched[maclen + 4 : maclen + 6] = (total_len - l4).to_bytes(2, "big")
    l4_length = total_len - l4
    if tcp:
        if l4len < 20 or header[l4 + 12] >> 4 != l4len >> 2 or l4len & 3:
            return None
        kind = GSO_TCPV4 if ipv4 else GSO_TCPV6
        if header[l4 + 13] & _CWR:
            kind |= GSO_ECN
        offset = 16
    else:
        if l4len != 8:
            return None
        kind = GSO_UDP_L4
        patched[l4 + 4 : l4 + 6] = l4_length.to_bytes(2, "big")
        offset = 6
    field = l4 + offset
    pseudo = (patched[field] << 8 | patched[field + 1]) + l4_length
    patched[field : field + 2] = (pseudo % 0xFFFF or 0xFFFF).to_bytes(2, "big")
    return bytes(patched), Offload(NEEDS_CSUM, kind, size, mss, l4, offset)
