"""`MemoryHost`: a `Host` whose guest memory is this process's own. For tests, and for a bus without a socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pyvfio_user.device import Buffer, DmaError

WritableBuffer: TypeAlias = bytearray | memoryview


@dataclass(slots=True)
class _Range:
    start: int
    end: int
    data: memoryview
    readable: memoryview
    writable: bool
    shared: bool


# Where the search starts: no address, not even for a length of 0, lies in it.
_NOWHERE = _Range(1, 0, memoryview(b""), memoryview(b""), False, False)


def _always() -> bool:
    return True


def _no_vector(vector: int) -> None:
    pass


def _no_level(level: bool) -> None:
    pass


class MemoryHost:
    """Guest memory at bus addresses, and a record of the interrupts that came.

    `bus_master` is asked at each access (give it the device's property of that name); while it says False, every
    access raises DmaError and message-signalled interrupts pend. A change of it bumps `generation`, at the next access
    or at `update`, which the owner calls after a write to configuration space.

    `interrupts` lists the vectors signalled, `intx_level` is the line. `on_interrupt` and `on_intx` are called too.
    A vector in `masked` isn't signalled but pends, until `unmask`. `fail` makes a range raise, for tests of faults.
    """

    def __init__(self, size: int = 0, base: int = 0, *, bus_master: Callable[[], bool] = _always) -> None:
        self.generation = 0
        self.interrupts: list[int] = []
        self.intx_level = False
        self.on_interrupt: Callable[[int], None] = _no_vector
        self.on_intx: Callable[[bool], None] = _no_level
        self.masked: set[int] = set()
        self.pending: set[int] = set()
        self._bus_master = bus_master
        self._was_master = bus_master()
        self._ranges: list[_Range] = []
        self._faults: list[range] = []
        self._current = _NOWHERE
        if size:
            self.add(base, size)

    # The memory.

    def add(self, base: int, memory: int | WritableBuffer, *, writable: bool = True, shared: bool = True) -> memoryview:
        """Puts memory at bus address `base`: of that many bytes, or a buffer of the caller's. Returns it.

        With `shared` False it is reachable only by `read` (a copy) and `write`, as memory behind messages is.
        Raises ValueError when it overlaps what is there.
        """
        data = memoryview(bytearray(memory) if isinstance(memory, int) else memory).cast("B")
        end = base + len(data)
        if base < 0 or end > 1 << 64 or any(r.start < end and base < r.end for r in self._ranges):
            raise ValueError(f"memory at {base:#x} to {end:#x} overlaps other memory or the end of the address space")
        self._ranges.append(_Range(base, end, data, data.toreadonly(), writable, shared))
        self.generation += 1
        return data

    def remove(self, base: int) -> None:
        """Takes away the memory added at `base`. Raises KeyError."""
        for index, found in enumerate(self._ranges):
            if found.start == base:
                del self._ranges[index]
                self._current = _NOWHERE
                self.generation += 1
                return
        raise KeyError(base)

    def fail(self, start: int, length: int) -> None:
        """From now on an access that touches these addresses raises DmaError, until `heal`."""
        self._faults.append(range(start, start + length))
        self.generation += 1

    def heal(self) -> None:
        """Takes back all of `fail`."""
        self._faults.clear()
        self.generation += 1

    def update(self) -> None:
        """Looks whether bus mastering has changed."""
        master = self._bus_master()
        if master is not self._was_master:
            self._was_master = master
            self.generation += 1
            if master:
                for vector in sorted(self.pending - self.masked):
                    self.unmask(vector)

    # Host.

    def read(self, addr: int, length: int) -> memoryview:
        found = self._current
        if not (found.start <= addr and addr + length <= found.end) or self._faults:
            self._check_faults(addr, length)
            found = self._find(addr, length)
        if self._bus_master() is not self._was_master or not self._was_master:
            self._check_master(addr, length)
        if addr + length > found.end:
            return memoryview(b"".join(part.readable[at : at + count] for part, at, count in self._parts(addr, length)))
        at = addr - found.start
        data = found.readable[at : at + length]
        return data if found.shared else memoryview(bytes(data))

    def write(self, addr: int, data: Buffer) -> None:
        length = len(data)
        found = self._current
        if not (found.start <= addr and addr + length <= found.end) or self._faults:
            self._check_faults(addr, length)
            found = self._find(addr, length)
        if self._bus_master() is not self._was_master or not self._was_master:
            self._check_master(addr, length)
        if addr + length > found.end:
            parts = self._parts(addr, length)
            if not all(part.writable for part, _, _ in parts):
                raise DmaError(addr, length, "read-only")
            done = 0
            for part, at, count in parts:
                part.data[at : at + count] = data[done : done + count]
                done += count
            return
        if not found.writable:
            raise DmaError(addr, length, "read-only")
        at = addr - found.start
        found.data[at : at + length] = data

    def view(self, addr: int, length: int) -> memoryview | None:
        found = self._current
        if not (found.start <= addr and addr + length <= found.end) or self._faults:
            self._check_faults(addr, length)
            found = self._find(addr, length)
        if self._bus_master() is not self._was_master or not self._was_master:
            self._check_master(addr, length)
        if addr + length > found.end:
            self._parts(addr, length)
            return None
        if not found.shared:
            return None
        if not found.writable:
            raise DmaError(addr, length, "read-only")
        at = addr - found.start
        return found.data[at : at + length]

    def interrupt(self, vector: int) -> None:
        if vector in self.masked or not self._bus_master():
            self.pending.add(vector)
            return
        self.interrupts.append(vector)
        self.on_interrupt(vector)

    def intx(self, level: bool) -> None:
        if level is not self.intx_level:
            self.intx_level = level
            self.on_intx(level)

    def unmask(self, vector: int) -> None:
        """Delivers the vector if it pends."""
        self.masked.discard(vector)
        if vector in self.pending:
            self.pending.discard(vector)
            self.interrupt(vector)

    def pending_bits(self) -> int:
        """The pending bit array as one number, as `MsixTable` wants it."""
        return sum(1 << vector for vector in self.pending)

    def _check_faults(self, addr: int, length: int) -> None:
        for fault in self._faults:
            if fault.start < addr + length and addr < fault.stop:
                raise DmaError(addr, length, "fault")

    def _find(self, addr: int, length: int) -> _Range:
        """The range in which an access starts."""
        for found in self._ranges:
            if found.start <= addr < found.end or (addr == found.end and not length):
                self._current = found
                return found
        raise DmaError(addr, length)

    def _parts(self, addr: int, length: int) -> list[tuple[_Range, int, int]]:
        """An access that crosses from one range into the next: each with an offset and a count."""
        parts = []
        at, end = addr, addr + length
        while at < end:
            try:
                found = self._find(at, end - at)
            except DmaError:
                raise DmaError(addr, length) from None
            stop = min(found.end, end)
            parts.append((found, at - found.start, stop - at))
            at = stop
        return parts

    def _check_master(self, addr: int, length: int) -> None:
        self.update()
        if not self._was_master:
            raise DmaError(addr, length, "bus mastering is off")
