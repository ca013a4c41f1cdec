"""From a frame's descriptors to what the wire gets: checksums, VLAN tag, segmentation (82576 datasheet section 7.2.4
and 7.2.5). What the wire takes unfinished is handed on with a note, the rest is done here."""

from __future__ import annotations

import struct

from igb_device.checksum import finish, insert_tx
from igb_device.drops import DropReason
from igb_device.registers import RegisterFile
from igb_device.ring import Context, TxRing
from igb_device.segmentation import to_offload, tso
from igb_device.stats import FCS, Stats
from igb_device.wire.base import (
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    NO_OFFLOAD,
    Accepts,
    Frame,
    Offload,
)
from igb_hw.registers import MAP
from pyvfio_user.device import Buffer

MAX_FRAME = 0x2600 - FCS
"""The longest frame that leaves in one piece: 9.5 KB with its FCS."""

# bits of the second quadword, the same in the legacy and the advanced format (sections 7.2.2.1 and 7.2.2.3)
DEXT = 1 << 29
VLE = 1 << 30
TSE = 1 << 31
LEGACY_IC = 1 << 26
_IDX = 1 << 4
_IXSM = 1 << 8
_TXSM = 1 << 9

_L4_UDP, _L4_TCP, _L4_SCTP = range(3)
_CSUM_OFFSET = (6, 16)
_GSO_ACCEPT = {GSO_TCPV4: Accepts.TSO4, GSO_TCPV6: Accepts.TSO6, GSO_UDP_L4: Accepts.USO}
_MIN_FRAME = 60
_ETH_HEADER = 14
_ZEROS = bytes(_MIN_FRAME)

_TCTL = MAP["TCTL"].offset >> 2
_TCTL_PSP = MAP["TCTL"]["PSP"]
_VET = MAP["VET"].offset >> 2
_CTRL = MAP["CTRL"].offset >> 2
_CTRL_VME = MAP["CTRL"]["VME"]


class BadPacket(Exception):
    """The descriptors don't make a frame."""


