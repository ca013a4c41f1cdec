"""DMA by DMA_READ and DMA_WRITE: memory that came without a descriptor."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pyvfio_user import DmaError, Options, Reset

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench, RawClient

SIZE = 0x400000


class Memory:
    """Answers the server's DMA messages from a bytearray, in the server's thread: it runs whenever the server waits.

    `before` is called ahead of each answer. What doesn't belong to DMA is kept in `others`.
    """

    def __init__(self, client: RawClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = client
        self.data = bytearray(SIZE)
        self.asked: list[tuple[int, int, int]] = []
        self.others: list[Any] = []
        self.before: Callable[[], None] = lambda: None
        self.answer: Callable[[Any, bytes], bytes] = lambda message, data: data
        real = select.poll

        class Poll:
            """The server waits: now it's the client's turn."""

            def __init__(self) -> None:
                self.poll_ = real()

            def register(self, fd: int, events: int) -> None:
                self.poll_.register(fd, events)

            def poll(poller, timeout: float) -> Any:
                self.serve()
                return poller.poll_.poll(min(timeout, 50))

        monkeypatch.setattr("pyvfio_user.dma_messages.select.poll", Poll)

    def serve(self) -> None:
        while self.client.sock.fileno() >= 0 and (message := self.client.poll_message()) is not None:
            if message.flags & 0xF or message.command not in (11, 12):
                self.others.append(message)
                continue
            addr, count = struct.unpack_from("<QQ", message.payload)
            self.asked.append((message.command, addr, count))
            self.before()
            if message.command == 11:
                data = struct.pack("<QQ", addr, count) + self.data[addr : addr + count]
            else:
                self.data[addr : addr + count] = message.payload[16:]
                data = struct.pack("<QQ", addr, count)
            raw = struct.pack("<HHIII", message.msg_id, message.command, 16 + len(data), 1, 0) + data
            raw = self.answer(message, raw)
            if raw:
                self.client.raw(raw)


@pytest.fixture
def memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Memory:
    bench.options = Options(dma_timeout=0.3)
    client = bench.client()
    client.map(0, SIZE)
    client.bus_master()
    return Memory(client, monkeypatch)


def test_a_file_without_pwrite_is_reached_by_messages(bench: Bench, memory: Memory) -> None:
    """hugetlbfs; and it can't be mapped either, as it could shrink."""
    fd = os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
    try:
        size = os.fstat(fd).st_blksize
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, 1033, 1)  # F_ADD_SEALS, F_SEAL_SEAL: closed to sealing
        memory.client.map(SIZE, size, fd)
        bench.host.write(SIZE + 16, b"data")
        assert memory.asked == [(12, SIZE + 16, 4)]
    finally:
        os.close(fd)


def test_read_and_write(bench: Bench, memory: Memory) -> None:
    bench.host.write(0x1234, b"by message")
    assert memory.data[0x1234:0x123E] == b"by message"
    assert bytes(bench.host.read(0x1236, 4)) == b" mes"
    assert memory.asked == [(12, 0x1234, 10), (11, 0x1236, 4)]
    assert bench.host.view(0, 4096) is None


