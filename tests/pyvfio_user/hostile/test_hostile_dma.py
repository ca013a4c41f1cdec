"""Maps that make no sense, too many of them, and guest memory that goes away under the device."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pyvfio_user import messages as m

PAGE = 4096
READ, WRITE, KEEP_VIEW, TOUCH_VIEW = 1, 2, 3, 4
OK, DMA_ERROR, NO_VIEW = 0, 1, 2
UNKNOWN_FLAGS = 0x10


@pytest.fixture
def file() -> Iterator[int]:
    """16 pages of guest memory in a memfd that isn't sealed."""
    fd = os.memfd_create("guest", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 16 * PAGE)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("iova", "size"),
    [(0x1000, 0), (2**64 - PAGE, 2 * PAGE), (2**64 - 1, 2), (0, 2**64 - 1), (1, 2**64 - 1), (2**63, 2**63 + 1)],
)
@pytest.mark.parametrize("with_file", [False, True])
def test_empty_and_wrapping_ranges(raw: Any, file: int, iova: int, size: int, with_file: bool) -> None:
    error = raw.map(iova, size, [file] if with_file else [])
    if (iova, size, with_file) == (0, 2**64 - 1, False):
        assert error in (0, errno.EINVAL), "unlikely, but it doesn't wrap"
    else:
        assert error == errno.EINVAL
    assert raw.still_served()


@pytest.mark.parametrize("flags", [0, UNKNOWN_FLAGS, 0xFFFFFFFF, 3 | UNKNOWN_FLAGS])
def test_flags(raw: Any, file: int, flags: int) -> None:
    assert raw.map(0, PAGE, [file], flags=flags) == errno.EINVAL
    assert raw.map(0, PAGE, [file]) == 0, "nothing was left of it"


@pytest.mark.parametrize("argsz", [0, 31, 33, 2**32 - 1])
def test_argsz_of_another_size(raw: Any, argsz: int) -> None:
    raw.errno(m.Command.DMA_MAP, m.DMA_MAP.pack(argsz, 3, 0, 0, PAGE))
    raw.errno(m.Command.DMA_UNMAP, m.DMA_UNMAP.pack(argsz, 0, 0, PAGE))
    assert raw.still_served()


def test_memory_without_descriptor_reads_only_by_messages(raw: Any) -> None:
    """As a BAR of the device's own is mapped back to it: the client answers an error, and that's all."""
    assert raw.map(0, PAGE) == 0
    raw.bus_master()
    assert raw.engine(READ, 0, 64) == DMA_ERROR
    assert raw.engine(WRITE, 0, 64) == DMA_ERROR
    assert raw.engine(KEEP_VIEW, 0, 64) == NO_VIEW


@pytest.mark.parametrize(("offset", "size"), [(0, 17 * PAGE), (16 * PAGE, PAGE), (15 * PAGE, 2 * PAGE), (2**63, PAGE)])
def test_beyond_the_end_of_the_file(raw: Any, file: int, offset: int, size: int) -> None:
    assert raw.map(0, size, [file], offset=offset) == errno.EINVAL


@pytest.mark.parametrize("offset", [2**64 - 1, 2**64 - PAGE, 2**63 - 1])
def test_offsets_that_overflow(raw: Any, file: int, offset: int) -> None:
    assert raw.map(0, PAGE, [file], offset=offset) in (errno.EINVAL, errno.EOVERFLOW)
    assert raw.still_served()


def test_unaligned_maps_are_refused_or_right(raw: Any, file: int) -> None:
    os.pwrite(file, b"here", 0x123)
    error = raw.map(0x10001, 64, [file], offset=0x123)
    assert error in (0, errno.EINVAL)
    if error == 0:
        raw.bus_master()
        assert raw.engine(READ, 0x10001, 4) == OK
        assert raw.read(1, 0, 4) == b"here"
        assert raw.engine(READ, 0x10000, 4) == DMA_ERROR
        assert raw.engine(READ, 0x10001, 65) == DMA_ERROR


@pytest.mark.parametrize(("iova", "size"), [(0xF000, 0x2000), (0x11000, 0x1000), (0x13000, 0x2000), (0xF000, 0x10000)])
def test_overlaps(raw: Any, file: int, iova: int, size: int) -> None:
    assert raw.map(0x10000, 4 * PAGE, [file]) == 0
    assert raw.map(iova, size, [file]) in (errno.EEXIST, errno.EINVAL)
    assert raw.map(0x10000, 4 * PAGE, [file]) in (0, errno.EEXIST, errno.EINVAL)
    assert raw.map(0x14000, 4 * PAGE, [file]) == 0, "the neighbour is free"
    assert raw.unmap(0x10000, 4 * PAGE) == 0


