"""Migration: the states of DEVICE_FEATURE's MIG_DEVICE_STATE (linux/vfio.h, "vfio_device_mig_state"), and the data that
MIG_DATA_READ and MIG_DATA_WRITE carry.

A device that can be migrated implements `MigratableDevice` beside `PciDevice`. QEMU's vfio-user client uses none of
this (as of 11.1): it migrates a guest without the device's state. Other clients, libvfio-user's among them, do.
Peer-to-peer states aren't offered, and pre-copy yields no data: a card's state is small.
"""

from __future__ import annotations

import enum
import errno
import itertools
from collections import deque
from typing import Final, Protocol, runtime_checkable

from pyvfio_user.messages import MigrationFlag


@runtime_checkable
class MigratableDevice(Protocol):
    """What a device adds to be saved and restored."""

    def quiesce(self) -> None:
        """Stops: no DMA, no interrupts and no change of state until `resume` (or a reset)."""
        ...

    def resume(self) -> None:
        """Goes on where `quiesce`, or the state that `load` has set, left off."""
        ...

    def save(self) -> bytes:
        """The whole state, of a device that is stopped."""
        ...

    def load(self, data: bytes) -> None:
        """Takes over a state that `save` returned, of a device that is stopped. Raises ValueError for anything else."""
        ...


class State(enum.IntEnum):
    ERROR = 0
    STOP = 1
    RUNNING = 2
    STOP_COPY = 3
    RESUMING = 4
    RUNNING_P2P = 5
    PRE_COPY = 6
    PRE_COPY_P2P = 7


FLAGS: Final = MigrationFlag.STOP_COPY | MigrationFlag.PRE_COPY

ARCS: Final[dict[tuple[State, State], tuple[str, ...]]] = {
    (State.RUNNING, State.STOP): ("quiesce",),
    (State.STOP, State.RUNNING): ("resume",),
    (State.STOP, State.STOP_COPY): ("save",),
    (State.STOP_COPY, State.STOP): ("discard",),
    (State.STOP, State.RESUMING): ("discard",),
    (State.RESUMING, State.STOP): ("load",),
    (State.RUNNING, State.PRE_COPY): ("discard",),
    (State.PRE_COPY, State.RUNNING): ("discard",),
    (State.PRE_COPY, State.STOP_COPY): ("quiesce", "save"),
}
"""The direct transitions, and what is done in each. All others go by the shortest way over these."""

_SAVING: Final = frozenset({State.STOP_COPY, State.PRE_COPY})
_NEVER: Final = frozenset({(State.STOP_COPY, State.PRE_COPY)})
_MAX_STATE: Final = 64 << 20  # bytes of saved state accepted


def path(start: State, end: State) -> list[tuple[State, State]] | None:
    """The direct transitions from `start` to `end`, [] if that is the same, None where there's no way. No saving state
    lies in between: half-saved data would be lost unnoticed."""
    if (start, end) in _NEVER:
        return None
    ways: deque[list[State]] = deque([[start]])
    seen = {start}
    while ways:
        way = ways.popleft()
        here = way[-1]
        if here == end:
            return list(itertools.pairwise(way))
        if here != start and here in _SAVING:
            continue
        for source, target in ARCS:
            if source == here and target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return None


class Migration:
    """The migration state of one device; `state` is ERROR once a transition has failed, until `reset`."""

    def __init__(self, device: MigratableDevice) -> None:
        self.state = State.RUNNING
        self._device = device
        self._data = bytearray()  # saved and not read yet, or received
        self._read = 0

    @property
    def running(self) -> bool:
        return self.state in (State.RUNNING, State.PRE_COPY)

    def reset(self) -> None:
        """The device has been reset: it runs."""
        self.state = State.RUNNING
        self._discard()

    def set_state(self, number: int) -> None:
        """Goes to a state by the shortest way. Raises OSError with EINVAL where there's none, or where loaded data
        isn't a state; then, and when the device raises, the state is ERROR."""
        try:
            steps = path(self.state, State(number))
        except ValueError:
            steps = None
        if steps is None:
            raise OSError(errno.EINVAL, f"no way from migration state {self.state.name} to {number}")
        for arc in steps:
            try:
                for action in ARCS[arc]:
                    getattr(self, f"_{action}")()
            except ValueError as error:
                self.state = State.ERROR
                raise OSError(errno.EINVAL, f"migration data refused: {error}") from None
            except BaseException:
                self.state = State.ERROR
                raise
            self.state = arc[1]

    def read(self, size: int) -> bytes:
        """MIG_DATA_READ: up to `size` bytes of saved state, none at its end. Raises OSError with EINVAL."""
        if self.state not in _SAVING:
            raise OSError(errno.EINVAL, f"migration data read in state {self.state.name}")
        data = bytes(memoryview(self._data)[self._read : self._read + size])
        self._read += len(data)
        return data

    def write(self, data: bytes) -> None:
        """MIG_DATA_WRITE. Raises OSError with EINVAL or ENOSPC."""
        if self.state != State.RESUMING:
            raise OSError(errno.EINVAL, f"migration data written in state {self.state.name}")
        if len(self._data) + len(data) > _MAX_STATE:
            raise OSError(errno.ENOSPC, f"more than {_MAX_STATE} bytes of migration data")
        self._data += data

    def _quiesce(self) -> None:
        self._device.quiesce()

    def _resume(self) -> None:
        self._device.resume()

    def _save(self) -> None:
        self._discard()
        self._data = bytearray(self._device.save())

    def _load(self) -> None:
        self._device.load(bytes(self._data))
        self._discard()

    def _discard(self) -> None:
        self._data = bytearray()
        self._read = 0
