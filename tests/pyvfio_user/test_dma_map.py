"""DMA_MAP and DMA_UNMAP, and DMA through what they set up."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyvfio_user import DmaError, Options

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench, RawClient

Memfd = Callable[..., int]
PAGE = 4096
SHRINK = 2  # F_SEAL_SHRINK
NO_MORE_SEALS = 1  # F_SEAL_SEAL


def map_request(addr: int, size: int, offset: int = 0, flags: int = 3, argsz: int = 32) -> bytes:
    return struct.pack("<IIQQQ", argsz, flags, offset, addr, size)


def unmap_request(addr: int, size: int, flags: int = 0, argsz: int = 24) -> bytes:
    return struct.pack("<IIQQ", argsz, flags, addr, size)


# Sealed: mapped. Open to sealing: sealed and mapped. Closed to sealing: read and written.
@pytest.mark.parametrize(("seals", "has_view"), [(SHRINK, True), (0, True), (NO_MORE_SEALS, False)])
def test_read_and_write(bench: Bench, client: RawClient, memfd: Memfd, seals: int, has_view: bool) -> None:
    fd = memfd(4 * PAGE, seals)
    client.map(0x1_0000_0000, 2 * PAGE, fd, PAGE)
    client.bus_master()
    host = bench.host
    os.pwrite(fd, b"from the guest", PAGE + 100)
    assert bytes(host.read(0x1_0000_0064, 14)) == b"from the guest"
    host.write(0x1_0000_1FFC, b"last")
    assert os.pread(fd, 4, 3 * PAGE - 4) == b"last"
    host.write(0x1_0000_0000, memoryview(bytearray(b"view")))
    host.write(0x1_0000_0004, np.arange(4, dtype=np.uint16).data)
    assert os.pread(fd, 12, PAGE) == b"view" + struct.pack("<4H", 0, 1, 2, 3)
    host.write(0x1_0000_0000, b"")
    assert bytes(host.read(0x1_0000_0000, 0)) == b""
    view = host.view(0x1_0000_0000, PAGE)
    assert (view is not None) == has_view
    if view is not None:
        view[:3] = b"new"
        assert os.pread(fd, 4, PAGE) == b"neww"
    for addr, length in [(0xFFFF_FFFF, 1), (0x1_0000_1FFF, 2), (0x1_0000_2000, 1), (0, 4), (2**64 - 1, 4)]:
        with pytest.raises(DmaError):
            host.read(addr, length)
        with pytest.raises(DmaError):
            host.write(addr, bytes(length))
        with pytest.raises(DmaError):
            host.view(addr, length)


def test_a_file_that_shrinks_is_an_error_and_no_crash(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    fd = memfd(2 * PAGE, NO_MORE_SEALS)
    client.map(0, 2 * PAGE, fd)
    client.bus_master()
    bench.host.write(PAGE, b"x")
    os.ftruncate(fd, PAGE)
    with pytest.raises(DmaError, match="shrunk"):
        bench.host.read(PAGE, 4)
    assert bytes(bench.host.read(0, 4)) == bytes(4)


def test_a_file_that_could_shrink_is_sealed_if_it_can_be(client: RawClient, memfd: Memfd) -> None:
    fd = memfd(PAGE, 0)
    client.map(0, PAGE, fd)
    assert fcntl.fcntl(fd, 1034) & SHRINK
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)


def test_unsealed_files_are_mapped_on_request(bench: Bench, memfd: Memfd) -> None:
    bench.options = Options(map_unsealed=True)
    client = bench.client()
    client.map(0, PAGE, memfd(PAGE, NO_MORE_SEALS))
    client.bus_master()
    assert bench.host.view(0, PAGE) is not None


def test_offsets_need_no_alignment(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    fd = memfd(2 * PAGE)
    client.map(0x10, 0x100, fd, 0x123)
    client.bus_master()
    os.pwrite(fd, b"here", 0x123)
    assert bytes(bench.host.read(0x10, 4)) == b"here"


def test_many_maps_of_a_file_take_one_descriptor(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    """Behind a virtual IOMMU there are more maps than a process may have descriptors, or even mappings."""
    files = [memfd(64 * PAGE), memfd(64 * PAGE, NO_MORE_SEALS)]
    client.map(0, PAGE, files[0])
    client.map(PAGE, PAGE, files[1])
    client.bus_master()
    before = os.listdir("/proc/self/fd")
    for number in range(2, 128):
        client.map(number * PAGE, PAGE, files[number % 2], number // 2 * PAGE)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    os.pwrite(files[0], b"sixty", 60 * PAGE)
    os.pwrite(files[1], b"61", 61 * PAGE)
    assert bytes(bench.host.read(120 * PAGE, 5)) == b"sixty"
    assert bytes(bench.host.read(123 * PAGE, 2)) == b"61"
    for number in range(126):
        client.unmap(number * PAGE, PAGE)
    bench.host.write(126 * PAGE, b"still there")
    assert os.pread(files[0], 11, 63 * PAGE) == b"still there"
    client.unmap(126 * PAGE, PAGE)
    client.unmap(127 * PAGE, PAGE)
    assert len(os.listdir("/proc/self/fd")) == len(before) - 2
    client.map(0, PAGE, files[0])
    assert bytes(bench.host.read(0, 4)) == bytes(4)


def test_a_file_that_has_grown_is_mapped_anew(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    fd = memfd(PAGE)
    client.map(0, PAGE, fd)
    client.bus_master()
    view = bench.host.view(0, PAGE)
    os.ftruncate(fd, 4 * PAGE)
    client.map(PAGE, 3 * PAGE, fd, PAGE)
    os.pwrite(fd, b"new", 4 * PAGE - 3)
    os.pwrite(fd, b"old", 0)
    assert bytes(bench.host.read(4 * PAGE - 3, 3)) == b"new"
    assert bytes(bench.host.read(0, 3)) == b"old"
    assert view is not None
    assert bytes(view[:3]) == b"old"


def test_parts_of_huge_pages(bench: Bench, client: RawClient) -> None:
    fd = os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
    try:
        size = os.fstat(fd).st_blksize
        os.ftruncate(fd, 2 * size)
        fcntl.fcntl(fd, 1033, SHRINK)
        try:
            memory = mmap.mmap(fd, 2 * size)
        except OSError:
            pytest.skip("no huge pages here (/proc/sys/vm/nr_hugepages)")
        client.map(0xC0000, 0x40000, fd, 0xC0000)  # as QEMU's q35 has it: 640 KiB, a hole, the rest
        client.bus_master()
        memory[0xC0000:0xC0004] = b"here"
        assert bytes(bench.host.read(0xC0000, 4)) == b"here"
        client.unmap(0xC0000, 0x40000)
        memory.close()
        assert "memfd:huge" not in Path("/proc/self/maps").read_text()
    finally:
        os.close(fd)


def test_slow_memory_is_reported_once(client: RawClient, memfd: Memfd, caplog: pytest.LogCaptureFixture) -> None:
    client.map(0, PAGE, memfd(PAGE))
    assert "slow" not in caplog.text
    client.map(PAGE, PAGE, memfd(PAGE, NO_MORE_SEALS))
    client.map(2 * PAGE, PAGE, memfd(PAGE, NO_MORE_SEALS))
    assert caplog.text.count("DMA is slow") == 1


def test_accesses_may_span_maps(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    first, second, third = memfd(PAGE), memfd(PAGE, NO_MORE_SEALS), memfd(PAGE)
    for number, fd in enumerate((first, second, third)):
        client.map(number * PAGE, PAGE, fd)
    client.bus_master()
    data = bytes(range(250)) * 20
    bench.host.write(PAGE - 100, data)
    assert os.pread(first, 100, PAGE - 100) == data[:100]
    assert os.pread(second, PAGE, 0) == data[100 : 100 + PAGE]
    assert bytes(bench.host.read(PAGE - 100, len(data))) == data
    assert bench.host.view(PAGE - 100, 200) is None
    before = os.pread(third, PAGE, 0)
    with pytest.raises(DmaError):
        bench.host.write(2 * PAGE, bytes(PAGE + 1))
    assert os.pread(third, PAGE, 0) == before


def test_read_only_maps(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    fd = memfd(PAGE)
    client.map(0, PAGE, fd, flags=1)
    client.map(PAGE, PAGE, fd, flags=2)
    client.bus_master()
    assert bytes(bench.host.read(0, 4)) == bytes(4)
    with pytest.raises(DmaError, match="read-only"):
        bench.host.write(0, b"x")
    assert bench.host.view(0, 4) is None
    bench.host.write(PAGE, b"x")
    with pytest.raises(DmaError, match="write-only"):
        bench.host.read(PAGE, 1)


def test_a_descriptor_open_for_reading_only_will_not_do_for_writing(client: RawClient, memfd: Memfd) -> None:
    fd = os.open(f"/proc/self/fd/{memfd(PAGE)}", os.O_RDONLY)
    assert client.fails(2, map_request(0, PAGE), [fd]) == errno.EACCES
    client.map(0, PAGE, fd, flags=1)
    os.close(fd)


def test_bus_mastering_gates_dma(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    client.map(0, PAGE, memfd(PAGE))
    for call in (lambda: bench.host.read(0, 4), lambda: bench.host.write(0, b"x"), lambda: bench.host.view(0, 4)):
        with pytest.raises(DmaError, match="bus mastering"):
            call()
    generation = bench.host.generation
    client.bus_master()
    bench.host.read(0, 4)
    assert bench.host.generation > generation
    generation = bench.host.generation
    client.bus_master(False)
    assert bench.host.generation > generation
    with pytest.raises(DmaError, match="bus mastering"):
        bench.host.read(0, 4)


def test_unmapping_voids_views_before_it_is_answered(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    fd = memfd(PAGE)
    client.map(0, PAGE, fd)
    client.bus_master()
    bench.host.read(0, 4)
    held = bench.host.view(0, PAGE)
    assert held is not None
    generation = bench.host.generation
    client.unmap(0, PAGE)
    assert bench.host.generation > generation
    held[0] = 1  # a device that is late doesn't crash the server
    with pytest.raises(DmaError):
        bench.host.read(0, 4)
    client.map(0, PAGE, fd)
    assert bench.host.read(0, 1)[0] == 1


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (map_request(0, 0), errno.EINVAL),
        (map_request(2**64 - PAGE, 2 * PAGE), errno.EINVAL),
        (map_request(2**64 - 1, 2**64 - 1), errno.EINVAL),
        (map_request(0, PAGE, offset=2**64 - 1), errno.EINVAL),
        (map_request(0, PAGE, offset=2**63), errno.EINVAL),
        (map_request(0, PAGE, flags=0), errno.EINVAL),
        (map_request(0, PAGE, flags=4), errno.EINVAL),
        (map_request(0, PAGE, argsz=31), errno.EINVAL),
        (map_request(0, PAGE)[:31], errno.EINVAL),
        (map_request(0x100000, PAGE), errno.EEXIST),
        (map_request(0x100000, 4 * PAGE), errno.EEXIST),
        (map_request(0, 2**40), errno.EEXIST),
        (map_request(0x101000, PAGE), errno.EEXIST),
        (map_request(0x103FFF, PAGE), errno.EEXIST),
        (map_request(0xFF001, PAGE), errno.EEXIST),
    ],
)
@pytest.mark.parametrize("with_fd", [False, True])
def test_refused_maps(client: RawClient, memfd: Memfd, request_: bytes, code: int, with_fd: bool) -> None:
    client.map(0x100000, 4 * PAGE)
    assert client.fails(2, request_, [memfd(PAGE)] if with_fd else []) == code
    client.unmap(0x100000, 4 * PAGE)


def test_maps_may_touch_and_end_at_the_top(client: RawClient) -> None:
    client.map(0x1000, PAGE)
    client.map(0x2000, PAGE)
    client.map(0, PAGE)
    client.map(2**64 - PAGE, PAGE)


def test_beyond_the_end_of_the_file(client: RawClient, memfd: Memfd) -> None:
    fd = memfd(2 * PAGE)
    assert client.fails(2, map_request(0, 3 * PAGE), [fd]) == errno.EINVAL
    assert client.fails(2, map_request(0, PAGE, offset=PAGE + 1), [fd]) == errno.EINVAL


def test_what_is_no_memory(client: RawClient, memfd: Memfd) -> None:
    left, right = socket.socketpair()
    directory = os.open("/", os.O_RDONLY)
    pipe = os.pipe()
    for fd in (left.fileno(), directory, pipe[0]):
        assert client.fails(2, map_request(0, PAGE), [fd]) == errno.EINVAL
    assert client.fails(2, map_request(0, PAGE), [memfd(PAGE), memfd(PAGE)]) == errno.EINVAL
    for fd in (directory, *pipe):
        os.close(fd)
    left.close()
    right.close()


def test_the_number_of_maps_is_bounded(bench: Bench) -> None:
    bench.options = Options(max_maps=3)
    client = bench.client({"max_dma_maps": 100})
    for number in range(3):
        client.map(number * PAGE, PAGE)
    assert client.fails(2, map_request(0x100000, PAGE)) == errno.ENOSPC
    client.unmap(0, PAGE)
    client.map(0x100000, PAGE)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (unmap_request(0x1000, PAGE), errno.ENOENT),
        (unmap_request(0, PAGE), errno.ENOENT),
        (unmap_request(0, 3 * PAGE), errno.ENOENT),
        (unmap_request(0, 0), errno.ENOENT),
        (unmap_request(2**64 - 1, 2), errno.ENOENT),
        (unmap_request(0, PAGE, flags=2), errno.EINVAL),
        (unmap_request(PAGE, 0, flags=2), errno.EINVAL),
        (unmap_request(0, 2 * PAGE, flags=4), errno.EINVAL),
        (unmap_request(0, 2 * PAGE, flags=3), errno.EINVAL),
        (unmap_request(0, 2 * PAGE, argsz=23), errno.EINVAL),
        (unmap_request(0, 2 * PAGE)[:23], errno.EINVAL),
    ],
)
def test_refused_unmaps(client: RawClient, request_: bytes, code: int) -> None:
    client.map(0, 2 * PAGE)
    assert client.fails(3, request_) == code
    client.unmap(0, 2 * PAGE)


def test_unmap_all(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    for number in range(5):
        client.map(number * 2 * PAGE, PAGE, memfd(PAGE) if number % 2 else -1)
    client.bus_master()
    assert client.ok(3, unmap_request(0, 0, flags=2)) == unmap_request(0, 0, flags=2)
    with pytest.raises(DmaError):
        bench.host.read(2 * PAGE, 1)
    client.map(0, 100 * PAGE)


def test_pipelined_maps_keep_their_descriptors(bench: Bench, client: RawClient, memfd: Memfd) -> None:
    """As QEMU sends them: many at once, some without memory."""
    fds = {}
    for number in range(20):
        if number % 3:
            fd = fds[number] = memfd(PAGE)
            os.pwrite(fd, bytes([number]), 0)
        client.send(2, map_request(number * PAGE, PAGE), [fds[number]] if number % 3 else [])
    for _ in range(20):
        assert client.message().flags == 1
    client.bus_master()
    for number in fds:
        assert bench.host.read(number * PAGE, 1)[0] == number
