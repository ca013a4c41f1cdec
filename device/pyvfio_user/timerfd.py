"""timerfd(2): a descriptor that becomes readable at a moment of CLOCK_MONOTONIC, to the nanosecond.

epoll's own timeout counts whole milliseconds, too coarse for a card that moderates interrupts in microseconds. Python
has timerfds from 3.13; before that they are called in the C library.
"""

from __future__ import annotations

import os
import sys
import time

if sys.version_info >= (3, 13):

    def create() -> int:
        """A new timer, unarmed: non-blocking, closed on exec. Raises OSError."""
        return os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def arm(fd: int, when: int) -> None:
        """Lets the timer expire once, at `when` (ns, as time.monotonic_ns counts; at least 1)."""
        os.timerfd_settime_ns(fd, flags=os.TFD_TIMER_ABSTIME, initial=when)

else:
    import ctypes
    import struct

    _libc = ctypes.CDLL(None, use_errno=True)
    _settime = _libc.timerfd_settime
    _settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    _itimerspec = struct.Struct("=qqqq")  # interval, then value, each in seconds and ns
    _TFD_TIMER_ABSTIME = 1
    _TFD_NONBLOCK = os.O_NONBLOCK
    _TFD_CLOEXEC = os.O_CLOEXEC

    def create() -> int:
        """A new timer, unarmed: non-blocking, closed on exec. Raises OSError."""
        fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return fd

    def arm(fd: int, when: int) -> None:
        """Lets the timer expire once, at `when` (ns, as time.monotonic_ns counts; at least 1)."""
        if _settime(fd, _TFD_TIMER_ABSTIME, _itimerspec.pack(0, 0, when // 1_000_000_000, when % 1_000_000_000), None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
