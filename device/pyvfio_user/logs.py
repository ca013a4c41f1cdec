"""Log lines that a client or a device can cause without end, kept to a few a period."""

from __future__ import annotations

import logging
import time
from typing import Final

_PERIOD_NS: Final = 10_000_000_000


class LimitedLog:
    """Passes on `burst` lines in ten seconds and counts the rest, which the first line of a later period tells."""

    def __init__(self, logger: logging.Logger, burst: int = 5) -> None:
        self._logger = logger
        self._burst = burst
        self._period_end = 0
        self._lines = 0

    def log(self, level: int, text: str, *args: object, exc_info: bool = False) -> None:
        """As `logging.Logger.log`. `exc_info` adds the traceback of the exception being handled."""
        now = time.monotonic_ns()
        if now >= self._period_end:
            if self._lines > self._burst:
                self._logger.log(level, "%d more messages like the last were left out", self._lines - self._burst)
            self._period_end = now + _PERIOD_NS
            self._lines = 0
        self._lines += 1
        if self._lines <= self._burst:
            self._logger.log(level, text, *args, exc_info=exc_info)
