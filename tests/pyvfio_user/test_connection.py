"""The sans-IO stream: messages come out whole whatever the cuts, descriptors with theirs, bad framing ends it."""

from __future__ import annotations

import os
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio_user.connection import (
    HEADER_ROOM,
    Connection,
    Message,
    ProtocolError,
    close_all,
    pack_command,
    pack_error,
    pack_reply,
)


def header(size: int, flags: int = 0, msg_id: int = 1, command: int = 4) -> bytes:
    return struct.pack("<HHIII", msg_id, command, size, flags, 0)


def drain(connection: Connection) -> list[Message]:
    return list(iter(connection.next_message, None))


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_builders_follow_the_header_layout() -> None:
    assert pack_command(0x1234, 9, b"abc") == bytes.fromhex("34120900 13000000 00000000 00000000") + b"abc"
    assert pack_command(1, 10, no_reply=True) == bytes.fromhex("01000a00 10000000 10000000 00000000")
    assert pack_reply(2, 9, b"x") == bytes.fromhex("02000900 11000000 01000000 00000000") + b"x"
    assert pack_error(2, 9, 22) == bytes.fromhex("02000900 10000000 21000000 16000000")


def test_kinds_of_message() -> None:
    connection = Connection()
    connection.receive(
        pack_command(1, 4) + pack_command(2, 10, no_reply=True) + pack_reply(3, 11) + pack_error(4, 11, 5)
    )
    command, posted, reply, error = drain(connection)
    assert [m.wants_reply for m in (command, posted, reply, error)] == [True, False, False, False]
    assert [m.is_reply for m in (command, posted, reply, error)] == [False, False, True, True]
    assert [m.is_error for m in (command, posted, reply, error)] == [False, False, False, True]
    assert error.error == 5


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=8), st.data())
def test_cuts_do_not_matter(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pack_command(number, 10, payload) for number, payload in enumerate(payloads))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    connection = Connection()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        connection.receive(stream[start:end])
        got += drain(connection)
    assert [(m.msg_id, m.payload) for m in got] == list(enumerate(payloads))
    assert not connection.mid_message


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=8), st.data())
def test_descriptors_stay_with_their_message(shape: list[tuple[int, int]], data: st.DataObject) -> None:
    """Cut as the kernel cuts: after a write that carried descriptors, and anywhere else."""
    connection = Connection()
    got = []
    number = 1000
    expected = []
    pending = b""
    for size, count in shape:
        message = pack_command(1, 8, bytes(size))
        fds = list(range(number, number + count))
        number += count
        expected.append(fds)
        cut = data.draw(st.integers(1, len(message)))
        glued = data.draw(st.booleans())
        if not glued and pending:
            connection.receive(pending, [])
            got += drain(connection)
            pending = b""
        if fds:
            connection.receive(pending + message[:cut], list(fds))
            got += drain(connection)
            pending = message[cut:]
        else:
            pending += message
    if pending:
        connection.receive(pending)
    got += drain(connection)
    assert [m.fds for m in got] == expected


def test_descriptors_of_a_later_part_join_their_message() -> None:
    connection = Connection()
    message = pack_command(1, 8, bytes(20))
    connection.receive(message[:20], [1000])
    assert connection.next_message() is None
    connection.receive(message[20:], [1001])
    assert drain(connection)[0].fds == [1000, 1001]


@pytest.mark.parametrize("size", [0, 15, 0xFFFFFFFF, (1 << 20) + HEADER_ROOM + 1])
def test_bad_size_ends_the_stream(size: int) -> None:
    connection = Connection()
    connection.receive(header(size) + pack_command(1, 4))
    for _ in range(2):
        with pytest.raises(ProtocolError, match=str(size)):
            connection.next_message()


@pytest.mark.parametrize("kind", range(2, 16))
def test_bad_type_ends_the_stream(kind: int) -> None:
    connection = Connection()
    connection.receive(header(16, kind))
    with pytest.raises(ProtocolError, match=str(kind)):
        connection.next_message()


def test_messages_before_the_bad_one_come_out() -> None:
    connection = Connection()
    connection.receive(pack_command(7, 4) + header(3))
    message = connection.next_message()
    assert message is not None
    assert message.msg_id == 7
    with pytest.raises(ProtocolError):
        connection.next_message()


def test_the_limit_is_on_the_declared_size() -> None:
    connection = Connection(100)
    connection.receive(pack_command(1, 4, bytes(84)))
    assert len(drain(connection)) == 1
    connection.receive(header(101))
    with pytest.raises(ProtocolError):
        connection.next_message()


def test_too_many_descriptors_for_one_message() -> None:
    connection = Connection()
    start = header(1000)
    connection.receive(start, list(range(10000, 10253)))
    assert connection.next_message() is None
    connection.receive(b"x", [10253])
    with pytest.raises(ProtocolError, match="descriptors"):
        connection.next_message()


def test_close_closes_what_nobody_took_and_nothing_else() -> None:
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    connection = Connection()
    connection.receive(pack_command(1, 8), [fds[0], fds[1]])
    message = connection.next_message()
    assert message is not None
    connection.receive(header(30), [fds[2]])
    assert connection.next_message() is None
    connection.close()
    assert [is_open(fd) for fd in fds] == [True, True, False]
    kept = message.fds.pop(0)
    message.close_fds()
    assert [is_open(fd) for fd in fds] == [True, False, False]
    close_all([kept])


def test_a_slow_drip_costs_linear_time() -> None:
    connection = Connection()
    message = pack_command(1, 10, bytes(1 << 19))
    start = time.process_time()
    for position in range(0, len(message), 8):
        assert connection.next_message() is None
        connection.receive(message[position : position + 8])
    assert time.process_time() - start < 2
    assert len(drain(connection)) == 1


def test_ids_wrap() -> None:
    connection = Connection()
    ids = [connection.next_id() for _ in range(65537)]
    assert ids[0] == ids[-1] == 0
    assert max(ids) == 65535
