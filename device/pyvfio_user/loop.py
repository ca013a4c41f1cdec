"""The event loop: descriptors by epoll(7), timers by timerfd(2). One thread; the real-time `Clock` of a device.

Thin on purpose: a wake-up costs one epoll_wait and one dictionary look-up a descriptor. Callbacks must use
non-blocking descriptors and put up with a call when nothing is there: a descriptor closed and its number reused within
a turn can inherit an event. An exception from a callback leaves `run` or `run_once`; nothing is lost, the next turn
goes on with what was left.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from pyvfio_user import timerfd

_READ: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_WRITE: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_COMPACT: Final = 256
"""Cancelled timers stay in the heap until they are so many, and half of it."""

Callback = Callable[[], None]


class LoopTimer:
    """A call that is due; `cancel` takes it back (harmless when it has run)."""

    __slots__ = ("_loop", "call")

    def __init__(self, call: Callback, loop: EventLoop) -> None:
        self.call: Callback | None = call
        self._loop = loop

    def cancel(self) -> None:
        if self.call is not None:
            self.call = None
            self._loop.note_cancelled()


class EventLoop:
    """Runs callbacks as descriptors become ready and timers fall due, until `stop`.

    Owns three descriptors until `close`; those that it watches stay their owners'.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._timers: list[tuple[int, int, LoopTimer]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._ready: deque[LoopTimer] = deque()  # due timers of this turn that haven't run yet
        self._stopped = False
        self._armed = 0  # when the timerfd expires; 0: not armed
        self._timer_fd = timerfd.create()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.add_reader(self._timer_fd, self._timer_expired)
        self.add_reader(self._wake_fd, self._woken)

    def close(self) -> None:
        """Closes the loop's own descriptors. Nothing may be called afterwards."""
        self._epoll.close()
        os.close(self._timer_fd)
        os.close(self._wake_fd)

    # --- Descriptors ---

    def add_reader(self, fd: int, call: Callback) -> None:
        """Calls `call` whenever `fd` is readable, at end of file, or broken; replaces the reader before.
        Raises PermissionError for a file that can't be waited on (a regular file)."""
        self._update(fd, call, self._writers.get(fd))

    def add_writer(self, fd: int, call: Callback) -> None:
        """Calls `call` whenever `fd` can be written to, or is broken; replaces the writer before."""
        self._update(fd, self._readers.get(fd), call)

    def remove_reader(self, fd: int) -> None:
        """Takes the reader back, even when it was about to be called. Harmless when there's none. Call it before
        `fd` is closed."""
        self._update(fd, None, self._writers.get(fd))

    def remove_writer(self, fd: int) -> None:
        """As `remove_reader`, for the writer."""
        self._update(fd, self._readers.get(fd), None)

    def _update(self, fd: int, reader: Callback | None, writer: Callback | None) -> None:
        known = fd in self._readers or fd in self._writers
        mask = (select.EPOLLIN if reader else 0) | (select.EPOLLOUT if writer else 0)
        if mask and known:
            self._epoll.modify(fd, mask)
        elif mask:
            self._epoll.register(fd, mask)
        elif known:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already: the kernel has removed it
        for table, call in ((self._readers, reader), (self._writers, writer)):
            if call is None:
                table.pop(fd, None)
            else:
                table[fd] = call

    # --- Time ---

    def now(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def call_at(self, when: int, call: Callback) -> LoopTimer:
        """Calls `call` once `now()` has reached `when` (ns). One that is past is called at the next turn."""
        timer = LoopTimer(call, self)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def note_cancelled(self) -> None:
        """A timer in the heap has been cancelled. For LoopTimer."""
        self._cancelled += 1
        if self._cancelled > _COMPACT and self._cancelled > len(self._timers) // 2:
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _timer_expired(self) -> None:
        self._armed = 0
        try:
            os.read(self._timer_fd, 8)
        except BlockingIOError:
            pass  # armed anew in this very turn

    def _next_due(self) -> int | None:
        timers = self._timers
        while timers and timers[0][2].call is None:
            heapq.heappop(timers)
            self._cancelled -= 1
        return timers[0][0] if timers else None

    def _run_timers(self) -> None:
        due = self._next_due()
        if due is None and not self._ready:
            return
        now = time.monotonic_ns()
        # Taken out before the first one runs: what they ask for is the next turn's, even if past.
        while due is not None and due <= now:
            self._ready.append(heapq.heappop(self._timers)[2])
            due = self._next_due()
        while self._ready:
            timer = self._ready.popleft()
            call, timer.call = timer.call, None
            if call is not None:
                call()

    # --- Running ---

    def run(self) -> None:
        """Turns until `stop` has been called. Returns at once if that was before."""
        while not self._stopped:
            self.run_once()
        self._stopped = False

    def stop(self) -> None:
        """Makes `run` return after the present turn. May be called from a callback, a signal handler or a thread."""
        self._stopped = True
        os.eventfd_write(self._wake_fd, 1)

    def run_once(self, timeout: float | None = None) -> None:
        """One turn: waits up to `timeout` seconds (None: until something happens), calls what is ready, then what is
        due."""
        due = self._next_due()
        if self._ready:
            timeout = 0
        elif due is not None:
            if due <= time.monotonic_ns():
                timeout = 0
            elif not self._armed or due < self._armed:
                # One armed for an earlier moment than needed is left: waking up for nothing is cheaper than re-arming
                # at every turn.
                timerfd.arm(self._timer_fd, due)
                self._armed = due
        for fd, events in self._epoll.poll(timeout):
            if events & _READ and (call := self._readers.get(fd)) is not None:
                call()
            if events & _WRITE and (call := self._writers.get(fd)) is not None:
                call()
        self._run_timers()

    def _woken(self) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            pass
