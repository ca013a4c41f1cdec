"""Interrupts: 82576 datasheet, chapter 8.8, and the vector allocation of 7.3.

The same causes appear in four registers (cause, set, mask, mask clear), so the fields are declared once. What access
of a mask register means is the datasheet's: IMS and EIMS set the bits written as 1, IMC and EIMC clear them.
"""

from __future__ import annotations

from .register import Access, Field, Register, field

VECTORS = 25
"""Interrupt causes of MSI-X mode, each with a throttle timer; 10 of them have an entry in this function's table."""

_CAUSES: tuple[tuple[str, int, str, tuple[str, ...]], ...] = (
    ("TXDW", 0, "transmit descriptor written back", ()),
    ("LSC", 2, "link status change", ()),
    ("RXSEQ", 3, "receive sequence error", ()),
    ("RXDMT0", 4, "receive ring below its minimum threshold", ()),
    ("MACSEC", 5, "MACsec packet counter wants a new key", ()),
    ("RXO", 6, "receive overrun", ()),
    ("RXDW", 7, "receive descriptor written back", ("RXT0",)),
    ("VMMB", 8, "mailbox message, acknowledgement or reset of a VF", ()),
    ("MDAC", 9, "an MDIO access has ended", ()),
    ("GPI_SDP0", 11, "SDP0 pin", ()),
    ("GPI_SDP1", 12, "SDP1 pin", ()),
    ("GPI_SDP2", 13, "SDP2 pin", ()),
    ("GPI_SDP3", 14, "SDP3 pin", ()),
    ("PTRAP", 15, "probe trap", ()),
    ("MNG", 18, "manageability event", ()),
    ("TIME_SYNC", 19, "time sync", ("TS",)),
    ("OMED", 20, "other media energy detected", ()),
    ("FER", 22, "fatal error", ()),
    ("NFER", 23, "non-fatal error", ()),
    ("CSRTO", 24, "register access timed out", ()),
    ("SCE", 25, "storm control event", ()),
    ("SW_WD", 26, "software watchdog", ()),
    ("DOUTSYNC", 28, "DMA transmit queue out of sync: spoofed or malformed", ()),
    ("TCP_TIMER", 29, "TCP timer", ()),
    ("DRSTA", 30, "device reset asserted", ()),
)


def _causes(access: Access, *more: Field) -> tuple[Field, ...]:
    return (*(field(name, bit, 1, access, doc, also) for name, bit, doc, also in _CAUSES), *more)


def _extended(access: Access) -> tuple[Field, ...]:
    return (
        field("VECTOR", 0, VECTORS, access, "MSI-X mode: a bit each vector; else bits 15:0 by IVAR"),
        field("TCP_TIMER", 30, 1, access, "not in MSI-X mode: the TCP timer"),
        field("OTHER", 31, 1, access, "not in MSI-X mode: a cause of ICR"),
    )


ICR = Register(
    "ICR",
    0x00C0,
    "Interrupt Cause Read",
    "8.8",
    fields=_causes(Access.RC_W1C, field("INT_ASSERTED", 31, 1, Access.RC, "a cause of ICR raised the interrupt")),
)
ITR = Register("ITR", 0x00C4, "Interrupt Throttling, of older parts", "8.8", access=Access.RSV, modelled=False)
ICS = Register("ICS", 0x00C8, "Interrupt Cause Set", "8.8", fields=_causes(Access.WO))
IMS = Register("IMS", 0x00D0, "Interrupt Mask Set/Read", "8.8", fields=_causes(Access.W1S))
IMC = Register("IMC", 0x00D8, "Interrupt Mask Clear", "8.8", fields=_causes(Access.WO))
IAM = Register("IAM", 0x00E0, "Interrupt Acknowledge Auto Mask", "8.8", fields=_causes(Access.RW))

GPIE = Register(
    "GPIE",
    0x1514,
    "General Purpose Interrupt Enable",
    "8.8",
    fields=(
        field("NSICR", 0, doc="reading ICR clears it whatever IMS says"),
        field("MSIX_MODE", 4, doc="one vector a cause, by IVAR"),
        field("LLI_INTERVAL", 7, 5, doc="low latency interrupts: credits come each 4 us times this"),
        field("EIAME", 30, doc="an MSI-X message clears the bits of EIAM in EIMS"),
        field("PBA", 31, doc="MSI-X pending bits are kept while the vector is enabled"),
    ),
)
EICS = Register("EICS", 0x1520, "Extended Interrupt Cause Set", "8.8", fields=_extended(Access.WO))
EIMS = Register("EIMS", 0x1524, "Extended Interrupt Mask Set/Read", "8.8", fields=_extended(Access.W1S))
EIMC = Register("EIMC", 0x1528, "Extended Interrupt Mask Clear", "8.8", fields=_extended(Access.WO))
EIAC = Register("EIAC", 0x152C, "Extended Interrupt Auto Clear", "8.8", fields=(field("VECTOR", 0, VECTORS),))
EIAM = Register("EIAM", 0x1530, "Extended Interrupt Auto Mask Enable", "8.8", fields=_extended(Access.RW))
EICR = Register("EICR", 0x1580, "Extended Interrupt Cause Read", "8.8", fields=_extended(Access.RC_W1C))

EITR = Register(
    "EITR",
    0x1680,
    "Extended Interrupt Throttle",
    "8.8",
    count=VECTORS,
    fields=(
        field("INTERVAL", 2, 13, doc="microseconds between two interrupts"),
        field("LLI_EN", 15, doc="low latency interrupts are moderated"),
        field("LL_COUNTER", 16, 5, doc="credits of low latency interrupts"),
        field("COUNTER", 21, 10, doc="what is left of the interval"),
        field("CNT_IGNR", 31, 1, Access.WO, "keep both counters"),
    ),
)


def _ivar(*names: str) -> tuple[Field, ...]:
    return tuple(
        item
        for n, name in enumerate(names)
        for item in (field(name, 8 * n, 5, doc="vector"), field(f"{name}_VALID", 8 * n + 7))
    )


IVAR = Register(
    "IVAR",
    0x1700,
    "Interrupt Vector Allocation: register q holds queues q and q + 8",
    "8.8",
    count=8,
    fields=_ivar("RX", "TX", "RX8", "TX8"),
    also=("IVAR0",),
)
IVAR_MISC = Register(
    "IVAR_MISC", 0x1740, "Interrupt Vector Allocation of other causes", "8.8", fields=_ivar("TCP_TIMER", "OTHER")
)
IVAR_VALID = 0x80
"""The valid bit within each byte of IVAR."""

PBACL = Register("PBACL", 0x5B68, "MSI-X PBA Clear", "8.8", fields=(field("PENBIT", 0, VECTORS, Access.W1C),))
