"""Which frames are taken and to which queue they go: 82576 datasheet, chapter 8.11 (filters) and 8.10 (RSS)."""

from __future__ import annotations

import enum

from .register import Block, Register, field


class MultipleQueues(enum.IntEnum):
    """Values of MRQC.ENABLE: what chooses the receive queue."""

    NONE = 0
    RSS_MQ = 2
    VMDQ = 3
    VMDQ_DEF_Q = 4
    VMDQ_RSS_MQ = 5


MTA = Register("MTA", 0x5200, "Multicast Table Array: 4096 bits", "8.11", count=128, aliases=(Block(0x0200, 4, 128),))
RAL = Register(
    "RAL",
    0x5400,
    "Receive Address Low: bytes 0 to 3 of a MAC address",
    "8.11",
    count=24,
    stride=8,
    aliases=(Block(0x0040, 8, 16),),
    continued=(Block(0x54E0, 8, 8),),
)
RAH = Register(
    "RAH",
    0x5404,
    "Receive Address High: bytes 4 and 5, what the entry is compared with, and its pools",
    "8.11",
    count=24,
    stride=8,
    aliases=(Block(0x0044, 8, 16),),
    continued=(Block(0x54E4, 8, 8),),
    fields=(
        field("RAH", 0, 16),
        field("ASEL", 16, 2, doc="0: destination address, 1: source address"),
        field("POOLSEL", 18, 8, doc="a bit for each pool"),
        field("AV", 31, doc="address valid"),
    ),
)
VFTA = Register(
    "VFTA", 0x5600, "VLAN Filter Table Array: 4096 bits", "8.11", count=128, aliases=(Block(0x0600, 4, 128),)
)
UTA = Register("UTA", 0xA000, "Unicast Table Array: 4096 bits", "8.11", count=128)

MRQC = Register(
    "MRQC",
    0x5818,
    "Multiple Receive Queues Command",
    "8.10",
    fields=(
        field("ENABLE", 0, 3, doc="0: off, 2: RSS, 3: VMDq, 4: VMDq by DEF_Q, 5: VMDq and RSS"),
        field("DEF_Q", 3, 3, doc="default queue"),
        field("RSS_FIELD_IPV4_TCP", 16),
        field("RSS_FIELD_IPV4", 17),
        field("RSS_FIELD_IPV6_TCP_EX", 18),
        field("RSS_FIELD_IPV6_EX", 19),
        field("RSS_FIELD_IPV6", 20),
        field("RSS_FIELD_IPV6_TCP", 21),
        field("RSS_FIELD_IPV4_UDP", 22),
        field("RSS_FIELD_IPV6_UDP", 23),
        field("RSS_FIELD_IPV6_UDP_EX", 24),
    ),
)
RETA = Register("RETA", 0x5C00, "Redirection Table: 128 entries of a byte, low 4 bits used", "8.10", count=32)
RSSRK = Register("RSSRK", 0x5C80, "RSS Random Key: 40 bytes", "8.10", count=10)

ETQF = Register(
    "ETQF",
    0x5CB0,
    "EtherType Queue Filter",
    "8.11",
    count=8,
    fields=(
        field("ETYPE", 0, 16),
        field("QUEUE", 16, 4, doc="receive queue; Linux uses 3 bits of it"),
        field("FILTER_ENABLE", 26),
        field("IMM_INT", 29, doc="immediate interrupt"),
        field("1588", 30, doc="packets are time stamped"),
        field("QUEUE_ENABLE", 31),
    ),
)
SAQF = Register("SAQF", 0x5980, "Source Address Queue Filter", "8.11", count=8, also=("SAQF0",))
DAQF = Register("DAQF", 0x59A0, "Destination Address Queue Filter", "8.11", count=8, also=("DAQF0",))
SPQF = Register(
    "SPQF",
    0x59C0,
    "Source Port Queue Filter, in network byte order",
    "8.11",
    count=8,
    fields=(field("SPQF", 0, 16),),
    also=("SPQF0",),
)
FTQF = Register(
    "FTQF",
    0x59E0,
    "5-tuple Queue Filter; the destination port is in IMIR",
    "8.11",
    count=8,
    fields=(
        field("PROTOCOL", 0, 8),
        field("QUEUE_ENABLE", 8),
        field("VF_BP", 15, doc="don't compare VF"),
        field("QUEUE", 16, 4),
        field("VF", 24, 3),
        field("1588_TIME_STAMP", 27, doc="packets are time stamped"),
        field("MASK_PROTO_BP", 28, doc="don't compare the protocol"),
        field("MASK_SOURCE_ADDR_BP", 29, doc="don't compare the source address"),
        field("MASK_DEST_ADDR_BP", 30, doc="don't compare the destination address"),
        field("MASK_SOURCE_PORT_BP", 31, doc="don't compare the source port"),
    ),
    also=("FTQF0",),
)
SYNQF = Register(
    "SYNQF", 0x55FC, "SYN Packet Queue Filter", "8.11", fields=(field("QUEUE_ENABLE", 0), field("QUEUE", 1, 4))
)
VLAPQF = Register(
    "VLAPQF",
    0x55B0,
    "VLAN Priority Queue Filter",
    "8.11",
    fields=tuple(
        item for n in range(8) for item in (field(f"VP{n}QSEL", 4 * n, 3), field(f"VLANP{n}V", 4 * n + 3, doc="valid"))
    ),
)
IMIR = Register(
    "IMIR",
    0x5A80,
    "Immediate Interrupt Receive",
    "8.11",
    count=8,
    fields=(
        field("PORT", 0, 16, doc="destination port, in network byte order"),
        field("PORT_IM_EN", 16, doc="packets that match interrupt at once"),
        field("PORT_BP", 17, doc="don't compare the port"),
        field("PRIORITY", 29, 3, doc="of the 5-tuple filter"),
    ),
)
IMIREXT = Register(
    "IMIREXT",
    0x5AA0,
    "Immediate Interrupt Receive Extended",
    "8.11",
    count=8,
    fields=(
        field("SIZE_THRESH", 0, 12, doc="packets shorter than this match"),
        field("SIZE_BP", 12, doc="don't compare the size"),
        field("CTRL_URG", 13),
        field("CTRL_ACK", 14),
        field("CTRL_PSH", 15),
        field("CTRL_RST", 16),
        field("CTRL_SYN", 17),
        field("CTRL_FIN", 18),
        field("CTRL_BP", 19, doc="don't look at the TCP flags"),
    ),
)
IMIRVP = Register(
    "IMIRVP",
    0x5AC0,
    "Immediate Interrupt Receive VLAN Priority",
    "8.11",
    fields=(field("VLAN_PRI", 0, 3), field("VLAN_PRI_EN", 3)),
)
