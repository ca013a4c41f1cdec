"""Sums over packet bytes: the Internet checksum (RFC 1071), CRC32c (SCTP, RFC 9260 appendix A), the Ethernet FCS, and
the transmit checksum offload built on them (82576 datasheet 7.2.5).

A sum here is always the folded one's complement sum of big-endian 16-bit words; a *checksum* is its complement.
"""

from __future__ import annotations

import functools
import zlib
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Buffer: TypeAlias = bytes | bytearray | memoryview

L4T_UDP = 0  # context descriptor, TUCMD.L4T
L4T_TCP = 1
L4T_SCTP = 2

_NUMPY_FROM = 256  # bytes from which numpy's sum beats int.from_bytes

_CHECKSUM_OFFSET = {L4T_UDP: 6, L4T_TCP: 16}
_SCTP_CRC_OFFSET = 8

_CRC32C = 0x82F63B78  # the Castagnoli polynomial, reflected
_CRC_BLOCK = 256


def sum16(data: Buffer, start: int = 0, end: int | None = None) -> int:
    """The folded one's complement sum of data[start:end], an odd last byte padded with zero on its right.

    0 only for data that is all zero (otherwise 0xFFFF, which is the same number): its complement is
    the checksum.
    """
    if end is None or end > len(data):
        end = len(data)
    count = end - start
    if count < _NUMPY_FROM:
        number = int.from_bytes(data[start:end], "big")
        if count & 1:
            number <<= 8
        return number % 0xFFFF or (0xFFFF if number else 0)
    words = count >> 2
    little = int(np.add.reduce(np.frombuffer(data, np.uint32, words, start), dtype=np.uint64))
    # 2**16 is 1 modulo 0xFFFF, so 32-bit words sum as their halves do; and a sum of swapped words is the swapped sum.
    folded = little % 0xFFFF
    number = ((folded & 0xFF) << 8) | (folded >> 8)
    if number == 0 and little:
        number = 0xFFFF
    if count & 3:
        tail = int.from_bytes(data[start + 4 * words : end], "big")
        if count & 1:
            tail <<= 8
        if tail:
            number = (number + tail) % 0xFFFF or 0xFFFF
    return number


@functools.cache
def _crc_tables() -> tuple[npt.NDArray[np.uint32], tuple[tuple[int, ...], ...]]:
    """`(positions, shift)`: byte b at place i of a block adds positions[i, b]; shift moves a CRC past a block."""
    one = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        one = np.where(one & 1, (one >> 1) ^ np.uint32(_CRC32C), one >> 1)
    positions = np.empty((_CRC_BLOCK, 256), np.uint32)
    positions[-1] = one
    for place in range(_CRC_BLOCK - 2, -1, -1):
        later = positions[place + 1]
        positions[place] = one[later & 0xFF] ^ (later >> 8)
    # The four bytes of a running CRC act as if xor'ed into the next block's first four bytes.
    return positions, tuple(tuple(map(int, positions[place])) for place in range(4))


def crc32c(data: Buffer) -> int:
    """CRC32c of `data`; SCTP stores it little-endian."""
    positions, (shift0, shift1, shift2, shift3) = _crc_tables()
    crc = 0xFFFFFFFF
    head = len(data) % _CRC_BLOCK
    step = positions[-1]
    if head:
        # The first, shorter block: its bytes take the last places, its CRC start value is folded into the data.
        first = bytearray(data[:head])
        if head >= 4:
            for i in range(4):
                first[i] ^= crc >> (8 * i) & 0xFF
            crc = int(
                np.bitwise_xor.reduce(
                    positions[np.arange(_CRC_BLOCK - head, _CRC_BLOCK), np.frombuffer(first, np.uint8)]
                )
            )
        else:
            for byte in first:
                crc = int(step[(crc ^ byte) & 0xFF]) ^ (crc >> 8)
    if len(data) > head:
        blocks = np.frombuffer(data, np.uint8, offset=head).reshape(-1, _CRC_BLOCK)
        for block in np.bitwise_xor.reduce(positions[np.arange(_CRC_BLOCK), blocks], axis=1).tolist():
            crc = shift0[crc & 0xFF] ^ shift1[crc >> 8 & 0xFF] ^ shift2[crc >> 16 & 0xFF] ^ shift3[crc >> 24] ^ block
    return crc ^ 0xFFFFFFFF


def fcs(data: Buffer) -> bytes:
    """The four bytes of the frame check sequence as they follow `data` on the wire (and in memory with SECRC = 0)."""
    return zlib.crc32(data).to_bytes(4, "little")


def insert_tx(frame: bytearray, *, maclen: int, iplen: int, ixsm: bool, txsm: bool, ipv4: bool, l4t: int) -> None:
    """Fills in the checksums of a frame to be sent, in place, where the context descriptor says they are.

    Headers are found by the context's lengths only, never by parsing: with a tunnel, MACLEN + IPLEN reach to the inner
    L4 header. Both sums take in what the checksum field holds: 0 in an IPv4 header whose driver follows the datasheet,
    the pseudo-header's sum in a TCP or UDP header. A UDP checksum of 0 is sent as 0xFFFF. IXSM without IPV4 does
    nothing, as IPv6 has no header checksum. SCTP's CRC32c counts its own field as zero.

    Raises:
        ValueError: a checksum field lies outside the frame, or L4T is reserved. The frame is unchanged.
    """
    l4 = maclen + iplen
    if ixsm and ipv4 and (iplen < 20 or l4 > len(frame)):
        raise ValueError("the IPv4 header is outside the frame")
    if txsm:
        if l4t == L4T_SCTP:
            if l4 + _SCTP_CRC_OFFSET + 4 > len(frame):
                raise ValueError("the SCTP checksum is outside the frame")
        elif l4t not in _CHECKSUM_OFFSET:
            raise ValueError("reserved L4 type")
        elif l4 + _CHECKSUM_OFFSET[l4t] + 2 > len(frame):
            raise ValueError("the L4 checksum is outside the frame")
    if ixsm and ipv4:
        frame[maclen + 10 : maclen + 12] = (0xFFFF - sum16(frame, maclen, l4)).to_bytes(2, "big")
    if not txsm:
        return
    if l4t == L4T_SCTP:
        field = l4 + _SCTP_CRC_OFFSET
        frame[field : field + 4] = bytes(4)
        frame[field : field + 4] = crc32c(memoryview(frame)[l4:]).to_bytes(4, "little")
    else:
        finish(frame, l4, _CHECKSUM_OFFSET[l4t])


def finish(frame: bytearray, csum_start: int, csum_offset: int) -> None:
    """Completes, in place, the checksum of a frame marked NEEDS_CSUM (virtio_net_hdr): its field holds the
    pseudo-header's sum. At offset 6, which is UDP's, a checksum of 0 becomes 0xFFFF.

    Raises:
        ValueError: the field lies outside the frame.
    """
    field = csum_start + csum_offset
    if csum_start < 0 or csum_offset < 0 or field + 2 > len(frame):
        raise ValueError("the checksum is outside the frame")
    checksum = 0xFFFF - sum16(frame, csum_start)
    if checksum == 0 and csum_offset == 6:
        checksum = 0xFFFF
    frame[field : field + 2] = checksum.to_bytes(2, "big")
