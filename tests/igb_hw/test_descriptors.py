"""Descriptor layouts: construct, struct and numpy agree, and the bits are those of Linux's header."""

from __future__ import annotations

from typing import Any

import construct as cs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igb_hw import descriptors as d
from igb_hw.register import Register

RAW = st.binary(min_size=16, max_size=16)
LAYOUT = st.sampled_from(sorted(d.LAYOUTS))


@given(LAYOUT, RAW)
def test_the_three_forms_of_a_layout_agree(name: str, raw: bytes) -> None:
    layout: Any = d.LAYOUTS[name]
    parsed = layout.parse(raw)
    members = [member.name for member in layout.subcons]
    assert d.struct_of(layout).size == d.dtype_of(layout).itemsize == layout.sizeof() == d.SIZE
    assert list(d.struct_of(layout).unpack(raw)) == [parsed[member] for member in members]
    array = np.frombuffer(raw, d.dtype_of(layout))
    assert array.dtype.names is not None
    assert [int(array[0][member]) for member in array.dtype.names] == [parsed[member] for member in members]
    assert layout.build(parsed) == raw


def test_layouts_that_are_no_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="big"):
        d.struct_of(cs.Struct("big" / cs.Int16ub))
    with pytest.raises(TypeError, match="text"):
        d.dtype_of(cs.Struct("text" / cs.Bytes(4)))


@pytest.mark.parametrize(
    ("layout", "member", "offset"),
    [
        (d.LEGACY_RX, "status", 12),
        (d.LEGACY_RX, "special", 14),
        (d.ADV_RX_WB, "rss", 4),
        (d.ADV_RX_WB, "status_error", 8),
        (d.ADV_RX_WB, "length", 12),
        (d.ADV_RX_WB_CSUM, "csum", 6),
        (d.LEGACY_TX, "cso", 10),
        (d.LEGACY_TX, "cmd", 11),
        (d.LEGACY_TX, "status", 12),
        (d.LEGACY_TX, "css", 13),
        (d.ADV_TX_CONTEXT, "mss_l4len_idx", 12),
        (d.ADV_TX_DATA, "cmd_type_len", 8),
        (d.ADV_TX_WB, "status", 12),
    ],
)
def test_members_are_where_the_datasheet_has_them(layout: Any, member: str, offset: int) -> None:
    fields = d.dtype_of(layout).fields
    assert fields is not None
    assert fields[member][1] == offset


CONSTANTS = {
    "RXD_STAT_DD": 0x01,
    "RXD_STAT_EOP": 0x02,
    "RXD_STAT_IXSM": 0x04,
    "RXD_STAT_VP": 0x08,
    "RXD_STAT_UDPCS": 0x10,
    "RXD_STAT_TCPCS": 0x20,
    "RXD_STAT_IPCS": 0x40,
    "RXDADV_STAT_TS": 0x10000,
    "RXDEXT_STATERR_LB": 0x00040000,
    "RXDEXT_STATERR_CE": 0x01000000,
    "RXDEXT_STATERR_SE": 0x02000000,
    "RXDEXT_STATERR_SEQ": 0x04000000,
    "RXDEXT_STATERR_CXE": 0x10000000,
    "RXDEXT_STATERR_TCPE": 0x20000000,
    "RXDEXT_STATERR_IPE": 0x40000000,
    "RXDEXT_STATERR_RXE": 0x80000000,
    "RXDADV_HDRBUFLEN_MASK": 0x7FE0,
    "RXDADV_HDRBUFLEN_SHIFT": 5,
    "ADVTXD_MAC_TSTAMP": 0x00080000,
    "ADVTXD_DTYP_CTXT": 0x00200000,
    "ADVTXD_DTYP_DATA": 0x00300000,
    "ADVTXD_DCMD_EOP": 0x01000000,
    "ADVTXD_DCMD_IFCS": 0x02000000,
    "ADVTXD_DCMD_RS": 0x08000000,
    "ADVTXD_DCMD_DEXT": 0x20000000,
    "ADVTXD_DCMD_VLE": 0x40000000,
    "ADVTXD_DCMD_TSE": 0x80000000,
    "ADVTXD_PAYLEN_SHIFT": 14,
    "ADVTXD_POPTS_IXSM": 0x100,
    "ADVTXD_POPTS_TXSM": 0x200,
    "ADVTXD_MACLEN_SHIFT": 9,
    "ADVTXD_TUCMD_IPV4": 0x400,
    "ADVTXD_TUCMD_L4T_UDP": 0,
    "ADVTXD_TUCMD_L4T_TCP": 0x800,
    "ADVTXD_TUCMD_L4T_SCTP": 0x1000,
    "ADVTXD_L4LEN_SHIFT": 8,
    "ADVTXD_MSS_SHIFT": 16,
    "TXD_CMD_EOP": 0x01000000,
    "TXD_CMD_IFCS": 0x02000000,
    "TXD_CMD_IC": 0x04000000,
    "TXD_CMD_RS": 0x08000000,
    "TXD_CMD_DEXT": 0x20000000,
    "TXD_CMD_VLE": 0x40000000,
    "TXD_CMD_IDE": 0x80000000,
    "TXD_STAT_DD": 0x1,
}


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_constants_are_those_of_the_headers(name: str) -> None:
    assert getattr(d, name) == CONSTANTS[name]


