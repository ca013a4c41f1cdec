"""Registers as the bus sees them: Linux's self-test table, access sizes, the I/O window, resets, semaphores."""

import itertools
import logging
import struct

import pytest

from igb_device.nic import Nic
from pyvfio_user.device import Reset

ALL = 0xFFFFFFFF
CTRL, STATUS, EECD, RCTL, TCTL, ICR, SWSM, SW_FW_SYNC = 0, 8, 0x10, 0x100, 0x400, 0xC0, 0x5B50, 0x5B5C
RST, SLU = 1 << 26, 1 << 6


def queues(low, high, at):
    """A queue register at both of its places: queues 0 to 3 of old, 4 to 15 where they live."""
    return [low + at + 0x100 * n for n in range(4)] + [high + 0x100 + at + 0x40 * k for k in range(12)]


def rx(at):
    return queues(0x2800, 0xC000, at)


def tx(at):
    return queues(0x3800, 0xE000, at)


# ethtool's register test on an 82576: offsets, mask of what is compared, mask of what is written
TABLE = [
    ([0x28], ALL, ALL),
    ([0x2C, 0x30], 0xFFFF, ALL),
    ([0x38], ALL, ALL),
    (rx(0), 0xFFFFFF80, ALL),
    (rx(4), ALL, ALL),
    (rx(8), 0x000FFFF0, 0x000FFFFF),
    (rx(0x18), 0xFFFF, 0xFFFF),
    ([0x2168], 0xFFF0, 0xFFF0),
    ([0x170], 0xFFFF, 0xFFFF),
    ([0x410], 0x3FFFFFFF, 0x3FFFFFFF),
    (tx(0), 0xFFFFFF80, ALL),
    (tx(4), ALL, ALL),
    (tx(8), 0x000FFFF0, 0x000FFFFF),
    ([0x5400 + 8 * i for i in range(16)], ALL, ALL),
    ([0x5404 + 8 * i for i in range(16)], 0x83FFFFFF, ALL),
    ([0x54E0 + 8 * i for i in range(8)], ALL, ALL),
    ([0x54E4 + 8 * i for i in range(8)], 0x83FFFFFF, ALL),
    ([0x5200 + 4 * i for i in range(128)], ALL, ALL),
]
PATTERNS = (0x5A5A5A5A, 0xA5A5A5A5, 0, ALL)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: hex(row[0][0]))
def test_self_test_patterns(bench, row):
    """Receiver and queues are on while bases and tails hold garbage: that must not matter."""
    offsets, read_mask, write_mask = row
    bench.write(RCTL, 0x04CFB0FE)
    for offset in [*rx(0x28), *tx(0x28)]:
        bench.write(offset, 0x02000000)
    for offset, pattern in itertools.product(offsets, PATTERNS):
        bench.write(offset, pattern & write_mask)
        assert bench.read(offset) & read_mask == pattern & write_mask & read_mask, hex(offset)
        bench.wire.give(bytes(64))


def test_self_test_of_rctl_and_tctl(bench):
    for value in (0, 0x000FB0FA, 0x04CFB0FE):
        bench.write(RCTL, value)
        assert bench.read(RCTL) & 0x04CFB0FE == value & 0x04CFB0FE
    bench.write(RCTL, 0)
    assert bench.read(RCTL) == 0
    bench.write(TCTL, 0)
    assert bench.read(TCTL) == 0


def test_status_is_read_only(bench):
    before = bench.read(STATUS) & 0x7FFFF3FF
    bench.write(STATUS, 0x7FFFF3FF)
    assert bench.read(STATUS) & 0x7FFFF3FF == before
    bench.write(STATUS, 0)
    assert bench.read(STATUS) & 0x7FFFFBFF == before


