"""What each client command does: the protocol specification's sections from VFIO_USER_DMA_MAP on.

A handler gets a message and returns the reply's payload, alone or with descriptors that are the receiver's to close.
One that refuses raises OSError; its errno is the error reply. VERSION and everything about the stream are in `session`.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import Any, Final

from pyvfio_user.connection import Message
from pyvfio_user.device import PciDevice, Region, Reset
from pyvfio_user.dirty import DirtyLog, bitmap_size
from pyvfio_user.dma import DmaTable
from pyvfio_user.host import ClientHost
from pyvfio_user.io_events import IoEventDevice, IoEvents
from pyvfio_user.irq import Irqs
from pyvfio_user.logs import LimitedLog
from pyvfio_user.messages import (
    CAPABILITY,
    CAPABILITY_SPARSE_MMAP,
    DEVICE_INFO,
    DEVICE_STATE,
    DIRTY_BITMAP,
    DMA_MAP,
    DMA_UNMAP,
    FEATURE,
    FEATURE_GET,
    FEATURE_MASK,
    FEATURE_PROBE,
    FEATURE_SET,
    IRQ_INFO,
    IRQ_SET,
    LOGGING_RANGE,
    LOGGING_REPORT,
    LOGGING_START,
    MIG_DATA,
    MIGRATION,
    MMAP_AREA,
    NUM_IRQS,
    NUM_REGIONS,
    REGION_ACCESS,
    REGION_CONFIG,
    REGION_INFO,
    REGION_IO_FDS,
    SPARSE_MMAP,
    WRITE_MULTI,
    WRITE_MULTI_ENTRY,
    Command,
    DeviceFlag,
    DmaUnmapFlag,
    Feature,
    Layout,
    RegionFlag,
)
from pyvfio_user.migration import FLAGS, MigratableDevice, Migration

Reply = bytes | tuple[bytes, list[int]]
Handler = Callable[[Message], Reply]

_OPERATIONS: Final = {
    Feature.MIGRATION: FEATURE_GET,
    Feature.MIG_DEVICE_STATE: FEATURE_GET | FEATURE_SET,
    Feature.DMA_LOGGING_START: FEATURE_SET,
    Feature.DMA_LOGGING_STOP: FEATURE_SET,
    Feature.DMA_LOGGING_REPORT: FEATURE_GET,
}
_MIGRATION_FEATURES: Final = (Feature.MIGRATION, Feature.MIG_DEVICE_STATE)

log = LimitedLog(logging.getLogger(__name__))


def guarded(call: Callable[..., Any], *args: Any) -> Any:
    """Calls the device. What it raises is logged with its traceback and becomes OSError with EIO."""
    try:
        return call(*args)
    except Exception:
        log.log(logging.ERROR, "the device failed in %s", getattr(call, "__name__", call), exc_info=True)
        raise OSError(errno.EIO, "the device failed") from None


class Commands:
    """The handlers for one client, by command number in `handlers`."""

    def __init__(
        self,
        device: PciDevice,
        host: ClientHost,
        table: DmaTable,
        irqs: Irqs,
        io_events: IoEvents,
        max_transfer: int,
    ) -> None:
        self._device = device
        self._host = host
        self._table = table
        self._irqs = irqs
        self._io_events = io_events
        self._max_transfer = max_transfer
        self.peer_fds = 1  # descriptors the client takes in one message
        self.migration = Migration(device) if isinstance(device, MigratableDevice) else None
        regions = device.regions
        self.regions = [*regions[:REGION_CONFIG], Region(device.config_size), Region()]
        self.read_sizes = [region.size if region.readable else 0 for region in self.regions]
        self.write_sizes = [region.size if region.writable else 0 for region in self.regions]
        self.handlers: dict[int, Handler] = {
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.DEVICE_GET_INFO: self._device_info,
            Command.DEVICE_GET_REGION_INFO: self._region_info,
            Command.DEVICE_GET_REGION_IO_FDS: self._region_io_fds,
            Command.DEVICE_GET_IRQ_INFO: self._irq_info,
            Command.DEVICE_SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.DEVICE_RESET: self._reset,
            Command.DEVICE_FEATURE: self._feature,
        }
        if self.migration is not None:
            self.handlers[Command.MIG_DATA_READ] = self._mig_data_read
            self.handlers[Command.MIG_DATA_WRITE] = self._mig_data_write

    def permit_write_multi(self) -> None:
        """REGION_WRITE_MULTI has been negotiated."""
        self.handlers[Command.REGION_WRITE_MULTI] = self._write_multi

    # --- DMA ---

    def _dma_map(self, message: Message) -> bytes:
        argsz, flags, offset, addr, size = _unpack(DMA_MAP, message.payload)
        _check_argsz(argsz, DMA_MAP.size)
        self._table.add(addr, size, flags, offset, message.fds)
        self._host.changed()
        return b""

    def _dma_unmap(self, message: Message) -> bytes:
        argsz, flags, addr, size = _unpack(DMA_UNMAP, message.payload)
        _check_argsz(argsz, DMA_UNMAP.size)
        bitmap = b""
        if flags == DmaUnmapFlag.ALL:
            if addr or size:
                raise OSError(errno.EINVAL, "unmapping all takes no range")
            self._host.changed()
            self._table.clear()
        elif flags in (0, DmaUnmapFlag.GET_DIRTY_BITMAP):
            self._table.exact(addr, size)
            if flags:
                bitmap = self._unmap_bitmap(message.payload, argsz, addr, size)
            self._host.changed()
            self._table.remove(addr, size)
        else:
            raise OSError(errno.EINVAL, f"unmap flags {flags:#x}")
        return DMA_UNMAP.pack(DMA_UNMAP.size + len(bitmap), flags, addr, size) + bitmap

    def _unmap_bitmap(self, payload: bytes, argsz: int, addr: int, size: int) -> bytes:
        pgsize, length = _unpack(DIRTY_BITMAP, payload[DMA_UNMAP.size :])
        if self._host.dirty is None:
            raise OSError(errno.EINVAL, "dirty pages aren't being logged")
        if length != bitmap_size(size, pgsize):
            raise OSError(errno.EINVAL, f"a dirty bitmap of {length} bytes was asked for")
        _check_argsz(argsz, DMA_UNMAP.size + DIRTY_BITMAP.size + length)
        return DIRTY_BITMAP.pack(pgsize, length) + self._host.dirty.report(addr, size, pgsize)

    # --- Information ---

    def _device_info(self, message: Message) -> bytes:
        argsz, _, _, _ = _unpack(DEVICE_INFO, message.payload)
        _check_argsz(argsz, DEVICE_INFO.size)
        return DEVICE_INFO.pack(DEVICE_INFO.size, DeviceFlag.RESET | DeviceFlag.PCI, NUM_REGIONS, NUM_IRQS)

    def _region_info(self, message: Message) -> Reply:
        argsz, _, index, _, _, _ = _unpack(REGION_INFO, message.payload)
        _check_argsz(argsz, REGION_INFO.size)
        if index >= NUM_REGIONS:
            raise OSError(errno.EINVAL, f"region {index}")
        region = self.regions[index]
        if not region.size:  # QEMU refuses a device over an error here
            return REGION_INFO.pack(REGION_INFO.size, 0, index, 0, 0, 0)
        flags = (RegionFlag.READ if region.readable else 0) | (RegionFlag.WRITE if region.writable else 0)
        if region.fd < 0 or not region.areas:
            return REGION_INFO.pack(REGION_INFO.size, flags, index, 0, region.size, 0)
        flags |= RegionFlag.MMAP | RegionFlag.CAPS
        capability = (
            CAPABILITY.pack(CAPABILITY_SPARSE_MMAP, 1, 0)
            + SPARSE_MMAP.pack(len(region.areas), 0)
            + b"".join(MMAP_AREA.pack(area.offset, area.size) for area in region.areas)
        )
        needed = REGION_INFO.size + len(capability)
        if argsz < needed:
            return REGION_INFO.pack(needed, flags, index, 0, region.size, 0)
        info = REGION_INFO.pack(needed, flags, index, REGION_INFO.size, region.size, 0)
        return info + capability, [os.dup(region.fd)]

    def _region_io_fds(self, message: Message) -> Reply:
        argsz, flags, index, count = _unpack(REGION_IO_FDS, message.payload)
        _check_argsz(argsz, REGION_IO_FDS.size)
        if index >= NUM_REGIONS or flags or count:
            raise OSError(errno.EINVAL, f"region {index}, flags {flags:#x}, count {count}")
        if not isinstance(self._device, IoEventDevice) or index >= REGION_CONFIG:
            return REGION_IO_FDS.pack(REGION_IO_FDS.size, 0, index, 0)
        events = guarded(self._device.io_events, index)[: self.peer_fds]
        entries, fds = self._io_events.offer(index, events)
        needed = REGION_IO_FDS.size + len(entries)
        if argsz < needed:
            return REGION_IO_FDS.pack(needed, 0, index, 0)
        return REGION_IO_FDS.pack(needed, 0, index, len(events)) + entries, [os.dup(fd) for fd in fds]

    # --- Interrupts and reset ---

    def _irq_info(self, message: Message) -> bytes:
        argsz, _, index, _ = _unpack(IRQ_INFO, message.payload)
        _check_argsz(argsz, IRQ_INFO.size)
        flags, count = self._irqs.info(index)
        return IRQ_INFO.pack(IRQ_INFO.size, flags, index, count)

    def _set_irqs(self, message: Message) -> bytes:
        argsz, flags, index, start, count = _unpack(IRQ_SET, message.payload)
        _check_argsz(argsz, IRQ_SET.size)
        self._irqs.set_irqs(index, flags, start, count, message.payload[IRQ_SET.size :], message.fds)
        return b""

    def _reset(self, message: Message) -> bytes:
        if message.payload:
            raise OSError(errno.EINVAL, "DEVICE_RESET takes no data")
        if self.migration is not None:
            self.migration.reset()
        try:
            guarded(self._device.reset, Reset.DEVICE)
        finally:
            self._host.refresh()
        return b""

    # --- Regions ---

    def _region_read(self, message: Message) -> bytes:
        offset, region, count = _unpack(REGION_ACCESS, message.payload)
        if len(message.payload) != REGION_ACCESS.size:
            raise OSError(errno.EINVAL, f"{len(message.payload)} bytes of payload in a read")
        self._check_access(region, offset, count, self.read_sizes)
        if count == 0:
            return message.payload
        if region == REGION_CONFIG:
            data = guarded(self._device.config_read, offset, count)
        else:
            data = guarded(self._device.region_read, region, offset, count)
        if len(data) != count:
            log.log(logging.ERROR, "the device read %d bytes of region %d instead of %d", len(data), region, count)
            raise OSError(errno.EIO, "the device failed")
        return message.payload + bytes(data)

    def _region_write(self, message: Message) -> bytes:
        payload = message.payload
        offset, region, count = _unpack(REGION_ACCESS, payload)
        if len(payload) != REGION_ACCESS.size + count:
            raise OSError(errno.EINVAL, f"{len(payload) - REGION_ACCESS.size} bytes in a write of {count}")
        self._check_access(region, offset, count, self.write_sizes)
        if count:
            self._write(region, offset, payload[REGION_ACCESS.size :])
        return payload[: REGION_ACCESS.size]

    def _write_multi(self, message: Message) -> bytes:
        payload = message.payload
        (count,) = _unpack(WRITE_MULTI, payload)
        if len(payload) != WRITE_MULTI.size + count * WRITE_MULTI_ENTRY.size:
            raise OSError(errno.EINVAL, f"{len(payload)} bytes for {count} writes")
        writes = list(WRITE_MULTI_ENTRY.packer.iter_unpack(memoryview(payload)[WRITE_MULTI.size :]))
        for offset, region, size, _ in writes:
            if not 0 < size <= 8:
                raise OSError(errno.EINVAL, f"a write of {size} bytes among many")
            self._check_access(region, offset, size, self.write_sizes)
        for offset, region, size, data in writes:
            self._write(region, offset, data[:size])
        return payload[: WRITE_MULTI.size]

    def _check_access(self, region: int, offset: int, count: int, sizes: list[int]) -> None:
        if region >= NUM_REGIONS or offset + count > sizes[region] or count > self._max_transfer:
            raise OSError(errno.EINVAL, f"access of {count} bytes at {offset:#x} of region {region}")

    def _write(self, region: int, offset: int, data: bytes) -> None:
        if region != REGION_CONFIG:
            guarded(self._device.region_write, region, offset, data)
            return
        try:
            guarded(self._device.config_write, offset, data)
        finally:
            self._host.refresh()

    # --- Features ---

    def _feature(self, message: Message) -> bytes:
        payload = message.payload
        argsz, flags = _unpack(FEATURE, payload)
        operation = flags & ~FEATURE_MASK
        number = flags & FEATURE_MASK
        permitted = _OPERATIONS.get(Feature(number), 0) if number in _OPERATIONS else 0
        if number in _MIGRATION_FEATURES and self.migration is None:
            permitted = 0
        if not permitted or operation & ~(permitted | FEATURE_PROBE):
            raise OSError(errno.EINVAL, f"feature {number}, operation {operation:#x}")
        _check_argsz(argsz, len(payload) if operation != FEATURE_GET else FEATURE.size)
        data = payload[FEATURE.size :]
        if operation & FEATURE_PROBE:
            return payload
        if operation == FEATURE_SET:
            self._set_feature(Feature(number), data)
            return payload
        if operation != FEATURE_GET:
            raise OSError(errno.EINVAL, f"feature {number}, operation {operation:#x}")
        if number == Feature.DMA_LOGGING_REPORT:
            _, length, page_size = _unpack(LOGGING_REPORT, data)
            needed = FEATURE.size + LOGGING_REPORT.size + bitmap_size(length, page_size)
            if argsz < needed:  # before the log is read, which clears it
                return FEATURE.pack(needed, flags)
        result = self._get_feature(Feature(number), data)
        needed = FEATURE.size + len(result)
        return FEATURE.pack(needed, flags) + (result if argsz >= needed else b"")

    def _get_feature(self, feature: Feature, data: bytes) -> bytes:
        if feature == Feature.DMA_LOGGING_REPORT:
            if self._host.dirty is None:
                raise OSError(errno.EINVAL, "dirty pages aren't being logged")
            iova, length, page_size = _unpack(LOGGING_REPORT, data)
            return data[: LOGGING_REPORT.size] + self._host.dirty.report(iova, length, page_size)
        assert self.migration is not None  # or the feature isn't permitted
        if feature == Feature.MIGRATION:
            return MIGRATION.pack(FLAGS)
        return DEVICE_STATE.pack(self.migration.state, 0)

    def _set_feature(self, feature: Feature, data: bytes) -> None:
        if feature == Feature.DMA_LOGGING_START:
            if self._host.dirty is not None:
                raise OSError(errno.EINVAL, "dirty pages are being logged already")
            page_size, count, _ = _unpack(LOGGING_START, data)
            ranges = data[LOGGING_START.size :]
            if len(ranges) != count * LOGGING_RANGE.size:
                raise OSError(errno.EINVAL, f"{len(ranges)} bytes for {count} ranges to log")
            self._host.dirty = DirtyLog(page_size, list(LOGGING_RANGE.packer.iter_unpack(ranges)))
            self._host.changed()
        elif feature == Feature.DMA_LOGGING_STOP:
            self._host.dirty = None
            self._host.changed()
        else:
            assert self.migration is not None  # or the feature isn't permitted
            state, _ = _unpack(DEVICE_STATE, data)
            try:
                self.migration.set_state(state)
            except OSError:
                raise
            except Exception:
                log.log(logging.ERROR, "the device failed to migrate", exc_info=True)
                raise OSError(errno.EIO, "the device failed") from None

    def _mig_data_read(self, message: Message) -> bytes:
        argsz, size = _unpack(MIG_DATA, message.payload)
        if size > self._max_transfer:
            raise OSError(errno.EINVAL, f"{size} bytes of migration data")
        _check_argsz(argsz, MIG_DATA.size + size)
        assert self.migration is not None  # or there's no handler
        data = self.migration.read(size)
        return MIG_DATA.pack(MIG_DATA.size + len(data), len(data)) + data

    def _mig_data_write(self, message: Message) -> bytes:
        argsz, size = _unpack(MIG_DATA, message.payload)
        data = message.payload[MIG_DATA.size :]
        if size != len(data):
            raise OSError(errno.EINVAL, f"{len(data)} bytes of migration data instead of {size}")
        _check_argsz(argsz, len(message.payload))
        assert self.migration is not None  # or there's no handler
        self.migration.write(data)
        return b""


def _unpack(layout: Layout, payload: bytes) -> tuple[Any, ...]:
    if len(payload) < layout.size:
        raise OSError(errno.EINVAL, f"{len(payload)} bytes of payload instead of {layout.size}")
    return layout.unpack_from(payload)


def _check_argsz(argsz: int, needed: int) -> None:
    if argsz < needed:
        raise OSError(errno.EINVAL, f"argsz {argsz} where {needed} are needed")
