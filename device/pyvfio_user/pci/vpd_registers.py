"""The registers of the VPD capability: an address with a flag, and data (PCI Local Bus 3.0, section 6.4)."""

from __future__ import annotations

from pyvfio_user.pci.capabilities import Capability


class VpdRegisters:
    """Moves four bytes between the data register and the contents whenever the flag is written.

    `space` is the configuration space, `at` the offset of the address register in it. Writing flag 0 reads: the flag
    turns 1 when the data is there. Writing flag 1 writes: it turns 0 when done. Both are done at once here. Contents
    outlive every reset, they're non-volatile. Beyond their end are zeros.
    """

    def __init__(self, space: bytearray, at: int, capability: Capability) -> None:
        self._space = space
        self._at = at
        self._writable = capability.writable
        self.contents = bytearray(capability.contents)

    def written(self, offset: int, count: int) -> None:
        """Software has written `count` bytes of configuration space at `offset`."""
        space, at = self._space, self._at
        if not offset <= at + 1 < offset + count:
            return
        where = (space[at] | space[at + 1] << 8) & 0x7FFC
        if space[at + 1] & 0x80:
            for index in range(where, min(where + 4, len(self.contents))):
                if index in self._writable:
                    self.contents[index] = space[at + 2 + index - where]
            space[at + 1] &= 0x7F
        else:
            space[at + 2 : at + 6] = self.contents[where : where + 4].ljust(4, b"\0")
            space[at + 1] |= 0x80
