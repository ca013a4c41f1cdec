"""Transmit: 82576 datasheet, chapter 8.12, the transmit half of 8.13 (DCA), and the rate limits of the VM queues.

Queue n lives at 0xE000 + 0x40 n; queues 0 to 3 appear a second time at 0x3800 + 0x100 n, as on older parts.
"""

from __future__ import annotations

from typing import Any

from .register import Access, Block, Register, field, unmodelled

QUEUES = 16


def _queue(name: str, at: int, doc: str, **more: Any) -> Register:
    return Register(
        name,
        0xE000 + at,
        doc,
        count=QUEUES,
        stride=0x40,
        aliases=(Block(0x3800 + at, 0x100, 4),),
        **more,
    )


TCTL = Register(
    "TCTL",
    0x0400,
    "Transmit Control",
    "8.12.1",
    reset=0xA404_00F8,
    fields=(
        field("EN", 1, doc="transmitter enable"),
        field("PSP", 3, doc="pad short packets to 64 bytes"),
        field("CT", 4, 8, doc="collision threshold"),
        field("COLD", 12, 10, doc="collision distance"),
        field("SWXOFF", 22, access=Access.SC, doc="send an XOFF frame"),
        field("RTLC", 24, doc="retransmit on late collision"),
        field("RSV", 26, 6, doc="reserved, with a default of 101001b"),
    ),
)
TCTL_EXT = Register(
    "TCTL_EXT",
    0x0404,
    "Transmit Control Extended",
    "8.12.2",
    reset=0x0001_0840,
    fields=(field("BST", 0, 10, doc="backoff slot time"), field("COLD", 10, 10, doc="collision distance")),
)
TIPG = Register(
    "TIPG",
    0x0410,
    "Transmit Inter-Packet Gap",
    "8.12.3",
    reset=0x0060_1008,
    fields=(field("IPGT", 0, 10), field("IPGR1", 10, 10), field("IPGR", 20, 10)),
)
AIT = unmodelled("AIT", 0x0458, "Adaptive Interframe Spacing Throttle", "8.12", also=("AIFS",))
DTXCTL = Register(
    "DTXCTL",
    0x3590,
    "DMA Transmit Control",
    "8.12.4",
    reset=0x44,
    fields=(
        field("ENABLE_SPOOF_QUEUE", 1),
        field("8023LL", 2, doc="look for SNAP headers"),
        field("VLAN_ADDED", 3, doc="count on a VLAN tag in offloads"),
        field("OOS_ENABLE", 4, doc="report context descriptors out of sync"),
        field("MDP_EN", 5, doc="malicious driver protection"),
        field("SPOOF_INT", 6, doc="interrupt on spoofed packets"),
    ),
)
DTXTCPFLGL = Register(
    "DTXTCPFLGL",
    0x359C,
    "DMA Transmit TCP Flags Low: kept in the first and the middle segments",
    "8.12",
    reset=0x0FF6_0FF6,
    fields=(field("TCP_FLG_FIRST_SEG", 0, 12), field("TCP_FLG_MID_SEG", 16, 12)),
)
DTXTCPFLGH = Register(
    "DTXTCPFLGH",
    0x35A0,
    "DMA Transmit TCP Flags High: kept in the last segment",
    "8.12",
    reset=0x0000_0F7F,
    fields=(field("TCP_FLG_LST_SEG", 0, 12),),
)
DTXMXSZRQ = Register(
    "DTXMXSZRQ",
    0x3540,
    "DMA Transmit Maximum Total Size of Requests",
    "8.12",
    reset=0x10,
    fields=(field("MAX_BYTES_NUM_REQ", 0, 12),),
    modelled=False,
)

TDBAL = _queue("TDBAL", 0x00, "Transmit Descriptor Base Low", section="8.12.8", fields=(field("TDBAL", 7, 25),))
TDBAH = _queue("TDBAH", 0x04, "Transmit Descriptor Base High", section="8.12.9")
TDLEN = _queue("TDLEN", 0x08, "Transmit Ring Length, bytes", section="8.12.10", fields=(field("LEN", 4, 16),))
TDH = _queue("TDH", 0x10, "Transmit Descriptor Head", section="8.12.11", fields=(field("TDH", 0, 16),))
TXCTL = _queue(
    "TXCTL",
    0x14,
    "Transmit DCA Control",
    section="8.13",
    reset=0x2A00,
    fields=(
        field("DESC_DCA_EN", 5),
        field("DESC_RRO_EN", 9),
        field("TX_WB_RO_EN", 11),
        field("DATA_RRO_EN", 13),
        field("CPUID", 24, 8),
    ),
    also=("DCA_TXCTRL",),
    modelled=False,
)
TDT = _queue("TDT", 0x18, "Transmit Descriptor Tail", section="8.12.12", fields=(field("TDT", 0, 16),))
TXDCTL = _queue(
    "TXDCTL",
    0x28,
    "Transmit Descriptor Control",
    section="8.12.13",
    resets=((0, 0x0200_0000),),
    fields=(
        field("PTHRESH", 0, 5, doc="prefetch threshold"),
        field("HTHRESH", 8, 5, doc="host threshold"),
        field("WTHRESH", 16, 5, doc="write-back threshold"),
        field("ENABLE", 25, doc="queue enable", also=("QUEUE_ENABLE",)),
        field("SWFLSH", 26, access=Access.SC, doc="write back what has been done"),
        field("PRIORITY", 27, doc="high priority queue"),
    ),
)
TDWBAL = _queue(
    "TDWBAL",
    0x38,
    "Transmit Descriptor Head Write-Back Address Low",
    section="8.12.14",
    fields=(
        field("HEAD_WB_EN", 0, doc="write the head to memory instead of DD to descriptors"),
        field("WB_ON_EITR", 1, doc="and when an EITR timer expires"),
        field("HEADWB_LOW", 2, 30, doc="address, a multiple of 4"),
    ),
)
TDWBAH = _queue("TDWBAH", 0x3C, "Transmit Descriptor Head Write-Back Address High", section="8.12.15")

TDFH = unmodelled("TDFH", 0x3410, "Transmit Data FIFO Head", "8.3", aliases=(Block(0x8010),))
TDFT = unmodelled("TDFT", 0x3418, "Transmit Data FIFO Tail", "8.3", aliases=(Block(0x8018),))
TDFHS = unmodelled("TDFHS", 0x3420, "Transmit Data FIFO Head Saved", "8.3")
TDFTS = unmodelled("TDFTS", 0x3428, "Transmit Data FIFO Tail Saved", "8.3")
TDFPC = unmodelled("TDFPC", 0x3430, "Transmit Data FIFO Packet Count", "8.3")

RTTDQSEL = Register(
    "RTTDQSEL", 0x3604, "Transmit Queue Select, for RTTBCNRC", "8.12", fields=(field("TXDQ_IDX", 0, 4),)
)
RTTBCNRM = Register("RTTBCNRM", 0x3690, "Transmit Rate-Scheduler MMW", "8.12", fields=(field("MMW_SIZE", 0, 11),))
RTTBCNRC = Register(
    "RTTBCNRC",
    0x36B0,
    "Transmit Rate-Scheduler Config of the selected queue",
    "8.12",
    fields=(
        field("RF_DEC", 0, 14, doc="link speed / rate: the fraction"),
        field("RF_INT", 14, 14, doc="link speed / rate: the integer part"),
        field("RS_ENA", 31, doc="limit this queue"),
    ),
)
