"""Statistics: 82576 datasheet, chapter 8.18. Reading clears a counter, and a counter stays at its maximum.

64-bit counters are a pair of registers whose low word is read first. The per-VF counters of 0x10010 onward roll over
instead and aren't cleared by reading. Some offsets carry a second, older name in Linux: `also` knows them.
"""

from __future__ import annotations

from typing import Any

from .register import Access, Register


def _counter(name: str, offset: int, doc: str, **more: Any) -> Register:
    return Register(name, offset, doc, "8.18", access=Access.RC, **more)


def _vf(name: str, offset: int, doc: str, **more: Any) -> Register:
    return Register(name, offset, doc, "8.18", count=8, stride=0x100, access=Access.RO, **more)


CRCERRS = _counter("CRCERRS", 0x4000, "CRC errors")
ALGNERRC = _counter("ALGNERRC", 0x4004, "Alignment errors")
SYMERRS = _counter("SYMERRS", 0x4008, "Symbol errors")
RXERRC = _counter("RXERRC", 0x400C, "Receive errors")
MPC = _counter("MPC", 0x4010, "Missed packets: no room in the packet buffer")
SCC = _counter("SCC", 0x4014, "Single collisions")
ECOL = _counter("ECOL", 0x4018, "Excessive collisions")
MCC = _counter("MCC", 0x401C, "Multiple collisions")
LATECOL = _counter("LATECOL", 0x4020, "Late collisions")
COLC = _counter("COLC", 0x4028, "Collisions")
CBTMPC = _counter("CBTMPC", 0x402C, "Circuit breaker transmit manageability packets")
DC = _counter("DC", 0x4030, "Deferrals")
TNCRS = _counter("TNCRS", 0x4034, "Transmit without carrier sense")
SEC = _counter("SEC", 0x4038, "Sequence errors")
HTDPMC = _counter("HTDPMC", 0x403C, "Host packets that the MAC discarded in transmission", also=("CEXTERR",))
RLEC = _counter("RLEC", 0x4040, "Receive length errors")
CBRDPC = _counter("CBRDPC", 0x4044, "Circuit breaker received and dropped")
XONRXC = _counter("XONRXC", 0x4048, "XON received")
XONTXC = _counter("XONTXC", 0x404C, "XON transmitted")
XOFFRXC = _counter("XOFFRXC", 0x4050, "XOFF received")
XOFFTXC = _counter("XOFFTXC", 0x4054, "XOFF transmitted")
FCRUC = _counter("FCRUC", 0x4058, "Unsupported flow control frames received")
PRC64 = _counter("PRC64", 0x405C, "Packets received of 64 bytes")
PRC127 = _counter("PRC127", 0x4060, "Packets received of 65 to 127 bytes")
PRC255 = _counter("PRC255", 0x4064, "Packets received of 128 to 255 bytes")
PRC511 = _counter("PRC511", 0x4068, "Packets received of 256 to 511 bytes")
PRC1023 = _counter("PRC1023", 0x406C, "Packets received of 512 to 1023 bytes")
PRC1522 = _counter("PRC1522", 0x4070, "Packets received of 1024 bytes to the maximum")
GPRC = _counter("GPRC", 0x4074, "Good packets received")
BPRC = _counter("BPRC", 0x4078, "Broadcasts received")
MPRC = _counter("MPRC", 0x407C, "Multicasts received")
GPTC = _counter("GPTC", 0x4080, "Good packets transmitted")
GORCL = _counter("GORCL", 0x4088, "Good octets received, low")
GORCH = _counter("GORCH", 0x408C, "Good octets received, high")
GOTCL = _counter("GOTCL", 0x4090, "Good octets transmitted, low")
GOTCH = _counter("GOTCH", 0x4094, "Good octets transmitted, high")
RNBC = _counter("RNBC", 0x40A0, "Receive without host buffers")
RUC = _counter("RUC", 0x40A4, "Undersize frames received, CRC good")
RFC = _counter("RFC", 0x40A8, "Fragments received: undersize, CRC bad")
ROC = _counter("ROC", 0x40AC, "Oversize frames received, CRC good")
RJC = _counter("RJC", 0x40B0, "Jabbers received: oversize, CRC bad")
MGTPRC = _counter("MGTPRC", 0x40B4, "Management packets received", also=("MNGPRC",))
MGTPDC = _counter("MGTPDC", 0x40B8, "Management packets dropped", also=("MPDC",))
MGTPTC = _counter("MGTPTC", 0x40BC, "Management packets transmitted", also=("MNGPTC",))
TORL = _counter("TORL", 0x40C0, "Total octets received, low")
TORH = _counter("TORH", 0x40C4, "Total octets received, high")
TOTL = _counter("TOTL", 0x40C8, "Total octets transmitted, low")
TOTH = _counter("TOTH", 0x40CC, "Total octets transmitted, high")
TPR = _counter("TPR", 0x40D0, "Total packets received")
TPT = _counter("TPT", 0x40D4, "Total packets transmitted")
PTC64 = _counter("PTC64", 0x40D8, "Packets transmitted of 64 bytes")
PTC127 = _counter("PTC127", 0x40DC, "Packets transmitted of 65 to 127 bytes")
PTC255 = _counter("PTC255", 0x40E0, "Packets transmitted of 128 to 255 bytes")
PTC511 = _counter("PTC511", 0x40E4, "Packets transmitted of 256 to 511 bytes")
PTC1023 = _counter("PTC1023", 0x40E8, "Packets transmitted of 512 to 1023 bytes")
PTC1522 = _counter("PTC1522", 0x40EC, "Packets transmitted of 1024 bytes or more")
MPTC = _counter("MPTC", 0x40F0, "Multicasts transmitted")
BPTC = _counter("BPTC", 0x40F4, "Broadcasts transmitted")
TSCTC = _counter("TSCTC", 0x40F8, "TCP segmentation contexts transmitted")
CBRMPC = _counter("CBRMPC", 0x40FC, "Circuit breaker received manageability packets", also=("TSCTFC",))
IAC = _counter("IAC", 0x4100, "Interrupts asserted")
RPTHC = _counter("RPTHC", 0x4104, "Packets received and handed to the host", also=("ICRXPTC",))
DEBUG1 = _counter("DEBUG1", 0x4108, "Debug counter 1", also=("ICRXATC",), modelled=False)
DEBUG2 = _counter("DEBUG2", 0x410C, "Debug counter 2", also=("ICTXPTC",), modelled=False)
DEBUG3 = _counter("DEBUG3", 0x4110, "Debug counter 3", also=("ICTXATC",), modelled=False)
HGPTC = _counter("HGPTC", 0x4118, "Host good packets transmitted", also=("ICTXQEC",))
DEBUG4 = _counter("DEBUG4", 0x411C, "Debug counter 4", also=("ICTXQMTC",), modelled=False)
RXDMTC = _counter("RXDMTC", 0x4120, "Receive rings below their minimum threshold", also=("ICRXDMTC",))
HTCBDPC = _counter("HTCBDPC", 0x4124, "Host packets dropped by the circuit breaker", also=("ICRXOC",))
HGORCL = _counter("HGORCL", 0x4128, "Host good octets received, low")
HGORCH = _counter("HGORCH", 0x412C, "Host good octets received, high")
HGOTCL = _counter("HGOTCL", 0x4130, "Host good octets transmitted, low")
HGOTCH = _counter("HGOTCH", 0x4134, "Host good octets transmitted, high")
LENERRS = _counter("LENERRS", 0x4138, "Length errors")
SSVPC = _counter("SSVPC", 0x41A0, "Switch security violations: spoofed packets dropped")
SCVPC = _counter("SCVPC", 0x4228, "SerDes code violations")
SDPC = _counter("SDPC", 0x41A4, "Switch drops: no room in the switch buffer")

