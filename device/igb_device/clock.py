"""Time as the card sees it: a monotonic clock in nanoseconds, and calls at a moment. Real, or simulated."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due; `cancel` takes it back (harmless when it has run)."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic time. `pyvfio_user.loop.EventLoop` is the real one, `SimClock` the simulated one."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""
        ...

    def call_at(self, when: int, call: Callable[[], None]) -> Timer:
        """Calls `call` once `now()` has reached `when` (ns). One that is past is called at the next turn."""
        ...


class _SimTimer:
    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class SimClock:
    """Time that moves only by `advance`: calls run in order of their due time, equal ones in order of asking."""

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._order = itertools.count()
        self._due: list[tuple[int, int, _SimTimer]] = []

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, call: Callable[[], None]) -> _SimTimer:
        timer = _SimTimer(call)
        heapq.heappush(self._due, (max(when, self._now), next(self._order), timer))
        return timer

    @property
    def next_due(self) -> int | None:
        """When the next call is due, or None."""
        while self._due and self._due[0][2].call is None:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def advance(self, ns: int) -> None:
        """Moves time on by `ns`, running what falls due at its own moment."""
        end = self._now + ns
        while (due := self.next_due) is not None and due <= end:
            _, _, timer = heapq.heappop(self._due)
            self._now = due
            call, timer.call = timer.call, None
            if call is not None:
                call()
        self._now = end
