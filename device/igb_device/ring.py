"""Descriptor rings (82576 datasheet sections 7.1.5 and 7.2.2): where they lie, head and tail, reading and writing back.

A ring that lies in shared memory is reached by a view of 64-bit words, two a descriptor; any other through the host's
`read` and `write`. A ring whose memory can't be reached is stopped until it is set up anew or the card is reset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from igb_device.registers import RegisterFile
from igb_device.wire.base import Frame
from igb_hw.registers import MAP
from pyvfio_user.device import Buffer, Host

DESCRIPTOR = 16


class Restarted(Exception):
    """The ring was reset while the card waited for guest memory: guest memory that is reached by messages lets
    register accesses in at each read and write. What was under way is over, and nothing of it may be stored."""


class Ring:
    """What receive and transmit rings share. `side` is "R" or "T", as in the registers' names. All methods that get
    a host raise DmaError and Restarted."""

    def __init__(self, regs: RegisterFile, side: str, queue: int) -> None:
        self.queue = queue
        self._words = regs.words
        self._bal = MAP[f"{side}DBAL"].at(queue) >> 2
        self._bah = MAP[f"{side}DBAH"].at(queue) >> 2
        self._len = MAP[f"{side}DLEN"].at(queue) >> 2
        self._ctl = MAP[f"{side}XDCTL"].at(queue) >> 2
        self._enable = MAP[f"{side}XDCTL"]["ENABLE"]
        self.epoch = 0  # grows with each reset: work that was under way meanwhile has nothing left to do
        self.reset()

    def reset(self) -> None:
        """As after CTRL.RST: no memory, nothing pending, not stopped."""
        self.epoch += 1
        self.head = 0
        self.tail = 0
        self.base = 0
        self.count = 0
        self.stopped = ""  # why the card gave the ring up, or ""
        self.stale = True  # base or length were written since `refresh`
        self.view: memoryview | None = None
        self._generation = -1
        self._was_enabled = bool(self._words[self._ctl] & self._enable)

    @property
    def enabled(self) -> bool:
        return bool(self._words[self._ctl] & self._enable)

    def control_written(self) -> None:
        """RXDCTL or TXDCTL was written: enabling a ring gives one that was stopped another chance."""
        enabled = self.enabled
        if enabled and not self._was_enabled:
            self.stopped = ""
            self.stale = True
        self._was_enabled = enabled

    def refresh(self, host: Host) -> None:
        """Takes base and length from the registers and looks for the ring in shared memory, if either may have
        changed. Raises DmaError if the ring isn't in memory. An empty one isn't looked for: it may be half set up."""
        if self.stale:
            words = self._words
            self.base = words[self._bah] << 32 | words[self._bal]
            self.count = words[self._len] // DESCRIPTOR
            self.stale = False
            self._generation = -1
        if self._generation != host.generation:
            self.view = None
            if self.pending:
                view = host.view(self.base, self.count * DESCRIPTOR)
                self.view = view.cast("B").cast("Q") if view is not None else None
                self._generation = host.generation

    @property
    def pending(self) -> int:
        """Descriptors that belong to the card. A head or tail beyond the ring is an empty ring."""
        count = self.count
        if self.head >= count or self.tail >= count:
            return 0
        return (self.tail - self.head) % count

    def check(self, epoch: int) -> None:
        """Raises Restarted unless `epoch` is still the ring's."""
        if epoch != self.epoch:
            raise Restarted

    def fetch(self, host: Host, start: int, n: int) -> bytes:
        """`n` descriptors from index `start` on, around the end of the ring."""
        count = self.count
        first = min(n, count - start)
        view = self.view
        if view is not None:
            data = view[2 * start : 2 * (start + first)].tobytes()
            if first < n:
                data += view[: 2 * (n - first)].tobytes()
            return data
        epoch = self.epoch
        data = bytes(host.read(self.base + start * DESCRIPTOR, first * DESCRIPTOR))
        self.check(epoch)
        if first < n:
            data += bytes(host.read(self.base, (n - first) * DESCRIPTOR))
            self.check(epoch)
        return data

    def store(self, host: Host, index: int, low: int, high: int) -> None:
        """Writes a descriptor back. The half that says it's done is stored last, each half in one piece."""
        view = self.view if self._generation == host.generation else None  # else unmapped while memory was waited for
        if view is not None:
            view[2 * index] = low
            view[2 * index + 1] = high
        else:
            epoch = self.epoch
            host.write(self.base + index * DESCRIPTOR, (low | high << 64).to_bytes(DESCRIPTOR, "little"))
            self.check(epoch)

    def store_high(self, host: Host, index: int, high: int) -> None:
        """Writes back only the second half of a descriptor."""
        view = self.view if self._generation == host.generation else None  # else unmapped while memory was waited for
        if view is not None:
            view[2 * index + 1] = high
        else:
            epoch = self.epoch
            host.write(self.base + index * DESCRIPTOR + 8, high.to_bytes(8, "little"))
            self.check(epoch)


