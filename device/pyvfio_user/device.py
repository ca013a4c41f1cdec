"""What a vfio-user server serves (`PciDevice`) and what such a device may do to its host (`Host`).

These two protocols are the whole contract between a PCI device and the world. A device that keeps to them runs
unchanged behind a socket, in a test and in simulated time: it owns no file descriptor, no thread and no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


class DmaError(Exception):
    """The device asked for a bus address it can't have: not mapped, read-only, or bus mastering is off."""

    def __init__(self, addr: int, length: int, reason: str = "not mapped") -> None:
        super().__init__(f"DMA of {length} bytes at {addr:#x}: {reason}")
        self.addr = addr
        self.length = length
        self.reason = reason


class Host(Protocol):
    """A device's way to guest memory and to interrupts. Handed in by `PciDevice.attach`, revoked by `detach`.

    Every DMA method raises `DmaError` for a range that isn't wholly mapped, that doesn't permit the access, or while
    the Bus Master Enable bit of the command register is clear. The device counts that and goes on.

    Where guest memory isn't shared with the server (no file descriptor came with the map), `read` and `write` are
    messages to the client: they still return only when done, but meanwhile the client's own accesses are served, so
    `region_read` and `region_write` can be entered from inside a `read` or `write` that `process` called.
    """

    generation: int
    """Grows whenever memory is mapped or unmapped or bus mastering changes: views taken before are void."""

    def read(self, addr: int, length: int) -> memoryview:
        """`length` bytes at bus address `addr`: a live view where memory is shared, else a copy. Valid until the
        device returns to its caller. Not to be written through."""
        ...

    def write(self, addr: int, data: Buffer) -> None:
        """Stores `data` at bus address `addr`."""
        ...

    def view(self, addr: int, length: int) -> memoryview | None:
        """A writable live view for as long as `generation` stays, or None where the range is only reachable by
        `read` and `write` (memory that isn't shared, or whose file the client could shrink under us)."""
        ...

    def interrupt(self, vector: int) -> None:
        """Signals an MSI-X or MSI vector, whichever the guest has enabled. A vector without an event yet (masked,
        or not set up) stays pending: its PBA bit reads 1 until it is delivered."""
        ...

    def pending_bits(self) -> int:
        """The vectors that `interrupt` couldn't deliver yet, bit n for vector n: what the PBA reads."""
        ...

    def intx(self, level: bool) -> None:
        """Drives the INTx line. The server turns the level into events, masks and re-fires as the client unmasks."""
        ...


class Reset(enum.Enum):
    """Why a device is being reset."""

    DEVICE = "device"  # DEVICE_RESET: the machine was reset
    FLR = "flr"  # PCIe Device Control, Initiate Function Level Reset
    POWER = "power"  # PM: D3hot to D0 with No_Soft_Reset clear
    LOST_CLIENT = "lost client"  # the client went away: the next one gets a device as after power on


@dataclass(frozen=True, slots=True)
class MmapArea:
    """A part of a region that a client may map: `offset` and `size` in bytes, page-aligned."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Region:
    """A BAR or the ROM as the client sees it. `size` 0 means absent; a BAR's size is a power of two.

    `fd` with `areas` offers parts of the region for mapping (the file holds the region from its offset 0).
    """

    size: int = 0
    readable: bool = True
    writable: bool = True
    fd: int = -1
    areas: tuple[MmapArea, ...] = field(default=())


class IrqMode(enum.Enum):
    """How the guest has set the function up to interrupt it. The values are vfio's IRQ indexes."""

    INTX = 0
    MSI = 1
    MSIX = 2


class PciDevice(Protocol):
    """A PCI function to serve. Region indexes are vfio's: 0-5 the BARs, 6 the ROM; config space has calls of its own.

    The server checks every access against `regions` first: a device sees only offsets and counts inside a region.
    Accesses may be of any length and alignment. `region_write` should do no more than note work: after everything
    that arrived together has been handled and answered, the server calls `process` once.
    """

    @property
    def regions(self) -> Sequence[Region]:
        """Seven regions, BAR 0 to 5 and the ROM."""
        ...

    @property
    def config_size(self) -> int:
        """256, or 4096 for a PCI Express function."""
        ...

    @property
    def irq_counts(self) -> tuple[int, int, int]:
        """Vectors of INTx (0 or 1), MSI and MSI-X."""
        ...

    def attach(self, host: Host) -> None:
        """A client has come; `host` is good until `detach`."""
        ...

    def detach(self) -> None:
        """The client has gone, and with it all memory and interrupts. A reset(LOST_CLIENT) follows."""
        ...

    def config_read(self, offset: int, count: int) -> bytes: ...

    def config_write(self, offset: int, data: Buffer) -> None:
        """Also where FLR, power states, bus mastering and MSI enables arrive: there's no other message for them."""
        ...

    @property
    def bus_master(self) -> bool:
        """The Bus Master Enable bit: while False, the host refuses DMA and message-signalled interrupts."""
        ...

    @property
    def irq_mode(self) -> IrqMode:
        """Which kind of interrupt the guest has enabled in config space."""
        ...

    def region_read(self, region: int, offset: int, count: int) -> Buffer: ...

    def region_write(self, region: int, offset: int, data: Buffer) -> None: ...

    def reset(self, kind: Reset) -> None: ...

    def process(self) -> None:
        """Does the work that accesses have asked for (rings, interrupts)."""
        ...
