"""From the packet buffer to the receive rings (82576 datasheet sections 4.4 and 7.1.4): room, waiting, drops, PAUSE.

A frame goes straight into its ring's buffers when there are descriptors. Else it waits in the packet buffer (RXPBS),
or is dropped there and then if the queue's SRRCTL.DROP_EN says so. When the packet buffer is half full the far end is
paused if flow control was negotiated (CTRL.TFCE); when it's full a frame is lost and MPC counts it.

Simplified: a full queue without DROP_EN holds up only its own frames, not those of other queues behind it.
Left out: the thresholds FCRTL and FCRTH.
"""

from __future__ import annotations

from collections.abc import Sequence

from igb_device.complaints import Complaints
from igb_device.drops import DropReason
from igb_device.interrupts import RXDMT0, RXO, RXT0, Interrupts
from igb_device.registers import RegisterFile
from igb_device.ring import Restarted, RxFrame, RxRing
from igb_device.rx_write import write_frame
from igb_device.stats import Stats
from igb_device.wire.base import MAX_FRAME, Wire
from igb_hw.registers import MAP
from pyvfio_user.device import DmaError, Host

BATCH = 64
"""Frames taken from the wire at a time."""

_IN_FLIGHT = BATCH * MAX_FRAME
_CTRL = MAP["CTRL"]


class PacketBuffer:
    """The frames between the filters and guest memory."""

    def __init__(
        self, regs: RegisterFile, rings: Sequence[RxRing], stats: Stats, interrupts: Interrupts, complaints: Complaints
    ) -> None:
        self._words = regs.words
        self._rings = rings
        self._stats = stats
        self._interrupts = interrupts
        self._complaints = complaints
        self.wire: Wire | None = None
        self.host: Host | None = None
        self.halted = False
        """CTRL.GIO_MASTER_DISABLE: no DMA."""
        self.capacity = 0
        """Bytes, from RXPBS."""
        self.refill = 0
        """A bit for each ring that may take frames that wait for it."""
        self.paused = False
        """The far end has been asked to wait."""
        self._buffered = 0

    def reset(self) -> None:
        """Everything that waits is gone, and so are the rings' registers."""
        self.refill = 0
        self._buffered = 0
        for ring in self._rings:
            ring.reset()
        self.resume_wire()

    def forget(self, ring: RxRing) -> None:
        """The queue was turned off: what waited for it is lost."""
        for frame in ring.waiting:
            self._buffered -= frame.length
            self._stats.drop(DropReason.QUEUE_OFF)
        ring.waiting.clear()
        if self._buffered <= self.capacity // 4:
            self.resume_wire()

    def process(self, enabled: bool) -> None:
        """Frames that waited in the packet buffer move to the rings that got descriptors."""
        refill, self.refill = self.refill, 0
        while refill:
            bit = refill & -refill
            refill ^= bit
            ring = self._rings[bit.bit_length() - 1]
            if ring.enabled and enabled:
                self._drain(ring)
        if self.paused and self._buffered <= self.capacity // 4:
            self.resume_wire()

    def deliver(self, queue: int, frames: Sequence[RxFrame]) -> DropReason | None:
        """Writes frames to a queue's ring; those that find no room wait or are dropped. The first drop's reason."""
        ring = self._rings[queue]
        if not ring.enabled:
            self._stats.drop(DropReason.QUEUE_OFF, len(frames))
            return DropReason.QUEUE_OFF
        if ring.stopped:
            self._stats.drop(DropReason.RX_DMA, len(frames))
            return DropReason.RX_DMA
        done = 0
        if not ring.waiting:
            epoch = ring.epoch
            done = self._fill(ring, frames)
            if epoch != ring.epoch:
                self._stats.drop(DropReason.RX_DISABLED, len(frames) - done)
                return DropReason.RX_DISABLED
            if done == len(frames):
                return None
            if ring.stopped:
                self._stats.drop(DropReason.RX_DMA, len(frames) - done)
                return DropReason.RX_DMA
        return self._keep(ring, frames[done:])

    def _keep(self, ring: RxRing, frames: Sequence[RxFrame]) -> DropReason | None:
        """No descriptors for these: packet buffer, or drop."""
        if ring.drop_enabled:
            self._stats.drop(DropReason.RING_FULL, len(frames), ring.queue)
            return DropReason.RING_FULL
        patient = bool(self._words[_CTRL.offset >> 2] & _CTRL["TFCE"]) and self.wire is not None
        # What the far end sent before it saw our PAUSE must fit too: a batch isn't cut in the middle.
        capacity = self.capacity + _IN_FLIGHT if patient else self.capacity
        for i, frame in enumerate(frames):
            if self._buffered + frame.length > capacity:
                left = len(frames) - i
                self._stats.drop(DropReason.BUFFER_FULL, left)
                self._interrupts.cause(RXO)
                return DropReason.BUFFER_FULL
            self._stats.counts["RNBC"] += 1
            frame.pieces = [b"".join(frame.pieces)]
            self._buffered += frame.length
            ring.waiting.append(frame)
        if patient and not self.paused and self._buffered > self.capacity // 2:
            assert self.wire is not None
            self.paused = True
            self._stats.counts["XOFFTXC"] += 1
            self.wire.pause(True)
        return None

    def resume_wire(self) -> None:
        if self.paused:
            self.paused = False
            self._stats.counts["XONTXC"] += 1
            if self.wire is not None:
                self.wire.pause(False)

    def _drain(self, ring: RxRing) -> None:
        waiting = ring.waiting
        if not waiting or ring.stopped:
            return
        frames = list(waiting)
        done = self._fill(ring, frames)
        if waiting is not ring.waiting:
            return  # reset meanwhile
        for frame in frames[:done]:
            if waiting:  # else the queue was turned off meanwhile
                waiting.popleft()
                self._buffered -= frame.length
        if ring.stopped:
            self._stats.drop(DropReason.RX_DMA, len(waiting))
            self._buffered -= sum(frame.length for frame in waiting)
            waiting.clear()

    def _fill(self, ring: RxRing, frames: Sequence[RxFrame]) -> int:
        """Writes as many frames as there are descriptors for, and raises the queue's interrupt cause."""
        host = self.host
        if host is None or self.halted:
            return 0
        epoch = ring.epoch
        done = 0
        causes = RXT0
        try:
            ring.refresh(host)
            free = ring.pending
            for frame in frames:
                used = write_frame(ring, host, frame, free)
                if not used:
                    break
                done += 1
                # head or tail may have been written while memory behind messages was waited for
                free = free - used if ring.view is not None else ring.pending
        except Restarted:
            return done
        except DmaError as error:
            if epoch != ring.epoch:
                return done
            ring.stopped = str(error)
            self._complaints.stopped("receive", ring.queue, ring.stopped)
        if done:
            if ring.threshold and free <= ring.threshold:
                causes |= RXDMT0
            self._interrupts.rx(ring.queue, causes)
        return done
