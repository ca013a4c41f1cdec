"""A card on a bench: guest memory, simulated time, a wire that a test holds the other end of, and a small driver."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from igb_device.clock import SimClock
from igb_device.drops import DropReason
from igb_device.nic import Nic
from igb_device.wire.base import Accepts, Frame, Offload
from igb_hw.registers import MAP
from pyvfio_user.memory import MemoryHost

MAC = bytes.fromhex("525400123456")
MEMORY = 8 << 20
RX_RING, TX_RING = 0x10000, 0x20000  # ring of queue q: + q * 0x1000
RX_BUFFERS, TX_BUFFERS = 0x100000, 0x600000


@dataclass
class Verdict:
    queue: int
    reason: DropReason | None


class BenchWire:
    """The wire under a test's control: `sent` is what the card sent, `give` lets frames arrive."""

    def __init__(self, accepts: Accepts = Accepts.NONE) -> None:
        self.accepts = accepts
        self.link = True
        self.wants_verdicts = True
        self.errors = 0
        self.room = 1 << 30
        self.paused = False
        self.sent: list[tuple[bytes, Offload, int]] = []
        self.calls = 0
        self.verdicts: list[Verdict] = []
        self._incoming: list[Frame] = []

    def connect(self, ready: Callable[[], None], link_changed: Callable[[bool], None]) -> None:
        self.ready, self.link_changed = ready, link_changed

    def send(self, frames: Sequence[Frame]) -> int:
        self.calls += 1
        taken = min(len(frames), self.room)
        self.room -= taken
        self.sent += [(b"".join(f.parts), f.offload, f.queue) for f in frames[:taken]]
        return taken

    def receive(self, limit: int) -> Sequence[Frame]:
        now, self._incoming = self._incoming[:limit], self._incoming[limit:]
        return now

    def settled(self, frame: Frame, queue: int, reason: DropReason | None) -> None:
        self.verdicts.append(Verdict(queue, reason))

    def pause(self, paused: bool) -> None:
        self.paused = paused

    def close(self) -> None:
        pass

    # the test's end

    def give(self, *frames: bytes, offload: Offload | None = None) -> None:
        self._incoming += [Frame([memoryview(f)], offload or Offload()) for f in frames]
        while self._incoming and not self.paused:
            self.ready()

    def set_link(self, up: bool) -> None:
        self.link = up
        self.link_changed(up)

    @property
    def frames(self) -> list[bytes]:
        return [data for data, _, _ in self.sent]


@dataclass
class Received:
    """One frame out of the ring: its bytes, the last descriptor's fields, and all lengths."""

    data: bytes
    low: int
    status: int
    vlan: int
    lengths: list[int]
    header: bytes = b""


