"""Ioeventfds: DEVICE_GET_REGION_IO_FDS of the protocol specification.

A client (or KVM for it) signals an eventfd instead of sending a register write. The value written is lost unless
`datamatch` fixes it, so this suits doorbells whose value doesn't matter. QEMU's client never asks for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pyvfio_user.irq import Watcher, take_signal
from pyvfio_user.messages import IO_FD, IO_FD_FLAG_DATAMATCH, IO_FD_IOEVENTFD


@dataclass(frozen=True, slots=True)
class IoEvent:
    """A write of `size` bytes at `offset` that may be signalled: only of `datamatch`, or of any value if None."""

    offset: int
    size: int
    datamatch: int | None = None


@runtime_checkable
class IoEventDevice(Protocol):
    """What a device adds to offer ioeventfds. A signal arrives as a region_write of `datamatch`, or of zeros."""

    def io_events(self, region: int) -> Sequence[IoEvent]: ...


class IoEvents:
    """The eventfds of one client, made when it first asks for a region's. `written` gets (region, offset, data)."""

    def __init__(self, watcher: Watcher, written: Callable[[int, int, bytes], None]) -> None:
        self._watcher = watcher
        self._written = written
        self._fds: dict[tuple[int, IoEvent], int] = {}

    def offer(self, region: int, events: Sequence[IoEvent]) -> tuple[bytes, list[int]]:
        """The entries behind REGION_IO_FDS, and the descriptors that go with them, which stay this object's."""
        entries = []
        fds = []
        for number, event in enumerate(events):
            fds.append(self._fd(region, event))
            match = event.datamatch is not None
            entries.append(
                IO_FD.pack(
                    event.offset,
                    event.size,
                    number,
                    IO_FD_IOEVENTFD,
                    IO_FD_FLAG_DATAMATCH if match else 0,
                    0,
                    event.datamatch or 0,
                )
            )
        return b"".join(entries), fds

    def close(self) -> None:
        """The client has gone."""
        for fd in self._fds.values():
            self._watcher.remove_reader(fd)
            os.close(fd)
        self._fds.clear()

    def _fd(self, region: int, event: IoEvent) -> int:
        fd = self._fds.get((region, event))
        if fd is None:
            fd = self._fds[region, event] = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            data = (event.datamatch or 0).to_bytes(event.size, "little")
            self._watcher.add_reader(fd, lambda: self._signalled(fd, region, event.offset, data))
        return fd

    def _signalled(self, fd: int, region: int, offset: int, data: bytes) -> None:
        if take_signal(fd):
            self._written(region, offset, data)
