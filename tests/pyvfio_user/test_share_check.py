"""Guest memory that a client passes but doesn't use itself (QEMU's share=off) is noticed."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench, RawClient

PAGE = 4096


@pytest.fixture
def turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[RawClient], None]:
    """A doorbell, a second after the last one: questions are far apart."""
    now = 0

    def ring(client: RawClient) -> None:
        nonlocal now
        now += 1_000_000_000
        client.post(0, 0, b"doorbell")

    monkeypatch.setattr(bench.loop, "now", lambda: now)
    return ring


def answer(client: RawClient, guest: Callable[[int, int], bytes]) -> int:
    """Answers the server's reads from what the guest sees; returns how many there were."""
    count = 0
    for _ in range(20):
        client.loop.run_once(0)
        while (message := client.poll_message()) is not None:
            if message.command == 11:
                count += 1
                addr, size = struct.unpack("<QQ", message.payload)
                data = struct.pack("<QQ", addr, size) + guest(addr, size)
                client.raw(struct.pack("<HHIII", message.msg_id, 11, 16 + len(data), 1, 0) + data)
    return count


def attach(bench: Bench, fd: int, capabilities: dict[str, bool]) -> RawClient:
    client = bench.client(dict(capabilities))
    client.map(0, 16 * PAGE, fd)
    client.bus_master()
    return client


Turn = Callable[["RawClient"], None]
QEMU = {"write_multiple": True}


@pytest.mark.parametrize("by_view", [False, True])
def test_a_private_copy_is_reported_once(
    bench: Bench, turn: Turn, memfd: Callable[..., int], caplog: pytest.LogCaptureFixture, by_view: bool
) -> None:
    client = attach(bench, memfd(16 * PAGE), QEMU)
    with caplog.at_level(logging.ERROR):
        for _ in range(10):
            if by_view:
                bench.host.view(0x100, 256)
            else:
                bench.host.read(0x100, 16)
            turn(client)
            answer(client, lambda addr, size: b"\x5a" * size)
    assert [record.message for record in caplog.records if "share=on" in record.message]
    assert len(caplog.records) == 1


def test_shared_memory_is_not(
    bench: Bench, turn: Turn, memfd: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    fd = memfd(16 * PAGE)
    client = attach(bench, fd, QEMU)
    asked = 0
    with caplog.at_level(logging.WARNING):
        bench.host.read(0x100, 16)
        for number in range(10):
            if number == 3:
                os.pwrite(fd, b"descriptor", 0x100)
            turn(client)
            asked += answer(client, lambda addr, size: os.pread(fd, size, addr))
    assert asked == 4  # zeros prove nothing; the first other data do
    assert not caplog.records


def test_a_guest_that_is_just_writing_is_not(
    bench: Bench, turn: Turn, memfd: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    fd = memfd(16 * PAGE)
    client = attach(bench, fd, QEMU)
    races = 0

    def guest(addr: int, size: int) -> bytes:
        nonlocal races
        races += 1
        return os.urandom(size) if races < 3 else os.pread(fd, size, addr)

    os.pwrite(fd, b"descriptor", 0x100)
    with caplog.at_level(logging.WARNING):
        bench.host.read(0x100, 16)
        for _ in range(5):
            turn(client)
            answer(client, guest)
    assert races == 3
    assert not caplog.records


@pytest.mark.parametrize("capabilities", [{}, {"write_multiple": False}])
def test_clients_that_may_not_know_dma_messages_are_not_asked(
    bench: Bench, turn: Turn, memfd: Callable[..., int], capabilities: dict[str, bool]
) -> None:
    client = attach(bench, memfd(16 * PAGE), capabilities)
    bench.host.read(0, 16)
    turn(client)
    assert answer(client, lambda addr, size: bytes(size)) == 0


def test_an_error_ends_it(bench: Bench, turn: Turn, memfd: Callable[..., int]) -> None:
    client = attach(bench, memfd(16 * PAGE), QEMU)
    bench.host.read(0, 16)
    turn(client)
    message = client.message()
    client.raw(struct.pack("<HHIII", message.msg_id, 11, 16, 0x21, 95))
    for _ in range(5):
        bench.host.read(0, 16)
        turn(client)
        assert answer(client, lambda addr, size: bytes(size)) == 0