def test_both_places_of_a_queue_are_one_register(bench):
    for n in range(4):
        for at in (0x00, 0x04, 0x08, 0x0C, 0x10, 0x18, 0x28):
            for low, high in ((0x2800, 0xC000), (0x3800, 0xE000)):
                if low == 0x3800 and at == 0x0C:
                    continue
                bench.write(low + 0x100 * n + at, 0x1280)
                assert bench.read(high + 0x40 * n + at) == bench.read(low + 0x100 * n + at)
                bench.write(high + 0x40 * n + at, 0x100)
                assert bench.read(low + 0x100 * n + at) & 0xFFFF == 0x100


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0xC028, 0x02010000),  # RXDCTL: queue 0 is on, so drivers of old find it so
        (0xC068, 0x00010000),
        (0xE028, 0x02000000),  # TXDCTL
        (0xE068, 0),
        (0x2404, 0x40),  # RXPBS: 64 KB, which Linux takes its watermarks from
        (0x3404, 0x28),
        (0x2160, 0),
        (0xC00C, 0x400),  # SRRCTL: legacy descriptors
        (0x5000, 0x300),  # RXCSUM: both checks on
        (RCTL, 0),
        (0x5818, 0),  # MRQC
        (0xD0, 0),
        (0x1524, 0),
        (0x18, 0),  # CTRL_EXT: link mode copper
    ],
)
def test_reset_values(make_bench, offset, value):
    assert make_bench().read(offset) == value


def test_unmodelled_registers_are_storage_counted_by_name_and_quiet(bench, caplog):
    caplog.set_level(logging.DEBUG)
    bench.nic.regs.touched.clear()
    bench.write(0x24, 0x123)  # SCTL
    bench.read(0x24)
    bench.read(0x1FFFC)  # nothing is there
    assert bench.nic.regs.touched == {"SCTL": 2, "0x1fffc": 1}
    assert caplog.records == []


def test_everywhere_reads(bench, caplog):
    """`ethtool -d` and worse: all of BAR0 can be read, and what nothing is at reads 0."""
    for offset in range(0, 0x20000, 4):
        bench.nic.region_read(0, offset, 4)
    assert bench.read(0x1F000) == 0
    assert len(bench.nic.regs.touched) < 20000
    assert caplog.records == []


def test_io_window(bench):
    """IOADDR and IODATA in BAR2."""
    nic = bench.nic
    nic.region_write(2, 0, struct.pack("<I", 0x5400))
    assert nic.region_read(2, 0, 4) == struct.pack("<I", 0x5400)
    assert nic.region_read(2, 4, 4) == bytes.fromhex("52540012")
    nic.region_write(2, 4, struct.pack("<I", 0x11223344))
    assert bench.read(0x5400) == 0x11223344
    assert nic.region_read(2, 4, 1) == b"\x44"
    assert nic.region_read(2, 6, 2) == b"\x22\x11"
    for address in (0x20000, ALL):
        nic.region_write(2, 0, struct.pack("<I", address))
        nic.region_write(2, 4, bytes(4))
        assert nic.region_read(2, 4, 4) == bytes(4)
    assert nic.region_read(2, 8, 8) == bytes(8)


def test_odd_sizes(bench):
    """Registers are 32 bits wide: other reads get their bytes of them, wider writes all registers they cover."""
    nic = bench.nic
    nic.region_write(0, 0x5400, bytes(range(1, 9)))
    assert bench.read(0x5400) == 0x04030201
    assert bench.read(0x5404) & 0xFFFF == 0x0605
    assert nic.region_read(0, 0x5401, 2) == b"\2\3"
    assert nic.region_read(0, 0x5403, 3) == b"\4\5\6"
    assert nic.region_read(0, 0x5400, 8)[:6] == bytes(range(1, 7))
    nic.region_write(0, 0x5401, b"\xff")
    assert bench.read(0x5400) == 0x04030201
    assert nic.region_read(0, 0x1FFFF, 1) == b"\0"
    nic.region_write(0, 0x1FFFE, b"\xff\xff")
    assert len(nic.region_read(0, 0, 0x20000)) == 0x20000


def test_other_regions(bench):
    """The flash is empty, the MSI-X table holds what is written, absent BARs don't answer with an exception."""
    assert bench.nic.region_read(1, 0x100, 4) == b"\xff" * 4
    bench.nic.region_write(1, 0x100, bytes(4))
    bench.nic.region_write(3, 0, struct.pack("<IIII", 0xFEE00000, 0, 0x4021, 0))
    assert bench.nic.region_read(3, 0, 16) == struct.pack("<IIII", 0xFEE00000, 0, 0x4021, 0)
    assert bench.nic.region_read(3, 0x2000, 8) == bytes(8)
    assert [region.size for region in bench.nic.regions[:4]] == [0x20000, 0x20000, 0x20, 0x4000]


