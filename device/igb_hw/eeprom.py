"""Access to EEPROM and flash: 82576 datasheet, chapter 8.4. What the EEPROM holds is in nvm.py."""

from __future__ import annotations

from .register import Access, Register, field, unmodelled

RO, WO, SC = Access.RO, Access.WO, Access.SC

EECD = Register(
    "EECD",
    0x0010,
    "EEPROM/Flash Control: bit by bit access to the SPI EEPROM, and its size",
    "8.4.1",
    reset=0x3F10,
    fields=(
        field("SK", 0, doc="clock"),
        field("CS", 1, doc="chip select"),
        field("DI", 2, doc="data into the EEPROM"),
        field("DO", 3, access=RO, doc="data out of the EEPROM"),
        field("FWE", 4, 2, doc="flash writes: 1: not allowed, 2: allowed"),
        field("REQ", 6, doc="request of direct access"),
        field("GNT", 7, access=RO, doc="direct access is granted"),
        field("PRES", 8, access=RO, doc="an EEPROM is there, its signature is right"),
        field("AUTO_RD", 9, access=RO, doc="reading the EEPROM after reset has ended"),
        field("ADDR_BITS", 10, access=RO, doc="1: 16 address bits", also=("EE_ADDR_SIZE",)),
        field("SIZE_EX", 11, 4, RO, doc="2**(6 + this) words"),
        field("EE_BLOCKED", 15, access=RO),
        field("EE_ABORT", 16, access=RO),
        field("EE_RD_TIMEOUT", 17, access=RO),
        field("EE_CLR_ERR", 18, access=SC),
        field("EE_DET", 19, access=RO, doc="an EEPROM answers"),
    ),
)
EERD = Register(
    "EERD",
    0x0014,
    "EEPROM Read",
    "8.4.2",
    reset=0x2,
    fields=(
        field("START", 0, access=SC),
        field("DONE", 1, access=RO),
        field("ADDR", 2, 14, doc="word address"),
        field("DATA", 16, 16, RO),
    ),
)
FLA = unmodelled("FLA", 0x001C, "Flash Access", "8.4.3")
EEMNGCTL = Register(
    "EEMNGCTL",
    0x1010,
    "Management EEPROM Control",
    "8.4.4",
    reset=0x800C_0000,
    fields=(
        field("ADDR", 0, 15, RO),
        field("START", 15, access=RO),
        field("WRITE", 16, access=RO),
        field("EEBUSY", 17, access=RO),
        field("CFG_DONE_0", 18, access=RO, doc="the PHY of port 0 is configured"),
        field("CFG_DONE_1", 19, access=RO, doc="the PHY of port 1 is configured"),
        field("DONE", 31, access=RO),
    ),
)
EEMNGDATA = unmodelled("EEMNGDATA", 0x1014, "Management EEPROM Data", "8.4", RO)
FLMNGCTL = unmodelled("FLMNGCTL", 0x1018, "Management Flash Control", "8.4", RO)
FLMNGDATA = unmodelled("FLMNGDATA", 0x101C, "Management Flash Data", "8.4", RO)
FLMNGCNT = unmodelled("FLMNGCNT", 0x1020, "Management Flash Read Counter", "8.4", RO)
EEARBC = Register(
    "EEARBC",
    0x1024,
    "EEPROM Auto Read Bus Control",
    "8.4",
    fields=(
        field("VALID_CORE0", 0, access=SC),
        field("VALID_CORE1", 1, access=SC),
        field("VALID_COMMON", 2, access=SC),
        field("VALID_PCIE", 3, access=SC),
        field("ADDR", 4, 9, WO),
        field("DATA", 16, 16, WO),
    ),
    modelled=False,
)
EEDIAG = unmodelled("EEDIAG", 0x1038, "EEPROM Diagnostic", "8.4", RO)
FLOP = unmodelled("FLOP", 0x103C, "Flash Opcode", "8.4", also=("FLASHOP",))
VPDDIAG = unmodelled("VPDDIAG", 0x1060, "VPD Diagnostic", "8.4", RO)
