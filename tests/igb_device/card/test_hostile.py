"""A guest, or a far end, that means harm: the card loses a queue at worst, says so, and a CTRL.RST brings it back."""

import itertools
import logging
import os
import random
import struct
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from igb_device.wire.base import Accepts, Offload
from igb_hw.registers import MAP
from pyvfio_user.memory import MemoryHost

ENABLE = 1 << 25
EOP, RS, DEXT, TSE, VLE = 1 << 24, 1 << 27, 1 << 29, 1 << 31, 1 << 30
FRAME = bytes.fromhex("52540012345602000000000188b5") + bytes(100)
OFFSETS = [offset for register in MAP for offset in register.offsets]


def setup_both(bench, count=32):
    bench.rx_setup(count=count)
    bench.tx_setup(count=count)
    bench.rx_on()


# --- rings and descriptors

PLACES = [0x0FFFFF80, 0xFFFFFF80, 0x007FFF80, 0xFFFFFFFF_FFFFFF80, 0x7FFFFFFF_FFFFFF80]


@pytest.mark.parametrize("base", PLACES)
def test_ring_outside_memory(bench, base, caplog):
    """The queue is stopped, counted, and there's one line in the log for it."""
    setup_both(bench)
    for register in (0xC000, 0xE000):
        bench.write(register, base & 0xFFFFFFFF)
        bench.write(register + 4, base >> 32)
    bench.write(0xE018, 5)
    for _ in range(20):
        bench.write(0xE018, 6)
        bench.wire.give(FRAME)
    assert bench.wire.frames == []
    assert {reason.name for reason in bench.nic.drops()} == {"TX_DMA", "RX_DMA"}
    assert bench.nic.complaints.stops == 2
    assert len(caplog.records) == 2
    assert all("stopped" in record.message for record in caplog.records)
    bench.works_again()


@pytest.mark.parametrize("length", [0, 0x10, 0x70])
@pytest.mark.parametrize("tail", [0, 1, 7, 8, 0x7FFF, 0xFFFF])
def test_short_rings_and_tails_beyond(bench, length, tail):
    setup_both(bench)
    for base in (0xC000, 0xE000):
        bench.write(base + 8, length)
        bench.write(base + 0x10, 0)
        bench.write(base + 0x18, tail)
    bench.wire.give(*[FRAME] * 10)
    bench.clock.advance(1_000_000)
    bench.works_again()


@pytest.mark.parametrize("head", [32, 33, 0xFFFF])
def test_heads_beyond_the_ring(bench, head):
    setup_both(bench)
    bench.write(0xC010, head)
    bench.write(0xE010, head)
    bench.write(0xE018, 1)
    bench.wire.give(FRAME)
    assert bench.wire.frames == []
    bench.works_again()


def test_the_longest_ring(bench):
    """64 Ki descriptors, all of them context descriptors, which send nothing: taken in turns, each of bounded time."""
    bench.tx_setup(count=0xFFFF)
    bench.memory[0x20000 : 0x20000 + 0xFFFF * 16] = struct.pack("<QII", 0, 0x20200000, 0) * 0xFFFF
    started = time.perf_counter()
    bench.write(0xE018, 0xFFFE)
    assert time.perf_counter() - started < 1
    assert 0 < bench["TDH"] < 0xFFFE
    bench.clock.advance(1_000_000)
    assert bench["TDH"] == 0xFFFE
    bench.works_again()


@pytest.mark.parametrize("address", [0x0FFFFF80, 0x7FFFC0, 0x7FFFFF, 0xFFFFFFFF_FFFFFF80, 0xFFFFFFFF_FFFFFFFF])
def test_buffers_outside_memory(bench, address, caplog):
    setup_both(bench)
    bench.tx_put(0, (address, 100 | 0x00300000 | DEXT | EOP | RS | 100 << 46))
    bench.tx_kick()
    for i in range(31):
        struct.pack_into("<QQ", bench.memory, 0x10000 + 16 * i, address, address)
    bench.wire.give(FRAME, FRAME)
    assert bench.wire.frames == []
    assert {reason.name for reason in bench.nic.drops()} == {"TX_DMA", "RX_DMA"}
    assert len(caplog.records) == 2
    bench.works_again()


def test_enabling_a_queue_again_is_another_chance(bench):
    setup_both(bench)
    bench.tx_put(0, (PLACES[0], 100 | DEXT | EOP | 0x00300000))
    bench.tx_kick()
    bench.tx_setup()
    bench.send(FRAME)
    assert bench.wire.frames == [FRAME]


