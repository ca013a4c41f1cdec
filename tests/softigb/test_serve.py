"""`softigb serve`: its life from the line that says it listens to the socket's removal, and all that can be wrong."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from igb_device.wire import spec
from pyvfio_user.client import Client
from softigb.mac import mac_for

_SECONDS = 20.0
_CONFIG, _BAR0 = 7, 0
_CTRL, _STATUS, _RAL, _RAH = 0x0, 0x8, 0x5400, 0x5404
_SLU, _LU = 0x40, 2


class Serve:
    """A `softigb serve` under test, past its first line."""

    def __init__(self, path: Path, *words: str, wire: str = "none", pass_fds: tuple[int, ...] = ()) -> None:
        self.path = path
        command = [sys.executable, "-m", "softigb", "serve", "--socket", str(path), "--wire", wire, *words]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            pass_fds=pass_fds,
        )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], _SECONDS)[0], "it says nothing"
        self.line = self.process.stdout.readline()
        assert self.line, self.wait()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Sends a signal and returns status, what else it said, and its errors."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode, out, err


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    """Starts a server on tmp_path/igb.sock; one that is left running is killed."""
    started: list[Serve] = []

    def start(*words: str, **options: object) -> Serve:
        started.append(Serve(tmp_path / "igb.sock", *words, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def read32(client: Client, offset: int) -> int:
    return int.from_bytes(client.read(_BAR0, offset, 4), "little")


def mac_of(client: Client) -> str:
    return struct.pack("<IH", read32(client, _RAL), read32(client, _RAH) & 0xFFFF).hex(":")


def becomes(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SECONDS
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_status_0_and_the_socket_is_removed(serve, number):
    server = serve()
    assert server.path.is_socket()
    assert str(server.path) in server.line
    assert server.end(number) == (0, "", "")
    assert not server.path.exists()


def test_a_signal_ends_it_while_a_client_is_there(serve):
    server = serve()
    with Client(server.path) as client:
        client.device_info()
        assert server.end()[0] == 0


def test_it_serves_an_82576_and_after_the_first_client_the_next(serve):
    server = serve("--mac", "02:11:22:33:44:55")
    for _ in range(2):
        with Client(server.path) as client:
            assert client.read(_CONFIG, 0, 4) == bytes.fromhex("8680c910")  # 8086:10c9
            assert mac_of(client) == "02:11:22:33:44:55"
    assert server.end() == (0, "", "")


def test_once_ends_with_its_first_client(serve):
    server = serve("--once")
    with Client(server.path) as client:
        client.device_info()
        assert server.process.poll() is None
    assert server.wait() == (0, "", "")
    assert not server.path.exists()


def test_the_address_is_made_from_the_path_and_stays(serve, tmp_path):
    server = serve()
    with Client(server.path) as client:
        mac = mac_of(client)
    assert mac.startswith("52:54:00:")
    assert mac in server.line
    assert mac_for(server.path).hex(":") == mac
    assert mac_for(tmp_path / "other.sock") != mac_for(server.path)
    assert mac_for(os.path.relpath(server.path)) == mac_for(server.path)


@pytest.mark.parametrize("mac", ["52:54:00", "53:54:00:12:34:56", "00:00:00:00:00:00", "52:54:00:12:34:5g", "1" * 12])
def test_an_address_that_is_none_is_refused(softigb, tmp_path, mac):
    ran = softigb("serve", "--socket", str(tmp_path / "s"), "--wire", "none", "--mac", mac)
    assert ran.status == 2
    assert re.fullmatch(r"softigb: .*\n", ran.err)


def test_a_socket_that_is_served_is_refused_and_left(serve, softigb):
    server = serve()
    ran = softigb("serve", "--socket", str(server.path), "--wire", "none")
    assert ran.status == 1
    assert re.fullmatch(rf"softigb: .*{server.path}.*\n", ran.err)
    with Client(server.path) as client:
        client.device_info()


def test_a_dead_socket_is_replaced(serve, tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "igb.sock"))
    assert serve().end()[0] == 0


def test_a_file_is_refused_and_left(softigb, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    ran = softigb("serve", "--socket", str(file), "--wire", "none")
    assert ran.status == 1
    assert re.fullmatch(rf"softigb: .*{file}.*\n", ran.err)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("place", ["missing/igb.sock", ".", "long" * 40], ids=["no folder", "a folder", "too long"])
def test_a_place_where_no_socket_can_be_is_one_line(softigb, tmp_path, place):
    ran = softigb("serve", "--socket", str(tmp_path / place), "--wire", "none")
    assert ran.status == 1
    assert re.fullmatch(r"softigb: .*\n", ran.err)


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "tap",
        "tap:",
        "tap:softigb-none",
        "fd:x",
        "fd:99999",
        "none:x",
        "carrier:pigeon",
        "stream:nowhere",
        "pcap:/no",
    ],
)
def test_a_wire_that_cannot_be_had_is_one_line_and_leaves_no_socket(softigb, tmp_path, wire):
    ran = softigb("serve", "--socket", str(tmp_path / "s"), "--wire", wire)
    assert ran.status == 1
    assert re.fullmatch(r"softigb: .+\n", ran.err)
    assert not (tmp_path / "s").exists()


def test_a_capture_that_cannot_be_written_is_one_line(softigb, tmp_path):
    ran = softigb("serve", "--socket", str(tmp_path / "s"), "--wire", "none", "--capture", str(tmp_path / "no" / "c"))
    assert ran.status == 1
    assert re.fullmatch(r"softigb: .*no/c.*\n", ran.err)
    assert not (tmp_path / "s").exists()


def test_a_second_card_on_the_socket_leaves_the_firsts_capture_alone(serve, softigb, tmp_path):
    capture = tmp_path / "c.pcapng"
    server = serve("--capture", str(capture))
    before = capture.read_bytes()
    assert before[:4] == b"\x0a\x0d\x0d\x0a"  # pcapng's section header
    assert softigb("serve", "--socket", str(server.path), "--wire", "none", "--capture", str(capture)).status == 1
    assert capture.read_bytes() == before


def test_a_client_that_talks_garbage_is_dropped_and_the_next_is_served(serve):
    server = serve()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.path))
        client.sendall(bytes(range(256)))
        client.settimeout(_SECONDS)
        while client.recv(4096):
            pass
    with Client(server.path) as next_client:
        next_client.device_info()
    status, _, err = server.end()
    assert status == 0
    assert "Traceback" not in err


def test_the_help_knows_every_kind_of_wire(softigb):
    shown = softigb("serve", "--help").out
    assert all(
        line.split()[0] in shown for line in spec.GRAMMAR.splitlines() if line[0] != " " and ":" in line.split()[0]
    )


@pytest.mark.netns
def test_a_tap_that_vanishes_is_link_down(serve, tool):
    name = f"sig{os.getpid() % 100000}"
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x0002 | 0x1000 | 0x4000))
    except OSError as error:
        pytest.skip(f"no TAP here: {error.strerror}")
    server = serve(wire=f"fd:{fd}", pass_fds=(fd,))
    with Client(server.path) as client:
        client.write(_BAR0, _CTRL, _SLU.to_bytes(4, "little"))
        assert becomes(lambda: bool(read32(client, _STATUS) & _LU))
        tool("ip").run("link", "delete", name, check=True)
        os.close(fd)
        assert becomes(lambda: not read32(client, _STATUS) & _LU)
    status, _, err = server.end()
    assert (status, err) == (0, "")


def test_an_idle_server_is_small_and_rests(serve):
    server = serve()
    with Client(server.path) as client:
        client.device_info()
    proc = Path(f"/proc/{server.process.pid}")
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", (proc / "status").read_text())[1])  # type: ignore[index]
    assert resident < 150 * 1024

    def ticks() -> int:
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(1.0)  # nothing to wait for: that nothing happens is the point
    assert ticks() - before <= 0.02 * os.sysconf("SC_CLK_TCK")
