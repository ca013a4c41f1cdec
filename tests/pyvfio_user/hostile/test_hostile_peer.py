"""Peers that answer late, wrongly or never, don't read, come twice, or leave while they are being waited for."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pyvfio_user import messages as m

HERE = Path(__file__).parent
READ, WRITE = 1, 2
DMA_READ, DMA_WRITE = m.Command.DMA_READ, m.Command.DMA_WRITE
HEADER = struct.Struct("<HHIII")
PLAIN_GREETING = struct.pack("<HH", 0, 1) + b'{"capabilities":{"max_msg_fds":16}}\0'
INFO = m.DEVICE_INFO.pack(16, 0, 0, 0)


@pytest.fixture
def asked(stranger: Any) -> Any:
    """An adversary whose memory is reached by messages, with the device's DMA_READ of 64 bytes on its way."""
    stranger.greet(PLAIN_GREETING)
    assert stranger.map(0x1000, 0x1000) == 0
    stranger.bus_master()
    assert stranger.write(0, 0, struct.pack("<QII", 0x1000, 64, READ)) == 0
    msg_id, command, flags, _, payload = stranger.take()
    assert (command, flags & m.TYPE_MASK) == (DMA_READ, m.TYPE_COMMAND)
    assert struct.unpack("<QQ", payload) == (0x1000, 64)
    stranger.asked_id = msg_id
    return stranger


def answer(
    peer: Any, payload: bytes, *, flags: int = m.TYPE_REPLY, error: int = 0, delta: int = 0, cmd: int = 11
) -> None:
    peer.send(HEADER.pack((peer.asked_id + delta) & 0xFFFF, cmd, 16 + len(payload), flags, error) + payload)


