"""vfio-user's messages: the layouts of the protocol specification, sections "Header" to "VFIO_USER_MIG_DATA_WRITE".

Every layout is declared once, with construct. construct is far too slow for a message a register access, so each
`Layout` derives a `struct.Struct` from its declaration at import; code on the message path uses only that. All fields
are little endian, which is what both ends of a unix socket on x86 and arm64 speak (the protocol says: host endian).
All sizes are in bytes. VERSION's JSON is in `capabilities`.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, Final

from construct import Bytes, Construct, FormatField, Int16ul, Int32ul, Int64ul, Renamed, Struct


class Layout:
    """A fixed-size layout: the declaration and the `struct.Struct` derived from it, with its methods at hand."""

    __slots__ = ("construct", "fields", "pack", "pack_into", "packer", "size", "unpack", "unpack_from")

    def __init__(self, **fields: Construct[Any, Any]) -> None:
        self.construct = Struct(*(Renamed(field, name) for name, field in fields.items()))
        self.fields = tuple(fields)
        self.packer = struct.Struct("<" + "".join(map(_struct_code, fields.values())))
        self.size = self.construct.sizeof()
        if self.packer.size != self.size:
            raise TypeError(f"{self.fields}: {self.packer.size} bytes derived, {self.size} declared")
        self.pack = self.packer.pack
        self.pack_into = self.packer.pack_into
        self.unpack = self.packer.unpack
        self.unpack_from = self.packer.unpack_from


def _struct_code(field: Construct[Any, Any]) -> str:
    """The `struct` code of a field. construct's own `fmtstr` carries the byte order, which may stand only once."""
    if isinstance(field, FormatField):
        return str(field.fmtstr)[1:]
    return f"{field.sizeof()}s"


