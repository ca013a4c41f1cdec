"""The link as STATUS, ICR and the PHY tell it, and Linux's way through MDIC (datasheet 3.5 and 8.2)."""

import pytest

CTRL, STATUS, MDIC, ICR, IMS, RCTL = 0, 8, 0x20, 0xC0, 0xD0, 0x100
SLU, RST, PHY_RST = 1 << 6, 1 << 26, 1 << 31
LU, LSC = 2, 4
READY, ERROR = 1 << 28, 1 << 30
BMCR, BMSR, PHYID1, PHYID2, ANAR, ANLPAR, GBCR, GBSR, PAGE = 0, 1, 2, 3, 4, 5, 9, 10, 31
AUTONEG, RESTART, POWER_DOWN, LOOPBACK, RESET = 0x1000, 0x0200, 0x0800, 0x4000, 0x8000
SECOND = 1_000_000_000
FRAME = b"\xff" * 6 + bytes.fromhex("020000000001ffff") + bytes(range(100))


def phy_read(bench, register, address=1):
    bench.write(MDIC, register << 16 | address << 21 | 1 << 27)
    value = bench.read(MDIC)
    assert value & READY
    assert not value & ERROR
    return value & 0xFFFF


def phy_write(bench, register, value, address=1):
    bench.write(MDIC, value | register << 16 | address << 21 | 1 << 26)
    assert bench.read(MDIC) & (READY | ERROR) == READY


def paged(bench, full):
    """igb_read_phy_reg_igp: the whole address goes to the page register first."""
    phy_write(bench, PAGE, full)
    return phy_read(bench, full & 0x1F)


def linked(bench):
    return bool(bench.read(STATUS) & LU)


# --- MDIC


def test_identifier_is_that_of_the_igp3(bench):
    assert phy_read(bench, PHYID1) == 0x02A8
    assert phy_read(bench, PHYID2) & 0xFFF0 == 0x0390


def test_no_phy_at_another_address(bench):
    for address in (0, 2, 31):
        bench.write(MDIC, PHYID1 << 16 | address << 21 | 1 << 27)
        assert bench.read(MDIC) & (READY | ERROR) == READY | ERROR


def test_mdic_can_interrupt(bench):
    bench.read(ICR)
    bench.write(MDIC, BMSR << 16 | 1 << 21 | 1 << 27 | 1 << 29)
    assert bench.read(ICR) == 1 << 9
    bench.write(MDIC, BMSR << 16 | 1 << 21 | 1 << 27)
    assert bench.read(ICR) == 0


@pytest.mark.parametrize("register", range(32))
def test_no_register_is_an_error(bench, register):
    """QEMU's errors at some of them stop igb_get_phy_info half way."""
    phy_read(bench, register)


def test_phy_info_of_linux(bench):
    """igb_get_phy_info_igp: link by BMSR read twice, polarity, MDI-X, and the cable's length by four gains."""
    phy_read(bench, BMSR)
    assert phy_read(bench, BMSR) & 4
    status = paged(bench, 0x11)
    assert status >> 14 == 3, "1000 Mb/s"
    assert paged(bench, 0xB4) & 0x78 == 0, "no pair is reversed"
    assert phy_read(bench, GBSR) & 0x3000 == 0x3000, "both receivers are fine"
    gains = [paged(bench, at) >> 9 for at in (0x11B1, 0x12B1, 0x14B1, 0x18B1)]
    # Linux: index into its table of 128 lengths; the largest and the smallest are left out, the rest must not be 0
    assert all(0 < gain < 113 for gain in gains)


def test_flow_control_is_resolved(bench):
    """igb_config_fc_after_link_up reads both sides' PAUSE bits once autonegotiation is complete."""
    phy_read(bench, BMSR)
    assert phy_read(bench, BMSR) & 0x20
    assert phy_read(bench, ANAR) & 0x400
    assert phy_read(bench, ANLPAR) & 0x400


