"""No cable: the link is down and stays down."""

from __future__ import annotations

from collections.abc import Sequence

from igb_device.wire.base import Frame
from igb_device.wire.endpoint import Endpoint


class NoWire(Endpoint):
    """Nothing plugged in. What is sent is lost and counted in `errors`; nothing ever arrives."""

    def send(self, frames: Sequence[Frame]) -> int:
        self.errors += len(frames)
        return len(frames)

    def receive(self, limit: int) -> Sequence[Frame]:
        return ()
