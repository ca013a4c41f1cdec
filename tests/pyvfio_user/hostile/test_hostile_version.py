"""The first message: anything but a proper VERSION is refused, and so is a second one."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pyvfio_user import messages as m

VERSION = m.Command.VERSION


def body(text: bytes, major: int = 0, minor: int = 1) -> bytes:
    return struct.pack("<HH", major, minor) + text


def refused_for_good(peer: Any, payload: bytes) -> None:
    """An error reply or none, but not a connection that goes on as if it had been greeted."""
    peer.command(VERSION, payload)
    _, error, _ = peer.reply()
    assert error != 0
    if error != peer.CLOSED:
        peer.command(m.Command.DEVICE_GET_INFO, m.DEVICE_INFO.pack(16, 0, 0, 0))
        assert peer.reply()[1] != 0


@pytest.mark.parametrize("command", [c for c in m.Command if c != VERSION] + [0, 99])
def test_anything_else_first(stranger: Any, command: int) -> None:
    stranger.command(command, bytes(32))
    assert stranger.reply()[1] != 0


def test_twice(raw: Any) -> None:
    """The second is an error; what the first agreed on stays."""
    error = raw.errno(VERSION, body(b'{"capabilities":{}}\0', 0))
    assert error != 0
    if error != raw.CLOSED:
        assert raw.write(1, 0, bytes(4)) == 0
        assert (
            raw.errno(m.Command.REGION_WRITE_MULTI, m.WRITE_MULTI.pack(1) + m.WRITE_MULTI_ENTRY.pack(0, 1, 4, b"")) == 0
        )


@pytest.mark.parametrize("major", [1, 2, 0xFFFF])
def test_another_major(stranger: Any, major: int) -> None:
    refused_for_good(stranger, body(b'{"capabilities":{}}\0', major))


@pytest.mark.parametrize("minor", [0, 1, 2, 0xFFFF])
def test_any_minor_gets_one_no_greater(stranger: Any, minor: int) -> None:
    error, reply = stranger.ask(VERSION, body(b'{"capabilities":{}}\0', minor=minor))
    assert error == 0
    assert struct.unpack_from("<HH", reply)[0] == 0
    assert struct.unpack_from("<HH", reply)[1] <= minor


@pytest.mark.parametrize("length", range(4))
def test_too_short(stranger: Any, length: int) -> None:
    refused_for_good(stranger, bytes(length))


@pytest.mark.parametrize("text", [b"", b"{}\0", b'{"capabilities":{}}\0', b'{"capabilities":{"later":[1,{}]}}\0'])
def test_little_is_enough(stranger: Any, text: bytes) -> None:
    assert stranger.errno(VERSION, body(text)) == 0
    assert stranger.still_served()


@pytest.mark.parametrize(
    "text",
    [
        b"\0",
        b"{}",
        b"{\0",
        b'{"capabilities":{}}',
        b'{"capabilities":{}} x\0',
        b'{"capabilities":{}}\0{}\0',
        b"\xff\xfe\0",
        b'{"capabilities":{"\xc3(":1}}\0',
        b"[]\0",
        b"1\0",
        b"null\0",
        b'{"capabilities":[]}\0',
        b'{"capabilities":1}\0',
        b"[" * 100_000 + b"\0",
        b'{"capabilities":' * 5000 + b"1" + b"}" * 5000 + b"\0",
        b'{"capabilities":{"x":"' + b"a" * 500_000 + b'"}}\0',
        b'{"capabilities":{"max_msg_fds":' + b"9" * 10_000 + b"}}\0",
    ],
    ids=str.split(
        "empty no-NUL cut no-NUL-2 tail two not-UTF-8 not-UTF-8-key array number null capabilities-array"
        " capabilities-number deep deep-objects long-string long-number"
    ),
)
def test_what_isnt_proper_json(stranger: Any, text: bytes) -> None:
    refused_for_good(stranger, body(text))


@pytest.mark.parametrize("key", ["max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes"])
@pytest.mark.parametrize(
    "value", ["-1", "1.5", '"8"', "1e400", "NaN", "-Infinity", "true", "null", "[]", "{}", str(2**65)]
)
def test_numbers_that_arent(stranger: Any, key: str, value: str) -> None:
    refused_for_good(stranger, body(f'{{"capabilities":{{"{key}":{value}}}}}'.encode() + b"\0"))


@pytest.mark.parametrize("value", ["2", '"yes"', "null", "[]"])
@pytest.mark.parametrize("key", ["write_multiple", "twin_socket", "migration"])
def test_other_values_of_wrong_types(stranger: Any, key: str, value: str) -> None:
    refused_for_good(stranger, body(f'{{"capabilities":{{"{key}":{value}}}}}'.encode() + b"\0"))


def test_duplicate_keys(stranger: Any) -> None:
    refused_for_good(stranger, body(b'{"capabilities":{"max_msg_fds":1,"max_msg_fds":8}}\0'))


@pytest.mark.parametrize("limits", ['"max_msg_fds":0', '"max_msg_fds":1', '"max_data_xfer_size":1', '"max_dma_maps":0'])
def test_small_limits_of_the_clients_are_lived_with(stranger: Any, limits: str) -> None:
    """A client that can take no descriptor gets none, and the device does without."""
    assert stranger.errno(VERSION, body(f'{{"capabilities":{{{limits}}}}}'.encode() + b"\0")) in (0, 22)
    stranger.command(m.Command.DEVICE_GET_REGION_INFO, m.REGION_INFO.pack(4096, 0, 2, 0, 0, 0))
    stranger.reply()


def test_the_reply_is_no_longer_than_the_request(stranger: Any) -> None:
    """QEMU reads it into the buffer of its request, which has all keys."""
    text = (
        b'{"capabilities":{"pgsizes":4096,"max_msg_fds":16,"max_dma_maps":65535,"max_data_xfer_size":1048576,'
        b'"migration":{"max_bitmap_size":268435456,"pgsize":4096},"write_multiple":true}}\0'
    )
    _, reply = stranger.ask(VERSION, body(text, minor=0))
    assert len(reply) <= len(body(text))
    assert reply[-1] == 0
    assert b"twin_socket" not in reply, "only what was offered is answered"
