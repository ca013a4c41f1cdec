"""Interrupts: DEVICE_SET_IRQS and DEVICE_GET_IRQ_INFO of the protocol specification, which follows linux/vfio.h.

A client gives an eventfd a vector; signalling one is writing to it. Message-signalled vectors without an eventfd, or
masked, stay pending and are delivered once that changes. INTx is a level: a rise is signalled once and masks the line,
and unmasking (by message, or by the resample eventfd that the guest's end of interrupt triggers) signals again if the
level is still high.

Descriptors are owned here from `set_irqs` on. They are made non-blocking, and that before every use: the client could
take it back. A full eventfd is one that will be read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from pyvfio_user.messages import IrqFlag, IrqIndex, IrqSet

_DATA: Final = int(IrqSet.NONE | IrqSet.BOOL | IrqSet.EVENTFD)
_ACTION: Final = int(IrqSet.MASK | IrqSet.UNMASK | IrqSet.TRIGGER)
_ONE_OF: Final = frozenset(1 << bit for bit in range(6))

_INFO_FLAGS: Final = {
    IrqIndex.INTX: IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED,
    # Not NORESIZE: QEMU would then tear down every vector to add one.
    IrqIndex.MSI: IrqFlag.EVENTFD,
    IrqIndex.MSIX: IrqFlag.EVENTFD,
    IrqIndex.ERR: IrqFlag.EVENTFD,
    IrqIndex.REQ: IrqFlag.EVENTFD,
}


class Watcher(Protocol):
    """The part of an event loop that is needed to listen to eventfds."""

    def add_reader(self, fd: int, call: Callable[[], None]) -> None: ...

    def remove_reader(self, fd: int) -> None: ...


class _Vector:
    __slots__ = ("fd", "masked", "pending")

    def __init__(self) -> None:
        self.fd = -1
        self.masked = False
        self.pending = False

    def set_fd(self, fd: int) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd


class Irqs:
    """The interrupts of one client. `counts` are the vectors of INTx, MSI and MSI-X; ERR and REQ have one each."""

    def __init__(self, counts: Sequence[int], watcher: Watcher) -> None:
        self._watcher = watcher
        self._vectors = [[_Vector() for _ in range(count)] for count in (*counts, 1, 1)]
        self._level = False
        self._watched: dict[IrqSet, int] = {}  # INTx: what the client signals to mask or unmask

    def info(self, index: int) -> tuple[int, int]:
        """Flags and count for DEVICE_GET_IRQ_INFO. Raises OSError with EINVAL."""
        if not 0 <= index < len(self._vectors):
            raise OSError(errno.EINVAL, f"interrupt index {index}")
        count = len(self._vectors[index])
        return (int(_INFO_FLAGS[IrqIndex(index)]) if count else 0), count

    # --- From the device ---

    def fire(self, index: int, vector: int) -> None:
        """Signals a vector of MSI, MSI-X, ERR or REQ; it stays pending where it can't be. An unknown one is ignored."""
        vectors = self._vectors[index]
        if vector < len(vectors):
            entry = vectors[vector]
            if entry.fd >= 0 and not entry.masked:
                _signal(entry.fd)
            else:
                entry.pending = True

    def hold(self, index: int, vector: int) -> None:
        """Makes a vector pending without signalling it: the function may not send messages now."""
        vectors = self._vectors[index]
        if vector < len(vectors):
            vectors[vector].pending = True

    def release(self, index: int) -> None:
        """Delivers what `hold` has held, as far as it can be."""
        for entry in self._vectors[index]:
            self._deliver(entry)

    def intx(self, level: bool) -> None:
        """Drives the INTx line."""
        if level != self._level:
            self._level = level
            if level:
                self._update_intx()

    def pending_bits(self, index: int) -> int:
        """The vectors that wait to be delivered, as the bits of one number: the PBA."""
        return sum(1 << number for number, entry in enumerate(self._vectors[index]) if entry.pending)

    # --- From the client ---

    def set_irqs(self, index: int, flags: int, start: int, count: int, data: bytes, fds: list[int]) -> None:
        """DEVICE_SET_IRQS; `data` is what follows the fixed part. Takes what it keeps out of `fds`. Raises OSError with
        EINVAL."""
        if flags & ~(_DATA | _ACTION) or (flags & _DATA) not in _ONE_OF or (flags & _ACTION) not in _ONE_OF:
            raise OSError(errno.EINVAL, f"interrupt flags {flags:#x}")
        if index >= len(self._vectors):
            raise OSError(errno.EINVAL, f"interrupt index {index}")
        kind = flags & _DATA
        action = IrqSet(flags & _ACTION)
        if kind == IrqSet.NONE and action == IrqSet.TRIGGER and start == count == 0:
            if data or fds:
                raise OSError(errno.EINVAL, "disabling interrupts takes no data")
            self._disable(index)
            return
        vectors = self._vectors[index]
        if count == 0 or start + count > len(vectors):
            raise OSError(errno.EINVAL, f"vectors {start} to {start + count} of {len(vectors)}")
        if action != IrqSet.TRIGGER and index > IrqIndex.MSIX:
            raise OSError(errno.EINVAL, f"interrupt index {index} can't be masked")
        if len(data) != (count if kind == IrqSet.BOOL else 0):
            raise OSError(errno.EINVAL, f"{len(data)} bytes of data for {count} vectors")
        if len(fds) not in ((0, count) if kind == IrqSet.EVENTFD else (0,)):
            raise OSError(errno.EINVAL, f"{len(fds)} descriptors for {count} vectors")
        for fd in fds:
            _check_eventfd(fd)
        if kind == IrqSet.EVENTFD:
            if action == IrqSet.TRIGGER:
                self._assign(index, start, count, fds)
            else:
                self._watch(index, action, fds)
            return
        chosen = [vectors[start + i] for i in range(count) if kind == IrqSet.NONE or data[i]]
        for entry in chosen:
            self._act(index, entry, action)

    def close(self) -> None:
        """The client has gone: closes every descriptor."""
        for index in range(len(self._vectors)):
            self._disable(index)
        self._level = False

    # --- Inside ---

    def _assign(self, index: int, start: int, count: int, fds: list[int]) -> None:
        for number in range(count):
            entry = self._vectors[index][start + number]
            entry.set_fd(fds[number] if fds else -1)
            if index != IrqIndex.INTX:
                self._deliver(entry)
            elif fds:
                self._update_intx()
            else:
                entry.masked = False
        fds.clear()

    def _watch(self, index: int, action: IrqSet, fds: list[int]) -> None:
        """EVENTFD with MASK or UNMASK: the descriptor is the client's to signal and ours to watch. INTx only."""
        if index != IrqIndex.INTX:
            raise OSError(errno.EINVAL, "only INTx is masked by eventfd")
        self._unwatch(action)
        if fds:
            fd = fds.pop()
            self._watched[action] = fd
            self._watcher.add_reader(fd, lambda: self._watched_signal(fd, action))

    def _unwatch(self, action: IrqSet) -> None:
        fd = self._watched.pop(action, -1)
        if fd >= 0:
            self._watcher.remove_reader(fd)
            os.close(fd)

    def _watched_signal(self, fd: int, action: IrqSet) -> None:
        if take_signal(fd):
            self._act(IrqIndex.INTX, self._vectors[IrqIndex.INTX][0], action)

    def _act(self, index: int, entry: _Vector, action: IrqSet) -> None:
        if action == IrqSet.TRIGGER:
            if entry.fd >= 0:
                _signal(entry.fd)
            return
        entry.masked = action == IrqSet.MASK
        if entry.masked:
            return
        if index == IrqIndex.INTX:
            self._update_intx()
        else:
            self._deliver(entry)

    def _update_intx(self) -> None:
        line = self._vectors[IrqIndex.INTX]
        if self._level and line and line[0].fd >= 0 and not line[0].masked:
            line[0].masked = True
            _signal(line[0].fd)

    def _deliver(self, entry: _Vector) -> None:
        if entry.pending and entry.fd >= 0 and not entry.masked:
            entry.pending = False
            _signal(entry.fd)

    def _disable(self, index: int) -> None:
        for entry in self._vectors[index]:
            entry.set_fd(-1)
            entry.masked = entry.pending = False
        if index == IrqIndex.INTX:
            for action in (IrqSet.MASK, IrqSet.UNMASK):
                self._unwatch(action)


def take_signal(fd: int) -> bool:
    """Reads an eventfd that the client signals. False if it isn't signalled: the client may have read it itself.

    Never blocks, even where the client has made the open file, which it shares, blocking since.
    """
    try:
        os.preadv(fd, [bytearray(8)], -1, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # Linux before 5.8 doesn't know this way for eventfds
        try:
            os.set_blocking(fd, False)
            os.eventfd_read(fd)
        except BlockingIOError:
            return False
    return True


def _signal(fd: int) -> None:
    try:
        # Again and again: whether it blocks belongs to the open file, which the client shares and can change.
        os.set_blocking(fd, False)
        os.eventfd_write(fd, 1)
    except OSError:
        pass  # full: the reader will find it signalled


def _check_eventfd(fd: int) -> None:
    """Refuses anything else with EINVAL: a pipe, a socket or a file could block or be filled by us."""
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        target = "?"
    if target != "anon_inode:[eventfd]":
        raise OSError(errno.EINVAL, f"an interrupt's descriptor is {target}, not an eventfd")
    os.set_blocking(fd, False)