def result(peer: Any) -> tuple[int, int]:
    """Jobs that the device has done, and how the last one ended."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        done, last = struct.unpack("<II", peer.read(0, 16, 8))
        if done:
            return done, last
        time.sleep(0.005)
    raise AssertionError("the device still waits")


GOOD = struct.pack("<QQ", 0x1000, 64) + b"d" * 64


class TestDmaReplies:
    def test_a_good_one(self, asked: Any) -> None:
        answer(asked, GOOD)
        assert result(asked) == (1, 0)
        assert asked.read(1, 0, 64) == b"d" * 64

    def test_after_commands_that_came_in_between(self, asked: Any) -> None:
        """The client's commands are served while its answer is awaited."""
        for _ in range(100):
            asked.command(m.Command.DEVICE_GET_INFO, INFO)
        for _ in range(100):
            assert asked.reply()[:2] == (m.Command.DEVICE_GET_INFO, 0)
        answer(asked, GOOD)
        assert result(asked) == (1, 0)

    @pytest.mark.parametrize("number", [0, 1, errno.EFAULT, 0xFFFFFFFF])
    def test_an_error(self, asked: Any, number: int) -> None:
        answer(asked, b"", flags=m.TYPE_REPLY | m.ERROR, error=number)
        assert result(asked) == (1, 1)
        assert asked.still_served()

    @pytest.mark.parametrize(
        "payload",
        [b"", GOOD[:8], GOOD[:16], GOOD[:-1], GOOD + b"d", GOOD * 100],
        ids=["empty", "half", "no data", "short", "long", "much longer"],
    )
    def test_of_wrong_size(self, asked: Any, payload: bytes) -> None:
        """Either the access fails, or the connection does."""
        answer(asked, payload)
        asked.command(m.Command.REGION_READ, m.REGION_ACCESS.pack(16, 0, 8))
        _, error, data = asked.reply()
        assert error in (0, asked.CLOSED)
        if error == 0:
            assert struct.unpack("<II", data[16:])[1] == 1 or result(asked)[1] == 1

    def test_with_a_wrong_id(self, asked: Any) -> None:
        answer(asked, GOOD, delta=7)
        answer(asked, GOOD)
        asked.command(m.Command.DEVICE_GET_INFO, INFO)
        assert asked.reply()[1] in (0, asked.CLOSED)

    def test_to_another_command(self, asked: Any) -> None:
        answer(asked, GOOD, cmd=12)
        asked.command(m.Command.DEVICE_GET_INFO, INFO)
        assert asked.reply()[1] in (0, asked.CLOSED)

    def test_twice(self, asked: Any) -> None:
        answer(asked, GOOD)
        answer(asked, GOOD)
        asked.command(m.Command.DEVICE_GET_INFO, INFO)
        assert asked.reply()[1] in (0, asked.CLOSED)

    def test_with_descriptors(self, asked: Any) -> None:
        fd = os.eventfd(0)
        asked.send(HEADER.pack(asked.asked_id, 11, 16 + len(GOOD), m.TYPE_REPLY, 0) + GOOD, [fd] * 8)
        os.close(fd)
        assert result(asked)[0] == 1

    def test_never_but_the_rest_goes_on(self, asked: Any) -> None:
        """After the server's patience (short in the tests) the access has failed, and a late answer is no harm."""
        assert result(asked) == (1, 1)
        answer(asked, GOOD)
        asked.command(m.Command.DEVICE_GET_INFO, INFO)
        assert asked.reply()[1] in (0, asked.CLOSED)

    def test_leaving_instead(self, asked: Any) -> None:
        asked.close()

    def test_leaving_in_the_middle_of_it(self, asked: Any) -> None:
        asked.send((HEADER.pack(asked.asked_id, 11, 16 + len(GOOD), m.TYPE_REPLY, 0) + GOOD)[:50])
        asked.close()

    def test_unmapping_what_is_being_read(self, asked: Any) -> None:
        assert asked.unmap(0x1000, 0x1000) == 0
        answer(asked, GOOD)
        assert asked.still_served()
        assert asked.engine(READ, 0x1000, 4) == 1

    def test_resetting_the_device_that_waits(self, asked: Any) -> None:
        assert asked.errno(m.Command.DEVICE_RESET) == 0
        answer(asked, GOOD)
        assert asked.still_served()

    def test_bus_mastering_goes_off_meanwhile(self, asked: Any) -> None:
        asked.bus_master(False)
        answer(asked, GOOD)
        assert asked.still_served()

    def test_a_flood_of_commands_instead(self, asked: Any) -> None:
        """The wait is bounded even though something arrives all the time."""
        end = time.monotonic() + 5
        done = 0
        while not done and time.monotonic() < end:
            asked.send(
                b"".join(asked.message(m.Command.REGION_READ, m.REGION_ACCESS.pack(16, 0, 4)) for _ in range(50))
            )
            for _ in range(50):
                done = max(done, struct.unpack("<I", asked.reply()[2][16:])[0])
        assert done == 1

    def test_more_work_for_the_device_that_waits(self, asked: Any) -> None:
        """The device is asked for other work meanwhile: it isn't entered twice."""
        for _ in range(5):
            assert asked.write(0, 0, struct.pack("<QII", 0x1000, 64, READ)) == 0
        done, end = 0, time.monotonic() + 5
        answer(asked, GOOD)
        while done < 6 and time.monotonic() < end:
            asked.command(m.Command.REGION_READ, m.REGION_ACCESS.pack(16, 0, 4))
            while True:
                msg_id, command, flags, _, payload = asked.take()
                if flags & m.TYPE_MASK == m.TYPE_REPLY:
                    done = struct.unpack("<I", payload[16:])[0]
                    break
                asked.asked_id = msg_id
                answer(asked, GOOD, cmd=command)
        assert done == 6

    def test_a_transfer_of_gigabytes(self, stranger: Any) -> None:
        """The ring of a guest that has gone mad: refused or cut, never a huge message."""
        stranger.greet(PLAIN_GREETING)
        assert stranger.map(0, 1 << 40) == 0
        stranger.bus_master()
        assert stranger.write(0, 0, struct.pack("<QII", 0, 0xFFFFFFFF, READ)) == 0
        stranger.command(m.Command.DEVICE_GET_INFO, INFO)
        assert stranger.reply()[1] == 0


