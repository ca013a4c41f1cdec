"""Device control, status, LEDs, packet buffers, flow control, timers, PCS: 82576 datasheet 8.2, 8.3, 8.5, 8.15, 8.17.

Left out: the analog configuration words behind SCTL, which have no effect in a model.
"""

from __future__ import annotations

from .register import Access, Block, Register, field, unmodelled

RO, WO, SC, W0C = Access.RO, Access.WO, Access.SC, Access.W0C

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
WDSTP = Register(
    "WDSTP",
    0x1040,
    "Watchdog Setup",
    "8.15",
    reset=0x0002_0000,
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
