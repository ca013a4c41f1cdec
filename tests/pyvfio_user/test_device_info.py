"""DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_REGION_IO_FDS, DEVICE_GET_IRQ_INFO and DEVICE_RESET."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from pyvfio_user import IoEvent, MmapArea, Region, Reset

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench, RawClient


def test_device_info(client: RawClient) -> None:
    assert struct.unpack("<IIII", client.ok(4, struct.pack("<IIII", 16, 0, 0, 0))) == (16, 3, 9, 5)
    assert client.fails(4, struct.pack("<IIII", 15, 0, 0, 0)) == errno.EINVAL
    assert client.fails(4, bytes(12)) == errno.EINVAL


@pytest.mark.parametrize(
    ("index", "flags", "size"),
    [(0, 3, 0x10000), (1, 1, 0x1000), (2, 0, 0), (6, 1, 0x800), (7, 3, 4096), (8, 0, 0)],
)
def test_region_info(client: RawClient, index: int, flags: int, size: int) -> None:
    payload = client.ok(5, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
    assert struct.unpack("<IIIIQQ", payload) == (32, flags, index, 0, size, 0)


@pytest.mark.parametrize("request_", [struct.pack("<IIIIQQ", 32, 0, 9, 0, 0, 0), struct.pack("<IIIIQQ", 31, *[0] * 5)])
def test_bad_region_info(client: RawClient, request_: bytes) -> None:
    assert client.fails(5, request_) == errno.EINVAL


def test_sparse_mmap(bench: Bench, memfd: Callable[..., int]) -> None:
    fd = memfd(0x10000)
    os.pwrite(fd, b"doorbell", 0xC000)
    bench.device.regions[0] = Region(0x10000, fd=fd, areas=(MmapArea(0xC000, 0x1000), MmapArea(0xE000, 0x1000)))
    client = bench.client()
    short = client.request(5, struct.pack("<IIIIQQ", 32, 0, 0, 0, 0, 0))
    assert struct.unpack("<IIIIQQ", short.payload) == (80, 15, 0, 0, 0x10000, 0)
    assert short.fds == []
    full = client.request(5, struct.pack("<IIIIQQ", 80, 0, 0, 0, 0, 0) + bytes(48))
    assert struct.unpack_from("<IIIIQQ", full.payload) == (80, 15, 0, 32, 0x10000, 0)
    assert struct.unpack_from("<HHIIIQQQQ", full.payload, 32)[:5] == (1, 1, 0, 2, 0)
    assert struct.unpack_from("<4Q", full.payload, 48) == (0xC000, 0x1000, 0xE000, 0x1000)
    assert len(full.fds) == 1
    with mmap.mmap(full.fds[0], 0x1000, offset=0xC000) as area:
        assert area[:8] == b"doorbell"
    os.close(full.fds[0])
    os.fstat(fd)


def test_irq_info(client: RawClient) -> None:
    infos = [struct.unpack("<IIII", client.ok(7, struct.pack("<IIII", 16, 0, index, 0))) for index in range(5)]
    # EVENTFD 1, MASKABLE 2, AUTOMASKED 4; NORESIZE 8 must not be there
    assert infos == [(16, 7, 0, 1), (16, 1, 1, 4), (16, 1, 2, 8), (16, 1, 3, 1), (16, 1, 4, 1)]
    for index in (5, 2**32 - 1):
        assert client.fails(7, struct.pack("<IIII", 16, 0, index, 0)) == errno.EINVAL
    assert client.fails(7, struct.pack("<IIII", 15, 0, 0, 0)) == errno.EINVAL


def test_a_device_without_an_index(bench: Bench) -> None:
    bench.device.irq_counts = (0, 4, 8)
    client = bench.client()
    assert client.ok(7, struct.pack("<IIII", 16, 0, 0, 0)) == struct.pack("<IIII", 16, 0, 0, 0)
    client.set_irqs(0, 0x21, 0, 0)
    bench.host.intx(True)
    assert client.fails(8, struct.pack("<5I", 20, 0x24, 0, 0, 1)) == errno.EINVAL


def test_reset(bench: Bench, client: RawClient) -> None:
    client.bus_master()
    generation = bench.host.generation
    assert client.ok(13) == b""
    assert bench.device.log[-1] is Reset.DEVICE
    assert bench.host.generation > generation
    assert client.fails(13, b"x") == errno.EINVAL


def test_no_io_fds_unless_the_device_offers_them(client: RawClient) -> None:
    assert client.ok(6, struct.pack("<IIII", 16, 0, 0, 0)) == struct.pack("<IIII", 16, 0, 0, 0)
    for argsz, flags, index, count in [(15, 0, 0, 0), (16, 1, 0, 0), (16, 0, 9, 0), (16, 0, 0, 1)]:
        assert client.fails(6, struct.pack("<IIII", argsz, flags, index, count)) == errno.EINVAL


def test_ioeventfds(bench: Bench) -> None:
    def io_events(region: int) -> Sequence[IoEvent]:
        return [IoEvent(0x18, 4), IoEvent(0x20, 2, 7)] if region == 0 else []

    bench.device.io_events = io_events  # type: ignore[attr-defined]
    client = bench.client()
    assert struct.unpack("<IIII", client.ok(6, struct.pack("<IIII", 16, 0, 0, 0))) == (96, 0, 0, 0)
    reply = client.request(6, struct.pack("<IIII", 96, 0, 0, 0))
    assert struct.unpack_from("<IIII", reply.payload) == (96, 0, 0, 2)
    assert struct.unpack_from("<QQIIIIQ", reply.payload, 16) == (0x18, 4, 0, 0, 0, 0, 0)
    assert struct.unpack_from("<QQIIIIQ", reply.payload, 56) == (0x20, 2, 1, 0, 1, 0, 7)
    processed = bench.device.processed
    for fd in reply.fds:
        os.eventfd_write(fd, 1)
        os.close(fd)
    client.pump(lambda: len(bench.device.log) == 3 and bench.device.processed > processed)
    assert sorted(bench.device.log[1:]) == [(0, 0x18, bytes(4)), (0, 0x20, b"\7\0")]
