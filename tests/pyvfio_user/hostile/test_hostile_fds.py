"""Descriptors where none belong, too many of them, and of the wrong kind."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from pyvfio_user import messages as m

IRQ_EVENTFD = m.IrqSet.EVENTFD | m.IrqSet.TRIGGER
INFO = m.DEVICE_INFO.pack(16, 0, 0, 0)


@pytest.fixture
def descriptors() -> Iterator[Any]:
    """Makes descriptors by what they are; all are closed at the end."""
    with ExitStack() as stack:

        def make(kind: str) -> int:
            if kind == "eventfd":
                fd = os.eventfd(0)
            elif kind == "pipe":
                fd, other = os.pipe()
                stack.callback(os.close, other)
            elif kind == "pipe's end":
                other, fd = os.pipe()
                stack.callback(os.close, other)
            elif kind == "socket":
                one, two = socket.socketpair()
                stack.callback(two.close)
                fd = one.detach()
            elif kind == "directory":
                fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
            elif kind == "O_PATH":
                fd = os.open("/", os.O_PATH)
            elif kind == "null":
                fd = os.open("/dev/null", os.O_RDWR)
            elif kind == "epoll":
                poller = select.epoll()
                stack.callback(poller.close)
                fd = os.dup(poller.fileno())
            elif kind == "empty memfd":
                fd = os.memfd_create("empty")
            elif kind == "read-only file":
                fd = os.memfd_create("file")
                os.ftruncate(fd, 1 << 20)
                fd, was = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY), fd
                stack.callback(os.close, was)
            elif kind == "write-only file":
                fd = os.memfd_create("file")
                os.ftruncate(fd, 1 << 20)
                fd, was = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), fd
                stack.callback(os.close, was)
            else:
                fd = os.memfd_create("file")
                os.ftruncate(fd, 1 << 20)
            stack.callback(os.close, fd)
            return fd

        yield make


@pytest.mark.parametrize("command", [*m.Command, 0, 99])
@pytest.mark.parametrize("count", [1, 5])
def test_descriptors_on_every_command(raw: Any, descriptors: Any, command: int, count: int) -> None:
    """Whatever is answered, none of them stays: the fixture counts."""
    raw.command(command, bytes(32), [descriptors("eventfd") for _ in range(count)])
    raw.reply()


def test_descriptors_with_the_greeting(stranger: Any, descriptors: Any) -> None:
    stranger.command(m.Command.VERSION, struct.pack("<HH", 0, 0), [descriptors("eventfd")])
    stranger.reply()


def test_as_many_as_the_kernel_passes(raw: Any, descriptors: Any) -> None:
    fd = descriptors("eventfd")
    raw.command(m.Command.DEVICE_GET_INFO, INFO, [fd] * 253)
    raw.reply()


def test_many_for_one_message(raw: Any, descriptors: Any) -> None:
    """A message in pieces of a byte, each with more descriptors than the last one could have."""
    fd = descriptors("eventfd")
    for byte in raw.message(m.Command.DEVICE_GET_INFO, INFO):
        raw.send(bytes([byte]), [fd] * 200)
    assert raw.reply()[1] in (0, errno.EINVAL, raw.CLOSED)


def test_more_than_vectors_and_fewer(raw: Any, descriptors: Any) -> None:
    fds = [descriptors("eventfd") for _ in range(4)]
    for count in (1, 3, 5, 10):
        payload = m.IRQ_SET.pack(20, IRQ_EVENTFD, 2, 0, count)
        assert raw.errno(m.Command.DEVICE_SET_IRQS, payload, fds) == errno.EINVAL
    assert raw.still_served()


def test_split_over_the_pieces_of_a_message(raw: Any, descriptors: Any) -> None:
    """The kernel permits it, so it must at least not leak or hang."""
    data = raw.message(m.Command.DEVICE_SET_IRQS, m.IRQ_SET.pack(20, IRQ_EVENTFD, 2, 0, 2))
    raw.send(data[:20], [descriptors("eventfd")])
    raw.send(data[20:], [descriptors("eventfd")])
    assert raw.reply()[1] in (0, errno.EINVAL, raw.CLOSED)


def test_left_behind_in_a_message_that_never_ends(raw: Any, descriptors: Any) -> None:
    data = raw.message(m.Command.DEVICE_SET_IRQS, m.IRQ_SET.pack(20, IRQ_EVENTFD, 2, 0, 1))
    raw.send(data[:30], [descriptors("eventfd")])
    raw.close()


def test_behind_a_header_that_ends_the_connection(raw: Any, descriptors: Any) -> None:
    raw.send(raw.message(m.Command.DEVICE_GET_INFO, INFO, size=3), [descriptors("eventfd")] * 10)
    assert raw.hung_up()


@pytest.mark.parametrize(
    "kind", ["pipe", "pipe's end", "socket", "directory", "O_PATH", "null", "epoll", "empty memfd", "read-only file"]
)
@pytest.mark.parametrize("action", [m.IrqSet.TRIGGER, m.IrqSet.UNMASK])
def test_an_interrupt_that_isnt_an_eventfd(raw: Any, descriptors: Any, kind: str, action: int) -> None:
    index = 2 if action == m.IrqSet.TRIGGER else 0
    payload = m.IRQ_SET.pack(20, m.IrqSet.EVENTFD | action, index, 0, 1)
    assert raw.errno(m.Command.DEVICE_SET_IRQS, payload, [descriptors(kind)]) == errno.EINVAL
    assert raw.still_served()


def arm_msix(server: Any, raw: Any, fd: int) -> None:
    payload = m.IRQ_SET.pack(20, IRQ_EVENTFD, 2, 0, 1)
    assert raw.errno(m.Command.DEVICE_SET_IRQS, payload, [fd]) == 0
    raw.bus_master()
    at = raw.read(7, 0x34, 1)[0]
    while raw.read(7, at, 1)[0] != 0x11:
        at = raw.read(7, at + 1, 1)[0]
    assert raw.write(7, at + 2, b"\x09\x80") == 0


def test_a_full_eventfd_doesnt_block_the_server(server: Any, raw: Any, descriptors: Any) -> None:
    fd = descriptors("eventfd")
    arm_msix(server, raw, fd)
    os.eventfd_write(fd, 0xFFFFFFFFFFFFFFFE)
    assert raw.engine(5, number=0) == 0
    assert raw.still_served()


def test_nor_one_that_was_made_blocking_again(server: Any, raw: Any, descriptors: Any) -> None:
    """O_NONBLOCK belongs to the open file, which the client shares with the server."""
    fd = descriptors("eventfd")
    arm_msix(server, raw, fd)
    os.eventfd_write(fd, 0xFFFFFFFFFFFFFFFE)
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    assert raw.engine(5, number=0) == 0
    assert raw.still_served()


def test_a_resample_eventfd_that_never_runs_dry(server: Any, raw: Any, descriptors: Any) -> None:
    """Semaphores go on being readable after a read: the server must not spin on one message for ever."""
    fd = os.eventfd(0xFFFFFF, os.EFD_SEMAPHORE)
    payload = m.IRQ_SET.pack(20, m.IrqSet.EVENTFD | m.IrqSet.UNMASK, 0, 0, 1)
    assert raw.errno(m.Command.DEVICE_SET_IRQS, payload, [fd]) == 0
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    for _ in range(20):
        assert raw.still_served()
    os.close(fd)


def ioeventfd(raw: Any) -> int:
    """The eventfd that the device offers for a register."""
    raw.send(raw.message(m.Command.DEVICE_GET_REGION_IO_FDS, m.REGION_IO_FDS.pack(4096, 0, 1, 0)))
    reply, fds, _, _ = socket.recv_fds(raw.socket, 4096, 8)
    assert len(reply) == 16 + 16 + 40
    return fds[0]


def resample(raw: Any) -> int:
    """An eventfd by which the client says that the guest has handled INTx."""
    fd = os.eventfd(0)
    payload = m.IRQ_SET.pack(20, m.IrqSet.EVENTFD | m.IrqSet.UNMASK, 0, 0, 1)
    assert raw.errno(m.Command.DEVICE_SET_IRQS, payload, [fd]) == 0
    return fd


@pytest.mark.parametrize("source", [ioeventfd, resample])
def test_an_eventfd_that_the_client_drains_itself(raw: Any, source: Callable[[Any], int]) -> None:
    """Readable when the server looks, empty when it reads, and blocking as the client has made it."""
    fd = source(raw)
    os.set_blocking(fd, True)
    stop = threading.Event()

    def drain() -> None:
        while not stop.is_set():
            with suppress(BlockingIOError):
                os.eventfd_read(fd)
                os.set_blocking(fd, True)

    drainer = threading.Thread(target=drain)
    drainer.start()
    try:
        for _ in range(2000):
            os.eventfd_write(fd, 1)
            assert raw.still_served()
    finally:
        stop.set()
        while drainer.is_alive():
            os.eventfd_write(fd, 1)
            drainer.join(0.01)
    os.eventfd_write(fd, 1)
    os.close(fd)
    assert raw.still_served()


@pytest.mark.parametrize("kind", ["pipe", "socket", "directory", "O_PATH", "null", "epoll", "eventfd", "empty memfd"])
def test_guest_memory_that_isnt_a_file(raw: Any, descriptors: Any, kind: str) -> None:
    assert raw.map(0, 4096, [descriptors(kind)]) not in (0, raw.CLOSED)
    assert raw.still_served()


@pytest.mark.parametrize(("kind", "flags"), [("read-only file", 3), ("read-only file", 2), ("write-only file", 3)])
def test_guest_memory_not_open_for_what_is_promised(raw: Any, descriptors: Any, kind: str, flags: int) -> None:
    assert raw.map(0, 4096, [descriptors(kind)], flags=flags) not in (0, raw.CLOSED)
    assert raw.still_served()


def test_several_files_for_one_map(raw: Any, descriptors: Any) -> None:
    assert raw.map(0, 4096, [descriptors("file"), descriptors("file")]) == errno.EINVAL
