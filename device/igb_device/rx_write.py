"""Writing a received frame to a ring: buffers, header split, write-back (82576 datasheet sections 7.1.5 and 7.1.10)."""

from __future__ import annotations

from igb_hw.rx import DescriptorType
from pyvfio_user.device import Host

from igb_device.ring import RxFrame, RxRing

# write-back bits (section 7.1.5.2); those of the legacy format are in the same places but for the errors
DD = 1 << 0
EOP = 1 << 1
_SPH = 1 << 15
_HDR_LEN_SHIFT = 5
_LEGACY = int(DescriptorType.LEGACY)
_SPLIT = int(DescriptorType.HDR_SPLIT)
_SPLIT_ALWAYS = int(DescriptorType.HDR_SPLIT_ALWAYS)


def write_frame(ring: RxRing, host: Host, frame: RxFrame, free: int) -> int:
    """Writes one frame: the number of descriptors used, 0 if `free` aren't enough."""
    kind = ring.type
    length = frame.length
    size = ring.buffer_size
    if kind in (_SPLIT, _SPLIT_ALWAYS):
        return _write_split(ring, host, frame, free)
    need = 1 if length <= size else -(-length // size)
    if need > free:
        return 0
    head = ring.head
    if need == 1:
        ring.copy(host, ring.buffer(host, head), frame.pieces, length)
        _write_back(ring, host, head, frame, length, EOP, frame.low)
        ring.head = head + 1 if head + 1 < ring.count else 0
        return 1
    whole = memoryview(b"".join(frame.pieces))
    for i in range(need):
        chunk = whole[i * size : (i + 1) * size]
        ring.copy(host, ring.buffer(host, head), (chunk,), len(chunk))
        _write_back(ring, host, head, frame, len(chunk), EOP if i == need - 1 else 0, frame.low)
        head = head + 1 if head + 1 < ring.count else 0
        ring.head = head
    return need


def _write_split(ring: RxRing, host: Host, frame: RxFrame, free: int) -> int:
    """Section 7.1.10: the protocol headers go to the header buffer, if they fit, the rest to packet buffers."""
    whole = memoryview(b"".join(frame.pieces))
    length = frame.length
    size = ring.buffer_size
    room = ring.header_size
    split = frame.header if 0 < frame.header <= room else 0
    if ring.type == _SPLIT_ALWAYS and not split:
        split = min(length, room)  # no headers to tell apart: the buffer is filled all the same
    sph = _SPH if frame.header and split == frame.header else 0
    rest = length - split
    need = max(1, -(-rest // size))
    if need > free:
        return 0
    head = ring.head
    for i in range(need):
        chunk = whole[split + i * size : split + (i + 1) * size]
        packet, header = ring.buffers(host, head)
        low = frame.low
        if i == 0 and split:
            ring.copy(host, header, (whole[:split],), split)
            low |= (sph | split << _HDR_LEN_SHIFT) << 16
        if len(chunk):
            ring.copy(host, packet, (chunk,), len(chunk))
        _write_back(ring, host, head, frame, len(chunk), EOP if i == need - 1 else 0, low)
        head = head + 1 if head + 1 < ring.count else 0
        ring.head = head
    return need


def _write_back(ring: RxRing, host: Host, index: int, frame: RxFrame, length: int, eop: int, low: int) -> None:
    status = frame.status | DD | eop
    if ring.type == _LEGACY:
        # length, packet checksum, status, errors, VLAN tag in the second half; the first keeps the address
        errors = (frame.status >> 29 & 1) << 5 | (frame.status >> 30 & 1) << 6
        checksum = frame.checksum if eop else 0
        high = length | checksum << 16 | (status & 0xFF) << 32 | errors << 40 | frame.vlan << 48
        ring.store_high(host, index, high)
    else:
        ring.store(host, index, low, status | length << 32 | frame.vlan << 48)
