"""The IEEE 1588 clock (82576 datasheet section 7.9.2): SYSTIM grows by TIMINCA's increment every period of 16 ns.

Left out: time stamps of frames, adjustment by TIMADJ, and the auxiliary outputs.
"""

from __future__ import annotations

from igb_device.clock import Clock
from igb_device.registers import RegisterFile
from igb_hw.registers import MAP

_TICK_NS = 16
_MASK = (1 << 64) - 1
_TIMINCA = MAP["TIMINCA"].offset >> 2


class Ptp:
    """SYSTIM, written and read as two halves; reading the low one holds the high one."""

    def __init__(self, regs: RegisterFile, clock: Clock) -> None:
        self._words = regs.words
        self._clock = clock
        self._store = regs.store
        self.reset()

    def reset(self) -> None:
        self._base = 0
        self._since = self._clock.now()
        self._held_high = 0
        self._low = 0

    def now(self) -> int:
        """SYSTIM at this moment."""
        timinca = self._words[_TIMINCA]
        period = (timinca >> 24) * _TICK_NS
        if not period:
            return self._base
        return self._base + (self._clock.now() - self._since) // period * (timinca & 0xFFFFFF) & _MASK

    def _set(self, value: int) -> None:
        self._base = value & _MASK
        self._since = self._clock.now()

    def write_timinca(self, _: int, value: int) -> None:
        self._set(self.now())
        self._store(_TIMINCA, value)

    def read_low(self, _: int) -> int:
        value = self.now()
        self._held_high = value >> 32
        return value & 0xFFFFFFFF

    def read_high(self, _: int) -> int:
        return self._held_high

    def write_low(self, _: int, value: int) -> None:
        self._low = value

    def write_high(self, _: int, value: int) -> None:
        """The pair takes effect with its high half, which is written last."""
        self._set(value << 32 | self._low)
