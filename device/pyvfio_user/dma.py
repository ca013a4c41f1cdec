"""The table of guest memory: what DMA_MAP and DMA_UNMAP of the protocol specification set up and take down.

A map is reached in one of three ways, best first:

- mapped: its file can't shrink (F_SEAL_SHRINK is set, or could be added), so it is mapped into this process;
- file: the client could truncate the file, and touching a mapping beyond its end would kill this process (SIGBUS), so
  it is read and written by pread(2) and pwrite(2), which merely fail;
- message: no descriptor came with it, or that of a file without pwrite(2) (hugetlbfs has none); only DMA_READ and
  DMA_WRITE reach it.

Addresses and sizes are in bytes.
"""

from __future__ import annotations

import errno
import fcntl
import logging
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
_TOP: Final = 1 << 64
_FLAGS: Final = int(DmaMapFlag.READ | DmaMapFlag.WRITE)  # int: ~ of an IntFlag keeps to its own bits

_log = logging.getLogger(__name__)


class _File:
    """A file of guest memory, opened or mapped once for all maps of it: behind a virtual IOMMU they are tens of
    thousands, more than a process may have descriptors or mappings. It is mapped as a whole, for the parts of one in
    huge pages can't be."""

    __slots__ = ("_mapping", "fd", "key", "memory", "reading", "size", "users")

    def __init__(self, key: tuple[int, int, bool, bool]) -> None:
        self.key = key
        self.users = 0
        self.size = 0
        self.fd = -1
        self.memory: memoryview | None = None
        self.reading: memoryview | None = None
        self._mapping: mmap.mmap | None = None

    def map(self, fd: int, size: int, writable: bool) -> None:
        """Raises OSError."""
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        try:
            self._mapping = mmap.mmap(fd, size, mmap.MAP_SHARED, protection)
        except (ValueError, OverflowError) as error:  # it has shrunk since it was looked at
            raise OSError(errno.EINVAL, str(error)) from None
        self.memory = memoryview(self._mapping)
        self.reading = self.memory.toreadonly()
        self.size = size

    def close(self) -> None:
        """Where somebody still holds a view, the mapping goes when that does."""
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


class DmaMap:
    """One range of bus addresses, `addr` up to but not including `end`.

    `memory` is the live, writable view of a mapped range (`reading` the same, read-only), else None. `fd` is the
    descriptor of a file range, which lies at `offset` there, else -1.
    """

    __slots__ = ("addr", "end", "fd", "file", "memory", "offset", "readable", "reading", "writable")

    def __init__(self, addr: int, size: int, flags: int) -> None:
        self.addr = addr
        self.end = addr + size
        self.readable = bool(flags & DmaMapFlag.READ)
        self.writable = bool(flags & DmaMapFlag.WRITE)
        self.file: _File | None = None
        self.fd = -1
        self.offset = 0
        self.memory: memoryview | None = None
        self.reading: memoryview | None = None

    @property
    def is_message(self) -> bool:
        return self.file is None

    def use(self, file: _File, offset: int) -> None:
        """Makes `file` this range's memory, from `offset` on."""
        self.file = file
        file.users += 1
        self.fd = file.fd
        self.offset = offset
        if file.memory is not None and file.reading is not None:
            place = slice(offset, offset + self.end - self.addr)
            self.memory = file.memory[place]
            self.reading = file.reading[place]


def _cannot_shrink(fd: int) -> bool:
    """Whether the file can't be truncated under us, if need be because it is sealed now."""
    try:
        if fcntl.fcntl(fd, _F_GET_SEALS) & _F_SEAL_SHRINK:
            return True
        fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK)
    except OSError:  # not a memfd, sealed against sealing, or not writable
        return False
    return True


def _has_pwrite(fd: int) -> bool:
    try:
        os.pwrite(fd, b"", 0)
    except OSError:
        return False
    return True


class DmaTable:
    """The maps of one client, sorted by address, never overlapping.

    `map_unsealed` maps files that the client could shrink as well: fast, but then the client can kill this process.
    """

    def __init__(self, max_maps: int = 65535, map_unsealed: bool = False) -> None:
        self.max_maps = max_maps
        self._map_unsealed = map_unsealed
        self._files: dict[tuple[int, int, bool, bool], _File] = {}
        self._warned = False
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
        if fds and (file := self._open(fds, offset + size, new.writable)) is not None:
            new.use(file, offset)
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
        self._release(found)

    def clear(self) -> None:
        """DMA_UNMAP of everything."""
        maps, self._maps, self._starts = self._maps, [], []
        for gone in maps:
            self._release(gone)

    def _open(self, fds: list[int], end: int, writable: bool) -> _File | None:
        """The file of `fds`, whose descriptor is taken out where it is kept; None if only messages will do. Raises
        OSError: not a regular file, shorter than `end`, not open for what the map permits."""
        fd = fds[0]
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "guest memory must be a regular file or a memfd")
        mapped = self._map_unsealed or _cannot_shrink(fd)
        length = os.fstat(fd).st_size  # only now: it may have shrunk until it was sealed
        if end > length:
            raise OSError(errno.EINVAL, f"the map ends at {end:#x} of a file of {length:#x} bytes")
        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if access == os.O_WRONLY or (writable and access == os.O_RDONLY):
            raise OSError(errno.EACCES, "the descriptor isn't open for what the map permits")
        if not mapped:
            self._warn_once()
            if writable and not _has_pwrite(fd):
                return None
        key = (info.st_dev, info.st_ino, writable, mapped)
        file = self._files.get(key)
        if file is None or (mapped and file.size < end):  # if it has grown, older maps keep what they have
            file = _File(key)
            if mapped:
                file.map(fd, length, writable)
            else:
                file.fd = fds.pop()
            self._files[key] = file
        return file

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "guest memory is in a file that the client could shrink, so it isn't mapped, and DMA is slow: "
                "memory-backend-memfd has no such file"
            )

    def _release(self, gone: DmaMap) -> None:
        file, gone.file = gone.file, None
        gone.fd = -1
        gone.memory = gone.reading = None
        if file is not None:
            file.users -= 1
            if not file.users:
                if self._files.get(file.key) is file:
                    del self._files[file.key]
                file.close()
