"""Manageability, flexible filters, MACsec, IPsec and DCA: 82576 datasheet, chapters 8.13 and 8.19 to 8.22.

Known by name. Nothing in the card reacts to them beyond storage: there is no BMC, and MACsec and IPsec are off.
"""

from __future__ import annotations

from .register import Access, Register, field, unmodelled

RO, RC, WO = Access.RO, Access.RC, Access.WO

MANC = Register(
    "MANC",
    0x5820,
    "Management Control",
    "8.20",
    fields=(
        field("SMBUS_EN", 0, access=RO),
        field("ASF_EN", 1, access=RO),
        field("TCO_RESET", 16),
        field("RCV_TCO_EN", 17),
        field("BLK_PHY_RST_ON_IDE", 18, doc="PHY resets are blocked for the host", also=("KEEP_PHY_LINK_UP",)),
        field("RCV_ALL", 19),
        field("EN_MAC_ADDR_FILTER", 20, doc="MNGONLY and MDEF are in use", also=("MCST_PASS_L2",)),
        field("EN_MNG2HOST", 21),
        field("EN_XSUM_FILTER", 23),
        field("BR_EN", 24),
        field("NET_TYPE", 26),
        field("EN_BMC2OS", 28),
    ),
)
MFVAL = unmodelled("MFVAL", 0x5824, "Manageability Filters Valid", "8.20")
MANC2H = unmodelled("MANC2H", 0x5860, "Management Control to Host", "8.20")
MNGONLY = unmodelled("MNGONLY", 0x5864, "Management Only Traffic", "8.20")
MAVTV = unmodelled("MAVTV", 0x5010, "Management VLAN Tag Value", "8.20", count=8, also=("MAVTV0",))
MFUTP = unmodelled("MFUTP", 0x5030, "Management Flex UDP/TCP Ports", "8.20", count=8)
METF = unmodelled("METF", 0x5060, "Management EtherType Filters", "8.20", count=4)
MDEF = unmodelled("MDEF", 0x5890, "Manageability Decision Filters", "8.20", count=8)
MDEF_EXT = unmodelled("MDEF_EXT", 0x5930, "Manageability Decision Filters Extended", "8.20", count=8)
MIPAF = unmodelled("MIPAF", 0x58B0, "Manageability IP Address Filter", "8.20", count=16)
MMAL = unmodelled("MMAL", 0x5910, "Manageability MAC Address Low", "8.20", count=4, stride=8)
MMAH = unmodelled("MMAH", 0x5914, "Manageability MAC Address High", "8.20", count=4, stride=8)
FTFT = unmodelled("FTFT", 0x9400, "Flexible TCO Filter Table", "8.20", count=256)
FHFT = unmodelled("FHFT", 0x9000, "Flexible Host Filter Table", "8.19", count=256)
FHFT_EXT = unmodelled("FHFT_EXT", 0x9A00, "Flexible Host Filter Table Extended", "8.19", count=128)
HOST_IF = unmodelled("HOST_IF", 0x8800, "Host Interface memory", "8.20", count=256, also=("ARCRAM",))
HICR = Register(
    "HICR",
    0x8F00,
    "Host Interface Control",
    "8.20",
    fields=(
        field("EN", 0, access=RO, doc="the firmware takes commands: there is none, so 0"),
        field("C", 1, doc="a command is there"),
        field("SV", 2, access=RO, doc="status is valid"),
        field("FW_RESET_ENABLE", 6),
        field("FW_RESET", 7, access=Access.SC),
    ),
    modelled=False,
)
FWSTS = unmodelled("FWSTS", 0x8F0C, "Firmware Status", "8.20", RO)

DCA_ID = unmodelled("DCA_ID", 0x5B70, "DCA Requester ID", "8.13", RO)
DCA_CTRL = Register(
    "DCA_CTRL",
    0x5B74,
    "DCA Control",
    "8.13",
    fields=(field("DCA_DIS", 0), field("DCA_MODE", 1, 4, doc="0: legacy, 1: DCA 1.0")),
    reset=0x1,
    modelled=False,
)
UFUSE = unmodelled("UFUSE", 0x5B78, "Fuses", "8.6", RO)

