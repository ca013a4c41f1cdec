"""The PHY, an IGP03E1000: 82576 datasheet 8.25 and IEEE 802.3 clause 22 for registers 0 to 15.

Registers 16 to 30 are banked by register 31, into which a driver writes the whole address (page and register) before
it accesses the register's low five bits through MDIC. `address` does that sum. Registers 0 to 15 are on every page.
Linux's init script writes some fifty tuning registers (0x2F5B and on): none has an effect, `known` is False for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .register import Access, Register, field

RO, SC = Access.RO, Access.SC

PHY_ADDRESS: Final = 1
"""Address of the internal PHY in MDIC."""
PAGE_SELECT: Final = 0x1F
_FIRST_PAGED = 0x10
_PAGE_MASK = 0xFFE0
_REGISTER_MASK = 0x1F


def address(page_select: int, register: int) -> int:
    """The full address of the register that MDIC means, given what register 31 holds."""
    register &= _REGISTER_MASK
    if _FIRST_PAGED <= register < PAGE_SELECT:
        return page_select & _PAGE_MASK | register
    return register


def _phy(name: str, at: int, doc: str, **more: Any) -> Register:
    return Register(name, at, doc, "8.25", bits=16, **more)


BMCR = _phy(
    "BMCR",
    0x00,
    "Control",
    reset=0x1140,
    also=("PHY_CONTROL", "PCTRL"),
    fields=(
        field("SPEED_1000", 6, doc="with SPEED_100: 10: 1000, 01: 100, 00: 10 Mb/s"),
        field("COLLISION_TEST", 7),
        field("FULL_DUPLEX", 8),
        field("RESTART_AUTO_NEG", 9, access=SC),
        field("ISOLATE", 10),
        field("POWER_DOWN", 11),
        field("AUTO_NEG_EN", 12),
        field("SPEED_100", 13),
        field("LOOPBACK", 14),
        field("RESET", 15, access=SC),
    ),
)
BMSR = _phy(
    "BMSR",
    0x01,
    "Status",
    reset=0x7949,
    also=("PHY_STATUS", "PSTATUS"),
    fields=(
        field("EXTENDED_CAPS", 0, access=RO),
        field("JABBER_DETECT", 1, access=RO),
        field("LINK_STATUS", 2, access=RO, doc="latched low until read"),
        field("AUTONEG_CAPS", 3, access=RO),
        field("REMOTE_FAULT", 4, access=RO),
        field("AUTONEG_COMPLETE", 5, access=RO),
        field("PREAMBLE_SUPPRESS", 6, access=RO),
        field("EXTENDED_STATUS", 8, access=RO),
        field("10T_HD", 11, access=RO),
        field("10T_FD", 12, access=RO),
        field("100X_HD", 13, access=RO),
        field("100X_FD", 14, access=RO),
    ),
)
PHYID1 = _phy("PHYID1", 0x02, "Identifier 1", reset=0x02A8, access=RO, also=("PHY_ID1",))
PHYID2 = _phy("PHYID2", 0x03, "Identifier 2, the low 4 bits a revision", reset=0x0391, access=RO, also=("PHY_ID2",))
_ABILITY = (
    ("SELECTOR", 0, 5),
    ("10T_HD", 5, 1),
    ("10T_FD", 6, 1),
    ("100TX_HD", 7, 1),
    ("100TX_FD", 8, 1),
    ("100T4", 9, 1),
    ("PAUSE", 10, 1),
    ("ASM_DIR", 11, 1),
    ("REMOTE_FAULT", 13, 1),
)
ANAR = _phy(
    "ANAR",
    0x04,
    "Auto-Negotiation Advertisement",
    reset=0x0DE1,
    also=("PHY_AUTONEG_ADV", "ANA"),
    fields=(*(field(name, lsb, width) for name, lsb, width in _ABILITY), field("NEXT_PAGE", 15)),
)
ANLPAR = _phy(
    "ANLPAR",
    0x05,
    "Auto-Negotiation Link Partner Ability",
    also=("PHY_LP_ABILITY",),
    fields=(
        *(field(name, lsb, width, RO) for name, lsb, width in _ABILITY),
        field("ACKNOWLEDGE", 14, access=RO),
        field("NEXT_PAGE", 15, access=RO),
    ),
)
ANER = _phy(
    "ANER",
    0x06,
    "Auto-Negotiation Expansion",
    reset=0x0004,
    also=("PHY_AUTONEG_EXP",),
    fields=(
        field("LP_AUTONEG_ABLE", 0, access=RO),
        field("PAGE_RECEIVED", 1, access=Access.RC),
        field("NEXT_PAGE_ABLE", 2, access=RO),
        field("LP_NEXT_PAGE_ABLE", 3, access=RO),
        field("PARALLEL_DETECTION_FAULT", 4, access=Access.RC),
    ),
)
ANNPTR = _phy("ANNPTR", 0x07, "Auto-Negotiation Next Page Transmit", reset=0x2001)
ANLPRNP = _phy("ANLPRNP", 0x08, "Auto-Negotiation Link Partner Next Page", access=RO)
GBCR = _phy(
    "GBCR",
    0x09,
    "1000BASE-T Control",
    reset=0x0300,
    also=("PHY_1000T_CTRL", "GCON"),
    fields=(
        field("HD_CAPS", 8, doc="advertise half duplex"),
        field("FD_CAPS", 9, doc="advertise full duplex"),
        field("REPEATER_DTE", 10),
        field("MS_VALUE", 11, doc="with MS_ENABLE: master"),
        field("MS_ENABLE", 12),
        field("TEST_MODE", 13, 3),
    ),
)
GBSR = _phy(
    "GBSR",
    0x0A,
    "1000BASE-T Status",
    also=("PHY_1000T_STATUS", "GSTATUS"),
    fields=(
        field("IDLE_ERROR_COUNT", 0, 8, Access.RC),
        field("LP_HD_CAPS", 10, access=RO),
        field("LP_FD_CAPS", 11, access=RO),
        field("REMOTE_RX_STATUS", 12, access=RO),
        field("LOCAL_RX_STATUS", 13, access=RO),
        field("MS_CONFIG_RES", 14, access=RO, doc="master"),
        field("MS_CONFIG_FAULT", 15, access=Access.RC),
    ),
)
ESTATUS = _phy(
    "ESTATUS",
    0x0F,
    "Extended Status",
    reset=0x3000,
    also=("PHY_EXT_STATUS",),
    fields=(field("1000T_HD", 12, access=RO), field("1000T_FD", 13, access=RO)),
)
PORT_CONFIG = _phy(
    "PORT_CONFIG",
    0x10,
    "Port Configuration",
    reset=0x0120,
    also=("PPCONF",),
    fields=(
        field("PRE_EN", 5),
        field("SMART_SPEED", 7),
        field("TP_FEXT", 8),
        field("LINK_DIS", 13, doc="no link"),
        field("RSV", 0, 5),
        field("RSV2", 6),
        field("RSV3", 9, 4),
        field("RSV4", 14, 2),
    ),
)
PORT_STATUS = _phy(
    "PORT_STATUS",
    0x11,
    "Port Status",
    also=("PPSTAT",),
    fields=(
        field("AUTONEG_FAILED", 0, access=RO),
        field("POLARITY_REVERSED", 1, access=RO),
        field("FULL_DUPLEX", 9, access=RO),
        field("LINK_UP", 10, access=RO),
        field("MDIX", 11, access=RO, doc="the pairs are crossed"),
        field("SPEED", 14, 2, RO, doc="1: 10, 2: 100, 3: 1000 Mb/s"),
    ),
)
PORT_CTRL = _phy(
    "PORT_CTRL",
    0x12,
    "Port Control",
    reset=0x1000,
    also=("PPCONT",),
    fields=(
        field("TP_LOOPBACK", 4),
        field("CORRECT_NC_SCMBLR", 9),
        field("TEN_CRS_SELECT", 10),
        field("FLIP_CHIP", 11),
        field("AUTO_MDIX", 12, doc="choose MDI or MDI-X automatically"),
        field("FORCE_MDI_MDIX", 13, doc="without AUTO_MDIX: MDI-X"),
        field("RSV", 0, 4),
        field("RSV2", 5, 4),
        field("RSV3", 14, 2),
    ),
)
LINK_HEALTH = _phy(
    "LINK_HEALTH",
    0x13,
    "Link Health",
    also=("PLINK",),
    fields=(
        field("VALID_CHANNEL_D", 0, access=RO),
        field("VALID_CHANNEL_C", 1, access=RO),
        field("VALID_CHANNEL_B", 2, access=RO),
        field("VALID_CHANNEL_A", 3, access=RO),
        field("GIG_REM_RCVR_NOK", 4, access=RO),
        field("GIG_LOCAL_RCVR_NOK", 5, access=RO),
        field("AUTONEG_FAULT", 8, access=RO),
        field("SS_DOWNGRADE", 15, access=RO, doc="Smart Speed lowered the speed"),
    ),
)
GMII_FIFO = _phy("GMII_FIFO", 0x14, "GMII FIFO", reset=0x0045, modelled=False)
CHANNEL_QUALITY = _phy("CHANNEL_QUALITY", 0x15, "Channel Quality", access=RO, modelled=False)
POWER_MGMT = _phy(
    "POWER_MGMT",
    0x19,
    "Power Management",
    reset=0x008D,
    also=("PPOWER",),
    fields=(
        field("SPD_EN", 0, doc="smart power down"),
        field("D0_LPLU", 1, doc="low power link up in D0"),
        field("D3_LPLU", 2, doc="low power link up in D3"),
        field("LINK_ENERGY_DETECT", 3),
        field("DISABLE_1000", 6),
        field("SMART_SPEED", 7),
        field("RST_COMPLETE", 8, access=Access.RC),
        field("RSV", 4, 2),
        field("RSV2", 9, 7),
    ),
)
TUNING_1B = _phy("TUNING_1B", 0x1B, "Tuning", reset=0x2080, modelled=False)
PAGE = _phy("PAGE_SELECT", PAGE_SELECT, "Page Select", also=("PPAGE",))

PCS_INIT = _phy(
    "PCS_INIT",
    0x00B4,
    "PCS Initialisation: polarity of the four pairs at 1000 Mb/s",
    fields=(field("POLARITY", 3, 4, RO, doc="a bit for each reversed pair"),),
)


def _agc(pair: str, at: int) -> Register:
    return _phy(
        f"AGC_{pair}",
        at,
        f"Gain of pair {pair}: the cable's length, by a table of Linux's",
        fields=(field("FINE", 9, 4, RO), field("COARSE", 13, 3, RO)),
    )


AGC_A, AGC_B, AGC_C, AGC_D = _agc("A", 0x11B1), _agc("B", 0x12B1), _agc("C", 0x14B1), _agc("D", 0x18B1)


class PhyMap:
    """The PHY's registers by name and by full address."""

    def __init__(self, registers: tuple[Register, ...]) -> None:
        self._registers = registers
        self._by_address = {register.offset: register for register in registers}
        self._by_name = {name.upper(): register for register in registers for name in (register.name, *register.also)}
        if len(self._by_address) != len(registers):
            raise ValueError("two PHY registers have the same address")

    def __iter__(self) -> Iterator[Register]:
        return iter(self._registers)

    def __len__(self) -> int:
        return len(self._registers)

    def __getitem__(self, name: str) -> Register:
        """The register of that name, in any case. KeyError if there is none."""
        try:
            return self._by_name[name.upper()]
        except KeyError:
            raise KeyError(f"the PHY has no register {name}") from None

    def lookup(self, full_address: int) -> Register | None:
        """The register at a full address (see `address`), or None."""
        return self._by_address.get(full_address)

    def reset_values(self) -> dict[int, int]:
        """Full address to value after a reset, without a link."""
        return {register.offset: register.reset for register in self._registers}

    def write_masks(self) -> dict[int, int]:
        """Full address to the bits that a write stores."""
        return {register.offset: register.writable for register in self._registers}


