"""`PciFunction`: the configuration half of `PciDevice`, on a `PciConfig`. A device subclasses it and adds the rest."""

from __future__ import annotations

from collections.abc import Sequence

from pyvfio_user.device import Buffer, Host, IrqMode, Region, Reset
from pyvfio_user.pci.config import PciConfig


class PciFunction:
    """A PCI function that does nothing yet but has a configuration space, BARs that read 0, and resets.

    A subclass overrides `region_read`, `region_write`, `process`, and extends `reset` (calling this one) and
    `config_changed`. `host` is there between `attach` and `detach`.
    """

    def __init__(self, config: PciConfig) -> None:
        self.config = config
        self.host: Host | None = None
        sizes = [bar.size if bar else 0 for bar in config.bars]
        self._regions = (*(Region(size) for size in sizes), Region(config.rom_size, writable=False))

    @property
    def regions(self) -> Sequence[Region]:
        return self._regions

    @property
    def config_size(self) -> int:
        return self.config.size

    @property
    def irq_counts(self) -> tuple[int, int, int]:
        config = self.config
        pin = config.get("header").interrupt_pin
        msi = 1 << config.get("msi").control.capable if "msi" in config.capabilities else 0
        msix = config.get("msix").control.table_size + 1 if "msix" in config.capabilities else 0
        return (1 if pin else 0, msi, msix)

    @property
    def bus_master(self) -> bool:
        return self.config.settings.bus_master

    @property
    def irq_mode(self) -> IrqMode:
        return self.config.settings.irq_mode

    def attach(self, host: Host) -> None:
        self.host = host

    def detach(self) -> None:
        self.host = None

    def config_read(self, offset: int, count: int) -> bytes:
        return self.config.read(offset, count)

    def config_write(self, offset: int, data: Buffer) -> None:
        """Stores, then acts: a reset that was asked for happens before this returns."""
        before = self.config.settings
        wanted = self.config.write(offset, data)
        if wanted is not None:
            self.reset(wanted)
        if self.config.settings != before:
            self.config_changed()

    def config_changed(self) -> None:
        """`config.settings` differ from before a `config_write`: a hook, does nothing here."""

    def region_read(self, region: int, offset: int, count: int) -> Buffer:
        return bytes(count)

    def region_write(self, region: int, offset: int, data: Buffer) -> None:
        pass

    def reset(self, kind: Reset) -> None:
        """Configuration space back to its defaults. Sticky fields (AER's log, PME) survive FLR and POWER."""
        self.config.reset(keep_sticky=kind in (Reset.FLR, Reset.POWER))

    def process(self) -> None:
        pass
