"""What QEMU's own qtest of igb checks (init, tx, rx, multiple_transfers), step by step against this card.

Its driver leaves more to reset defaults than any other: queues are never enabled, EIAC is never set, transmit
descriptors have no DEXT bit, SRRCTL says advanced with a buffer size of 0, and a frame arrives before its descriptor.
"""

import struct

import pytest

RING = 0x1000
TX_RING, RX_RING, BUFFER = 0x40000, 0x50000, 0x60000
RX_VECTOR, TX_VECTOR = 0, 1
ADDRESS = bytes.fromhex("525400123456")
PACKET = ADDRESS + ADDRESS + bytes(2)
ALL = 0xFFFFFFFF
ENTRIES = RING // 16


class Machine:
    """libqos' part: start_hw and the rings."""

    def __init__(self, bench):
        self.bench = bench
        self.memory = bench.memory
        bench.host.masked.update(range(10))  # it never writes the MSI-X table, so every vector pends
        write = bench.write
        write(0x0000, bench.read(0x0000) | 1 << 26 | 1 << 6)  # CTRL: RST, SLU
        write(0x0020, 0x1200 | 0 << 16 | 1 << 21 | 1 << 26)  # BMCR := autonegotiation, restart
        bench.clock.advance(900_000_000)
        bench.msix()
        write(0x1700, (RX_VECTOR | 0x80) | (TX_VECTOR | 0x80) << 8)  # IVAR0
        assert bench.read(0x0008) & 2, "STATUS.LU"
        write(0x0100, 0)
        write(0x0400, 0)
        for base, ring in ((0x3800, TX_RING), (0x2800, RX_RING)):
            write(base, ring)
            write(base + 0x04, 0)
            write(base + 0x08, RING)
            write(base + 0x18, 0)
            write(base + 0x10, 0)
            if base == 0x3800:
                write(0x0400, 2)  # TCTL.EN
        write(0x5400, int.from_bytes(ADDRESS[:4], "little"))
        write(0x5404, int.from_bytes(ADDRESS[4:], "little") | 1 << 31 | 1 << 18)  # AV, POOL_1
        write(0x280C, 0x02000000)  # SRRCTL: one buffer, advanced
        write(0x5008, 0x8000)  # RFCTL.EXTEN
        write(0x0100, 2)  # RCTL.EN
        write(0x1514, 0x10)  # GPIE.MSIX_MODE
        write(0x00D0, ALL)
        write(0x1524, ALL)

    def pending(self, vector):
        return int.from_bytes(self.bench.nic.region_read(3, 0x2000, 4), "little") >> vector & 1

    def push(self, tail_register, ring, descriptor):
        tail = self.bench.read(tail_register)
        self.memory[ring + 16 * tail : ring + 16 * tail + 16] = descriptor
        self.bench.write(tail_register, (tail + 1) % ENTRIES)
        return bytes(self.memory[ring + 16 * tail : ring + 16 * tail + 16])

    def send_and_verify(self):
        self.memory[BUFFER : BUFFER + 64] = PACKET + bytes(50)
        flags = 1 << 27 | 1 << 24 | 0x00100000 | 64  # RS, EOP, DTYP_D: a legacy descriptor, really
        back = self.push(0x3818, TX_RING, struct.pack("<QII", BUFFER, flags, 0))
        assert self.pending(TX_VECTOR)
        assert back[12] & 1, "DD"
        assert self.bench.wire.frames[-1] == PACKET + bytes(50)

    def receive_and_verify(self):
        self.bench.wire.give(PACKET)
        self.memory[BUFFER : BUFFER + 64] = b"\xee" * 64
        back = self.push(0x2818, RX_RING, struct.pack("<QQ", BUFFER, 0))
        assert self.pending(RX_VECTOR)
        assert back[8] & 1, "DD"
        assert bytes(self.memory[BUFFER : BUFFER + 14]) == PACKET


@pytest.fixture
def machine(make_bench):
    return Machine(make_bench())


def test_init(machine):
    assert machine.bench.nic.drops() == {}


def test_tx(machine):
    machine.send_and_verify()
    assert not machine.pending(RX_VECTOR)


def test_rx(machine):
    machine.receive_and_verify()
    assert not machine.pending(TX_VECTOR)


def test_multiple_transfers(machine):
    """4096 times, so the rings of 256 wrap sixteen times."""
    for _ in range(4096):
        machine.send_and_verify()
        machine.receive_and_verify()
    assert len(machine.bench.wire.frames) == 4096
    assert machine.bench.read(0x3818) == machine.bench.read(0x2818) == 0