LSECTXUT = unmodelled("LSECTXUT", 0x4300, "MACsec transmitted untagged", "8.21", RC)
LSECTXPKTE = unmodelled("LSECTXPKTE", 0x4304, "MACsec transmitted encrypted packets", "8.21", RC)
LSECTXPKTP = unmodelled("LSECTXPKTP", 0x4308, "MACsec transmitted protected packets", "8.21", RC)
LSECTXOCTE = unmodelled("LSECTXOCTE", 0x430C, "MACsec transmitted encrypted octets", "8.21", RC)
LSECTXOCTP = unmodelled("LSECTXOCTP", 0x4310, "MACsec transmitted protected octets", "8.21", RC)
LSECRXUT = unmodelled("LSECRXUT", 0x4314, "MACsec received untagged", "8.21", RC)
LSECRXOCTD = unmodelled("LSECRXOCTD", 0x431C, "MACsec received octets decrypted", "8.21", RC)
LSECRXOCTV = unmodelled("LSECRXOCTV", 0x4320, "MACsec received octets validated", "8.21", RC)
LSECRXBAD = unmodelled("LSECRXBAD", 0x4324, "MACsec received with a bad tag", "8.21", RC)
LSECRXNOSCI = unmodelled("LSECRXNOSCI", 0x4328, "MACsec received without SCI", "8.21", RC)
LSECRXUNSCI = unmodelled("LSECRXUNSCI", 0x432C, "MACsec received with an unknown SCI", "8.21", RC)
LSECRXUNCH = unmodelled("LSECRXUNCH", 0x4330, "MACsec received unchecked", "8.21", RC)
LSECRXDELAY = unmodelled("LSECRXDELAY", 0x4340, "MACsec received delayed", "8.21", RC)
LSECRXLATE = unmodelled("LSECRXLATE", 0x4350, "MACsec received late", "8.21", RC)
LSECRXOK = unmodelled("LSECRXOK", 0x4360, "MACsec received good", "8.21", RC, count=2)
LSECRXINV = unmodelled("LSECRXINV", 0x4380, "MACsec received invalid", "8.21", RC, count=2)
LSECRXNV = unmodelled("LSECRXNV", 0x43A0, "MACsec received not valid", "8.21", RC, count=2)
LSECRXUNSA = unmodelled("LSECRXUNSA", 0x43C0, "MACsec received for an unused association", "8.21", RC)
LSECRXNUSA = unmodelled("LSECRXNUSA", 0x43D0, "MACsec received without association", "8.21", RC)
LSECTXCAP = unmodelled("LSECTXCAP", 0xB000, "MACsec transmit capabilities", "8.21", RO)
LSECTXCTRL = unmodelled("LSECTXCTRL", 0xB004, "MACsec transmit control", "8.21")
LSECTXSCL = unmodelled("LSECTXSCL", 0xB008, "MACsec transmit SCI low", "8.21")
LSECTXSCH = unmodelled("LSECTXSCH", 0xB00C, "MACsec transmit SCI high", "8.21")
LSECTXSA = unmodelled("LSECTXSA", 0xB010, "MACsec transmit association", "8.21")
LSECTXPN = unmodelled("LSECTXPN", 0xB018, "MACsec transmit packet number", "8.21", count=2, also=("LSECTXPN0",))
LSECTXKEY0 = unmodelled("LSECTXKEY0", 0xB020, "MACsec transmit key 0", "8.21", WO, count=4)
LSECTXKEY1 = unmodelled("LSECTXKEY1", 0xB030, "MACsec transmit key 1", "8.21", WO, count=4)
LSECRXCAP = unmodelled("LSECRXCAP", 0xB300, "MACsec receive capabilities", "8.21", RO)
LSECRXCTRL = unmodelled("LSECRXCTRL", 0xB304, "MACsec receive control", "8.21")
LSECRXSA = unmodelled("LSECRXSA", 0xB310, "MACsec receive association", "8.21", count=2)
LSECRXPN = unmodelled("LSECRXPN", 0xB330, "MACsec receive packet number", "8.21", count=2)
LSECRXKEY = unmodelled("LSECRXKEY", 0xB350, "MACsec receive keys, 4 words each", "8.21", WO, count=8)
LSECRXSCL = unmodelled("LSECRXSCL", 0xB3D0, "MACsec receive SCI low", "8.21")
LSECRXSCH = unmodelled("LSECRXSCH", 0xB3E0, "MACsec receive SCI high", "8.21")

IPSRXIDX = unmodelled("IPSRXIDX", 0xB400, "IPsec receive index", "8.22")
IPSRXSALT = unmodelled("IPSRXSALT", 0xB404, "IPsec receive salt", "8.22")
IPSRXCMD = unmodelled("IPSRXCMD", 0xB408, "IPsec receive command", "8.22")
IPSRXSPI = unmodelled("IPSRXSPI", 0xB40C, "IPsec receive SPI", "8.22")
IPSRXKEY = unmodelled("IPSRXKEY", 0xB410, "IPsec receive key", "8.22", WO, count=4)
IPSRXIPADDR = unmodelled("IPSRXIPADDR", 0xB420, "IPsec receive IP address", "8.22", count=4)
IPSCTRL = unmodelled("IPSCTRL", 0xB430, "IPsec control", "8.22")
IPSTXIDX = unmodelled("IPSTXIDX", 0xB450, "IPsec transmit index", "8.22")
IPSTXSALT = unmodelled("IPSTXSALT", 0xB454, "IPsec transmit salt", "8.22")
IPSTXKEY = unmodelled("IPSTXKEY", 0xB460, "IPsec transmit key", "8.22", WO, count=4)
