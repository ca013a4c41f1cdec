"""The table of guest memory: what DMA_MAP and DMA_UNMAP of the protocol specification set up and take down.

A map is reached in one of three ways, best first:

- mapped: its file can't shrink (F_SEAL_SHRINK is set, or could be added), so it is mapped into this process;
- file: the client could truncate the file, and touching a mapping beyond its end would kill this process (SIGBUS), so
  it is read and written by pread(2) and pwrite(2), which merely fail;
- message: no descriptor came with it, only DMA_READ and DMA_WRITE reach it.

Addresses and sizes are in bytes.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from pyvfio_user.messages import DmaMapFlag

_F_ADD_SEALS: Final = 1033
_F_GET_SEALS: Final = 1034
_F_SEAL_SHRINK: Final = 2
_PAGE: Final = mmap.PAGESIZE
_TOP: Final = 1 << 64
_FLAGS: Final = int(DmaMapFlag.READ | DmaMapFlag.WRITE)  # int: ~ of an IntFlag keeps to its own bits


class DmaMap:
    """One range of bus addresses, `addr` up to but not including `end`.

    `memory` is the live, writable view of a mapped range (`reading` the same, read-only), else None. `fd` is the
    file of a file range, which this object owns, else -1; it lies at `offset` there.
    """

    __slots__ = ("_mapping", "addr", "end", "fd", "memory", "offset", "readable", "reading", "writable")

    def __init__(self, addr: int, size: int, flags: int) -> None:
        self.addr = addr
        self.end = addr + size
        self.readable = bool(flags & DmaMapFlag.READ)
        self.writable = bool(flags & DmaMapFlag.WRITE)
        self.fd = -1
        self.offset = 0
        self.memory: memoryview | None = None
        self.reading: memoryview | None = None
        self._mapping: mmap.mmap | None = None

    @property
    def is_message(self) -> bool:
        return self.memory is None and self.fd < 0

    def open(self, fd: int, offset: int, map_unsealed: bool) -> bool:
        """Makes `fd` this range's memory. True if it has been kept for reading and writing; False if it isn't needed
        any more, being mapped. Raises OSError: not a regular file, too short, not open for what `flags` promise."""
        size = self.end - self.addr
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "guest memory must be a regular file or a memfd")
        mappable = map_unsealed or _cannot_shrink(fd)
        length = os.fstat(fd).st_size  # only now: it may have shrunk until it was sealed
        if offset + size > length:
            raise OSError(errno.EINVAL, f"the map ends at {offset + size:#x} of a file of {length:#x} bytes")
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if access == os.O_WRONLY or (self.writable and access == os.O_RDONLY):
            raise OSError(errno.EACCES, "the descriptor isn't open for what the map permits")
        if not mappable:
            self.fd = fd
            self.offset = offset
            return True
        start = offset % _PAGE
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if self.writable else 0)
        self._mapping = mmap.mmap(fd, start + size, mmap.MAP_SHARED, protection, offset=offset - start)
        memory = memoryview(self._mapping)[start:]
        self.reading = memory.toreadonly()
        self.memory = memory
        return False

    def close(self) -> None:
        """Ends the range. Where somebody still holds a view, the mapping goes when that does."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        mapping, self._mapping = self._mapping, None
        self.memory = self.reading = None
        if mapping is not None:
            try:
                mapping.close()
            except BufferError:
                pass


def _cannot_shrink(fd: int) -> bool:
    """Whether the file can't be truncated under us, if need be because it is sealed now."""
    try:
        if fcntl.fcntl(fd, _F_GET_SEALS) & _F_SEAL_SHRINK:
            return True
        fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK)
    except OSError:  # not a memfd, sealed against sealing, or not writable
        return False
    return True


class DmaTable:
    """The maps of one client, sorted by address, never overlapping.

    `map_unsealed` maps files that the client could shrink as well: fast, but then the client can kill this process.
    """

    def __init__(self, max_maps: int = 65535, map_unsealed: bool = False) -> None:
        self.max_maps = max_maps
        self._map_unsealed = map_unsealed
        self._starts: list[int] = []
        self._maps: list[DmaMap] = []

    def __len__(self) -> int:
        return len(self._maps)

    def __iter__(self) -> Iterator[DmaMap]:
        return iter(self._maps)

    def find(self, addr: int) -> DmaMap | None:
        """The map that holds the byte at `addr`."""
        position = bisect_right(self._starts, addr) - 1
        if position < 0:
            return None
        found = self._maps[position]
        return found if addr < found.end else None

    def add(self, addr: int, size: int, flags: int, offset: int, fds: list[int]) -> None:
        """DMA_MAP. Takes the descriptor out of `fds` where it keeps it. Raises OSError with EINVAL (size, flags,
        wrap-around, descriptors, file), EEXIST (overlap), ENOSPC (max_maps), EACCES (descriptor's mode), or what
        mmap(2) says."""
        if size == 0 or addr + size > _TOP or offset + size > 1 << 63:
            raise OSError(errno.EINVAL, f"map of {size:#x} bytes at {addr:#x}")
        if not flags or flags & ~_FLAGS:
            raise OSError(errno.EINVAL, f"map flags {flags:#x}")
        if len(fds) > 1:
            raise OSError(errno.EINVAL, f"{len(fds)} descriptors for one map")
        if len(self._maps) >= self.max_maps:
            raise OSError(errno.ENOSPC, f"more than {self.max_maps} maps")
        position = bisect_right(self._starts, addr)
        if (position and self._maps[position - 1].end > addr) or (
            position < len(self._maps) and self._starts[position] < addr + size
        ):
            raise OSError(errno.EEXIST, f"map of {size:#x} bytes at {addr:#x} overlaps another")
        new = DmaMap(addr, size, flags)
        if fds and new.open(fds[0], offset, self._map_unsealed):
            fds.clear()
        self._starts.insert(position, addr)
        self._maps.insert(position, new)

    def exact(self, addr: int, size: int) -> DmaMap:
        """The map of exactly this range. Raises OSError with ENOENT."""
        found = self.find(addr)
        if found is None or found.addr != addr or found.end != addr + size:
            raise OSError(errno.ENOENT, f"no map of {size:#x} bytes at {addr:#x}")
        return found

    def remove(self, addr: int, size: int) -> None:
        """DMA_UNMAP of exactly one map. Raises OSError with ENOENT."""
        found = self.exact(addr, size)
        position = bisect_right(self._starts, addr) - 1
        del self._starts[position], self._maps[position]
        found.close()

    def clear(self) -> None:
        """DMA_UNMAP of everything."""
        maps, self._maps, self._starts = self._maps, [], []
        for gone in maps:
            gone.close()
