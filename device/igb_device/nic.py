"""The card: an Intel 82576 as a PCI function, put together from its parts.

Registers and their reactions are in `registers` and `behaviour`, each part of the datasheet has a file of its own, and
this one joins them: config space and BARs, the phases of work, resets, the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from igb_device.behaviour import install
from igb_device.clock import Clock
from igb_device.complaints import Complaints
from igb_device.config_space import build_config
from igb_device.control import Control
from igb_device.drops import DropReason
from igb_device.interrupts import LSC, Interrupts
from igb_device.link import Link
from igb_device.nvm import Nvm
from igb_device.phy import Phy
from igb_device.ptp import Ptp
from igb_device.registers import SIZE, RegisterFile
from igb_device.rx import Receiver
from igb_device.stats import Stats
from igb_device.tx import Transmitter
from igb_device.wire.base import Frame, Wire
from igb_hw.personality import I82576, Personality
from igb_hw.registers import MAP
from pyvfio_user.device import Buffer, Host, Reset
from pyvfio_user.pci.function import PciFunction
from pyvfio_user.pci.msix_table import MsixTable

QUEUES = 16
_U32 = struct.Struct("<I")
_MMIO, _FLASH, _IO, _MSIX = range(4)
_IODATA = 4

# what a software reset leaves alone (section 4.2.1.6)
_SEMAPHORES = (MAP["SWSM"].offset, MAP["SW_FW_SYNC"].offset)
_SURVIVORS = (MAP["RXPBS"].offset, MAP["TXPBS"].offset, *_SEMAPHORES)


class Nic(PciFunction):
    """An 82576 with one port. Serve it with `pyvfio_user.server.Server`, or drive it through any other host.

    clock  time: the server's event loop, or a `SimClock`
    mac    the address in the NVM, 6 bytes
    wire   what the port's cable is plugged into, or None; `plug` changes it
    """

    def __init__(
        self, clock: Clock, mac: bytes, wire: Wire | None = None, *, personality: Personality = I82576
    ) -> None:
        image = personality.nvm_image(mac)
        super().__init__(build_config(personality, mac, image))
        self.clock = clock
        self.mac = mac
        self.wire: Wire | None = None
        self.regs = RegisterFile()
        self.stats = Stats(self.regs, QUEUES)
        self.interrupts = Interrupts(
            clock, lambda: self.config.settings.irq_mode, lambda: self.config.settings.intx_disabled
        )
        self.link = Link(clock, self._link_changed)
        self.complaints = Complaints(clock)
        self.rx = Receiver(self.regs, QUEUES, self.stats, self.interrupts, self.complaints)
        self.tx = Transmitter(self.regs, QUEUES, self.stats, self.interrupts, self.complaints, self._loop_back)
        self.ptp = Ptp(self.regs, clock)
        self.nvm = Nvm(self.regs, image)
        self.control = Control(self)
        self.phy = Phy(self.link, self.interrupts, self.control.loopback_changed)
        self.msix_table = MsixTable(
            personality.msix_vectors,
            table_offset=personality.msix_table,
            pba_offset=personality.msix_pba,
            pending=self._pending_vectors,
        )
        self._busy = False
        self._again = False
        self._looped: list[Frame] = []
        self._io_address = 0
        install(self)
        self._power_on()
        if wire is not None:
            self.plug(wire)

    # --- the wire

    def plug(self, wire: Wire) -> None:
        """Plugs the port's cable into `wire`."""
        self.wire = self.rx.wire = self.rx.buffer.wire = self.tx.wire = wire
        wire.connect(self._wire_ready, self._wire_changed)
        self.link.wire_changed(wire.link)
        self.process()

    def _wire_changed(self, alive: bool) -> None:
        self.link.wire_changed(alive)
        self.process()

    def _wire_ready(self) -> None:
        self._work(self._from_wire)

    def _from_wire(self) -> None:
        """Frames have come, or the wire takes more of ours."""
        self.tx.resume_blocked()
        self.rx.ready()

    def _link_changed(self, up: bool) -> None:
        self.rx.link = self.tx.link = up
        self.interrupts.cause(LSC)
        if up:
            self.tx.resume()
        # A register access that changes the link mustn't do the rings' work itself: its answer comes first.
        self.clock.call_at(self.clock.now(), self.process)

    def _loop_back(self, frames: list[Frame]) -> None:
        self._looped += frames

    # --- PciDevice

    def attach(self, host: Host) -> None:
        super().attach(host)
        self.rx.buffer.host = self.tx.host = host
        self.interrupts.attach(host)

    def detach(self) -> None:
        super().detach()
        self.rx.buffer.host = self.tx.host = None
        self.interrupts.attach(None)

    def config_changed(self) -> None:
        self.interrupts.mode_changed()
        if self.config.settings.bus_master:
            self.tx.resume()

    def region_read(self, region: int, offset: int, count: int) -> Buffer:
        if region == _MMIO:
            if count == 4 and not offset & 3:
                return _U32.pack(self.regs.read(offset))
            return self._read_bytes(offset, count)
        if region == _MSIX:
            return self.msix_table.read(offset, count)
        if region == _IO:
            return self._read_io(offset, count)
        return b"\xff" * count  # no flash behind the flash BAR

    def region_write(self, region: int, offset: int, data: Buffer) -> None:
        if region == _MMIO:
            if len(data) == 4 and not offset & 3:
                self.regs.write(offset, _U32.unpack(data)[0])
            else:
                self._write_bytes(offset, data)
        elif region == _MSIX:
            self.msix_table.write(offset, data)
        elif region == _IO:
            self._write_io(offset, data)

    def _read_bytes(self, offset: int, count: int) -> bytes:
        """Registers are 32 bits wide: other accesses read whole ones and take what they asked for."""
        first = offset & ~3
        end = offset + count + 3 & ~3
        data = b"".join(_U32.pack(self.regs.read(at)) for at in range(first, end, 4))
        return data[offset - first : offset - first + count]

    def _write_bytes(self, offset: int, data: Buffer) -> None:
        """Whole registers are written one by one; a part of one is dropped, as the datasheet leaves it undefined."""
        for at in range(offset + 3 & ~3, offset + len(data) - 3, 4):
            self.regs.write(at, _U32.unpack(data[at - offset : at - offset + 4])[0])

    def _read_io(self, offset: int, count: int) -> bytes:
        """IOADDR and IODATA, a window to the registers for the time before memory is mapped (section 8.1.1.3)."""
        value = self._io_address
        if offset & ~3 == _IODATA:
            value = self.regs.read(self._io_address & ~3) if self._io_address < SIZE else 0
        elif offset > _IODATA:
            value = 0
        return (value >> 8 * (offset & 3)).to_bytes(4, "little")[:count].ljust(count, b"\0")

    def _write_io(self, offset: int, data: Buffer) -> None:
        if len(data) != 4:
            return
        value = _U32.unpack(data)[0]
        if offset == 0:
            self._io_address = value
        elif offset == _IODATA and self._io_address < SIZE:
            self.regs.write(self._io_address & ~3, value)

    def _pending_vectors(self) -> int:
        return self.host.pending_bits() if self.host is not None else 0

    # --- work

    def process(self) -> None:
        """All that doorbells have asked for, then one look at the interrupts."""
        self._work(_nothing)

    def _work(self, first: Callable[[], None]) -> None:
        """A round of work. Asked for from inside one (guest memory that is reached by messages lets accesses in while
        it waits) it is done after that."""
        if self._busy:
            self._again = True
            return
        self._busy = True
        try:
            first()
            while True:
                self._again = False
                if self.rx.buffer.refill:
                    self.rx.buffer.process(self.rx.enabled)
                more = False
                if self.tx.doorbells:
                    more = self.tx.process()
                    self.rx.ready(1)  # a far end in the same kernel has answered already
                if self._looped:
                    looped, self._looped = self._looped, []
                    self.rx.take(looped)
                if not self._again:
                    break
        finally:
            self._busy = False
        self.interrupts.evaluate()
        if more:
            self.clock.call_at(self.clock.now(), self.process)

    # --- resets

    def reset(self, kind: Reset) -> None:
        super().reset(kind)
        if kind in (Reset.FLR, Reset.POWER):
            self.software_reset()
            for offset in _SEMAPHORES:  # whoever held them is gone
                self.regs.words[offset >> 2] = 0
        else:
            self._power_on()
        self.msix_table.reset()
        self.interrupts.evaluate()

    def software_reset(self) -> None:
        """CTRL.RST: everything but the PHY, EITR and the packet buffer sizes (section 4.2.1.6)."""
        self.regs.reset(_SURVIVORS)
        self.interrupts.reset()
        self._reset_parts()

    def _power_on(self) -> None:
        self.regs.reset()
        self.interrupts.power_on()
        self._reset_parts()
        self.control.power_on()
        self.phy.reset()

    def _reset_parts(self) -> None:
        self._looped.clear()
        self.stats.reset()
        self.ptp.reset()
        self.nvm.reset()
        self._load_address()
        self.rx.reset()
        self.tx.reset()
        self.control.reset()

    def _load_address(self) -> None:
        """The NVM's address is the first receive address after a reset (section 3.3.1.1)."""
        words = self.regs.words
        words[MAP["RAL"].at(0) >> 2] = int.from_bytes(self.mac[:4], "little")
        words[MAP["RAH"].at(0) >> 2] = int.from_bytes(self.mac[4:], "little") | MAP["RAH"]["AV"]

    # --- for people

    def drops(self) -> dict[DropReason, int]:
        """Frames lost since power on, by reason."""
        return dict(self.stats.drops)


def _nothing() -> None:
    pass
