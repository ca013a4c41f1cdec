"""A tiny device, a server for it in this thread, and a client that speaks raw messages: the tests' own view of the
protocol, independent of `pyvfio_user.client`."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from pyvfio_user import (
    Buffer,
    EventLoop,
    Host,
    IrqMode,
    Options,
    Region,
    Reset,
    Server,
    commands,
    dma_messages,
    server,
    session,
)

BAR0_SIZE = 0x10000


class TinyDevice:
    """BAR 0 is plain memory; BAR 1 read-only; the ROM holds a pattern. `on_process`, `on_write` are the test's."""

    def __init__(self) -> None:
        self.regions: list[Region] = [
            Region(BAR0_SIZE),
            Region(0x1000, writable=False),
            Region(),
            Region(),
            Region(),
            Region(),
            Region(0x800, writable=False),
        ]
        self.config_size = 4096
        self.irq_counts = (1, 4, 8)
        self.bar = bytearray(BAR0_SIZE)
        self.config = bytearray(4096)
        self.bus_master = False
        self.irq_mode = IrqMode.MSIX
        self.host: Host | None = None
        self.log: list[Any] = []
        self.processed = 0
        self.on_process: Callable[[], None] = lambda: None
        self.on_write: Callable[[int, int, bytes], None] = lambda region, offset, data: None

    def attach(self, host: Host) -> None:
        self.host = host
        self.log.append("attach")

    def detach(self) -> None:
        self.host = None
        self.log.append("detach")

    def config_read(self, offset: int, count: int) -> bytes:
        return bytes(self.config[offset : offset + count])

    def config_write(self, offset: int, data: Buffer) -> None:
        self.config[offset : offset + len(data)] = data
        self.bus_master = bool(self.config[4] & 4)

    def region_read(self, region: int, offset: int, count: int) -> Buffer:
        if region == 6:
            return bytes((offset + i) & 0xFF for i in range(count))
        if offset == 0x8000:
            raise RuntimeError("broken register")
        return self.bar[offset : offset + count]

    def region_write(self, region: int, offset: int, data: Buffer) -> None:
        self.log.append((region, offset, bytes(data)))
        if offset == 0x8000:
            raise RuntimeError("broken register")
        self.bar[offset : offset + len(data)] = data
        self.on_write(region, offset, bytes(data))

    def reset(self, kind: Reset) -> None:
        self.config[4] = 0
        self.bus_master = False
        self.log.append(kind)

    def process(self) -> None:
        self.processed += 1
        self.on_process()


class Reply:
    """A message from the server, taken apart."""

    def __init__(self, raw: bytes, fds: list[int]) -> None:
        self.msg_id, self.command, self.size, self.flags, self.error = struct.unpack_from("<HHIII", raw)
        self.payload = raw[16:]
        self.fds = fds


