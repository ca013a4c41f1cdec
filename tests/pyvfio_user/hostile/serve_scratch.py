"""The process that the hostile tests attack: a server with a device whose DMA, interrupts and files are on demand.

Run as `serve_scratch.py SOCKET`. BAR 0 is the device's engine, BAR 1 a buffer of 4 KiB, BAR 2 offers its memory for
mapping, BAR 3 is for MSI-X, and there is a ROM. It can be migrated, and
BAR 1 has an ioeventfd.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence

from pyvfio_user.device import Buffer, DmaError, Host, MmapArea, Region, Reset
from pyvfio_user.io_events import IoEvent
from pyvfio_user.loop import EventLoop
from pyvfio_user.pci import Bar, Identity, PciConfig, PciFunction, aer, msi, msix, pci_express, power_management
from pyvfio_user.server import Server, ServerError
from pyvfio_user.session import Options

PAGE = 4096
# Engine: the bus address (u64), a length or number (u32), what to do (u32); then jobs done and the last one's result.
ENGINE = struct.Struct("<QII")
STATUS = struct.Struct("<II")
MAGIC = b"scratch1"
READ, WRITE, KEEP_VIEW, TOUCH_VIEW, INTERRUPT, INTX = range(1, 7)
OK, DMA_ERROR, NO_VIEW = range(3)


class Scratch(PciFunction):
    def __init__(self) -> None:
        super().__init__(
            PciConfig(
                Identity(0x1234, 0x11E8, 0xFF0000),
                bars=[Bar(PAGE), Bar(PAGE), Bar(2 * PAGE), Bar(2 * PAGE)],
                rom_size=2048,
                capabilities=[
                    power_management(),
                    msi(4),
                    msix(10, table_bar=3, table_offset=0, pba_bar=3, pba_offset=PAGE),
                    pci_express(),
                    aer(),
                ],
            )
        )
        self.file = os.memfd_create("bar2")
        os.ftruncate(self.file, 2 * PAGE)
        self.engine = bytearray(PAGE)
        self.buffer = bytearray(PAGE)
        self.view: memoryview | None = None
        self.view_of = -1
        self.jobs: list[tuple[int, int, int]] = []
        self.done = 0

    @property
    def regions(self) -> Sequence[Region]:
        mappable = Region(2 * PAGE, fd=self.file, areas=(MmapArea(PAGE, PAGE),))
        return [*self._regions[:2], mappable, *self._regions[3:]]

    def attach(self, host: Host) -> None:
        super().attach(host)
        self.jobs.clear()

    def detach(self) -> None:
        super().detach()
        self.view = None

    def reset(self, kind: Reset) -> None:
        super().reset(kind)
        self.engine[:] = bytes(PAGE)
        self.buffer[:] = bytes(PAGE)
        self.jobs.clear()
        self.done = 0
        self.view = None

    def region_read(self, region: int, offset: int, count: int) -> Buffer:
        if region == 0:
            return bytes(self.engine[offset : offset + count])
        if region == 1:
            return bytes(self.buffer[offset : offset + count])
        if region == 2:
            return os.pread(self.file, count, offset)
        return bytes(count)

    def region_write(self, region: int, offset: int, data: Buffer) -> None:
        if region == 0:
            self.engine[offset : offset + len(data)] = data
            if offset <= 12 < offset + len(data):
                self.jobs.append(ENGINE.unpack_from(self.engine))
        elif region == 1:
            self.buffer[offset : offset + len(data)] = data
        elif region == 2:
            os.pwrite(self.file, data, offset)

    def process(self) -> None:
        while self.jobs and self.host is not None:
            addr, number, what = self.jobs.pop(0)
            try:
                result = self.work(self.host, addr, number, what)
            except DmaError:
                result = DMA_ERROR
            self.done += 1
            STATUS.pack_into(self.engine, ENGINE.size, self.done & 0xFFFFFFFF, result)

    def io_events(self, region: int) -> Sequence[IoEvent]:
        return [IoEvent(0x800, 4)] if region == 1 else []

    # MigratableDevice

    def quiesce(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def save(self) -> bytes:
        return MAGIC + bytes(self.engine) + bytes(self.buffer)

    def load(self, data: bytes) -> None:
        if len(data) != len(MAGIC) + 2 * PAGE or not data.startswith(MAGIC):
            raise ValueError("not a state of this device")
        self.engine[:] = data[len(MAGIC) : -PAGE]
        self.buffer[:] = data[-PAGE:]

    def work(self, host: Host, addr: int, number: int, what: int) -> int:
        if what == READ:
            data = host.read(addr, number)
            self.buffer[: min(number, PAGE)] = data[:PAGE]
        elif what == WRITE:
            host.write(addr, bytes(self.buffer[:number]).ljust(number, b"w"))
        elif what == KEEP_VIEW:
            self.view = host.view(addr, number)
            self.view_of = host.generation
            return OK if self.view is not None else NO_VIEW
        elif what == TOUCH_VIEW:
            if self.view is None or self.view_of != host.generation:
                return NO_VIEW
            self.buffer[: len(self.view)] = self.view[:PAGE]
        elif what == INTERRUPT:
            host.interrupt(number)
        elif what == INTX:
            host.intx(bool(number))
        return OK


def main() -> None:
    loop = EventLoop()
    try:
        server = Server(sys.argv[1], Scratch(), loop, options=Options(dma_timeout=0.5))
    except ServerError as error:
        sys.exit(str(error))
    loop.run()
    server.close()


if __name__ == "__main__":
    main()