@dataclass
class Bench:
    """The card and what stands around it. Registers by name: `bench["CTRL"] = ...`, `bench["RDT", 3]`."""

    clock: SimClock
    host: MemoryHost
    wire: BenchWire
    nic: Nic
    memory: memoryview
    interrupts: list[int]
    rx_next: dict[int, int] = field(default_factory=dict)
    rx_count: dict[int, int] = field(default_factory=dict)
    tx_tail: dict[int, int] = field(default_factory=dict)
    tx_count: dict[int, int] = field(default_factory=dict)

    # registers

    @staticmethod
    def _offset(key: str | tuple[str, int]) -> int:
        name, i = key if isinstance(key, tuple) else (key, 0)
        return MAP[name].at(i)

    def __getitem__(self, key: str | tuple[str, int]) -> int:
        return self.read(self._offset(key))

    def __setitem__(self, key: str | tuple[str, int], value: int) -> None:
        self.write(self._offset(key), value)

    def read(self, offset: int) -> int:
        value = int.from_bytes(self.nic.region_read(0, offset, 4), "little")
        self.nic.process()
        return value

    def write(self, offset: int, value: int) -> None:
        self.nic.region_write(0, offset, value.to_bytes(4, "little"))
        self.nic.process()

    def msix(self) -> None:
        """Enables MSI-X in config space."""
        at = self.nic.config.offset("msix", "control")
        control = int.from_bytes(self.nic.config_read(at, 2), "little")
        self.nic.config_write(at, (control | 0x8000).to_bytes(2, "little"))

    def command(self, value: int) -> None:
        """The PCI command register: 4 is bus mastering, 2 memory."""
        self.nic.config_write(4, value.to_bytes(2, "little"))
        self.host.update()

    def link_up(self) -> None:
        self["CTRL"] = MAP["CTRL"]["SLU"]
        self.clock.advance(1_000_000_000)
        assert self["STATUS"] & MAP["STATUS"]["LU"]

    def works_again(self) -> None:
        """CTRL.RST, everything set up anew, and a frame goes each way."""
        rst, slu = MAP["CTRL"]["RST"], MAP["CTRL"]["SLU"]
        self["CTRL"] = rst | slu
        self["CTRL"] = slu
        self.clock.advance(1_000_000_000)
        assert self["STATUS"] & MAP["STATUS"]["LU"]
        self.memory[RX_RING : RX_RING + 0x20000] = bytes(0x20000)
        self.rx_setup(count=16)
        self.tx_setup(count=16)
        self.rx_on()
        self.wire.sent.clear()
        frame = MAC + bytes.fromhex("02000000000188b5") + bytes(range(200))
        self.send(frame)
        self.clock.advance(1_000_000)
        assert self.wire.frames == [frame]
        self.wire.give(frame)
        assert [got.data for got in self.rx_take()] == [frame]

    # receive

    def rx_setup(self, queue: int = 0, count: int = 64, *, buffers: bool = True, srrctl: int = 0x02000402) -> None:
        """A receive ring of `count` descriptors, buffers of 2 KiB: one advanced buffer, 256 bytes of header."""
        self["RXDCTL", queue] = 0
        self["RDBAL", queue] = RX_RING + queue * 0x1000
        self["RDBAH", queue] = 0
        self["RDLEN", queue] = count * 16
        self["SRRCTL", queue] = srrctl
        self["RDH", queue] = 0
        self["RDT", queue] = 0
        self["RXDCTL", queue] = 1 << 25
        self.rx_next[queue], self.rx_count[queue] = 0, count
        if buffers:
            self.rx_give(queue, count - 1)

    def rx_buffer(self, queue: int, index: int) -> int:
        return RX_BUFFERS + queue * 0x40000 + index * 0x800

    def rx_give(self, queue: int, n: int) -> None:
        """Gives the card `n` descriptors more."""
        tail = self["RDT", queue]
        for _ in range(n):
            at = RX_RING + queue * 0x1000 + tail * 16
            buffer = self.rx_buffer(queue, tail)
            struct.pack_into("<QQ", self.memory, at, buffer, buffer + 0x20000)
            tail = (tail + 1) % self.rx_count[queue]
        self["RDT", queue] = tail

    def rx_on(self, extra: int = 0) -> None:
        """Receiver on, broadcasts taken, CRC stripped."""
        rctl = MAP["RCTL"]
        self["RCTL"] = rctl["EN"] | rctl["BAM"] | rctl["SECRC"] | extra

    def rx_take(self, queue: int = 0) -> list[Received]:
        """All frames the card has written back so far, as a driver would take them."""
        frames: list[Received] = []
        data, lengths, header = b"", [], b""
        while True:
            index = self.rx_next[queue]
            at = RX_RING + queue * 0x1000 + index * 16
            low, status, length, vlan = struct.unpack_from("<QIHH", self.memory, at)
            if not status & 1:
                return frames
            struct.pack_into("<QQ", self.memory, at, 0, 0)
            buffer = self.rx_buffer(queue, index)
            self.rx_next[queue] = (index + 1) % self.rx_count[queue]
            if split := low >> 21 & 0x3FF:
                header = bytes(self.memory[buffer + 0x20000 : buffer + 0x20000 + split])
            data += bytes(self.memory[buffer : buffer + length])
            lengths.append(length)
            if status & 2:
                frames.append(Received(data, low, status, vlan, lengths, header))
                data, lengths, header = b"", [], b""

    # transmit

    def tx_setup(self, queue: int = 0, count: int = 64) -> None:
        self["TXDCTL", queue] = 0
        self["TDBAL", queue] = TX_RING + queue * 0x1000
        self["TDBAH", queue] = 0
        self["TDLEN", queue] = count * 16
        self["TDH", queue] = 0
        self["TDT", queue] = 0
        self["TXDCTL", queue] = 1 << 25
        self["TCTL"] = MAP["TCTL"]["EN"] | MAP["TCTL"]["PSP"]
        self.tx_tail[queue], self.tx_count[queue] = 0, count

    def tx_put(self, queue: int, *descriptors: tuple[int, int]) -> list[int]:
        """Writes descriptors (two quadwords each) at the tail, without a doorbell. Their indexes."""
        indexes = []
        for low, high in descriptors:
            tail = self.tx_tail[queue]
            struct.pack_into("<QQ", self.memory, TX_RING + queue * 0x1000 + tail * 16, low, high)
            indexes.append(tail)
            self.tx_tail[queue] = (tail + 1) % self.tx_count[queue]
        return indexes

    def tx_kick(self, queue: int = 0) -> None:
        self["TDT", queue] = self.tx_tail[queue]

    def tx_data(
        self, data: bytes, at: int = 0, *, flags: int = 0x2B000000, popts: int = 0, total: int = 0
    ) -> tuple[int, int]:
        """An advanced data descriptor for `data`, which is put into memory. Default flags: DEXT, RS, IFCS, EOP."""
        address = TX_BUFFERS + at
        self.memory[address : address + len(data)] = data
        olinfo = popts << 8 | (total or len(data)) << 14
        return address, len(data) | 0x00300000 | flags | olinfo << 32

    def tx_done(self, index: int, queue: int = 0) -> bool:
        return bool(self.memory[TX_RING + queue * 0x1000 + index * 16 + 12] & 1)

    def send(self, data: bytes, queue: int = 0) -> int:
        """One frame in one descriptor, kicked."""
        (index,) = self.tx_put(queue, self.tx_data(data, self.tx_tail[queue] * 0x1000 & 0xFFFFF))
        self.tx_kick(queue)
        return index


