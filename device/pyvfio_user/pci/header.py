"""The type 0 header of configuration space (PCI Local Bus 3.0, section 6.1) and base address registers (6.2.5)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from construct import Padding, Struct

from pyvfio_user.pci.layout import Access, bits, number, register, reserved

BARS = 6
BAR_OFFSET = 0x10
ROM_OFFSET = 0x30

HEADER = Struct(
    "vendor" / number(16),
    "device" / number(16),
    "command"
    / register(
        "io" / bits(1, Access.RW),
        "memory" / bits(1, Access.RW),
        "bus_master" / bits(1, Access.RW),
        reserved(3),
        "parity_error_response" / bits(1, Access.RW),
        reserved(1),
        "serr" / bits(1, Access.RW),
        reserved(1),
        "intx_disable" / bits(1, Access.RW),
        reserved(5),
    ),
    "status"
    / register(
        reserved(3),
        "interrupt" / bits(1),
        "capabilities" / bits(1),
        reserved(3),
        "master_data_parity_error" / bits(1, Access.W1C),
        reserved(2),
        "signaled_target_abort" / bits(1, Access.W1C),
        "received_target_abort" / bits(1, Access.W1C),
        "received_master_abort" / bits(1, Access.W1C),
        "signaled_system_error" / bits(1, Access.W1C),
        "detected_parity_error" / bits(1, Access.W1C),
    ),
    "revision" / number(8),
    "class_code" / number(24),
    "cache_line_size" / number(8, Access.RW),
    "latency_timer" / number(8),
    "header_type" / number(8),
    "bist" / number(8),
    Padding(4 * BARS),
    "cardbus" / number(32),
    "subsystem_vendor" / number(16),
    "subsystem" / number(16),
    Padding(4),
    "capabilities_pointer" / number(8),
    Padding(7),
    "interrupt_line" / number(8, Access.RW),
    "interrupt_pin" / number(8),
    "min_gnt" / number(8),
    "max_lat" / number(8),
)


class BarKind(enum.Enum):
    """Bits 2:0 of a base address register: its address space and width."""

    MEMORY32 = 0b000
    MEMORY64 = 0b100
    IO = 0b001


@dataclass(frozen=True, slots=True)
class Bar:
    """A base address register: `size` in bytes, a power of two (at least 16, 4 for I/O).

    A 64-bit one occupies its own index and the next, which must be None. Raises ValueError.
    """

    size: int
    kind: BarKind = BarKind.MEMORY32
    prefetchable: bool = False

    def __post_init__(self) -> None:
        io = self.kind is BarKind.IO
        if self.size < (4 if io else 16) or self.size & (self.size - 1):
            raise ValueError(f"the size of a BAR is a power of two of at least 16 bytes (I/O: 4), not {self.size}")
        if io and (self.size > 256 or self.prefetchable):
            raise ValueError("an I/O BAR has at most 256 bytes and isn't prefetchable")
        if self.size > 1 << (63 if self.kind is BarKind.MEMORY64 else 31):
            raise ValueError(f"a {self.kind.name} BAR can't have {self.size:#x} bytes")

    @property
    def flags(self) -> int:
        """The read-only bits at the bottom of the register."""
        return self.kind.value | (0b1000 if self.prefetchable else 0)


def bar_registers(bars: Sequence[Bar | None]) -> tuple[bytes, bytes]:
    """Reset value and writable bits of the six registers. Raises ValueError for BARs that don't fit."""
    if len(bars) > BARS:
        raise ValueError(f"a function has at most {BARS} BARs, not {len(bars)}")
    values, masks = bytearray(4 * BARS), bytearray(4 * BARS)
    for index, bar in enumerate(bars):
        if bar is None:
            continue
        width = 8 if bar.kind is BarKind.MEMORY64 else 4
        if width == 8 and (index + 1 == BARS or (index + 1 < len(bars) and bars[index + 1] is not None)):
            raise ValueError(f"the 64-bit BAR {index} needs index {index + 1} too")
        at = slice(4 * index, 4 * index + width)
        values[at] = bar.flags.to_bytes(width, "little")
        masks[at] = (((1 << 8 * width) - 1) & ~(bar.size - 1)).to_bytes(width, "little")
    return bytes(values), bytes(masks)


def rom_mask(size: int) -> bytes:
    """Writable bits of the expansion ROM register for a ROM of `size` bytes, 0 for none. Raises ValueError."""
    if not size:
        return bytes(4)
    if size < 2048 or size > 16 << 20 or size & (size - 1):
        raise ValueError(f"the size of an expansion ROM is a power of two from 2 KiB to 16 MiB, not {size}")
    return (0xFFFFFFFF & ~(size - 1) | 1).to_bytes(4, "little")
