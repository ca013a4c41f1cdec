"""Records what passes between a card and its wire: a wrapper that is itself a `Wire`.

The record is the card's view: what it sent is outbound, with the queue it came from; what arrived is inbound, with
the queue it went to or the reason why it was dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from igb_device.clock import Clock
from igb_device.drops import DropReason
from igb_device.wire.base import NEEDS_CSUM, Accepts, Frame, Wire
from igb_device.wire.pcapng import INBOUND, OUTBOUND, PcapngWriter

_UDP_CHECKSUM_AT = 6


class Capture:
    """`wire`, with each frame recorded by `writer`.

    Frames are recorded as they cross: a segment of 64 KiB is one packet. Only checksums that are left to the far end
    are filled in, in the copy. A frame sent is recorded once the wire took it, with the time at which it was given to
    it; an arrived one when the card has settled what becomes of it.
    """

    wants_verdicts = True

    def __init__(self, wire: Wire, writer: PcapngWriter, clock: Clock) -> None:
        self._wire = wire
        self._writer = writer
        self._clock = clock
        self._wire_wants = wire.wants_verdicts

    @property
    def accepts(self) -> Accepts:
        return self._wire.accepts

    @accepts.setter
    def accepts(self, accepts: Accepts) -> None:
        self._wire.accepts = accepts

    @property
    def link(self) -> bool:
        return self._wire.link

    @link.setter
    def link(self, link: bool) -> None:
        self._wire.link = link

    @property
    def errors(self) -> int:
        return self._wire.errors

    @errors.setter
    def errors(self, errors: int) -> None:
        self._wire.errors = errors

    def connect(self, ready: Callable[[], None], link_changed: Callable[[bool], None]) -> None:
        self._wire.connect(ready, link_changed)

    def send(self, frames: Sequence[Frame]) -> int:
        time = self._clock.now()
        sent = self._wire.send(frames)
        if self._writer.working:
            for frame in frames[:sent]:
                self._writer.add(time, complete(frame), OUTBOUND, frame.queue)
        return sent

    def receive(self, limit: int) -> Sequence[Frame]:
        return self._wire.receive(limit)

    def settled(self, frame: Frame, queue: int, reason: DropReason | None) -> None:
        if self._writer.working:
            comment = "" if reason is None else f"dropped: {reason.text}"
            self._writer.add(self._clock.now(), complete(frame), INBOUND, queue, comment)
        if self._wire_wants:
            self._wire.settled(frame, queue, reason)

    def pause(self, paused: bool) -> None:
        self._wire.pause(paused)

    def close(self) -> None:
        """Closes the wire and the file."""
        self._wire.close()
        self._writer.close()


def complete(frame: Frame) -> bytes | bytearray:
    """A copy of the frame, with its checksum filled in if that was left to the far end."""
    data = b"".join(frame.parts)
    flags, _, _, _, start, offset = frame.offload
    at = start + offset
    if not flags & NEEDS_CSUM or at + 2 > len(data):
        return data
    # The field holds the sum of the pseudo-header, so summing all from `start` is the whole sum (RFC 1071).
    body = data[start:] + bytes((len(data) - start) & 1)
    total = int(np.frombuffer(body, ">u2").sum(dtype=np.uint64))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = ~total & 0xFFFF
    if checksum == 0 and offset == _UDP_CHECKSUM_AT:
        checksum = 0xFFFF  # 0 means none in UDP
    filled = bytearray(data)
    filled[at : at + 2] = checksum.to_bytes(2, "big")
    return filled