class RawClient:
    """The client's end of a socket. `pump` lets the server run; nothing here blocks for long."""

    def __init__(self, sock: socket.socket, loop: EventLoop) -> None:
        self.sock = sock
        self.loop = loop
        sock.setblocking(False)
        self.buffer = b""
        self.fds: list[int] = []
        self.next_id = 0
        self.dma: Callable[[Reply], None] | None = None

    def pump(self, until: Callable[[], object], seconds: float = 5) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "nothing came"
            self.loop.run_once(0.01)

    def raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        while data:
            try:
                sent = socket.send_fds(self.sock, [data], list(fds)) if fds else self.sock.send(data)
            except BlockingIOError:
                self.loop.run_once(0.01)
                continue
            data, fds = data[sent:], ()

    def send(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0) -> int:
        msg_id = self.next_id
        self.next_id = (msg_id + 1) & 0xFFFF
        self.raw(struct.pack("<HHIII", msg_id, command, 16 + len(payload), flags, 0) + payload, fds)
        return msg_id

    def poll_message(self) -> Reply | None:
        """The next message, if it is there."""
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, 1 << 20, 64)
            if not data:
                raise EOFError
            self.buffer += data
            self.fds += fds
        except (BlockingIOError, ConnectionResetError) as error:
            if isinstance(error, ConnectionResetError):
                raise EOFError from None
        except EOFError:
            if len(self.buffer) < 16:
                raise
        if len(self.buffer) < 16:
            return None
        size = struct.unpack_from("<I", self.buffer, 4)[0]
        if len(self.buffer) < size:
            return None
        raw, self.buffer = self.buffer[:size], self.buffer[size:]
        fds, self.fds = self.fds, []
        return Reply(raw, fds)

    def message(self) -> Reply:
        """Waits for the next message while the server runs."""
        got: list[Reply] = []
        self.pump(lambda: got or ((reply := self.poll_message()) is not None and got.append(reply) is None))
        return got[0]

    def request(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0) -> Reply:
        msg_id = self.send(command, payload, fds, flags)
        reply = self.message()
        assert (reply.msg_id, reply.command, reply.flags & 0xF) == (msg_id, command, 1)
        return reply

    def ok(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        reply = self.request(command, payload, fds)
        assert reply.flags == 1, errno.errorcode.get(reply.error)
        return reply.payload

    def fails(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        """The errno of an error reply."""
        reply = self.request(command, payload, fds)
        assert (reply.flags, reply.size) == (0x21, 16)
        return int(reply.error)

    def closed(self) -> bool:
        """Whether the server has closed, having dropped what it still sent."""
        try:
            self.pump(lambda: self.poll_message() and False)
        except EOFError:
            return True
        return False

    # --- Shorthands ---

    def version(self, capabilities: dict[str, Any] | None = None, minor: int = 1) -> Reply:
        text = json.dumps({"capabilities": {"max_msg_fds": 8} if capabilities is None else capabilities})
        return self.request(1, struct.pack("<HH", 0, minor) + text.encode() + b"\0")

    def read(self, region: int, offset: int, count: int) -> bytes:
        payload = self.ok(9, struct.pack("<QII", offset, region, count))
        assert payload[:16] == struct.pack("<QII", offset, region, count)
        return payload[16:]

    def write(self, region: int, offset: int, data: bytes) -> None:
        request = struct.pack("<QII", offset, region, len(data))
        assert self.ok(10, request + data) == request

    def post(self, region: int, offset: int, data: bytes) -> None:
        self.send(10, struct.pack("<QII", offset, region, len(data)) + data, flags=0x10)

    def bus_master(self, on: bool = True) -> None:
        self.write(7, 4, b"\x04" if on else b"\x00")

    def map(self, addr: int, size: int, fd: int = -1, offset: int = 0, flags: int = 3) -> None:
        request = struct.pack("<IIQQQ", 32, flags, offset, addr, size)
        assert self.ok(2, request, [fd] if fd >= 0 else []) == b""

    def unmap(self, addr: int, size: int) -> None:
        request = struct.pack("<IIQQ", 24, 0, addr, size)
        assert self.ok(3, request) == request

    def set_irqs(
        self, index: int, flags: int, start: int, count: int, data: bytes = b"", fds: Sequence[int] = ()
    ) -> None:
        assert self.ok(8, struct.pack("<5I", 20 + len(data), flags, index, start, count) + data, fds) == b""


class Bench:
    """A device, its server and clients, all in one thread."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.device = TinyDevice()
        self.options = Options()
        self.server: Server | None = None
        self.clients: list[RawClient] = []

    @property
    def host(self) -> Host:
        assert self.device.host is not None
        return self.device.host

    def connect(self) -> RawClient:
        """A client on a socket pair; the server is made when first needed, with the options of that time."""
        if self.server is None:
            self.server = Server(None, self.device, self.loop, options=self.options)
        mine, theirs = socket.socketpair()
        self.server.serve(theirs)
        return self.adopt(mine)

    def adopt(self, sock: socket.socket) -> RawClient:
        """A client on a socket that is connected already."""
        client = RawClient(sock, self.loop)
        self.clients.append(client)
        return client

    def client(self, capabilities: dict[str, Any] | None = None) -> RawClient:
        """As `connect`, with VERSION done."""
        client = self.connect()
        assert client.version(capabilities).flags == 1
        return client

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
        for client in self.clients:
            client.sock.close()
        self.loop.close()


@pytest.fixture(autouse=True)
def _fresh_log_limits() -> None:
    """What other tests have logged doesn't count."""
    for log in (commands.log, dma_messages._log, server._limited, session._log):
        log._period_end = 0


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Checks at its end that no descriptor has been leaked."""
    before = set(os.listdir("/proc/self/fd"))
    bench = Bench()
    yield bench
    bench.close()
    leaked = set(os.listdir("/proc/self/fd")) - before
    assert not leaked, [os.readlink(f"/proc/self/fd/{fd}") for fd in leaked if os.path.lexists(f"/proc/self/fd/{fd}")]


@pytest.fixture
def client(bench: Bench) -> RawClient:
    return bench.client()


@pytest.fixture
def eventfds() -> Iterator[Callable[[int], list[int]]]:
    """Makes eventfds that are closed after the test."""
    made: list[int] = []

    def make(count: int) -> list[int]:
        fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(count)]
        made.extend(fds)
        return fds

    yield make
    for fd in made:
        os.close(fd)


@pytest.fixture
def memfd() -> Iterator[Callable[..., int]]:
    """Makes memfds of a size, sealed against shrinking unless told otherwise, that are closed after the test."""
    made: list[int] = []

    def make(size: int, seals: int = 2) -> int:
        fd = os.memfd_create("guest", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        made.append(fd)
        os.ftruncate(fd, size)
        if seals:
            fcntl.fcntl(fd, 1033, seals)
        return fd

    yield make
    for fd in made:
        os.close(fd)


@pytest.fixture
def signalled() -> Callable[[int], int]:
    """How often an eventfd has been signalled since last asked."""

    def count(fd: int) -> int:
        return os.eventfd_read(fd) if select.select([fd], [], [], 0)[0] else 0

    return count
