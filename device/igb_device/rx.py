"""Receive (82576 datasheet section 7.1): frames from the wire, filtered, steered to a queue, written to its ring.

A frame is parsed, filtered and steered once, also when it is a segment of up to 64 KiB: that is then cut, and its
pieces are copied straight into the ring's buffers (`packet_buffer`, `rx_write`).

Left out: header replication, receive-side PAUSE, pools (VMDq).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from igb_device.checksum import fcs, finish
from igb_device.complaints import Complaints
from igb_device.drops import DropReason
from igb_device.filters import ReceiveFilter
from igb_device.interrupts import Interrupts
from igb_device.packet_buffer import BATCH, PacketBuffer
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
from igb_device.ring import RxFrame, RxRing
from igb_device.segmentation import cut
from igb_device.stats import FCS, Stats, group
from igb_device.steering import Steering
from igb_device.wire.base import GSO_NONE, NEEDS_CSUM, Frame, Wire
from igb_hw.descriptors import RXDADV_STAT_VEXT
from igb_hw.registers import MAP
from pyvfio_user.device import Buffer

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
        self._words = regs.words
        self._stats = stats
        self.rings = [RxRing(regs, queue) for queue in range(queues)]
        self.buffer = PacketBuffer(regs, self.rings, stats, interrupts, complaints)
        self.filter = ReceiveFilter()
        self.steering = Steering()
        self.wire: Wire | None = None
        self.link = False
        self.looping = False
        self._filter_stale = self._steering_stale = True
        self.configure()

    def reset(self) -> None:
        self.buffer.reset()
        self._filter_stale = self._steering_stale = True
        self.configure()

    # --- registers

    def write_tail(self, queue: int, value: int) -> None:
        ring = self.rings[queue]
        ring.tail = value & 0xFFFF
        if ring.waiting:
            self.buffer.refill |= 1 << queue

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
                self.buffer.refill |= 1 << queue
            else:
                self.buffer.forget(ring)

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
        self.buffer.refill |= sum(1 << ring.queue for ring in self.rings if ring.waiting)
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
        self.buffer.capacity = (words[MAP["RXPBS"].offset >> 2] & 0x7F) << 10
        self._filter_stale = True
        for ring in self.rings:
            ring.configure()

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
        if wire is None or self.buffer.paused:
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
        return queue, self.buffer.deliver(queue, (made,))

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
        return queue, self.buffer.deliver(queue, made)

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
