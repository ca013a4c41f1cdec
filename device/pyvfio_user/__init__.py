"""vfio-user: serve an emulated PCI device to a virtual machine monitor, or drive one, over a unix socket.

A device implements `PciDevice`; `Server` with an `EventLoop` serves it, `Client` drives one. The protocol is
specified in QEMU's docs/interop/vfio-user.rst.
"""

from pyvfio_user.client import Client
from pyvfio_user.device import Buffer, DmaError, Host, IrqMode, MmapArea, PciDevice, Region, Reset
from pyvfio_user.io_events import IoEvent, IoEventDevice
from pyvfio_user.loop import EventLoop
from pyvfio_user.memory import MemoryHost
from pyvfio_user.migration import MigratableDevice
from pyvfio_user.server import Server, ServerError
from pyvfio_user.session import Options

__all__ = [
    "Buffer",
    "Client",
    "DmaError",
    "EventLoop",
    "Host",
    "IoEvent",
    "IoEventDevice",
    "IrqMode",
    "MemoryHost",
    "MigratableDevice",
    "MmapArea",
    "Options",
    "PciDevice",
    "Region",
    "Reset",
    "Server",
    "ServerError",
]
