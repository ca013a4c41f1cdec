"""Fixtures of the wire tests: a network namespace of their own, an event loop of a few lines, a card's callbacks."""

from __future__ import annotations

import ctypes
import os
import selectors
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from igb_device.clock import SimClock
from igb_device.wire.base import Frame, Wire
from igb_vm import Program

T = TypeVar("T")
CLONE_NEWNET = 0x40000000


class Loop:
    """The `Readers` protocol on a selector."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.turns = 0

    def _change(self, fd: int, event: int, callback: Callable[[], None] | None) -> None:
        try:
            callbacks = dict(self._selector.get_key(fd).data)
        except KeyError:
            callbacks = {}
        assert (event in callbacks) is (callback is None), "added twice or removed twice"
        if callback is None:
            del callbacks[event]
        else:
            callbacks[event] = callback
        events = sum(callbacks)
        if not events:
            self._selector.unregister(fd)
        elif len(callbacks) == 1 and callback is not None:
            self._selector.register(fd, events, callbacks)
        else:
            self._selector.modify(fd, events, callbacks)

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self._change(fd, selectors.EVENT_READ, callback)

    def remove_reader(self, fd: int) -> None:
        self._change(fd, selectors.EVENT_READ, None)

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        self._change(fd, selectors.EVENT_WRITE, callback)

    def remove_writer(self, fd: int) -> None:
        self._change(fd, selectors.EVENT_WRITE, None)

    @property
    def watched(self) -> int:
        return len(self._selector.get_map())

    def turn(self, timeout: float = 0) -> int:
        """One turn: calls what is due, returns how many descriptors were."""
        self.turns += 1
        due = self._selector.select(timeout)
        for key, events in due:
            for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
                try:
                    now = self._selector.get_key(key.fd).data
                except KeyError:
                    break
                if events & event and event in now:
                    now[event]()
        return len(due)

    def until(self, condition: Callable[[], object], seconds: float = 5) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.turn(0.01)

    def close(self) -> None:
        left = self.watched
        self._selector.close()
        assert left == 0, "descriptors left in the loop"


class Card:
    """What a card does with a wire: reads when it's told to, and keeps copies of what came."""

    def __init__(self, wire: Wire, limit: int = 64) -> None:
        self.wire = wire
        self.limit = limit
        self.frames: list[bytes] = []
        self.offloads: list[Any] = []
        self.links: list[bool] = []
        self.readies = 0
        wire.connect(self.ready, self.links.append)

    def ready(self) -> None:
        self.readies += 1
        for frame in self.wire.receive(self.limit):
            self.frames.append(b"".join(frame.parts))
            self.offloads.append(frame.offload)

    def send(self, *frames: bytes) -> int:
        return self.wire.send([Frame((frame,)) for frame in frames])


class Namespace:
    """A network namespace that lives in a thread of its own; it ends with the thread and its sockets."""

    def __init__(self, ip: Program) -> None:
        self._ip = ip
        self._thread = ThreadPoolExecutor(1)
        libc = ctypes.CDLL(None, use_errno=True)

        def enter() -> int:
            return 0 if libc.unshare(CLONE_NEWNET) == 0 else ctypes.get_errno()

        error = self.run(enter)
        if error:
            self._thread.shutdown()
            pytest.skip(f"no network namespace here: {os.strerror(error)}")

    def run(self, call: Callable[[], T]) -> T:
        """Runs `call` inside; sockets and TAPs it opens stay inside, wherever they're used."""
        return self._thread.submit(call).result()

    def ip(self, *args: str) -> str:
        return self.run(lambda: self._ip.run(*args, check=True).stdout)

    def close(self) -> None:
        self._thread.shutdown()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def clock() -> SimClock:
    return SimClock(start=1_000)


@pytest.fixture
def card() -> type[Card]:
    return Card


@pytest.fixture
def netns(tool: Callable[[str], Program]) -> Iterator[Namespace]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/net/tun")
    namespace = Namespace(tool("ip"))
    yield namespace
    namespace.close()