def test_one_bad_queue_leaves_the_others_alone(bench):
    setup_both(bench)
    bench.tx_setup(1)
    bench.tx_put(1, (PLACES[0], 100 | DEXT | EOP | 0x00300000))
    bench.tx_kick(1)
    bench.send(FRAME)
    assert bench.wire.frames == [FRAME]


def test_the_log_has_a_bounded_rate(bench, caplog):
    """A queue that is stopped and enabled ten thousand times."""
    setup_both(bench)
    for _ in range(2000):
        bench.tx_setup(count=8)
        bench.tx_put(0, (PLACES[0], 100 | DEXT | EOP | 0x00300000))
        bench.tx_kick()
    assert bench.nic.complaints.stops == 2000
    assert 1 <= len(caplog.records) <= 10
    bench.clock.advance(60_000_000_000)
    bench.tx_setup(count=8)
    bench.tx_kick()
    bench.tx_put(0, (PLACES[0], 100 | DEXT | EOP | 0x00300000))
    bench.tx_kick()
    assert len(caplog.records) <= 12
    assert any("1990" in record.message for record in caplog.records)


def test_frames_that_never_end(bench):
    """Descriptors without EOP: what is kept is no more than a packet, in whatever pieces it came."""
    bench.tx_setup(count=0x1000)
    tracemalloc.start()
    try:
        for length, rounds in ((1, 20), (0xFFFF, 4)):
            for _ in range(rounds):
                for _ in range(0xFFF):
                    bench.tx_put(0, (0x600000, length | 0x00300000 | DEXT))
                bench.tx_kick()
                bench.clock.advance(1_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 96 << 20
    bench.tx_put(0, (0x600000, 64 | 0x00300000 | DEXT | EOP | RS))
    bench.tx_kick()
    bench.clock.advance(1_000)
    assert [reason.name for reason in bench.nic.drops()] == ["TX_BAD"]
    bench.send(FRAME)
    assert bench.wire.frames == [FRAME], "the next frame is a new one"


@pytest.mark.parametrize("mss", [1, 3])
def test_tiny_segments(bench, context, mss):
    """A ring full of the biggest frames cut into the smallest pieces: bounded at a time, and each is sent or lost."""
    bench.tx_setup(count=64)
    bench.memory[0x600000:0x600036] = bytes.fromhex("52540012345602000000000108004500") + bytes(30) + b"\x50" + bytes(7)
    bench.tx_put(0, context(mss=mss))
    for _ in range(15):
        for i in range(4):
            flags = DEXT | TSE | 0x00300000 | (EOP if i == 3 else 0)
            bench.tx_put(0, (0x600000, 0xFFFF | flags | 3 << 40))
    sent = []
    bench.wire.send = lambda frames: sent.append(len(frames)) or len(frames)
    tracemalloc.start()
    try:
        started = time.perf_counter()
        bench.tx_kick()
        assert time.perf_counter() - started < 20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 << 20
    assert len(sent) <= 1
    bench.write(0, 1 << 26)


def test_a_wire_that_takes_nothing_and_rings_full_of_big_frames(make_bench, context):
    """What the card keeps of sixteen rings is bounded."""
    bench = make_bench(~Accepts.NONE)
    bench.link_up()
    bench.wire.room = 0
    header = bytes.fromhex(
        "520200000002020000000001080045000000000000004006000001010101020202020001000200000000000000005010"
    )
    bench.memory[0x600000 : 0x600000 + len(header)] = header
    tracemalloc.start()
    try:
        for queue in range(16):
            bench.tx_setup(queue, count=0x100)
            bench.tx_put(queue, context(mss=1400))
            for _ in range(0xF0):
                bench.tx_put(queue, (0x600000, 0xFFFF | DEXT | TSE | EOP | RS | 0x00300000 | 3 << 40))
            bench.tx_kick(queue)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(ring.unsent for ring in bench.nic.tx.rings), "the frames are good ones"
    assert peak < 64 << 20


@given(data=st.binary(min_size=16, max_size=16 * 31))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_descriptors(make_bench, data):
    bench = make_bench()
    bench.link_up()
    setup_both(bench)
    data = data[: len(data) // 16 * 16]
    bench.memory[0x20000 : 0x20000 + len(data)] = data
    bench.memory[0x10000 : 0x10000 + len(data)] = data
    bench.write(0xE018, len(data) // 16)
    bench.wire.give(FRAME, FRAME, FRAME)
    bench.clock.advance(1_000_000)
    bench.works_again()


# --- the far end


@given(
    data=st.binary(max_size=200),
    filler=st.integers(0, 65536),
    offload=st.builds(
        Offload,
        st.integers(0, 255),
        st.one_of(st.sampled_from([0, 1, 3, 4, 5, 0x81, 0x84]), st.integers(0, 255)),
        *[st.integers(0, 65535)] * 4,
    ),
    rctl=st.sampled_from([0, 1 << 26, 1 << 5, 1 << 5 | 1 << 26]),
    srrctl=st.sampled_from([0, 0x02000402, 0x04000402, 0x0A000402]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_from_the_wire(make_bench, data, filler, offload, rctl, srrctl):
    """64 KiB of anything, with anything said about it."""
    bench = make_bench()
    bench.link_up()
    bench.rx_setup(srrctl=srrctl)
    bench.write(0x5004, 0x3FFF)
    bench.write(0x100, 0x801A | rctl)
    bench.write(0, 0x40 | 1 << 30)
    for frame in (data, FRAME[:12] + data, FRAME[:12] + b"\x08\x00\x45\x00" + data):
        bench.wire.give(frame + bytes(filler), offload=offload)
    assert len(bench.wire.verdicts) == 3
    bench.works_again()


# --- memory


def test_faults(bench):
    """Each access in turn fails: nothing but that queue is lost."""
    for start, length in ((0x10000, 16), (0x20000, 16), (0x100000, 64), (0x600000, 64), (0x10010, 8)):
        setup_both(bench)
        bench.host.fail(start, length)
        bench.send(FRAME)
        bench.wire.give(FRAME, FRAME)
        bench.host.heal()
        bench.works_again()


def test_memory_unmapped_and_mapped_again(bench):
    """A balloon, or a BAR that moves: the card never touches what is gone, and looks anew at what comes back."""
    setup_both(bench)
    bench.send(FRAME)
    bench.host.remove(0)
    before = bytes(bench.memory)
    bench.write(0xE018, 3)
    bench.wire.give(FRAME)
    assert bytes(bench.memory) == before
    bench.host.add(0, bench.memory)
    bench.works_again()


def test_bus_master_off(bench):
    setup_both(bench)
    bench.command(2)
    before = bytes(bench.memory)
    bench.tx_put(0, bench.tx_data(FRAME))
    before = bytes(bench.memory)
    bench.tx_kick()
    bench.wire.give(FRAME)
    assert bytes(bench.memory) == before
    bench.command(6)
    bench.works_again()


def test_read_only_memory(make_bench):
    """A ring in ROM: frames go out, and the report that can't be written stops the queue."""
    bench = make_bench()
    bench.link_up()
    setup_both(bench)
    bench.host.remove(0)
    bench.host.add(0, bench.memory, writable=False)
    bench.send(FRAME)
    bench.wire.give(FRAME)
    bench.host.remove(0)
    bench.host.add(0, bench.memory)
    bench.works_again()


# --- everything at once


class Storm:
    """Random accesses, descriptors, frames, faults and time, all from one seed."""

    GUARD = 0x1000
    SIZE = 8 << 20

    def __init__(self, make_bench, seed, *, shared=True, accepts=Accepts.NONE):
        self.rng = random.Random(seed)
        self.unhook = lambda: None
        self.bench = bench = make_bench(accepts, shared=shared)
        self.shared = shared
        self.big = bytearray(b"\xa5" * (self.SIZE + 2 * self.GUARD))
        bench.memory = memoryview(self.big)[self.GUARD : -self.GUARD]
        bench.memory[:] = bytes(self.SIZE)
        bench.host.remove(0)
        bench.host.add(0, bench.memory, shared=shared)
        self.mapped = True
        bench.link_up()
        setup_both(bench)
        self.ops = [
            (self.register, 40),
            (self.ring_register, 20),
            (self.doorbell, 12),
            (self.descriptors, 12),
            (self.frames, 8),
            (self.time, 6),
            (self.read, 4),
            (self.odd, 2),
            (self.other_region, 2),
            (self.config, 1),
            (self.wire, 3),
            (self.fault, 1),
            (self.unmap, 1),
            (self.start, 8),
            (self.mdic, 2),
        ]
        self.weights = [weight for _, weight in self.ops]
        if not shared:
            self.interrupt_dma()

    def interrupt_dma(self):
        """Memory behind messages: accesses arrive while the card waits for it."""
        host, rng = self.bench.host, self.rng
        read, write = host.read, host.write

        def meanwhile():
            if rng.random() < 0.05:
                base = rng.choice((0, 0x100, 0x400, 0x1500, 0xC000, 0xE000))
                value = self.value().to_bytes(4, "little")
                self.bench.nic.region_write(0, base + rng.randrange(0, 0x40, 4), value)
            elif rng.random() < 0.01:
                self.bench.nic.region_write(0, 0, (1 << 26 | 1 << 6).to_bytes(4, "little"))

        def hooked_read(addr, length):
            meanwhile()
            return read(addr, length)

        def hooked_write(addr, data):
            write(addr, data)
            meanwhile()

        host.read, host.write = hooked_read, hooked_write
        self.unhook = lambda: (setattr(host, "read", read), setattr(host, "write", write))

    def value(self):
        rng = self.rng
        return rng.choice(
            (
                rng.getrandbits(32),
                0,
                0xFFFFFFFF,
                1 << rng.randrange(32),
                rng.randrange(64),
                rng.randrange(0, self.SIZE, 128),
                ENABLE,
                rng.getrandbits(32) & rng.getrandbits(32),
            )
        )

    def register(self):
        offset = self.rng.choice(OFFSETS) if self.rng.random() < 0.8 else self.rng.randrange(0, 0x20000, 4)
        self.bench.write(offset, self.value())

    def ring_register(self):
        base = self.rng.choice((0xC000, 0xE000)) + 0x40 * self.rng.choice((0, 0, 0, 1, 15))
        self.bench.write(base + self.rng.randrange(0, 0x40, 4), self.value())

    def doorbell(self):
        base = self.rng.choice((0xC018, 0xE018)) + 0x40 * self.rng.choice((0, 0, 0, 1, 15))
        self.bench.write(base, self.rng.randrange(64))

    def descriptors(self):
        rng = self.rng
        for _ in range(rng.randrange(1, 12)):
            at = rng.choice((0x10000, 0x20000)) + 16 * rng.randrange(64)
            if rng.random() < 0.03:
                low, high = rng.getrandbits(64), rng.getrandbits(64)
            elif rng.random() < 0.3:
                low = rng.getrandbits(64)
                high = 0x20200000 | rng.getrandbits(13) | rng.getrandbits(32) << 32
            else:
                low = rng.randrange(0x100000, 0x700000)
                flags = rng.choice((0, EOP, EOP, EOP | RS, EOP | RS, EOP | RS | TSE, EOP | VLE, TSE, 1 << 26 | EOP))
                high = rng.choice((64, 1500, 0, 5, 0xFFFF)) | flags | rng.choice((0, DEXT | 0x00300000))
                high |= rng.getrandbits(32) << 32
            struct.pack_into("<QQ", self.bench.memory, at, low, high)

    def frames(self):
        rng = self.rng
        for _ in range(rng.randrange(1, 6)):
            head = rng.choice((FRAME, b"\xff" * 12 + b"\x08\x00\x45\x00", FRAME[:12] + b"\x86\xdd\x60", b""))
            body = rng.randbytes(rng.choice((0, 1, 46, 300, 1500))) + bytes(rng.choice((0, 0, 0, 9000, 65000)))
            offload = Offload()
            if rng.random() < 0.3:
                offload = Offload(rng.choice((0, 1, 2)), rng.choice((0, 1, 4, 5)), 54, rng.randrange(1500), 34, 16)
            self.bench.wire.give(head + body, offload=offload)

    def time(self):
        self.bench.clock.advance(self.rng.choice((0, 1000, 10_000_000, 1_000_000_000)))

    def read(self):
        for _ in range(10):
            self.bench.read(self.rng.choice(OFFSETS))

    def odd(self):
        nic, rng = self.bench.nic, self.rng
        count = rng.choice((1, 2, 3, 8, 64))
        offset = rng.randrange(0x20000 - count)
        assert len(nic.region_read(0, offset, count)) == count
        nic.region_write(0, offset, rng.randbytes(count))
        nic.process()

    def other_region(self):
        nic, rng = self.bench.nic, self.rng
        region, size = rng.choice(((1, 0x20000), (2, 0x20), (3, 0x4000)))
        count = rng.choice((1, 2, 4, 8))
        offset = rng.randrange(size - count)
        assert len(nic.region_read(region, offset, count)) == count
        nic.region_write(region, offset, rng.randbytes(count))
        nic.process()

    def config(self):
        bench, rng = self.bench, self.rng
        at, n = rng.choice(((4, 2), (0x44, 2), (0x52, 2), (0x72, 2), (0xA8, 2), (rng.randrange(256), 1)))
        bench.nic.config_write(at, rng.randbytes(n))
        bench.host.update()
        bench.nic.process()
        bench.command(6)

    def wire(self):
        wire, rng = self.bench.wire, self.rng
        action = rng.randrange(3)
        if action == 0:
            wire.set_link(rng.random() < 0.8)
        elif action == 1:
            wire.room = rng.choice((0, 1, 5, 1 << 30))
            wire.ready()
        else:
            wire.sent.clear()
            wire.verdicts.clear()

    def fault(self):
        self.bench.host.fail(self.rng.randrange(self.SIZE), self.rng.choice((1, 4096, 1 << 20)))
        if self.rng.random() < 0.7:
            self.bench.host.heal()

    def unmap(self):
        if self.mapped:
            self.bench.host.remove(0)
        else:
            self.bench.host.add(0, self.bench.memory, shared=self.shared)
        self.mapped = not self.mapped

    def start(self):
        """Now and then everything is as a driver would have it, or the storm would blow over a dead card."""
        self.repair()
        bench = self.bench
        setup_both(bench)
        bench.msix()
        for offset, value in ((0x1514, 0xC0000011), (0x1700, 0x82818281), (0x1740, 0x8000), (0x1524, 7), (0xD0, 0x55)):
            bench.write(offset, value)
        if self.rng.random() < 0.2:
            bench.write(0x20, 0x4140 | 1 << 21 | 1 << 26)  # loopback

    def repair(self):
        bench = self.bench
        bench.host.heal()
        if not self.mapped:
            self.unmap()
        bench.wire.room = 1 << 30
        bench.wire.set_link(True)
        bench.nic.config_write(0x44, bytes(2))  # D0
        bench.command(6)
        bench.write(0, 1 << 6)  # CTRL: SLU
        bench.write(0x20, 0x9140 | 1 << 21 | 1 << 26)  # the PHY is reset as well
        bench.clock.advance(1_000_000_000)

    def mdic(self):
        self.bench.write(0x20, self.rng.getrandbits(28) & 0x0C3FFFFF | 1 << 21)

    def run(self, n):
        for op in self.rng.choices([op for op, _ in self.ops], self.weights, k=n):
            started = time.perf_counter()
            op()
            assert time.perf_counter() - started < 30, op.__name__
        bench = self.bench
        wire = bench.wire
        wire.sent.clear()
        wire.verdicts.clear()

    def over(self):
        """What has to hold afterwards."""
        bench = self.bench
        assert self.big[: self.GUARD] == self.big[-self.GUARD :] == b"\xa5" * self.GUARD
        self.unhook()
        self.repair()
        bench.works_again()


@given(seed=st.integers(0, 1 << 32), shared=st.booleans(), accepts=st.sampled_from([Accepts.NONE, ~Accepts.NONE]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_storm(make_bench, caplog, seed, shared, accepts):
    storm = Storm(make_bench, seed, shared=shared, accepts=accepts)
    caplog.clear()
    storm.run(250)
    assert all(record.name == "igb_device.complaints" for record in caplog.records)
    storm.over()


@pytest.mark.fuzz
def test_storm_without_end(make_bench):
    """Seeds from SOFTIGB_FUZZ_SEED on (0), for SOFTIGB_FUZZ_SECONDS (60)."""
    logging.disable(logging.WARNING)
    try:
        until = time.monotonic() + float(os.environ.get("SOFTIGB_FUZZ_SECONDS", "60"))
        for seed in itertools.count(int(os.environ.get("SOFTIGB_FUZZ_SEED", "0"))):
            storm = Storm(make_bench, seed, shared=bool(seed & 1), accepts=Accepts(seed >> 1 & 15))
            try:
                storm.run(2000)
                storm.over()
            except BaseException as error:
                error.add_note(f"seed {seed}: run again with SOFTIGB_FUZZ_SEED={seed}")
                raise
            if time.monotonic() > until:
                break
    finally:
        logging.disable(logging.NOTSET)


def test_every_register_with_every_pattern(bench):
    """All of BAR0, word by word, while rings run."""
    setup_both(bench)
    for pattern in (0xFFFFFFFF, 0, 0x5A5A5A5A, 0x02000000):
        for offset in range(0, 0x20000, 4):
            bench.nic.region_write(0, offset, pattern.to_bytes(4, "little"))
            if not offset & 0xFF:
                bench.nic.process()
                bench.wire.give(FRAME)
        bench.clock.advance(1_000_000_000)
    bench.write(0x20, 0x9140 | 1 << 21 | 1 << 26)
    bench.works_again()


def test_a_host_that_is_gone(bench):
    """Accesses after the client has left, and a new client's memory."""
    setup_both(bench)
    bench.nic.detach()
    bench.send(FRAME)
    bench.wire.give(FRAME)
    host = MemoryHost(bus_master=lambda: bench.nic.bus_master)
    host.add(0, bench.memory)
    bench.host = host
    bench.nic.attach(host)
    bench.works_again()