class TestReaders:
    def test_replies_that_nobody_reads(self, server: Any, raw: Any) -> None:
        """The server stops taking commands instead of filling its memory, or blocking for ever."""
        request = raw.message(m.Command.REGION_READ, m.REGION_ACCESS.pack(0, 7, 4096))
        raw.socket.settimeout(0.3)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += raw.socket.send(request * 100)
        except TimeoutError:
            pass
        assert sent < 64 << 20, "it took everything"
        with open(f"/proc/{server.process.pid}/status") as status:
            resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        assert resident < 300_000, "kB"

    def test_and_then_reads_after_all(self, raw: Any) -> None:
        request = raw.message(m.Command.REGION_READ, m.REGION_ACCESS.pack(0, 7, 4096))
        raw.socket.settimeout(0.3)
        data = request * 2000
        sent = 0
        try:
            while sent < len(data):
                sent += raw.socket.send(data[sent : sent + 65536])
        except TimeoutError:
            pass
        raw.socket.settimeout(5)
        for _ in range(sent // len(request)):
            assert len(raw.reply()[2]) == 16 + 4096

    def test_half_a_shutdown(self, raw: Any) -> None:
        raw.command(m.Command.DEVICE_GET_INFO, INFO)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.hung_up()

    def test_the_other_half(self, raw: Any) -> None:
        raw.socket.shutdown(socket.SHUT_RD)
        for _ in range(100):
            raw.command(m.Command.DEVICE_GET_INFO, INFO)


class TestConnections:
    def test_a_second_client_while_one_is_there(self, server: Any, raw: Any) -> None:
        """It waits or is refused; the first one notices nothing."""
        assert raw.write(1, 0, b"mine") == 0
        second = server.connect(greet=False)
        second.socket.settimeout(0.3)
        try:
            second.command(m.Command.VERSION, PLAIN_GREETING)
            answered = second.reply()[1] == 0
        except TimeoutError:
            answered = False
        assert not answered
        assert raw.read(1, 0, 4) == b"mine"
        assert raw.still_served()

    def test_many_waiting_at_the_door(self, server: Any, raw: Any) -> None:
        others = []
        for _ in range(200):
            other = socket.socket(socket.AF_UNIX)
            other.setblocking(False)
            try:
                other.connect(server.path)
            except BlockingIOError:
                pass
            others.append(other)
        assert raw.still_served()
        for other in others:
            other.close()
        assert raw.still_served()

    def test_connecting_and_leaving_ten_thousand_times(self, server: Any) -> None:
        end = time.monotonic() + 60
        for _ in range(10_000):
            peer = socket.socket(socket.AF_UNIX)
            while True:
                try:
                    peer.connect(server.path)
                    break
                except BlockingIOError:
                    assert time.monotonic() < end
                    time.sleep(0.001)
            peer.close()

    def test_greeting_and_leaving(self, server: Any) -> None:
        for _ in range(300):
            peer = server.connect(greet=False)
            peer.command(m.Command.VERSION, PLAIN_GREETING)
            peer.close()
        server.adversaries.clear()


def start(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / "serve_scratch.py"), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class TestSocketPaths:
    """What may lie where the socket is to be."""

    def serves(self, path: Path) -> bool:
        process = start(path)
        try:
            end = time.monotonic() + 10
            while time.monotonic() < end and process.poll() is None:
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.settimeout(5)
                    try:
                        peer.connect(str(path))
                    except OSError:
                        time.sleep(0.02)
                        continue
                    peer.sendall(HEADER.pack(0, 1, 16 + len(PLAIN_GREETING), 0, 0) + PLAIN_GREETING)
                    return len(peer.recv(16)) == 16
            return False
        finally:
            process.kill()
            _, self.complaint = process.communicate()

    def test_a_stale_socket_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(path))
        assert self.serves(path)

    def test_a_regular_file_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        path.write_text("precious")
        assert not self.serves(path)
        assert path.read_text() == "precious"

    def test_a_link_isnt_followed_to_a_file(self, tmp_path: Path) -> None:
        path, target = tmp_path / "s", tmp_path / "target"
        target.write_text("precious")
        path.symlink_to(target)
        self.serves(path)
        assert target.read_text() == "precious"

    def test_another_servers_socket_isnt_taken_over(self, server: Any) -> None:
        process = start(Path(server.path))
        try:
            assert process.wait(10) != 0
        finally:
            process.kill()
            process.communicate()
