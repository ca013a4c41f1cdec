"""The MSI-X table and pending bit array that lie in a BAR (PCI Local Bus 3.0, section 6.8.2)."""

from __future__ import annotations

from collections.abc import Callable

from pyvfio_user.device import Buffer

ENTRY_SIZE = 16
_VECTOR_CONTROL = 12


def _nothing_pending() -> int:
    return 0


class MsixTable:
    """The table at `table_offset` of a BAR and the PBA at `pba_offset`.

    QEMU keeps the guest's table to itself and never forwards a write to it; other clients do, so this stores what is
    written, and a masked entry here masks nothing: vectors are masked by the client's SET_IRQS. The pending bits
    are the host's: `pending` returns them as one number, bit n for vector n.
    """

    def __init__(
        self,
        vectors: int,
        *,
        table_offset: int,
        pba_offset: int,
        pending: Callable[[], int] = _nothing_pending,
    ) -> None:
        self.vectors = vectors
        self.pending = pending
        self._table_at = table_offset
        self._pba_at = pba_offset
        self._pba_size = -(-vectors // 64) * 8
        entry_mask = (~3 & (1 << 128) - 1) & ~(0xFFFFFFFE << 8 * _VECTOR_CONTROL)
        self._mask = entry_mask.to_bytes(ENTRY_SIZE, "little") * vectors
        self._table = bytearray()
        self.reset()

    def reset(self) -> None:
        """All entries 0 and masked."""
        entry = bytes(_VECTOR_CONTROL) + b"\1\0\0\0"
        self._table = bytearray(entry * self.vectors)

    def masked(self, vector: int) -> bool:
        """The Mask bit of an entry."""
        return bool(self._table[ENTRY_SIZE * vector + _VECTOR_CONTROL] & 1)

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes of the BAR at `offset`; what is neither table nor PBA reads 0."""
        result = bytearray(count)
        self._copy(result, offset, self._table_at, self._table)
        if offset < self._pba_at + self._pba_size and self._pba_at < offset + count:
            pba = (self.pending() & (1 << self.vectors) - 1).to_bytes(self._pba_size, "little")
            self._copy(result, offset, self._pba_at, pba)
        return bytes(result)

    def write(self, offset: int, data: Buffer) -> None:
        """Writes to the table; the PBA is read-only and the rest of the BAR isn't there."""
        start = max(offset, self._table_at)
        end = min(offset + len(data), self._table_at + len(self._table))
        for at in range(start, end):
            index = at - self._table_at
            mask = self._mask[index]
            self._table[index] = self._table[index] & ~mask | data[at - offset] & mask

    @staticmethod
    def _copy(result: bytearray, offset: int, base: int, source: Buffer) -> None:
        start = max(offset, base)
        end = min(offset + len(result), base + len(source))
        if start < end:
            result[start - offset : end - offset] = source[start - base : end - base]