@dataclass(slots=True)
class Context:
    """An advanced context descriptor (section 7.2.2.2.3), taken apart."""

    vlan: int = 0
    maclen: int = 0
    iplen: int = 0
    ipv4: bool = False
    l4t: int = 0  # 0 UDP, 1 TCP, 2 SCTP
    l4len: int = 0
    mss: int = 0


@dataclass(slots=True)
class Unsent:
    """A frame that the wire didn't take, with the write-backs that follow once it does."""

    frame: Frame
    reports: Sequence[tuple[int, int]]
    head: int


class TxRing(Ring):
    """A transmit ring with its two contexts, and a frame whose end hasn't been given yet."""

    def __init__(self, regs: RegisterFile, queue: int) -> None:
        self._wbal = MAP["TDWBAL"].at(queue) >> 2
        self._wbah = MAP["TDWBAH"].at(queue) >> 2
        super().__init__(regs, "T", queue)

    def reset(self) -> None:
        super().reset()
        self.contexts = [Context(), Context()]
        self.restart()

    def restart(self) -> None:
        """Forgets a frame that was begun, and those the wire didn't take."""
        self.epoch += 1
        self.parts: list[Buffer] = []
        self.length = 0
        self.first: tuple[int, int] | None = None  # cmd_type_len and olinfo_status of the frame's first descriptor
        self.skip = False  # the frame is lost already: pass over its remaining descriptors
        self.unsent: deque[Unsent] = deque()

    def control_written(self) -> None:
        if not self._was_enabled:
            self.restart()
        super().control_written()

    @property
    def head_writeback(self) -> int:
        """The address for head write-back (section 7.2.3), or 0 when descriptors are written back instead."""
        low = self._words[self._wbal]
        return (self._words[self._wbah] << 32 | low & ~3) if low & 1 else 0


@dataclass(slots=True)
class RxFrame:
    """A frame on its way into a ring: the pieces it's made of and what its descriptor will say."""

    pieces: Sequence[Buffer]
    length: int
    low: int  # first half of the write-back: packet type, RSS type and hash
    status: int  # status and errors, without DD and EOP
    vlan: int
    header: int = 0  # bytes of protocol headers, for header split
    checksum: int = 0  # packet checksum of the legacy format


class RxRing(Ring):
    """A receive ring, its buffer sizes, and the frames that wait for it in the packet buffer."""

    def __init__(self, regs: RegisterFile, queue: int) -> None:
        self._srrctl = MAP["SRRCTL"].at(queue) >> 2
        self._rctl = MAP["RCTL"].offset >> 2
        super().__init__(regs, "R", queue)

    def reset(self) -> None:
        super().reset()
        self.waiting: deque[RxFrame] = deque()
        self.configure()

    def configure(self) -> None:
        """SRRCTL or RCTL was written: buffer sizes, descriptor type, what happens when the ring is full."""
        srrctl = self._words[self._srrctl]
        rctl = self._words[self._rctl]
        size = (srrctl & 0x7F) << 10
        if not size:
            size = 2048 >> (rctl >> 16 & 3)
        self.buffer_size = size
        self.header_size = (srrctl >> 8 & 0x3F) << 6
        self.type = srrctl >> 25 & 7
        self.drop_enabled = bool(srrctl >> 31)
        self.threshold = (srrctl >> 20 & 0x1F) * 16

    def copy(self, host: Host, address: int, pieces: Sequence[Buffer], length: int) -> None:
        """Stores a frame's pieces, `length` bytes together, in a buffer. Raises Restarted."""
        view = host.view(address, length)
        if view is None:
            epoch = self.epoch
            host.write(address, b"".join(pieces))
            self.check(epoch)
            return
        at = 0
        for piece in pieces:
            end = at + len(piece)
            view[at:end] = piece
            at = end

    def buffer(self, host: Host, index: int) -> int:
        """The packet buffer's address in a descriptor, as the driver wrote it."""
        if self.view is not None:
            return self.view[2 * index]
        epoch = self.epoch
        data = host.read(self.base + index * DESCRIPTOR, 8)
        self.check(epoch)
        return int.from_bytes(data, "little")

    def buffers(self, host: Host, index: int) -> tuple[int, int]:
        """The packet and the header buffer's address. Bit 0 of the latter is no address bit."""
        data = self.fetch(host, index, 1)
        return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little") & ~1
