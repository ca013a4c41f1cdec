"""Guest memory that is reached only by messages: every feature works, and accesses that arrive meanwhile are served."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

RST = 1 << 26
SLU = 1 << 6
ENABLE = 1 << 25
FRAME = bytes(Ether(dst="52:54:00:12:34:56", src="02:00:00:00:00:01") / IP() / UDP() / (b"x" * 400))


@pytest.fixture
def distant(make_bench):
    """A card whose guest memory is reached by messages."""
    made = make_bench(shared=False)
    made.link_up()
    return made


class Meanwhile:
    """Does `action` in the middle of the nth access to guest memory (counted from 0)."""

    def __init__(self, bench, nth, action):
        self.count = -1
        self.writes = []
        host = bench.host
        read, write = host.read, host.write

        def step():
            self.count += 1
            if self.count == nth:
                action()

        def hooked_read(addr, length):
            step()
            return read(addr, length)

        def hooked_write(addr, data):
            self.writes.append((self.count + 1, addr, len(data)))
            write(addr, data)
            step()

        self.read, self.write = read, write
        host.read, host.write = hooked_read, hooked_write
        self._host = host

    def over(self):
        self._host.read, self._host.write = self.read, self.write


def raw(bench, offset, value):
    """An access as it arrives inside a message: no `process` follows before the one under way has ended."""
    bench.nic.region_write(0, offset, value.to_bytes(4, "little"))


def test_a_frame_each_way(distant):
    distant.works_again()


@pytest.mark.parametrize("srrctl", [0x02000402, 0x00000402, 0x04000402, 0x0A000402, 0x02000401])
def test_every_kind_of_descriptor(distant, make_bench, srrctl):
    """What lies in memory afterwards is the same as with shared memory."""
    images = []
    for bench in (distant, make_bench()):
        bench.link_up()
        bench["RLPML"] = 4000
        bench.rx_setup(srrctl=srrctl)
        bench.rx_on(1 << 5)
        bench.wire.give(FRAME, FRAME + bytes(1500), FRAME)
        images.append(bytes(bench.memory))
    assert images[0] == images[1]
    assert any(images[0][0x100000:0x101000])


def setup_both(bench):
    bench.rx_setup(count=32)
    bench.tx_setup(count=32)
    bench.rx_on()


def busy(bench, meanwhile=lambda: None):
    """Work for both rings: two frames to send, the second in parts and reported, and frames that come."""
    bench.tx_put(0, bench.tx_data(FRAME, 0))
    bench.tx_put(0, bench.tx_data(FRAME[:100], 0x1000, flags=0x22000000, total=len(FRAME)))
    bench.tx_put(0, bench.tx_data(FRAME[100:], 0x2000, total=len(FRAME)))
    bench.tx_kick()
    bench.wire.give(FRAME, FRAME)


@pytest.mark.parametrize("nth", range(12))
def test_reset_inside_dma(distant, nth):
    """CTRL.RST while the card waits for guest memory: nothing is stored after it, and the next driver finds nothing
    of the last one's."""
    bench = distant
    setup_both(bench)
    meanwhile = Meanwhile(bench, nth, lambda: raw(bench, 0, RST | SLU))
    busy(bench)
    meanwhile.over()
    assert meanwhile.count >= nth, "the reset never happened"
    assert [w for w in meanwhile.writes if w[0] > nth] == []
    assert bench["RDH"] == bench["TDH"] == 0
    assert bench["RCTL"] == 0
    assert bench["ICR"] & 0x81 == 0  # no TXDW, no RXT0 of before
    bench.works_again()


@pytest.mark.parametrize("nth", range(12))
@pytest.mark.parametrize(
    "accesses",
    [
        [(0xE028, 0), (0xE028, ENABLE)],
        [(0xC028, 0), (0xC028, ENABLE)],
        [(0xC010, 0xFFFF), (0xE010, 0xFFFF)],
        [(0xC018, 0xFFFF), (0xE018, 0xFFFF)],
        [(0xC008, 0), (0xE008, 0)],
        [(0xC000, 0xFFFFFF80), (0xE000, 0xFFFFFF80)],
        [(0x100, 0), (0x400, 0)],
        [(0xC028, 0)],
    ],
)
def test_ring_registers_written_inside_dma(distant, nth, accesses):
    """Heads, tails, lengths, bases and enables change under the card's hands: no harm, and a reset mends it."""
    bench = distant
    setup_both(bench)
    meanwhile = Meanwhile(bench, nth, lambda: [raw(bench, at, value) for at, value in accesses])
    busy(bench)
    meanwhile.over()
    bench.works_again()


