"""A server process to attack, adversaries on raw sockets, and what must be true after each attack."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pyvfio_user import messages as m
from pyvfio_user.client import Client

HERE = Path(__file__).parent
HEADER = struct.Struct("<HHIII")
GREETING = struct.pack("<HH", 0, 1) + (
    b'{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"write_multiple":true,'
    b'"migration":{"pgsize":4096,"max_bitmap_size":268435456}}}\0'
)
CLOSED = -1
PATIENCE = 5.0


class Adversary:
    """One raw connection. An attack sends what it likes; `reply` and `ask` say how the server took it."""

    CLOSED = CLOSED

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + PATIENCE
        while (error := self.socket.connect_ex(path)) and time.monotonic() < end:
            time.sleep(0.001)
        self.socket.settimeout(PATIENCE)
        if error:
            self.socket.close()
            raise OSError(error, f"{path}: {os.strerror(error)}")
        self._id = 0

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Bytes as they are. A server that has hung up already is no error."""
        try:
            sent = socket.send_fds(self.socket, [data], list(fds)) if fds else 0
            self.socket.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def message(self, command: int, payload: bytes = b"", *, flags: int = 0, error: int = 0, size: int = -1) -> bytes:
        """A message with the next id; `size` lies about its length."""
        self._id += 1
        return HEADER.pack(self._id & 0xFFFF, command, size if size >= 0 else 16 + len(payload), flags, error) + payload

    def command(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0) -> None:
        self.send(self.message(command, payload, flags=flags), fds)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                return b""
            data += more
        return data

    def take(self) -> tuple[int, int, int, int, bytes] | None:
        """The next message of any kind: id, command, flags, errno, payload. None after the end.

        Fails with TimeoutError when the server hangs.
        """
        head = self._exactly(16)
        if not head:
            return None
        msg_id, command, size, flags, error = HEADER.unpack(head)
        assert 16 <= size < 1 << 26
        return msg_id, command, flags, error, self._exactly(size - 16) if size > 16 else b""

    def reply(self) -> tuple[int, int, bytes]:
        """The next reply: its command, its errno (0 without error, CLOSED after the end) and its payload.

        Commands of the server's that come meanwhile get an error.
        """
        while (message := self.take()) is not None:
            msg_id, command, flags, error, payload = message
            if flags & m.TYPE_MASK == m.TYPE_COMMAND:
                self.send(HEADER.pack(msg_id, command, 16, m.TYPE_REPLY | m.ERROR, errno.ENODEV))
            elif flags & m.ERROR:
                assert payload == b"", "an error reply is a header alone"
                assert error > 0, "an error has a number"
                return command, error, b""
            else:
                assert error == 0
                return command, 0, payload
        return 0, CLOSED, b""

    def ask(self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0) -> tuple[int, bytes]:
        """One command: errno (or CLOSED) and payload."""
        self.command(command, payload, fds, flags)
        answered, error, payload = self.reply()
        assert error == CLOSED or answered == command
        return error, payload

    def errno(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> int:
        return self.ask(command, payload, fds)[0]

    def greet(self, payload: bytes = GREETING) -> None:
        assert self.errno(m.Command.VERSION, payload) == 0

    def hung_up(self) -> bool:
        """Whether the server has closed, or does so after what it still has to say."""
        while True:
            try:
                if not self.socket.recv(65536):
                    return True
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False

    def still_served(self) -> bool:
        """Whether this very connection still works."""
        return self.errno(m.Command.DEVICE_GET_INFO, m.DEVICE_INFO.pack(16, 0, 0, 0)) == 0

    # What the scratch device does on demand.

    def map(self, iova: int, size: int, fds: Sequence[int] = (), flags: int = 3, offset: int = 0) -> int:
        return self.errno(m.Command.DMA_MAP, m.DMA_MAP.pack(32, flags, offset, iova, size), fds)

    def unmap(self, iova: int, size: int, flags: int = 0) -> int:
        return self.errno(m.Command.DMA_UNMAP, m.DMA_UNMAP.pack(24, flags, iova, size))

    def write(self, region: int, offset: int, data: bytes, flags: int = 0) -> int:
        self.command(m.Command.REGION_WRITE, m.REGION_ACCESS.pack(offset, region, len(data)) + data, flags=flags)
        return 0 if flags & m.NO_REPLY else self.reply()[1]

    def read(self, region: int, offset: int, count: int) -> bytes:
        error, payload = self.ask(m.Command.REGION_READ, m.REGION_ACCESS.pack(offset, region, count))
        assert error == 0
        return payload[16:]

    def bus_master(self, on: bool = True) -> None:
        assert self.write(7, 4, struct.pack("<H", 6 if on else 2)) == 0

    def engine(self, what: int, addr: int = 0, number: int = 0) -> int:
        """Has the device do a job and returns its result."""
        done = struct.unpack("<I", self.read(0, 16, 4))[0]
        assert self.write(0, 0, struct.pack("<QII", addr, number, what)) == 0
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            now, result = struct.unpack("<II", self.read(0, 16, 8))
            if now != done:
                return int(result)
        raise AssertionError("the device didn't do its job")


class ServerProcess:
    """The server under attack."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "s")
        self.log_path = os.path.join(folder, "log")
        with open(self.log_path, "wb") as log:
            command = [sys.executable, str(HERE / "serve_scratch.py"), self.path]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.adversaries: list[Adversary] = []
        self.wait_until(self._listens, "the server didn't start")
        for _ in range(3):
            self.next_client()  # what it opens once and keeps is open now
        self.idle_fds = self.settled_fds()

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.path) == 0

    @property
    def log(self) -> str:
        with open(self.log_path, errors="replace") as file:
            return file.read()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def settled_fds(self) -> int:
        last, since = self.fds(), time.monotonic()
        while time.monotonic() - since < 0.1:
            time.sleep(0.01)
            if self.fds() != last:
                last, since = self.fds(), time.monotonic()
        return last

    def wait_until(self, condition: object, reason: str) -> None:
        assert callable(condition)
        end = time.monotonic() + 2 * PATIENCE
        while not condition():
            assert self.alive, f"the server died ({self.process.returncode}):\n{self.log}"
            assert time.monotonic() < end, f"{reason}\n{self.log}"
            time.sleep(0.002)

    def connect(self, *, greet: bool = True) -> Adversary:
        adversary = Adversary(self.path)
        self.adversaries.append(adversary)
        if greet:
            adversary.greet()
        return adversary

    def next_client(self) -> None:
        """An honest client comes, finds a device as after power on, uses memory and interrupts, and goes."""
        with Client(self.path, timeout=PATIENCE) as client:
            assert client.config_read(0, 8) == struct.pack("<HHHH", 0x1234, 0x11E8, 0, 0x10)
            assert client.read(0, 0, 24) == bytes(24)
            memory = client.map_memory(4096, 0x10000)
            memory[:4] = b"good"
            client.enable_irqs(2, 10)
            client.config_write(4, b"\x06\x04")
            flags = self.msix_flags(client)
            client.config_write(flags, b"\x09\x80")
            client.write(0, 0, struct.pack("<QII", 0x10000, 4, 1))
            client.write(0, 0, struct.pack("<QII", 0, 3, 5))
            assert client.wait_irq(2, 3, PATIENCE) == 1
            assert client.read(1, 0, 4) == b"good"

    @staticmethod
    def msix_flags(client: Client) -> int:
        at = client.config_read(0x34, 1)[0]
        while client.config_read(at, 1)[0] != 0x11:
            at = client.config_read(at + 1, 1)[0]
        return at + 2

    def check(self) -> None:
        """What must be true once the adversaries have gone."""
        for adversary in self.adversaries:
            adversary.close()
        self.adversaries.clear()
        self.wait_until(lambda: self.fds() <= self.idle_fds, f"{self.fds()} descriptors, {self.idle_fds} when idle")
        assert self.alive, f"the server died ({self.process.returncode}):\n{self.log}"
        self.next_client()
        self.wait_until(lambda: self.fds() <= self.idle_fds, "descriptors of an honest client stay")
        assert "Traceback" not in self.log, self.log

    def stop(self) -> None:
        if self.alive:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)


@pytest.fixture(scope="session")
def _running() -> Iterator[list[ServerProcess]]:
    """The one server process of the session, replaced when an attack has broken it."""
    with tempfile.TemporaryDirectory() as folder:
        running = [ServerProcess(folder)]
        yield running
        running[0].stop()


@pytest.fixture
def server(_running: list[ServerProcess]) -> Iterator[ServerProcess]:
    """The server. Afterwards: it lives, has leaked no descriptor, and serves the next client."""
    current = _running[0]
    failed = True
    try:
        yield current
        current.check()
        failed = False
    finally:
        if failed:
            for adversary in current.adversaries:
                adversary.close()
            current.stop()
            with open(current.log_path, errors="replace") as file:
                sys.stderr.write(file.read())
            os.unlink(current.path) if os.path.exists(current.path) else None
            _running[0] = ServerProcess(os.path.dirname(current.path))


@pytest.fixture
def raw(server: ServerProcess) -> Adversary:
    """An adversary that has negotiated a version."""
    return server.connect()


@pytest.fixture
def stranger(server: ServerProcess) -> Adversary:
    """An adversary that hasn't said anything yet."""
    return server.connect(greet=False)


@pytest.fixture
def refused() -> frozenset[int]:
    """An error that tells the client off, where no particular one is called for."""
    return frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.ENOENT, CLOSED})
