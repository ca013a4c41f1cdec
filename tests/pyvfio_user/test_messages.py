"""The layouts: construct and the derived struct agree, sizes are the specification's, VERSION's JSON is strict."""

from __future__ import annotations

import json
import struct
from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio_user import messages
from pyvfio_user.capabilities import Capabilities, MigrationCapability, decode_version, encode_version
from pyvfio_user.messages import LAYOUTS, Layout


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_construct_and_struct_are_the_same_layout(name: str, data: st.DataObject) -> None:
    layout = LAYOUTS[name]
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    declared = layout.construct.parse(raw)
    derived = dict(zip(layout.fields, layout.unpack(raw), strict=True))
    assert derived == {field: declared[field] for field in layout.fields}
    assert layout.pack(*derived.values()) == layout.construct.build(declared) == raw


def test_sizes_are_those_of_the_specification() -> None:
    sizes = {name: layout.size for name, layout in LAYOUTS.items()}
    assert sizes == {
        "HEADER": 16,
        "VERSION": 4,
        "DMA_MAP": 32,
        "DMA_UNMAP": 24,
        "DIRTY_BITMAP": 16,
        "DMA_ACCESS": 16,
        "DEVICE_INFO": 16,
        "REGION_INFO": 32,
        "CAPABILITY": 8,
        "SPARSE_MMAP": 8,
        "MMAP_AREA": 16,
        "REGION_IO_FDS": 16,
        "IO_FD": 40,
        "IRQ_INFO": 16,
        "IRQ_SET": 20,
        "REGION_ACCESS": 16,
        "WRITE_MULTI": 8,
        "WRITE_MULTI_ENTRY": 24,
        "FEATURE": 8,
        "MIGRATION": 8,
        "DEVICE_STATE": 8,
        "LOGGING_START": 16,
        "LOGGING_RANGE": 16,
        "LOGGING_REPORT": 24,
        "MIG_DATA": 8,
    }


def test_native_sized_codes_do_not_slip_in() -> None:
    layout = Layout(a=construct.Int8ul, b=construct.Int32ul, c=construct.Int64ul)
    assert layout.size == layout.packer.size == 13


def test_dma_map_bytes() -> None:
    raw = messages.DMA_MAP.pack(32, 3, 0x1000, 0x1_0000_0000, 0x2000)
    assert raw == bytes.fromhex("20000000 03000000 0010000000000000 0000000001000000 0020000000000000")


QEMU_JSON = (
    b'{"capabilities": {"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "max_msg_fds": 16, '
    b'"max_dma_maps": 65535, "pgsizes": 4096, "max_data_xfer_size": 1048576, "write_multiple": true}}'
)


def version(text: bytes) -> bytes:
    return struct.pack("<HH", 0, 1) + text


def test_what_qemu_sends() -> None:
    decoded = decode_version(version(QEMU_JSON + b"\0"))
    assert (decoded.major, decoded.minor) == (0, 1)
    assert decoded.capabilities == Capabilities(
        max_msg_fds=16, write_multiple=True, migration=MigrationCapability(4096, 268435456)
    )
    assert decoded.capabilities.offered == {
        "migration", "max_msg_fds", "max_dma_maps", "pgsizes", "max_data_xfer_size", "write_multiple"
    }  # fmt: skip


@pytest.mark.parametrize("text", [b"", b"{}\0", b'{"capabilities":{}}\0', b'{"capabilities":{"later":[1]}}\0'])
def test_defaults(text: bytes) -> None:
    assert decode_version(version(text)).capabilities == Capabilities(1, 1 << 20, 65535, 4096)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]\0",
        b"3\0",
        b"\xff\xfe{}\0",
        b"{}\0\0",
        b'{"capabilities":[]}\0',
        b'{"capabilities":{"max_msg_fds":-1}}\0',
        b'{"capabilities":{"max_msg_fds":1.5}}\0',
        b'{"capabilities":{"max_msg_fds":"8"}}\0',
        b'{"capabilities":{"max_msg_fds":true}}\0',
        b'{"capabilities":{"max_msg_fds":9223372036854775808}}\0',
        b'{"capabilities":{"max_msg_fds":NaN}}\0',
        b'{"capabilities":{"max_msg_fds":-Infinity}}\0',
        b'{"capabilities":{"max_msg_fds":1,"max_msg_fds":2}}\0',
        b'{"capabilities":{"max_data_xfer_size":0}}\0',
        b'{"capabilities":{"pgsizes":0}}\0',
        b'{"capabilities":{"write_multiple":1}}\0',
        b'{"capabilities":{"twin_socket":true}}\0',
        b'{"capabilities":{"twin_socket":{"supported":"yes"}}}\0',
        b'{"capabilities":{"migration":{"pgsize":-4096}}}\0',
        b"[" * 16000 + b"]" * 16000 + b"\0",
        b"[" * 8000 + b"]" * 8000 + b"\0",
        b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"\0",
        b"1" * 10000 + b"\0",
        b" " * 20000 + b"{}\0",
    ],
)
def test_refused_versions(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode_version(version(text))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_short_version(length: int) -> None:
    with pytest.raises(ValueError):
        decode_version(bytes(length))


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_value_error(payload: bytes) -> None:
    try:
        decode_version(payload)
    except ValueError:
        pass


def test_encoded_version_is_compact_and_holds_only_the_keys_asked_for() -> None:
    mine = Capabilities(max_msg_fds=64, write_multiple=True, twin_socket=True, twin_fd_index=0)
    raw = encode_version(0, 0, mine, frozenset({"max_msg_fds", "write_multiple"}))
    assert raw == b'\0\0\0\0{"capabilities":{"max_msg_fds":64,"write_multiple":true}}\0'
    twin: Any = json.loads(encode_version(0, 0, mine, frozenset({"twin_socket"}))[4:-1])
    assert twin == {"capabilities": {"twin_socket": {"supported": True, "fd_index": 0}}}


def test_reply_to_qemu_is_no_longer_than_its_request() -> None:
    decoded = decode_version(version(QEMU_JSON + b"\0"))
    mine = Capabilities(
        max_msg_fds=16, max_data_xfer_size=1 << 20, write_multiple=True, migration=MigrationCapability(4096, 268435456)
    )
    raw = encode_version(0, 0, mine, decoded.capabilities.offered)
    assert 16 + len(raw) <= 214


@given(
    st.builds(
        Capabilities,
        max_msg_fds=st.integers(0, 1024),
        max_data_xfer_size=st.integers(1, 2**32 - 1),
        max_dma_maps=st.integers(0, 2**32 - 1),
        pgsizes=st.integers(1, 2**64 - 1),
        twin_socket=st.booleans(),
        write_multiple=st.booleans(),
        migration=st.none() | st.builds(MigrationCapability, st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1)),
    )
)
def test_version_round_trip(mine: Capabilities) -> None:
    keys = {"max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes", "twin_socket", "write_multiple"}
    if mine.migration is not None:
        keys.add("migration")
    decoded = decode_version(encode_version(0, 1, mine, frozenset(keys)))
    assert decoded.capabilities == mine
    assert decoded.capabilities.offered == keys
