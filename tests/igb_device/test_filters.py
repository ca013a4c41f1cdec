"""The L2 receive filters, case by case as the datasheet (7.1.2 and the registers of 8.10) has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igb_device.drops import DropReason
from igb_device.filters import ReceiveFilter

UPE, MPE, BAM = 1 << 3, 1 << 4, 1 << 15
VFE, CFIEN, CFI = 1 << 18, 1 << 19, 1 << 20
AV = 1 << 31
ZEROS = [0] * 128

MINE = bytes.fromhex("525400123456")
MINE_RA = (0x12005452, 0x5634 | AV)  # RAL holds the first four bytes, the first one lowest
OTHER = bytes.fromhex("525400123457")
GROUP = bytes.fromhex("01005e0a0b0c")
ALL = b"\xff" * 6


def verdict(
    destination: bytes,
    rctl: int = 0,
    ra: list[tuple[int, int]] | None = None,
    mta: list[int] | None = None,
    vfta: list[int] | None = None,
    vlan: int = -1,
) -> DropReason | None:
    filters = ReceiveFilter()
    filters.update(rctl, [(0, 0)] * 23 + (ra or [MINE_RA]), mta or ZEROS, vfta or ZEROS)
    return filters.verdict(memoryview(destination + bytes(54)), vlan)


def test_after_reset_nothing_passes() -> None:
    for destination in (MINE, GROUP, ALL, bytes(6)):
        assert ReceiveFilter().verdict(destination + bytes(54), -1) is DropReason.NO_MATCH


def test_exact_address() -> None:
    assert verdict(MINE) is None
    assert verdict(OTHER) is DropReason.NO_MATCH
    assert verdict(MINE, ra=[(MINE_RA[0], MINE_RA[1] & ~AV)]) is DropReason.NO_MATCH
    # pool and queue bits beside the address don't matter
    assert verdict(MINE, ra=[(MINE_RA[0], MINE_RA[1] | 1 << 18)]) is None
    # a multicast or broadcast address may stand there too
    assert verdict(ALL, ra=[(0xFFFFFFFF, 0xFFFF | AV)]) is None
    assert verdict(GROUP, ra=[(0x0A5E0001, 0x0C0B | AV)]) is None


def test_promiscuous_bits_are_for_their_kind_only() -> None:
    assert verdict(OTHER, UPE) is None
    assert verdict(GROUP, UPE) is DropReason.NO_MATCH
    assert verdict(GROUP, MPE) is None
    assert verdict(OTHER, MPE) is DropReason.NO_MATCH
    assert verdict(ALL, BAM) is None
    assert verdict(ALL, UPE | MPE) is DropReason.NO_MATCH  # broadcast has a bit of its own
    assert verdict(GROUP, BAM) is DropReason.NO_MATCH


@pytest.mark.parametrize(
    ("offset", "vector"),
    [
        # RCTL.MO: bits 47:36, 46:35, 45:34, 43:32 of the address, whose last byte is 47:40: here 0x0C0B
        (0, 0x0C0),
        (1, 0x181),
        (2, 0x302),
        (3, 0xC0B),
    ],
)
def test_multicast_table(offset: int, vector: int) -> None:
    table = ZEROS.copy()
    table[vector >> 5] = 1 << (vector & 31)
    assert verdict(GROUP, offset << 12, mta=table) is None
    assert verdict(GROUP, (offset ^ 1) << 12, mta=table) is DropReason.NO_MATCH
    table = [word ^ 0xFFFFFFFF for word in table]
    assert verdict(GROUP, offset << 12, mta=table) is DropReason.NO_MATCH
    assert verdict(OTHER, offset << 12, mta=[0xFFFFFFFF] * 128) is DropReason.NO_MATCH


def test_vlan_filter() -> None:
    table = ZEROS.copy()
    table[100 >> 5] = 1 << (100 & 31)
    assert verdict(MINE, VFE, vfta=table, vlan=100) is None
    assert verdict(MINE, VFE, vfta=table, vlan=0xE000 | 100) is None  # priority isn't looked at
    assert verdict(MINE, VFE, vfta=table, vlan=101) is DropReason.VLAN_FILTER
    assert verdict(MINE, 0, vfta=table, vlan=101) is None
    assert verdict(MINE, VFE, vfta=table) is None  # untagged
    assert verdict(OTHER, VFE, vfta=table, vlan=101) is DropReason.NO_MATCH


def test_cfi_filter() -> None:
    table = [0xFFFFFFFF] * 128
    plain, marked = 100, 100 | 0x1000
    for rctl, passes in ((VFE | CFIEN, plain), (VFE | CFIEN | CFI, marked)):
        assert verdict(MINE, rctl, vfta=table, vlan=passes) is None
        assert verdict(MINE, rctl, vfta=table, vlan=passes ^ 0x1000) is DropReason.VLAN_FILTER
    assert verdict(MINE, VFE | CFI, vfta=table, vlan=plain) is None
    assert verdict(MINE, CFIEN | CFI, vfta=table, vlan=plain) is None


def test_registers_are_copied() -> None:
    table = ZEROS.copy()
    filters = ReceiveFilter()
    filters.update(0, [MINE_RA], table, table)
    table[:] = [0xFFFFFFFF] * 128
    assert filters.verdict(GROUP, -1) is DropReason.NO_MATCH


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError):
        ReceiveFilter().update(0, [], [0] * 127, ZEROS)
    with pytest.raises(ValueError):
        ReceiveFilter().update(0, [], ZEROS, [0] * 129)


@given(
    st.binary(max_size=20),
    st.integers(0, 0xFFFFFFFF),
    st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)), max_size=24),
    st.integers(0, 0xFFFFFFFF),
    st.integers(-1, 0xFFFF),
)
def test_any_registers_give_a_verdict(frame: bytes, rctl: int, ra: list[tuple[int, int]], word: int, vlan: int) -> None:
    filters = ReceiveFilter()
    filters.update(rctl, ra, [word] * 128, [word] * 128)
    assert filters.verdict(frame, vlan) in (None, DropReason.NO_MATCH, DropReason.VLAN_FILTER)
