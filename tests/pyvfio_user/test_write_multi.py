"""REGION_WRITE_MULTI: all of it or none, and only when negotiated."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench


def multi(*writes: tuple[int, int, int, bytes]) -> bytes:
    entries = (struct.pack("<QII8s", offset, region, count, data) for region, offset, count, data in writes)
    return struct.pack("<Q", len(writes)) + b"".join(entries)


def test_many_writes_in_order(bench: Bench) -> None:
    client = bench.client({"write_multiple": True})
    request = multi((0, 0, 4, b"abcd"), (0, 2, 1, b"xyz"), (7, 0x40, 8, b"12345678"), (0, 0x100, 8, b"12345678"))
    assert client.ok(15, request) == struct.pack("<Q", 4)
    assert client.read(0, 0, 4) == b"abxd"
    assert client.read(7, 0x40, 8) == b"12345678"
    client.send(15, multi(*((0, 4 * n, 4, struct.pack("<I", n)) for n in range(200))), flags=0x10)
    assert client.read(0, 4 * 199, 4) == struct.pack("<I", 199)


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        multi()[:7],
        multi((0, 0, 4, b"abcd"))[:-1],
        multi((0, 0, 4, b"abcd")) + b"x",
        struct.pack("<Q", 2**64 - 1) + multi((0, 0, 4, b"abcd"))[8:],
        struct.pack("<Q", 0) + multi((0, 0, 4, b"abcd"))[8:],
        multi((0, 0, 4, b"abcd"), (0, 0, 9, b"abcd")),
        multi((0, 0, 4, b"abcd"), (0, 0, 0, b"")),
        multi((0, 0, 4, b"abcd"), (0, 0xFFFD, 4, b"abcd")),
        multi((0, 0, 4, b"abcd"), (6, 0, 4, b"abcd")),
        multi((0, 0, 4, b"abcd"), (9, 0, 4, b"abcd")),
    ],
)
def test_one_bad_write_spoils_all(bench: Bench, request_: bytes) -> None:
    client = bench.client({"write_multiple": True})
    assert client.fails(15, request_) == errno.EINVAL
    assert client.read(0, 0, 4) == bytes(4)


def test_no_writes(bench: Bench) -> None:
    assert bench.client({"write_multiple": True}).ok(15, multi()) == bytes(8)


@pytest.mark.parametrize("capabilities", [{}, {"write_multiple": False}])
def test_not_negotiated(bench: Bench, capabilities: dict[str, bool]) -> None:
    client = bench.client(dict(capabilities))
    assert client.fails(15, multi((0, 0, 4, b"abcd"))) == errno.EINVAL
    assert client.read(0, 0, 4) == bytes(4)