class Framer:
    """Makes frames of what a ring has gathered. A frame that can't be made is dropped and counted."""

    def __init__(self, regs: RegisterFile, stats: Stats) -> None:
        self._words = regs.words
        self._stats = stats

    def frames(self, ring: TxRing, accepts: Accepts) -> list[Frame]:
        """The frame that the ring's parts make, or several where the wire wants it cut."""
        assert ring.first is not None
        cmd, olinfo = ring.first
        try:
            if ring.skip or ring.length < _ETH_HEADER:
                raise BadPacket
            context = ring.contexts[1 if olinfo & _IDX else 0]
            if cmd & DEXT and cmd & TSE:
                return self._segments(ring, context, cmd, olinfo, accepts)
            if ring.length > MAX_FRAME:
                raise BadPacket
            if cmd & DEXT:
                return [self._advanced(ring, context, cmd, olinfo, accepts)]
            return [self._legacy(ring, cmd, olinfo, accepts)]
        except (BadPacket, ValueError):
            self._stats.drop(DropReason.TX_BAD)
            return []

    def _advanced(self, ring: TxRing, context: Context, cmd: int, olinfo: int, accepts: Accepts) -> Frame:
        offload = NO_OFFLOAD
        parts = ring.parts
        if olinfo & (_IXSM | _TXSM):
            start = context.maclen + context.iplen
            if (
                not olinfo & _IXSM
                and context.l4t < _L4_SCTP
                and accepts & Accepts.CSUM
                and start + _CSUM_OFFSET[context.l4t] + 2 <= ring.length
            ):
                offload = Offload(NEEDS_CSUM, csum_start=start, csum_offset=_CSUM_OFFSET[context.l4t])
            else:
                whole = bytearray(b"".join(parts))
                insert_tx(
                    whole,
                    maclen=context.maclen,
                    iplen=context.iplen,
                    ixsm=bool(olinfo & _IXSM),
                    txsm=bool(olinfo & _TXSM),
                    ipv4=context.ipv4,
                    l4t=context.l4t,
                )
                parts = [whole]
        return self._finish(ring, parts, ring.length, offload, context.vlan if cmd & VLE else None)

    def _legacy(self, ring: TxRing, cmd: int, olinfo: int, accepts: Accepts) -> Frame:
        """Section 7.2.2.1. IC sums from CSS to the end and stores at CSO, both counted from the frame's start."""
        parts = ring.parts
        offload = NO_OFFLOAD
        if cmd & LEGACY_IC:
            start, offset = olinfo >> 8 & 0xFF, cmd >> 16 & 0xFF
            if start < offset and offset + 2 <= ring.length:
                offload = Offload(NEEDS_CSUM, csum_start=start, csum_offset=offset - start)
                if not accepts & Accepts.CSUM:
                    whole = bytearray(b"".join(parts))
                    finish(whole, start, offset - start)
                    parts = [whole]
                    offload = NO_OFFLOAD
        tag = olinfo >> 16 if cmd & VLE and self._words[_CTRL] & _CTRL_VME else None
        return self._finish(ring, parts, ring.length, offload, tag)

    def _finish(self, ring: TxRing, parts: list[Buffer], length: int, offload: Offload, vlan: int | None) -> Frame:
        """VLAN tag and padding."""
        if vlan is not None:
            parts, offload = self._tag(parts, offload, vlan)
            length += 4
        if length < _MIN_FRAME and self._words[_TCTL] & _TCTL_PSP:
            parts = [*parts, _ZEROS[: _MIN_FRAME - length]]
        return Frame(parts, offload, ring.queue)

    def _tag(self, parts: list[Buffer], offload: Offload, vlan: int) -> tuple[list[Buffer], Offload]:
        first = parts[0]
        if len(first) < 12:
            first = b"".join(parts)
            parts = [first]
        tag = struct.pack(">HH", self._words[_VET] & 0xFFFF, vlan)
        if offload is not NO_OFFLOAD:
            offload = offload._replace(
                csum_start=offload.csum_start + 4, hdr_len=offload.hdr_len + 4 if offload.hdr_len else 0
            )
        return [first[:12], tag, first[12:], *parts[1:]], offload

    def _segments(self, ring: TxRing, context: Context, cmd: int, olinfo: int, accepts: Accepts) -> list[Frame]:
        """TSO and USO (section 7.2.4): whole to a wire that takes it, else cut here."""
        hdr_len = context.maclen + context.iplen + context.l4len
        if not context.mss or context.l4t >= _L4_SCTP or hdr_len > ring.length or not hdr_len:
            raise BadPacket
        parts = ring.parts
        first = parts[0]
        if len(first) < hdr_len:
            first = b"".join(parts)
            parts = [first]
        header = bytes(first[:hdr_len])
        vlan = context.vlan if cmd & VLE else None
        tcp = context.l4t == _L4_TCP
        ixsm = bool(olinfo & _IXSM)
        if accepts & (Accepts.TSO4 | Accepts.TSO6 | Accepts.USO) and olinfo & _TXSM:
            whole = to_offload(
                header,
                ring.length,
                maclen=context.maclen,
                iplen=context.iplen,
                l4len=context.l4len,
                mss=context.mss,
                tcp=tcp,
                ipv4=context.ipv4,
                ixsm=ixsm,
            )
            if whole is not None and accepts & _GSO_ACCEPT[whole[1].gso_type & 0x7F]:
                rest = [first[hdr_len:], *parts[1:]] if len(first) > hdr_len else parts[1:]
                return [self._finish(ring, [whole[0], *rest], ring.length, whole[1], vlan)]
        payload = b"".join([first[hdr_len:], *parts[1:]])
        segments = tso(
            header,
            payload,
            maclen=context.maclen,
            iplen=context.iplen,
            l4len=context.l4len,
            mss=context.mss,
            tcp=tcp,
            ipv4=context.ipv4,
            ixsm=ixsm,
            txsm=bool(olinfo & _TXSM),
        )
        frames = [
            self._finish(ring, [head.tobytes(), body], hdr_len + len(body), NO_OFFLOAD, vlan) for head, body in segments
        ]
        self._stats.counts["TSCTC"] += 1
        return frames


def set_context(ring: TxRing, first: int, cmd: int, mss_l4len_idx: int) -> None:
    """An advanced context descriptor: VLAN, MACLEN, IPLEN in the low word, TUCMD in `cmd`."""
    lengths = first & 0xFFFFFFFF
    context = ring.contexts[1 if mss_l4len_idx & _IDX else 0]
    context.vlan = lengths >> 16
    context.maclen = lengths >> 9 & 0x7F
    context.iplen = lengths & 0x1FF
    context.ipv4 = bool(cmd & 1 << 10)
    context.l4t = cmd >> 11 & 3
    context.l4len = mss_l4len_idx >> 8 & 0xFF
    context.mss = mss_l4len_idx >> 16
