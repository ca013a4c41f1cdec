"""The NVM as registers show it (82576 datasheet sections 3.3 and 8.4): words by EERD, and the pins of EECD.

Left out: bit-banging through EECD's pins, whose access is granted (EECD.GNT) but which no EEPROM answers.
"""

from __future__ import annotations

import struct

from igb_device.registers import RegisterFile
from igb_hw.registers import MAP

_EECD = MAP["EECD"]
_EECD_WORD = _EECD.offset >> 2
_EERD = MAP["EERD"]
_ALWAYS = _EECD["PRES"] | _EECD["AUTO_RD"] | _EECD["EE_DET"] | _EECD["ADDR_BITS"]
_ERASED = 0xFFFF


class Nvm:
    """Words of an NVM image (little-endian 16-bit words; its length gives EECD.SIZE_EX)."""

    def __init__(self, regs: RegisterFile, image: bytes) -> None:
        self._words = regs.words
        self._store = regs.store
        self.words = list(struct.unpack(f"<{len(image) // 2}H", image))
        size = max(0, (len(self.words) - 1).bit_length() - 6)
        self._fixed = _ALWAYS | _EECD.put(0, SIZE_EX=size)
        self._eerd = 0

    def reset(self) -> None:
        self._eerd = 0

    def read_eecd(self, _: int) -> int:
        """Reading the image after reset is always over (AUTO_RD), and who asks for direct access has it."""
        value = self._words[_EECD_WORD] | self._fixed
        return value | _EECD["GNT"] if value & _EECD["REQ"] else value

    def write_eecd(self, _: int, value: int) -> None:
        self._store(_EECD_WORD, value)

    def read_eerd(self, _: int) -> int:
        return self._eerd

    def write_eerd(self, _: int, value: int) -> None:
        """A read is done at once. Words beyond the image read as an erased EEPROM's."""
        if not value & _EERD["START"]:
            return
        address = _EERD.get(value, "ADDR")
        word = self.words[address] if address < len(self.words) else _ERASED
        self._eerd = _EERD.put(0, ADDR=address, DATA=word) | _EERD["DONE"]
