"""Transmit (82576 datasheet section 7.2): descriptors in, frames out, reports back.

A doorbell means all new descriptors of a ring. They are fetched as one block, put together to frames whose parts lie
in guest memory still, prepared (checksums and segmentation are handed on to a wire that takes them, else done here),
sent in one call, and reported. A frame that the wire doesn't take for now waits with its reports.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from igb_device.checksum import finish, insert_tx
from igb_device.complaints import Complaints
from igb_device.drops import DropReason
from igb_device.interrupts import Interrupts
from igb_device.registers import RegisterFile
from igb_device.ring import Context, Restarted, TxRing, Unsent
from igb_device.segmentation import to_offload, tso
from igb_device.stats import FCS, Stats, group
from igb_device.wire.base import (
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    NO_OFFLOAD,
    Accepts,
    Frame,
    Offload,
    Wire,
)
from igb_hw.registers import MAP
from pyvfio_user.device import Buffer, DmaError, Host

BATCH = 512
"""Descriptors taken from one ring before the next ring has its turn."""

FRAMES = 4096
"""Frames made before they are sent: a segment size of 1 makes more of a few descriptors than memory should hold."""

OCTETS = 2 << 20
"""And their bytes: so much of each ring may have to be kept while the wire takes nothing."""

MAX_FRAME = 0x2600 - FCS
"""The longest frame that leaves in one piece: 9.5 KB with its FCS."""

MAX_PACKET = 1 << 18
"""PAYLEN has 18 bits: a frame whose descriptors add up to more is lost."""

_DESCRIPTOR = struct.Struct("<QII")

# bits of the second quadword, the same in the legacy and the advanced format (sections 7.2.2.1 and 7.2.2.3)
EOP = 1 << 24
RS = 1 << 27
DEXT = 1 << 29
VLE = 1 << 30
TSE = 1 << 31
LEGACY_IC = 1 << 26
_DTYP = 0xF << 20
_DTYP_CONTEXT = 2 << 20
_DTYP_DATA = 3 << 20
_IDX = 1 << 4
_CC = 1 << 7
_IXSM = 1 << 8
_TXSM = 1 << 9
DD = 1

_L4_UDP, _L4_TCP, _L4_SCTP = range(3)
_CSUM_OFFSET = (6, 16)
_GSO_ACCEPT = {GSO_TCPV4: Accepts.TSO4, GSO_TCPV6: Accepts.TSO6, GSO_UDP_L4: Accepts.USO}
_MIN_FRAME = 60
_ETH_HEADER = 14
_ZEROS = bytes(_MIN_FRAME)

_TCTL = MAP["TCTL"].offset >> 2
_TCTL_EN = MAP["TCTL"]["EN"]
_TCTL_PSP = MAP["TCTL"]["PSP"]
_VET = MAP["VET"].offset >> 2
_CTRL = MAP["CTRL"].offset >> 2
_CTRL_VME = MAP["CTRL"]["VME"]


class BadPacket(Exception):
    """The descriptors don't make a frame."""