WORDS = [
    d.PKT_INFO,
    d.HDR_INFO,
    d.STATUS_ERROR,
    d.LEGACY_RX_STATUS,
    d.CMD_TYPE_LEN,
    d.OLINFO_STATUS,
    d.VLAN_MACIP_LENS,
    d.TYPE_TUCMD_MLHL,
    d.MSS_L4LEN_IDX,
    d.LEGACY_TX_COMMAND,
]


@given(st.sampled_from(WORDS), st.integers(0, 0xFFFFFFFF))
def test_words_are_what_construct_says(word: Register, value: int) -> None:
    value &= (1 << word.bits) - 1
    parsed = word.layout.parse(value.to_bytes(word.bits // 8, "little"))
    assert word.decode(value) == {item.name: parsed[item.name] for item in word.fields}


def test_packet_type_bits_follow_the_rss_type() -> None:
    assert d.PKT_INFO.put(RSS_TYPE=d.RssType.TCP_IPV4, IPV4=1, TCP=1) == 0x0111
    assert d.PKT_INFO.put(RSS_TYPE=d.RssType.UDP_IPV6, IPV6=1, UDP=1) == 0x0248


def test_what_linux_writes_for_a_segmented_packet_is_understood() -> None:
    # VLAN 5, MACLEN 14, IPLEN 20; IPv4 and TCP; MSS 1448, L4LEN 32, context 1
    raw = d.ADV_TX_CONTEXT_STRUCT.pack(5 << 16 | 14 << 9 | 20, 0, 0x20200C00, 1448 << 16 | 32 << 8 | 1 << 4)
    text = d.explain_tx(raw)
    assert text.startswith("context ")
    for part in ("MACLEN=0xe", "IPLEN=0x14", "VLAN=5", "IPV4=1", "L4T=1", "MSS=0x5a8", "L4LEN=0x20", "IDX=1"):
        assert part in text
    data = d.explain_tx(d.ADV_TX_DATA_STRUCT.pack(0x1000, 0xEB3005DC, 3000 << 14 | 0x300))
    for part in ("data 0x1000", "DTALEN=0x5dc", "TSE=1", "EOP=1", "IXSM=1", "TXSM=1", "PAYLEN=0xbb8"):
        assert part in data
    assert d.explain_tx(d.LEGACY_TX_STRUCT.pack(0x2000, 64, 0, 0x0B, 0, 0, 0)).startswith("legacy 0x2000")


@given(RAW)
def test_any_descriptor_can_be_explained(raw: bytes) -> None:
    assert d.explain_tx(raw).split()[0] in {"legacy", "context", "data"}
    assert d.explain_rx(raw).startswith("length=")


@pytest.mark.parametrize("length", [0, 15, 17])
def test_half_a_descriptor_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        d.explain_tx(bytes(length))
    with pytest.raises(ValueError, match="16 bytes"):
        d.explain_rx(bytes(length))