@pytest.mark.parametrize("accesses", [[(0xC010, 0xFFFF)], [(0xC028, 0)], [(0, RST | SLU)], [(0xC008, 0)]])
@pytest.mark.parametrize("nth", range(6))
def test_waiting_frames_move_while_the_ring_changes(distant, nth, accesses):
    """Frames that waited in the packet buffer are written, and in the middle of that the ring goes away."""
    bench = distant
    bench.rx_setup(count=32, buffers=False)
    bench.rx_on()
    bench.wire.give(*[FRAME] * 5)
    meanwhile = Meanwhile(bench, nth, lambda: [raw(bench, at, value) for at, value in accesses])
    bench.rx_give(0, 8)
    meanwhile.over()
    assert meanwhile.count >= nth
    bench.works_again()


@pytest.mark.parametrize("mixed", [True, False])
def test_rings_shared_and_buffers_not(make_bench, mixed):
    """A head beyond the ring, written while a buffer is filled, stops the card from going on there."""
    bench = make_bench(shared=False)
    bench.link_up()
    bench.host.remove(0)
    bench.host.add(0, bench.memory[:0x100000], shared=mixed)
    bench.host.add(0x100000, bench.memory[0x100000:], shared=not mixed)
    setup_both(bench)
    meanwhile = Meanwhile(bench, 1, lambda: [raw(bench, 0xC010, 0xFFFF), raw(bench, 0xE010, 0xFFFF)])
    busy(bench)
    meanwhile.over()
    assert bench["RDH"] == 0xFFFF or bench["RDH"] < 32
    bench.works_again()


@given(
    nth=st.integers(0, 20),
    accesses=st.lists(
        st.tuples(
            st.sampled_from([0, 0x100, 0x400, 0x5000, 0xD8, *range(0xC000, 0xC040, 4), *range(0xE000, 0xE040, 4)]),
            st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([0, RST | SLU, ENABLE, 1, 31, 32])),
        ),
        max_size=4,
    ),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_inside_dma(make_bench, nth, accesses):
    bench = make_bench(shared=False)
    bench.link_up()
    setup_both(bench)
    bench.wire.give(*[FRAME] * 3)
    meanwhile = Meanwhile(bench, nth, lambda: [raw(bench, at, value) for at, value in accesses])
    busy(bench)
    bench.rx_give(0, 1)
    meanwhile.over()
    bench.clock.advance(1_000_000)
    bench.works_again()


@pytest.mark.parametrize("cut", [0x10048, 0x20048, 0x100020, 0x600020])
def test_memory_in_two_pieces(make_bench, cut):
    """A ring or a buffer that reaches from one map into the next."""
    bench = make_bench()
    bench.link_up()
    bench.host.remove(0)
    bench.host.add(0, bench.memory[:cut])
    bench.host.add(cut, bench.memory[cut:])
    bench.works_again()


@pytest.mark.parametrize("nth", range(12))
def test_function_level_reset_inside_dma(distant, nth):
    bench = distant
    setup_both(bench)
    meanwhile = Meanwhile(bench, nth, lambda: bench.nic.config_write(0xA8, (0x8000).to_bytes(2, "little")))
    busy(bench)
    meanwhile.over()
    assert meanwhile.count >= nth
    assert [w for w in meanwhile.writes if w[0] > nth] == []
    bench.command(6)
    bench.works_again()


def test_a_ring_that_is_unmapped_while_a_buffer_is_waited_for_isnt_written_to(make_bench):
    """The buffer lies in memory behind messages, the ring in memory that is shared, and the client takes that back
    before it answers: its descriptor must stay as it was."""
    bench = make_bench()
    bench.link_up()
    ring = memoryview(bytearray(4096))
    bench.host.add(0x10_0000_0000, ring)
    far = memoryview(bytearray(4096))
    bench.host.add(0x20_0000_0000, far, shared=False)
    bench.tx_setup()
    bench["TXDCTL"] = 0
    bench["TDBAL"], bench["TDBAH"], bench["TDLEN"] = 0, 0x10, 4096
    bench["TXDCTL"] = 1 << 25
    ring[:16] = struct.pack("<QII", 0x20_0000_0000, 0x2B300000 | 100, 100 << 14)
    before = bytes(ring)
    read = bench.host.read

    def unmapping(addr: int, length: int) -> memoryview:
        result = read(addr, length)
        if addr == 0x20_0000_0000:
            bench.host.remove(0x10_0000_0000)
        return result

    bench.host.read = unmapping
    bench["TDT"] = 1
    assert bytes(ring) == before
    assert bench.nic.complaints.stops == 1