def _unnamed() -> Iterator[Register]:
    """The rest of registers 0 to 31: reserved ones below 16, storage without effect above."""
    for at in range(0x0B, 0x0F):
        yield _phy(f"RSV_{at:02X}", at, "Reserved", access=Access.RSV, modelled=False)
    for at in (0x16, 0x17, 0x18, 0x1A, 0x1C, 0x1D, 0x1E):
        yield _phy(f"REG_{at:02X}", at, "Vendor specific", modelled=False)


PHY = PhyMap(
    tuple(
        sorted(
            (*(value for value in list(globals().values()) if isinstance(value, Register)), *_unnamed()),
            key=lambda register: register.offset,
        )
    )
)
"""All registers of the PHY."""

PARTNER_ANLPAR: Final = 0xC5E1
"""What a link partner sends that can do everything up to 100 Mb/s and symmetric PAUSE, with a next page for 1000."""

_CABLE = 0x1600
"""Gain that stands for about 10 m: 11 in bits 15:9 is 11 m in Linux's table."""

_SPEEDS = {10: 1, 100: 2, 1000: 3}


def link_up_values(speed: int = 1000, full_duplex: bool = True, partner: int = PARTNER_ANLPAR) -> dict[int, int]:
    """Full address to value of all registers that show a link, after auto-negotiation has given these results.

    The pairs are crossed (MDI-X) and the cable is about 10 m long. ValueError for a speed the PHY doesn't have.
    """
    if speed not in _SPEEDS:
        raise ValueError(f"the PHY has 10, 100 and 1000 Mb/s, not {speed}")
    gigabit = speed == 1000
    status = PORT_STATUS.put(LINK_UP=1, MDIX=1, SPEED=_SPEEDS[speed], FULL_DUPLEX=int(full_duplex))
    receivers = GBSR.put(LOCAL_RX_STATUS=1, REMOTE_RX_STATUS=1, LP_FD_CAPS=1, LP_HD_CAPS=1) if gigabit else 0
    return {
        BMSR.offset: BMSR.put(BMSR.reset, LINK_STATUS=1, AUTONEG_COMPLETE=1),
        ANLPAR.offset: partner,
        ANER.offset: ANER.put(ANER.reset, LP_AUTONEG_ABLE=1, PAGE_RECEIVED=1, LP_NEXT_PAGE_ABLE=int(gigabit)),
        GBSR.offset: receivers,
        PORT_STATUS.offset: status,
        LINK_HEALTH.offset: 0x000F if gigabit else 0,
        **{register.offset: _CABLE for register in (AGC_A, AGC_B, AGC_C, AGC_D)},
    }


def link_down_values() -> dict[int, int]:
    """The same registers without a link."""
    return {at: PHY.reset_values()[at] for at in link_up_values()}
