"""Device control, status, LEDs, flow control, PCIe and semaphores: 82576 datasheet, chapters 8.2 to 8.7 and 8.19.

Left out: the analog configuration words behind SCTL and the PCIe PHY, which have no effect in a model.
"""

from __future__ import annotations

from .register import Access, Block, Register, field, unmodelled

RO, WO, SC, W1C, W0C, RC = Access.RO, Access.WO, Access.SC, Access.W1C, Access.W0C, Access.RC

CTRL = Register(
    "CTRL",
    0x0000,
    "Device Control",
    "8.2.1",
    reset=0x0010_0209,
    aliases=(Block(0x0004),),
    fields=(
        field("FD", 0, doc="full duplex"),
        field("GIO_MASTER_DISABLE", 2, doc="no new requests as a bus master; STATUS says when the last has ended"),
        field("LRST", 3, doc="link reset (SerDes)"),
        field("ASDE", 5, doc="automatic speed detection"),
        field("SLU", 6, doc="set link up"),
        field("ILOS", 7, doc="invert loss of signal"),
        field("SPEED", 8, 2, doc="0: 10, 1: 100, 2: 1000 Mb/s, when FRCSPD is set", also=("SPD_SEL",)),
        field("FRCSPD", 11, doc="force speed"),
        field("FRCDPX", 12, doc="force duplex"),
        field("SDP0_GPIEN", 16, doc="SDP0 raises an interrupt"),
        field("SDP1_GPIEN", 17, doc="SDP1 raises an interrupt"),
        field("SDP0_DATA", 18, doc="value of SDP0", also=("SWDPIN0",)),
        field("SDP1_DATA", 19, doc="value of SDP1", also=("SWDPIN1",)),
        field("ADVD3WUC", 20, doc="advertise wake-up from D3cold"),
        field("SDP0_WDE", 21, doc="SDP0 shows the software watchdog", also=("EN_PHY_PWR_MGMT",)),
        field("SDP0_IODIR", 22, doc="SDP0 is an output", also=("SDP0_DIR",)),
        field("SDP1_IODIR", 23, doc="SDP1 is an output", also=("SDP1_DIR",)),
        field("RST", 26, access=SC, doc="device reset"),
        field("RFCE", 27, doc="obey received PAUSE frames"),
        field("TFCE", 28, doc="send PAUSE frames"),
        field("VME", 30, doc="VLAN mode: strip the tag of received frames"),
        field("PHY_RST", 31, doc="hold the PHY in reset"),
    ),
)

STATUS = Register(
    "STATUS",
    0x0008,
    "Device Status",
    "8.2.2",
    reset=0x8008_0400,
    fields=(
        field("FD", 0, access=RO, doc="full duplex"),
        field("LU", 1, access=RO, doc="link up"),
        field("LAN_ID", 2, 2, RO, doc="number of this port", also=("FUNC",)),
        field("TXOFF", 4, access=RO, doc="transmission is paused"),
        field("TBIMODE", 5, access=RO, doc="SerDes or SGMII instead of the PHY"),
        field("SPEED", 6, 2, RO, doc="0: 10, 1: 100, 2: 1000 Mb/s"),
        field("ASDV", 8, 2, RO, doc="speed that automatic detection found"),
        field("PHYRA", 10, access=W0C, doc="the PHY was reset"),
        field("NUM_VFS", 14, 4, RO, doc="NumVFs of the SR-IOV capability"),
        field("IOV_MODE", 18, access=RO, doc="VF Enable of the SR-IOV capability"),
        field("GIO_MASTER_ENABLE", 19, access=RO, doc="requests as a bus master may be under way"),
        field("PF_RST_DONE", 21, access=RO, doc="device reset has ended"),
        field("DMA_CLK_GATE_EN", 31, access=RO, doc="DMA clock gating allowed by the NVM"),
    ),
)

SPEED_10, SPEED_100, SPEED_1000 = 0, 1, 2
"""Values of CTRL.SPEED and STATUS.SPEED."""

