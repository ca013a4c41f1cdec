"""The `Host` that a served device is given: one client's guest memory and interrupts.

Memory that is mapped costs a look at the last map and a slice; everything else (another map, files, messages, dirty
logging) is the slow way round.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

from pyvfio_user.device import Buffer, DmaError, IrqMode, PciDevice
from pyvfio_user.dirty import DirtyLog
from pyvfio_user.dma import DmaMap, DmaTable
from pyvfio_user.irq import Irqs

_NOTHING: Final = (1, 0, memoryview(b""))


class Transport(Protocol):
    """DMA by messages. Both calls raise DmaError, and serve the client's commands while they wait."""

    max_transfer: int

    def dma_read(self, addr: int, count: int) -> bytes: ...

    def dma_write(self, addr: int, data: memoryview) -> None: ...


class Probe(Protocol):
    """Is told of mapped addresses that the device uses, as long as it is `active`."""

    active: bool

    def note(self, addr: int, length: int) -> None: ...


class ClientHost:
    """See `Host`. Without a client, or once it has gone, everything is refused."""

    def __init__(self, device: PciDevice, table: DmaTable, irqs: Irqs, transport: Transport) -> None:
        self.generation = 0
        self.dirty: DirtyLog | None = None
        self.probe: Probe | None = None
        self._device = device
        self._table = table
        self._irqs = irqs
        self._transport = transport
        self._revoked = False
        self._bus_master = False
        self._irq_index = IrqMode.INTX.value
        self._read_hit = self._write_hit = _NOTHING  # start, end and view of the map used last

    # --- For the server ---

    def refresh(self) -> None:
        """Configuration space may have changed: looks at bus mastering and the kind of interrupt anew."""
        bus_master = self._device.bus_master and not self._revoked
        self._irq_index = self._device.irq_mode.value
        if bus_master != self._bus_master:
            self._bus_master = bus_master
            self.changed()
        if bus_master and self._irq_index:
            self._irqs.release(self._irq_index)

    def changed(self) -> None:
        """The maps, bus mastering or the dirty log have changed: views are void."""
        self.generation += 1
        self._read_hit = self._write_hit = _NOTHING

    def revoke(self) -> None:
        """The client has gone for good."""
        self._revoked = True
        self._bus_master = False
        self.changed()

    def peek(self, addr: int, length: int) -> bytes | None:
        """What the mapping of guest memory holds, whether or not DMA is permitted; None where it isn't mapped."""
        found = self._table.find(addr)
        if found is None or found.reading is None or addr + length > found.end:
            return None
        return bytes(found.reading[addr - found.addr : addr - found.addr + length])

    @property
    def bus_master(self) -> bool:
        """Whether DMA is permitted."""
        return self._bus_master

    # --- Host ---

    def read(self, addr: int, length: int) -> memoryview:
        start, end, memory = self._read_hit
        if start <= addr and addr + length <= end:
            addr -= start
            return memory[addr : addr + length]
        return self._read(addr, length)

    def write(self, addr: int, data: Buffer) -> None:
        if type(data) is not bytes:
            data = memoryview(data)
            if data.nbytes:
                data = data.cast("B")
        length = len(data)
        start, end, memory = self._write_hit
        if start <= addr and addr + length <= end:
            addr -= start
            memory[addr : addr + length] = data
            return
        self._write(addr, memoryview(data))

    def view(self, addr: int, length: int) -> memoryview | None:
        self._check(addr, length, False)
        found = self._table.find(addr)
        if found is None or addr + length > found.end or found.memory is None or not found.writable:
            return None
        if self.dirty is not None or not found.readable:
            return None  # writes through a view would go unseen
        offset = addr - found.addr
        self._probe_wants(addr, length)
        return found.memory[offset : offset + length]

    def interrupt(self, vector: int) -> None:
        if not self._irq_index:
            return  # neither MSI nor MSI-X is enabled: there's nothing to send
        if self._bus_master:
            self._irqs.fire(self._irq_index, vector)
        else:
            self._irqs.hold(self._irq_index, vector)

    def pending_bits(self) -> int:
        return self._irqs.pending_bits(self._irq_index) if self._irq_index else 0

    def intx(self, level: bool) -> None:
        self._irqs.intx(level)

    # --- The slow way round ---

    def _check(self, addr: int, length: int, write: bool) -> None:
        """Raises DmaError unless all of the range is mapped and permits the access."""
        if not self._bus_master:
            raise DmaError(addr, length, "the client has gone" if self._revoked else "bus mastering is off")
        if addr < 0 or length < 0:
            raise DmaError(addr, length, "no such range")
        at, end = addr, addr + length
        while at < end:
            at = self._find(at, length, write).end

    def _find(self, addr: int, length: int, write: bool) -> DmaMap:
        found = self._table.find(addr)
        if found is None:
            raise DmaError(addr, length)
        if not (found.writable if write else found.readable):
            raise DmaError(addr, length, "read-only" if write else "write-only")
        return found

    def _probe_wants(self, addr: int, length: int) -> bool:
        """Tells the probe of a mapped address; as long as it wants more, accesses go the slow way."""
        if self.probe is None or not self.probe.active:
            return False
        self.probe.note(addr, length)
        return True

    def _read(self, addr: int, length: int) -> memoryview:
        self._check(addr, length, False)
        parts: list[memoryview | bytes] = []
        at, end = addr, addr + length
        while at < end:
            # Looked up anew for every part: commands served while a message is awaited may unmap it.
            found = self._find(at, end - at, False)
            stop = min(found.end, end)
            if found.reading is not None:
                offset = at - found.addr
                part = found.reading[offset : offset + stop - at]
                if not self._probe_wants(at, stop - at):
                    self._read_hit = (found.addr, found.end, found.reading)
                parts.append(part)
            elif found.is_message:
                stop = min(stop, at + self._transport.max_transfer)
                parts.append(self._transport.dma_read(at, stop - at))
            else:
                parts.append(_read_file(found, at, stop - at))
            at = stop
        return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))

    def _write(self, addr: int, data: memoryview) -> None:
        length = len(data)
        self._check(addr, length, True)
        at, end = addr, addr + length
        while at < end:
            found = self._find(at, end - at, True)
            stop = min(found.end, end)
            part = data[at - addr : stop - addr]
            if found.memory is not None:
                offset = at - found.addr
                found.memory[offset : offset + stop - at] = part
                if self.dirty is None and not self._probe_wants(at, stop - at):
                    self._write_hit = (found.addr, found.end, found.memory)
            elif found.is_message:
                stop = min(stop, at + self._transport.max_transfer)
                self._transport.dma_write(at, data[at - addr : stop - addr])
            else:
                _write_file(found, at, part)
            if self.dirty is not None:
                self.dirty.mark(at, stop - at)
            at = stop


def _read_file(found: DmaMap, addr: int, length: int) -> bytes:
    try:
        data = os.pread(found.fd, length, found.offset + addr - found.addr)
    except OSError as error:
        raise DmaError(addr, length, str(error)) from None
    if len(data) != length:
        raise DmaError(addr, length, "the file behind it has shrunk")
    return data


def _write_file(found: DmaMap, addr: int, data: memoryview) -> None:
    try:
        written = os.pwrite(found.fd, data, found.offset + addr - found.addr)
    except OSError as error:
        raise DmaError(addr, len(data), str(error)) from None
    if written != len(data):
        raise DmaError(addr, len(data), "the file behind it is full")
