"""The socket: its path, one client at a time, and what a client leaves behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import resource
import select
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyvfio_user import Reset, Server, ServerError

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench


def listen(bench: Bench, path: Path, **options: Any) -> Server:
    bench.server = Server(path, bench.device, bench.loop, **options)
    return bench.server


def dial(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "card.sock"


def test_clients_come_one_after_another(bench: Bench, path: Path) -> None:
    server = listen(bench, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for _ in range(3):
        client = bench.adopt(dial(path))
        client.version()
        client.write(0, 0, b"mine")
        client.sock.close()
        client.pump(lambda: not server.connected)
        assert bench.device.log[-2:] == ["detach", Reset.LOST_CLIENT]
    server.close()
    assert not path.exists()
    server.close()


def test_a_second_client_is_turned_away(bench: Bench, path: Path) -> None:
    listen(bench, path)
    first = bench.adopt(dial(path))
    first.version()
    second = bench.adopt(dial(path))
    assert second.closed()
    assert first.read(0, 0, 1) == b"\0"


def test_the_next_client_may_be_there_before_the_server_has_seen_the_last_one_go(bench: Bench, path: Path) -> None:
    listen(bench, path)
    first = bench.adopt(dial(path))
    first.version()
    first.post(0, 0, b"left unread")
    first.sock.close()
    second = bench.adopt(dial(path))
    assert second.version().flags == 1


def test_a_thousand_visits_leave_nothing(bench: Bench, path: Path) -> None:
    server = listen(bench, path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1000):
        with dial(path) as sock:
            if number % 3:
                sock.send(b"\x01\0\x01\0garbage"[: number % 12])
            bench.loop.run_once(0)
    bench.loop.run_once(0)
    bench.loop.run_once(0)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(bench.loop._timers) < 600
    assert not server.connected
    assert bench.device.log == []


def test_once(bench: Bench, path: Path) -> None:
    listen(bench, path, once=True)
    client = bench.adopt(dial(path))
    client.version()
    client.sock.close()
    bench.loop.call_at(bench.loop.now() + 5_000_000_000, lambda: pytest.fail("the loop goes on"))
    bench.loop.run()
    assert not path.exists()


def test_a_dead_socket_is_replaced(bench: Bench, path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    listen(bench, path)
    bench.adopt(dial(path)).version()


def test_a_live_socket_is_not(bench: Bench, path: Path) -> None:
    listen(bench, path)
    with pytest.raises(ServerError, match="another server"):
        Server(path, bench.device, bench.loop)
    assert path.exists()


def test_of_two_that_start_at_once_one_serves(path: Path) -> None:
    """Both find the same dead socket; none may take the other's for it."""
    code = """
import sys
import time
from pyvfio_user import EventLoop, Server, ServerError
from pyvfio_user.pci.config import Identity, PciConfig
from pyvfio_user.pci.function import PciFunction

device, loop = PciFunction(PciConfig(Identity(1, 2, 3))), EventLoop()
for line in sys.stdin:
    path, when = line.rsplit(" ", 1)
    while time.monotonic() < float(when):
        pass
    try:
        server = Server(path, device, loop)
    except ServerError:
        print("refused", flush=True)
    else:
        print("listens", flush=True)
"""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    rivals = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(2)]
    try:
        for number in range(200):
            dead = socket.socket(socket.AF_UNIX)
            dead.bind(f"{path}{number}")
            dead.close()
            when = time.monotonic() + 0.003
            for rival in rivals:
                print(f"{path}{number} {when}", file=rival.stdin, flush=True)
            assert sorted(rival.stdout.readline().strip() for rival in rivals) == ["listens", "refused"]
    finally:
        for rival in rivals:
            rival.kill()
            rival.communicate()


def test_a_lock_on_the_folder_stops_nobody(bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvfio_user.server._LOCK_SECONDS", 0.05)
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    listen(bench, path)
    dial(path).close()
    os.close(folder)


def test_without_descriptors_the_server_waits(
    bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pyvfio_user.server._PAUSE_NS", 50_000_000)
    listen(bench, path)
    client = bench.adopt(dial(path))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), limits[1]))
    fillers = []
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        bench.loop.run_once(1)
        began = time.monotonic()
        bench.loop.run_once(1)  # nothing but the end of the pause
        assert time.monotonic() - began > 0.02
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in fillers:
            os.close(fd)
    assert "can't accept" in caplog.text
    client.version()