class Transmitter:
    """The transmit half of the card. `process` does what doorbells have asked for."""

    def __init__(
        self,
        regs: RegisterFile,
        queues: int,
        stats: Stats,
        interrupts: Interrupts,
        complaints: Complaints,
        loopback: Callable[[list[Frame]], None],
    ) -> None:
        self._words = regs.words
        self._stats = stats
        self._interrupts = interrupts
        self._complaints = complaints
        self._loop_back = loopback
        self.rings = [TxRing(regs, queue) for queue in range(queues)]
        self.doorbells = 0  # a bit for each ring with work
        self.looping = False  # PHY or MAC loopback: frames come back instead of leaving
        self.link = False
        self.halted = False  # CTRL.GIO_MASTER_DISABLE
        self.wire: Wire | None = None
        self.host: Host | None = None

    def reset(self) -> None:
        self.doorbells = 0
        for ring in self.rings:
            ring.reset()

    # --- registers

    def write_tail(self, queue: int, value: int) -> None:
        self.rings[queue].tail = value & 0xFFFF
        self.doorbells |= 1 << queue

    def read_tail(self, queue: int) -> int:
        return self.rings[queue].tail

    def write_head(self, queue: int, value: int) -> None:
        self.rings[queue].head = value & 0xFFFF

    def read_head(self, queue: int) -> int:
        return self.rings[queue].head

    def address_written(self, queue: int) -> None:
        self.rings[queue].stale = True

    def control_written(self, queue: int) -> None:
        self.rings[queue].control_written()
        self.doorbells |= 1 << queue

    def resume(self) -> None:
        """Something that kept rings from working may have changed (link, TCTL.EN, a wire that takes more)."""
        for ring in self.rings:
            if ring.enabled and (ring.stale or ring.pending or ring.unsent):
                self.doorbells |= 1 << ring.queue

    def resume_blocked(self) -> None:
        """The wire takes more: rings with frames that it didn't take have work again."""
        for ring in self.rings:
            if ring.unsent:
                self.doorbells |= 1 << ring.queue

    # --- work

    def process(self) -> bool:
        """Works through the rings with doorbells, a batch each. True if more is to be done right away."""
        host = self.host
        ready = self._words[_TCTL] & _TCTL_EN and (self.link or self.looping) and not self.halted
        if host is None or not ready:
            self.doorbells = 0  # `resume` finds them again
            return False
        doorbells, self.doorbells = self.doorbells, 0
        while doorbells:
            bit = doorbells & -doorbells
            doorbells ^= bit
            ring = self.rings[bit.bit_length() - 1]
            if ring.enabled and not ring.stopped:
                epoch = ring.epoch
                try:
                    if self._run(ring, host):
                        self.doorbells |= bit
                except Restarted:
                    pass
                except DmaError as error:
                    if epoch == ring.epoch:
                        self._stop(ring, error)
        return self.doorbells != 0

    def _stop(self, ring: TxRing, error: DmaError) -> None:
        ring.stopped = str(error)
        ring.restart()
        self._stats.drop(DropReason.TX_DMA)
        self._complaints.stopped("transmit", ring.queue, ring.stopped)

    def _run(self, ring: TxRing, host: Host) -> bool:
        """A batch of a ring's descriptors. True if there are more."""
        epoch = ring.epoch
        ring.refresh(host)
        if ring.unsent and not self._flush(ring, host):
            return False
        n = min(ring.pending, BATCH)
        if not n:
            return False
        head = ring.head
        count = ring.count
        frames: list[Frame] = []
        ends: list[int] = []  # of each frame, the descriptor after it
        reports: list[list[tuple[int, int]]] = []  # of each frame, (descriptor, second half of its write-back)
        early: list[tuple[int, int]] = []  # reports of lost frames before the first good one
        waiting: list[tuple[int, int]] = []  # reports of the frame that isn't complete yet
        octets = 0
        begin = head  # where the first good frame begins
        data = ring.fetch(host, head, n)
        for index, (first, cmd, olinfo) in enumerate(_DESCRIPTOR.iter_unpack(data), head):
            if cmd & (DEXT | _DTYP) == DEXT | _DTYP_CONTEXT:
                _set_context(ring, first, cmd, olinfo)
                if cmd & RS:
                    waiting.append((index % count, (olinfo | DD) << 32 | cmd))
                continue
            if ring.first is None:
                ring.first = cmd, olinfo
            length = cmd & 0xFFFF
            ring.length += length
            if ring.skip or ring.length > MAX_PACKET or (cmd & DEXT and cmd & _DTYP != _DTYP_DATA):
                ring.skip = True
            elif length:
                part = host.read(first, length)
                if epoch != ring.epoch:
                    raise Restarted
                ring.parts.append(part)
            if cmd & RS:
                waiting.append((index % count, (olinfo | DD) << 32 | cmd))
            if cmd & EOP:
                for frame in self._frames(ring):
                    frames.append(frame)
                    ends.append(ends[-1] if ends else head)
                    reports.append([])
                octets += ring.length
                ring.parts, ring.length, ring.first, ring.skip = [], 0, None, False
                if frames:  # what a lost frame asked for follows the one before it
                    ends[-1] = (index + 1) % count
                    reports[-1] += waiting
                else:
                    early += waiting
                    begin = (index + 1) % count
                waiting = []
                if len(frames) >= FRAMES or octets >= OCTETS:
                    n = index + 1 - head
                    break
        if ring.parts:
            ring.parts = [b"".join(ring.parts)]  # the rest of the frame comes with a later doorbell
        after = (head + n) % count
        taken = self._send(frames)
        ring.check(epoch)
        done = early + [report for frame in reports[:taken] for report in frame]
        if taken == len(frames):
            done += waiting
            ring.head = after
            self._report(ring, host, done)
            return ring.pending > 0
        ring.head = ends[taken - 1] if taken else begin
        for i in range(taken, len(frames)):
            frame = frames[i]
            copy = Frame([b"".join(frame.parts)], frame.offload, frame.queue)
            ring.unsent.append(Unsent(copy, reports[i], ends[i]))
        ring.unsent[-1].head = after
        ring.unsent[-1].reports = [*ring.unsent[-1].reports, *waiting]
        self._report(ring, host, done)
        return False

    def _flush(self, ring: TxRing, host: Host) -> bool:
        """Sends what the wire didn't take before. True if all of it is gone."""
        epoch = ring.epoch
        taken = self._send([unsent.frame for unsent in ring.unsent])
        ring.check(epoch)
        done: list[tuple[int, int]] = []
        for _ in range(taken):
            unsent = ring.unsent.popleft()
            done += unsent.reports
            ring.head = unsent.head
        self._report(ring, host, done)
        return not ring.unsent

    def _report(self, ring: TxRing, host: Host, done: list[tuple[int, int]]) -> None:
        """Writes back what asked for it: the descriptors, or the head once for all (section 7.2.3)."""
        if not done:
            return
        address = ring.head_writeback
        if address:
            epoch = ring.epoch
            host.write(address, ring.head.to_bytes(4, "little"))
            ring.check(epoch)
        else:
            for index, high in done:
                ring.store_high(host, index, high)
        self._interrupts.tx(ring.queue)

    def _send(self, frames: list[Frame]) -> int:
        if not frames:
            return 0
        if self.looping:
            self._loop_back([Frame([b"".join(f.parts)], f.offload, f.queue) for f in frames])
            taken = len(frames)
        else:
            assert self.wire is not None
            lost = self.wire.errors
            taken = self.wire.send(frames)
            lost = self.wire.errors - lost
            if lost:
                self._stats.drops[DropReason.WIRE_ERROR] += lost
        for frame in frames[:taken]:
            self._count(frame)
        return taken

    def _count(self, frame: Frame) -> None:
        length = sum(map(len, frame.parts))
        first = frame.parts[0]
        address = bytes(first[:6]) if len(first) >= 6 else b"".join(frame.parts)[:6]
        kind = group(address[0], address)
        offload = frame.offload
        if offload.gso_type:
            payload = length - offload.hdr_len
            n = -(-payload // offload.gso_size) or 1
            largest = offload.hdr_len + offload.gso_size + FCS
            self._stats.transmitted(n, length + (n - 1) * offload.hdr_len + n * FCS, largest, kind)
            self._stats.counts["TSCTC"] += 1
        else:
            self._stats.transmitted(1, length + FCS, 0, kind)

    # --- frames

    def _frames(self, ring: TxRing) -> list[Frame]:
        """The frame that the ring's parts make, or several where the wire wants it cut."""
        assert ring.first is not None
        cmd, olinfo = ring.first
        try:
            if ring.skip or ring.length < _ETH_HEADER:
                raise BadPacket
            context = ring.contexts[1 if olinfo & _IDX else 0]
            if cmd & DEXT and cmd & TSE:
                return self._segments(ring, context, cmd, olinfo)
            if ring.length > MAX_FRAME:
                raise BadPacket
            if cmd & DEXT:
                return [self._advanced(ring, context, cmd, olinfo)]
            return [self._legacy(ring, cmd, olinfo)]
        except (BadPacket, ValueError):
            self._stats.drop(DropReason.TX_BAD)
            return []

    def _accepts(self) -> Accepts:
        if self.looping:
            return Accepts.CSUM
        assert self.wire is not None
        return self.wire.accepts

    def _advanced(self, ring: TxRing, context: Context, cmd: int, olinfo: int) -> Frame:
        offload = NO_OFFLOAD
        parts = ring.parts
        if olinfo & (_IXSM | _TXSM):
            start = context.maclen + context.iplen
            if (
                not olinfo & _IXSM
                and context.l4t < _L4_SCTP
                and self._accepts() & Accepts.CSUM
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

    def _legacy(self, ring: TxRing, cmd: int, olinfo: int) -> Frame:
        """Section 7.2.2.1. IC sums from CSS to the end and stores at CSO, both counted from the frame's start."""
        parts = ring.parts
        offload = NO_OFFLOAD
        if cmd & LEGACY_IC:
            start, offset = olinfo >> 8 & 0xFF, cmd >> 16 & 0xFF
            if start < offset and offset + 2 <= ring.length:
                offload = Offload(NEEDS_CSUM, csum_start=start, csum_offset=offset - start)
                if not self._accepts() & Accepts.CSUM:
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

    def _segments(self, ring: TxRing, context: Context, cmd: int, olinfo: int) -> list[Frame]:
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
        accepts = self._accepts()
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


def _set_context(ring: TxRing, first: int, cmd: int, mss_l4len_idx: int) -> None:
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
