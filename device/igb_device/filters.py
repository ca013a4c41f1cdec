"""Which received frames the card takes: its L2 filters (82576 datasheet 7.1.2; registers RCTL, RAL/RAH, MTA, VFTA).

Left out: filters that choose a queue or pool (EtherType, 5-tuple, SYN, VMDq), lengths (RCTL.LPE, RLPML), frames with
errors (RCTL.SBP), the unicast table UTA, which works only with VMDq, and RAH.ASEL, which the datasheet wants 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from igb_device.checksum import Buffer
from igb_device.drops import DropReason
from igb_hw.filters import RAH
from igb_hw.rx import RCTL

_UPE, _MPE, _BAM = RCTL["UPE"], RCTL["MPE"], RCTL["BAM"]
_VFE, _CFIEN, _CFI = RCTL["VFE"], RCTL["CFIEN"], RCTL["CFI"]
_MO, _MO_SHIFT = RCTL["MO"], RCTL.shift("MO")
_AV = RAH["AV"]
_TCI_CFI = 0x1000

_BROADCAST = b"\xff" * 6
_MO_SHIFTS = (4, 3, 2, 0)


class ReceiveFilter:
    """The filters as the registers set them up. It starts as after reset: nothing passes."""

    def __init__(self) -> None:
        self.update(0, (), (0,) * 128, (0,) * 128)

    def update(self, rctl: int, ra: Sequence[tuple[int, int]], mta: Sequence[int], vfta: Sequence[int]) -> None:
        """Takes over register values: `ra` as (RAL, RAH) pairs, MTA's and VFTA's 128 words. They are copied.

        Raises:
            ValueError: MTA or VFTA has another length.
        """
        if len(mta) != 128 or len(vfta) != 128:
            raise ValueError("MTA and VFTA have 128 words")
        self._exact = frozenset((low | (high & 0xFFFF) << 32).to_bytes(6, "little") for low, high in ra if high & _AV)
        self._unicast = bool(rctl & _UPE)
        self._multicast = bool(rctl & _MPE)
        self._broadcast = bool(rctl & _BAM)
        self._shift = _MO_SHIFTS[(rctl & _MO) >> _MO_SHIFT]
        self._mta = tuple(mta) if any(mta) else None
        self._vfta = tuple(vfta) if rctl & _VFE else None
        self._cfi = (_TCI_CFI if rctl & _CFI else 0) if rctl & _CFIEN else -1

    def verdict(self, frame: Buffer, vlan_tci: int) -> DropReason | None:
        """None if the frame passes, else why not. `vlan_tci` is that of the tag the VLAN filter is for (with double
        VLAN the inner one), -1 for an untagged frame, which no VLAN filter drops."""
        destination = bytes(frame[:6])
        if destination not in self._exact and not self._inexact(destination):
            return DropReason.NO_MATCH
        if vlan_tci >= 0 and self._vfta is not None:
            vlan = vlan_tci & 0xFFF
            if not self._vfta[vlan >> 5] >> (vlan & 31) & 1 or (self._cfi >= 0 and vlan_tci & _TCI_CFI != self._cfi):
                return DropReason.VLAN_FILTER
        return None

    def _inexact(self, destination: bytes) -> bool:
        if len(destination) < 6:
            return False
        if not destination[0] & 1:
            return self._unicast
        if destination == _BROADCAST and self._broadcast:
            return True
        if destination != _BROADCAST and self._multicast:
            return True
        if self._mta is None:
            return False
        index = (destination[5] << 8 | destination[4]) >> self._shift & 0xFFF
        return bool(self._mta[index >> 5] >> (index & 31) & 1)
