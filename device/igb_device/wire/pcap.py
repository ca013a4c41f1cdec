"""Capture files as the far end: one is replayed to the card, another records what the card sends."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Generator, Iterator, Sequence

from igb_device.clock import Clock, Timer
from igb_device.drops import DropReason
from igb_device.wire.base import MAX_FRAME, Frame, WireError
from igb_device.wire.endpoint import Endpoint
from igb_device.wire.pcapng import LINKTYPE_ETHERNET, OUTBOUND, PcapngWriter
from igb_device.wire.pcapread import Packet, read_packets

logger = logging.getLogger(__name__)

NOT_YET = frozenset((DropReason.RX_DISABLED, DropReason.LINK_DOWN))
"""Verdicts on the first frame that mean the card isn't listening: the replay hasn't begun."""

RETRY = 100_000_000
"""ns until the first frame is offered again."""

_LONGEST = 3_600_000_000_000  # ns of one timer
_IDLE = 1_000_000  # ns until a card that took nothing is told again


def open_pcap(rest: str, clock: Clock, epoch: int = 0) -> PcapWire:
    """A PcapWire from `FILE` or `in=FILE,out=FILE,pace=real|fast`, any of which may be missing. `epoch` is the time
    in ns since 1970 at which the clock showed 0. Raises WireError."""
    settings: dict[str, str] = {}
    if not rest.startswith(("in=", "out=", "pace=")):
        settings["in"] = rest
    else:
        for item in rest.split(","):
            key, equals, value = item.partition("=")
            if key not in ("in", "out", "pace") or not equals or not value or key in settings:
                raise WireError(f"pcap: {item!r} isn't one of in=FILE, out=FILE, pace=real, pace=fast")
            settings[key] = value
    pace = settings.get("pace", "real")
    if pace not in ("real", "fast"):
        raise WireError(f"pcap: pace is real or fast, not {pace!r}")
    path = settings.get("in")
    source = None if path is None else packets_of(path)
    record = PcapngWriter(settings["out"], clock, epoch=epoch) if "out" in settings else None
    return PcapWire(source, record, clock, real_pace=pace == "real")


def packets_of(path: str) -> Iterator[Packet]:
    """The packets of a capture file, read as they're asked for; what can be said at once (no such file, not a
    capture, not of Ethernet) is raised here as WireError, damage further on where it is met."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise WireError(f"can't replay {path}: not a regular file")
        file = open(path, "rb")  # noqa: SIM115 (the generator closes it)
    except (OSError, ValueError) as error:
        raise WireError(f"can't replay {path}: {getattr(error, 'strerror', None) or error}") from None

    def packets() -> Generator[Packet, None, None]:
        with file:
            yield from read_packets(file, path)

    source = packets()
    first = next(source, None)
    if first is None:
        return source
    if first.link_type != LINKTYPE_ETHERNET:
        source.close()
        raise WireError(f"can't replay {path}: its link type is {first.link_type}, not Ethernet ({LINKTYPE_ETHERNET})")

    def with_first() -> Iterator[Packet]:
        yield first
        yield from source

    return with_first()


class PcapWire(Endpoint):
    """Replays `source` to the card, at the pace of the packets' times or as fast as it takes them, and records what
    it sends. The link is up.

    The replay begins with the first frame that the card doesn't drop for being off, so that a driver has time to
    start. Packets that were captured cut, that aren't Ethernet or are too long are left out and counted in `errors`.
    Damage in the file ends the replay with one line in the log. `finished` says that all has been replayed.
    """

    def __init__(
        self, source: Iterator[Packet] | None, record: PcapngWriter | None, clock: Clock, real_pace: bool = True
    ) -> None:
        super().__init__(link=True)
        self.wants_verdicts = source is not None
        self._source = source
        self._record = record
        self._clock = clock
        self._real_pace = real_pace
        self._begun = False
        self._offered = False  # the first frame is with the card
        self._offer_at = 0
        self._base = 0  # what to add to a packet's time for the clock's
        self._timer: Timer | None = None
        self._next: Packet | None = None
        self._advance()

    @property
    def finished(self) -> bool:
        return self._next is None

    def send(self, frames: Sequence[Frame]) -> int:
        if self._record is not None:
            now = self._clock.now()
            for frame in frames:
                self._record.add(now, b"".join(frame.parts), OUTBOUND, frame.queue)
        return len(frames)

    def receive(self, limit: int) -> Sequence[Frame]:
        if limit <= 0 or self._next is None:
            return ()
        now = self._clock.now()
        if not self._begun:
            if not self._offered:
                if now < self._offer_at:
                    return ()
                self._offered = True
                return (Frame((memoryview(self._next.data),)),)
            self._begin()  # a card that gives no verdict has taken it
        frames: list[Frame] = []
        while len(frames) < limit and self._next is not None and self._due() <= now:
            frames.append(Frame((memoryview(self._next.data),)))
            self._advance()
        return frames

    def settled(self, frame: Frame, queue: int, reason: DropReason | None) -> None:
        if not self._offered:
            return
        if reason in NOT_YET:
            self._offered = False
            self._offer_at = self._clock.now() + RETRY
        else:
            self._begin()

    def close(self) -> None:
        super().close()
        self._next = self._source = None
        if self._record is not None:
            self._record.close()

    def _begin(self) -> None:
        self._offered = False
        self._begun = True
        if self._next is not None:
            self._base = self._clock.now() - self._next.time
        self._advance()

    def _due(self) -> int:
        if not self._begun:
            return self._offer_at
        return self._next.time + self._base if self._real_pace and self._next is not None else 0

    def _advance(self) -> None:
        self._next = None
        try:
            while self._source is not None and (packet := next(self._source, None)) is not None:
                whole = len(packet.data) == packet.length
                if whole and packet.link_type == LINKTYPE_ETHERNET and 0 < packet.length <= MAX_FRAME:
                    self._next = packet
                    return
                self.errors += 1
        except WireError as error:
            self.errors += 1
            logger.error("the replay ends early: %s", error)
        self._source = None

    def _watch(self) -> None:
        if not self._wanted:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            self._schedule(0)

    def _schedule(self, not_before: int) -> None:
        if self._wanted and self._next is not None:
            now = self._clock.now()
            # Times in a file may be anything, timers are of 64 bits.
            when = min(max(self._due(), not_before, now), now + _LONGEST)
            self._timer = self._clock.call_at(when, self._tell)

    def _tell(self) -> None:
        self._timer = None
        if self._due() > self._clock.now():
            self._schedule(0)
            return
        before = self._next
        self._ready()
        if self._timer is None:
            taken = self._next is not before
            self._schedule(0 if taken else self._clock.now() + _IDLE)
