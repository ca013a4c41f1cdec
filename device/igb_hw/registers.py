"""All registers of the 82576 in one map: by name, by offset, and as arrays of 32-bit words over BAR0.

`MAP` is the only instance. Its arrays are computed on each call, for the caller to keep and change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from types import ModuleType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from . import eeprom, filters, interrupts, mac, manageability, pcie, ptp, rx, stats, tx, vmdq, wakeup
from .register import Register

BAR0_SIZE = 0x20000
WORDS = BAR0_SIZE // 4

Words: TypeAlias = npt.NDArray[np.uint32]

_ELEMENT = re.compile(r"(?P<name>\w+?)(?:\[(?P<index>\d+|0x[0-9a-fA-F]+)\]|\((?P<round>\d+)\))?")

_ELSEWHERE = {"RA": ("RAL", 0), "RA2": ("RAL", 16)}
"""Names that Linux has for the start of a table."""


class RegisterMap:
    """Registers by name and by offset. ValueError if two of them claim the same offset or name."""

    def __init__(self, registers: Iterable[Register], size: int = BAR0_SIZE) -> None:
        self._size = size
        self._registers = sorted(registers, key=lambda register: register.offset)
        self._names: dict[str, tuple[Register, int]] = {}
        self._offsets: dict[int, tuple[Register, int]] = {}
        self._aliases: dict[int, int] = {}
        for register in self._registers:
            for name in (register.name, *register.also):
                if self._names.setdefault(name.upper(), (register, 0)) != (register, 0):
                    raise ValueError(f"two registers are called {name}")
            for i, offset in enumerate(register.offsets):
                self._claim(offset, register, i)
            for offset, i in register.alias_offsets():
                self._claim(offset, register, i)
                self._aliases[offset] = register.at(i)
        for name, (target, index) in _ELSEWHERE.items():
            if target in self._names:
                self._names[name] = (self._names[target][0], index)

    def _claim(self, offset: int, register: Register, index: int) -> None:
        if offset % 4 or not 0 <= offset < self._size:
            raise ValueError(f"{register.name}[{index}] at {offset:#x} is outside the region or not aligned")
        if offset in self._offsets:
            other, i = self._offsets[offset]
            raise ValueError(f"{register.name}[{index}] and {other.name}[{i}] are both at {offset:#x}")
        self._offsets[offset] = register, index

    def __iter__(self) -> Iterator[Register]:
        return iter(self._registers)

    def __len__(self) -> int:
        return len(self._registers)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.upper() in self._names

    def __getitem__(self, name: str) -> Register:
        """The register of that name, in any case. KeyError if there is none."""
        try:
            return self._names[name.upper()][0]
        except KeyError:
            raise KeyError(f"the 82576 has no register {name}") from None

    def find(self, name: str) -> tuple[Register, int]:
        """`RDBAL[3]`, `rdbal(3)` or `CTRL`: the register and the index. KeyError or IndexError if there is none."""
        match = _ELEMENT.fullmatch(name.strip())
        if not match:
            raise KeyError(f"{name} isn't the name of a register")
        register, index = self._names.get(match["name"].upper(), (None, 0))
        if register is None:
            raise KeyError(f"the 82576 has no register {match['name']}")
        index += int(match["index"] or match["round"] or "0", 0)
        register.at(index)
        return register, index

    def match(self, pattern: str) -> list[Register]:
        """The registers one of whose names matches a shell pattern (`RD*`), in any case, by offset."""
        wanted = pattern.upper()
        return [
            register
            for register in self._registers
            if any(fnmatchcase(name.upper(), wanted) for name in (register.name, *register.also))
        ]

    def lookup(self, offset: int) -> tuple[Register, int] | None:
        """The register and index at an offset, aliases included, or None. `offset` may point into the word."""
        return self._offsets.get(offset & ~3)

    def name_of(self, offset: int) -> str:
        """`CTRL`, `RDBAL[3]`, or the offset itself where nothing is."""
        found = self.lookup(offset)
        if found is None:
            return f"{offset:#07x}"
        register, index = found
        return f"{register.name}[{index}]" if register.count > 1 else register.name

    def alias_table(self) -> dict[int, int]:
        """Alias offset to the offset where the register really is."""
        return dict(self._aliases)

    def canonical(self) -> npt.NDArray[np.int32]:
        """For each word of the region, the index of the word that it stands for: itself unless it is an alias."""
        words = np.arange(self._size // 4, dtype=np.int32)
        for alias, offset in self._aliases.items():
            words[alias // 4] = offset // 4
        return words

    def _words(self, take: dict[int, int]) -> Words:
        words = np.zeros(self._size // 4, dtype=np.uint32)
        for offset, value in take.items():
            words[offset // 4] = value
        return words

    def reset_words(self) -> Words:
        """The region's words after a device reset. Aliases read the value of what they stand for."""
        return self._words({offset: register.reset_of(i) for offset, (register, i) in self._offsets.items()})

    def write_masks(self) -> Words:
        """The bits that a plain write stores, for each word."""
        return self._words({offset: register.writable for offset, (register, _) in self._offsets.items()})

    def w1c_masks(self) -> Words:
        """The bits that writing 1 clears, for each word."""
        return self._words({offset: register.w1c for offset, (register, _) in self._offsets.items()})

    def read_clear_masks(self) -> Words:
        """The bits that reading clears, for each word."""
        return self._words({offset: register.read_clear for offset, (register, _) in self._offsets.items()})

    def known(self) -> npt.NDArray[np.bool_]:
        """True for each word at which a register is, aliases included."""
        words = np.zeros(self._size // 4, dtype=np.bool_)
        words[[offset // 4 for offset in self._offsets]] = True
        return words


def _declared(module: ModuleType) -> Iterator[Register]:
    return (value for value in vars(module).values() if isinstance(value, Register))


MAP = RegisterMap(
    register
    for module in (mac, eeprom, pcie, wakeup, rx, tx, filters, interrupts, stats, ptp, vmdq, manageability)
    for register in _declared(module)
)
"""The 82576's registers."""
