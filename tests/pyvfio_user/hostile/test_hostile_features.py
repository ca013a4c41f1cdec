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
def test_every_operation_with_every_length(raw: Any, number: int, operation: int) -> None:
    for length in (0, 1, 7, 8, 15, 16, 23, 24, 64):
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
    assert set_state(raw, STOPPED) == 0
    assert set_state(raw, RESUMING) == 0
    for start in range(0, len(stream), 1 << 16):
        part = stream[start : start + (1 << 16)]
        assert raw.errno(DATA_WRITE, m.MIG_DATA.pack(8 + len(part), len(part)) + part) != raw.CLOSED
    assert set_state(raw, STOPPED) != raw.CLOSED
    assert raw.still_served()
    assert raw.errno(m.Command.DEVICE_RESET) == 0
    assert state(raw) == RUNNING


def saved(raw: Any) -> bytes:
    """The stream of a device whose buffer has been written to."""
    assert raw.write(1, 0, b"state") == 0
    assert set_state(raw, STOPPED) == 0
    assert set_state(raw, STOP_COPY) == 0
    stream = b""
    while True:
        error, reply = raw.ask(DATA_READ, m.MIG_DATA.pack(8 + 1000, 1000))
        assert error == 0
        assert len(reply) <= 8 + 1000
        if len(reply) == 8:
            break
        stream += reply[8:]
    assert raw.errno(m.Command.DEVICE_RESET) == 0
    return stream


def restore(raw: Any, stream: bytes) -> int:
    """Errno of the last step."""
    assert set_state(raw, STOPPED) == 0
    assert set_state(raw, RESUMING) == 0
    for start in range(0, len(stream), 3000):
        part = stream[start : start + 3000]
        error = raw.errno(DATA_WRITE, m.MIG_DATA.pack(8 + len(part), len(part)) + part)
        if error:
            return int(error)
    return set_state(raw, STOPPED)


def test_a_whole_stream_is_taken_back(raw: Any) -> None:
    stream = saved(raw)
    assert restore(raw, stream) == 0
    assert set_state(raw, RUNNING) == 0
    assert raw.read(1, 0, 5) == b"state"


@pytest.mark.parametrize("harm", ["cut", "empty", "longer", "head", "twice"])
def test_a_stream_that_was_harmed(raw: Any, harm: str) -> None:
    stream = saved(raw)
    stream = {
        "cut": stream[:-1],
        "empty": b"",
        "longer": stream + b"x",
        "head": b"\xff" * 16 + stream[16:],
        "twice": stream * 2,
    }[harm]
    assert restore(raw, stream) not in (0, raw.CLOSED)
    assert raw.errno(m.Command.DEVICE_RESET) == 0
    assert state(raw) == RUNNING
    assert raw.read(1, 0, 5) == bytes(5)


def test_a_stream_without_end(raw: Any) -> None:
    """A client that never stops sending state meets a limit, or at least the server survives 64 MiB of it."""
    assert set_state(raw, STOPPED) == 0
    assert set_state(raw, RESUMING) == 0
    part = bytes((1 << 20) - 64)
    for _ in range(64):
        error = raw.errno(DATA_WRITE, m.MIG_DATA.pack(8 + len(part), len(part)) + part)
        assert error != raw.CLOSED
        if error:
            break
    assert raw.still_served()


@pytest.mark.parametrize("size", [0, 1, 2**20 + 1, 2**32 - 1])
def test_sizes_of_migration_data_in_the_right_state(raw: Any, size: int) -> None:
    assert set_state(raw, STOPPED) == 0
    assert set_state(raw, STOP_COPY) == 0
    error, reply = raw.ask(DATA_READ, m.MIG_DATA.pack(2**32 - 1, size))
    assert error != raw.CLOSED
    assert len(reply) <= 8 + (1 << 20)
    assert set_state(raw, STOPPED) == 0
    assert set_state(raw, RESUMING) == 0
    assert raw.errno(DATA_WRITE, m.MIG_DATA.pack(12, size) + b"data") not in (0, raw.CLOSED)
    assert raw.still_served()


def test_dma_of_a_stopped_device(raw: Any) -> None:
    """What was asked for while it is stopped isn't lost and isn't done."""
    assert set_state(raw, STOPPED) == 0
    done = raw.read(0, 16, 4)
    assert raw.write(0, 0, struct.pack("<QII", 0, 4, 1)) == 0
    assert raw.still_served()
    assert raw.read(0, 16, 4) == done
    assert set_state(raw, RUNNING) == 0


def test_no_errors_by_the_way(raw: Any) -> None:
    error = raw.errno(FEATURE, feature(MIGRATION | PROBE | GET))
    assert error in (0, errno.EINVAL, errno.ENOTSUP, errno.ENOTTY)