class Command(enum.IntEnum):
    """What a message asks for. DMA_READ and DMA_WRITE go from server to client, all others the other way."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    DEVICE_GET_INFO = 4
    DEVICE_GET_REGION_INFO = 5
    DEVICE_GET_REGION_IO_FDS = 6
    DEVICE_GET_IRQ_INFO = 7
    DEVICE_SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    DEVICE_RESET = 13
    DIRTY_PAGES = 14  # retired: DEVICE_FEATURE has taken its place
    REGION_WRITE_MULTI = 15
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


# --- Header -----------------------------------------------------------------------------------------------------------

HEADER: Final = Layout(msg_id=Int16ul, command=Int16ul, size=Int32ul, flags=Int32ul, error=Int32ul)

TYPE_MASK: Final = 0xF
TYPE_COMMAND: Final = 0
TYPE_REPLY: Final = 1
NO_REPLY: Final = 0x10
ERROR: Final = 0x20

# --- VERSION ----------------------------------------------------------------------------------------------------------

VERSION: Final = Layout(major=Int16ul, minor=Int16ul)
"""JSON follows, ended by a NUL."""

MAJOR: Final = 0
MINOR: Final = 1

# --- DMA_MAP, DMA_UNMAP, DMA_READ, DMA_WRITE --------------------------------------------------------------------------

DMA_MAP: Final = Layout(argsz=Int32ul, flags=Int32ul, offset=Int64ul, addr=Int64ul, size=Int64ul)
DMA_UNMAP: Final = Layout(argsz=Int32ul, flags=Int32ul, addr=Int64ul, size=Int64ul)
DIRTY_BITMAP: Final = Layout(pgsize=Int64ul, size=Int64ul)
"""Follows DMA_UNMAP under GET_DIRTY_BITMAP; in the reply the bitmap of `size` bytes follows it."""

DMA_ACCESS: Final = Layout(addr=Int64ul, count=Int64ul)
"""DMA_READ and DMA_WRITE, request and reply. The specification shortens `count` to 32 bits in DMA_WRITE's reply, but
QEMU and libvfio-user send this."""


class DmaMapFlag(enum.IntFlag):
    READ = 1
    WRITE = 2


class DmaUnmapFlag(enum.IntFlag):
    GET_DIRTY_BITMAP = 1
    ALL = 2


# --- DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_REGION_IO_FDS ------------------------------------------------

DEVICE_INFO: Final = Layout(argsz=Int32ul, flags=Int32ul, num_regions=Int32ul, num_irqs=Int32ul)
REGION_INFO: Final = Layout(
    argsz=Int32ul, flags=Int32ul, index=Int32ul, cap_offset=Int32ul, size=Int64ul, offset=Int64ul
)
CAPABILITY: Final = Layout(id=Int16ul, version=Int16ul, next=Int32ul)
"""Head of a capability behind REGION_INFO; `next` counts from the start of REGION_INFO, 0 ends the chain."""
SPARSE_MMAP: Final = Layout(nr_areas=Int32ul, reserved=Int32ul)
MMAP_AREA: Final = Layout(offset=Int64ul, size=Int64ul)
REGION_IO_FDS: Final = Layout(argsz=Int32ul, flags=Int32ul, index=Int32ul, count=Int32ul)
IO_FD: Final = Layout(
    offset=Int64ul, size=Int64ul, fd_index=Int32ul, type=Int32ul, flags=Int32ul, padding=Int32ul, datamatch=Int64ul
)
"""One entry behind REGION_IO_FDS; for an ioregionfd the last field is `user_data`."""

CAPABILITY_SPARSE_MMAP: Final = 1
IO_FD_IOEVENTFD: Final = 0
IO_FD_FLAG_DATAMATCH: Final = 1

NUM_REGIONS: Final = 9
REGION_ROM: Final = 6
REGION_CONFIG: Final = 7
REGION_VGA: Final = 8


class DeviceFlag(enum.IntFlag):
    RESET = 1
    PCI = 2


class RegionFlag(enum.IntFlag):
    READ = 1
    WRITE = 2
    MMAP = 4
    CAPS = 8


# --- DEVICE_GET_IRQ_INFO, DEVICE_SET_IRQS -----------------------------------------------------------------------------

IRQ_INFO: Final = Layout(argsz=Int32ul, flags=Int32ul, index=Int32ul, count=Int32ul)
IRQ_SET: Final = Layout(argsz=Int32ul, flags=Int32ul, index=Int32ul, start=Int32ul, count=Int32ul)
"""With IrqSet.BOOL, `count` bytes follow; with IrqSet.EVENTFD, file descriptors come along."""

NUM_IRQS: Final = 5


class IrqIndex(enum.IntEnum):
    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


class IrqFlag(enum.IntFlag):
    EVENTFD = 1
    MASKABLE = 2
    AUTOMASKED = 4
    NORESIZE = 8


class IrqSet(enum.IntFlag):
    """Flags of DEVICE_SET_IRQS: one kind of data (the first three) with one action."""

    NONE = 1
    BOOL = 2
    EVENTFD = 4
    MASK = 8
    UNMASK = 0x10
    TRIGGER = 0x20


# --- REGION_READ, REGION_WRITE, REGION_WRITE_MULTI --------------------------------------------------------------------

REGION_ACCESS: Final = Layout(offset=Int64ul, region=Int32ul, count=Int32ul)
WRITE_MULTI: Final = Layout(count=Int64ul)
"""`count` WRITE_MULTI_ENTRYs follow; the reply is this alone."""
WRITE_MULTI_ENTRY: Final = Layout(offset=Int64ul, region=Int32ul, count=Int32ul, data=Bytes(8))

# --- DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE --------------------------------------------------------------------

FEATURE: Final = Layout(argsz=Int32ul, flags=Int32ul)
MIGRATION: Final = Layout(flags=Int64ul)
DEVICE_STATE: Final = Layout(device_state=Int32ul, data_fd=Int32ul)
LOGGING_START: Final = Layout(page_size=Int64ul, num_ranges=Int32ul, reserved=Int32ul)
LOGGING_RANGE: Final = Layout(iova=Int64ul, length=Int64ul)
LOGGING_REPORT: Final = Layout(iova=Int64ul, length=Int64ul, page_size=Int64ul)
MIG_DATA: Final = Layout(argsz=Int32ul, size=Int32ul)

FEATURE_MASK: Final = 0xFFFF
FEATURE_GET: Final = 1 << 16
FEATURE_SET: Final = 1 << 17
FEATURE_PROBE: Final = 1 << 18


class Feature(enum.IntEnum):
    MIGRATION = 1
    MIG_DEVICE_STATE = 2
    DMA_LOGGING_START = 6
    DMA_LOGGING_STOP = 7
    DMA_LOGGING_REPORT = 8


class MigrationFlag(enum.IntFlag):
    STOP_COPY = 1
    P2P = 2
    PRE_COPY = 4


LAYOUTS: Final = {name: value for name, value in list(globals().items()) if isinstance(value, Layout)}
"""Every layout of this file by its name."""
