"""What the card's cable is plugged into: the `Wire` protocol, and what travels on it.

Modelled on what a TAP's virtio_net_hdr says, because that is what carries segments of up to 64 KiB between kernels:
a frame comes with a note of the checksum still to be filled in and of the segment size it is to be cut into.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from igb_device.drops import DropReason

# Offload.flags (virtio_net_hdr.flags)
NEEDS_CSUM = 1  # the checksum at csum_start + csum_offset holds only the pseudo-header's sum: fill it in
DATA_VALID = 2  # the checksum is known to be good: no need to verify

# Offload.gso_type (virtio_net_hdr.gso_type)
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80  # or'ed: the TCP header has CWR set

MAX_FRAME = 65536 + 22  # a 64 KiB IP packet behind an Ethernet header with two VLAN tags


class Offload(NamedTuple):
    """The facts that travel with a frame; the fields of struct virtio_net_hdr, in its order."""

    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0  # bytes up to and with the L4 header (only with a gso_type)
    gso_size: int = 0  # payload bytes a segment
    csum_start: int = 0  # where summing begins, from the frame's start
    csum_offset: int = 0  # where the result goes, from csum_start


NO_OFFLOAD = Offload()


class Frame(NamedTuple):
    """A frame from its destination address on, without FCS, as one or more buffers in order.

    Received frames have one part, valid until the next `receive`. Frames to be sent may lie in live guest memory.
    `queue` is the card's transmit queue (0 for received frames, the queue isn't known yet).
    """

    parts: Sequence[memoryview | bytes | bytearray]
    offload: Offload = NO_OFFLOAD
    queue: int = 0

    @property
    def length(self) -> int:
        """Bytes in all parts together."""
        return sum(map(len, self.parts))


class Accepts(enum.Flag):
    """What the far end takes unfinished, so that the card needn't do it. One that takes nothing gets wire frames."""

    NONE = 0
    CSUM = enum.auto()
    TSO4 = enum.auto()
    TSO6 = enum.auto()
    USO = enum.auto()


class WireError(Exception):
    """A wire that can't be had: one line that says what is wrong and, where there is one, the way out."""


class Readers(Protocol):
    """Calls back when a file descriptor is readable or writable (level-triggered; an error or a hang-up counts as
    both). `pyvfio_user.loop.EventLoop` is one. At most one callback a descriptor and direction."""

    def add_reader(self, fd: int, call: Callable[[], None], /) -> None: ...

    def remove_reader(self, fd: int, /) -> None: ...

    def add_writer(self, fd: int, call: Callable[[], None], /) -> None: ...

    def remove_writer(self, fd: int, /) -> None: ...


class Wire(Protocol):
    """One end of a cable. The card is the only user; it calls from one thread and is called back in that thread."""

    accepts: Accepts
    """What `send` takes unfinished."""

    link: bool
    """Whether there's a live far end."""

    def connect(self, ready: Callable[[], None], link_changed: Callable[[bool], None]) -> None:
        """Plugs the card in: `ready` is called when `receive` has something, `link_changed` when `link` changed."""
        ...

    def send(self, frames: Sequence[Frame]) -> int:
        """Sends frames in order and returns how many were dealt with: sent, or lost on the wire's own account and
        counted in `errors`. Fewer than all means the far end takes no more for now. Never raises and never blocks;
        `ready` is called when it takes more."""
        ...

    def receive(self, limit: int) -> Sequence[Frame]:
        """Up to `limit` frames that have arrived, in order; empty if there is none. Buffers are valid until the next
        call. Never raises: a far end that is gone is link down."""
        ...

    def settled(self, frame: Frame, queue: int, reason: DropReason | None) -> None:
        """The card's verdict on a frame of the last `receive`: delivered to `queue`, or dropped for a reason. Called
        only if `wants_verdicts`."""
        ...

    wants_verdicts: bool

    errors: int
    """Frames lost at this end, by its own count."""

    def pause(self, paused: bool) -> None:
        """While paused, arriving frames wait at the far end (as after an 802.3x PAUSE) and `ready` isn't called."""
        ...

    def close(self) -> None: ...
