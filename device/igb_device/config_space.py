"""The card's PCI configuration space (82576 datasheet chapter 9), from the facts of its personality.

Left out: ARI and SR-IOV, which vfio-user clients drop from the chain.
"""

from __future__ import annotations

from igb_hw import nvm
from igb_hw.personality import Personality
from pyvfio_user.pci.capabilities import Capability, aer, msi, msix, pci_express, power_management, serial_number, vpd
from pyvfio_user.pci.config import Identity, PciConfig
from pyvfio_user.pci.header import Bar, BarKind

_PME_D0_D3HOT_D3COLD = 0b11001


def build_config(personality: Personality, mac: bytes, image: bytes) -> PciConfig:
    """Config space of 4096 bytes. `image` is the NVM's, which holds the Vital Product Data."""
    at = personality.capability_offsets
    bars: list[Bar | None] = [None] * 6
    for bar in personality.bars:
        bars[bar.index] = Bar(bar.size, BarKind.IO if bar.io else BarKind.MEMORY32)
    capabilities: list[Capability] = [
        power_management(pme_support=_PME_D0_D3HOT_D3COLD, device_specific_init=True, at=at["pm"]),
        msi(1, at=at["msi"]),
        msix(
            personality.msix_vectors,
            table_bar=personality.msix_bar,
            table_offset=personality.msix_table,
            pba_bar=personality.msix_bar,
            pba_offset=personality.msix_pba,
            at=at["msix"],
        ),
        pci_express(speed=1, width=4, at=at["pcie"]),
        vpd(image[2 * nvm.VPD_AT :], at=at["vpd"]),
        aer(at=at["aer"]),
        serial_number(personality.dsn(mac), at=at["dsn"]),
    ]
    return PciConfig(
        Identity(
            personality.vendor_id,
            personality.device_id,
            personality.class_code,
            personality.revision,
            personality.subsystem_vendor,
            personality.subsystem_id,
        ),
        bars=bars,
        capabilities=capabilities,
        interrupt_pin=personality.interrupt_pin,
    )
