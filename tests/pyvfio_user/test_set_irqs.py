"""DEVICE_SET_IRQS: every kind of data with every action, and interrupts as the device causes them."""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from pyvfio_user import IrqMode

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench, RawClient

Eventfds = Callable[[int], list[int]]
Signalled = Callable[[int], int]

NONE, BOOL, EVENTFD = 1, 2, 4
MASK, UNMASK, TRIGGER = 8, 0x10, 0x20
INTX, MSI, MSIX, ERR, REQ = range(5)


def refused(
    client: RawClient, index: int, flags: int, start: int, count: int, data: bytes = b"", fds: Sequence[int] = ()
) -> int:
    return client.fails(8, struct.pack("<5I", 20 + len(data), flags, index, start, count) + data, fds)


@pytest.fixture
def ready(bench: Bench) -> RawClient:
    client = bench.client()
    client.bus_master()
    return client


@pytest.mark.parametrize(("index", "mode"), [(MSI, IrqMode.MSI), (MSIX, IrqMode.MSIX)])
def test_message_signalled(bench: Bench, index: int, mode: IrqMode, eventfds: Eventfds, signalled: Signalled) -> None:
    bench.device.irq_mode = mode
    client = bench.client()
    client.bus_master()
    fds = eventfds(3)
    client.set_irqs(index, EVENTFD | TRIGGER, 1, 3, fds=fds)
    bench.host.interrupt(2)
    assert [signalled(fd) for fd in fds] == [0, 1, 0]
    bench.host.interrupt(3)
    bench.host.interrupt(3)
    assert [signalled(fd) for fd in fds] == [0, 0, 2]
    bench.host.interrupt(100)


def test_the_modes_have_vectors_of_their_own(
    bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled
) -> None:
    msi, msix, intx = eventfds(3)
    for index, fd in ((MSI, msi), (MSIX, msix), (INTX, intx)):
        ready.set_irqs(index, EVENTFD | TRIGGER, 0, 1, fds=[fd])
    bench.host.interrupt(0)
    assert [signalled(fd) for fd in (msi, msix, intx)] == [0, 1, 0]
    bench.device.irq_mode = IrqMode.INTX
    ready.bus_master()
    bench.host.interrupt(0)
    assert [signalled(fd) for fd in (msi, msix, intx)] == [0, 0, 0]


def test_a_vector_without_eventfd_pends(
    bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled
) -> None:
    (fd,) = eventfds(1)
    ready.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 1)
    bench.host.interrupt(5)
    bench.host.interrupt(5)
    bench.host.interrupt(0)
    assert bench.host.pending_bits() == 0b100001
    ready.set_irqs(MSIX, EVENTFD | TRIGGER, 5, 1, fds=[fd])
    assert signalled(fd) == 1
    assert bench.host.pending_bits() == 0b000001
    ready.set_irqs(MSIX, NONE | TRIGGER, 0, 0)
    assert bench.host.pending_bits() == 0


def test_a_replaced_eventfd_gets_the_next_ones(
    bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled
) -> None:
    first, second = eventfds(2)
    ready.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 1, fds=[first])
    ready.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 1, fds=[second])
    bench.host.interrupt(0)
    assert (signalled(first), signalled(second)) == (0, 1)
    ready.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 1)
    bench.host.interrupt(0)
    assert (signalled(first), signalled(second)) == (0, 0)


@pytest.mark.parametrize("kind", [NONE, BOOL])
def test_masking_a_vector(bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled, kind: int) -> None:
    first, second = eventfds(2)
    data = b"\x01\x00" if kind == BOOL else b""
    count = 2 if kind == BOOL else 1
    ready.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 2, fds=[first, second])
    ready.set_irqs(MSIX, kind | MASK, 0, count, data)
    bench.host.interrupt(0)
    bench.host.interrupt(1)
    assert (signalled(first), signalled(second)) == (0, 1)
    assert bench.host.pending_bits() == 1
    ready.set_irqs(MSIX, kind | UNMASK, 0, count, data)
    assert (signalled(first), signalled(second)) == (1, 0)


def test_no_messages_without_bus_mastering(bench: Bench, eventfds: Eventfds, signalled: Signalled) -> None:
    client = bench.client()
    (fd,) = eventfds(1)
    client.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 1, fds=[fd])
    bench.host.interrupt(0)
    assert signalled(fd) == 0
    assert bench.host.pending_bits() == 1
    client.bus_master()
    assert signalled(fd) == 1