CTRL_EXT = Register(
    "CTRL_EXT",
    0x0018,
    "Extended Device Control",
    "8.2.3",
    fields=(
        field("IRCA", 0, doc="clear all causes when ICR is read with a vector enabled", also=("I2C_OVER",)),
        field("SDP2_GPIEN", 2, doc="SDP2 raises an interrupt"),
        field("SDP3_GPIEN", 3, doc="SDP3 raises an interrupt"),
        field("SDP2_DATA", 6, doc="value of SDP2"),
        field("SDP3_DATA", 7, doc="value of SDP3"),
        field("SDP2_IODIR", 10, doc="SDP2 is an output", also=("SDP2_DIR",)),
        field("SDP3_IODIR", 11, doc="SDP3 is an output", also=("SDP3_DIR",)),
        field("ASDCHK", 12, access=SC, doc="start a speed detection"),
        field("EE_RST", 13, access=SC, doc="read the NVM again, as after power on"),
        field("PFRSTD", 14, access=WO, doc="tell the VFs that the PF is up: their RSTD is set, RSTI cleared"),
        field("SPD_BYPS", 15, doc="bypass the speed selection"),
        field("NS_DIS", 16, doc="no snoop off"),
        field("RO_DIS", 17, doc="relaxed ordering off"),
        field("SDLPE", 18, doc="SerDes low power"),
        field("DMA_DYN_CLK_EN", 19, doc="DMA dynamic clock gating"),
        field("PHYPDEN", 20, doc="PHY power down"),
        field("LINK_MODE", 22, 2, doc="0: copper PHY, 1: 1000BASE-KX, 2: SGMII, 3: SerDes"),
        field("EIAME", 24, doc="reading ICR masks the causes in IAM"),
        field("I2C_ENA", 25, doc="I2C on the SFP pins", also=("I2C_ENABLED",)),
        field("EXT_VLAN", 26, doc="every frame has an outer tag: double VLAN", also=("EXTENDED_VLAN",)),
        field("DRV_LOAD", 28, doc="a driver is loaded"),
        field("PBA_CLR", 31, doc="reading the pending bits clears them"),
    ),
)

MDIC = Register(
    "MDIC",
    0x0020,
    "MDI Control: a read or write of a PHY register",
    "8.2.4",
    reset=0x1000_0000,
    fields=(
        field("DATA", 0, 16),
        field("REG", 16, 5, doc="PHY register"),
        field("PHY", 21, 5, doc="PHY address; the internal one is 1"),
        field("OP_WRITE", 26),
        field("OP_READ", 27),
        field("READY", 28, doc="the operation has ended"),
        field("INT_EN", 29, doc="raise an interrupt at the end"),
        field("ERROR", 30, access=RO, doc="a read failed"),
        field("DEST", 31, doc="0: internal PHY"),
    ),
)

SCTL = unmodelled("SCTL", 0x0024, "SerDes ANA: access to the SerDes' analog registers", "8.2.5", also=("SERDESCTL",))

CONNSW = Register(
    "CONNSW",
    0x0034,
    "Copper/Fiber Switch Control",
    "8.2.6",
    fields=(
        field("AUTOSENSE_EN", 0),
        field("AUTOSENSE_CONF", 1),
        field("ENRGSRC", 2),
        field("SERDESD", 9, access=RO, doc="SerDes signal detected"),
        field("PHYSD", 10, access=RO, doc="PHY signal detected"),
        field("PHY_PDN", 11, access=RO, doc="PHY is powered down"),
    ),
)

VET = Register(
    "VET",
    0x0038,
    "VLAN EtherType",
    "8.2.7",
    reset=0x8100_8100,
    fields=(
        field("VET", 0, 16, doc="type of the inner tag"),
        field("VET_EXT", 16, 16, doc="type of the outer tag, with CTRL_EXT.EXT_VLAN"),
    ),
)

LEDCTL = Register(
    "LEDCTL",
    0x0E00,
    "LED Control",
    "8.2.8",
    reset=0x0706_8302,
    fields=tuple(
        item
        for n in range(4)
        for item in (
            field(f"LED{n}_MODE", 8 * n, 4, doc="14: on, 15: off, else what is shown"),
            field(f"LED{n}_GLOBAL_BLINK", 8 * n + 5, doc="blink rate"),
            field(f"LED{n}_IVRT", 8 * n + 6, doc="inverted"),
            field(f"LED{n}_BLINK", 8 * n + 7, doc="blinks"),
        )
    ),
)
LED_MODE_ON, LED_MODE_OFF = 14, 15

