"""Descriptors: 82576 datasheet 7.1.4 and 7.1.5 (receive), 7.2.2 (transmit). All are 16 bytes, little-endian.

construct declares the layouts; `struct_of` and `dtype_of` derive from them, once at import, what the packet path uses.
The words that hold more than one thing are declared bit by bit like registers, `offset` being their place in the
descriptor. The constants below are masks in those words, named as in Linux.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Any, Final

import construct as cs
import numpy as np

from .register import Access, Register, field

SIZE: Final = 16
"""Bytes of every descriptor."""

LEGACY_RX = cs.Struct(
    "buffer_addr" / cs.Int64ul,
    "length" / cs.Int16ul,
    "csum" / cs.Int16ul,
    "status" / cs.Int8ul,
    "errors" / cs.Int8ul,
    "special" / cs.Int16ul,
)
"""7.1.4: what SRRCTL.DESCTYPE 0 selects, the default after reset."""

ADV_RX_READ = cs.Struct("pkt_addr" / cs.Int64ul, "hdr_addr" / cs.Int64ul)
"""7.1.5.1: as the driver posts it."""

ADV_RX_WB = cs.Struct(
    "pkt_info" / cs.Int16ul,
    "hdr_info" / cs.Int16ul,
    "rss" / cs.Int32ul,
    "status_error" / cs.Int32ul,
    "length" / cs.Int16ul,
    "vlan" / cs.Int16ul,
)
"""7.1.5.2: as the card writes it back, with RXCSUM.PCSD set."""

ADV_RX_WB_CSUM = cs.Struct(
    "pkt_info" / cs.Int16ul,
    "hdr_info" / cs.Int16ul,
    "ip_id" / cs.Int16ul,
    "csum" / cs.Int16ul,
    "status_error" / cs.Int32ul,
    "length" / cs.Int16ul,
    "vlan" / cs.Int16ul,
)
"""7.1.5.2: the same with RXCSUM.PCSD clear: packet checksum and IP identification instead of the hash."""

LEGACY_TX = cs.Struct(
    "buffer_addr" / cs.Int64ul,
    "length" / cs.Int16ul,
    "cso" / cs.Int8ul,
    "cmd" / cs.Int8ul,
    "status" / cs.Int8ul,
    "css" / cs.Int8ul,
    "special" / cs.Int16ul,
)
"""7.2.2.1: a transmit descriptor without DEXT."""

ADV_TX_CONTEXT = cs.Struct(
    "vlan_macip_lens" / cs.Int32ul,
    "seqnum_seed" / cs.Int32ul,
    "type_tucmd_mlhl" / cs.Int32ul,
    "mss_l4len_idx" / cs.Int32ul,
)
"""7.2.2.2: sets the offloads of the data descriptors that follow."""

ADV_TX_DATA = cs.Struct("buffer_addr" / cs.Int64ul, "cmd_type_len" / cs.Int32ul, "olinfo_status" / cs.Int32ul)
"""7.2.2.3: a buffer of a packet."""

ADV_TX_WB = cs.Struct("rsvd" / cs.Int64ul, "nxtseq_seed" / cs.Int32ul, "status" / cs.Int32ul)
"""7.2.2.3: what the card writes over a data descriptor when RS asks for it."""

LAYOUTS: Final[dict[str, cs.Construct[Any, Any]]] = {
    "legacy rx": LEGACY_RX,
    "advanced rx read": ADV_RX_READ,
    "advanced rx write-back": ADV_RX_WB,
    "advanced rx write-back with checksum": ADV_RX_WB_CSUM,
    "legacy tx": LEGACY_TX,
    "advanced tx context": ADV_TX_CONTEXT,
    "advanced tx data": ADV_TX_DATA,
    "advanced tx write-back": ADV_TX_WB,
}


def _members(layout: Any) -> Iterator[tuple[str, str, int]]:
    """(name, struct's letter, size in bytes) of each member. TypeError unless all are little-endian integers."""
    for member in layout.subcons:
        plain = member.subcon
        if not isinstance(plain, cs.FormatField) or plain.fmtstr[0] != "<":
            raise TypeError(f"{member.name} isn't a little-endian integer")
        yield str(member.name), plain.fmtstr[1], plain.sizeof()


def struct_of(layout: Any) -> struct.Struct:
    """The `struct.Struct` of a layout: unpack gives the members in order."""
    return struct.Struct("<" + "".join(letter for _, letter, _ in _members(layout)))


def dtype_of(layout: Any) -> np.dtype[np.void]:
    """The numpy dtype of a layout: a ring is an array of it. Sizes are construct's: "<L" has 8 bytes in numpy."""
    return np.dtype([(name, f"<{'u' if letter.isupper() else 'i'}{size}") for name, letter, size in _members(layout)])


ADV_RX_WB_STRUCT: Final = struct_of(ADV_RX_WB)
ADV_RX_WB_CSUM_STRUCT: Final = struct_of(ADV_RX_WB_CSUM)
LEGACY_RX_STRUCT: Final = struct_of(LEGACY_RX)
LEGACY_TX_STRUCT: Final = struct_of(LEGACY_TX)
ADV_TX_CONTEXT_STRUCT: Final = struct_of(ADV_TX_CONTEXT)
ADV_TX_DATA_STRUCT: Final = struct_of(ADV_TX_DATA)

LEGACY_RX_DTYPE: Final = dtype_of(LEGACY_RX)
ADV_RX_READ_DTYPE: Final = dtype_of(ADV_RX_READ)
ADV_RX_WB_DTYPE: Final = dtype_of(ADV_RX_WB)
ADV_RX_WB_CSUM_DTYPE: Final = dtype_of(ADV_RX_WB_CSUM)
LEGACY_TX_DTYPE: Final = dtype_of(LEGACY_TX)
ADV_TX_CONTEXT_DTYPE: Final = dtype_of(ADV_TX_CONTEXT)
ADV_TX_DATA_DTYPE: Final = dtype_of(ADV_TX_DATA)
ADV_TX_WB_DTYPE: Final = dtype_of(ADV_TX_WB)


class RssType(enum.IntEnum):
    """ADV_RX_WB.pkt_info bits 3:0: what the hash was computed over."""

    NONE = 0
    TCP_IPV4 = 1
    IPV4 = 2
    TCP_IPV6 = 3
    IPV6_EX = 4
    IPV6 = 5
    TCP_IPV6_EX = 6
    UDP_IPV4 = 7
    UDP_IPV6 = 8
    UDP_IPV6_EX = 9


PKT_INFO = Register(
    "pkt_info",
    0,
    "RSS type and packet type; the 13th bit of the packet type is in hdr_info",
    "7.1.5.2",
    bits=16,
    fields=(
        field("RSS_TYPE", 0, 4),
        field("IPV4", 4),
        field("IPV4_EXT", 5, doc="with options"),
        field("IPV6", 6),
        field("IPV6_EXT", 7, doc="with extension headers"),
        field("TCP", 8),
        field("UDP", 9),
        field("SCTP", 10),
        field("NFS", 11),
        field("ESP", 12),
        field("AH", 13),
        field("MACSEC", 14),
        field("L2", 15, doc="an ETQF filter matched: bits 6:4 are its number instead"),
    ),
)
HDR_INFO = Register(
    "hdr_info",
    2,
    "Header split",
    "7.1.5.2",
    bits=16,
    fields=(
        field("VLAN", 0, doc="packet type: the packet had a VLAN tag"),
        field("HDR_LEN", 5, 10, doc="bytes in the header buffer"),
        field("SPH", 15, doc="the header was found"),
    ),
)
STATUS_ERROR = Register(
    "status_error",
    8,
    "Extended status and errors",
    "7.1.5.2",
    fields=(
        field("DD", 0, doc="descriptor done"),
        field("EOP", 1, doc="last buffer of the packet"),
        field("VP", 3, doc="the VLAN tag was stripped"),
        field("UDPCS", 4, doc="the UDP checksum was looked at"),
        field("L4CS", 5, doc="the L4 checksum was looked at", also=("TCPCS",)),
        field("IPCS", 6, doc="the IPv4 header checksum was looked at"),
        field("PIF", 7, doc="no exact filter matched"),
        field("VEXT", 9, doc="the outer of two tags was there"),
        field("UDPV", 10, doc="the UDP checksum field isn't 0"),
        field("LLINT", 11, doc="the packet caused a low latency interrupt"),
        field("TS", 16, doc="the packet was time stamped"),
        field("SECP", 17, doc="MACsec or IPsec was applied"),
        field("LB", 18, doc="from a VM of this card"),
        field("HBO", 23, doc="the header is longer than its buffer"),
        field("CE", 24, doc="CRC error"),
        field("SE", 25, doc="symbol error"),
        field("SEQ", 26, doc="sequence error"),
        field("CXE", 28, doc="carrier extension error"),
        field("L4E", 29, doc="the L4 checksum is wrong", also=("TCPE",)),
        field("IPE", 30, doc="the IPv4 header checksum is wrong"),
        field("RXE", 31, doc="receive data error"),
    ),
)

RXD_STAT_DD: Final = STATUS_ERROR["DD"]
RXD_STAT_EOP: Final = STATUS_ERROR["EOP"]
RXD_STAT_IXSM: Final = 0x04  # legacy only: the checksum bits mean nothing
RXD_STAT_VP: Final = STATUS_ERROR["VP"]
RXD_STAT_UDPCS: Final = STATUS_ERROR["UDPCS"]
RXD_STAT_L4CS: Final = STATUS_ERROR["L4CS"]
RXD_STAT_TCPCS: Final = RXD_STAT_L4CS
RXD_STAT_IPCS: Final = STATUS_ERROR["IPCS"]
RXD_STAT_PIF: Final = STATUS_ERROR["PIF"]
RXDADV_STAT_VEXT: Final = STATUS_ERROR["VEXT"]
RXDADV_STAT_UDPV: Final = STATUS_ERROR["UDPV"]
RXDADV_STAT_LLINT: Final = STATUS_ERROR["LLINT"]
RXDADV_STAT_TS: Final = STATUS_ERROR["TS"]
RXDEXT_STATERR_LB: Final = STATUS_ERROR["LB"]
RXDADV_ERR_HBO: Final = STATUS_ERROR["HBO"]
RXDEXT_STATERR_CE: Final = STATUS_ERROR["CE"]
RXDEXT_STATERR_SE: Final = STATUS_ERROR["SE"]
RXDEXT_STATERR_SEQ: Final = STATUS_ERROR["SEQ"]
RXDEXT_STATERR_CXE: Final = STATUS_ERROR["CXE"]
RXDEXT_STATERR_TCPE: Final = STATUS_ERROR["L4E"]
RXDEXT_STATERR_IPE: Final = STATUS_ERROR["IPE"]
RXDEXT_STATERR_RXE: Final = STATUS_ERROR["RXE"]

RXDADV_HDRBUFLEN_MASK: Final = HDR_INFO["HDR_LEN"]
RXDADV_HDRBUFLEN_SHIFT: Final = HDR_INFO.shift("HDR_LEN")
RXDADV_SPH: Final = HDR_INFO["SPH"]

LEGACY_RX_STATUS = Register(
    "status",
    12,
    "Legacy receive: status in the low byte, errors in the high byte",
    "7.1.4",
    bits=16,
    fields=(
        field("DD", 0),
        field("EOP", 1),
        field("IXSM", 2, doc="the checksum bits mean nothing"),
        field("VP", 3),
        field("UDPCS", 4),
        field("L4CS", 5),
        field("IPCS", 6),
        field("PIF", 7),
        field("CE", 8),
        field("SE", 9),
        field("SEQ", 10),
        field("CXE", 12),
        field("L4E", 13),
        field("IPE", 14),
        field("RXE", 15),
    ),
)

CMD_TYPE_LEN = Register(
    "cmd_type_len",
    8,
    "Command, type and length of an advanced data descriptor",
    "7.2.2.3",
    fields=(
        field("DTALEN", 0, 16, doc="bytes in the buffer"),
        field("MACSEC", 18),
        field("MAC_TSTAMP", 19, doc="stamp this packet's transmission", also=("1588",)),
        field("DTYP", 20, 4, doc="2: context, 3: data"),
        field("EOP", 24, doc="last buffer of the packet"),
        field("IFCS", 25, doc="insert the FCS"),
        field("RS", 27, doc="report when done"),
        field("DEXT", 29, doc="advanced, not legacy"),
        field("VLE", 30, doc="insert the context's VLAN tag"),
        field("TSE", 31, doc="segment by the context's MSS"),
    ),
)
OLINFO_STATUS = Register(
    "olinfo_status",
    12,
    "Offloads and status of an advanced data descriptor",
    "7.2.2.3",
    fields=(
        field("DD", 0, access=Access.RO, doc="done: written back by the card"),
        field("IDX", 4, 3, doc="which of the queue's contexts"),
        field("CC", 7, doc="use the context even without TSE"),
        field("IXSM", 8, doc="insert the IPv4 header checksum"),
        field("TXSM", 9, doc="insert the L4 checksum"),
        field("IPSEC", 10),
        field("PAYLEN", 14, 18, doc="bytes of payload, without headers in case of TSE"),
    ),
)
VLAN_MACIP_LENS = Register(
    "vlan_macip_lens",
    0,
    "Header lengths and the VLAN tag of a context",
    "7.2.2.2",
    fields=(field("IPLEN", 0, 9), field("MACLEN", 9, 7), field("VLAN", 16, 16)),
)
TYPE_TUCMD_MLHL = Register(
    "type_tucmd_mlhl",
    8,
    "Packet types of a context",
    "7.2.2.2",
    fields=(
        field("SNAP", 9),
        field("IPV4", 10, doc="IPv4, else IPv6"),
        field("L4T", 11, 2, doc="0: UDP, 1: TCP, 2: SCTP"),
        field("IPSEC_TYPE", 13),
        field("ENCRYPTION", 14),
        field("DTYP", 20, 4, doc="2: context"),
        field("DEXT", 29),
    ),
)
MSS_L4LEN_IDX = Register(
    "mss_l4len_idx",
    12,
    "Segment size, L4 header length and number of a context",
    "7.2.2.2",
    fields=(field("IDX", 4, 3), field("L4LEN", 8, 8), field("MSS", 16, 16)),
)

DTYP_CONTEXT: Final = 2
DTYP_DATA: Final = 3
ADVTXD_DTYP_MASK: Final = CMD_TYPE_LEN["DTYP"]
ADVTXD_DTYP_CTXT: Final = CMD_TYPE_LEN.put(DTYP=DTYP_CONTEXT)
ADVTXD_DTYP_DATA: Final = CMD_TYPE_LEN.put(DTYP=DTYP_DATA)
ADVTXD_DTALEN_MASK: Final = CMD_TYPE_LEN["DTALEN"]
ADVTXD_MAC_TSTAMP: Final = CMD_TYPE_LEN["MAC_TSTAMP"]
ADVTXD_DCMD_EOP: Final = CMD_TYPE_LEN["EOP"]
ADVTXD_DCMD_IFCS: Final = CMD_TYPE_LEN["IFCS"]
ADVTXD_DCMD_RS: Final = CMD_TYPE_LEN["RS"]
ADVTXD_DCMD_DEXT: Final = CMD_TYPE_LEN["DEXT"]
ADVTXD_DCMD_VLE: Final = CMD_TYPE_LEN["VLE"]
ADVTXD_DCMD_TSE: Final = CMD_TYPE_LEN["TSE"]
ADVTXD_STAT_DD: Final = OLINFO_STATUS["DD"]
ADVTXD_CC: Final = OLINFO_STATUS["CC"]
ADVTXD_IDX_SHIFT: Final = OLINFO_STATUS.shift("IDX")
ADVTXD_POPTS_IXSM: Final = OLINFO_STATUS["IXSM"]
ADVTXD_POPTS_TXSM: Final = OLINFO_STATUS["TXSM"]
ADVTXD_PAYLEN_SHIFT: Final = OLINFO_STATUS.shift("PAYLEN")
ADVTXD_MACLEN_SHIFT: Final = VLAN_MACIP_LENS.shift("MACLEN")
ADVTXD_VLAN_SHIFT: Final = VLAN_MACIP_LENS.shift("VLAN")
ADVTXD_TUCMD_SNAP: Final = TYPE_TUCMD_MLHL["SNAP"]
ADVTXD_TUCMD_IPV4: Final = TYPE_TUCMD_MLHL["IPV4"]
ADVTXD_TUCMD_L4T_UDP: Final = TYPE_TUCMD_MLHL.put(L4T=0)
ADVTXD_TUCMD_L4T_TCP: Final = TYPE_TUCMD_MLHL.put(L4T=1)
ADVTXD_TUCMD_L4T_SCTP: Final = TYPE_TUCMD_MLHL.put(L4T=2)
ADVTXD_L4LEN_SHIFT: Final = MSS_L4LEN_IDX.shift("L4LEN")
ADVTXD_MSS_SHIFT: Final = MSS_L4LEN_IDX.shift("MSS")

LEGACY_TX_COMMAND = Register(
    "command",
    8,
    "Length, checksum offset and command of a legacy transmit descriptor",
    "7.2.2.1",
    fields=(
        field("LENGTH", 0, 16),
        field("CSO", 16, 8, doc="where the checksum is put"),
        field("EOP", 24, doc="last buffer of the packet"),
        field("IFCS", 25, doc="insert the FCS"),
        field("IC", 26, doc="insert a checksum"),
        field("RS", 27, doc="report when done"),
        field("DEXT", 29, doc="0: legacy"),
        field("VLE", 30, doc="insert the VLAN tag in `special`"),
        field("IDE", 31, doc="delay the interrupt; ignored"),
    ),
)
TXD_CMD_EOP: Final = LEGACY_TX_COMMAND["EOP"]
TXD_CMD_IFCS: Final = LEGACY_TX_COMMAND["IFCS"]
TXD_CMD_IC: Final = LEGACY_TX_COMMAND["IC"]
TXD_CMD_RS: Final = LEGACY_TX_COMMAND["RS"]
TXD_CMD_DEXT: Final = LEGACY_TX_COMMAND["DEXT"]
TXD_CMD_VLE: Final = LEGACY_TX_COMMAND["VLE"]
TXD_CMD_IDE: Final = LEGACY_TX_COMMAND["IDE"]
TXD_STAT_DD: Final = 0x1


def explain_tx(raw: bytes) -> str:
    """One line on a transmit descriptor as the driver wrote it. ValueError unless it is 16 bytes."""
    if len(raw) != SIZE:
        raise ValueError(f"a descriptor has {SIZE} bytes, not {len(raw)}")
    address, word2, word3 = ADV_TX_DATA_STRUCT.unpack(raw)
    if not word2 & TXD_CMD_DEXT:
        return f"legacy {address:#x} {LEGACY_TX_COMMAND.format(word2)} css={word3 >> 8 & 0xFF} vlan={word3 >> 16:#x}"
    if word2 & ADVTXD_DTYP_MASK == ADVTXD_DTYP_CTXT:
        lens, seed, types, mss = ADV_TX_CONTEXT_STRUCT.unpack(raw)
        parts = (VLAN_MACIP_LENS.format(lens), TYPE_TUCMD_MLHL.format(types), MSS_L4LEN_IDX.format(mss))
        return f"context {' '.join(parts)} seed={seed:#x}"
    return f"data {address:#x} {CMD_TYPE_LEN.format(word2)} {OLINFO_STATUS.format(word3)}"


def explain_rx(raw: bytes) -> str:
    """One line on an advanced receive descriptor that was written back. ValueError unless it is 16 bytes."""
    if len(raw) != SIZE:
        raise ValueError(f"a descriptor has {SIZE} bytes, not {len(raw)}")
    info, header, rss, status, length, vlan = ADV_RX_WB_STRUCT.unpack(raw)
    return (
        f"length={length} vlan={vlan:#x} rss={rss:#x} {PKT_INFO.format(info)} "
        f"{HDR_INFO.format(header)} {STATUS_ERROR.format(status)}"
    )
