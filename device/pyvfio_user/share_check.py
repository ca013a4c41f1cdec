"""Finds out whether the memory that a client shares is the memory its guest uses.

QEMU passes the descriptor of a memory backend even with `share=off`, when the guest runs on a private copy of it: the
device would read zeros and its writes would never arrive, without any error. So a few places that the device uses are
read both ways, through the mapping and by a DMA_READ message; if they keep differing, one plain line says why.

Nothing waits for the answers, and they cost a handful of messages a client.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

_SAMPLE: Final = 64  # bytes
_PLACES: Final = 16
_TRIES: Final = 3
_ASKS: Final = 64
_PAUSE: Final = 100_000_000  # ns between two questions
_PATIENCE: Final = 10_000_000_000  # ns for an answer

_log = logging.getLogger(__name__)

Ask = Callable[[int, int, Callable[[bytes | None], None]], None]
"""Sends a DMA_READ of (address, count) and calls back with the data, or None for an error."""


class ShareCheck:
    """One client's check: `note` collects places, `step` asks, the answer decides. `active` until then.

    `peek` returns what the mapping holds at (address, count), or None where that isn't mapped any more. `now` is a
    monotonic clock in ns.
    """

    def __init__(self, ask: Ask, peek: Callable[[int, int], bytes | None], now: Callable[[], int]) -> None:
        self.active = True
        self._ask = ask
        self._peek = peek
        self._now = now
        self._places: dict[int, int] = {}  # address: length, in order of use
        self._asked = 0
        self._asked_at = 0
        self._asking = False
        self._differing = 0

    def note(self, addr: int, length: int) -> None:
        """The device uses `length` mapped bytes at `addr`."""
        if length and len(self._places) < _PLACES:
            self._places.setdefault(addr, min(length, _SAMPLE))

    def step(self) -> None:
        """Asks about the next place, unless an answer is still due. Call it when no reply is owed to the client."""
        if not self.active or not self._places:
            return
        now = self._now()
        if self._asking:
            self.active = now < self._asked_at + _PATIENCE
            return
        if self._asked and now < self._asked_at + _PAUSE:
            return
        addr, length = next(iter(self._places.items()))
        before = self._peek(addr, length)
        if before is None:
            del self._places[addr]
        elif self._asked == _ASKS:
            self.active = False
        else:
            self._asked += 1
            self._asked_at = now
            self._asking = True
            self._ask(addr, length, partial(self._answered, addr, length, before))

    def _answered(self, addr: int, length: int, before: bytes, answer: bytes | None) -> None:
        self._asking = False
        after = self._peek(addr, length)
        if answer is None:
            self.active = False
        elif answer not in (before, after):  # or the guest is just writing there
            self._differing += 1
            if self._differing >= _TRIES:
                self.active = False
                _log.error(
                    "guest memory is a private copy: the device and the guest don't see each other's writes; "
                    "add share=on to the memory backend"
                )
        elif any(answer):
            self.active = False
        else:  # zeros tell nothing yet: another place, and this one again later
            self._differing = 0
            self._places[addr] = self._places.pop(addr)