RXPBS = Register(
    "RXPBS", 0x2404, "Receive Packet Buffer Size, KB", "8.3", reset=0x40, fields=(field("SIZE", 0, 7),), also=("IRPBS",)
)
TXPBS = Register(
    "TXPBS",
    0x3404,
    "Transmit Packet Buffer Size, KB",
    "8.3",
    reset=0x28,
    fields=(field("SIZE", 0, 7),),
    also=("ITPBS",),
)
SWPBS = Register("SWPBS", 0x3004, "Switch Packet Buffer Size, KB", "8.3", reset=0x14, fields=(field("SIZE", 0, 7),))
PBDIAG = unmodelled("PBDIAG", 0x2458, "Packet Buffer Diagnostic", "8.3", also=("PBRTH",))
PBECCSTS = unmodelled("PBECCSTS", 0x100C, "Packet Buffer ECC Status", "8.3")

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
I2CCMD = Register(
    "I2CCMD",
    0x1028,
    "SFP I2C Command",
    "8.2",
    fields=(
        field("DATA", 0, 16),
        field("REGADD", 16, 8),
        field("PHYADD", 24, 3),
        field("OP", 27, doc="1: read"),
        field("RESET", 28, access=SC),
        field("R", 29, access=RO, doc="ready", also=("READY",)),
        field("IE", 30),
        field("E", 31, access=RO, doc="error", also=("ERROR",)),
    ),
    modelled=False,
)
I2CPARAMS = unmodelled("I2CPARAMS", 0x102C, "SFP I2C Parameters", "8.2")
EEDIAG = unmodelled("EEDIAG", 0x1038, "EEPROM Diagnostic", "8.4", RO)
FLOP = unmodelled("FLOP", 0x103C, "Flash Opcode", "8.4", also=("FLASHOP",))
VPDDIAG = unmodelled("VPDDIAG", 0x1060, "VPD Diagnostic", "8.4", RO)
WDSTP = Register(
    "WDSTP",
    0x1040,
    "Watchdog Setup",
    "8.15",
    reset=0x200,
    fields=(
        field("WD_ENABLE", 0),
        field("WD_TIMER_LOAD", 1, access=SC),
        field("WD_TIMER", 16, 8, doc="seconds"),
    ),
    modelled=False,
)
WDSWSTS = Register(
    "WDSWSTS",
    0x1044,
    "Watchdog Software Device Status",
    "8.15",
    fields=(
        field("DEV_FUNCTIONAL", 0),
        field("FORCE_WD", 1, access=SC),
        field("STUCK_REASON", 24, 8),
    ),
    also=("SWDSTS",),
    modelled=False,
)
FRTIMER = Register(
    "FRTIMER",
    0x1048,
    "Free Running Timer",
    "8.15",
    fields=(field("MICROSECOND", 0, 10), field("MILLISECOND", 10, 10), field("SECONDS", 20, 12)),
)
TCPTIMER = Register(
    "TCPTIMER",
    0x104C,
    "TCP Timer",
    "8.15",
    fields=(
        field("DURATION", 0, 8, doc="milliseconds"),
        field("KICKSTART", 8, access=WO),
        field("TCP_COUNT_EN", 9),
        field("TCP_COUNT_FINISH", 10, access=WO),
        field("LOOP", 11),
    ),
)

FCAL = Register("FCAL", 0x0028, "Flow Control Address Low", "8.5", reset=0x00C2_8001)
FCAH = Register("FCAH", 0x002C, "Flow Control Address High", "8.5", reset=0x0100, fields=(field("FCAH", 0, 16),))
FCT = Register("FCT", 0x0030, "Flow Control Type", "8.5", reset=0x8808, fields=(field("FCT", 0, 16),))
FCTTV = Register(
    "FCTTV", 0x0170, "Flow Control Transmit Timer Value, units of 512 bit times", "8.5", fields=(field("TTV", 0, 16),)
)
FCRTL = Register(
    "FCRTL",
    0x2160,
    "Flow Control Receive Threshold Low, bytes",
    "8.5",
    aliases=(Block(0x0168),),
    fields=(field("RTL", 4, 12), field("XONE", 31, doc="send XON")),
)
FCRTH = Register(
    "FCRTH",
    0x2168,
    "Flow Control Receive Threshold High, bytes",
    "8.5",
    fields=(field("RTH", 4, 12),),
)
FCRTV = Register(
    "FCRTV",
    0x2460,
    "Flow Control Refresh Threshold Value",
    "8.5",
    fields=(field("FC_REFRESH_TH", 0, 16),),
)

