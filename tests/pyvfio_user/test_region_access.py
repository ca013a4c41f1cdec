"""REGION_READ and REGION_WRITE: values, order, bounds, and a device that fails."""

from __future__ import annotations

import errno
import logging
import struct
from typing import TYPE_CHECKING

import pytest

from pyvfio_user.link import QUEUE_LIMIT

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench, RawClient


def access(region: int, offset: int, count: int) -> bytes:
    return struct.pack("<QII", offset, region, count)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 4096])
def test_write_then_read(client: RawClient, count: int) -> None:
    data = bytes(range(1, 256)) * 17
    client.write(0, 0x101, data[:count])
    assert client.read(0, 0x101, count) == data[:count]
    assert client.read(0, 0x100, 1) == b"\0"


def test_config_space(client: RawClient) -> None:
    client.write(7, 0x40, b"abc")
    assert client.read(7, 0x40, 4) == b"abc\0"
    assert len(client.read(7, 0, 4096)) == 4096


def test_the_whole_rom_in_one_message(client: RawClient) -> None:
    assert client.read(6, 0, 0x800) == bytes(range(256)) * 8


@pytest.mark.parametrize(
    ("region", "offset", "count"),
    [
        (0, 0x10000, 1),
        (0, 0xFFFF, 2),
        (0, 2**64 - 1, 1),
        (0, 2**64 - 4, 8),
        (0, 0, 2**32 - 1),
        (0, 0x10000, 0x10000),
        (2, 0, 4),
        (7, 4095, 2),
        (7, 4096, 1),
        (8, 0, 4),
        (9, 0, 4),
        (2**32 - 1, 0, 4),
    ],
)
def test_reads_outside_are_refused(client: RawClient, region: int, offset: int, count: int) -> None:
    assert client.fails(9, access(region, offset, count)) == errno.EINVAL
    assert client.read(0, 0, 4) == bytes(4)


@pytest.mark.parametrize("region", [1, 6])
def test_writes_to_what_is_read_only_are_refused(bench: Bench, client: RawClient, region: int) -> None:
    assert client.fails(10, access(region, 0, 4) + b"abcd") == errno.EINVAL
    assert client.read(1, 0, 4) == bytes(4)
    assert not [entry for entry in bench.device.log if isinstance(entry, tuple)]


@pytest.mark.parametrize("data", [b"", b"abc", b"abcde"])
def test_a_write_must_hold_what_it_says(client: RawClient, data: bytes) -> None:
    assert client.fails(10, access(0, 0, 4) + data) == errno.EINVAL


def test_a_read_with_trailing_bytes_is_refused(client: RawClient) -> None:
    assert client.fails(9, access(0, 0, 4) + b"x") == errno.EINVAL
    assert client.fails(9, access(0, 0, 4)[:15]) == errno.EINVAL


def test_an_access_of_nothing(bench: Bench, client: RawClient) -> None:
    assert client.read(0, 0, 0) == b""
    client.write(0, 0, b"")
    assert bench.device.log == ["attach"]


def test_posted_writes_keep_their_order_and_get_no_reply(bench: Bench, client: RawClient) -> None:
    for number in range(100):
        client.post(0, 8 * number, struct.pack("<Q", number))
        client.post(0, 0x4000, struct.pack("<I", number))
    assert client.read(0, 0x4000, 4) == struct.pack("<I", 99)
    writes = [entry for entry in bench.device.log if isinstance(entry, tuple)]
    assert [struct.unpack("<Q", data)[0] for _, offset, data in writes if offset != 0x4000] == list(range(100))
    assert client.poll_message() is None


def test_a_refused_posted_write_gets_no_reply(client: RawClient) -> None:
    client.post(0, 0x10000, b"abcd")
    client.post(3, 0, b"abcd")
    assert client.read(0, 0, 1) == b"\0"


def test_the_device_works_once_after_what_came_together_was_answered(bench: Bench, client: RawClient) -> None:
    bench.device.processed = 0
    at_process: list[bytes] = []
    bench.device.on_process = lambda: at_process.append(bytes(bench.device.bar[:12]))
    write = struct.pack("<HHIII", 1, 10, 36, 0x10, 0)
    client.raw(b"".join(write + access(0, 4 * n, 4) + b"aaaa" for n in range(3)))
    client.pump(lambda: at_process)
    assert at_process == [b"a" * 12]
    answered: list[bool] = []
    bench.device.on_process = lambda: answered.append(client.poll_message() is not None)
    client.send(9, access(0, 0, 4))
    client.pump(lambda: answered)
    assert answered == [True]


def test_a_huge_pipeline(client: RawClient) -> None:
    """65536 reads in one go are all answered, in order."""
    count = 65536
    client.write(0, 0, bytes(range(256)) * 16)
    stream = b"".join(struct.pack("<HHIII", n & 0xFFFF, 9, 32, 0, 0) + access(0, n % 4096, 1) for n in range(count))
    replies = []
    position = 0
    while len(replies) < count:
        if position < len(stream):
            try:
                position += client.sock.send(stream[position : position + 100_000])
            except BlockingIOError:
                pass
        client.loop.run_once(0.01)
        while (reply := client.poll_message()) is not None:
            replies.append(reply)
    assert [reply.msg_id for reply in replies] == list(range(count))
    assert all(reply.payload[16] == n & 0xFF for n, reply in enumerate(replies))


def test_a_client_that_never_reads_is_not_served_for_ever(bench: Bench, client: RawClient) -> None:
    """The server stops reading, stays responsive, and goes on when the client reads at last."""
    request = struct.pack("<HHIII", 1, 9, 32, 0, 0) + access(0, 0, 0x10000)
    sent = 0
    idle = 0
    while idle < 20:
        try:
            sent += client.sock.send(request * 100)
            idle = 0
        except BlockingIOError:
            idle += 1
            bench.loop.run_once(0.001)
    assert bench.server is not None
    session = bench.server._session
    assert session is not None
    assert QUEUE_LIMIT < session._link.queued < QUEUE_LIMIT + 0x20000
    ran: list[int] = []
    bench.loop.call_at(0, lambda: ran.append(1))
    bench.loop.run_once(1)
    assert ran
    replies = 0
    while replies < sent // 32:
        bench.loop.run_once(0.001)
        while client.poll_message() is not None:
            replies += 1


def test_a_client_that_never_reads_may_leave(bench: Bench, client: RawClient) -> None:
    request = struct.pack("<HHIII", 1, 9, 32, 0, 0) + access(0, 0, 0x10000)
    for _ in range(20):
        try:
            client.sock.send(request * 100)
        except BlockingIOError:
            break
        bench.loop.run_once(0.001)
    client.sock.close()
    assert bench.server is not None
    client.pump(lambda: not bench.server.connected)  # type: ignore[union-attr]
    assert bench.client().read(0, 0, 1) == b"\0"


def test_a_failing_device_is_an_error_reply_and_one_traceback(
    client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert client.fails(9, access(0, 0x8000, 4)) == errno.EIO
        assert client.fails(10, access(0, 0x8000, 4) + b"abcd") == errno.EIO
        assert client.fails(9, access(0, 0x8000, 100)) == errno.EIO
        for _ in range(100):
            client.post(0, 0x8000, b"abcd")
        assert client.read(0, 0, 1) == b"\0"
    assert 0 < len(caplog.records) < 12


def test_a_device_that_fails_at_work_is_served_on(bench: Bench, client: RawClient) -> None:
    def fail() -> None:
        raise RuntimeError("broken ring")

    bench.device.on_process = fail
    assert client.read(0, 0, 1) == b"\0"
    assert client.read(0, 0, 1) == b"\0"