# --- resets


def test_software_reset(bench):
    """CTRL.RST: everything but the PHY, packet buffer sizes and EITR; the address comes from the NVM again."""
    bench.write(0x5400, 0)
    bench.write(0x5404, 0)
    bench.write(0x2404, 0x22)
    bench.write(0x3404, 0x14)
    bench.write(0x20, 0x04240DE0 & ~0x20 | 1 << 21)  # MDIC: ANAR := 0x0DC0
    bench.write(RCTL, 0x8002)
    bench.write(0xC028, 0)
    bench.write(0x5608, 5)
    bench.rx_setup(3)
    bench.write(CTRL, RST | SLU)
    assert bench.read(CTRL) & RST == 0
    assert bench.read(RCTL) == 0
    assert bench.read(0x5608) == 0
    assert bench.read(0xC028) == 0x02010000
    assert bench.read(0xC0E8) == 0x00010000
    assert bench.read(0xC0D8) == 0, "tail of queue 3"
    assert bench.read(0x2404) == 0x22
    assert bench.read(0x3404) == 0x14
    assert bench.read(0x5400).to_bytes(4, "little") == bytes.fromhex("52540012")
    assert bench.read(0x5404) == 0x80005634
    bench.write(0x20, 0x08240000)
    assert bench.read(0x20) & 0xFFFF == 0x0DC0, "the PHY isn't reset"


@pytest.mark.parametrize("kind", list(Reset))
def test_every_reset_gives_a_fresh_card(bench, make_bench, kind):
    fresh = make_bench()
    bench.rx_setup(count=8)
    bench.rx_on()
    bench.wire.give(bytes(64))
    bench.write(IMS := 0xD0, 4)
    bench.nic.reset(kind)
    for offset in (CTRL, RCTL, TCTL, IMS, ICR & 0, 0xC000, 0xC008, 0xC010, 0xC018, 0x5400, 0x5404, 0x4074, 0x1514):
        assert bench.read(offset) == fresh.read(offset), hex(offset)
    assert not bench.nic.bus_master
    bench.command(6)
    bench.link_up()
    bench.rx_setup(count=8)
    bench.rx_on()
    bench.wire.give(b"\xff" * 64)
    assert len(bench.rx_take()) == 1


def test_flr_by_config_space(bench):
    bench.write(RCTL, 0x8002)
    bench.nic.config_write(0xA8, (0x8000).to_bytes(2, "little"))  # PCIe Device Control, Initiate FLR
    assert bench.read(RCTL) == 0


def test_reset_flow_of_linux(bench):
    """What igb_reset_hw polls for is there at once."""
    assert bench.read(STATUS) & 1 << 19
    bench.write(CTRL, bench.read(CTRL) | 4)
    assert bench.read(STATUS) & 1 << 19 == 0
    bench.write(CTRL, bench.read(CTRL) | RST)
    assert bench.read(EECD) & 0x200, "AUTO_RD"
    assert bench.read(STATUS) & 1 << 19
    assert bench.read(0x1010) & 1 << 18, "CFG_DONE"
    bench.write(CTRL, bench.read(CTRL) | 1 << 31)
    bench.write(CTRL, bench.read(CTRL) & ~(1 << 31))
    assert bench.read(0x1010) & 1 << 18


def test_no_dma_while_master_is_disabled(bench):
    """CTRL.GIO_MASTER_DISABLE stops the rings, and they go on when it is gone."""
    bench.rx_setup()
    bench.tx_setup()
    bench.rx_on()
    bench.write(CTRL, SLU | 4)
    bench.send(b"\xff" * 64)
    bench.wire.give(b"\xff" * 64)
    assert bench.wire.frames == bench.rx_take() == []
    bench.write(CTRL, SLU)
    assert len(bench.wire.frames) == len(bench.rx_take()) == 1


