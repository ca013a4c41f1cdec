"""The register map against what other software expects of an 82576: Linux's offsets, its self-test, known values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igb_hw import eeprom, filters, interrupts, mac, pcie, ptp, rx, stats, tx, vmdq, wakeup
from igb_hw.register import Access, Block, Register, field
from igb_hw.registers import BAR0_SIZE, MAP, WORDS, RegisterMap

# fmt: off
# Names and offsets that Linux's igb driver uses (e1000_regs.h of 6.12), those of other members of the family left out.
# An array's offset is where Linux finds its first element: for queues 0 to 3 that is the alias block.
LINUX = {
    "CTRL": 0x0000, "STATUS": 0x0008, "EECD": 0x0010, "EERD": 0x0014, "CTRL_EXT": 0x0018, "MDIC": 0x0020,
    "SCTL": 0x0024, "FCAL": 0x0028, "FCAH": 0x002c, "FCT": 0x0030, "CONNSW": 0x0034, "VET": 0x0038,
    "TSSDP": 0x003c, "ICR": 0x00c0, "ITR": 0x00c4, "ICS": 0x00c8, "IMS": 0x00d0, "IMC": 0x00d8, "IAM": 0x00e0,
    "RCTL": 0x0100, "FCTTV": 0x0170, "TXCW": 0x0178, "EICR": 0x1580, "EITR": 0x1680, "EICS": 0x1520,
    "EIMS": 0x1524, "EIMC": 0x1528, "EIAC": 0x152c, "EIAM": 0x1530, "GPIE": 0x1514, "IVAR0": 0x1700,
    "IVAR_MISC": 0x1740, "TCTL": 0x0400, "TCTL_EXT": 0x0404, "TIPG": 0x0410, "AIT": 0x0458, "LEDCTL": 0x0e00,
    "EEMNGCTL": 0x1010, "I2CCMD": 0x1028, "FRTIMER": 0x1048, "TCPTIMER": 0x104c, "FCRTL": 0x2160, "FCRTH": 0x2168,
    "FCRTV": 0x2460, "I2CPARAMS": 0x102c, "TSYNCRXCTL": 0xb620, "TSYNCTXCTL": 0xb614, "TSYNCRXCFG": 0x5f50,
    "RXSTMPL": 0xb624, "RXSTMPH": 0xb628, "RXSATRL": 0xb62c, "RXSATRH": 0xb630, "TXSTMPL": 0xb618,
    "TXSTMPH": 0xb61c, "SYSTIML": 0xb600, "SYSTIMH": 0xb604, "TIMINCA": 0xb608, "TSAUXC": 0xb640,
    "TRGTTIML0": 0xb644, "TRGTTIMH0": 0xb648, "TRGTTIML1": 0xb64c, "TRGTTIMH1": 0xb650, "FREQOUT0": 0xb654,
    "FREQOUT1": 0xb658, "AUXSTMPL0": 0xb65c, "AUXSTMPH0": 0xb660, "AUXSTMPL1": 0xb664, "AUXSTMPH1": 0xb668,
    "TSICR": 0xb66c, "TSIM": 0xb674, "SAQF": 0x5980, "DAQF": 0x59a0, "SPQF": 0x59c0, "FTQF": 0x59e0,
    "SYNQF": 0x55fc, "ETQF": 0x5cb0, "RQDPC": 0xc030, "RTTDQSEL": 0x3604, "RTTBCNRM": 0x3690, "RTTBCNRC": 0x36b0,
    "RXPBS": 0x2404, "RDBAL": 0x2800, "RDBAH": 0x2804, "RDLEN": 0x2808, "SRRCTL": 0x280c, "RDH": 0x2810,
    "RDT": 0x2818, "RXDCTL": 0x2828, "TDBAL": 0x3800, "TDBAH": 0x3804, "TDLEN": 0x3808, "TDH": 0x3810,
    "TDT": 0x3818, "TXDCTL": 0x3828, "RXCTL": 0x2814, "TXCTL": 0x3814, "TDWBAL": 0x3838, "TDWBAH": 0x383c,
    "TXPBS": 0x3404, "TDFH": 0x3410, "TDFT": 0x3418, "TDFHS": 0x3420, "TDFPC": 0x3430, "DTXCTL": 0x3590,
    "CRCERRS": 0x4000, "ALGNERRC": 0x4004, "SYMERRS": 0x4008, "RXERRC": 0x400c, "MPC": 0x4010, "SCC": 0x4014,
    "ECOL": 0x4018, "MCC": 0x401c, "LATECOL": 0x4020, "COLC": 0x4028, "DC": 0x4030, "TNCRS": 0x4034,
    "SEC": 0x4038, "CEXTERR": 0x403c, "RLEC": 0x4040, "XONRXC": 0x4048, "XONTXC": 0x404c, "XOFFRXC": 0x4050,
    "XOFFTXC": 0x4054, "FCRUC": 0x4058, "PRC64": 0x405c, "PRC127": 0x4060, "PRC255": 0x4064, "PRC511": 0x4068,
    "PRC1023": 0x406c, "PRC1522": 0x4070, "GPRC": 0x4074, "BPRC": 0x4078, "MPRC": 0x407c, "GPTC": 0x4080,
    "GORCL": 0x4088, "GORCH": 0x408c, "GOTCL": 0x4090, "GOTCH": 0x4094, "RNBC": 0x40a0, "RUC": 0x40a4,
    "RFC": 0x40a8, "ROC": 0x40ac, "RJC": 0x40b0, "MGTPRC": 0x40b4, "MGTPDC": 0x40b8, "MGTPTC": 0x40bc,
    "TORL": 0x40c0, "TORH": 0x40c4, "TOTL": 0x40c8, "TOTH": 0x40cc, "TPR": 0x40d0, "TPT": 0x40d4, "PTC64": 0x40d8,
    "PTC127": 0x40dc, "PTC255": 0x40e0, "PTC511": 0x40e4, "PTC1023": 0x40e8, "PTC1522": 0x40ec, "MPTC": 0x40f0,
    "BPTC": 0x40f4, "TSCTC": 0x40f8, "TSCTFC": 0x40fc, "IAC": 0x4100, "ICRXPTC": 0x4104, "ICRXATC": 0x4108,
    "ICTXPTC": 0x410c, "ICTXATC": 0x4110, "ICTXQEC": 0x4118, "ICTXQMTC": 0x411c, "ICRXDMTC": 0x4120,
    "ICRXOC": 0x4124, "PCS_CFG0": 0x4200, "PCS_LCTL": 0x4208, "PCS_LSTAT": 0x420c, "CBTMPC": 0x402c,
    "HTDPMC": 0x403c, "CBRMPC": 0x40fc, "RPTHC": 0x4104, "HGPTC": 0x4118, "HTCBDPC": 0x4124, "HGORCL": 0x4128,
    "HGORCH": 0x412c, "HGOTCL": 0x4130, "HGOTCH": 0x4134, "LENERRS": 0x4138, "SCVPC": 0x4228, "PCS_ANADV": 0x4218,
    "PCS_LPAB": 0x421c, "PCS_NPTX": 0x4220, "PCS_LPABNP": 0x4224, "RXCSUM": 0x5000, "RLPML": 0x5004,
    "RFCTL": 0x5008, "MTA": 0x5200, "RA": 0x5400, "RA2": 0x54e0, "PSRTYPE": 0x5480, "RAL": 0x5400, "RAH": 0x5404,
    "VLAPQF": 0x55b0, "VFTA": 0x5600, "VT_CTL": 0x581c, "WUC": 0x5800, "WUFC": 0x5808, "WUS": 0x5810,
    "MANC": 0x5820, "IPAV": 0x5838, "WUPL": 0x5900, "SW_FW_SYNC": 0x5b5c, "CCMCTL": 0x5b48, "GIOCTL": 0x5b44,
    "SCCTL": 0x5b4c, "GCR": 0x5b00, "FACTPS": 0x5b30, "SWSM": 0x5b50, "FWSM": 0x5b54, "DCA_CTRL": 0x5b74,
    "MRQC": 0x5818, "IMIR": 0x5a80, "IMIREXT": 0x5aa0, "IMIRVP": 0x5ac0, "RETA": 0x5c00, "RSSRK": 0x5c80,
    "MBVFICR": 0x0c80, "MBVFIMR": 0x0c84, "VFLRE": 0x0c88, "VFRE": 0x0c8c, "VFTE": 0x0c90, "QDE": 0x2408,
    "DTXSWC": 0x3500, "WVBR": 0x3554, "RPLOLR": 0x5af0, "UTA": 0xa000, "IOVTCL": 0x5bbc, "TXSWC": 0x5acc,
    "LVMMC": 0x3548, "P2VMAILBOX": 0x0c00, "VMBMEM": 0x0800, "VMOLR": 0x5ad0, "DVMOLR": 0xc038, "VLVF": 0x5d00,
    "VMVIR": 0x3700, "PCIEMISC": 0x5bb8,
}
# fmt: on


@pytest.mark.parametrize("name", sorted(LINUX))
def test_linux_finds_each_register_by_name_where_it_expects_it(name: str) -> None:
    register, index = MAP.find(name)
    assert MAP.lookup(LINUX[name]) == (register, index)


# The register test of `ethtool -t` on an 82576: name, elements, bits that must be stored, bits that are written.
SELF_TEST = [
    ("FCAL", 1, 0xFFFFFFFF, 0xFFFFFFFF),
    ("FCAH", 1, 0x0000FFFF, 0xFFFFFFFF),
    ("FCT", 1, 0x0000FFFF, 0xFFFFFFFF),
    ("VET", 1, 0xFFFFFFFF, 0xFFFFFFFF),
    ("RDBAL", 16, 0xFFFFFF80, 0xFFFFFFFF),
    ("RDBAH", 16, 0xFFFFFFFF, 0xFFFFFFFF),
    ("RDLEN", 16, 0x000FFFF0, 0x000FFFFF),
    ("RDT", 16, 0x0000FFFF, 0x0000FFFF),
    ("FCRTH", 1, 0x0000FFF0, 0x0000FFF0),
    ("FCTTV", 1, 0x0000FFFF, 0x0000FFFF),
    ("TIPG", 1, 0x3FFFFFFF, 0x3FFFFFFF),
    ("TDBAL", 16, 0xFFFFFF80, 0xFFFFFFFF),
    ("TDBAH", 16, 0xFFFFFFFF, 0xFFFFFFFF),
    ("TDLEN", 16, 0x000FFFF0, 0x000FFFFF),
    ("RAL", 24, 0xFFFFFFFF, 0xFFFFFFFF),
    ("RAH", 24, 0x83FFFFFF, 0xFFFFFFFF),
    ("MTA", 128, 0xFFFFFFFF, 0xFFFFFFFF),
]
PATTERNS = (0x5A5A5A5A, 0xA5A5A5A5, 0x00000000, 0xFFFFFFFF)


@pytest.mark.parametrize(("name", "count", "mask", "write"), SELF_TEST, ids=[row[0] for row in SELF_TEST])
def test_plain_storage_passes_the_drivers_register_test(name: str, count: int, mask: int, write: int) -> None:
    register = MAP[name]
    assert register.count == count
    masks, values = MAP.write_masks(), MAP.reset_words()
    for offset in register.offsets:
        for pattern in PATTERNS:
            stored = int(values[offset // 4]) & ~int(masks[offset // 4]) | pattern & write & int(masks[offset // 4])
            assert stored & mask == pattern & write & mask


@pytest.mark.parametrize(("name", "count", "mask", "write"), SELF_TEST, ids=[row[0] for row in SELF_TEST])
def test_nothing_more_than_the_registers_bits_is_stored(name: str, count: int, mask: int, write: int) -> None:
    assert MAP[name].writable == mask


def test_rctl_and_tctl_hold_what_the_register_test_writes() -> None:
    assert 0x04CFB0FE & ~rx.RCTL.writable == 0
    for register in (rx.RCTL, tx.TCTL):
        after_writing_0 = register.reset & ~register.writable
        assert after_writing_0 == 0
        assert register.read_only == 0


def test_status_is_read_only_but_for_phyra() -> None:
    assert mac.STATUS.writable == 0
    assert mac.STATUS.read_only & (1 << 10) == 0
    assert mac.STATUS.field("PHYRA").access is Access.W0C


def test_all_causes_of_the_interrupt_test_exist() -> None:
    for register in (interrupts.ICR, interrupts.ICS, interrupts.IMS, interrupts.IMC):
        every = sum(item.mask for item in register.fields)
        assert 0x77D4FBFD & ~every == 0
    assert interrupts.ICR.w1c & 0x77D4FBFD == 0x77D4FBFD
    assert interrupts.ICR.read_clear & 0x77D4FBFD == 0x77D4FBFD
    assert interrupts.ICR["INT_ASSERTED"] == 1 << 31


# Masks as Linux's headers and QEMU's have them, typed from there.
MASKS = [
    (mac.CTRL, "RST", 0x04000000),
    (mac.CTRL, "SLU", 0x40),
    (mac.CTRL, "GIO_MASTER_DISABLE", 0x4),
    (mac.CTRL, "SPEED", 0x300),
    (mac.CTRL, "FRCSPD", 0x800),
    (mac.CTRL, "FRCDPX", 0x1000),
    (mac.CTRL, "ADVD3WUC", 0x100000),
    (mac.CTRL, "RFCE", 0x08000000),
    (mac.CTRL, "TFCE", 0x10000000),
    (mac.CTRL, "VME", 0x40000000),
    (mac.CTRL, "PHY_RST", 0x80000000),
    (mac.STATUS, "LU", 0x2),
    (mac.STATUS, "FD", 0x1),
    (mac.STATUS, "FUNC", 0xC),
    (mac.STATUS, "SPEED", 0xC0),
    (mac.STATUS, "GIO_MASTER_ENABLE", 0x80000),
    (mac.STATUS, "NUM_VFS", 0xF << 14),
    (mac.STATUS, "IOV_MODE", 0x40000),
    (mac.CTRL_EXT, "PFRSTD", 0x4000),
    (mac.CTRL_EXT, "LINK_MODE", 0xC00000),
    (mac.CTRL_EXT, "EIAME", 0x01000000),
    (mac.CTRL_EXT, "DRV_LOAD", 0x10000000),
    (mac.CTRL_EXT, "EXT_VLAN", 1 << 26),
    (mac.CTRL_EXT, "PBA_CLR", 0x80000000),
    (mac.MDIC, "DATA", 0xFFFF),
    (mac.MDIC, "REG", 0x1F0000),
    (mac.MDIC, "PHY", 0x3E00000),
    (mac.MDIC, "OP_WRITE", 0x04000000),
    (mac.MDIC, "OP_READ", 0x08000000),
    (mac.MDIC, "READY", 0x10000000),
    (mac.MDIC, "ERROR", 0x40000000),
    (eeprom.EECD, "GNT", 0x80),
    (eeprom.EECD, "PRES", 0x100),
    (eeprom.EECD, "AUTO_RD", 0x200),
    (eeprom.EECD, "ADDR_BITS", 0x400),
    (eeprom.EECD, "SIZE_EX", 0x7800),
    (eeprom.EERD, "DONE", 0x2),
    (eeprom.EERD, "ADDR", 0xFFFC),
    (eeprom.EEMNGCTL, "CFG_DONE_0", 0x40000),
    (pcie.GCR, "CMPL_TMOUT", 0xF000),
    (pcie.GCR, "CMPL_TMOUT_RESEND", 0x10000),
    (pcie.GCR, "CAP_VER2", 0x40000),
    (pcie.SW_FW_SYNC, "SW_PHY_SM0", 0x2),
    (mac.CONNSW, "ENRGSRC", 0x4),
    (mac.FCRTL, "XONE", 0x80000000),
    (rx.RCTL, "EN", 0x2),
    (rx.RCTL, "LBM", 0xC0),
    (rx.RCTL, "MO", 0x3000),
    (rx.RCTL, "BAM", 0x8000),
    (rx.RCTL, "BSIZE", 0x30000),
    (rx.RCTL, "VFE", 0x40000),
    (rx.RCTL, "SECRC", 0x04000000),
    (rx.RXCSUM, "IPOFL", 0x100),
    (rx.RXCSUM, "CRCOFL", 0x800),
    (rx.RXCSUM, "PCSD", 0x2000),
    (rx.RFCTL, "IPV6_EX_DIS", 0x10000),
    (rx.RFCTL, "LEF", 0x40000),
    (rx.SRRCTL, "BSIZEPKT", 0x7F),
    (rx.SRRCTL, "BSIZEHDR", 0x3F00),
    (rx.SRRCTL, "DESCTYPE", 0x0E000000),
    (rx.SRRCTL, "DROP_EN", 0x80000000),
    (rx.RXDCTL, "QUEUE_ENABLE", 0x02000000),
    (tx.TXDCTL, "QUEUE_ENABLE", 0x02000000),
    (tx.TCTL, "CT", 0xFF0),
    (tx.TCTL, "COLD", 0x3FF000),
    (tx.TCTL, "RTLC", 0x01000000),
    (tx.DTXCTL, "8023LL", 0x4),
    (tx.DTXCTL, "SPOOF_INT", 0x40),
    (tx.RTTBCNRC, "RF_INT", 0x3FFF << 14),
    (filters.MRQC, "RSS_FIELD_IPV4_TCP", 0x10000),
    (filters.MRQC, "RSS_FIELD_IPV6_TCP", 0x200000),
    (filters.MRQC, "RSS_FIELD_IPV4_UDP", 0x400000),
    (filters.MRQC, "RSS_FIELD_IPV6_UDP_EX", 0x01000000),
    (filters.RAH, "AV", 0x80000000),
    (filters.RAH, "POOLSEL", 0x03FC0000),
    (filters.ETQF, "FILTER_ENABLE", 1 << 26),
    (filters.ETQF, "1588", 1 << 30),
    (filters.ETQF, "QUEUE_ENABLE", 1 << 31),
    (filters.FTQF, "VF_BP", 0x8000),
    (filters.FTQF, "1588_TIME_STAMP", 0x08000000),
    (filters.FTQF, "MASK_PROTO_BP", 0x10000000),
    (filters.FTQF, "MASK_SOURCE_PORT_BP", 0x80000000),
    (filters.IMIREXT, "SIZE_BP", 0x1000),
    (filters.IMIREXT, "CTRL_BP", 0x80000),
    (filters.VLAPQF, "VLANP2V", 1 << 11),
    (interrupts.ICR, "TXDW", 0x1),
    (interrupts.ICR, "LSC", 0x4),
    (interrupts.ICR, "RXDMT0", 0x10),
    (interrupts.ICR, "RXO", 0x40),
    (interrupts.ICR, "RXT0", 0x80),
    (interrupts.ICR, "VMMB", 0x100),
    (interrupts.ICR, "TS", 0x80000),
    (interrupts.ICR, "DOUTSYNC", 0x10000000),
    (interrupts.ICR, "DRSTA", 0x40000000),
    (interrupts.GPIE, "NSICR", 0x1),
    (interrupts.GPIE, "MSIX_MODE", 0x10),
    (interrupts.GPIE, "EIAME", 0x40000000),
    (interrupts.GPIE, "PBA", 0x80000000),
    (interrupts.EITR, "CNT_IGNR", 0x80000000),
    (interrupts.EITR, "INTERVAL", 0x7FFC),
    (ptp.TSYNCRXCTL, "TYPE", 0xE),
    (ptp.TSYNCTXCTL, "ENABLED", 0x10),
    (vmdq.VT_CTL, "DEFAULT_POOL", 0x7 << 7),
    (vmdq.VMOLR, "RSSE", 0x20000),
    (vmdq.VMOLR, "STRVLAN", 0x40000000),
    (vmdq.VLVF, "POOLSEL", 0xFF << 12),
    (vmdq.VLVF, "LVLAN", 0x100000),
    (vmdq.VMVIR, "VLANA_NEVER", 0x80000000),
    (vmdq.DTXSWC, "VMDQ_LOOPBACK_EN", 1 << 31),
    (vmdq.MBVFICR, "VFACK", 0xFF0000),
    (vmdq.V2PMAILBOX, "RSTD", 0x80),
    (wakeup.WUFC, "MAG", 0x2),
    (wakeup.WUS, "NS_DIRECTED", 0x400),
    (mac.PCS_LCTL, "AN_TIMEOUT", 0x40000),
    (MAP["MANC"], "BLK_PHY_RST_ON_IDE", 0x40000),
]


@pytest.mark.parametrize(("register", "name", "mask"), MASKS, ids=[f"{r.name}.{n}" for r, n, _ in MASKS])
def test_masks_are_those_of_the_headers(register: Register, name: str, mask: int) -> None:
    assert register[name] == mask


def test_what_drivers_write_is_stored_whole() -> None:
    written = [
        (interrupts.GPIE, 0xC0000011),
        (interrupts.IVAR_MISC, 0x8000),
        (interrupts.IVAR, 0x83828180),
        (interrupts.EIAC, 0x1FF),
        (interrupts.EIAM, 0x1FF),
        (interrupts.EITR, 0x7FFC),
        (rx.RXDCTL, 0x02040808),
        (tx.TXDCTL, 0x02010108),
        (rx.SRRCTL, 0x82000402),
        (filters.MRQC, 0x00F70002),
        (filters.FTQF, 0x6800_8011),
        (filters.ETQF, 0x440088F7),
        (vmdq.VMOLR, 0xDB01_2600),
        (vmdq.VLVF, 0x800FF064),
        (ptp.TIMINCA, 0x01800000),
    ]
    for register, value in written:
        assert value & ~register.writable == 0, register.name


def test_reset_values_that_drivers_rely_on() -> None:
    words = MAP.reset_words()

    def at(offset: int) -> int:
        return int(words[offset // 4])

    assert at(0x100) == 0  # RCTL: the receiver is off
    assert at(0x2404) & 0x7F == 0x40  # RXPBS
    assert at(0xC028) == 0x02010000  # RXDCTL[0]: queue 0 is on
    assert at(0x2828) == 0x02010000
    assert at(0xC068) == 0x00010000
    assert at(0xE028) == at(0x3828) == 0x02000000  # TXDCTL[0]
    assert at(0xE068) == 0
    assert at(0x38) == 0x81008100
    assert at(0x1010) >> 18 & 1  # the PHY's configuration is done
    assert at(0x10) & 0x300 == 0x300  # an EEPROM is there and has been read
    assert at(0x18) >> 22 & 3 == 0  # copper
    assert at(0x410) == 0x00601008
    assert at(0x5004) == 0x2600
    for offset in (0x1514, 0x1524, 0x152C, 0x1530, 0xD0, 0xE0, 0x5818, 0x3500):
        assert at(offset) == 0
    assert at(0x280C) >> 25 & 7 == 0  # legacy receive descriptors


def test_queue_blocks_are_aliases_of_each_other() -> None:
    aliases = MAP.alias_table()
    for n in range(4):
        for low in (0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x28, 0x30):
            assert aliases[0x2800 + 0x100 * n + low] == 0xC000 + 0x40 * n + low
        for low in (0x00, 0x04, 0x08, 0x10, 0x14, 0x18, 0x28, 0x38, 0x3C):
            assert aliases[0x3800 + 0x100 * n + low] == 0xE000 + 0x40 * n + low


def test_low_aliases_of_the_tables() -> None:
    aliases = MAP.alias_table()
    assert [aliases[0x40 + 4 * i] for i in range(32)] == [0x5400 + 4 * i for i in range(32)]
    assert [aliases[0x200 + 4 * i] for i in range(128)] == [0x5200 + 4 * i for i in range(128)]
    assert [aliases[0x600 + 4 * i] for i in range(128)] == [0x5600 + 4 * i for i in range(128)]
    assert aliases[0x168] == 0x2160
    assert aliases[0x4] == 0x0


def test_canonical_words_agree_with_the_alias_table() -> None:
    canonical = MAP.canonical()
    moved = {i * 4: int(word) * 4 for i, word in enumerate(canonical) if word != i}
    assert moved == MAP.alias_table()


def test_arrays_cover_the_region() -> None:
    assert WORDS * 4 == BAR0_SIZE == 0x20000
    for words in (MAP.reset_words(), MAP.write_masks(), MAP.w1c_masks(), MAP.read_clear_masks()):
        assert words.shape == (WORDS,)
        assert words.dtype == np.uint32
        assert not words[~MAP.known()].any()
    assert not (MAP.write_masks() & MAP.w1c_masks()).any()


def test_arrays_belong_to_the_caller() -> None:
    MAP.reset_words()[:] = 1
    assert MAP.reset_words()[0x100 // 4] == 0


def test_receive_addresses_are_in_two_pieces() -> None:
    assert filters.RAL.at(15) == 0x5478
    assert filters.RAL.at(16) == 0x54E0
    assert filters.RAH.at(23) == 0x551C
    assert MAP.find("RA2") == (filters.RAL, 16)
    with pytest.raises(IndexError):
        filters.RAL.at(24)


@pytest.mark.parametrize(
    ("text", "name", "index"),
    [
        ("CTRL", "CTRL", 0),
        ("rdbal[3]", "RDBAL", 3),
        ("Rdbal(0)", "RDBAL", 0),
        ("RA2[7]", "RAL", 23),
        ("VTCTRL[1]", "PVTCTRL", 1),
    ],
)
def test_find(text: str, name: str, index: int) -> None:
    register, i = MAP.find(text)
    assert (register.name, i) == (name, index)


@pytest.mark.parametrize(
    "text", ["", "NOSUCH", "RDBAL[16]", "RDBAL[", "RDBAL[-1]", "CTRL[1]", "RA2[8]", "0x100", "CTRL; ls"]
)
def test_find_refuses_what_is_no_register(text: str) -> None:
    with pytest.raises((KeyError, IndexError)):
        MAP.find(text)


def test_match_is_a_glob_over_all_names() -> None:
    assert [register.name for register in MAP.match("rdba?")] == ["RDBAL", "RDBAH"]
    assert [register.name for register in MAP.match("GO[RT]C*")] == ["GORCL", "GORCH", "GOTCL", "GOTCH"]
    assert MAP.match("PFVFGPRC") == [stats.PVFGPRC]
    assert MAP.match("nothing*") == []


@given(st.integers(-8, BAR0_SIZE + 8))
def test_lookup_never_fails_and_agrees_with_find(offset: int) -> None:
    found = MAP.lookup(offset)
    name = MAP.name_of(offset)
    if found is None:
        assert offset < 0 or offset >= BAR0_SIZE or not MAP.known()[offset // 4]
    else:
        assert MAP.find(name) == found
        assert MAP.alias_table().get(offset & ~3, offset & ~3) == found[0].at(found[1])


def test_two_registers_at_one_offset_are_refused() -> None:
    with pytest.raises(ValueError, match="both at 0x100"):
        RegisterMap([Register("A", 0x100, ""), Register("B", 0xF8, "", count=3)])
    with pytest.raises(ValueError, match="both at 0x100"):
        RegisterMap([Register("A", 0x100, ""), Register("B", 0x200, "", aliases=(Block(0x100),))])
    with pytest.raises(ValueError, match="called"):
        RegisterMap([Register("A", 0x100, ""), Register("B", 0x104, "", also=("a",))])
    with pytest.raises(ValueError, match="outside"):
        RegisterMap([Register("A", BAR0_SIZE, "")])


def test_fields_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="overlaps"):
        Register("A", 0, "", fields=(field("X", 0, 4), field("Y", 3)))
    with pytest.raises(ValueError, match="don't fit"):
        Register("A", 0, "", fields=(field("X", 30, 3),))
    with pytest.raises(ValueError, match="twice"):
        Register("A", 0, "", fields=(field("X", 0), field("X", 1)))


def test_a_wrong_field_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="CTRL has no field SLUU"):
        mac.CTRL["SLUU"]
    with pytest.raises(KeyError, match="no register NOPE"):
        MAP["NOPE"]
    assert "SLU" in mac.CTRL
    assert "SLUU" not in mac.CTRL
    assert "ctrl" in MAP


REGISTERS = [register for register in MAP if register.fields]


@given(st.sampled_from(REGISTERS), st.integers(0, 0xFFFFFFFF))
def test_construct_and_masks_read_the_same(register: Register, value: int) -> None:
    parsed = register.layout.parse(value.to_bytes(4, "little"))
    assert {item.name: parsed[item.name] for item in register.fields} == register.decode(value)
    for item in register.fields:
        assert register.get(value, item.name) == parsed[item.name]


@given(st.sampled_from(REGISTERS), st.integers(0, 0xFFFFFFFF))
def test_construct_and_put_write_the_same(register: Register, value: int) -> None:
    fields = register.decode(value)
    assert register.layout.build(fields) == register.put(**fields).to_bytes(4, "little")
    every = sum(item.mask for item in register.fields)
    assert register.put(**fields) == value & every
    assert register.put(value) == value


@pytest.mark.parametrize("register", list(MAP), ids=[register.name for register in MAP])
def test_access_masks_do_not_overlap(register: Register) -> None:
    assert register.writable & (register.w1c | register.read_only | register.read_clear | register.write_only) == 0
    assert register.reset & ~0xFFFFFFFF == 0
    if register.fields:
        every = sum(item.mask for item in register.fields)
        assert all(register.reset_of(i) & ~every == 0 for i in range(register.count)), register.name


def test_put_refuses_a_number_too_big() -> None:
    assert mac.MDIC.put(REG=31, PHY=1, OP_READ=1) == 0x083F0000
    with pytest.raises(ValueError, match="5 bits"):
        mac.MDIC.put(REG=32)
    with pytest.raises(ValueError, match="1 bits"):
        mac.CTRL.put(SLU=-1)


def test_format_names_what_is_set() -> None:
    assert mac.STATUS.format(0x80080783) == (
        "0x80080783 (FD=1, LU=1, SPEED=2, ASDV=3, PHYRA=1, GIO_MASTER_ENABLE=1, DMA_CLK_GATE_EN=1)"
    )
    assert mac.MDIC.format(0x1022_02A8) == "0x102202a8 (DATA=0x2a8, REG=2, PHY=1, READY=1)"
    assert mac.FCAL.format(0) == "0x00000000"


def test_statistics_are_cleared_by_reading() -> None:
    clear = MAP.read_clear_masks()
    linux = [name for name, offset in LINUX.items() if 0x4000 <= offset < 0x4140]
    assert len(linux) > 70
    for name in linux:
        assert clear[LINUX[name] // 4] == 0xFFFFFFFF, name
    assert clear[stats.PVFGPRC.offset // 4] == 0
    assert all(high.offset == low.offset + 4 for low, high in stats.PAIRS)


def test_every_register_is_documented() -> None:
    for register in MAP:
        assert register.doc, register.name
        assert register.section.startswith("8."), register.name
