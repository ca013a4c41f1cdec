"""DEVICE_FEATURE and migration data: truncated payloads, unknown features, sizes to drown in, states to jump to."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

import pytest

from pyvfio_user import messages as m

FEATURE, DATA_READ, DATA_WRITE = m.Command.DEVICE_FEATURE, m.Command.MIG_DATA_READ, m.Command.MIG_DATA_WRITE
GET, SET, PROBE = m.FEATURE_GET, m.FEATURE_SET, m.FEATURE_PROBE
MIGRATION, STATE, START, STOP, REPORT = 1, 2, 6, 7, 8
KNOWN = (MIGRATION, STATE, START, STOP, REPORT)
ERROR, STOPPED, RUNNING, STOP_COPY, RESUMING = range(5)
PAGE = 4096


def feature(flags: int, data: bytes = b"", argsz: int = -1) -> bytes:
    return m.FEATURE.pack(8 + len(data) if argsz < 0 else argsz, flags) + data


def set_state(raw: Any, state: int) -> int:
    return int(raw.errno(FEATURE, feature(STATE | SET, m.DEVICE_STATE.pack(state, 0))))


def state(raw: Any) -> int:
    error, reply = raw.ask(FEATURE, feature(STATE | GET, bytes(8)))
    assert error == 0
    return int(m.DEVICE_STATE.unpack_from(reply, 8)[0])


@pytest.mark.parametrize("number", [*KNOWN, 0, 3, 9, 0xFFFF])
@pytest.mark.parametrize("operation", [0, GET, SET, PROBE, GET | SET, GET | SET | PROBE, GET | PROBE, 1 << 19, 1 << 31])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 15, 16, 23, 24, 64])
def test_every_operation_with_every_length(raw: Any, number: int, operation: int, length: int) -> None:
    error, reply = raw.ask(FEATURE, feature(number | operation, b"\xff" * length))
    assert error != raw.CLOSED
    if number not in KNOWN or operation in (0, GET | SET, 1 << 19, 1 << 31):
        assert error != 0
    assert len(reply) <= 8 + 64
    assert raw.still_served()


@pytest.mark.parametrize(
    ("iova", "length", "page_size"),
    [
        (0, PAGE, 0),
        (0, PAGE, 3),
        (0, PAGE, 2**63),
        (0, 2**64 - 1, PAGE),
        (0, 2**63, 1),
        (2**64 - 1, 2**64 - 1, PAGE),
        (0, 0, PAGE),
        (0, 1 << 45, PAGE),
    ],
)
def test_reports_to_drown_in(raw: Any, iova: int, length: int, page_size: int) -> None:
    raw.ask(FEATURE, feature(START | SET, m.LOGGING_START.pack(PAGE, 0, 0)))
    data = m.LOGGING_REPORT.pack(iova, length, page_size)
    for argsz in (8 + 24, 8 + 24 + 8, 2**32 - 1):
        error, reply = raw.ask(FEATURE, feature(REPORT | GET, data, argsz))
        assert error != raw.CLOSED
        assert len(reply) < 1 << 20
    assert raw.still_served()


@pytest.mark.parametrize(
    ("page_size", "ranges", "data"),
    [
        (0, 0, b""),
        (3, 0, b""),
        (2**63, 0, b""),
        (PAGE, 1, b""),
        (PAGE, 2**32 - 1, bytes(16)),
        (PAGE, 1, struct.pack("<QQ", 2**64 - 1, 2**64 - 1)),
        (1, 1, struct.pack("<QQ", 0, 2**64 - 1)),
        (PAGE, 1, bytes(16 * 100)),
    ],
)
def test_logging_what_cant_be_logged(raw: Any, page_size: int, ranges: int, data: bytes) -> None:
    error = raw.errno(FEATURE, feature(START | SET, m.LOGGING_START.pack(page_size, ranges, 0) + data))
    assert error != raw.CLOSED
    fd = os.memfd_create("guest")
    os.ftruncate(fd, PAGE)
    assert raw.map(0, PAGE, [fd]) == 0
    os.close(fd)
    raw.bus_master()
    assert raw.engine(2, 0, 64) == 0
    assert raw.still_served()


def test_stopping_a_log_that_never_was(raw: Any) -> None:
    raw.errno(FEATURE, feature(STOP | SET))
    raw.errno(FEATURE, feature(STOP | SET))
    assert raw.errno(FEATURE, feature(REPORT | GET, m.LOGGING_REPORT.pack(0, PAGE, PAGE), 4096)) not in (0, raw.CLOSED)


@pytest.mark.parametrize("target", [ERROR, 5, 6, 7, 8, 99, 2**32 - 1])
def test_states_that_cant_be_asked_for(raw: Any, target: int) -> None:
    assert set_state(raw, target) not in (raw.CLOSED,)
    assert raw.still_served()
    raw.errno(m.Command.DEVICE_RESET)


def test_every_jump_between_states(raw: Any) -> None:
    """Whatever is refused, it is refused in words, and a reset puts the device right."""
    for first in range(9):
        for second in range(9):
            assert set_state(raw, first) != raw.CLOSED
            assert set_state(raw, second) != raw.CLOSED
            assert raw.errno(m.Command.DEVICE_RESET) == 0
    assert raw.still_served()


@pytest.mark.parametrize("size", [0, 1, 2**20 + 1, 2**31, 2**32 - 1])
def test_reading_migration_data_in_the_wrong_state(raw: Any, size: int) -> None:
    error, _ = raw.ask(DATA_READ, m.MIG_DATA.pack(8, size))
    assert error not in (0, raw.CLOSED)
    assert raw.still_served()


@pytest.mark.parametrize(("size", "data"), [(0, b""), (4, b"data"), (2**32 - 1, b"data"), (4, b""), (1, b"data")])
def test_writing_migration_data_in_the_wrong_state(raw: Any, size: int, data: bytes) -> None:
    assert raw.errno(DATA_WRITE, m.MIG_DATA.pack(8 + len(data), size) + data) not in (0, raw.CLOSED)
    assert raw.still_served()


@pytest.mark.parametrize(
    "stream",
    [b"", b"\0", b"\xff" * 100, b"{" * 10_000, bytes(70_000), b"softigb" * 1000, b"\x80\x05K\x01."],
    ids=["empty", "short", "ones", "braces", "zeros", "words", "pickle"],
)
def test_resuming_from_garbage(raw: Any, stream: bytes) -> None:
    if set_state(raw, STOPPED) or set_state(raw, RESUMING):
        pytest.skip("this server's device can't migrate")
    for start in range(0, len(stream), 1 << 16):
        part = stream[start : start + (1 << 16)]
        assert raw.errno(DATA_WRITE, m.MIG_DATA.pack(8 + len(part), len(part)) + part) != raw.CLOSED
    assert set_state(raw, STOPPED) != raw.CLOSED
    assert raw.still_served()
    assert raw.errno(m.Command.DEVICE_RESET) == 0
    assert state(raw) == RUNNING


def test_no_errors_by_the_way(raw: Any) -> None:
    error = raw.errno(FEATURE, feature(MIGRATION | PROBE | GET))
    assert error in (0, errno.EINVAL, errno.ENOTSUP, errno.ENOTTY)