def test_init_script_writes_do_no_harm(bench):
    for register in (0x2F5B, 0x2F52, 0x2FB1, 0x2FB2, 0x2010, 0x20F0, 0x2000, 0x1F73, 0x1F95, 0x1F9C):
        phy_write(bench, PAGE, register)
        phy_write(bench, register & 0x1F, 0x9018)
    phy_write(bench, PAGE, 0)
    assert phy_read(bench, PHYID1) == 0x02A8


# --- link


def test_link_needs_autonegotiation(make_bench):
    bench = make_bench()
    bench.write(CTRL, SLU)
    phy_write(bench, BMCR, AUTONEG | RESTART)
    assert not linked(bench)
    assert phy_read(bench, BMCR) & RESTART == 0
    assert not phy_read(bench, BMSR) & 0x24
    bench.clock.advance(SECOND)
    assert linked(bench)
    phy_read(bench, BMSR)
    assert phy_read(bench, BMSR) & 0x24 == 0x24


def test_restart_takes_the_link_down_for_a_while(bench):
    bench.read(ICR)
    phy_write(bench, BMCR, AUTONEG | RESTART | 0x140)
    assert not linked(bench)
    assert bench.read(ICR) & LSC
    bench.clock.advance(SECOND)
    assert linked(bench)
    assert bench.read(ICR) & LSC


def test_bmsr_latches_a_lost_link(bench):
    phy_read(bench, BMSR)
    bench.wire.set_link(False)
    bench.wire.set_link(True)
    bench.clock.advance(SECOND)
    assert not phy_read(bench, BMSR) & 4
    assert phy_read(bench, BMSR) & 4


def test_wire_goes_and_comes(bench):
    bench.write(IMS, LSC)
    bench.read(ICR)
    bench.wire.set_link(False)
    assert not linked(bench)
    assert bench.host.intx_level
    assert bench.read(ICR) & LSC
    bench.clock.advance(10 * SECOND)
    assert not linked(bench)
    assert not bench.host.intx_level
    bench.wire.set_link(True)
    bench.clock.advance(SECOND)
    assert linked(bench)
    assert bench.read(ICR) & LSC


def test_flapping_wire_is_one_negotiation(bench):
    for _ in range(20):
        bench.wire.set_link(False)
        bench.wire.set_link(True)
    bench.clock.advance(SECOND)
    assert linked(bench)
    bench.wire.set_link(True)
    bench.clock.advance(SECOND)
    assert linked(bench)


def test_slu_is_needed(bench):
    bench.read(ICR)
    bench.write(CTRL, 0)
    assert not linked(bench)
    bench.write(CTRL, SLU)
    assert linked(bench)
    assert bench.read(ICR) & LSC


def test_power_down(bench):
    """igb_power_down_phy_copper."""
    phy_write(bench, BMCR, phy_read(bench, BMCR) | POWER_DOWN)
    bench.clock.advance(SECOND)
    assert not linked(bench)
    assert not phy_read(bench, BMSR) & 4
    phy_write(bench, BMCR, phy_read(bench, BMCR) & ~POWER_DOWN)
    bench.clock.advance(SECOND)
    assert linked(bench)


def test_software_reset_keeps_the_negotiated_link(bench):
    bench.write(CTRL, RST | SLU)
    assert linked(bench)


def test_phy_reset_by_ctrl(bench):
    phy_write(bench, ANAR, 0x1E1)
    bench.write(STATUS, 0)
    assert bench.read(STATUS) & 0x400 == 0
    bench.write(CTRL, SLU | PHY_RST)
    bench.clock.advance(SECOND)
    assert not linked(bench), "held"
    bench.write(CTRL, SLU)
    bench.clock.advance(SECOND)
    assert linked(bench)
    assert phy_read(bench, ANAR) == 0x0DE1
    assert bench.read(STATUS) & 0x400, "PHYRA"


def test_phy_reset_by_bmcr(bench):
    phy_write(bench, ANAR, 0x1E1)
    phy_write(bench, BMCR, RESET)
    assert phy_read(bench, BMCR) == 0x1140
    assert phy_read(bench, ANAR) == 0x0DE1
    bench.clock.advance(SECOND)
    assert linked(bench)


