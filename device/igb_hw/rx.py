"""Receive: 82576 datasheet, chapter 8.10, and the receive half of 8.13 (DCA).

Queue n lives at 0xC000 + 0x40 n; queues 0 to 3 appear a second time at 0x2800 + 0x100 n, as on older parts.
"""

from __future__ import annotations

import enum
from typing import Any

from .register import Access, Block, Register, field, unmodelled

QUEUES = 16


def _queue(name: str, at: int, doc: str, **more: Any) -> Register:
    return Register(
        name,
        0xC000 + at,
        doc,
        count=QUEUES,
        stride=0x40,
        aliases=(Block(0x2800 + at, 0x100, 4),),
        **more,
    )


class LoopbackMode(enum.IntEnum):
    """Values of RCTL.LBM."""

    NORMAL = 0
    MAC = 1
    TRANSCEIVER = 3


class DescriptorType(enum.IntEnum):
    """Values of SRRCTL.DESCTYPE: the descriptor's format, and how a frame's header is split from it."""

    LEGACY = 0
    ADV_ONEBUF = 1
    HDR_SPLIT = 2
    HDR_REPLICATION = 3
    HDR_REPLICATION_LARGE = 4
    HDR_SPLIT_ALWAYS = 5


RCTL = Register(
    "RCTL",
    0x0100,
    "Receive Control",
    "8.10.1",
    fields=(
        field("EN", 1, doc="receiver enable"),
        field("SBP", 2, doc="store bad packets"),
        field("UPE", 3, doc="unicast promiscuous"),
        field("MPE", 4, doc="multicast promiscuous"),
        field("LPE", 5, doc="long packets, up to RLPML"),
        field("LBM", 6, 2, doc="loopback mode"),
        field("RDMTS", 8, 2, doc="minimum threshold: 0: 1/2, 1: 1/4, 2: 1/8 of the ring"),
        field("MO", 12, 2, doc="bits of the address that select in MTA: 0: 47:36, 1: 46:35, 2: 45:34, 3: 43:32"),
        field("BAM", 15, doc="accept broadcasts"),
        field("BSIZE", 16, 2, doc="buffer size if SRRCTL.BSIZEPACKET is 0: 2048, 1024, 512, 256"),
        field("VFE", 18, doc="VLAN filter enable"),
        field("CFIEN", 19, doc="discard frames whose CFI differs from CFI"),
        field("CFI", 20),
        field("PSP", 21, doc="pad small packets"),
        field("DPF", 22, doc="discard PAUSE frames"),
        field("PMCF", 23, doc="pass MAC control frames"),
        field("SECRC", 26, doc="strip the CRC"),
    ),
)

RXCSUM = Register(
    "RXCSUM",
    0x5000,
    "Receive Checksum Control",
    "8.10.15",
    reset=0x300,
    fields=(
        field("PCSS", 0, 8, doc="first byte of the packet checksum"),
        field("IPOFLD", 8, doc="check the IPv4 header checksum", also=("IPOFL",)),
        field("TUOFLD", 9, doc="check the TCP and UDP checksum", also=("TUOFL",)),
        field("CRCOFL", 11, doc="check the SCTP CRC32"),
        field("IPPCSE", 12, doc="IP payload checksum"),
        field("PCSD", 13, doc="descriptors hold the RSS hash instead of packet checksum and IP id"),
    ),
)

RLPML = Register(
    "RLPML", 0x5004, "Receive Long Packet Maximum Length", "8.10", reset=0x2600, fields=(field("RLPML", 0, 14),)
)

RFCTL = Register(
    "RFCTL",
    0x5008,
    "Receive Filter Control",
    "8.10",
    fields=(
        field("ISCSI_DIS", 0),
        field("ISCSI_DWC", 1, 5),
        field("NFSW_DIS", 6),
        field("NFSR_DIS", 7),
        field("NFS_VER", 8, 2),
        field("IPV6_DIS", 10),
        field("IPV6XSUM_DIS", 11),
        field("IPFRSP_DIS", 14, doc="don't split the header of IP fragments"),
        field("EXTEN", 15, doc="reserved here; older parts' extended descriptors"),
        field("IPV6_EX_DIS", 16, doc="don't look at IPv6 home address and routing headers for RSS"),
        field("NEW_IPV6_EXT_DIS", 17),
        field("LEF", 18, doc="forward frames whose length is wrong"),
        field("SYNQFP", 19, doc="SYNQF before the 5-tuple filters"),
    ),
)

