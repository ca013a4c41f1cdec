"""Reading captures: pcapng (draft-ietf-opsawg-pcapng) and classic pcap (draft-ietf-opsawg-pcap), either byte order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from igb_device.wire.base import WireError

MAX_BLOCK = 16 << 20
"""No block or packet is longer; a length that says so is damage."""

_SECTION_HEADER, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_IF_TSRESOL, _IF_TSOFFSET = 9, 14
_NS = 1_000_000_000


class Packet(NamedTuple):
    """A captured packet. `time` is in ns since 1970; `length` is its own length, `data` may be less."""

    time: int
    data: bytes
    length: int
    link_type: int


class _Interface(NamedTuple):
    link_type: int
    snaplen: int
    units: int  # ticks a second
    offset: int  # s


def read_packets(file: BinaryIO, name: str) -> Iterator[Packet]:
    """All packets in the order of the file. Raises WireError, with `name` and the place, where it is no capture or
    damaged."""
    source = _Source(file, name)
    magic = source.take(4, at_start=True)
    if magic == b"\x0a\x0d\x0d\x0a":
        yield from _read_pcapng(source)
        return
    for order in "<>":
        number = struct.unpack(order + "I", magic)[0]
        if number in (0xA1B2C3D4, 0xA1B23C4D):
            yield from _read_pcap(source, order, 1 if number == 0xA1B23C4D else 1000)
            return
    raise WireError(f"{name} is neither pcapng nor pcap")


class _Source:
    """The file, with its offset for messages."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._offset = 0

    def take(self, count: int, at_start: bool = False) -> bytes:
        """Exactly `count` bytes; with `at_start`, none at the end of the file."""
        try:
            data = self._file.read(count)
        except OSError as error:
            raise WireError(f"can't read {self._name}: {error.strerror}") from None
        if len(data) < count and not (at_start and not data):
            raise self.damaged("cut short")
        self._offset += count
        if not data and self._offset == count:
            raise WireError(f"{self._name} is empty")
        return data

    def damaged(self, what: str) -> WireError:
        return WireError(f"{self._name} is damaged at byte {self._offset}: {what}")


def _read_pcap(source: _Source, order: str, unit: int) -> Iterator[Packet]:
    link_type = struct.unpack(order + "HHiIII", source.take(20))[5] & 0xFFFF
    head = struct.Struct(order + "IIII")
    while raw := source.take(head.size, at_start=True):
        seconds, fraction, captured, length = head.unpack(raw)
        if captured > MAX_BLOCK:
            raise source.damaged(f"a packet of {captured} bytes")
        yield Packet(seconds * _NS + fraction * unit, source.take(captured), length, link_type)


def _read_pcapng(source: _Source) -> Iterator[Packet]:
    order = "<"
    interfaces: list[_Interface] = []
    raw_type = b"\x0a\x0d\x0d\x0a"
    while raw_type:
        raw_length = source.take(4)
        first = b""
        if raw_type == b"\x0a\x0d\x0d\x0a":  # reads the same in either order, and then tells which it is
            first = source.take(4)
            if first == b"\x1a\x2b\x3c\x4d":
                order = ">"
            elif first == b"\x4d\x3c\x2b\x1a":
                order = "<"
            else:
                raise source.damaged("no byte-order mark")
            interfaces = []
        kind = struct.unpack(order + "I", raw_type)[0]
        length = struct.unpack(order + "I", raw_length)[0]
        if length < 12 + len(first) or length % 4 or length > MAX_BLOCK:
            raise source.damaged(f"a block of {length} bytes")
        body = first + source.take(length - 12 - len(first))
        if source.take(4) != raw_length:
            raise source.damaged("a block's two lengths differ")
        try:
            if kind == _INTERFACE:
                interfaces.append(_interface(order, body))
            elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                yield _packet(order, kind, body, interfaces)
        except (struct.error, IndexError, ValueError):
            raise source.damaged("a block that doesn't fit its type") from None
        raw_type = source.take(4, at_start=True)


def _interface(order: str, body: bytes) -> _Interface:
    link_type, _, snaplen = struct.unpack_from(order + "HHI", body)
    units, offset = 1_000_000, 0
    at = 8
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + length]
        if code == 0:
            break
        if code == _IF_TSRESOL:
            units = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        elif code == _IF_TSOFFSET:
            (offset,) = struct.unpack(order + "q", value)
        at += 4 + (length + 3 & ~3)
    return _Interface(link_type, snaplen, units, offset)


def _packet(order: str, kind: int, body: bytes, interfaces: list[_Interface]) -> Packet:
    if kind == _SIMPLE_PACKET:
        (length,) = struct.unpack_from(order + "I", body)
        interface = interfaces[0]
        captured = min(length, interface.snaplen or length)
        data = body[4 : 4 + captured]
        time = 0
    else:
        head = order + ("IIIII" if kind == _PACKET else "HxxIIII")
        number, high, low, captured, length = struct.unpack_from(head, body)
        interface = interfaces[number]
        data = body[20 : 20 + captured]
        time = (high << 32 | low) * _NS // interface.units + interface.offset * _NS
    if len(data) != captured:
        raise ValueError("more data than the block has")
    return Packet(time, data, length, interface.link_type)
