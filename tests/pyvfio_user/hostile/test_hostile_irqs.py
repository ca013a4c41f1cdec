"""DEVICE_SET_IRQS with every combination of flags, and ranges that overflow."""

from __future__ import annotations

import errno
import itertools
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from pyvfio_user import messages as m

SET = m.Command.DEVICE_SET_IRQS
NONE, BOOL, EVENTFD, MASK, UNMASK, TRIGGER = 1, 2, 4, 8, 0x10, 0x20
INTX, MSI, MSIX, ERR, REQ = range(5)


@pytest.fixture
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def payload(flags: int, index: int, start: int, count: int, data: bytes = b"", argsz: int = -1) -> bytes:
    return m.IRQ_SET.pack(20 + len(data) if argsz < 0 else argsz, flags, index, start, count) + data


def signals(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


@pytest.mark.parametrize("flags", range(64))
def test_exactly_one_kind_of_data_and_one_action(raw: Any, eventfd: int, flags: int) -> None:
    one_each = flags & 7 in (1, 2, 4) and flags & 0x38 in (8, 0x10, 0x20)
    data = b"\1" if flags & BOOL else b""
    fds = [eventfd] if flags & EVENTFD else []
    error = raw.errno(SET, payload(flags, INTX, 0, 1, data), fds)
    if one_each:
        assert error in (0, errno.EINVAL, errno.ENOTSUP)
        assert error == 0 or flags & EVENTFD, "all but watched eventfds are for INTx"
    else:
        assert error == errno.EINVAL


@pytest.mark.parametrize("flags", [0x40, 0x80, 0x80000000, 0xFFFFFFFF, 0x61])
def test_unknown_flags(raw: Any, flags: int) -> None:
    assert raw.errno(SET, payload(flags, MSIX, 0, 1)) == errno.EINVAL


@pytest.mark.parametrize("index", [5, 6, 2**31, 2**32 - 1])
@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 0)])
def test_indexes_that_dont_exist(raw: Any, index: int, start: int, count: int) -> None:
    assert raw.errno(SET, payload(NONE | TRIGGER, index, start, count)) == errno.EINVAL
    assert raw.still_served()


@pytest.mark.parametrize(
    ("start", "count"),
    [(10, 1), (0, 11), (9, 2), (2**32 - 1, 1), (1, 2**32 - 1), (2**32 - 1, 2**32 - 1), (0, 2**32 - 1), (2**31, 2**31)],
)
@pytest.mark.parametrize("flags", [NONE | TRIGGER, NONE | MASK, NONE | UNMASK, EVENTFD | TRIGGER, BOOL | TRIGGER])
def test_ranges_beyond_the_vectors(raw: Any, start: int, count: int, flags: int) -> None:
    data = bytes(min(count, 1000)) if flags & BOOL else b""
    assert raw.errno(SET, payload(flags, MSIX, start, count, data)) == errno.EINVAL
    assert raw.still_served()


@pytest.mark.parametrize("flags", [a | b for a, b in itertools.product((NONE, BOOL, EVENTFD), (MASK, UNMASK, TRIGGER))])
def test_no_vectors_at_all(raw: Any, flags: int) -> None:
    """Only NONE|TRIGGER with start 0 means something: disable."""
    for start in (1, 9, 10, 2**32 - 1):
        assert raw.errno(SET, payload(flags, MSIX, start, 0)) == errno.EINVAL


@pytest.mark.parametrize("length", [0, 1, 2, 4, 100])
def test_booleans_of_another_count(raw: Any, length: int) -> None:
    assert raw.errno(SET, payload(BOOL | TRIGGER, MSIX, 0, 3, b"\1" * length)) == errno.EINVAL


@pytest.mark.parametrize("flags", [NONE | TRIGGER, EVENTFD | TRIGGER])
def test_data_that_isnt_called_for(raw: Any, flags: int) -> None:
    assert raw.errno(SET, payload(flags, MSIX, 0, 1, b"\1")) == errno.EINVAL


@pytest.mark.parametrize("argsz", [0, 19, 21, 2**32 - 1])
def test_argsz_of_another_size(raw: Any, argsz: int) -> None:
    raw.errno(SET, payload(NONE | TRIGGER, MSIX, 0, 0, argsz=argsz))
    assert raw.still_served()


