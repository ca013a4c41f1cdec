"""Dirty page logs: DEVICE_FEATURE's DMA_LOGGING_START, _STOP and _REPORT (linux/vfio.h), and DMA_UNMAP's bitmap.

The log itself always counts in pages of 4096 bytes, kept as sparse chunks of numpy booleans; a report turns them into
bits of the page size asked for, bit 0 of byte 0 being the page of the first address. A report clears what it has
reported. Sizes are in bytes.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAGE: Final = 4096
_CHUNK: Final = 1 << 15  # pages
MAX_BITMAP: Final = 8 << 20


class DirtyLog:
    """What has been written since logging began."""

    def __init__(self, page_size: int, ranges: Sequence[tuple[int, int]] = ()) -> None:
        """Logs `ranges` (address, length), or everything where there are none. Raises OSError with EINVAL."""
        _check_page_size(page_size)
        if any(length == 0 or iova + length > 1 << 64 for iova, length in ranges):
            raise OSError(errno.EINVAL, "a range of the dirty log is empty or wraps")
        self._ranges = tuple(ranges)
        self._chunks: dict[int, NDArray[np.bool_]] = {}

    def mark(self, addr: int, length: int) -> None:
        """Notes a write of `length` bytes, at least one."""
        if self._ranges and not any(addr < start + size and start < addr + length for start, size in self._ranges):
            return
        page = addr // PAGE
        end = (addr + length - 1) // PAGE + 1
        while page < end:
            number, start = divmod(page, _CHUNK)
            chunk = self._chunks.get(number)
            if chunk is None:
                chunk = self._chunks[number] = np.zeros(_CHUNK, np.bool_)
            stop = min(end - number * _CHUNK, _CHUNK)
            chunk[start:stop] = True
            page = number * _CHUNK + stop

    def report(self, iova: int, length: int, page_size: int) -> bytes:
        """The bitmap of [iova, iova + length) in pages of `page_size`, in whole 64-bit words.

        They are clean now, but for pages of 4096 bytes that smaller ones were reported of only in part. Raises OSError
        with EINVAL (page size, range) or E2BIG (the bitmap).
        """
        size = bitmap_size(length, page_size)
        if iova + length > 1 << 64 or iova % page_size:
            raise OSError(errno.EINVAL, "the range of the dirty report wraps or isn't aligned to its page size")
        bits = np.zeros(size * 8, np.uint8)
        count = -(-length // page_size)
        first = iova // PAGE
        end = (iova + length - 1) // PAGE + 1
        whole, whole_end = first, end  # what is clean now: a page that is only seen in part stays dirty
        if page_size < PAGE:
            whole, whole_end = -(-iova // PAGE), (iova + length) // PAGE
        for number, chunk in self._chunks.items():
            base = number * _CHUNK
            start, stop = max(first - base, 0), min(end - base, _CHUNK)
            if start >= stop:
                continue
            pages = np.flatnonzero(chunk[start:stop]) + (base + start - first)
            chunk[max(whole - base, start) : min(whole_end - base, stop)] = False
            if page_size >= PAGE:
                bits[pages // (page_size // PAGE)] = 1
            else:
                each = PAGE // page_size
                indexes = (pages[:, None] * each + np.arange(each)).ravel() - (iova % PAGE) // page_size
                bits[indexes[(indexes >= 0) & (indexes < count)]] = 1
        return np.packbits(bits, bitorder="little").tobytes()


def bitmap_size(length: int, page_size: int) -> int:
    """Bytes of a bitmap for `length` bytes: whole 64-bit words. Raises OSError with EINVAL or E2BIG."""
    _check_page_size(page_size)
    if length == 0:
        raise OSError(errno.EINVAL, "a dirty report of nothing")
    pages = -(-length // page_size)
    size = -(-pages // 64) * 8
    if size > MAX_BITMAP:
        raise OSError(errno.E2BIG, f"a dirty bitmap of {size} bytes")
    return size


def _check_page_size(page_size: int) -> None:
    if page_size <= 0 or page_size & (page_size - 1):
        raise OSError(errno.EINVAL, f"page size {page_size}")
