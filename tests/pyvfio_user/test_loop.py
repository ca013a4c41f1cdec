"""The event loop: timers to the microsecond, callbacks that remove each other, stop from a signal."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pyvfio_user.loop import EventLoop


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    yield left, right
    left.close()
    right.close()


def test_timers_run_in_order_of_due_time_then_of_asking(loop: EventLoop) -> None:
    ran: list[str] = []
    now = loop.now()
    loop.call_at(now + 2_000_000, lambda: ran.append("later"))
    loop.call_at(now + 1_000_000, lambda: ran.append("first"))
    loop.call_at(now + 1_000_000, lambda: ran.append("second"))
    loop.call_at(now + 3_000_000, loop.stop)
    loop.run()
    assert ran == ["first", "second", "later"]
    assert loop.now() >= now + 3_000_000


def test_timers_are_finer_than_a_millisecond(loop: EventLoop) -> None:
    late = []
    for _ in range(20):
        due = loop.now() + 100_000
        done: list[int] = []
        loop.call_at(due, lambda done=done: done.append(loop.now()))  # type: ignore[misc]
        while not done:
            loop.run_once(1)
        late.append(done[0] - due)
    assert min(late) >= 0
    assert sorted(late)[3] < 500_000


def test_an_earlier_timer_overtakes_the_armed_one(loop: EventLoop) -> None:
    now = loop.now()
    loop.call_at(now + 10_000_000_000, lambda: None)
    loop.run_once(0)
    loop.call_at(now + 1_000_000, loop.stop)
    loop.run()
    assert loop.now() - now < 5_000_000_000


def test_a_timer_asked_for_by_a_timer_waits_for_the_next_turn(loop: EventLoop) -> None:
    ran = []

    def again() -> None:
        ran.append(1)
        loop.call_at(0, again)

    loop.call_at(0, again)
    loop.run_once(0)
    assert len(ran) == 1
    loop.run_once()
    assert len(ran) == 2


def test_cancelled_timers_do_not_run_nor_pile_up(loop: EventLoop) -> None:
    ran: list[int] = []
    second = loop.call_at(0, lambda: ran.append(2))
    loop.call_at(-1, second.cancel)
    for _ in range(10_000):
        loop.call_at(loop.now() + 10**12, lambda: ran.append(1)).cancel()
    assert len(loop._timers) < 1000
    loop.run_once(0)
    loop.run_once(0)
    assert ran == []
    second.cancel()


def test_readers_and_writers(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    got: list[bytes] = []
    loop.add_writer(left.fileno(), lambda: (left.send(b"out"), loop.remove_writer(left.fileno()))[1])
    loop.add_reader(left.fileno(), lambda: got.append(left.recv(10)))
    loop.run_once(1)
    assert right.recv(10) == b"out"
    right.send(b"in")
    loop.run_once(1)
    right.close()
    loop.run_once(1)
    assert got == [b"in", b""]
    loop.remove_reader(left.fileno())
    loop.remove_reader(left.fileno())
    loop.run_once(0)
    assert len(got) == 2


def test_a_callback_may_remove_and_close_another(loop: EventLoop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    ran = []

    def reader(me: int) -> None:
        ran.append(me)
        for left, _ in pairs:
            loop.remove_reader(left.fileno())
        pairs[1 - me][0].close()

    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left.fileno(), lambda number=number: reader(number))  # type: ignore[misc]
        right.send(b"x")
    loop.run_once(1)
    loop.run_once(0)
    assert len(ran) == 1
    for left, right in pairs:
        left.close()
        right.close()


def test_a_broken_peer_reaches_a_writer_even_without_reader(loop: EventLoop) -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    while select.select([], [left], [], 0)[1]:
        left.send(bytes(65536))
    called: list[int] = []
    loop.add_writer(left.fileno(), lambda: called.append(1))
    loop.run_once(0)
    assert not called
    right.close()
    loop.run_once(1)
    assert called
    loop.remove_writer(left.fileno())
    left.close()


def test_an_exception_loses_no_timer(loop: EventLoop) -> None:
    ran: list[int] = []
    loop.call_at(1, lambda: 1 // 0)
    loop.call_at(2, lambda: ran.append(1))
    with pytest.raises(ZeroDivisionError):
        loop.run_once(0)
    loop.run_once(0)
    assert ran == [1]


def test_stop_from_a_signal_handler_and_a_thread(loop: EventLoop) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    try:
        thread = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        thread.start()
        loop.run()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    thread = threading.Timer(0.05, loop.stop)
    thread.start()
    loop.run()
    thread.join()


def test_stop_before_run(loop: EventLoop) -> None:
    loop.stop()
    started = time.monotonic()
    loop.run()
    assert time.monotonic() - started < 1
    loop.call_at(0, loop.stop)
    loop.run()


def test_run_once_returns_after_its_timeout(loop: EventLoop) -> None:
    started = time.monotonic()
    loop.run_once(0.02)
    assert 0.015 < time.monotonic() - started < 2