def test_eventfd_without_descriptors_takes_them_away(raw: Any, eventfd: int) -> None:
    assert raw.errno(SET, payload(EVENTFD | TRIGGER, MSIX, 2, 1), [eventfd]) == 0
    assert raw.errno(SET, payload(NONE | TRIGGER, MSIX, 2, 1)) == 0
    assert signals(eventfd) == 1, "a client may trigger its own vector"
    assert raw.errno(SET, payload(EVENTFD | TRIGGER, MSIX, 0, 10)) == 0
    assert raw.errno(SET, payload(NONE | TRIGGER, MSIX, 2, 1)) in (0, errno.EINVAL)
    assert signals(eventfd) == 0


def test_loopback_by_booleans(raw: Any, eventfd: int) -> None:
    assert raw.errno(SET, payload(EVENTFD | TRIGGER, MSIX, 1, 1), [eventfd]) == 0
    assert raw.errno(SET, payload(BOOL | TRIGGER, MSIX, 0, 3, b"\1\0\1")) in (0, errno.EINVAL)
    assert signals(eventfd) == 0
    assert raw.errno(SET, payload(BOOL | TRIGGER, MSIX, 1, 1, b"\1")) == 0
    assert signals(eventfd) == 1


@pytest.mark.parametrize("index", [ERR, REQ])
@pytest.mark.parametrize("action", [MASK, UNMASK])
def test_masking_what_cant_be_masked(raw: Any, index: int, action: int) -> None:
    assert raw.errno(SET, payload(NONE | action, index, 0, 1)) in (errno.EINVAL, errno.ENOTSUP)


def test_thousands_of_reassignments_leak_nothing(server: Any, raw: Any, eventfd: int) -> None:
    other = os.eventfd(0)
    assert raw.errno(SET, payload(EVENTFD | TRIGGER, MSIX, 0, 10), [eventfd] * 10) == 0
    before = server.fds()
    for i in range(2000):
        fds = [eventfd if i % 2 else other] * 10
        raw.command(SET, payload(EVENTFD | TRIGGER, MSIX, 0, 10), fds)
        assert raw.reply()[1] == 0
    for _ in range(500):
        assert raw.errno(SET, payload(EVENTFD | UNMASK, INTX, 0, 1), [other]) == 0
        assert raw.errno(SET, payload(EVENTFD | MASK, INTX, 0, 1), [other]) in (0, errno.EINVAL, errno.ENOTSUP)
    assert server.fds() <= before + 2
    os.close(other)


def test_an_interrupt_storm_of_the_clients(raw: Any, eventfd: int) -> None:
    """The level stays high and the client unmasks as fast as it can: served in between, no recursion."""
    assert raw.errno(SET, payload(EVENTFD | TRIGGER, INTX, 0, 1), [eventfd]) == 0
    assert raw.engine(6, number=1) == 0
    data = b"".join(raw.message(SET, payload(NONE | UNMASK, INTX, 0, 1)) for _ in range(5000))
    raw.send(data)
    for _ in range(5000):
        assert raw.reply()[1] == 0
    assert signals(eventfd) > 0


def test_the_same_eventfd_as_trigger_and_resample(server: Any, raw: Any, eventfd: int) -> None:
    """Each signal asks for the next: a loop that must not starve the socket."""
    assert raw.errno(SET, payload(EVENTFD | TRIGGER, INTX, 0, 1), [eventfd]) == 0
    assert raw.errno(SET, payload(EVENTFD | UNMASK, INTX, 0, 1), [eventfd]) == 0
    assert raw.engine(6, number=1) == 0
    for _ in range(50):
        assert raw.still_served()


def test_vectors_the_guest_hasnt_enabled(raw: Any, eventfd: int) -> None:
    assert raw.errno(SET, payload(EVENTFD | TRIGGER, MSIX, 0, 1), [eventfd]) == 0
    for vector in (0, 9, 10, 2**32 - 1):
        assert raw.engine(5, number=vector) == 0
    assert signals(eventfd) == 0, "MSI-X is off in configuration space"
    assert raw.still_served()


def test_info_of_each_index(raw: Any) -> None:
    counts = []
    for index in range(5):
        error, reply = raw.ask(m.Command.DEVICE_GET_IRQ_INFO, m.IRQ_INFO.pack(16, 0, index, 0))
        assert error == 0
        counts.append(struct.unpack("<IIII", reply)[3])
    assert counts == [1, 4, 10, 1, 1]
