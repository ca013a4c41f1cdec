"""Time sync (IEEE 1588): 82576 datasheet, chapter 8.16.

SYSTIM is a 64-bit count to which TIMINCA.INCVALUE is added every INCPERIOD x 16 ns.
"""

from __future__ import annotations

import enum

from .register import Access, Register, field

RO = Access.RO


class StampType(enum.IntEnum):
    """Values of TSYNCRXCTL.TYPE: which received packets are stamped."""

    L2_V2 = 0
    L4_V1 = 1
    L2_L4_V2 = 2
    ALL = 4
    EVENT_V2 = 5


SYSTIML = Register("SYSTIML", 0xB600, "System Time Low", "8.16")
SYSTIMH = Register("SYSTIMH", 0xB604, "System Time High", "8.16")
TIMINCA = Register(
    "TIMINCA",
    0xB608,
    "Time Increment Attributes",
    "8.16",
    fields=(field("INCVALUE", 0, 24), field("INCPERIOD", 24, 8, doc="units of 16 ns")),
    reset=0x0100_0000,
)
TIMADJL = Register("TIMADJL", 0xB60C, "Time Adjustment Offset Low", "8.16")
TIMADJH = Register(
    "TIMADJH",
    0xB610,
    "Time Adjustment Offset High: writing it adds the offset",
    "8.16",
    fields=(field("TADJH", 0, 31), field("SIGN", 31, doc="1: subtract")),
)
TSYNCTXCTL = Register(
    "TSYNCTXCTL",
    0xB614,
    "Transmit Time Sync Control",
    "8.16",
    fields=(field("VALID", 0, access=RO, doc="TXSTMP holds a stamp; reading TXSTMPH clears it"), field("ENABLED", 4)),
)
TXSTMPL = Register("TXSTMPL", 0xB618, "Transmit Time Stamp Low", "8.16", access=RO)
TXSTMPH = Register("TXSTMPH", 0xB61C, "Transmit Time Stamp High", "8.16", access=RO)
TSYNCRXCTL = Register(
    "TSYNCRXCTL",
    0xB620,
    "Receive Time Sync Control",
    "8.16",
    fields=(
        field("VALID", 0, access=RO, doc="RXSTMP holds a stamp; reading RXSTMPH clears it"),
        field("TYPE", 1, 3, doc="which packets are stamped"),
        field("ENABLED", 4),
    ),
)
RXSTMPL = Register("RXSTMPL", 0xB624, "Receive Time Stamp Low", "8.16", access=RO)
RXSTMPH = Register("RXSTMPH", 0xB628, "Receive Time Stamp High", "8.16", access=RO)
RXSATRL = Register("RXSATRL", 0xB62C, "Source UUID of the stamped packet, low", "8.16", access=RO)
RXSATRH = Register(
    "RXSATRH",
    0xB630,
    "Source UUID high and sequence id of the stamped packet",
    "8.16",
    fields=(field("SRCIDH", 0, 16, RO), field("SEQUENCE_ID", 16, 16, RO)),
)
TSYNCRXCFG = Register(
    "TSYNCRXCFG",
    0x5F50,
    "Receive Time Sync Configuration",
    "8.16",
    fields=(
        field("CTRLT", 0, 8, doc="control field of version 1 packets that are stamped"),
        field("MSGT", 8, 8, doc="first byte of version 2 packets: transportSpecific and messageType"),
    ),
)
TSAUXC = Register(
    "TSAUXC",
    0xB640,
    "Auxiliary Control",
    "8.16",
    fields=(
        field("EN_TT0", 0, doc="target time 0"),
        field("EN_TT1", 1, doc="target time 1"),
        field("EN_CLK0", 2, doc="clock out 0"),
        field("SAMP_AUT0", 3, doc="latch the time into AUXSTMP0"),
        field("ST0", 4),
        field("EN_CLK1", 5, doc="clock out 1"),
        field("SAMP_AUT1", 6, doc="latch the time into AUXSTMP1"),
        field("ST1", 7),
        field("EN_TS0", 8, doc="stamp on a change of SDP 0"),
        field("AUTT0", 9, doc="AUXSTMP0 holds a stamp"),
        field("EN_TS1", 10, doc="stamp on a change of SDP 1"),
        field("AUTT1", 11, doc="AUXSTMP1 holds a stamp"),
        field("PLSG", 17, doc="pulse instead of a level"),
        field("DISABLE", 31, doc="stop SYSTIM"),
    ),
    modelled=False,
)
TRGTTIML0 = Register("TRGTTIML0", 0xB644, "Target Time 0 Low", "8.16", modelled=False)
TRGTTIMH0 = Register("TRGTTIMH0", 0xB648, "Target Time 0 High", "8.16", modelled=False)
TRGTTIML1 = Register("TRGTTIML1", 0xB64C, "Target Time 1 Low", "8.16", modelled=False)
TRGTTIMH1 = Register("TRGTTIMH1", 0xB650, "Target Time 1 High", "8.16", modelled=False)
FREQOUT0 = Register("FREQOUT0", 0xB654, "Frequency Out 0", "8.16", modelled=False)
FREQOUT1 = Register("FREQOUT1", 0xB658, "Frequency Out 1", "8.16", modelled=False)
AUXSTMPL0 = Register("AUXSTMPL0", 0xB65C, "Auxiliary Time Stamp 0 Low", "8.16", access=RO, modelled=False)
AUXSTMPH0 = Register("AUXSTMPH0", 0xB660, "Auxiliary Time Stamp 0 High", "8.16", access=RO, modelled=False)
AUXSTMPL1 = Register("AUXSTMPL1", 0xB664, "Auxiliary Time Stamp 1 Low", "8.16", access=RO, modelled=False)
AUXSTMPH1 = Register("AUXSTMPH1", 0xB668, "Auxiliary Time Stamp 1 High", "8.16", access=RO, modelled=False)
TSSDP = Register("TSSDP", 0x003C, "Time Sync SDP Configuration", "8.16", modelled=False)
TSICR = Register(
    "TSICR",
    0xB66C,
    "Time Sync Interrupt Cause, of later parts: Linux reads it on all",
    "8.16",
    access=Access.RSV,
    modelled=False,
)
TSIM = Register("TSIM", 0xB674, "Time Sync Interrupt Mask, of later parts", "8.16", access=Access.RSV, modelled=False)
