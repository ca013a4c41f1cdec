"""What tells one card of the family from another, to PCI and to the driver: 82576 datasheet, chapter 9.

The card reads all such facts here, so that another member of the family is another instance, not another branch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from . import nvm

VENDOR_INTEL: Final = 0x8086
CLASS_ETHERNET: Final = 0x02_0000

OFFSETS_82576: Final = {
    "pm": 0x40,
    "msi": 0x50,
    "msix": 0x70,
    "pcie": 0xA0,
    "vpd": 0xE0,
    "aer": 0x100,
    "dsn": 0x140,
    "ari": 0x150,
    "sriov": 0x160,
}
"""Where the capabilities are in config space (9.5 and 9.6)."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A base address register: its size in bytes, and what is behind it."""

    index: int
    size: int
    doc: str
    io: bool = False


@dataclass(frozen=True, slots=True)
class Personality:
    """The fixed facts of a card. Numbers are those of the datasheet's reset values, or of a card as it is sold.

    pm_capabilities     the PMC register: version 3, and PME from D0, D3hot and D3cold
    pm_control          PMCSR after reset: the data scale
    device_capabilities, link_capabilities
                        of the PCIe capability: 512-byte payloads and FLR; 2.5 GT/s by 4 lanes
    dsn_from_mac        64-bit serial number: the first three bytes of the address, FF FF, the last three
    """

    name: str
    title: str
    device_id: int
    vendor_id: int = VENDOR_INTEL
    subsystem_vendor: int = VENDOR_INTEL
    subsystem_id: int = 0
    revision: int = 1
    class_code: int = CLASS_ETHERNET
    interrupt_pin: int = 1
    bars: tuple[Bar, ...] = ()
    capability_offsets: dict[str, int] = field(default_factory=dict, hash=False)
    pm_capabilities: int = 0xC823
    pm_control: int = 0x2000
    device_capabilities: int = 0x1000_8CC2
    link_capabilities: int = 0x0003_6C41
    msi_64bit: bool = True
    msi_masking: bool = True
    msix_vectors: int = 10
    msix_bar: int = 3
    msix_table: int = 0
    msix_pba: int = 0x2000
    rx_queues: int = 16
    tx_queues: int = 16
    causes: int = 25
    vf_device_id: int = 0
    vfs: int = 0
    rar_entries: int = 24
    phy_id: int = 0
    phy_address: int = 1
    nvm_words: int = nvm.WORDS

    def dsn(self, mac: bytes) -> int:
        """The Device Serial Number of a card with that Ethernet address: 001B21 FF FF 123456, as lspci prints it."""
        return int.from_bytes(mac[:3] + b"\xff\xff" + mac[3:], "big")

    def nvm_image(self, mac: bytes) -> bytes:
        """A fresh NVM image for this card. ValueError for an address that isn't a station's."""
        return nvm.build(
            mac,
            words=self.nvm_words,
            vendor_id=self.vendor_id,
            device_id=self.device_id,
            subsystem_vendor=self.subsystem_vendor,
            subsystem_id=self.subsystem_id,
            name=self.title,
        )


I82576 = Personality(
    name="82576",
    title="Gigabit ET Dual Port Server Adapter",
    device_id=0x10C9,
    subsystem_id=0xA03C,
    bars=(
        Bar(0, 0x20000, "registers"),
        Bar(1, 0x20000, "flash"),
        Bar(2, 0x20, "IOADDR and IODATA", io=True),
        Bar(3, 0x4000, "MSI-X"),
    ),
    capability_offsets=OFFSETS_82576,
    vf_device_id=0x10CA,
    vfs=8,
    phy_id=0x02A8_0391,
)
"""The copper 82576, as on Intel's own adapter (8086:10c9, subsystem 8086:a03c)."""

PERSONALITIES: Final = {I82576.name: I82576}
"""All cards, by name."""