GCR = Register(
    "GCR",
    0x5B00,
    "PCIe Control",
    "8.6",
    reset=0x0285_0200,
    fields=(
        field("L0S_ADJUST", 9),
        field("CMPL_TMOUT", 12, 4, doc="completion timeout, for devices with a version 1 PCIe capability"),
        field("CMPL_TMOUT_RESEND", 16),
        field("CAP_VER2", 18, access=RO, doc="the PCIe capability is of version 2"),
        field("L1_ENTRY_LATENCY_MSB", 23),
        field("L1_ENTRY_LATENCY_LSB", 25),
        field("DEV_RST_IN_PROGRESS", 31, access=RO),
    ),
)
FUNCTAG = unmodelled("FUNCTAG", 0x5B08, "Function Tag", "8.6")
GSCL_1 = unmodelled("GSCL_1", 0x5B10, "PCIe Statistic Control #1", "8.6")
GSCL_2 = unmodelled("GSCL_2", 0x5B14, "PCIe Statistic Control #2", "8.6")
GSCL_3 = unmodelled("GSCL_3", 0x5B18, "PCIe Statistic Control #3", "8.6")
GSCL_4 = unmodelled("GSCL_4", 0x5B1C, "PCIe Statistic Control #4", "8.6")
GSCN = unmodelled("GSCN", 0x5B20, "PCIe Counter", "8.6", RO, count=4, also=("GSCN_0",))
FACTPS = Register(
    "FACTPS",
    0x5B30,
    "Function Active and Power State",
    "8.6",
    fields=(
        field("FUNC0_POWER_STATE", 0, 2, RO),
        field("LAN0_VALID", 2, access=RO),
        field("FUNC0_AUX_EN", 3, access=RO),
        field("FUNC1_POWER_STATE", 6, 2, RO),
        field("LAN1_VALID", 8, access=RO),
        field("FUNC1_AUX_EN", 9, access=RO),
        field("MNGCG", 29, access=RO, doc="management clock is gated"),
        field("LAN_FUNC_SEL", 30, access=RO),
        field("PM_STATE_CHANGED", 31, access=RC),
    ),
    reset=0x0000_0004,
)
GIOCTL = unmodelled("GIOCTL", 0x5B44, "PCIe Analog Control", "8.6", also=("GIOANACTL0",))
CCMCTL = unmodelled("CCMCTL", 0x5B48, "CCM Control", "8.6")
SCCTL = unmodelled("SCCTL", 0x5B4C, "PCIe PLL Configuration", "8.6")
PCIEMISC = unmodelled("PCIEMISC", 0x5BB8, "PCIe Miscellaneous", "8.6")
IOVCTL = Register(
    "IOVCTL",
    0x5BBC,
    "I/O Virtualisation Control",
    "8.14",
    fields=(field("REUSE_VFQ", 0, doc="VF queues belong to the PF while VFs are off"),),
    also=("IOVTCL",),
)

SWSM = Register(
    "SWSM",
    0x5B50,
    "Software Semaphore",
    "8.7",
    fields=(
        field("SMBI", 0, doc="read sets it: whoever read 0 owns it"),
        field("SWESMBI", 1, doc="write 1, and own the registers below once it reads 1"),
        field("WMNG", 2, access=SC, doc="wake the manageability clock"),
        field("EEUR", 3, access=SC, doc="update request for the EEPROM"),
    ),
)
FWSM = Register(
    "FWSM",
    0x5B54,
    "Firmware Semaphore",
    "8.7",
    fields=(
        field("EEP_FW_SEMAPHORE", 0),
        field("FW_MODE", 1, 3, doc="0: no firmware"),
        field("EEP_RELOAD_IND", 6),
        field("FW_VAL_BIT", 15, doc="the firmware's part is valid"),
        field("RESET_CNT", 16, 3),
        field("EXT_ERR_IND", 19, 6),
        field("PCIE_CONFIG_ERR_IND", 25),
        field("PHY_SERDES0_CONFIG_ERR_IND", 26),
        field("PHY_SERDES1_CONFIG_ERR_IND", 27),
    ),
)
SW_FW_SYNC = Register(
    "SW_FW_SYNC",
    0x5B5C,
    "Software-Firmware Synchronization",
    "8.7",
    fields=(
        field("SW_EEP_SM", 0),
        field("SW_PHY_SM0", 1),
        field("SW_PHY_SM1", 2),
        field("SW_MAC_CSR_SM", 3),
        field("SW_FLASH_SM", 4),
        field("SW_SVR_SM", 5),
        field("SW_MB_SM", 8),
        field("FW_EEP_SM", 16),
        field("FW_PHY_SM0", 17),
        field("FW_PHY_SM1", 18),
        field("FW_MAC_CSR_SM", 19),
        field("FW_FLASH_SM", 20),
    ),
)

