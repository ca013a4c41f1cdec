"""Messages that are cut, mis-sized, of wrong types or of unknown commands."""

from __future__ import annotations

import errno
import struct
import time
from typing import Any

import pytest

from pyvfio_user import messages as m

INFO = m.DEVICE_INFO.pack(16, 0, 0, 0)
GET_INFO = m.Command.DEVICE_GET_INFO


@pytest.mark.parametrize("count", range(1, 48))
def test_end_of_stream_after_each_byte(raw: Any, count: int) -> None:
    data = raw.message(GET_INFO, INFO) + raw.message(m.Command.DEVICE_RESET)
    raw.send(data[:count])
    raw.close()


def test_end_of_stream_before_the_first_byte(stranger: Any) -> None:
    stranger.close()


def test_a_slow_drip_is_served(raw: Any) -> None:
    for byte in raw.message(GET_INFO, INFO):
        raw.send(bytes([byte]))
        time.sleep(0.001)
    assert raw.reply()[1] == 0


def test_while_one_drips_its_bytes_cost_nothing_later(raw: Any) -> None:
    """A message of many pieces, then another: nothing of the first is left."""
    data = raw.message(m.Command.REGION_WRITE, m.REGION_ACCESS.pack(0, 1, 4096) + b"x" * 4096)
    for start in range(0, len(data), 100):
        raw.send(data[start : start + 100])
    assert raw.reply()[1] == 0
    assert raw.read(1, 4092, 4) == b"xxxx"


@pytest.mark.parametrize("size", [0, 1, 15, 1 << 21, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_sizes_that_no_message_has_end_the_connection(raw: Any, size: int) -> None:
    raw.send(raw.message(GET_INFO, INFO, size=size))
    assert raw.hung_up()


@pytest.mark.parametrize("command", [c for c in m.Command if c not in (m.Command.DEVICE_RESET, m.Command.VERSION)])
def test_payloads_that_are_too_short(raw: Any, command: int) -> None:
    for length in (0, 1, 3, 4, 7, 12):
        assert raw.errno(command, b"\xff" * length) == errno.EINVAL
    assert raw.still_served()


@pytest.mark.parametrize("command", [c for c in m.Command if c != m.Command.VERSION])
def test_payloads_that_are_too_long(raw: Any, command: int, refused: frozenset[int]) -> None:
    assert raw.errno(command, bytes(200)) in {*refused, 0}
    assert raw.still_served()


def test_declared_more_than_sent_then_gone(raw: Any) -> None:
    raw.send(raw.message(m.Command.REGION_WRITE, m.REGION_ACCESS.pack(0, 1, 4096) + b"x" * 100, size=32 + 4096))
    raw.close()


def test_many_messages_in_one_write_are_answered_in_order(raw: Any) -> None:
    writes = [
        raw.message(m.Command.REGION_WRITE, m.REGION_ACCESS.pack(4 * i, 1, 4) + struct.pack("<I", i), flags=m.NO_REPLY)
        for i in range(500)
    ]
    reads = [raw.message(m.Command.REGION_READ, m.REGION_ACCESS.pack(4 * i, 1, 4)) for i in range(500)]
    raw.send(b"".join(writes + reads))
    for i in range(500):
        assert struct.unpack("<I", raw.reply()[2][16:]) == (i,)


@pytest.mark.parametrize("kind", range(2, 16))
def test_message_types_that_dont_exist(raw: Any, kind: int) -> None:
    raw.send(raw.message(GET_INFO, INFO, flags=kind))
    assert raw.hung_up()


@pytest.mark.parametrize("command", [*m.Command, 0, 0xFFFF])
def test_replies_to_nothing(raw: Any, command: int) -> None:
    """They are nothing to answer: ignored, or the end."""
    raw.send(raw.message(command, bytes(16), flags=m.TYPE_REPLY))
    raw.send(raw.message(command, flags=m.TYPE_REPLY | m.ERROR, error=5))
    raw.send(raw.message(GET_INFO, INFO))
    assert raw.reply()[:2] in [(GET_INFO, 0), (0, raw.CLOSED)]


@pytest.mark.parametrize("command", [0, 14, 19, 255, 0xFFFF, m.Command.DMA_READ, m.Command.DMA_WRITE])
def test_commands_a_server_doesnt_know(raw: Any, command: int) -> None:
    for payload in (b"", bytes(16), bytes(64)):
        assert raw.errno(command, payload) in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
    assert raw.still_served()


@pytest.mark.parametrize("flags", [0x20, 0x40, 0x80, 0xFFFFFFC0, 0x80000000])
def test_reserved_flags(raw: Any, flags: int) -> None:
    raw.send(raw.message(GET_INFO, INFO, flags=flags))
    assert raw.reply()[1] in (0, errno.EINVAL, raw.CLOSED)


@pytest.mark.parametrize("command", list(m.Command))
def test_no_reply_is_honoured_for_every_command(raw: Any, command: int) -> None:
    """Errors included: the next reply is the next command's, or the connection has ended."""
    raw.send(raw.message(command, bytes(32), flags=m.NO_REPLY))
    raw.send(raw.message(GET_INFO, INFO))
    assert raw.reply()[:2] in [(GET_INFO, 0), (0, raw.CLOSED)]


def test_an_error_number_in_a_command_means_nothing(raw: Any) -> None:
    raw.send(raw.message(GET_INFO, INFO, error=0xFFFFFFFF))
    assert raw.reply()[1] == 0


def test_garbage(raw: Any) -> None:
    raw.send(bytes(range(256)) * 64)
    assert raw.hung_up()


@pytest.mark.parametrize("argsz", [0, 1, 15, 0xFFFFFFFF])
@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (GET_INFO, struct.pack("<III", 0, 0, 0)),
        (m.Command.DEVICE_GET_REGION_INFO, struct.pack("<IIIQQ", 0, 2, 0, 0, 0)),
        (m.Command.DEVICE_GET_REGION_IO_FDS, struct.pack("<III", 0, 0, 0)),
        (m.Command.DEVICE_GET_IRQ_INFO, struct.pack("<III", 0, 2, 0)),
        (m.Command.DEVICE_FEATURE, struct.pack("<I", 1 | m.FEATURE_GET)),
        (m.Command.MIG_DATA_READ, struct.pack("<I", 4096)),
    ],
)
def test_argsz_that_doesnt_fit(raw: Any, command: int, payload: bytes, argsz: int) -> None:
    """An argsz too small for the answer is an error or is told; a huge one makes the server allocate nothing huge."""
    _, answer = raw.ask(command, struct.pack("<I", argsz) + payload)
    assert len(answer) < 4096
    assert raw.still_served()
