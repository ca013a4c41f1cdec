"""Writing captures: pcapng (draft-ietf-opsawg-pcapng), with the queue, the direction and the reason of a drop for
each packet.

Blocks are declared with construct; packets are written by `struct`, from the same declaration.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable
from typing import Any

from construct import (
    Aligned,
    Bytes,
    Const,
    Container,
    Int16ul,
    Int32ul,
    Int64sl,
    Rebuild,
    RepeatUntil,
    Struct,
    len_,
    this,
)

from igb_device.clock import Clock, Timer
from igb_device.wire.base import WireError

logger = logging.getLogger(__name__)

SECTION_HEADER_BLOCK = 0x0A0D0D0A
INTERFACE_BLOCK = 1
ENHANCED_PACKET_BLOCK = 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
LINKTYPE_ETHERNET = 1

# Option codes
END_OF_OPTIONS = 0
COMMENT = 1
SHB_HARDWARE = 2
SHB_OS = 3
SHB_USERAPPL = 4
IF_NAME = 2
IF_TSRESOL = 9
EPB_FLAGS = 2
EPB_QUEUE = 6

# EPB_FLAGS
INBOUND = 1
OUTBOUND = 2

OPTION = Struct(
    "code" / Int16ul,
    "length" / Rebuild(Int16ul, len_(this.value)),
    "value" / Aligned(4, Bytes(this.length)),
)
OPTIONS = RepeatUntil(lambda option, _list, _context: option.code == END_OF_OPTIONS, OPTION)

SECTION_HEADER = Struct(
    "magic" / Const(BYTE_ORDER_MAGIC, Int32ul),
    "major" / Const(1, Int16ul),
    "minor" / Const(0, Int16ul),
    "section_length" / Int64sl,  # -1: not said
    "options" / OPTIONS,
)
INTERFACE = Struct(
    "link_type" / Int16ul,
    "reserved" / Const(0, Int16ul),
    "snaplen" / Int32ul,  # 0: no limit
    "options" / OPTIONS,
)
_PACKET_FIELDS = (
    "interface" / Int32ul,
    "time_high" / Int32ul,
    "time_low" / Int32ul,
    "captured" / Int32ul,
    "original" / Int32ul,
)
PACKET = Struct(*_PACKET_FIELDS, "data" / Aligned(4, Bytes(this.captured)), "options" / OPTIONS)
BLOCK = Struct("type" / Int32ul, "length" / Int32ul, "body" / Bytes(this.length - 12), "length_again" / Int32ul)

# A packet's block up to its data: type and length of the block, then the fixed fields
_PACKET_HEAD = struct.Struct("<II" + "I" * len(_PACKET_FIELDS))
_TAIL = struct.Struct("<I")

_FLUSH_AT = 64 * 1024
FLUSH_AFTER = 500_000_000
"""ns that a packet stays in memory at most."""

_OPTIONS_KEPT = 256


def build_options(options: Iterable[tuple[int, bytes]]) -> bytes:
    """Options, empty ones left out, with the end mark behind them."""
    return bytes(OPTIONS.build(_listed(options)))


def _listed(options: Iterable[tuple[int, bytes]]) -> list[dict[str, Any] | None]:
    listed: list[dict[str, Any] | None] = [Container(code=code, value=value) for code, value in options if value]
    return [*listed, Container(code=END_OF_OPTIONS, value=b"")]


def build_block(kind: int, body: bytes) -> bytes:
    """A block of a type with its length before and after it. `body` is a multiple of 4 bytes."""
    length = len(body) + 12
    return bytes(BLOCK.build({"type": kind, "length": length, "body": body, "length_again": length}))


class PcapngWriter:
    """Writes one interface's packets to a new file at `path`. Raises WireError if it can't be made.

    Whole blocks are written, after 64 KiB, after FLUSH_AFTER and at `flush` and `close`: a process that is killed
    leaves a readable file. If the disk is full the file ends with the last whole block, one line is logged, and
    `add` does nothing from then on. `epoch` is the time in ns since 1970 at which the clock showed 0, `snaplen` the
    bytes kept of a packet (0: all).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        clock: Clock,
        interface: str = "igb0",
        *,
        snaplen: int = 0,
        application: str = "softigb",
        system: str = "",
        hardware: str = "",
        comment: str = "",
        epoch: int = 0,
    ) -> None:
        self.path = os.fspath(path)
        self.snaplen = snaplen
        self.packets = 0
        self._clock = clock
        self._epoch = epoch
        self._timer: Timer | None = None
        self._pending = bytearray()
        self._whole = 0  # bytes in the file
        self._tails: dict[tuple[int, int, str], bytes] = {}
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise WireError(f"can't write the capture {self.path}: {reason}") from None
        texts = ((COMMENT, comment), (SHB_HARDWARE, hardware), (SHB_OS, system), (SHB_USERAPPL, application))
        section = SECTION_HEADER.build(
            {"section_length": -1, "options": _listed((code, text.encode()) for code, text in texts)}
        )
        names = _listed([(IF_NAME, interface.encode()), (IF_TSRESOL, b"\x09")])
        described = INTERFACE.build({"link_type": LINKTYPE_ETHERNET, "snaplen": snaplen, "options": names})
        self._pending += build_block(SECTION_HEADER_BLOCK, section) + build_block(INTERFACE_BLOCK, described)
        self.flush()

    @property
    def working(self) -> bool:
        """False once the file has been closed or couldn't be written."""
        return self._fd >= 0

    def add(self, time: int, data: bytes | bytearray, direction: int, queue: int, comment: str = "") -> None:
        """Appends a packet: `time` in ns of the clock, INBOUND or OUTBOUND, the card's queue (-1: none)."""
        if self._fd < 0:
            return
        time += self._epoch
        original = len(data)
        if self.snaplen and original > self.snaplen:
            data = data[: self.snaplen]
        captured = len(data)
        tail = self._tails.get((direction, queue, comment)) or self._tail(direction, queue, comment)
        padding = -captured & 3
        length = _PACKET_HEAD.size + captured + padding + len(tail) + 4
        pending = self._pending
        if not pending:
            self._timer = self._clock.call_at(self._clock.now() + FLUSH_AFTER, self.flush)
        pending += _PACKET_HEAD.pack(
            ENHANCED_PACKET_BLOCK, length, 0, time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF, captured, original
        )
        pending += data
        pending += b"\0\0\0"[:padding]
        pending += tail
        pending += _TAIL.pack(length)
        self.packets += 1
        if len(pending) >= _FLUSH_AT:
            self.flush()

    def _tail(self, direction: int, queue: int, comment: str) -> bytes:
        options = [(EPB_FLAGS, direction.to_bytes(4, "little"))]
        if queue >= 0:
            options.append((EPB_QUEUE, queue.to_bytes(4, "little")))
        tail = build_options([*options, (COMMENT, comment.encode())])
        if len(self._tails) < _OPTIONS_KEPT:
            self._tails[direction, queue, comment] = tail
        return tail

    def flush(self) -> None:
        """Writes what is in memory."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fd < 0 or not self._pending:
            return
        blocks = bytes(self._pending)
        self._pending.clear()
        done = 0
        try:
            while done < len(blocks):
                done += os.write(self._fd, memoryview(blocks)[done:])
        except OSError as error:
            logger.error("the capture %s ends here: %s", self.path, error.strerror)
            self._cut(self._whole + whole_blocks(blocks, done))
            self._close()
        else:
            self._whole += done

    def _cut(self, length: int) -> None:
        try:
            os.ftruncate(self._fd, length)
        except OSError:
            pass  # not a file: a pipe or a device

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        self.flush()
        self._close()


def whole_blocks(blocks: bytes, limit: int) -> int:
    """Length of those blocks at the start of `blocks` that end at or before `limit`."""
    end = 0
    while end + 8 <= limit:
        (length,) = _TAIL.unpack_from(blocks, end + 4)
        if end + length > limit:
            break
        end += length
    return end
