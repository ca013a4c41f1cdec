"""Virtual machines for an igb card: finds or fetches QEMU and a guest kernel, builds the guest, boots it, talks to it.

It imports nothing else of this project; what the guest's devices are is up to the caller.
"""

from igb_vm.errors import GuestError, GuestTimeout, VmError
from igb_vm.guest import Guest, Result
from igb_vm.kernel import Kernel, get_kernel
from igb_vm.loader import Program
from igb_vm.network import Network
from igb_vm.packages import Tree, ensure
from igb_vm.qemu import Qemu, get_qemu

__all__ = [
    "Guest",
    "GuestError",
    "GuestTimeout",
    "Kernel",
    "Network",
    "Program",
    "Qemu",
    "Result",
    "Tree",
    "VmError",
    "ensure",
    "get_kernel",
    "get_qemu",
]