def test_forced_speed_needs_no_negotiation(bench):
    phy_write(bench, BMCR, 0x0140)
    assert linked(bench)
    bench.wire.set_link(False)
    assert not linked(bench)


# --- loopback


def loop_by_phy(bench):
    """igb_integrated_phy_loopback."""
    phy_write(bench, BMCR, 0x4140)
    bench.write(CTRL, 0x1A41)
    bench.clock.advance(500_000_000)


def loop_by_mac(bench):
    bench.rx_on(1 << 6)


@pytest.mark.parametrize("wire", [True, False])
@pytest.mark.parametrize("way", [loop_by_phy, loop_by_mac])
def test_loopback(bench, way, wire):
    """Frames come back, none leaves, none comes in; no far end is needed."""
    bench.rx_setup()
    bench.tx_setup()
    bench.rx_on()
    bench.wire.set_link(wire)
    way(bench)
    if way is loop_by_phy:
        assert linked(bench)
    for n in range(40):
        bench.tx_put(0, bench.tx_data(FRAME + bytes([n]), n * 0x100))
    bench.tx_kick()
    assert [got.data for got in bench.rx_take()] == [FRAME + bytes([n]) for n in range(40)]
    assert bench.wire.frames == []
    bench.wire.give(FRAME)
    assert bench.rx_take() == []
    assert bench.wire.verdicts[-1].reason.name == "LINK_DOWN"


def test_loopback_of_the_self_test(bench):
    """igb_run_loopback_test: ten rounds of 64 frames through rings of 256, then the cleanup."""
    bench.rx_setup(count=256, buffers=False)
    bench.tx_setup(count=256)
    bench.rx_on(1 << 5)
    loop_by_phy(bench)
    frame = bytearray(b"\xff" * 128 + b"\xaa" * 128)
    frame[138], frame[140] = 0xBE, 0xAF
    bench.rx_buffer = lambda queue, index: 0x100000 + index * 0x400
    for _ in range(10):
        bench.rx_give(0, 64)
        for n in range(64):
            bench.tx_put(0, bench.tx_data(bytes(frame), n * 0x100))
        bench.tx_kick()
        taken = bench.rx_take()
        assert len(taken) == 64
        assert all(got.data == frame for got in taken)
    assert bench.wire.frames == []
    bench.write(RCTL, bench.read(RCTL) & ~0xC0)
    phy_write(bench, BMCR, phy_read(bench, BMCR) & ~LOOPBACK)
    phy_write(bench, BMCR, RESET)
    bench.clock.advance(SECOND)
    bench.write(CTRL, SLU)
    assert linked(bench)
    bench.send(bytes(frame))
    assert bench.wire.frames == [bytes(frame)]


def test_loopback_without_receive_descriptors_is_bounded(bench):
    """With PAUSE on, a guest that talks to itself and gives no descriptors can't fill the server's memory."""
    bench.rx_setup(buffers=False)
    bench.tx_setup(count=64)
    bench.rx_on()
    loop_by_phy(bench)
    bench.write(CTRL, bench.read(CTRL) | 3 << 27)
    for _ in range(400):
        for _ in range(60):
            bench.tx_put(0, bench.tx_data(b"\xff" * 1500))
        bench.tx_kick()
    assert sum(frame.length for frame in bench.nic.rx.rings[0].waiting) < 8 << 20
    assert bench["MPC"]


def test_a_reset_ends_a_phy_reset_that_somebody_left_on(bench):
    """CTRL.RST puts CTRL back too, whatever else is written with it: Linux reads CTRL, sets a bit and writes it back,
    at each step of its reset, and would carry a stray PHY_RST along for ever."""
    bench["CTRL"] = 0xFFFFFFFF & ~(1 << 26)
    bench["CTRL"] = bench["CTRL"] | 1 << 26
    assert not bench["CTRL"] & (1 << 31 | 1 << 2 | 1 << 11)
    bench["CTRL"] = bench["CTRL"] | 1 << 31
    bench["CTRL"] = bench["CTRL"] & ~(1 << 31)
    bench["CTRL"] = bench["CTRL"] | 1 << 6
    bench.clock.advance(1_000_000_000)
    assert bench["STATUS"] & 2
