"""A vfio-user client: what a driver needs to run on a device behind a unix socket. Synchronous, one thread.

Requests follow the protocol's order of commands; while one waits for its reply, the server's DMA_READ and DMA_WRITE
are answered. Left out: dirty page bitmaps of DMA_UNMAP, and reconnecting.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple

from pyvfio_user import messages as m
from pyvfio_user.capabilities import Capabilities, decode_version
from pyvfio_user.client_memory import ClientMemory, sealed_memfd
from pyvfio_user.client_stream import MAX_FDS, CommandStream, VfioUserError
from pyvfio_user.connection import close_all
from pyvfio_user.device import Buffer, MmapArea
from pyvfio_user.messages import Command, DmaMapFlag, IrqSet, RegionFlag

__all__ = ["Client", "DeviceInfo", "IrqInfo", "RegionInfo", "VfioUserError"]

_MAX_MULTI: Final = 200  # entries of one WRITE_MULTI: as many as QEMU sends
_READ_WRITE: Final = DmaMapFlag.READ | DmaMapFlag.WRITE
_pack_access = m.REGION_ACCESS.pack
_ACCESS_SIZE: Final = m.REGION_ACCESS.size
_EVENTFD_FLAGS: Final = os.EFD_NONBLOCK | os.EFD_CLOEXEC


class DeviceInfo(NamedTuple):
    """DEVICE_GET_INFO: `flags` are `messages.DeviceFlag`."""

    flags: int
    num_regions: int
    num_irqs: int


class IrqInfo(NamedTuple):
    """DEVICE_GET_IRQ_INFO: `flags` are `messages.IrqFlag`."""

    flags: int
    vectors: int


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """DEVICE_GET_REGION_INFO: `flags` are `messages.RegionFlag`, `areas` the parts that can be mapped."""

    size: int
    flags: int
    offset: int
    areas: tuple[MmapArea, ...]


class Client:
    """A connection to the server at the unix socket `path`, with the version negotiated.

    `timeout` is for each request, in seconds. `twin_socket` asks for a second socket for the server's commands,
    `write_multiple` for `write_multi`. All methods that talk to the server raise VfioUserError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float = 5.0,
        twin_socket: bool = False,
        write_multiple: bool = True,
        max_data_xfer_size: int = 1 << 20,
        minor: int = m.MINOR,
    ) -> None:
        self.memory = ClientMemory()
        self.capabilities = Capabilities()
        """The server's."""
        self._max_transfer = max_data_xfer_size
        self._eventfds: dict[tuple[int, int], int] = {}
        self._stream = CommandStream(os.fspath(path), timeout, self._serve)
        try:
            self._negotiate(minor, twin_socket, write_multiple)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection, the eventfds and the memory. May be called again."""
        self._stream.close()
        close_all(self._eventfds.values())
        self._eventfds.clear()
        self.memory.clear()

    @property
    def closed(self) -> bool:
        """Also after a failure: then `close` is still due, for the eventfds and the memory."""
        return self._stream.closed

    # What the device is.

    def device_info(self) -> DeviceInfo:
        reply = self.request(Command.DEVICE_GET_INFO, m.DEVICE_INFO.pack(m.DEVICE_INFO.size, 0, 0, 0))
        _, flags, regions, irqs = self._unpack(m.DEVICE_INFO, reply)
        return DeviceInfo(flags, regions, irqs)

    def region_info(self, region: int) -> RegionInfo:
        info, fds = self._region_info(region)
        close_all(fds)
        return info

    def map_region(self, region: int) -> dict[int, mmap.mmap]:
        """Maps what the server offers of a region: memory by its offset in the region, empty if nothing is offered.

        The caller closes them.
        """
        info, fds = self._region_info(region)
        maps: dict[int, mmap.mmap] = {}
        try:
            for area in info.areas if fds else ():
                writable = mmap.PROT_WRITE if info.flags & RegionFlag.WRITE else 0
                maps[area.offset] = mmap.mmap(
                    fds[0], area.size, mmap.MAP_SHARED, mmap.PROT_READ | writable, offset=info.offset + area.offset
                )
        except (OSError, ValueError, OverflowError) as error:
            for memory in maps.values():
                memory.close()
            raise VfioUserError(errno.EINVAL, f"region {region} can't be mapped: {error}") from None
        finally:
            close_all(fds)
        return maps

    def irq_info(self, index: int) -> IrqInfo:
        reply = self.request(Command.DEVICE_GET_IRQ_INFO, m.IRQ_INFO.pack(m.IRQ_INFO.size, 0, index, 0))
        _, flags, _, count = self._unpack(m.IRQ_INFO, reply)
        return IrqInfo(flags, count)

    # Registers and configuration space.

    def read(self, region: int, offset: int, count: int) -> bytes:
        """REGION_READ."""
        reply = self.request(Command.REGION_READ, _pack_access(offset, region, count))
        if len(reply) != _ACCESS_SIZE + count:
            raise VfioUserError(errno.EIO, f"{len(reply) - _ACCESS_SIZE} bytes came, {count} were asked for")
        return reply[_ACCESS_SIZE:]

    def write(self, region: int, offset: int, data: Buffer, *, posted: bool = False) -> None:
        """REGION_WRITE. `posted` ones have no reply: errors aren't told, and the next reply means they're done."""
        payload = _pack_access(offset, region, len(data)) + bytes(data)
        if posted:
            self.post(Command.REGION_WRITE, payload)
        else:
            self.request(Command.REGION_WRITE, payload)

    def write_multi(self, writes: Iterable[tuple[int, int, Buffer]], *, posted: bool = True) -> None:
        """REGION_WRITE_MULTI: (region, offset, data of up to 8 bytes) each, in order."""
        entries = [
            m.WRITE_MULTI_ENTRY.pack(offset, region, len(data), bytes(data).ljust(8, b"\0"))
            for region, offset, data in writes
        ]
        for start in range(0, len(entries), _MAX_MULTI):
            part = entries[start : start + _MAX_MULTI]
            payload = m.WRITE_MULTI.pack(len(part)) + b"".join(part)
            if posted:
                self.post(Command.REGION_WRITE_MULTI, payload)
            else:
                self.request(Command.REGION_WRITE_MULTI, payload)

    def config_read(self, offset: int, count: int) -> bytes:
        return self.read(m.REGION_CONFIG, offset, count)

    def config_write(self, offset: int, data: Buffer) -> None:
        self.write(m.REGION_CONFIG, offset, data)

    # Memory.

    def map_memory(self, size: int, iova: int, *, flags: int = _READ_WRITE, shared: bool = True) -> memoryview:
        """Memory of `size` bytes, zeroed, that the device finds at bus address `iova`.

        `shared` hands it over as a sealed memfd; else the server has to ask by DMA_READ and DMA_WRITE, which are
        answered while this client waits for something. The view is released by `unmap` and `close`, which is when
        touching it raises ValueError; other views made from it stay good.
        """
        fds = [sealed_memfd(size)] if shared else []
        try:
            memory = mmap.mmap(fds[0] if fds else -1, size)
            try:
                mapping = self.memory.add(iova, size, memory, flags)
            except BaseException:
                memory.close()
                raise
            try:
                self.request(Command.DMA_MAP, m.DMA_MAP.pack(m.DMA_MAP.size, flags, 0, iova, size), fds)
            except BaseException:
                self.memory.remove(iova)
                raise
        finally:
            close_all(fds)
        return mapping.view

    def unmap(self, iova: int) -> None:
        """Takes back the memory mapped at `iova`. Raises KeyError."""
        mapping = self.memory.find(iova)
        self.request(Command.DMA_UNMAP, m.DMA_UNMAP.pack(m.DMA_UNMAP.size, 0, iova, mapping.size))
        self.memory.remove(iova)

    # Interrupts.

    def set_irqs(
        self, index: int, flags: int, start: int = 0, count: int = 0, data: bytes = b"", fds: Sequence[int] = ()
    ) -> None:
        """DEVICE_SET_IRQS as it is. `flags` are `messages.IrqSet`."""
        self.request(
            Command.DEVICE_SET_IRQS,
            m.IRQ_SET.pack(m.IRQ_SET.size + len(data), flags, index, start, count) + data,
            fds,
        )

    def enable_irqs(self, index: int, count: int, start: int = 0) -> list[int]:
        """Gives `count` vectors an eventfd each and returns them. They stay the client's: `wait_irq`, `close`."""
        fresh = {(index, vector): os.eventfd(0, _EVENTFD_FLAGS) for vector in range(start, start + count)}
        fds = list(fresh.values())
        at_once = max(1, self.capabilities.max_msg_fds)
        try:
            for at in range(0, count, at_once):
                part = fds[at : at + at_once]
                self.set_irqs(index, IrqSet.EVENTFD | IrqSet.TRIGGER, start + at, len(part), fds=part)
        except BaseException:
            close_all(fds)
            raise
        close_all(self._eventfds.pop(key) for key in fresh if key in self._eventfds)
        self._eventfds.update(fresh)
        return fds

    def disable_irqs(self, index: int) -> None:
        """Takes all of an index's eventfds back."""
        self.set_irqs(index, IrqSet.NONE | IrqSet.TRIGGER)
        for key in [key for key in self._eventfds if key[0] == index]:
            close_all([self._eventfds.pop(key)])

    def mask_irq(self, index: int, vector: int = 0) -> None:
        self.set_irqs(index, IrqSet.NONE | IrqSet.MASK, vector, 1)

    def unmask_irq(self, index: int, vector: int = 0) -> None:
        self.set_irqs(index, IrqSet.NONE | IrqSet.UNMASK, vector, 1)

    def wait_irq(self, index: int, vector: int = 0, timeout: float | None = None) -> int:
        """How often the vector has been signalled since last asked, after waiting for the first if need be.

        0 when `timeout` seconds (by default the client's) passed without. Serves DMA meanwhile.
        Raises KeyError for a vector without an eventfd.
        """
        fd = self._eventfds[index, vector]
        deadline = time.monotonic() + (self._stream.timeout if timeout is None else timeout)
        while True:
            try:
                return os.eventfd_read(fd)
            except BlockingIOError:
                pass
            if not self._stream.serve_until(deadline, fd):
                return 0

    def serve(self, timeout: float) -> None:
        """Answers the server's DMA_READ and DMA_WRITE for `timeout` seconds: for want of anything else to wait for."""
        deadline = time.monotonic() + timeout
        while self._stream.serve_until(deadline):
            pass

    # The rest of the protocol.

    def reset(self) -> None:
        """DEVICE_RESET."""
        self.request(Command.DEVICE_RESET)

    def feature(self, flags: int, data: bytes = b"", argsz: int = 0) -> bytes:
        """DEVICE_FEATURE: `flags` hold the feature and FEATURE_GET, _SET or _PROBE. Returns the reply's data.

        `argsz` is the room for the reply, at least that for the request.
        """
        size = m.FEATURE.size + len(data)
        reply = self.request(Command.DEVICE_FEATURE, m.FEATURE.pack(max(argsz, size), flags) + data)
        return reply[m.FEATURE.size :]

    def migration_read(self, size: int) -> bytes:
        """MIG_DATA_READ: up to `size` bytes of the device's state, b"" at its end."""
        reply = self.request(Command.MIG_DATA_READ, m.MIG_DATA.pack(m.MIG_DATA.size + size, size))
        _, count = self._unpack(m.MIG_DATA, reply)
        return reply[m.MIG_DATA.size : m.MIG_DATA.size + count]

    def migration_write(self, data: bytes) -> None:
        """MIG_DATA_WRITE."""
        self.request(Command.MIG_DATA_WRITE, m.MIG_DATA.pack(m.MIG_DATA.size + len(data), len(data)) + data)

    def post(self, command: int, payload: bytes = b"") -> None:
        """Sends a command that wants no reply."""
        self._stream.post(command, payload)

    def request(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Sends a command and returns its reply's payload."""
        return self._stream.exchange(command, payload, fds).payload

    def _serve(self, command: int, payload: bytes) -> bytes:
        return self.memory.serve(command, payload, self._max_transfer)

    def _negotiate(self, minor: int, twin_socket: bool, write_multiple: bool) -> None:
        mine: dict[str, object] = {
            "max_msg_fds": MAX_FDS,
            "max_data_xfer_size": self._max_transfer,
            "write_multiple": write_multiple,
        }
        if twin_socket:
            mine["twin_socket"] = {"supported": True, "fd_index": 0}
        text = json.dumps({"capabilities": mine}, separators=(",", ":")).encode() + b"\0"
        reply = self._stream.exchange(Command.VERSION, m.VERSION.pack(m.MAJOR, minor) + text, with_fds=True)
        try:
            version = decode_version(reply.payload)
            self.capabilities = version.capabilities
            if version.major != m.MAJOR:
                raise ValueError(f"the server speaks version {version.major}.{version.minor}")
            index = self.capabilities.twin_fd_index
            if twin_socket and self.capabilities.twin_socket and index is not None:
                if index >= len(reply.fds):
                    raise ValueError(f"the twin socket, descriptor {index}, didn't come")
                self._stream.use_twin(reply.fds.pop(index))
        except (ValueError, OSError) as error:
            self._stream.fail(errno.EPROTO, str(error))
        finally:
            reply.close_fds()

    def _region_info(self, region: int) -> tuple[RegionInfo, list[int]]:
        argsz = m.REGION_INFO.size
        for _ in range(3):  # the second answer has all, unless the region has changed meanwhile
            payload = m.REGION_INFO.pack(argsz, 0, region, 0, 0, 0)
            reply = self._stream.exchange(Command.DEVICE_GET_REGION_INFO, payload, with_fds=True)
            try:
                needed, flags, _, cap_offset, size, offset = self._unpack(m.REGION_INFO, reply.payload)
                if needed <= argsz:
                    areas = _sparse_areas(reply.payload, cap_offset) if flags & RegionFlag.CAPS else None
                    if areas is None:
                        areas = (MmapArea(0, size),) if flags & RegionFlag.MMAP else ()
                    fds = list(reply.fds)
                    reply.fds.clear()
                    return RegionInfo(size, flags, offset, areas), fds
                argsz = min(needed, self._max_transfer)
            finally:
                reply.close_fds()
        raise VfioUserError(errno.EPROTO, f"region {region}'s description doesn't fit into what the server asked for")

    def _unpack(self, layout: m.Layout, payload: bytes) -> tuple[int, ...]:
        if len(payload) < layout.size:
            self._stream.fail(errno.EPROTO, f"a reply of {len(payload)} bytes is too short")
        return layout.unpack_from(payload)


def _sparse_areas(payload: bytes, at: int) -> tuple[MmapArea, ...] | None:
    """The areas of the sparse mmap capability, None without one. Raises VfioUserError (EPROTO) for a broken chain."""
    try:
        for _ in range(16):
            if at == 0:
                return None
            kind, _, following = m.CAPABILITY.unpack_from(payload, at)
            if kind == m.CAPABILITY_SPARSE_MMAP:
                count, _ = m.SPARSE_MMAP.unpack_from(payload, at + m.CAPABILITY.size)
                first = at + m.CAPABILITY.size + m.SPARSE_MMAP.size
                if count * m.MMAP_AREA.size > len(payload) - first:
                    break
                return tuple(
                    MmapArea(*m.MMAP_AREA.unpack_from(payload, first + index * m.MMAP_AREA.size))
                    for index in range(count)
                )
            at = following
    except struct.error:
        pass
    raise VfioUserError(errno.EPROTO, "the region's capabilities make no sense")