PVFGPRC = _vf("PVFGPRC", 0x10010, "Good packets received by a VF", also=("PFVFGPRC", "PQGPRC"))
PVFGPTC = _vf("PVFGPTC", 0x10014, "Good packets transmitted by a VF", also=("PFVFGPTC", "PQGPTC"))
PVFGORC = _vf("PVFGORC", 0x10018, "Good octets received by a VF", also=("PFVFGORC", "PQGORC"))
PVFGOTC = _vf("PVFGOTC", 0x10034, "Good octets transmitted by a VF", also=("PFVFGOTC", "PQGOTC"))
PVFMPRC = _vf("PVFMPRC", 0x1003C, "Multicasts received by a VF", also=("PFVFMPRC", "PQMPRC"))
PVFGPRLBC = _vf("PVFGPRLBC", 0x10040, "Good packets received by a VF from the switch", also=("PFVFGPRLBC",))
PVFGPTLBC = _vf("PVFGPTLBC", 0x10044, "Good packets transmitted by a VF to the switch", also=("PFVFGPTLBC",))
PVFGORLBC = _vf("PVFGORLBC", 0x10048, "Good octets received by a VF from the switch", also=("PFVFGORLBC",))
PVFGOTLBC = _vf("PVFGOTLBC", 0x10050, "Good octets transmitted by a VF to the switch", also=("PFVFGOTLBC",))

PAIRS: tuple[tuple[Register, Register], ...] = (
    (GORCL, GORCH),
    (GOTCL, GOTCH),
    (TORL, TORH),
    (TOTL, TOTH),
    (HGORCL, HGORCH),
    (HGOTCL, HGOTCH),
)
"""The 64-bit counters: (low, high). Reading the high word clears both."""
