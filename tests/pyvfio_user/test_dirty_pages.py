"""Dirty page logs: DEVICE_FEATURE's DMA_LOGGING_* and the bitmap of DMA_UNMAP."""

from __future__ import annotations

import errno
import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio_user.dirty import DirtyLog

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench, RawClient

PAGE = 4096
GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18
START, STOP, REPORT = 6, 7, 8


def bits(bitmap: bytes) -> set[int]:
    return {8 * at + bit for at, byte in enumerate(bitmap) if byte for bit in range(8) if byte >> bit & 1}


@given(
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 20000)), max_size=10),
    st.integers(0, 300),
    st.integers(1, 1 << 20),
    st.sampled_from([512, 1024, 4096, 8192, 65536, 1 << 21]),
)
def test_a_report_holds_each_written_page(
    writes: list[tuple[int, int]], start: int, length: int, page_size: int
) -> None:
    """Compared with a set of bytes: pages of 4096 are dirty as wholes, then seen at the page size asked for."""
    log = DirtyLog(PAGE)
    dirty = set()
    for addr, size in writes:
        log.mark(addr, size)
        dirty |= set(range(addr // PAGE, (addr + size - 1) // PAGE + 1))
    iova = start * page_size
    expected = set()
    for page in dirty:
        low, high = max(page * PAGE, iova), min((page + 1) * PAGE, iova + length)
        if low < high:
            expected |= set(range((low - iova) // page_size, (high - 1 - iova) // page_size + 1))
    bitmap = log.report(iova, length, page_size)
    assert len(bitmap) == 8 * math.ceil(math.ceil(length / page_size) / 64)
    assert bits(bitmap) == expected
    partly = {page for page in dirty if page_size < PAGE and not iova <= page * PAGE <= iova + length - PAGE}
    again = bits(log.report(iova, length, page_size))
    assert all((iova + number * page_size) // PAGE in partly for number in again)


def test_parts_of_a_page_are_reported_one_after_the_other() -> None:
    log = DirtyLog(PAGE)
    log.mark(0, 1)
    assert bits(log.report(0, 1024, 1024)) == {0}
    assert bits(log.report(1024, 3072, 1024)) == {0, 1, 2}
    assert bits(log.report(0, 2 * PAGE, 1024)) == {0, 1, 2, 3}
    assert bits(log.report(0, 2 * PAGE, 1024)) == set()


def test_huge_ranges_cost_little() -> None:
    log = DirtyLog(PAGE)
    log.mark(2**63, 1)
    log.mark(2**64 - 1, 1)
    bitmap = log.report(0, 2**64 - 1, 2**40)
    assert bits(bitmap) == {2**23, 2**24 - 1}


def start(client: RawClient, *ranges: tuple[int, int], page_size: int = PAGE) -> None:
    data = struct.pack("<QII", page_size, len(ranges), 0) + b"".join(struct.pack("<QQ", *entry) for entry in ranges)
    request = struct.pack("<II", 8 + len(data), SET | START) + data
    assert client.ok(16, request) == request


def report(client: RawClient, iova: int, length: int, page_size: int = PAGE, argsz: int = 1000) -> bytes:
    request = struct.pack("<II", argsz, GET | REPORT) + struct.pack("<QQQ", iova, length, page_size)
    payload = client.ok(16, request)
    assert struct.unpack_from("<II", payload) == (len(payload), GET | REPORT)
    assert payload[8:32] == request[8:]
    return payload[32:]


def test_what_the_device_writes_is_reported_once(bench: Bench, client: RawClient, memfd: Callable[..., int]) -> None:
    client.map(0, 256 * PAGE, memfd(256 * PAGE))
    client.bus_master()
    bench.host.write(0, b"before")
    view = bench.host.view(0, PAGE)
    generation = bench.host.generation
    start(client)
    assert view is not None
    assert bench.host.generation > generation
    assert bench.host.view(0, PAGE) is None  # writes through a view can't be seen
    bench.host.write(3 * PAGE - 1, b"ab")
    bench.host.write(100 * PAGE, b"c")
    bench.host.read(50 * PAGE, 4)
    assert bits(report(client, 0, 256 * PAGE)) == {2, 3, 100}
    assert bits(report(client, 0, 256 * PAGE)) == set()
    bench.host.write(PAGE, b"d")
    assert bits(report(client, 0, 256 * PAGE, 4 * PAGE)) == {0}
    stop = struct.pack("<II", 8, SET | STOP)
    assert client.ok(16, stop) == stop
    assert bench.host.view(0, PAGE) is not None
    assert client.fails(16, struct.pack("<IIQQQ", 1000, GET | REPORT, 0, PAGE, PAGE)) == errno.EINVAL


def test_only_the_ranges_asked_for(bench: Bench, client: RawClient, memfd: Callable[..., int]) -> None:
    client.map(0, 64 * PAGE, memfd(64 * PAGE))
    client.bus_master()
    start(client, (4 * PAGE, 4 * PAGE), (32 * PAGE, PAGE))
    for page in (0, 4, 7, 8, 32):
        bench.host.write(page * PAGE, b"x")
    assert bits(report(client, 0, 64 * PAGE)) == {4, 7, 32}


def test_a_report_too_large_for_the_client_clears_nothing(
    bench: Bench, client: RawClient, memfd: Callable[..., int]
) -> None:
    client.map(0, 64 * PAGE, memfd(64 * PAGE))
    client.bus_master()
    start(client)
    bench.host.write(0, b"x")
    short = client.ok(16, struct.pack("<IIQQQ", 32, GET | REPORT, 0, 64 * PAGE, PAGE))
    assert struct.unpack("<II", short) == (40, GET | REPORT)
    assert bits(report(client, 0, 64 * PAGE, argsz=40)) == {0}


def test_the_bitmap_of_an_unmap(bench: Bench, client: RawClient, memfd: Callable[..., int]) -> None:
    client.map(64 * PAGE, 8 * PAGE, memfd(8 * PAGE))
    client.bus_master()
    request = struct.pack("<IIQQQQ", 48, 1, 64 * PAGE, 8 * PAGE, PAGE, 8)
    assert client.fails(3, request) == errno.EINVAL  # nothing is logged
    start(client)
    bench.host.write(66 * PAGE, b"x")
    for bad in (
        struct.pack("<IIQQQQ", 47, 1, 64 * PAGE, 8 * PAGE, PAGE, 8),
        struct.pack("<IIQQQQ", 48, 1, 64 * PAGE, 8 * PAGE, PAGE, 16),
        struct.pack("<IIQQQQ", 48, 1, 64 * PAGE, 8 * PAGE, 0, 8),
        struct.pack("<IIQQQQ", 48, 1, 64 * PAGE, 8 * PAGE, 3000, 8),
        request[:-1],
    ):
        assert client.fails(3, bad) == errno.EINVAL
    assert client.fails(3, struct.pack("<IIQQQQ", 48, 1, 64 * PAGE, PAGE, PAGE, 8)) == errno.ENOENT
    payload = client.ok(3, request)
    assert payload[8:40] == request[8:]
    assert bits(payload[40:]) == {2}
    assert client.fails(3, request) == errno.ENOENT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<QII", PAGE, 0, 0)[:15],
        struct.pack("<QII", 0, 0, 0),
        struct.pack("<QII", 3000, 0, 0),
        struct.pack("<QII", PAGE, 1, 0),
        struct.pack("<QII", PAGE, 2**32 - 1, 0),
        struct.pack("<QIIQQ", PAGE, 0, 0, 0, PAGE),
        struct.pack("<QIIQQ", PAGE, 1, 0, 0, 0),
        struct.pack("<QIIQQ", PAGE, 1, 0, 2**64 - 1, 2),
    ],
)
def test_bad_starts(client: RawClient, data: bytes) -> None:
    assert client.fails(16, struct.pack("<II", 8 + len(data), SET | START) + data) == errno.EINVAL
    start(client)
    assert client.fails(16, struct.pack("<IIQII", 24, SET | START, PAGE, 0, 0)) == errno.EINVAL  # again


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", errno.EINVAL),
        (struct.pack("<QQQ", 0, PAGE, PAGE)[:23], errno.EINVAL),
        (struct.pack("<QQQ", 0, PAGE, 0), errno.EINVAL),
        (struct.pack("<QQQ", 0, PAGE, 3), errno.EINVAL),
        (struct.pack("<QQQ", 0, 0, PAGE), errno.EINVAL),
        (struct.pack("<QQQ", 1, PAGE, PAGE), errno.EINVAL),
        (struct.pack("<QQQ", 2**64 - PAGE, 2 * PAGE, PAGE), errno.EINVAL),
        (struct.pack("<QQQ", 0, 2**64 - 1, 1), errno.E2BIG),
        (struct.pack("<QQQ", 0, 2**64 - 1, PAGE), errno.E2BIG),
    ],
)
def test_bad_reports(client: RawClient, data: bytes, code: int) -> None:
    start(client)
    assert client.fails(16, struct.pack("<II", 2**32 - 1, GET | REPORT) + data) == code