def test_other_files_are_left_alone(bench: Bench, path: Path, tmp_path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ServerError, match="isn't a socket"):
        Server(path, bench.device, bench.loop)
    assert path.read_text() == "precious"
    link = tmp_path / "link"
    for target in (path, tmp_path / "nowhere", tmp_path):
        link.symlink_to(target)
        with pytest.raises(ServerError, match="isn't a socket"):
            Server(link, bench.device, bench.loop)
        link.unlink()
    with pytest.raises(ServerError, match="isn't a socket"):
        Server(tmp_path, bench.device, bench.loop)


@pytest.mark.parametrize("name", ["no/such/folder", "x" * 200])
def test_impossible_paths(bench: Bench, tmp_path: Path, name: str) -> None:
    with pytest.raises(ServerError, match="can't listen on"):
        Server(tmp_path / name, bench.device, bench.loop)


def test_a_socket_that_has_been_replaced_is_not_removed(bench: Bench, path: Path) -> None:
    server = listen(bench, path)
    path.unlink()
    path.write_text("somebody else's")
    server.close()
    assert path.exists()


def test_a_listening_socket_may_be_handed_in(bench: Bench, path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    bench.server = Server(listener, bench.device, bench.loop)
    bench.adopt(dial(path)).version()
    bench.server.close()
    assert path.exists()


def test_closing_the_server_resets_the_device_and_closes_the_client(bench: Bench) -> None:
    client = bench.client()
    assert bench.server is not None
    bench.server.close()
    assert bench.device.log[-2:] == ["detach", Reset.LOST_CLIENT]
    assert client.closed()


def test_everything_of_a_client_goes_with_it(bench: Bench) -> None:
    client = bench.client()
    memory = os.memfd_create("guest", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 4096)
    client.map(0, 4096, memory)
    client.map(4096, 4096)
    event = os.eventfd(0)
    client.set_irqs(2, 0x24, 0, 1, fds=[event])
    client.set_irqs(0, 0x14, 0, 1, fds=[event])
    client.bus_master()
    host = bench.host
    host.read(0, 1)
    os.close(memory)
    client.sock.close()
    client.pump(lambda: bench.device.host is None)
    with pytest.raises(Exception, match="gone"):
        host.read(0, 1)
    host.interrupt(0)
    host.intx(True)
    assert not select.select([event], [], [], 0)[0]
    os.close(event)
    second = bench.client()
    assert second.fails(3, struct.pack("<IIQQ", 24, 0, 0, 4096)) == errno.ENOENT


def test_bad_framing_ends_the_client_only(bench: Bench) -> None:
    for header in (
        struct.pack("<HHIII", 1, 4, 15, 0, 0),
        struct.pack("<HHIII", 1, 4, 0, 0, 0),
        struct.pack("<HHIII", 1, 4, 2**32 - 1, 0, 0),
        struct.pack("<HHIII", 1, 4, 32, 2, 0),
    ):
        client = bench.client()
        client.raw(header + bytes(16))
        assert client.closed()
        assert bench.device.log[-1] is Reset.LOST_CLIENT


def test_descriptors_nobody_asked_for_are_closed(bench: Bench) -> None:
    client = bench.client()
    fds = [os.eventfd(0) for _ in range(3)]
    before = len(os.listdir("/proc/self/fd"))
    client.ok(4, struct.pack("<IIII", 16, 0, 0, 0), fds)
    client.ok(9, struct.pack("<QII", 0, 0, 4), fds)
    client.fails(99, b"", fds)
    client.raw(struct.pack("<HHIII", 9, 10, 36, 0x10, 0) + struct.pack("<QIII", 0, 0, 4, 1), fds)
    assert client.read(0, 0, 1) == b"\1"
    client.raw(struct.pack("<HHIII", 9, 11, 16, 1, 0), fds)
    client.read(0, 0, 1)
    assert len(os.listdir("/proc/self/fd")) == before
    for fd in fds:
        os.close(fd)


def test_refusals_are_logged_a_few_times(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    client = bench.client()
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            client.fails(99)
    assert 0 < len(caplog.records) <= 5


def test_a_silent_client_is_sent_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvfio_user.server._HELLO_NS", 1_000_000)
    client = bench.connect()
    assert client.closed()
