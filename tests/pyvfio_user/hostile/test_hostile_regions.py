"""Accesses to regions that don't exist, don't permit it, or don't reach so far; one by one and many in a message."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from pyvfio_user import messages as m

READ, WRITE, MULTI = m.Command.REGION_READ, m.Command.REGION_WRITE, m.Command.REGION_WRITE_MULTI
ROM, CONFIG, VGA = 6, 7, 8
MAX = 1 << 20

bad_ranges = pytest.mark.parametrize(
    ("region", "offset", "count"),
    [
        (8, 0, 4),
        (9, 0, 4),
        (2**32 - 1, 0, 4),
        (4, 0, 4),
        (1, 4096, 1),
        (1, 4095, 2),
        (1, 0, 4097),
        (1, 2**64 - 1, 1),
        (1, 2**64 - 1, 2),
        (1, 2**63, 8),
        (1, 0, 2**32 - 1),
        (CONFIG, 4096, 1),
        (CONFIG, 4093, 4),
        (CONFIG, 2**64 - 4, 8),
        (ROM, 2048, 1),
    ],
)


@bad_ranges
def test_reading_outside(raw: Any, region: int, offset: int, count: int) -> None:
    assert raw.errno(READ, m.REGION_ACCESS.pack(offset, region, count)) in (errno.EINVAL, errno.E2BIG, errno.EPERM)
    assert raw.still_served()


@bad_ranges
@pytest.mark.parametrize("posted", [False, True])
def test_writing_outside(raw: Any, region: int, offset: int, count: int, posted: bool) -> None:
    data = b"!" * min(count, 5000)
    raw.command(WRITE, m.REGION_ACCESS.pack(offset, region, count) + data, flags=m.NO_REPLY if posted else 0)
    if not posted:
        assert raw.reply()[1] in (errno.EINVAL, errno.E2BIG, errno.EPERM)
    assert raw.still_served()
    assert b"!" not in raw.read(1, 0, 4096), "nothing of it was written"


@pytest.mark.parametrize("count", [0, 2**20 + 1, 2**31, 2**32 - 1])
def test_counts_that_nobody_means(raw: Any, count: int) -> None:
    assert raw.errno(READ, m.REGION_ACCESS.pack(0, 1, count)) in (0, errno.EINVAL, errno.E2BIG)
    assert raw.errno(WRITE, m.REGION_ACCESS.pack(0, 1, count) + b"data") in (errno.EINVAL, errno.E2BIG)
    assert raw.still_served()


@pytest.mark.parametrize("length", [0, 1, 3, 5, 8])
def test_count_and_data_differ(raw: Any, length: int) -> None:
    assert raw.errno(WRITE, m.REGION_ACCESS.pack(0, 1, 4) + b"!" * length) == errno.EINVAL
    assert raw.read(1, 0, 8) == bytes(8)


def test_any_length_and_alignment_inside_is_served(raw: Any) -> None:
    for offset in (1, 3, 0x7FF, 4091):
        for count in range(1, 6):
            data = bytes(range(count, 2 * count))
            assert raw.write(1, offset, data) == 0
            assert raw.read(1, offset, count) == data


def test_the_rom_is_read_only(raw: Any) -> None:
    assert len(raw.read(ROM, 0, 2048)) == 2048
    assert raw.write(ROM, 0, b"!!!!") in (errno.EINVAL, errno.EPERM, errno.EACCES)
    assert raw.still_served()


def test_configuration_space_takes_any_bytes(raw: Any) -> None:
    """What a guest may do to its device: all ones, all zeros, everywhere, in one write and in many."""
    for fill in (b"\xff", b"\0", b"\x55"):
        assert raw.write(CONFIG, 0, fill * 4096) == 0
        for offset in range(0, 4096, 64):
            assert raw.write(CONFIG, offset, fill * 64) == 0
        assert raw.read(CONFIG, 0, 4) == struct.pack("<HH", 0x1234, 0x11E8)
    assert raw.still_served()


def test_a_flood_of_resets(raw: Any) -> None:
    for _ in range(200):
        raw.command(m.Command.DEVICE_RESET)
    for _ in range(200):
        assert raw.reply()[1] == 0


@pytest.mark.parametrize("index", [9, 10, 2**31, 2**32 - 1])
def test_descriptions_of_what_isnt_there(raw: Any, index: int) -> None:
    assert raw.errno(m.Command.DEVICE_GET_REGION_INFO, m.REGION_INFO.pack(32, 0, index, 0, 0, 0)) == errno.EINVAL
    assert raw.errno(m.Command.DEVICE_GET_REGION_IO_FDS, m.REGION_IO_FDS.pack(16, 0, index, 0)) == errno.EINVAL
    assert raw.errno(m.Command.DEVICE_GET_IRQ_INFO, m.IRQ_INFO.pack(16, 0, index, 0)) == errno.EINVAL
    assert raw.still_served()


@pytest.mark.parametrize("index", range(9))
def test_absent_regions_have_size_zero_not_an_error(raw: Any, index: int) -> None:
    """QEMU refuses a device that answers an error for a BAR."""
    error, reply = raw.ask(m.Command.DEVICE_GET_REGION_INFO, m.REGION_INFO.pack(4096, 0, index, 0, 0, 0))
    assert error == 0
    size = m.REGION_INFO.unpack_from(reply)[4]
    assert size == [4096, 4096, 8192, 8192, 0, 0, 2048, 4096, 0][index]


def entry(offset: int, region: int, count: int, data: bytes = b"!!!!!!!!") -> bytes:
    return m.WRITE_MULTI_ENTRY.pack(offset, region, count, data)


class TestWriteMulti:
    @pytest.mark.parametrize("count", [0, 2, 200, 201, 2**32, 2**63, 2**64 - 1])
    def test_counts_that_dont_fit_the_payload(self, raw: Any, count: int) -> None:
        error, _ = raw.ask(MULTI, m.WRITE_MULTI.pack(count) + entry(0, 1, 4))
        assert error in (errno.EINVAL, errno.E2BIG)
        assert raw.still_served()
        assert raw.read(1, 0, 8) == bytes(8)

    def test_none(self, raw: Any) -> None:
        assert raw.errno(MULTI, m.WRITE_MULTI.pack(0)) in (0, errno.EINVAL)

    def test_as_many_as_fit_a_message(self, raw: Any) -> None:
        entries = b"".join(entry(4 * (i % 1024), 1, 4, struct.pack("<Q", i)) for i in range(40_000))
        assert raw.errno(MULTI, m.WRITE_MULTI.pack(40_000) + entries) in (0, errno.E2BIG, errno.EINVAL)
        assert raw.still_served()

    @pytest.mark.parametrize("count", [0, 9, 2**31, 2**32 - 1])
    def test_entries_of_wrong_length(self, raw: Any, count: int) -> None:
        assert raw.errno(MULTI, m.WRITE_MULTI.pack(1) + entry(0, 1, count)) == errno.EINVAL
        assert raw.read(1, 0, 16) == bytes(16)

    @pytest.mark.parametrize("bad", [(0, 9, 4), (4095, 1, 2), (2**64 - 1, 1, 8), (0, 4, 4), (0, ROM, 4)])
    @pytest.mark.parametrize("posted", [False, True])
    def test_a_bad_one_among_good_ones(self, raw: Any, bad: tuple[int, int, int], posted: bool) -> None:
        payload = m.WRITE_MULTI.pack(3) + entry(0, 1, 4, b"1st_\0\0\0\0") + entry(*bad) + entry(8, 1, 4)
        raw.command(MULTI, payload, flags=m.NO_REPLY if posted else 0)
        if not posted:
            assert raw.reply()[1] in (errno.EINVAL, errno.EPERM)
        assert raw.still_served()
        assert raw.read(1, 0, 4) in (b"1st_", bytes(4)), "those before it are done, or none"

    def test_when_it_wasnt_negotiated(self, stranger: Any) -> None:
        stranger.greet(struct.pack("<HH", 0, 1) + b'{"capabilities":{}}\0')
        assert stranger.errno(MULTI, m.WRITE_MULTI.pack(1) + entry(0, 1, 4)) != 0
        assert stranger.read(1, 0, 4) == bytes(4)
