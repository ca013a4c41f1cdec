"""Device control and status (82576 datasheet sections 4.2 and 8.2): CTRL, STATUS, resets, loopback, semaphores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from igb_hw.registers import MAP

if TYPE_CHECKING:
    from igb_device.nic import Nic

_CTRL = MAP["CTRL"]
_CTRL_WORD = _CTRL.offset >> 2
_STATUS = MAP["STATUS"]
_STATUS_WORD = _STATUS.offset >> 2
_SWSM_WORD = MAP["SWSM"].offset >> 2
_SMBI = MAP["SWSM"]["SMBI"]
_EEMNGCTL = MAP["EEMNGCTL"]
_CFG_DONE = _EEMNGCTL["CFG_DONE_0"] | _EEMNGCTL["CFG_DONE_1"] | _EEMNGCTL["DONE"]
_RCTL_WORD = MAP["RCTL"].offset >> 2
_LBM = MAP["RCTL"]["LBM"]
_LBM_MAC = 1 << MAP["RCTL"].shift("LBM")
_PHYRA = _STATUS["PHYRA"]
_MASTER_ENABLE = _STATUS["GIO_MASTER_ENABLE"]
_MASTER_DISABLE = _CTRL["GIO_MASTER_DISABLE"]
_COMPUTED = _PHYRA | _MASTER_ENABLE
_LINKED = _STATUS["LU"] | _STATUS["FD"] | _STATUS.put(0, SPEED=2, ASDV=2)


class Control:
    """What these registers set off in the rest of the card."""

    def __init__(self, nic: Nic) -> None:
        self._nic = nic
        self._words = nic.regs.words
        self._phy_was_reset = True

    def write_ctrl(self, _: int, value: int) -> None:
        """RST acts at once and reads 0 again: no driver waits for it in vain. Of what is written together with it only
        SLU stays, which some drivers set in the same write and then look for the link."""
        nic = self._nic
        if value & _CTRL["RST"]:
            nic.software_reset()
            value = self._words[_CTRL_WORD] | value & _CTRL["SLU"]
        nic.regs.store(_CTRL_WORD, value)
        if value & _CTRL["PHY_RST"]:
            self._phy_was_reset = True
            nic.phy.reset()
        nic.phy.hold(bool(value & _CTRL["PHY_RST"]))
        self._apply()
        nic.rx.configure()
        nic.tx.resume()

    def reset(self) -> None:
        """CTRL is back at its reset value."""
        self._apply()
        self.loopback_changed()

    def power_on(self) -> None:
        """The PHY was reset as well."""
        self._phy_was_reset = True

    def _apply(self) -> None:
        nic = self._nic
        ctrl = self._words[_CTRL_WORD]
        nic.rx.buffer.halted = nic.tx.halted = bool(ctrl & _CTRL["GIO_MASTER_DISABLE"])
        nic.link.set_up = bool(ctrl & _CTRL["SLU"])
        nic.link.update()

    def read_status(self, _: int) -> int:
        value = self._words[_STATUS_WORD] & ~_COMPUTED
        if self._nic.link.up:
            value |= _LINKED
        if self._phy_was_reset:
            value |= _PHYRA
        if not self._words[_CTRL_WORD] & _MASTER_DISABLE:
            value |= _MASTER_ENABLE
        return value

    def write_status(self, _: int, value: int) -> None:
        """PHYRA is cleared by writing 0 to it, the rest is read-only."""
        if not value & _STATUS["PHYRA"]:
            self._phy_was_reset = False

    def read_swsm(self, _: int) -> int:
        """Reading takes the semaphore: who read 0 in SMBI has it."""
        value = self._words[_SWSM_WORD]
        self._words[_SWSM_WORD] = value | _SMBI
        return value

    def read_eemngctl(self, _: int) -> int:
        """The PHY is always configured already."""
        return self._words[_EEMNGCTL.offset >> 2] | _CFG_DONE

    def rctl_written(self, _: int) -> None:
        self._nic.rx.configure()
        self.loopback_changed()

    def tctl_written(self, _: int) -> None:
        self._nic.tx.resume()

    def loopback_changed(self) -> None:
        """MAC loopback (RCTL.LBM) or the PHY's: frames turn round before they reach the wire."""
        nic = self._nic
        nic.tx.looping = nic.rx.looping = self._words[_RCTL_WORD] & _LBM == _LBM_MAC or nic.link.loopback