@pytest.mark.parametrize("index", [INTX, MSI, MSIX, ERR, REQ])
def test_loopback(ready: RawClient, eventfds: Eventfds, signalled: Signalled, index: int) -> None:
    (fd,) = eventfds(1)
    ready.set_irqs(index, EVENTFD | TRIGGER, 0, 1, fds=[fd])
    ready.set_irqs(index, NONE | TRIGGER, 0, 1)
    ready.set_irqs(index, BOOL | TRIGGER, 0, 1, b"\x01")
    ready.set_irqs(index, BOOL | TRIGGER, 0, 1, b"\x00")
    assert signalled(fd) == 2
    ready.set_irqs(index, NONE | TRIGGER, 0, 0)
    ready.set_irqs(index, NONE | TRIGGER, 0, 1)
    assert signalled(fd) == 0


def test_errors_and_requests_are_the_servers_to_signal(
    bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled
) -> None:
    (fd,) = eventfds(1)
    ready.set_irqs(ERR, EVENTFD | TRIGGER, 0, 1, fds=[fd])
    assert bench.server is not None
    assert bench.server.irqs is not None
    bench.server.irqs.fire(ERR, 0)
    assert signalled(fd) == 1


# --- INTx ---


def test_a_level_signals_once_and_again_after_unmask(
    bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled
) -> None:
    (fd,) = eventfds(1)
    ready.set_irqs(INTX, EVENTFD | TRIGGER, 0, 1, fds=[fd])
    bench.host.intx(True)
    bench.host.intx(True)
    assert signalled(fd) == 1
    bench.host.intx(False)
    bench.host.intx(True)
    assert signalled(fd) == 0  # auto-masked
    ready.set_irqs(INTX, NONE | UNMASK, 0, 1)
    assert signalled(fd) == 1
    bench.host.intx(False)
    ready.set_irqs(INTX, BOOL | UNMASK, 0, 1, b"\x01")
    assert signalled(fd) == 0
    bench.host.intx(True)
    assert signalled(fd) == 1


def test_mask_holds_a_level_back(bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled) -> None:
    (fd,) = eventfds(1)
    ready.set_irqs(INTX, EVENTFD | TRIGGER, 0, 1, fds=[fd])
    ready.set_irqs(INTX, NONE | MASK, 0, 1)
    bench.host.intx(True)
    assert signalled(fd) == 0
    ready.set_irqs(INTX, BOOL | UNMASK, 0, 1, b"\x00")
    assert signalled(fd) == 0
    ready.set_irqs(INTX, NONE | UNMASK, 0, 1)
    assert signalled(fd) == 1


def test_a_level_from_before_the_eventfd(
    bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled
) -> None:
    (fd,) = eventfds(1)
    bench.host.intx(True)
    ready.set_irqs(INTX, EVENTFD | TRIGGER, 0, 1, fds=[fd])
    assert signalled(fd) == 1


def test_the_resample_eventfd_unmasks(bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled) -> None:
    """The order QEMU uses with KVM's irqfd."""
    trigger, resample = eventfds(2)
    ready.set_irqs(INTX, EVENTFD | TRIGGER, 0, 1, fds=[trigger])
    ready.set_irqs(INTX, NONE | MASK, 0, 1)
    ready.set_irqs(INTX, EVENTFD | UNMASK, 0, 1, fds=[resample])
    ready.set_irqs(INTX, NONE | UNMASK, 0, 1)
    bench.host.intx(True)
    assert signalled(trigger) == 1
    os.eventfd_write(resample, 1)
    got: list[int] = []
    ready.pump(lambda: got or (signalled(trigger) and got.append(1)))
    bench.host.intx(False)
    os.eventfd_write(resample, 1)
    ready.pump(lambda: not select.select([resample], [], [], 0)[0])
    bench.host.intx(True)
    assert signalled(trigger) == 1
    ready.set_irqs(INTX, EVENTFD | UNMASK, 0, 1)
    os.eventfd_write(resample, 1)
    bench.loop.run_once(0)
    assert signalled(trigger) == 0
    ready.set_irqs(INTX, NONE | TRIGGER, 0, 0)


def test_an_eventfd_may_mask_too(bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled) -> None:
    trigger, mask = eventfds(2)
    ready.set_irqs(INTX, EVENTFD | TRIGGER, 0, 1, fds=[trigger])
    ready.set_irqs(INTX, EVENTFD | MASK, 0, 1, fds=[mask])
    os.eventfd_write(mask, 1)
    ready.read(0, 0, 1)
    bench.loop.run_once(0)
    bench.host.intx(True)
    assert signalled(trigger) == 0


