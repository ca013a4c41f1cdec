"""Receive-side scaling: which queue a frame goes to (82576 datasheet 7.1.1.7; registers MRQC, RETA, RSSRK).

Left out: VMDq's choice of a pool, for which `Steering.queue` gives the RSS index within it.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from igb_device.checksum import Buffer
from igb_device.parse import (
    PTYPE_IPV6_EXTENSIONS,
    RSS_IPV4,
    RSS_IPV6,
    RSS_TCP4,
    RSS_TCP6,
    RSS_UDP4,
    RSS_UDP6,
    Parsed,
    mobile_addresses,
)
from igb_hw.descriptors import RssType
from igb_hw.filters import MRQC
from igb_hw.rx import RFCTL

_RSS_ENABLED = (2, 5)  # MRQC[2:0]: RSS, and RSS within VMDq pools
_CACHE_LIMIT = 4096  # flows whose hash is remembered

# For each Parsed.rss_kind, what may be hashed, best first: (enable, type, with ports, with the mobile addresses).
_CHOICES = {
    RSS_TCP4: (
        (MRQC["RSS_FIELD_IPV4_TCP"], RssType.TCP_IPV4, True, False),
        (MRQC["RSS_FIELD_IPV4"], RssType.IPV4, False, False),
    ),
    RSS_UDP4: (
        (MRQC["RSS_FIELD_IPV4_UDP"], RssType.UDP_IPV4, True, False),
        (MRQC["RSS_FIELD_IPV4"], RssType.IPV4, False, False),
    ),
    RSS_IPV4: ((MRQC["RSS_FIELD_IPV4"], RssType.IPV4, False, False),),
}
_L4_CHOICES = {
    RSS_TCP6: (
        (MRQC["RSS_FIELD_IPV6_TCP"], RssType.TCP_IPV6, True, False),
        (MRQC["RSS_FIELD_IPV6_TCP_EX"], RssType.TCP_IPV6_EX, True, True),
    ),
    RSS_UDP6: (
        (MRQC["RSS_FIELD_IPV6_UDP"], RssType.UDP_IPV6, True, False),
        (MRQC["RSS_FIELD_IPV6_UDP_EX"], RssType.UDP_IPV6_EX, True, True),
    ),
    RSS_IPV6: (),
}
_L3_CHOICES = (
    (MRQC["RSS_FIELD_IPV6"], RssType.IPV6, False, False),
    (MRQC["RSS_FIELD_IPV6_EX"], RssType.IPV6_EX, False, True),
)

_Choice = tuple[int, bool, bool]
_UNHASHED: _Choice = (int(RssType.NONE), False, False)


def toeplitz(key: bytes, data: bytes) -> int:
    """The Toeplitz hash of `data`, whose bits each select the 32 bits of `key` that begin at the same place.

    Raises:
        ValueError: the key is shorter than the data and four bytes more.
    """
    if len(key) < len(data) + 4:
        raise ValueError("the key is too short")
    bits = int.from_bytes(key, "big")
    width = 8 * len(key)
    result = 0
    for place in range(8 * len(data)):
        if data[place >> 3] & 0x80 >> (place & 7):
            result ^= bits >> (width - 32 - place) & 0xFFFFFFFF
    return result


@functools.lru_cache(maxsize=8)
def _tables(key: bytes) -> npt.NDArray[np.uint32]:
    """[place, byte]: what that byte at that place adds to the hash."""
    places = len(key) - 4
    bits = int.from_bytes(key, "big")
    width = 8 * len(key)
    windows = np.array(
        [[bits >> (width - 32 - 8 * place - bit) & 0xFFFFFFFF for bit in range(8)] for place in range(places)],
        np.uint32,
    )
    octet = np.arange(256)
    table = np.zeros((places, 256), np.uint32)
    for bit in range(8):
        table ^= np.where(octet & 0x80 >> bit, windows[:, bit, None], np.uint32(0))
    return table


def toeplitz_batch(key: bytes, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """The hashes of the rows of `data`, all of one length (12 or 36 bytes with ports, 8 or 32 without).

    Raises:
        ValueError: the key is shorter than a row and four bytes more.
    """
    length = data.shape[1]
    if len(key) < length + 4:
        raise ValueError("the key is too short")
    hashes: npt.NDArray[np.uint32] = np.bitwise_xor.reduce(_tables(key)[np.arange(length), data], axis=1)
    return hashes


class Steering:
    """RSS as MRQC, RETA, RSSRK and RFCTL set it up. It starts as after reset: everything goes to queue 0."""

    def __init__(self) -> None:
        self._tables: list[list[int]] = []
        self._hashes: dict[bytes, int] = {}
        self.update(0, bytes(128), bytes(40))

    def update(self, mrqc: int, reta: bytes, key: bytes, rfctl: int = 0) -> None:
        """Takes over register values: RETA's 128 entries and RSSRK's 40 bytes, both as they lie in the registers.

        Raises:
            ValueError: RETA or the key has another length.
        """
        if len(reta) != 128 or len(key) != 40:
            raise ValueError("RETA has 128 entries and RSSRK 40 bytes")
        self._enabled = mrqc & 7 in _RSS_ENABLED
        self._default = mrqc >> 3 & 7 if mrqc & 7 in (0, 2) else 0
        self._queues = bytes(entry & 15 for entry in reta)
        self._mobile = not rfctl & RFCTL["NEW_IPV6_EXT_DIS"]
        self._hashes.clear()
        self._tables = _tables(bytes(key)).tolist() if self._enabled else []
        self._plain: list[_Choice] = [_UNHASHED] * 7
        self._extended = self._plain.copy()
        if not self._enabled:
            return
        for kind, choices in _CHOICES.items():
            self._plain[kind] = _choose(mrqc, choices)
        for kind, l4_choices in _L4_CHOICES.items():
            self._plain[kind] = _choose(mrqc, l4_choices + _L3_CHOICES)
            if rfctl & RFCTL["IPV6_EX_DIS"]:
                self._extended[kind] = _choose(mrqc, _L3_CHOICES[:1])
            elif rfctl & RFCTL["NEW_IPV6_EXT_DIS"]:
                self._extended[kind] = self._plain[kind]
            else:
                self._extended[kind] = _choose(mrqc, l4_choices[::-1] + _L3_CHOICES[::-1])

    def queue(self, p: Parsed, frame: Buffer) -> tuple[int, int, int]:
        """`(queue, hash, RSS type)` of a frame; one that isn't hashed has hash and type 0 and goes to MRQC's default
        queue."""
        if p.ptype & PTYPE_IPV6_EXTENSIONS:
            kind, ports, mobile = self._extended[p.rss_kind]
        else:
            kind, ports, mobile = self._plain[p.rss_kind]
            mobile = False
        if not kind:
            return self._default, 0, 0
        flow = p.rss_l4 if ports else p.rss4
        if mobile and self._mobile:
            addresses = mobile_addresses(frame, p)
            if addresses:
                flow = addresses + flow[32:]
        value = self._hashes.get(flow)
        if value is None:
            value = self._hash(flow)
        return self._queues[value & 127], value, kind

    def _hash(self, flow: bytes) -> int:
        value = 0
        for table, octet in zip(self._tables, flow, strict=False):
            value ^= table[octet]
        if len(self._hashes) >= _CACHE_LIMIT:
            # A flood of new flows would otherwise grow it without end; starting over costs one hash a live flow.
            self._hashes.clear()
        self._hashes[flow] = value
        return value


def _choose(mrqc: int, choices: tuple[tuple[int, int, bool, bool], ...]) -> _Choice:
    for enable, kind, ports, mobile in choices:
        if mrqc & enable:
            return int(kind), ports, mobile
    return _UNHASHED