def test_large_accesses_are_split(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    client = bench.client({"max_data_xfer_size": 0x1000})
    client.map(0, SIZE)
    client.bus_master()
    memory = Memory(client, monkeypatch)
    data = bytes(range(256)) * 0x28
    bench.host.write(0x100, data)
    assert bytes(bench.host.read(0x100, len(data))) == data
    sizes = [count for _, _, count in memory.asked]
    assert sizes == [0x1000, 0x1000, 0x800] * 2


def test_a_mebibyte_at_once(bench: Bench, memory: Memory) -> None:
    data = os.urandom(1 << 20)
    bench.host.write(0, data)
    assert memory.data[: 1 << 20] == data
    assert bench.host.read(0, 1 << 20) == data


def test_an_access_across_a_message_map_and_shared_memory(
    bench: Bench, memory: Memory, memfd: Callable[..., int]
) -> None:
    fd = memfd(4096)
    memory.client.map(SIZE, 4096, fd)
    bench.host.write(SIZE - 2, b"abcd")
    assert memory.data[-2:] == b"ab"
    assert os.pread(fd, 2, 0) == b"cd"
    assert bytes(bench.host.read(SIZE - 2, 4)) == b"abcd"


def test_commands_are_served_while_waiting(bench: Bench, memory: Memory) -> None:
    """Registers are read and written, in order, while the device waits for its memory."""
    client = memory.client
    client.write(0, 0x10, b"mark")
    done: list[bytes] = []

    def before() -> None:
        client.send(9, struct.pack("<QII", 0x10, 0, 4))
        client.post(0, 0x20, b"late")
        client.send(9, struct.pack("<QII", 0x20, 0, 4))
        memory.before = lambda: None

    memory.before = before

    def work() -> None:
        bench.device.on_process = lambda: None
        done.append(bytes(bench.host.read(0, 4)))

    memory.data[:4] = b"ring"
    bench.device.on_process = work
    client.post(0, 0, b"x")
    client.pump(lambda: done)
    assert done == [b"ring"]
    memory.serve()
    assert [reply.payload[16:] for reply in memory.others] == [b"mark", b"late"]


def test_process_is_not_entered_again_but_called_once_more(bench: Bench, memory: Memory) -> None:
    depth = 0
    depths = []

    def work() -> None:
        nonlocal depth
        depth += 1
        depths.append(depth)
        if len(depths) == 1:
            memory.before = lambda: memory.client.post(0, 0x30, b"more")
            bench.host.read(0, 4)
        depth -= 1

    bench.device.on_process = work
    memory.client.post(0, 0, b"x")
    memory.client.pump(lambda: len(depths) >= 2)
    assert set(depths) == {1}
    assert bytes(bench.device.bar[0x30:0x34]) == b"more"


def test_replies_are_out_before_memory_is_waited_for(bench: Bench, memory: Memory) -> None:
    """Or a client that serves DMA under the lock that its register access holds would stop for good."""
    order: list[str] = []
    bench.device.on_process = lambda: bench.host.read(0, 4) and None
    memory.before = lambda: order.append(f"{len(memory.others)} replies before")
    memory.client.send(9, struct.pack("<QII", 0, 0, 4))
    memory.client.pump(lambda: order)
    assert order[0] == "1 replies before"


def test_dma_from_inside_an_access(bench: Bench, memory: Memory) -> None:
    got: list[bytes] = []
    bench.device.on_write = lambda region, offset, data: got.append(bytes(bench.host.read(0, 2)))
    memory.data[:2] = b"in"
    memory.client.send(10, struct.pack("<QII", 0, 0, 1) + b"x")
    memory.client.pump(lambda: got)
    assert got == [b"in"]
    assert memory.client.message().command == 10


def test_endless_nesting_is_cut(bench: Bench, memory: Memory) -> None:
    failed: list[str] = []

    def write(region: int, offset: int, data: bytes) -> None:
        try:
            bench.host.read(0, 1)
        except DmaError as error:
            failed.append(error.reason)

    bench.device.on_write = write
    memory.before = lambda: memory.client.post(0, 0, b"x")
    memory.client.post(0, 0, b"x")
    memory.client.pump(lambda: failed)
    memory.before = lambda: None
    assert "within" in failed[0]


def test_memory_unmapped_while_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    client = bench.client({"max_data_xfer_size": 0x1000})
    client.map(0, SIZE)
    client.bus_master()
    memory = Memory(client, monkeypatch)
    memory.before = lambda: client.send(3, struct.pack("<IIQQ", 24, 0, 0, SIZE)) and None
    with pytest.raises(DmaError):
        bench.host.read(0, 0x3000)
    assert len(memory.asked) == 1


def test_a_silent_client_is_an_error_after_a_while_and_then_at_once(bench: Bench, memory: Memory) -> None:
    memory.answer = lambda message, raw: b""
    with pytest.raises(DmaError, match="answer"):
        bench.host.read(0, 4)
    asked = len(memory.asked)
    with pytest.raises(DmaError, match="answer"):
        bench.host.read(0, 4)
    assert len(memory.asked) == asked
    # A late answer shows that it is back.
    memory.answer = lambda message, raw: raw
    client = memory.client
    client.raw(struct.pack("<HHIIIQQ4s", 0, 11, 36, 1, 0, 0, 4, b"late"))
    assert client.read(0, 0, 1) == b"\0"
    memory.data[:4] = b"good"
    assert bytes(bench.host.read(0, 4)) == b"good"


@pytest.mark.parametrize(
    "answer",
    [
        lambda message, raw: struct.pack("<HHIII", message.msg_id, 11, 16, 0x21, errno.ENODEV),
        lambda message, raw: struct.pack("<HHIII", message.msg_id, 11, 16, 0x21, 0),
        lambda message, raw: struct.pack("<HHIII", message.msg_id, 11, 16, 0x21, 2**32 - 1),
        lambda message, raw: struct.pack("<HHIII", message.msg_id, 11, 16, 1, 0),
        lambda message, raw: struct.pack("<HHIII", message.msg_id, 11, 35, 1, 0) + raw[16:35],
        lambda message, raw: struct.pack("<HHIII", message.msg_id, 12, 36, 1, 0) + raw[16:],
    ],
)
def test_wrong_answers(bench: Bench, memory: Memory, answer: Callable[[Any, bytes], bytes]) -> None:
    memory.answer = answer
    with pytest.raises(DmaError):
        bench.host.read(0, 4)
    memory.answer = lambda message, raw: raw
    assert bytes(bench.host.read(0, 4)) == bytes(4)


def test_a_reply_to_nothing_is_ignored(memory: Memory) -> None:
    for msg_id in range(50):
        memory.client.raw(struct.pack("<HHIII", msg_id, 11, 16, 1, 0))
    assert memory.client.read(0, 0, 1) == b"\0"


def test_a_client_that_leaves_meanwhile(bench: Bench, memory: Memory) -> None:
    raised: list[str] = []

    def work() -> None:
        try:
            bench.host.read(0, 4)
        except DmaError as error:
            raised.append(error.reason)
            assert bench.device.log[-1] != Reset.LOST_CLIENT
            with pytest.raises(DmaError):
                bench.host.write(0, b"x")

    bench.device.on_process = work
    memory.before = memory.client.sock.close
    memory.answer = lambda message, raw: b""
    memory.client.post(0, 0, b"x")
    memory.client.pump(lambda: raised and not bench.server.connected)  # type: ignore[union-attr]
    assert bench.device.log[-2:] == ["detach", Reset.LOST_CLIENT]
    bench.device.on_process = lambda: None
    assert bench.client().read(0, 0, 1) == b"x"


def test_read_only_memory_gets_no_message(bench: Bench, memory: Memory) -> None:
    memory.client.map(SIZE, 4096, flags=1)
    with pytest.raises(DmaError, match="read-only"):
        bench.host.write(SIZE, b"x")
    assert memory.asked == []


def test_twin_socket(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    client = bench.connect()
    reply = client.version({"max_msg_fds": 8, "twin_socket": {"supported": True}})
    twin = json.loads(reply.payload[4:-1])["capabilities"]["twin_socket"]
    assert twin == {"supported": True, "fd_index": 0}
    assert len(reply.fds) == 1
    other = type(client)(socket.socket(fileno=reply.fds[0]), bench.loop)
    bench.clients.append(other)
    client.map(0, SIZE)
    client.bus_master()
    memory = Memory(other, monkeypatch)
    memory.data[:4] = b"twin"
    memory.before = lambda: client.post(0, 0x10, b"meanwhile")
    assert bytes(bench.host.read(0, 4)) == b"twin"
    assert client.poll_message() is None
    other.sock.close()
    assert client.closed()
