"""Receive (82576 datasheet section 7.1): frames from the wire, filtered, steered to a queue, written to its ring.

A frame is parsed, filtered and steered once, also when it is a segment of up to 64 KiB: that is then cut, and its
pieces are copied straight into the ring's buffers. What finds no descriptor waits in the packet buffer (RXPBS), or is
dropped there and then if the queue's SRRCTL.DROP_EN says so. When the packet buffer is full the far end is paused if
flow control was negotiated (CTRL.TFCE), else the frame is lost and MPC counts it.

Simplified: a full queue without DROP_EN holds up only its own frames, not those of other queues behind it.
Left out: header replication, receive-side PAUSE, pools (VMDq).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from igb_device.checksum import fcs, finish
from igb_device.complaints import Complaints
from igb_device.drops import DropReason
from igb_device.filters import ReceiveFilter
from igb_device.interrupts import RXDMT0, RXO, RXT0, Interrupts
from igb_device.parse import (
    ERROR_IPE,
    ERROR_L4E,
    PTYPE_TCP,
    PTYPE_UDP,
    STATUS_IPCS,
    STATUS_L4CS,
    STATUS_UDPCS,
    Parsed,
    packet_checksum,
    parse,
    verify,
)
from igb_device.registers import RegisterFile
from igb_device.ring import Restarted, RxFrame, RxRing
from igb_device.rx_write import write_frame
from igb_device.segmentation import cut
from igb_device.stats import FCS, Stats, group
from igb_device.steering import Steering
from igb_device.wire.base import GSO_NONE, MAX_FRAME, NEEDS_CSUM, Frame, Wire
from igb_hw.descriptors import RXDADV_STAT_VEXT
from igb_hw.registers import MAP
from pyvfio_user.device import Buffer, DmaError, Host

BATCH = 64
"""Frames taken from the wire at a time."""

_IN_FLIGHT = BATCH * MAX_FRAME

Settled: TypeAlias = Callable[[Frame, int, DropReason | None], None]

_RCTL = MAP["RCTL"]
_RXCSUM = MAP["RXCSUM"]
_CTRL = MAP["CTRL"]
_CTRL_EXT = MAP["CTRL_EXT"]
_MIN_FRAME = 60
_MIN_HEADER = 14
_SHORT_LIMIT = 1518  # without RCTL.LPE, with FCS; a VLAN tag more is allowed
_ZEROS = bytes(_MIN_FRAME)

VP = 1 << 3  # write-back status: the tag was stripped (section 7.1.5.2)
_IPCS_BITS = STATUS_IPCS | ERROR_IPE
_L4CS_BITS = STATUS_UDPCS | STATUS_L4CS | ERROR_L4E


class Receiver:
    """The receive half of the card."""

    def __init__(
        self, regs: RegisterFile, queues: int, stats: Stats, interrupts: Interrupts, complaints: Complaints
    ) -> None:
        self._regs = regs
        self._words = regs.words
        self._stats = stats
        self._interrupts = interrupts
        self._complaints = complaints
        self.rings = [RxRing(regs, queue) for queue in range(queues)]
        self.filter = ReceiveFilter()
        self.steering = Steering()
        self.wire: Wire | None = None
        self.host: Host | None = None
        self.link = False
        self.looping = False
        self.halted = False  # CTRL.GIO_MASTER_DISABLE
        self.refill = 0  # a bit for each ring that got descriptors while frames wait for it
        self._filter_stale = self._steering_stale = True
        self._buffered = 0  # bytes in the packet buffer
        self._paused = False
        self.configure()

    def reset(self) -> None:
        self.refill = 0
        self._buffered = 0
        for ring in self.rings:
            ring.reset()
        self._filter_stale = self._steering_stale = True
        self.configure()
        self._resume_wire()

    # --- registers

    def write_tail(self, queue: int, value: int) -> None:
        ring = self.rings[queue]
        ring.tail = value & 0xFFFF
        if ring.waiting:
            self.refill |= 1 << queue

    def read_tail(self, queue: int) -> int:
        return self.rings[queue].tail

    def write_head(self, queue: int, value: int) -> None:
        self.rings[queue].head = value & 0xFFFF

    def read_head(self, queue: int) -> int:
        return self.rings[queue].head

    def address_written(self, queue: int) -> None:
        self.rings[queue].stale = True

    def control_written(self, queue: int) -> None:
        ring = self.rings[queue]
        ring.control_written()
        if ring.waiting:
            if ring.enabled:
                self.refill |= 1 << queue
            else:
                self._forget(ring)

    def srrctl_written(self, queue: int) -> None:
        self.rings[queue].configure()

    def filter_written(self, _: int) -> None:
        self._filter_stale = True

    def steering_written(self, _: int) -> None:
        self._steering_stale = True

    def configure(self, _: int = 0) -> None:
        """RCTL, RXCSUM, RLPML, CTRL, RXPBS or the link changed: takes apart what every frame needs."""
        words = self._words
        rctl = words[_RCTL.offset >> 2]
        self.enabled = bool(rctl & _RCTL["EN"])
        self.refill |= sum(1 << ring.queue for ring in self.rings if ring.waiting)
        self._strip_crc = bool(rctl & _RCTL["SECRC"])
        self._limit = words[MAP["RLPML"].offset >> 2] if rctl & _RCTL["LPE"] else 0
        rxcsum = words[_RXCSUM.offset >> 2]
        self._checks = (_IPCS_BITS if rxcsum & _RXCSUM["IPOFLD"] else 0) | (
            _L4CS_BITS if rxcsum & _RXCSUM["TUOFLD"] else 0
        )
        self._rss_field = bool(rxcsum & _RXCSUM["PCSD"])
        self._checksum_start = rxcsum & _RXCSUM["PCSS"]
        self._strip_vlan = bool(words[_CTRL.offset >> 2] & _CTRL["VME"])
        vet = words[MAP["VET"].offset >> 2]
        self._vet = vet & 0xFFFF
        double = words[_CTRL_EXT.offset >> 2] & _CTRL_EXT["EXT_VLAN"]
        self._outer_vet = vet >> 16 if double else 0
        self._capacity = (words[MAP["RXPBS"].offset >> 2] & 0x7F) << 10
        self._filter_stale = True
        for ring in self.rings:
            ring.configure()

    def _forget(self, ring: RxRing) -> None:
        """The queue was turned off: what waited for it is lost."""
        for frame in ring.waiting:
            self._buffered -= frame.length
            self._stats.drop(DropReason.QUEUE_OFF)
        ring.waiting.clear()
        if self._buffered <= self._capacity // 4:
            self._resume_wire()

    def _update_filter(self) -> None:
        words = self._words

        def array(name: str) -> list[int]:
            register = MAP[name]
            return [words[offset >> 2] for offset in register.offsets]

        self.filter.update(
            words[_RCTL.offset >> 2],
            list(zip(array("RAL"), array("RAH"), strict=True)),
            array("MTA"),
            array("VFTA"),
        )
        self._filter_stale = False

    def _update_steering(self) -> None:
        words = self._words

        def octets(name: str) -> bytes:
            return b"".join(words[offset >> 2].to_bytes(4, "little") for offset in MAP[name].offsets)

        self.steering.update(
            words[MAP["MRQC"].offset >> 2], octets("RETA"), octets("RSSRK"), words[MAP["RFCTL"].offset >> 2]
        )
        self._steering_stale = False

    # --- work

    def ready(self, limit: int = BATCH) -> bool:
        """The wire may have frames: takes up to `limit` of them. True if there may be more."""
        wire = self.wire
        if wire is None or self._paused:
            return False
        frames = wire.receive(limit)
        if frames:
            settled = wire.settled if wire.wants_verdicts else None
            if self.link and not self.looping:
                self.take(frames, settled)
            else:
                self._unheard(frames, settled)
        return len(frames) == limit

    def _unheard(self, frames: Sequence[Frame], settled: Settled | None) -> None:
        """No link, or the card is in loopback: what the wire brings goes nowhere."""
        self._stats.drops[DropReason.LINK_DOWN] += len(frames)
        if settled is not None:
            for frame in frames:
                settled(frame, 0, DropReason.LINK_DOWN)

    def process(self) -> None:
        """Frames that waited in the packet buffer move to the rings that got descriptors."""
        refill, self.refill = self.refill, 0
        while refill:
            bit = refill & -refill
            refill ^= bit
            ring = self.rings[bit.bit_length() - 1]
            if ring.enabled and self.enabled:
                self._drain(ring)
        if self._paused and self._buffered <= self._capacity // 4:
            self._resume_wire()

    def take(self, frames: Iterable[Frame], settled: Settled | None = None) -> None:
        """Receives frames. `settled`, if given, is told what became of each (`Wire.settled`)."""
        for frame in frames:
            queue, reason = self._one(frame)
            if settled is not None:
                settled(frame, queue, reason)

    def _one(self, frame: Frame) -> tuple[int, DropReason | None]:
        """Receives one frame: the queue it went to, or why not."""
        data = frame.parts[0] if len(frame.parts) == 1 else b"".join(frame.parts)
        offload = frame.offload
        stats = self._stats
        length = len(data)
        if not self.enabled:
            stats.drop(DropReason.RX_DISABLED)
            return 0, DropReason.RX_DISABLED
        if length < _MIN_HEADER:
            stats.drop(DropReason.BAD_FRAME)
            return 0, DropReason.BAD_FRAME
        if self._filter_stale:
            self._update_filter()
        if self._steering_stale:
            self._update_steering()
        p = parse(data, self._vet, self._outer_vet)
        if offload.gso_type != GSO_NONE:
            return self._segments(data, frame, p)
        if offload.flags & NEEDS_CSUM:
            whole = bytearray(data)
            try:
                finish(whole, offload.csum_start, offload.csum_offset)
            except ValueError:
                stats.drop(DropReason.BAD_FRAME)
                return 0, DropReason.BAD_FRAME
            data = whole
        if length < _MIN_FRAME:
            data = b"".join((data, _ZEROS[: _MIN_FRAME - length]))
            length = _MIN_FRAME
        stats.seen(1, length + FCS)
        if length + FCS > (self._limit or _SHORT_LIMIT + (4 if p.vlan >= 0 else 0)):
            stats.drop(DropReason.TOO_LONG)
            return 0, DropReason.TOO_LONG
        reason = self.filter.verdict(data, p.vlan)
        if reason is not None:
            stats.drop(reason)
            return 0, reason
        address = bytes(data[:6])
        stats.received(1, length + FCS, 0, group(address[0], address))
        queue, low, status, vlan = self._describe(data, frame, p)
        pieces: Sequence[Buffer] = (data,)
        if not self._strip_crc:
            pieces = (data, fcs(data))
            length += FCS
        if vlan >= 0:
            pieces = (data[: p.vlan_at], data[p.vlan_at + 4 :], *pieces[1:])
            length -= 4
        checksum = 0
        if not self._rss_field:
            checksum = packet_checksum(b"".join(pieces), self._checksum_start)
            low = low & 0xFFFF_FFFF | checksum << 48
        made = RxFrame(pieces, length, low, status, max(vlan, 0), self._header(data, p, vlan), checksum)
        return queue, self._deliver(queue, (made,))

    def _segments(self, data: Buffer, frame: Frame, p: Parsed) -> tuple[int, DropReason | None]:
        """A big segment: everything is decided once, for all its frames."""
        stats = self._stats
        try:
            segments = cut(data, frame.offload)
        except ValueError:
            stats.drop(DropReason.BAD_FRAME)
            return 0, DropReason.BAD_FRAME
        n = segments.n
        header = segments.header_length
        largest = header + min(segments.mss, len(segments.payload)) + FCS
        octets = segments.length + n * FCS
        stats.seen(n, octets)
        if largest > (self._limit or _SHORT_LIMIT + (4 if p.vlan >= 0 else 0)):
            stats.drop(DropReason.TOO_LONG, n)
            return 0, DropReason.TOO_LONG
        reason = self.filter.verdict(data, p.vlan)
        if reason is not None:
            stats.drop(reason, n)
            return 0, reason
        address = bytes(data[:6])
        stats.received(n, octets, largest, group(address[0], address))
        queue, low, status, vlan = self._describe(data, frame, p)
        stripped = 4 if vlan >= 0 else 0
        vlan_field = max(vlan, 0)
        split = self._header(data, p, vlan)
        made: list[RxFrame] = []
        for head, body in segments:
            pieces: tuple[Buffer, ...] = (head, body)
            length = header + len(body) - stripped
            if stripped:
                pieces = (head[: p.vlan_at], head[p.vlan_at + 4 :], body)
            if length + stripped < _MIN_FRAME:
                pad = _MIN_FRAME - length - stripped
                pieces = (*pieces, _ZEROS[:pad])
                length += pad
            checksum = 0
            if not self._strip_crc:
                pieces = (*pieces, fcs(b"".join((head, body, *pieces[2 + bool(stripped) :]))))
                length += FCS
            if not self._rss_field:
                checksum = packet_checksum(b"".join(pieces), self._checksum_start)
                low = low & 0xFFFF_FFFF | checksum << 48
            made.append(RxFrame(pieces, length, low, status, vlan_field, split, checksum))
        return queue, self._deliver(queue, made)

    def _describe(self, data: Buffer, frame: Frame, p: Parsed) -> tuple[int, int, int, int]:
        """(queue, first half of the write-back, status and errors, VLAN tag to strip or -1)."""
        queue, rss_hash, rss_type = self.steering.queue(p, data)
        low = rss_type | p.ptype | rss_hash << 32
        status = 0
        if self._checks:
            good, bad = verify(data, p, frame.offload)
            status = (good | bad) & self._checks
        vlan = -1
        if p.vlan >= 0 and self._strip_vlan:
            status |= VP
            vlan = p.vlan
        if p.outer_vlan >= 0:
            status |= RXDADV_STAT_VEXT
        return queue, low, status, vlan

    @staticmethod
    def _header(data: Buffer, p: Parsed, vlan: int) -> int:
        """Bytes of protocol headers, as they will lie in memory."""
        if not p.l4:
            return 0
        if p.ptype & PTYPE_TCP:
            end = p.l4 + (data[p.l4 + 12] >> 4) * 4
        elif p.ptype & PTYPE_UDP:
            end = p.l4 + 8
        else:
            end = p.l4
        return min(end, len(data)) - (4 if vlan >= 0 else 0)

    # --- rings

    def _deliver(self, queue: int, frames: Sequence[RxFrame]) -> DropReason | None:
        """Writes frames to a queue's ring; those that find no room wait or are dropped. The first drop's reason."""
        ring = self.rings[queue]
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
        words = self._words
        patient = bool(words[_CTRL.offset >> 2] & _CTRL["TFCE"]) and self.wire is not None
        # What the far end sent before it saw our PAUSE must fit too: a batch isn't cut in the middle.
        capacity = self._capacity + _IN_FLIGHT if patient else self._capacity
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
        if patient and not self._paused and self._buffered > self._capacity // 2:
            assert self.wire is not None
            self._paused = True
            self._stats.counts["XOFFTXC"] += 1
            self.wire.pause(True)
        return None

    def _resume_wire(self) -> None:
        if self._paused:
            self._paused = False
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
                if not write_frame(ring, host, frame, free):
                    break
                done += 1
                free = ring.pending  # head or tail may have been written while memory was waited for
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
