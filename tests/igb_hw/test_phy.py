"""The PHY's registers, read as Linux's igb reads them (e1000_phy.c), with Linux's own constants typed here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igb_hw import phy
from igb_hw.personality import I82576
from igb_hw.register import Register


def select(offset: int) -> int:
    """What igb_read_phy_reg_igp does: page select gets the whole offset, MDIC its low five bits."""
    return phy.address(offset if offset > 0xF else 0, offset & 0x1F)


def reads(speed: int = 1000, full_duplex: bool = True) -> dict[int, int]:
    return {**phy.PHY.reset_values(), **phy.link_up_values(speed, full_duplex)}


def test_identity() -> None:
    values = phy.PHY.reset_values()
    assert values[2] == 0x02A8
    assert values[3] & 0xFFF0 == 0x0390
    assert values[2] << 16 | values[3] == I82576.phy_id
    assert phy.PHY_ADDRESS == I82576.phy_address == 1


def test_all_32_registers_have_a_name() -> None:
    for at in range(32):
        register = phy.PHY.lookup(at)
        assert register is not None
        assert phy.PHY[register.name] is register


def test_pages() -> None:
    assert select(0x11) == 0x11
    assert select(0xB4) == 0xB4
    assert select(0x11B1) == 0x11B1
    assert phy.address(0x11B1, 1) == 1  # registers below 16 are on every page
    assert phy.address(0x11B1, 0x1F) == 0x1F
    assert phy.PHY.lookup(select(0x2F5B)) is None  # tuning


@given(st.integers(0, 0xFFFF), st.integers(0, 31))
def test_addresses_stay_in_16_bits_and_keep_the_register(page: int, register: int) -> None:
    full = phy.address(page, register)
    assert 0 <= full <= 0xFFFF
    assert full & 0x1F == register


def test_a_gigabit_link_as_the_driver_sees_it() -> None:
    values = reads()
    assert values[1] & 0x0004  # link
    assert values[1] & 0x0020  # autonegotiation complete
    status = values[select(0x11)]
    assert status & 0xC000 == 0xC000  # 1000
    assert status & 0x0800  # MDI-X
    assert values[select(0xB4)] & 0x0078 == 0  # polarity normal
    assert values[0x0A] & 0x3000 == 0x3000  # both receivers are fine
    assert values[0x0A] & 0x0800  # the partner can do 1000 full duplex
    assert values[0x05] & 0x0400  # the partner can do PAUSE
    assert not values[select(0x13)] & 0x8000  # no downshift


def test_cable_length_is_sensible() -> None:
    values = reads()
    # The first row of Linux's table of lengths in metres, indexed by bits 15:9.
    table = [0, 0, 0, 0, 0, 0, 0, 0, 3, 5, 8, 11, 13, 16, 18, 21]
    metres = []
    for offset in (0x11B1, 0x12B1, 0x14B1, 0x18B1):
        index = values[select(offset)] >> 9 & 0x7F
        assert 0 < index < len(table)
        metres.append(table[index])
    length = (sum(metres) - min(metres) - max(metres)) // 2
    assert 1 <= length <= 20


@pytest.mark.parametrize(("speed", "bits"), [(10, 0x4000), (100, 0x8000), (1000, 0xC000)])
@pytest.mark.parametrize("full", [False, True])
def test_speed_and_duplex(speed: int, bits: int, full: bool) -> None:
    values = reads(speed, full)
    assert values[0x11] & 0xC000 == bits
    assert bool(values[0x11] & 0x0200) == full
    assert bool(values[0x0A] & 0x3000) == (speed == 1000)


def test_a_speed_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="2500"):
        phy.link_up_values(2500)


def test_without_a_link() -> None:
    values = {**reads(), **phy.link_down_values()}
    assert not values[1] & 0x0024
    assert not values[0x11] & 0xC000
    assert values == phy.PHY.reset_values()


def test_what_the_driver_writes_is_stored() -> None:
    masks = phy.PHY.write_masks()
    assert masks[0] == 0x7FFF & ~0x0200 & ~0x003F  # reset and restart clear themselves, the rest is reserved
    assert masks[1] == masks[2] == masks[3] == 0
    assert masks[4] & 0x0DE0 == 0x0DE0
    assert masks[9] & 0x1F00 == 0x1F00
    assert masks[0x12] & 0x3000 == 0x3000
    assert masks[0x19] & 0x0006 == 0x0006
    assert masks[0x1F] == 0xFFFF
    for at, mask in masks.items():
        assert 0 <= mask <= 0xFFFF, hex(at)


def test_bits_of_the_standard() -> None:
    assert phy.BMCR["RESET"] == 0x8000
    assert phy.BMCR["LOOPBACK"] == 0x4000
    assert phy.BMCR["AUTO_NEG_EN"] == 0x1000
    assert phy.BMCR["POWER_DOWN"] == 0x0800
    assert phy.BMCR["RESTART_AUTO_NEG"] == 0x0200
    assert phy.BMCR["FULL_DUPLEX"] == 0x0100
    assert phy.BMCR["SPEED_1000"] == 0x0040
    assert phy.BMCR["SPEED_100"] == 0x2000
    assert phy.BMSR["LINK_STATUS"] == 0x0004
    assert phy.BMSR["AUTONEG_COMPLETE"] == 0x0020
    assert phy.ANAR["PAUSE"] == 0x0400
    assert phy.ANAR["ASM_DIR"] == 0x0800
    assert phy.GBCR["FD_CAPS"] == 0x0200
    assert phy.GBSR["LOCAL_RX_STATUS"] == 0x2000
    assert phy.GBSR["REMOTE_RX_STATUS"] == 0x1000
    assert phy.POWER_MGMT["D0_LPLU"] == 0x0002
    assert phy.POWER_MGMT["SMART_SPEED"] == 0x0080


@given(st.sampled_from([register for register in phy.PHY if register.fields]), st.integers(0, 0xFFFF))
def test_construct_and_masks_read_the_same(register: Register, value: int) -> None:
    parsed = register.layout.parse(value.to_bytes(2, "little"))
    assert register.decode(value) == {item.name: parsed[item.name] for item in register.fields}
    assert register.format(value).startswith(f"{value:#06x}")


def test_unknown_names() -> None:
    assert phy.PHY["bmcr"] is phy.BMCR
    assert phy.PHY["PHY_1000T_STATUS"] is phy.GBSR
    with pytest.raises(KeyError, match="NOPE"):
        phy.PHY["NOPE"]
