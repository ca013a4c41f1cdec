"""The in-memory Host keeps to the contract of `pyvfio_user.device.Host`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio_user.device import DmaError, Host
from pyvfio_user.memory import MemoryHost


def as_host(host: MemoryHost) -> Host:
    """mypy checks here that it is one."""
    return host


def test_what_is_written_is_read() -> None:
    host = as_host(MemoryHost(0x1000, base=0x10000))
    host.write(0x10FFC, b"abcd")
    assert bytes(host.read(0x10FFC, 4)) == b"abcd"
    assert host.read(0x10FFC, 4).readonly


def test_views_are_live_and_writable() -> None:
    host = MemoryHost(0x1000)
    view = host.view(0x800, 4)
    assert view is not None
    view[:] = b"wxyz"
    assert bytes(host.read(0x800, 4)) == b"wxyz"
    live = host.read(0x800, 4)
    host.write(0x800, b"1234")
    assert bytes(live) == b"1234"


def test_memory_of_the_callers() -> None:
    array = np.zeros(64, np.uint32)
    host = MemoryHost()
    host.add(0x4000, memoryview(array))
    host.write(0x4004, b"\x01\x02\x00\x00")
    assert array[1] == 0x0201


@pytest.mark.parametrize("addr", [0, 0xFFF, 0x1FFD, 0x2000, (1 << 64) - 2])
def test_addresses_that_arent_wholly_mapped(addr: int) -> None:
    host = MemoryHost(0x1000, base=0x1000)
    host.read(0x1000, 1)
    for access in (lambda: host.read(addr, 4), lambda: host.view(addr, 4), lambda: host.write(addr, b"1234")):
        with pytest.raises(DmaError) as error:
            access()
        assert (error.value.addr, error.value.length) == (addr, 4)


def test_an_access_may_cross_from_one_range_into_the_next() -> None:
    host = MemoryHost(0x1000)
    host.add(0x1000, 0x1000)
    host.write(0xFFE, b"abcd")
    assert bytes(host.read(0xFFD, 6)) == b"\0abcd\0"
    assert bytes(host.read(0x1000, 2)) == b"cd"
    assert host.view(0xFFE, 4) is None, "two buffers have no common view"
    for access in (lambda: host.read(0xFFF, 0x1002), lambda: host.write(0xFFF, bytes(0x1002))):
        with pytest.raises(DmaError) as error:
            access()
        assert (error.value.addr, error.value.length) == (0xFFF, 0x1002)
    with pytest.raises(ValueError):
        host.add(0x1FFF, 2)


def test_a_write_into_a_read_only_neighbour_changes_nothing() -> None:
    host = MemoryHost(0x1000)
    host.add(0x1000, bytearray(16), writable=False)
    with pytest.raises(DmaError, match="read-only"):
        host.write(0xFFE, b"abcd")
    assert bytes(host.read(0xFFE, 4)) == bytes(4)


def test_read_only_memory() -> None:
    host = MemoryHost()
    host.add(0, bytearray(b"data"), writable=False)
    assert bytes(host.read(0, 4)) == b"data"
    for access in (lambda: host.write(0, b"x"), lambda: host.view(0, 1)):
        with pytest.raises(DmaError, match="read-only"):
            access()


def test_memory_that_isnt_shared_gives_copies_and_no_view() -> None:
    host = MemoryHost()
    host.add(0, 64, shared=False)
    copy = host.read(0, 4)
    host.write(0, b"abcd")
    assert bytes(copy) == bytes(4)
    assert bytes(host.read(0, 4)) == b"abcd"
    assert host.view(0, 4) is None


def test_bus_mastering_off_refuses_everything() -> None:
    on = True
    host = MemoryHost(0x1000, bus_master=lambda: on)
    host.read(0, 4)
    before = host.generation
    on = False
    host.update()
    assert host.generation > before, "views taken before are void"
    for access in (lambda: host.read(0, 4), lambda: host.view(0, 4), lambda: host.write(0, b"x")):
        with pytest.raises(DmaError, match="bus mastering"):
            access()
    host.interrupt(1)
    assert host.interrupts == []
    on = True
    assert bytes(host.read(0, 1)) == b"\0"
    assert host.interrupts == [1], "what was signalled meanwhile is delivered"
    host.interrupt(1)
    assert host.interrupts == [1, 1]


def test_generation_grows_with_each_change() -> None:
    host = MemoryHost()
    seen = [host.generation]
    for change in (lambda: host.add(0, 64), lambda: host.fail(0, 1), host.heal, lambda: host.remove(0)):
        change()
        seen.append(host.generation)
    assert seen == sorted(set(seen))
    with pytest.raises(DmaError):
        host.read(0, 1)
    with pytest.raises(KeyError):
        host.remove(0)


def test_faults() -> None:
    host = MemoryHost(0x1000)
    host.read(0, 1)
    host.fail(0x100, 16)
    assert len(host.read(0xF0, 16)) == 16
    assert len(host.read(0x110, 16)) == 16
    for addr in (0xF1, 0x100, 0x10F):
        with pytest.raises(DmaError, match="fault"):
            host.read(addr, 16)
        with pytest.raises(DmaError, match="fault"):
            host.write(addr, bytes(16))
    host.heal()
    assert len(host.read(0x100, 16)) == 16


def test_interrupts_are_recorded_and_told() -> None:
    host = MemoryHost()
    told: list[object] = []
    host.on_interrupt = told.append
    host.on_intx = told.append
    host.interrupt(3)
    host.intx(True)
    host.intx(True)
    host.intx(False)
    assert host.interrupts == [3]
    assert told == [3, True, False], "a level is told when it changes"


def test_a_masked_vector_pends_until_it_is_unmasked() -> None:
    host = MemoryHost()
    host.masked.add(2)
    host.interrupt(2)
    host.interrupt(2)
    assert host.interrupts == []
    assert host.pending_bits() == 0b100
    host.unmask(2)
    assert host.interrupts == [2]
    assert host.pending_bits() == 0
    host.unmask(2)
    assert host.interrupts == [2]


@given(st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=40)), max_size=20))
def test_like_one_bytearray(writes: list[tuple[int, bytes]]) -> None:
    model, host = bytearray(256), MemoryHost(256)
    for addr, data in writes:
        if addr + len(data) <= 256:
            model[addr : addr + len(data)] = data
            host.write(addr, data)
        else:
            with pytest.raises(DmaError):
                host.write(addr, data)
    assert bytes(host.read(0, 256)) == model