# --- What is refused ---


@pytest.mark.parametrize("flags", range(128))
def test_flags_must_be_one_kind_of_data_and_one_action(ready: RawClient, flags: int) -> None:
    valid = {a | b for a, b in itertools.product((NONE, BOOL, EVENTFD), (MASK, UNMASK, TRIGGER))}
    if flags not in valid:
        assert refused(ready, MSIX, flags, 0, 1, b"\0" if flags & BOOL else b"") == errno.EINVAL


@pytest.mark.parametrize(
    ("index", "flags", "start", "count", "data"),
    [
        (5, NONE | TRIGGER, 0, 0, b""),
        (2**32 - 1, NONE | TRIGGER, 0, 1, b""),
        (MSIX, NONE | TRIGGER, 1, 0, b""),
        (MSIX, NONE | TRIGGER, 8, 1, b""),
        (MSIX, NONE | TRIGGER, 7, 2, b""),
        (MSIX, NONE | TRIGGER, 2**32 - 1, 2, b""),
        (MSIX, NONE | TRIGGER, 0, 2**32 - 1, b""),
        (MSIX, NONE | MASK, 0, 0, b""),
        (MSIX, EVENTFD | TRIGGER, 0, 0, b""),
        (MSIX, BOOL | TRIGGER, 0, 2, b"\1"),
        (MSIX, BOOL | TRIGGER, 0, 2, b"\1\1\1"),
        (MSIX, NONE | TRIGGER, 0, 1, b"\1"),
        (INTX, NONE | TRIGGER, 0, 2, b""),
        (ERR, NONE | MASK, 0, 1, b""),
        (REQ, NONE | UNMASK, 0, 1, b""),
        (MSIX, EVENTFD | UNMASK, 0, 1, b""),
    ],
)
def test_bad_ranges(ready: RawClient, index: int, flags: int, start: int, count: int, data: bytes) -> None:
    assert refused(ready, index, flags, start, count, data) == errno.EINVAL


def test_argsz_and_length(ready: RawClient) -> None:
    assert ready.fails(8, struct.pack("<5I", 19, NONE | TRIGGER, MSIX, 0, 0)) == errno.EINVAL
    assert ready.fails(8, bytes(19)) == errno.EINVAL


def test_descriptors_must_match(bench: Bench, ready: RawClient, eventfds: Eventfds, signalled: Signalled) -> None:
    fds = eventfds(3)
    assert refused(ready, MSIX, EVENTFD | TRIGGER, 0, 2, fds=fds) == errno.EINVAL
    assert refused(ready, MSIX, EVENTFD | TRIGGER, 0, 4, fds=fds) == errno.EINVAL
    assert refused(ready, MSIX, NONE | TRIGGER, 0, 0, fds=fds) == errno.EINVAL
    assert refused(ready, MSIX, NONE | TRIGGER, 0, 1, fds=fds) == errno.EINVAL
    bench.host.interrupt(0)
    assert [signalled(fd) for fd in fds] == [0, 0, 0]


def test_only_eventfds(ready: RawClient, eventfds: Eventfds) -> None:
    left, right = socket.socketpair()
    pipe = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (left.fileno(), pipe[0], pipe[1], null):
        assert refused(ready, MSIX, EVENTFD | TRIGGER, 0, 2, fds=[*eventfds(1), fd]) == errno.EINVAL
        assert refused(ready, INTX, EVENTFD | UNMASK, 0, 1, fds=[fd]) == errno.EINVAL
    for fd in (*pipe, null):
        os.close(fd)
    left.close()
    right.close()


def test_a_full_eventfd_does_not_block(bench: Bench, ready: RawClient) -> None:
    fd = os.eventfd(0)  # blocking
    os.eventfd_write(fd, 2**64 - 2)
    ready.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 1, fds=[fd])
    bench.host.interrupt(0)
    assert os.eventfd_read(fd) == 2**64 - 2
    os.close(fd)


def test_thousands_of_assignments_leak_nothing(ready: RawClient, eventfds: Eventfds) -> None:
    fds = eventfds(8)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(1000):
        ready.set_irqs(MSIX, EVENTFD | TRIGGER, 0, 8, fds=fds)
        ready.set_irqs(INTX, EVENTFD | UNMASK, 0, 1, fds=fds[:1])
    assert len(os.listdir("/proc/self/fd")) <= before + 9
