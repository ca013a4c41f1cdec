"""Writing a received frame to a ring: buffers, header split, write-back (82576 datasheet sections 7.1.5 and 7.1.10)."""

from __future__ import annotations

from igb_device.ring import RxFrame, RxRing
from igb_hw.descriptors import RXDADV_ERR_HBO
from igb_hw.rx import DescriptorType
from pyvfio_user.device import Host

# write-back bits (section 7.1.5.2); those of the legacy format are in the same places but for the errors
DD = 1 << 0
EOP = 1 << 1
_SPH = 1 << 15
_HDR_LEN_SHIFT = 5
_HDR_LEN_TOP = 0x3FF
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
    """Section 7.1.10: the protocol headers go to the header buffer, if they fit, the rest to packet buffers.

    Split-always uses the header buffer for every frame: whole, if the frame fits; else for the headers; else for as
    much of the frame as goes in. HDR_LEN is what lies in the buffer, but of headers that are too long it is theirs.
    """
    whole = memoryview(b"".join(frame.pieces))
    length = frame.length
    size = ring.buffer_size
    room = ring.header_size
    always = ring.type == _SPLIT_ALWAYS
    found = frame.header
    overflow = 0
    if always and length <= room:
        split = told = length
        found = 0
    elif 0 < found <= room:
        split = told = found
    else:
        split = room if always else 0
        told = found or split
        overflow = RXDADV_ERR_HBO if found else 0
    info = (_SPH if found else 0) | min(told, _HDR_LEN_TOP) << _HDR_LEN_SHIFT
    rest = length - split
    need = max(1, -(-rest // size))
    if need > free:
        return 0
    head = ring.head
    for i in range(need):
        chunk = whole[split + i * size : split + (i + 1) * size]
        packet, header = ring.buffers(host, head)
        low = frame.low
        bits = EOP if i == need - 1 else 0
        if i == 0:
            if split:
                ring.copy(host, header, (whole[:split],), split)
            low |= info << 16
            bits |= overflow
        if len(chunk):
            ring.copy(host, packet, (chunk,), len(chunk))
        _write_back(ring, host, head, frame, len(chunk), bits, low)
        head = head + 1 if head + 1 < ring.count else 0
        ring.head = head
    return need


def _write_back(ring: RxRing, host: Host, index: int, frame: RxFrame, length: int, bits: int, low: int) -> None:
    status = frame.status | DD | bits
    if ring.type == _LEGACY:
        # length, packet checksum, status, errors, VLAN tag in the second half; the first keeps the address
        errors = (frame.status >> 29 & 1) << 5 | (frame.status >> 30 & 1) << 6
        checksum = frame.checksum if bits & EOP else 0
        high = length | checksum << 16 | (status & 0xFF) << 32 | errors << 40 | frame.vlan << 48
        ring.store_high(host, index, high)
    else:
        ring.store(host, index, low, status | length << 32 | frame.vlan << 48)
