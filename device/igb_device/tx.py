"""Transmit (82576 datasheet section 7.2): descriptors in, frames out, reports back.

A doorbell means all new descriptors of a ring. They are fetched as one block, put together to frames whose parts lie
in guest memory still, prepared (checksums and segmentation are handed on to a wire that takes them, else done here),
sent in one call, and reported. A frame that the wire doesn't take for now waits with its reports.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from igb_device.complaints import Complaints
from igb_device.drops import DropReason
from igb_device.interrupts import Interrupts
from igb_device.registers import RegisterFile
from igb_device.ring import Restarted, TxRing, Unsent
from igb_device.stats import FCS, Stats, group
from igb_device.tx_frames import DEXT, Framer, set_context
from igb_device.wire.base import Accepts, Frame, Wire
from igb_hw.registers import MAP
from pyvfio_user.device import DmaError, Host

BATCH = 512
"""Descriptors taken from one ring before the next ring has its turn."""

FRAMES = 4096
"""Frames made before they are sent: a segment size of 1 makes more of a few descriptors than memory should hold."""

OCTETS = 2 << 20
"""And their bytes: so much of each ring may have to be kept while the wire takes nothing."""

MAX_PACKET = 1 << 18
"""PAYLEN has 18 bits: a frame whose descriptors add up to more is lost."""

_DESCRIPTOR = struct.Struct("<QII")

EOP = 1 << 24
RS = 1 << 27
_DTYP = 0xF << 20
_DTYP_CONTEXT = 2 << 20
_DTYP_DATA = 3 << 20
DD = 1

_TCTL = MAP["TCTL"].offset >> 2
_TCTL_EN = MAP["TCTL"]["EN"]


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
        self._framer = Framer(regs, stats)
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
                set_context(ring, first, cmd, olinfo)
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
                for frame in self._framer.frames(ring, self._accepts()):
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

    def _accepts(self) -> Accepts:
        """What needn't be finished before it goes where frames go now."""
        if self.looping:
            return Accepts.CSUM
        assert self.wire is not None
        return self.wire.accepts

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