WUC = Register(
    "WUC",
    0x5800,
    "Wake Up Control",
    "8.19",
    fields=(
        field("APME", 0, doc="wake by APM"),
        field("PME_EN", 1, doc="PME_En of the power management capability"),
        field("PME_STATUS", 2, access=W1C),
        field("APMPME", 3, doc="assert PME on APM wake-up"),
        field("SPM", 31),
    ),
)
_WAKE = ("LNKC", "MAG", "EX", "MC", "BC", "ARP", "IPV4", "IPV6")
WUFC = Register(
    "WUFC",
    0x5808,
    "Wake Up Filter Control",
    "8.19",
    fields=(
        *(field(name, bit) for bit, name in enumerate(_WAKE)),
        field("NS", 9),
        field("NS_DIRECTED", 10),
        field("NO_TCO", 15),
        *(field(f"FLX{n}", 16 + n) for n in range(6)),
    ),
)
WUS = Register(
    "WUS",
    0x5810,
    "Wake Up Status",
    "8.19",
    fields=(
        *(field(name, bit, access=W1C) for bit, name in enumerate(_WAKE)),
        field("MNG", 8, access=W1C),
        field("NS", 9, access=W1C),
        field("NS_DIRECTED", 10, access=W1C),
        *(field(f"FLX{n}", 16 + n, access=W1C) for n in range(6)),
    ),
)
IPAV = Register(
    "IPAV",
    0x5838,
    "IP Address Valid",
    "8.19",
    fields=(*(field(f"V4{n}", n) for n in range(4)), field("V60", 16)),
    modelled=False,
)
IP4AT = unmodelled("IP4AT", 0x5840, "IPv4 Address Table", "8.19", count=4, stride=8)
IP6AT = unmodelled("IP6AT", 0x5880, "IPv6 Address Table", "8.19", count=4)
WUPL = Register("WUPL", 0x5900, "Wake Up Packet Length", "8.19", fields=(field("LEN", 0, 12, RO),), modelled=False)
WUPM = unmodelled("WUPM", 0x5A00, "Wake Up Packet Memory", "8.19", RO, count=32)

PCS_CFG0 = Register(
    "PCS_CFG0",
    0x4200,
    "PCS Configuration 0",
    "8.17",
    reset=0x8,
    fields=(field("PCS_EN", 3), field("PCS_ISOLATE", 30), field("SRESET", 31)),
    modelled=False,
    also=("PCS_CFG",),
)
PCS_LCTL = Register(
    "PCS_LCTL",
    0x4208,
    "PCS Link Control",
    "8.17",
    reset=0xC,
    fields=(
        field("FLV_LINK_UP", 0),
        field("FSV", 1, 2, doc="forced speed: 1: 100, 2: 1000 Mb/s"),
        field("FDV_FULL", 3),
        field("FSD", 4, doc="force speed and duplex"),
        field("FORCE_LINK", 5),
        field("LINK_LATCH_LOW", 6),
        field("FORCE_FCTRL", 7),
        field("AN_ENABLE", 16),
        field("AN_RESTART", 17, access=SC),
        field("AN_TIMEOUT", 18),
        field("AN_SGMII_BYPASS", 19),
        field("AN_SGMII_TRIGGER", 20),
        field("FAST_LINK_TIMER", 24),
        field("LINK_OK_FIX", 25),
    ),
    modelled=False,
)
PCS_LSTAT = Register(
    "PCS_LSTAT",
    0x420C,
    "PCS Link Status",
    "8.17",
    fields=(
        field("LINK_OK", 0, access=RO),
        field("SPEED", 1, 2, RO),
        field("DUPLEX_FULL", 3, access=RO),
        field("SYNK_OK", 4, access=RO),
        field("AN_COMPLETE", 16, access=RO),
        field("AN_PAGE_RECEIVED", 17, access=RO),
        field("AN_TIMEDOUT", 18, access=RO),
        field("AN_REMOTE_FAULT", 19, access=RO),
    ),
    modelled=False,
)
PCS_ANADV = unmodelled("PCS_ANADV", 0x4218, "PCS Autonegotiation Advertisement", "8.17")
PCS_LPAB = unmodelled("PCS_LPAB", 0x421C, "PCS Link Partner Ability", "8.17", RO)
PCS_NPTX = unmodelled("PCS_NPTX", 0x4220, "PCS Next Page Transmit", "8.17")
PCS_LPABNP = unmodelled("PCS_LPABNP", 0x4224, "PCS Link Partner Next Page", "8.17", RO)
TXCW = unmodelled("TXCW", 0x0178, "Transmit Configuration Word (SerDes)", "8.17")
RXCW = unmodelled("RXCW", 0x0180, "Receive Configuration Word (SerDes)", "8.17", RO)
