"""A client's memory that a device may reach: what DMA_MAP hands over, and the answers to DMA_READ and DMA_WRITE."""

from __future__ import annotations

import bisect
import errno
import fcntl
import mmap
import os
from dataclasses import dataclass
from typing import Final

from pyvfio_user.device import Buffer
from pyvfio_user.messages import DMA_ACCESS, Command, DmaMapFlag

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_READ_WRITE: Final = DmaMapFlag.READ | DmaMapFlag.WRITE


def sealed_memfd(size: int) -> int:
    """A new file of `size` bytes in memory that nobody can shrink: a server can map it without fear of SIGBUS."""
    fd = os.memfd_create("guest-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


@dataclass(frozen=True, slots=True)
class Mapping:
    """`size` bytes of memory at bus address `iova`, with the DMA_MAP flags that it was mapped with."""

    iova: int
    size: int
    flags: int
    memory: mmap.mmap
    view: memoryview


class ClientMemory:
    """The mappings of one client by bus address. They don't overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._mappings: list[Mapping] = []

    def __len__(self) -> int:
        return len(self._mappings)

    def add(self, iova: int, size: int, memory: mmap.mmap, flags: int = _READ_WRITE) -> Mapping:
        """Raises OSError (EEXIST) when it overlaps another."""
        index = bisect.bisect_left(self._starts, iova)
        after = self._mappings[index] if index < len(self._mappings) else None
        before = self._mappings[index - 1] if index else None
        if (after and after.iova < iova + size) or (before and iova < before.iova + before.size):
            raise OSError(errno.EEXIST, f"bus addresses {iova:#x} to {iova + size:#x} are mapped already")
        mapping = Mapping(iova, size, flags, memory, memoryview(memory)[:size])
        self._starts.insert(index, iova)
        self._mappings.insert(index, mapping)
        return mapping

    def find(self, iova: int) -> Mapping:
        """The mapping that starts at `iova`. Raises KeyError."""
        index = bisect.bisect_left(self._starts, iova)
        if index == len(self._starts) or self._starts[index] != iova:
            raise KeyError(iova)
        return self._mappings[index]

    def remove(self, iova: int) -> None:
        """Forgets a mapping; its memory goes when the last view of it does. Raises KeyError."""
        mapping = self.find(iova)
        index = self._mappings.index(mapping)
        del self._starts[index], self._mappings[index]
        _release(mapping)

    def clear(self) -> None:
        """Forgets them all."""
        for mapping in self._mappings:
            _release(mapping)
        self._starts.clear()
        self._mappings.clear()

    def read(self, addr: int, count: int) -> bytes:
        """What the server reads. Raises OSError: EFAULT where nothing readable is mapped."""
        return bytes(self._part(addr, count, DmaMapFlag.READ))

    def write(self, addr: int, data: Buffer) -> None:
        """What the server writes. Raises OSError: EFAULT where nothing writable is mapped."""
        self._part(addr, len(data), DmaMapFlag.WRITE)[:] = data

    def serve(self, command: int, payload: bytes, max_transfer: int) -> bytes:
        """The payload of the reply to a server's command. Raises OSError with the errno to answer instead."""
        if command not in (Command.DMA_READ, Command.DMA_WRITE):
            raise OSError(errno.ENOSYS, "not a command for a client")
        if len(payload) < DMA_ACCESS.size:
            raise OSError(errno.EINVAL, "too short")
        addr, count = DMA_ACCESS.unpack_from(payload)
        if count > max_transfer:
            raise OSError(errno.E2BIG, "more than max_data_xfer_size")
        head = payload[: DMA_ACCESS.size]
        if command == Command.DMA_READ:
            return head + self.read(addr, count)
        if len(payload) != DMA_ACCESS.size + count:
            raise OSError(errno.EINVAL, "data and count differ")
        self.write(addr, memoryview(payload)[DMA_ACCESS.size :])
        return head

    def _part(self, addr: int, count: int, flag: int) -> memoryview:
        index = bisect.bisect_right(self._starts, addr) - 1
        if index >= 0:
            found = self._mappings[index]
            at = addr - found.iova
            if at + count <= found.size and found.flags & flag:
                return found.view[at : at + count]
        raise OSError(errno.EFAULT, f"{count} bytes at {addr:#x} aren't mapped for that")


def _release(mapping: Mapping) -> None:
    mapping.view.release()
    try:
        mapping.memory.close()
    except BufferError:  # the caller still holds a view: the memory goes with it
        pass
