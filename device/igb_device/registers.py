"""The card's register file: storage of BAR0, and the table of what reading or writing a register does beyond that.

Each register is stored once (`words`), whatever alias it is reached by. A plain register needs nothing but the masks
of `igb_hw`; one that behaves has an entry in `reads` or `writes`, all of which are made in `behaviour.py`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from igb_hw.registers import MAP

SIZE = 0x20000


class _Tables(NamedTuple):
    """What `igb_hw` declares, a word each. The same for all cards."""

    canon: tuple[int, ...]
    mask: tuple[int, ...]
    w1c: tuple[int, ...]
    read_clear: tuple[int, ...]
    reset_words: memoryview
    modelled: bytes


@functools.cache
def _tables() -> _Tables:
    modelled = bytearray(SIZE // 4)
    for register in MAP:
        if register.modelled:
            for offset in register.offsets:
                modelled[offset >> 2] = 1
    return _Tables(
        tuple(MAP.canonical().tolist()),
        tuple(MAP.write_masks().tolist()),
        tuple(MAP.w1c_masks().tolist()),
        tuple(MAP.read_clear_masks().tolist()),
        memoryview(MAP.reset_words().astype("<u4").tobytes()).cast("I"),
        bytes(modelled),
    )


class RegisterFile:
    """BAR0 as 32-bit words. `reads` and `writes` map a word's index (offset / 4) to its behaviour."""

    def __init__(self) -> None:
        self.memory = bytearray(SIZE)
        self.words = memoryview(self.memory).cast("I")
        self.reads: dict[int, Callable[[], int]] = {}
        self.writes: dict[int, Callable[[int], None]] = {}
        self.touched: Counter[str] = Counter()
        """Accesses to registers that the card doesn't model, by name (or offset, where there's no register)."""
        tables = _tables()
        self._canon = tables.canon
        self._mask = tables.mask
        self._w1c = tables.w1c
        self._read_clear = tables.read_clear
        self._reset_words = tables.reset_words
        self._modelled = tables.modelled
        self.reset()

    def reset(self, keep: Iterable[int] = ()) -> None:
        """Every register back to its reset value, but the words at the offsets in `keep`."""
        kept = [(offset >> 2, self.words[offset >> 2]) for offset in keep]
        self.words[:] = self._reset_words
        for word, value in kept:
            self.words[word] = value

    def on_read(self, name: str, call: Callable[[int], int]) -> None:
        """`call(i)` answers reads of element i of the register `name`."""
        register = MAP[name]
        for i in range(register.count):
            self.reads[register.at(i) >> 2] = lambda i=i: call(i)  # type: ignore[misc]

    def on_write(self, name: str, call: Callable[[int, int], None]) -> None:
        """`call(i, value)` takes writes to element i of the register `name`."""
        register = MAP[name]
        for i in range(register.count):
            self.writes[register.at(i) >> 2] = lambda value, i=i: call(i, value)  # type: ignore[misc]

    def after_write(self, name: str, call: Callable[[int], None]) -> None:
        """Stores what is written to the register `name` as its masks say, then calls `call(i)`."""
        register = MAP[name]
        for i in range(register.count):
            word = register.at(i) >> 2

            def write(value: int, word: int = word, i: int = i) -> None:
                self.store(word, value)
                call(i)

            self.writes[word] = write

    def store(self, word: int, value: int) -> None:
        """A plain write: writable bits are stored, write-1-to-clear bits cleared, the rest stays."""
        mask = self._mask[word]
        old = self.words[word]
        self.words[word] = ((old & ~mask) | (value & mask)) & ~(value & self._w1c[word])

    def read(self, offset: int) -> int:
        """A 32-bit read at an aligned offset."""
        word = self._canon[offset >> 2]
        call = self.reads.get(word)
        if call is not None:
            return call()
        if not self._modelled[word]:
            self._touch(word)
        value = self.words[word]
        clear = self._read_clear[word]
        if clear:
            self.words[word] = value & ~clear
        return value

    def write(self, offset: int, value: int) -> None:
        """A 32-bit write at an aligned offset."""
        word = self._canon[offset >> 2]
        call = self.writes.get(word)
        if call is not None:
            call(value)
            return
        if not self._modelled[word]:
            self._touch(word)
        self.store(word, value)

    def _touch(self, word: int) -> None:
        found = MAP.lookup(word << 2)
        name = found[0].name if found else f"{word << 2:#07x}"
        if found or len(self.touched) < 1024 or name in self.touched:
            self.touched[name] += 1