def test_link_of_drivers_that_touch_no_phy(make_bench):
    """CTRL.RST with SLU, then STATUS.LU."""
    bench = make_bench()
    assert bench.read(STATUS) & 2 == 0
    bench.write(CTRL, RST | SLU)
    bench.clock.advance(900_000_000)
    status = bench.read(STATUS)
    assert status & 2
    assert status & 1, "full duplex"
    assert status >> 6 & 3 == 2, "1000 Mb/s"


def test_semaphores(bench):
    """SWSM.SMBI is taken by reading it; SWESMBI and SW_FW_SYNC hold what is written."""
    assert bench.read(SWSM) & 1 == 0
    assert bench.read(SWSM) & 1 == 1
    bench.write(SWSM, bench.read(SWSM) | 2)
    assert bench.read(SWSM) & 2
    bench.write(SWSM, 0)
    assert bench.read(SWSM) & 3 == 0
    bench.write(SW_FW_SYNC, 0x00020002)
    assert bench.read(SW_FW_SYNC) == 0x00020002


def test_register_accesses_touch_no_memory(bench):
    """Reply first: an access only notes what is to be done. DMA begins with `process`."""
    bench.rx_setup()
    bench.tx_setup()
    bench.rx_on()
    bench.tx_put(0, bench.tx_data(bytes(64)))
    nic, host = bench.nic, bench.host
    touched = []
    host.read = lambda *a: touched.append(a)
    host.write = lambda *a: touched.append(a)
    host.view = lambda *a: touched.append(a)
    nic.region_write(0, 0xE018, struct.pack("<I", 1))
    for value in (0, SLU, 0, SLU, SLU | 1 << 31, SLU, SLU | RST):
        nic.region_write(0, CTRL, struct.pack("<I", value))
    for offset in range(0, 0x20000, 4):
        nic.region_write(0, offset, b"\xff\xff\xff\x7f")
    assert touched == []


def test_time_and_host_come_from_outside(make_bench):
    """Before a client is there and after it has gone, accesses and time do no harm."""
    bench = make_bench()
    bench.nic.detach()
    bench.link_up()
    bench.write(0xE018, 5)
    bench.wire.give(bytes(64))
    bench.write(0xD0, ALL)
    bench.write(0xC8, ALL)
    nic = Nic(bench.clock, bytes.fromhex("020000000001"))
    nic.region_write(0, 0, struct.pack("<I", SLU))
    nic.process()
    bench.clock.advance(1_000_000_000)
    assert int.from_bytes(nic.region_read(0, STATUS, 4), "little") & 2 == 0, "no wire, no link"


def test_empty_rings_with_garbage_for_a_base(bench):
    """A ring that is half set up isn't looked for in memory: it works once it is complete."""
    bench.rx_setup(buffers=False)
    bench.tx_setup()
    bench.rx_on()
    for base in (0xC000, 0xE000):
        bench.write(base, 0xFFFFFF80)
        bench.write(base + 4, ALL)
    bench.wire.give(b"\xff" * 64)
    bench.write(0xE018, 0)
    bench.write(CTRL, SLU)
    assert bench.nic.drops() == {}
    bench.write(0xC000, 0x10000)
    bench.write(0xC004, 0)
    bench.write(0xE000, 0x20000)
    bench.write(0xE004, 0)
    bench.rx_give(0, 4)
    bench.send(b"\xff" * 64)
    assert len(bench.rx_take()) == len(bench.wire.frames) == 1


def test_a_function_level_reset_frees_the_semaphores(bench):
    """CTRL.RST doesn't: software that holds one may use it to reset. After an FLR nobody is left who holds any, and a
    driver that found one taken would give up at probe."""
    bench.write(SWSM, 3)
    bench.write(SW_FW_SYNC, 0x00020002)
    bench.write(CTRL, 1 << 26)
    assert bench.read(SW_FW_SYNC) == 0x00020002
    control = bench.nic.config.offset("pcie", "device_control")
    bench.nic.config_write(control, (1 << 15).to_bytes(2, "little"))
    assert bench.read(SWSM) & 3 == 0
    assert bench.read(SW_FW_SYNC) == 0
