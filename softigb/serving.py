"""A card and its server in this process, from the wire's specification to the end by a signal."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from igb_device.nic import Nic
from igb_device.wire.base import Wire
from igb_device.wire.spec import open_wire
from pyvfio_user.logs import LimitedLog
from pyvfio_user.loop import EventLoop
from pyvfio_user.server import Server

_log = LimitedLog(logging.getLogger(__name__))


@dataclass(frozen=True)
class Card:
    """What is to be served, and where. `wire` is a specification, `mac` has 6 bytes."""

    socket: Path
    wire: str
    mac: bytes
    capture: Path | None = None


def serve_card(card: Card, once: bool, log_level: str) -> None:
    """Serves until SIGINT, SIGTERM or, with `once`, until the first client has left. Prints a line when it listens.

    Raises WireError and ServerError. An exception out of the card itself is logged, and the card goes on.
    """
    logging.basicConfig(level=log_level, format="softigb: %(levelname)s: %(message)s")
    loop = EventLoop()
    with contextlib.ExitStack() as stack:
        stack.callback(loop.close)
        stack.enter_context(_ended_by_signals(loop))
        nic = Nic(loop, card.mac)
        wire = open_wire(card.wire, loop, loop)
        # The socket comes before the capture: another card's may be recorded in that file.
        try:
            server = Server(card.socket, nic, loop, once=once)
        except BaseException:
            wire.close()
            raise
        stack.callback(server.close)
        try:
            if card.capture is not None:
                wire = _captured(wire, card, loop)
        finally:
            stack.callback(wire.close)
        nic.plug(wire)
        # What exists now stays to the end: the collector needn't look at it while packets wait.
        gc.collect()
        gc.freeze()
        gc.enable()
        print(f"softigb: an 82576, {card.mac.hex(':')}, on {card.wire}, listens on {card.socket}", flush=True)
        _run(loop)


def _run(loop: EventLoop) -> None:
    while True:
        try:
            loop.run()
        except Exception:
            _log.log(logging.ERROR, "the card failed at something, and goes on", exc_info=True)
        else:
            return


def _captured(wire: Wire, card: Card, loop: EventLoop) -> Wire:
    from igb_device.wire.capture import Capture
    from igb_device.wire.pcapng import PcapngWriter

    assert card.capture is not None
    epoch = time.time_ns() - loop.now()
    return Capture(wire, PcapngWriter(card.capture, loop, comment=f"wire {card.wire}", epoch=epoch), loop)


@contextlib.contextmanager
def _ended_by_signals(loop: EventLoop) -> Iterator[None]:
    """SIGINT and SIGTERM stop the loop; what they did before is theirs again afterwards."""
    before = [(number, signal.signal(number, lambda *_: loop.stop())) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
