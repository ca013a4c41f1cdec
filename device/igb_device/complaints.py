"""What a guest did wrong, told to whoever runs the card: log lines at a bounded rate.

A guest can stop and restart a queue as fast as it writes registers. Each stop is counted; a few are logged, and once
an interval has passed the next line says how many weren't.
"""

from __future__ import annotations

import logging

from igb_device.clock import Clock

log = logging.getLogger(__name__)

BURST = 10
"""Lines in an interval."""

INTERVAL_NS = 10_000_000_000


class Complaints:
    """`stops` counts the queues that were stopped since power on."""

    def __init__(self, clock: Clock) -> None:
        self.stops = 0
        self._clock = clock
        self._since = clock.now()
        self._lines = 0
        self._unsaid = 0

    def stopped(self, direction: str, queue: int, reason: str) -> None:
        """The card gave a queue up. `direction` is "receive" or "transmit"."""
        self.stops += 1
        now = self._clock.now()
        if now - self._since >= INTERVAL_NS:
            if self._unsaid:
                log.warning("queues were stopped %d times more", self._unsaid)
            self._since = now
            self._lines = self._unsaid = 0
        if self._lines >= BURST:
            self._unsaid += 1
            return
        self._lines += 1
        log.warning("%s queue %d stopped: %s", direction, queue, reason)
