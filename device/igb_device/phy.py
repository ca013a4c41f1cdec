"""The PHY as MDIC reaches it (82576 datasheet sections 3.5 and 8.24): an IGP03 at address 1.

Its registers are `igb_hw.phy`'s; here is what some of them do: reset, autonegotiation, loopback, power down, paging.
An access is over at once, so MDIC is ready whenever it is read.
"""

from __future__ import annotations

from collections.abc import Callable

from igb_device.interrupts import MDAC, Interrupts
from igb_device.link import Link
from igb_hw.phy import (
    BMCR,
    BMSR,
    PAGE_SELECT,
    PHY,
    PHY_ADDRESS,
    PORT_CONFIG,
    address,
    link_down_values,
    link_up_values,
)
from igb_hw.registers import MAP

_MDIC = MAP["MDIC"]
_OP_WRITE = _MDIC["OP_WRITE"]
_OP_READ = _MDIC["OP_READ"]
_DONE = _MDIC["READY"]
_ERROR = _MDIC["ERROR"]
_KEPT = _MDIC["REG"] | _MDIC["PHY"] | _OP_WRITE | _OP_READ | _MDIC["INT_EN"]
_RESET = PHY.reset_values()
_MASKS = PHY.write_masks()
_UP = link_up_values()
_DOWN = link_down_values()


class Phy:
    """PHY registers by their full address (page and register), and MDIC."""

    def __init__(self, link: Link, interrupts: Interrupts, loopback_changed: Callable[[], None]) -> None:
        self._link = link
        self._interrupts = interrupts
        self._loopback_changed = loopback_changed
        self._values = dict(_RESET)
        self._mdic = _DONE
        self._held = False

    def reset(self) -> None:
        """Power on, CTRL.PHY_RST or BMCR.RESET: registers to their defaults, autonegotiation from the start."""
        self._values = dict(_RESET)
        self._mdic = _DONE
        self._apply()
        self._link.restart()

    def hold(self, held: bool) -> None:
        """CTRL.PHY_RST keeps the PHY in reset while it is set."""
        if held != self._held:
            self._held = held
            self._apply()
            self._link.restart()

    # --- MDIC

    def read_mdic(self, _: int) -> int:
        return self._mdic

    def write_mdic(self, _: int, value: int) -> None:
        result = value & _KEPT | _DONE
        if _MDIC.get(value, "PHY") != PHY_ADDRESS:
            result |= _ERROR
        elif value & _OP_WRITE:
            self.write(_MDIC.get(value, "REG"), value & 0xFFFF)
            result |= value & 0xFFFF
        elif value & _OP_READ:
            result |= self.read(_MDIC.get(value, "REG"))
        self._mdic = result
        if value & _MDIC["INT_EN"]:
            self._interrupts.cause(MDAC)

    # --- registers

    def read(self, register: int) -> int:
        """A register of the page that register 31 has selected. Unknown ones read as 0."""
        at = address(self._values[PAGE_SELECT], register)
        if at == BMSR.offset:
            return self._read_bmsr()
        shown = _UP if self._link.phy_up and not self._link.loopback else _DOWN
        return shown.get(at, self._values.get(at, 0))

    def _read_bmsr(self) -> int:
        value = BMSR.reset & ~(BMSR["LINK_STATUS"] | BMSR["AUTONEG_COMPLETE"])
        if self._link.read_status():
            value |= BMSR["LINK_STATUS"]
        if self._link.negotiated:
            value |= BMSR["AUTONEG_COMPLETE"]
        return value

    def write(self, register: int, value: int) -> None:
        at = address(self._values[PAGE_SELECT], register)
        if at not in _MASKS:
            return  # tuning registers: nothing to tune
        mask = _MASKS[at]
        self._values[at] = self._values[at] & ~mask | value & mask
        if at == BMCR.offset:
            self._control(value)
        elif at == PORT_CONFIG.offset:
            self._apply()

    def _control(self, value: int) -> None:
        if value & BMCR["RESET"]:
            self.reset()
            return
        autoneg, loopback, powered = self._link.autoneg, self._link.loopback, self._link.powered
        self._apply()
        link = self._link
        changed = (autoneg, loopback, powered) != (link.autoneg, link.loopback, link.powered)
        if changed or value & BMCR["RESTART_AUTO_NEG"]:
            link.restart()

    def _apply(self) -> None:
        """Tells the link what the registers say of it."""
        bmcr = self._values[BMCR.offset]
        link = self._link
        link.powered = not (
            self._held or bmcr & BMCR["POWER_DOWN"] or self._values[PORT_CONFIG.offset] & PORT_CONFIG["LINK_DIS"]
        )
        link.autoneg = bool(bmcr & BMCR["AUTO_NEG_EN"])
        if link.loopback != bool(bmcr & BMCR["LOOPBACK"]):
            link.loopback = not link.loopback
            self._loopback_changed()
        link.update()