@pytest.mark.parametrize(
    ("iova", "size", "flags"),
    [
        (0x10000, PAGE, 0),
        (0x10000, 8 * PAGE, 0),
        (0x11000, PAGE, 0),
        (0x20000, PAGE, 0),
        (0x10000, 0, 0),
        (2**64 - 1, 2, 0),
        (0x10000, 4 * PAGE, m.DmaUnmapFlag.ALL),
        (0, 4 * PAGE, m.DmaUnmapFlag.ALL),
        (0x10000, 0, m.DmaUnmapFlag.ALL),
        (0x10000, 4 * PAGE, 0x80),
        (0x10000, 4 * PAGE, 0xFFFFFFFF),
    ],
)
def test_unmapping_what_isnt_mapped_so(raw: Any, file: int, iova: int, size: int, flags: int) -> None:
    assert raw.map(0x10000, 4 * PAGE, [file]) == 0
    assert raw.unmap(iova, size, flags) in (errno.ENOENT, errno.EINVAL)
    raw.bus_master()
    assert raw.engine(READ, 0x10000, 4) == OK, "the map is still there"


def test_dirty_bitmap_requests(raw: Any, file: int) -> None:
    assert raw.map(0x10000, 4 * PAGE, [file]) == 0
    for pgsize, size in [(0, 8), (PAGE, 0), (3, 8), (PAGE, 2**64 - 1), (2**63, 8)]:
        payload = m.DMA_UNMAP.pack(40, 1, 0x10000, 4 * PAGE) + struct.pack("<QQ", pgsize, size)
        raw.ask(m.Command.DMA_UNMAP, payload)
        assert raw.still_served()
    assert raw.errno(m.Command.DMA_UNMAP, m.DMA_UNMAP.pack(24, 1, 0x10000, 4 * PAGE)) != raw.CLOSED


def test_unmapping_all_when_there_is_nothing(raw: Any) -> None:
    for _ in range(3):
        assert raw.unmap(0, 0, m.DmaUnmapFlag.ALL) in (0, errno.EINVAL, errno.ENOENT)
    assert raw.still_served()


def test_a_hundred_thousand_maps(raw: Any) -> None:
    """Up to the limit that was announced, then an error; and then gone in time."""
    start = time.monotonic()
    errors = []
    for begin in range(0, 100_000, 1000):
        batch = [
            raw.message(m.Command.DMA_MAP, m.DMA_MAP.pack(32, 3, 0, i * PAGE, PAGE)) for i in range(begin, begin + 1000)
        ]
        raw.send(b"".join(batch))
        errors += [raw.reply()[1] for _ in range(1000)]
    assert errors[0] == 0
    assert set(errors) <= {0, errno.ENOSPC, errno.ENOMEM, errno.EINVAL, errno.E2BIG}
    assert raw.still_served()
    assert time.monotonic() - start < 20


def test_thousands_of_maps_of_files_leak_nothing(raw: Any, file: int) -> None:
    for i in range(2000):
        assert raw.map(i % 4 * PAGE, PAGE, [file]) == 0
        assert raw.unmap(i % 4 * PAGE, PAGE) == 0


def test_many_files_mapped_at_once(raw: Any, file: int) -> None:
    """Against the server's limit of descriptors: an unsealed, unsealable file each."""
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    errors = {raw.map(i * PAGE, PAGE, [file]) for i in range(3000)}
    assert 0 in errors
    assert errors <= {0, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM, raw.CLOSED}


def test_writing_to_read_only_memory(raw: Any, file: int) -> None:
    assert raw.map(0, PAGE, [file], flags=1) == 0
    raw.bus_master()
    assert raw.engine(READ, 0, 4) == OK
    assert raw.engine(WRITE, 0, 4) == DMA_ERROR
    assert raw.engine(KEEP_VIEW, 0, 4) in (DMA_ERROR, NO_VIEW)
    assert os.pread(file, 4, 0) == bytes(4)


def test_reading_write_only_memory(raw: Any, file: int) -> None:
    os.pwrite(file, b"secret", 0)
    assert raw.map(0, PAGE, [file], flags=2) == 0
    raw.bus_master()
    assert raw.engine(READ, 0, 4) == DMA_ERROR


