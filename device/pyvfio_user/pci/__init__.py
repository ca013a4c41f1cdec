"""A PCI function's configuration space: header, BARs, capabilities, power states, resets, and the MSI-X table."""

from pyvfio_user.pci.capabilities import (
    Capability,
    aer,
    msi,
    msix,
    pci_express,
    power_management,
    serial_number,
    vendor_specific,
    vpd,
)
from pyvfio_user.pci.config import Identity, PciConfig, Settings
from pyvfio_user.pci.function import PciFunction
from pyvfio_user.pci.header import Bar, BarKind
from pyvfio_user.pci.msix_table import MsixTable

__all__ = [
    "Bar",
    "BarKind",
    "Capability",
    "Identity",
    "MsixTable",
    "PciConfig",
    "PciFunction",
    "Settings",
    "aer",
    "msi",
    "msix",
    "pci_express",
    "power_management",
    "serial_number",
    "vendor_specific",
    "vpd",
]
