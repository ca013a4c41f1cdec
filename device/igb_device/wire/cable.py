"""A cable within the process: two cards back to back, with the offload facts travelling along.

Segments and unfinished checksums cross as they are (the receiving card deals with them), as between two TAPs of one
host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from igb_device.clock import Clock
from igb_device.wire.base import Accepts, Frame
from igb_device.wire.endpoint import Endpoint

CAPACITY = 1024
"""Frames that wait in each direction by default."""


def cable(clock: Clock, capacity: int = CAPACITY) -> tuple[CableEnd, CableEnd]:
    """Both ends of a new cable. `link` is True at both once both have a card.

    A card is told of frames at the clock's next turn, so that two cards never run inside one another. The cable has
    no length: frames arrive at the moment they are sent.
    """
    a, b = CableEnd(clock, capacity), CableEnd(clock, capacity)
    a._peer, b._peer = b, a
    return a, b


class CableEnd(Endpoint):
    """One end; made by `cable`. Once `capacity` frames wait at the far end, `send` takes no more, and `ready`
    follows when there is room again. Closing either end takes the link down and loses what waits."""

    accepts = Accepts.CSUM | Accepts.TSO4 | Accepts.TSO6 | Accepts.USO

    def __init__(self, clock: Clock, capacity: int) -> None:
        super().__init__()
        self._clock = clock
        self._capacity = capacity
        self._peer: CableEnd = self
        self._queue: deque[Frame] = deque()
        self._taken = 0
        self._room_wanted = False  # `send` here was cut short
        self._room_made = False
        self._call_due = False

    def send(self, frames: Sequence[Frame]) -> int:
        if not self.link:
            self.errors += len(frames)
            return len(frames)
        peer = self._peer
        sent = min(self._capacity - len(peer._queue), len(frames))
        for frame in frames[:sent]:
            # A copy, as the parts may lie in guest memory that is written again once they count as sent.
            peer._queue.append(Frame((memoryview(b"".join(frame.parts)),), frame.offload))
        if sent < len(frames):
            self._room_wanted = True
        if sent:
            peer._call_soon()
        return sent

    def receive(self, limit: int) -> Sequence[Frame]:
        queue = self._queue
        frames = [queue.popleft() for _ in range(min(limit, len(queue)))]
        self._taken += len(frames)
        peer = self._peer
        if frames and peer._room_wanted:
            peer._room_wanted = False
            peer._room_made = True
            peer._call_soon()
        return frames

    def _call_soon(self) -> None:
        if not self._call_due and (self._room_made or not self._paused):
            self._call_due = True
            self._clock.call_at(self._clock.now(), self._call)

    def _call(self) -> None:
        self._call_due = False
        if not self._room_made and (self._paused or not self._queue):
            return
        self._room_made = False
        taken = self._taken
        self._ready()
        if self._queue and self._taken != taken:  # a card that took nothing is told again when more comes
            self._call_soon()

    def _watch(self) -> None:
        linked = self._connected and self._peer._connected
        for end in (self, self._peer):
            if not linked:
                end._queue.clear()
                end._room_wanted = False
            if end._connected:
                end._set_link(linked)
        if self._queue:
            self._call_soon()