def context(
    *,
    maclen: int = 14,
    iplen: int = 20,
    l4t: int = 1,
    l4len: int = 20,
    mss: int = 0,
    vlan: int = 0,
    ipv4: bool = True,
    index: int = 0,
) -> tuple[int, int]:
    """An advanced context descriptor (datasheet 7.2.2.2)."""
    low = vlan << 16 | maclen << 9 | iplen
    high = 0x20200000 | ipv4 << 10 | l4t << 11 | (mss << 16 | l4len << 8 | index << 4) << 32
    return low, high


@pytest.fixture(name="context")
def context_fixture() -> Callable[..., tuple[int, int]]:
    return context


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    def make(accepts: Accepts = Accepts.NONE, *, shared: bool = True) -> Bench:
        clock = SimClock(1_000_000)
        wire = BenchWire(accepts)
        nic = Nic(clock, MAC, wire)
        host = MemoryHost(bus_master=lambda: nic.bus_master)
        memory = host.add(0, MEMORY, shared=shared)
        interrupts: list[int] = []
        host.on_interrupt = interrupts.append
        nic.attach(host)
        bench = Bench(clock, host, wire, nic, memory, interrupts)
        bench.command(6)
        return bench

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A card with link, ready for rings."""
    made = make_bench()
    made.link_up()
    return made