RDBAL = _queue("RDBAL", 0x00, "Receive Descriptor Base Low", section="8.10.5", fields=(field("RDBAL", 7, 25),))
RDBAH = _queue("RDBAH", 0x04, "Receive Descriptor Base High", section="8.10.6")
RDLEN = _queue("RDLEN", 0x08, "Receive Ring Length, bytes", section="8.10.7", fields=(field("LEN", 4, 16),))
SRRCTL = _queue(
    "SRRCTL",
    0x0C,
    "Split and Replication Receive Control",
    section="8.10.2",
    reset=0x400,
    fields=(
        field("BSIZEPACKET", 0, 7, doc="size of the packet buffer, KB; 0: RCTL.BSIZE", also=("BSIZEPKT",)),
        field("BSIZEHEADER", 8, 6, doc="size of the header buffer, units of 64 bytes", also=("BSIZEHDR",)),
        field("RDMTS", 20, 5, doc="minimum threshold, units of 16 descriptors"),
        field("DESCTYPE", 25, 3, doc="format of the descriptors"),
        field("DROP_EN", 31, doc="drop when the ring is empty, rather than hold up all queues"),
    ),
)
RDH = _queue("RDH", 0x10, "Receive Descriptor Head", section="8.10.8", fields=(field("RDH", 0, 16),))
RXCTL = _queue(
    "RXCTL",
    0x14,
    "Receive DCA Control",
    section="8.13",
    reset=0xA200,
    fields=(
        field("DESC_DCA_EN", 5),
        field("HEAD_DCA_EN", 6),
        field("DATA_DCA_EN", 7),
        field("DESC_RRO_EN", 9),
        field("DESC_WRO_EN", 11, access=Access.RO),
        field("DATA_WRO_EN", 13),
        field("HEAD_RO_EN", 15),
        field("CPUID", 24, 8),
    ),
    also=("DCA_RXCTRL",),
    modelled=False,
)
RDT = _queue("RDT", 0x18, "Receive Descriptor Tail", section="8.10.9", fields=(field("RDT", 0, 16),))
RXDCTL = _queue(
    "RXDCTL",
    0x28,
    "Receive Descriptor Control",
    section="8.10.10",
    reset=0x0001_0000,
    resets=((0, 0x0201_0000),),
    fields=(
        field("PTHRESH", 0, 5, doc="prefetch threshold"),
        field("HTHRESH", 8, 5, doc="host threshold"),
        field("WTHRESH", 16, 5, doc="write-back threshold"),
        field("ENABLE", 25, doc="queue enable", also=("QUEUE_ENABLE",)),
        field("SWFLUSH", 26, access=Access.SC, doc="write back what has been done"),
    ),
)
RQDPC = _queue(
    "RQDPC",
    0x30,
    "Receive Queue Drop Packet Count",
    section="8.10.11",
    fields=(field("RQDPC", 0, 12, Access.RC),),
)

PSRTYPE = Register(
    "PSRTYPE",
    0x5480,
    "Packet Split Receive Type: which headers are split, one register a pool",
    "8.10.3",
    count=8,
    reset=0x0007_FFFE,
    fields=tuple(
        field(name, bit)
        for bit, name in enumerate(
            (
                "IPV4",
                "IPV4_TCP",
                "IPV4_UDP",
                "IPV4_IPV6",
                "IPV4_IPV6_TCP",
                "IPV4_IPV6_UDP",
                "IPV6",
                "IPV6_TCP",
                "IPV6_UDP",
                "IPV4_NFS",
                "IPV4_TCP_NFS",
                "IPV4_UDP_NFS",
                "IPV4_IPV6_NFS",
                "IPV6_NFS",
                "IPV6_TCP_NFS",
                "IPV6_UDP_NFS",
                "SCTP",
                "IPV6_SCTP",
            ),
            1,
        )
    ),
)

QDE = Register("QDE", 0x2408, "Queue Drop Enable", "8.14", fields=(field("QDE", 0, 16),))
RDFH = unmodelled("RDFH", 0x2410, "Receive Data FIFO Head", "8.3", aliases=(Block(0x8000),))
RDFT = unmodelled("RDFT", 0x2418, "Receive Data FIFO Tail", "8.3", aliases=(Block(0x8008),))
RDFHS = unmodelled("RDFHS", 0x2420, "Receive Data FIFO Head Saved", "8.3")
RDFTS = unmodelled("RDFTS", 0x2428, "Receive Data FIFO Tail Saved", "8.3")
RDFPC = unmodelled("RDFPC", 0x2430, "Receive Data FIFO Packet Count", "8.3")