@pytest.mark.parametrize("addr", [0xFFF, 0x1FFE, 0x2000, 2**64 - 1, 2**64 - 4, 2**63])
@pytest.mark.parametrize("what", [READ, WRITE, KEEP_VIEW])
def test_addresses_at_and_over_the_edge(raw: Any, file: int, addr: int, what: int) -> None:
    assert raw.map(0x1000, PAGE, [file]) == 0
    raw.bus_master()
    assert raw.engine(what, 0x1000, 4) in (OK, NO_VIEW)
    assert raw.engine(what, addr, 4) in ((DMA_ERROR,) if what != KEEP_VIEW else (DMA_ERROR, NO_VIEW))


def test_without_bus_mastering_there_is_no_dma(raw: Any, file: int) -> None:
    assert raw.map(0, PAGE, [file]) == 0
    assert raw.engine(READ, 0, 4) == DMA_ERROR
    raw.bus_master()
    assert raw.engine(KEEP_VIEW, 0, 4) in (OK, NO_VIEW)
    raw.bus_master(False)
    assert raw.engine(READ, 0, 4) == DMA_ERROR
    assert raw.engine(WRITE, 0, 4) == DMA_ERROR
    assert raw.engine(TOUCH_VIEW) == NO_VIEW


def test_views_are_void_after_unmapping(raw: Any, file: int) -> None:
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    assert raw.map(0, PAGE, [file]) == 0
    raw.bus_master()
    assert raw.engine(KEEP_VIEW, 0, PAGE) == OK
    assert raw.engine(TOUCH_VIEW) == OK
    assert raw.unmap(0, PAGE) == 0
    assert raw.engine(TOUCH_VIEW) == NO_VIEW


class TestShrinkingFiles:
    """A client cuts its file off while it is mapped: touching a mapping would kill the server (SIGBUS)."""

    def test_before_the_first_access(self, raw: Any, file: int) -> None:
        assert raw.map(0, 16 * PAGE, [file]) == 0
        raw.bus_master()
        try:
            os.ftruncate(file, 0)
        except PermissionError:  # the server has sealed it: as good
            assert raw.engine(READ, 8 * PAGE, 4) == OK
            return
        assert raw.engine(READ, 8 * PAGE, 4) == DMA_ERROR
        assert raw.engine(READ, 0, 4) == DMA_ERROR

    @pytest.mark.parametrize("what", [READ, WRITE])
    def test_a_file_that_cant_be_sealed(self, raw: Any, file: int, what: int) -> None:
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
        assert raw.map(0, 16 * PAGE, [file]) == 0
        raw.bus_master()
        assert raw.engine(what, 8 * PAGE, 4) == OK
        raw.engine(KEEP_VIEW, 8 * PAGE, PAGE)
        os.ftruncate(file, PAGE)
        assert raw.engine(READ, 8 * PAGE, 4) == DMA_ERROR
        raw.engine(what, 8 * PAGE, 4)
        raw.engine(TOUCH_VIEW)
        assert raw.engine(READ, 0, 4) == OK, "the part that is left still works"
        assert raw.still_served()

    def test_an_ordinary_file(self, raw: Any, tmp_path: Any) -> None:
        path = tmp_path / "memory"
        path.write_bytes(b"x" * 16 * PAGE)
        fd = os.open(path, os.O_RDWR)
        assert raw.map(0, 16 * PAGE, [fd]) == 0
        raw.bus_master()
        assert raw.engine(READ, 8 * PAGE, 4) == OK
        raw.engine(KEEP_VIEW, 8 * PAGE, PAGE)
        os.ftruncate(fd, 0)
        os.close(fd)
        assert raw.engine(READ, 8 * PAGE, 4) == DMA_ERROR
        raw.engine(TOUCH_VIEW)
        raw.engine(WRITE, 8 * PAGE, 4)
        assert raw.still_served()

    def test_holes_punched_into_it(self, raw: Any, file: int) -> None:
        assert raw.map(0, 16 * PAGE, [file]) == 0
        raw.bus_master()
        assert raw.engine(WRITE, 0, 64) == OK
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.fallocate(file, 3, ctypes.c_long(0), ctypes.c_long(PAGE)) == 0
        assert raw.engine(READ, 0, 4) == OK
        assert raw.read(1, 0, 4) == bytes(4)

    def test_a_file_larger_than_memory(self, raw: Any) -> None:
        """Nothing but address space is taken for it."""
        fd = os.memfd_create("huge", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, 1 << 40)
        error = raw.map(0, 1 << 40, [fd])
        os.close(fd)
        assert error in (0, errno.ENOMEM)
        if error == 0:
            raw.bus_master()
            assert raw.engine(READ, (1 << 40) - 4, 4) == OK
