"""The client against a server that is slow, wrong or hostile, scripted here byte by byte."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvfio_user.client import Client, VfioUserError

VERSION, DMA_MAP, GET_INFO, REGION_INFO, REGION_READ, DMA_READ, DMA_WRITE, RESET = 1, 2, 4, 5, 9, 11, 12, 13
COMMAND, REPLY, NO_REPLY, ERROR = 0, 1, 0x10, 0x20

Script = Callable[["Peer"], None]


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def take(self) -> tuple[int, int, bytes, list[int]]:
        """The next message: id, command, payload, descriptors."""
        head, fds, _, _ = socket.recv_fds(self.socket, 16, 16)
        if len(head) < 16:
            raise EOFError
        msg_id, command, size, _, _ = struct.unpack("<HHIII", head)
        payload = b""
        while len(payload) < size - 16:
            payload += self.socket.recv(size - 16 - len(payload))
        return msg_id, command, payload, fds

    def send(self, msg_id: int, command: int, payload: bytes = b"", flags: int = REPLY, error: int = 0) -> None:
        self.socket.sendall(struct.pack("<HHIII", msg_id, command, 16 + len(payload), flags, error) + payload)

    def greet(self, **capabilities: object) -> None:
        msg_id, command, _, _ = self.take()
        assert command == VERSION
        self.send(
            msg_id, VERSION, struct.pack("<HH", 0, 1) + json.dumps({"capabilities": capabilities}).encode() + b"\0"
        )


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Script], str]]:
    """Starts a server that runs a script on its only connection. The client's descriptors are counted at the end."""
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []
    before = open_fds()

    def start(script: Script) -> str:
        path = str(tmp_path / "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)

        def run() -> None:
            with listener, listener.accept()[0] as connection:
                connection.settimeout(10)
                try:
                    script(Peer(connection))
                    connection.recv(1)  # until the client closes
                except (EOFError, ConnectionError):
                    pass
                except BaseException as error:
                    failures.append(error)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return path

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not failures
    assert open_fds() == before


def test_no_server(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / ("x" * 200)):
        before = open_fds()
        with pytest.raises(VfioUserError):
            Client(path)
        assert open_fds() == before


def test_version_is_what_the_protocol_says(serve: Callable[[Script], str]) -> None:
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        msg_id, _, payload, _ = peer.take()
        seen.append(payload)
        peer.send(msg_id, VERSION, struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":3}}\0')

    with Client(serve(script)) as client:
        assert client.capabilities.max_msg_fds == 3
    major, minor = struct.unpack_from("<HH", seen[0])
    assert (major, minor) == (0, 1)
    assert seen[0][-1] == 0
    offered = json.loads(seen[0][4:-1])["capabilities"]
    assert offered["max_msg_fds"] >= 1
    assert offered["max_data_xfer_size"] == 1 << 20


@pytest.mark.parametrize(
    "answer",
    [
        lambda peer, i: peer.send(i, VERSION, struct.pack("<HH", 1, 0)),
        lambda peer, i: peer.send(i, VERSION, b"\0"),
        lambda peer, i: peer.send(i, VERSION, struct.pack("<HH", 0, 0) + b"{"),
        lambda peer, i: peer.send(i, VERSION, struct.pack("<HH", 0, 0) + b'{"capabilities": 1}\0'),
        lambda peer, i: peer.send(i + 1, VERSION, struct.pack("<HH", 0, 0)),
        lambda peer, i: peer.send(i, GET_INFO, struct.pack("<HH", 0, 0)),
        lambda peer, i: peer.send(i, VERSION, flags=REPLY | ERROR, error=22),
        lambda peer, i: peer.send(i, VERSION, flags=REPLY | ERROR, error=0),
        lambda peer, i: peer.send(i, VERSION, flags=REPLY | ERROR, error=0xFFFFFFFF),
        lambda peer, i: peer.socket.sendall(struct.pack("<HHIII", i, VERSION, 15, 1, 0)),
        lambda peer, i: peer.socket.sendall(struct.pack("<HHIII", i, VERSION, 0xFFFFFFFF, 1, 0)),
        lambda peer, i: peer.socket.sendall(struct.pack("<HHIII", i, VERSION, 20, 7, 0)),
        lambda peer, i: peer.socket.sendall(b"\0" * 7),
        lambda peer, i: None,
    ],
    ids=str.split(
        "major1 short no-NUL no-object wrong-id wrong-command refused error-0 error-2^32-1 size-15"
        " size-2^32-1 type-7 cut closed"
    ),
)
def test_a_bad_greeting_is_an_error_and_leaves_nothing(
    serve: Callable[[Script], str], answer: Callable[[Peer, int], None]
) -> None:
    def script(peer: Peer) -> None:
        answer(peer, peer.take()[0])
        peer.socket.shutdown(socket.SHUT_RDWR)

    with pytest.raises(VfioUserError) as error:
        Client(serve(script), timeout=2)
    assert error.value.errno


def test_silence_is_a_timeout_and_ends_the_connection(serve: Callable[[Script], str]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.take()
        with contextlib.suppress(EOFError):
            peer.take()

    with Client(serve(script), timeout=0.2) as client:
        start = time.monotonic()
        with pytest.raises(VfioUserError) as error:
            client.reset()
        assert error.value.errno == errno.ETIMEDOUT
        assert time.monotonic() - start < 1
        assert client.closed
        with pytest.raises(VfioUserError) as error:
            client.reset()
        assert error.value.errno == errno.ENOTCONN


def test_dripping_bytes_dont_stretch_the_timeout(serve: Callable[[Script], str]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        msg_id, command, _, _ = peer.take()
        for byte in struct.pack("<HHIII", msg_id, command, 116, REPLY, 0) + bytes(100):
            peer.socket.sendall(bytes([byte]))
            time.sleep(0.05)

    with Client(serve(script), timeout=0.3) as client:
        start = time.monotonic()
        with pytest.raises(VfioUserError) as error:
            client.reset()
        assert error.value.errno == errno.ETIMEDOUT
        assert time.monotonic() - start < 1.5


def test_a_reply_in_pieces_and_with_a_tail(serve: Callable[[Script], str]) -> None:
    """Pieces of a reply are put together, and a command behind it waits for its turn."""
    answers: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet()
        msg_id, command, _, _ = peer.take()
        info = struct.pack("<IIII", 16, 3, 9, 5)
        data = struct.pack("<HHIII", msg_id, command, 32, REPLY, 0) + info
        for start in range(0, 30, 7):
            peer.socket.sendall(data[start : min(start + 7, 30)])
            time.sleep(0.01)
        read = struct.pack("<HHIIIQQ", 77, DMA_READ, 32, COMMAND, 0, 0x5000, 4)
        peer.socket.sendall(data[30:] + read)
        answers.append(peer.take()[2])

    with Client(serve(script)) as client:
        assert tuple(client.device_info()) == (3, 9, 5)
        client.serve(0.1)
    assert answers == [b""], "nothing is mapped there: an error, which has no payload"


def test_dma_is_served_while_waiting_for_a_reply(serve: Callable[[Script], str]) -> None:
    got: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.greet()
        msg_id, command, payload, fds = peer.take()
        assert command == DMA_MAP
        assert not fds
        assert struct.unpack("<IIQQQ", payload) == (32, 3, 0, 0x10000, 4096)
        peer.send(msg_id, DMA_MAP)
        msg_id, command, _, _ = peer.take()
        peer.send(500, DMA_WRITE, struct.pack("<QQ", 0x10004, 4) + b"abcd", flags=COMMAND)
        assert peer.take()[:3] == (500, DMA_WRITE, struct.pack("<QQ", 0x10004, 4))
        peer.send(msg_id, DMA_READ, struct.pack("<QQ", 0x10003, 6), flags=COMMAND)  # ids of the two sides may collide
        got.append(peer.take()[2][16:])
        peer.send(0, DMA_WRITE, struct.pack("<QQ", 0x10000, 1) + b"z", flags=COMMAND | NO_REPLY)
        peer.send(msg_id, RESET)

    with Client(serve(script)) as client:
        memory = client.map_memory(4096, 0x10000, shared=False)
        client.reset()
        assert got == [b"\0abcd\0"]
        assert bytes(memory[:8]) == b"z\0\0\0abcd"


@pytest.mark.parametrize(
    ("command", "payload", "number"),
    [
        (DMA_READ, struct.pack("<QQ", 0xFFFF, 4), errno.EFAULT),
        (DMA_READ, struct.pack("<QQ", 0x10FFD, 4), errno.EFAULT),
        (DMA_READ, struct.pack("<QQ", 2**64 - 1, 4), errno.EFAULT),
        (DMA_READ, struct.pack("<QQ", 0x10000, 2**64 - 1), errno.E2BIG),
        (DMA_READ, b"", errno.EINVAL),
        (DMA_WRITE, struct.pack("<QQ", 0x10000, 4) + b"abcde", errno.EINVAL),
        (DMA_WRITE, struct.pack("<QQ", 0x20000, 1) + b"x", errno.EFAULT),
        (REGION_READ, bytes(16), errno.ENOSYS),
        (0xFFFF, b"", errno.ENOSYS),
    ],
)
def test_a_server_that_asks_for_what_it_may_not(
    serve: Callable[[Script], str], command: int, payload: bytes, number: int
) -> None:
    heads: list[tuple[int, ...]] = []

    def script(peer: Peer) -> None:
        peer.greet()
        for flags in (3, 1):
            msg_id, _, sent, _ = peer.take()
            assert struct.unpack("<IIQQQ", sent)[1] == flags
            peer.send(msg_id, DMA_MAP)
        peer.send(9, command, payload, flags=COMMAND)
        heads.append(struct.unpack("<HHIII", peer.socket.recv(16)))

    with Client(serve(script)) as client:
        client.map_memory(4096, 0x10000, shared=False)
        client.map_memory(4096, 0x20000, shared=False, flags=1)
        client.serve(0.05)
    assert heads == [(9, command, 16, REPLY | ERROR, number)]


def test_replies_nobody_asked_for_end_the_connection(serve: Callable[[Script], str]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(3, RESET)

    with Client(serve(script)) as client:
        with pytest.raises(VfioUserError) as error:
            client.serve(2)
        assert error.value.errno == errno.EPROTO


def test_descriptors_that_werent_asked_for_dont_stay(serve: Callable[[Script], str]) -> None:
    def script(peer: Peer) -> None:
        msg_id, command, _, _ = peer.take()
        text = struct.pack("<HH", 0, 1) + b"{}\0"
        for _ in range(2):
            data = struct.pack("<HHIII", msg_id, command, 16 + len(text), REPLY, 0) + text
            socket.send_fds(peer.socket, [data], [0, 1, 2])
            msg_id, command, _, _ = peer.take()
            text = b""

    client = Client(serve(script))
    client.reset()
    client.close()


def region_reply(areas: list[tuple[int, int]], *, cap_offset: int = 32, count: int | None = None) -> bytes:
    caps = struct.pack("<HHIII", 1, 1, 0, len(areas) if count is None else count, 0)
    caps += b"".join(struct.pack("<QQ", *area) for area in areas)
    return struct.pack("<IIIIQQ", 32 + len(caps), 0xF, 0, cap_offset, 0x4000, 0) + caps


def test_region_areas_are_asked_for_again_and_mapped(serve: Callable[[Script], str]) -> None:
    backing = os.memfd_create("bar")
    os.ftruncate(backing, 0x4000)
    os.pwrite(backing, b"hello", 0x2000)
    full = region_reply([(0, 0x1000), (0x2000, 0x1000)])

    def script(peer: Peer) -> None:
        peer.greet()
        msg_id, command, payload, _ = peer.take()
        assert struct.unpack_from("<I", payload) == (32,)
        peer.send(msg_id, command, full[:32])
        msg_id, command, payload, _ = peer.take()
        assert struct.unpack_from("<I", payload) == (len(full),)
        data = struct.pack("<HHIII", msg_id, command, 16 + len(full), REPLY, 0) + full
        socket.send_fds(peer.socket, [data], [backing])
        peer.socket.recv(1)

    with Client(serve(script)) as client:
        maps = client.map_region(0)
        assert sorted(maps) == [0, 0x2000]
        assert maps[0x2000][:5] == b"hello"
        maps[0][0:2] = b"ok"
        assert os.pread(backing, 2, 0) == b"ok"
        for memory in maps.values():
            memory.close()
    os.close(backing)


@pytest.mark.parametrize(
    "payload",
    [
        region_reply([(0, 0x1000)], cap_offset=7777),
        region_reply([(0, 0x1000)], count=0xFFFFFFFF),
        struct.pack("<IIIIQQHHI", 40, 0xF, 0, 32, 0x1000, 0, 99, 1, 32),
        struct.pack("<IIIIQQ", 0xFFFFFFFF, 0xF, 0, 32, 0x1000, 0),
        b"",
    ],
    ids=["offset", "count", "loop", "argsz", "empty"],
)
def test_broken_region_capabilities(serve: Callable[[Script], str], payload: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            msg_id, command, _, _ = peer.take()
            peer.send(msg_id, command, payload)

    with Client(serve(script)) as client, pytest.raises(VfioUserError) as error:
        client.region_info(0)
    assert error.value.errno == errno.EPROTO


def test_commands_of_the_server_come_on_the_twin_socket(serve: Callable[[Script], str]) -> None:
    def script(peer: Peer) -> None:
        msg_id, _, payload, _ = peer.take()
        assert json.loads(payload[4:-1])["capabilities"]["twin_socket"]["supported"] is True
        mine, theirs = socket.socketpair()
        with mine:
            text = struct.pack("<HH", 0, 1) + b'{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}\0'
            data = struct.pack("<HHIII", msg_id, VERSION, 16 + len(text), REPLY, 0) + text
            socket.send_fds(peer.socket, [data], [theirs.fileno()])
            theirs.close()
            msg_id, command, _, _ = peer.take()
            peer.send(msg_id, command)
            msg_id, command, _, _ = peer.take()
            twin = Peer(mine)
            twin.send(1, DMA_WRITE, struct.pack("<QQ", 0, 2) + b"hi", flags=COMMAND)
            assert twin.take()[:2] == (1, DMA_WRITE)
            peer.send(msg_id, command)

    with Client(serve(script), twin_socket=True) as client:
        memory = client.map_memory(4096, 0, shared=False)
        client.reset()
        assert bytes(memory[:2]) == b"hi"


def test_a_twin_socket_that_isnt_one(serve: Callable[[Script], str]) -> None:
    def script(peer: Peer) -> None:
        msg_id, _, _, _ = peer.take()
        text = struct.pack("<HH", 0, 1) + b'{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}\0'
        data = struct.pack("<HHIII", msg_id, VERSION, 16 + len(text), REPLY, 0) + text
        null = os.open("/dev/null", os.O_RDONLY)
        socket.send_fds(peer.socket, [data], [null])
        os.close(null)

    with pytest.raises(VfioUserError):
        Client(serve(script), twin_socket=True)


def test_a_read_that_returns_another_length(serve: Callable[[Script], str]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        msg_id, command, payload, _ = peer.take()
        peer.send(msg_id, command, payload + b"abc")

    with Client(serve(script)) as client, pytest.raises(VfioUserError) as error:
        client.read(0, 0, 4)
    assert error.value.errno == errno.EIO
