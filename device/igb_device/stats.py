"""Statistics (82576 datasheet section 8.18): counters that clear when they are read, and the card's own drop counts.

Counters that the card moves are Python integers beside the register file; the others of the section are plain
clear-on-read storage there. 64-bit counters are two registers, of which reading the high one clears both. 32-bit
counters stick at their top, as the hardware's do.

Left out: per-pool (PFVF…) and management counters, and those of events that a wire without errors doesn't have.
"""

from __future__ import annotations

from collections import Counter

from igb_device.drops import DropReason
from igb_device.registers import RegisterFile

FCS = 4
MIN_OCTETS = 64
_TOP32 = 0xFFFFFFFF
_TOP64 = (1 << 64) - 1
_RQDPC_TOP = 0xFFF

_NARROW = (
    "MPC", "RNBC", "ROC", "RUC", "RXERRC", "GPRC", "BPRC", "MPRC", "GPTC", "BPTC", "MPTC", "TPR", "TPT", "TSCTC",
    "XONTXC", "XOFFTXC", "IAC",
)  # fmt: skip
_WIDE = {"GORC": ("GORCL", "GORCH"), "GOTC": ("GOTCL", "GOTCH"), "TOR": ("TORL", "TORH"), "TOT": ("TOTL", "TOTH")}
_SIZES = ("64", "127", "255", "511", "1023", "1522")


def bucket(octets: int) -> int:
    """Which of the six size counters a frame of `octets` bytes (with FCS) goes to: 64, 65-127, … 1024 and up."""
    if octets <= MIN_OCTETS:
        return 0
    return min(octets.bit_length() - 6, 5)


class Stats:
    """All counters: `counts` by register name (64-bit ones without L and H), frame sizes as lists of six."""

    def __init__(self, regs: RegisterFile, queues: int) -> None:
        self.drops: Counter[DropReason] = Counter()
        """Lost frames by reason since power on; the counters are cleared by whoever reads them, this isn't."""
        self._queues = queues
        self.reset()
        for name in _NARROW:
            regs.on_read(name, lambda _, name=name: self._take(name))  # type: ignore[misc]
            regs.on_write(name, _ignore)
        for name, (low, high) in _WIDE.items():
            regs.on_read(low, lambda _, name=name: self.counts[name] & _TOP32)  # type: ignore[misc]
            regs.on_read(high, lambda _, name=name: self._take(name, _TOP64) >> 32)  # type: ignore[misc]
            regs.on_write(low, _ignore)
            regs.on_write(high, _ignore)
        for i, size in enumerate(_SIZES):
            regs.on_read(f"PRC{size}", lambda _, i=i: self._take_size(self.rx_sizes, i))  # type: ignore[misc]
            regs.on_read(f"PTC{size}", lambda _, i=i: self._take_size(self.tx_sizes, i))  # type: ignore[misc]
            regs.on_write(f"PRC{size}", _ignore)
            regs.on_write(f"PTC{size}", _ignore)
        regs.on_read("RQDPC", self._take_rqdpc)
        regs.on_write("RQDPC", self._write_rqdpc)

    def reset(self) -> None:
        """CTRL.RST clears the registers; `drops` goes on."""
        self.counts = dict.fromkeys([*_NARROW, *_WIDE], 0)
        self.rx_sizes = [0] * 6
        self.tx_sizes = [0] * 6
        self.rqdpc = [0] * self._queues

    # --- what happened

    def drop(self, reason: DropReason, frames: int = 1, queue: int = 0) -> None:
        """`frames` were lost for `reason`: counted by reason, and in the register that hardware has for it."""
        self.drops[reason] += frames
        register = reason.register
        if register == "RQDPC":
            self.rqdpc[queue] += frames
        elif register:
            self.counts[register] += frames

    def seen(self, frames: int, octets: int) -> None:
        """Frames came from the wire, good or not; `octets` with FCS."""
        counts = self.counts
        counts["TPR"] += frames
        counts["TOR"] += octets

    def received(self, frames: int, octets: int, largest: int, group: int) -> None:
        """Good frames passed the filters: all of `largest` octets (with FCS) but the last, which has the rest.
        `group` is the first byte's multicast bit, plus 2 for the broadcast address."""
        counts = self.counts
        counts["GPRC"] += frames
        counts["GORC"] += octets
        if group:
            counts["BPRC" if group & 2 else "MPRC"] += frames
        self._sizes(self.rx_sizes, frames, octets, largest)

    def transmitted(self, frames: int, octets: int, largest: int, group: int) -> None:
        """Frames went to the wire; arguments as in `received`."""
        counts = self.counts
        counts["GPTC"] += frames
        counts["GOTC"] += octets
        counts["TPT"] += frames
        counts["TOT"] += octets
        if group:
            counts["BPTC" if group & 2 else "MPTC"] += frames
        self._sizes(self.tx_sizes, frames, octets, largest)

    @staticmethod
    def _sizes(sizes: list[int], frames: int, octets: int, largest: int) -> None:
        if frames > 1:
            sizes[bucket(largest)] += frames - 1
            octets -= (frames - 1) * largest
        sizes[bucket(octets)] += 1

    # --- registers

    def _take(self, name: str, top: int = _TOP32) -> int:
        value = min(self.counts[name], top)
        self.counts[name] = 0
        return value

    @staticmethod
    def _take_size(sizes: list[int], i: int) -> int:
        value = min(sizes[i], _TOP32)
        sizes[i] = 0
        return value

    def _take_rqdpc(self, queue: int) -> int:
        value = min(self.rqdpc[queue], _RQDPC_TOP)
        self.rqdpc[queue] = 0
        return value

    def _write_rqdpc(self, queue: int, value: int) -> None:
        self.rqdpc[queue] = value & _RQDPC_TOP


def _ignore(_: int, value: int) -> None:
    """Statistics are read-only."""


def group(first: int, address: bytes) -> int:
    """0 for a unicast destination, 1 for multicast, 3 for broadcast."""
    if not first & 1:
        return 0
    return 3 if address == b"\xff\xff\xff\xff\xff\xff" else 1
