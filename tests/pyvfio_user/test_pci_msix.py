"""The MSI-X table and PBA in a BAR, against PCI 3.0 section 6.8.2."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from pyvfio_user.pci import MsixTable

VECTORS, PBA = 10, 0x2000


def make(pending: int = 0) -> MsixTable:
    return MsixTable(VECTORS, table_offset=0, pba_offset=PBA, pending=lambda: pending)


def test_power_on_all_vectors_masked() -> None:
    table = make()
    assert table.read(0, 16 * VECTORS) == struct.pack("<IIII", 0, 0, 0, 1) * VECTORS
    assert all(table.masked(vector) for vector in range(VECTORS))


def test_an_entry_keeps_address_data_and_mask() -> None:
    table = make()
    table.write(16 * 3, struct.pack("<IIII", 0xFEE01003, 1, 0x4021, 0xFFFFFFFE))
    assert struct.unpack("<IIII", table.read(16 * 3, 16)) == (0xFEE01000, 1, 0x4021, 0)
    assert not table.masked(3)
    assert table.masked(2)
    assert table.masked(4)


def test_pba_reads_the_hosts_pending_bits_and_ignores_writes() -> None:
    table = make(pending=0b10_0000_0101)
    table.write(PBA, b"\xff" * 8)
    assert struct.unpack("<Q", table.read(PBA, 8)) == (0b10_0000_0101,)
    assert table.read(PBA + 4, 4) == bytes(4)
    assert table.read(PBA + 1, 1) == b"\x02"


def test_pending_bits_beyond_the_last_vector_dont_show() -> None:
    assert make(pending=(1 << 64) - 1).read(PBA, 8) == struct.pack("<Q", (1 << VECTORS) - 1)


def test_pba_of_many_vectors_is_whole_quadwords() -> None:
    table = MsixTable(65, table_offset=0, pba_offset=0x800, pending=lambda: 1 << 64)
    assert table.read(0x800, 16) == bytes(8) + b"\x01" + bytes(7)


def test_reset_masks_again() -> None:
    table = make()
    table.write(0, bytes(16))
    table.reset()
    assert table.masked(0)


@given(st.integers(0, 0x3000), st.binary(max_size=64))
def test_any_access_is_harmless_and_has_its_length(offset: int, data: bytes) -> None:
    table = make()
    table.write(offset, data)
    assert len(table.read(offset, len(data))) == len(data)
    assert len(table.read(0, 0x4000)) == 0x4000
