"""VERSION: what is agreed, and that nothing comes before it."""

from __future__ import annotations

import errno
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench


def capabilities(payload: bytes) -> Any:
    assert payload[-1] == 0
    return json.loads(payload[4:-1])["capabilities"]


QEMU = {
    "pgsizes": 4096,
    "max_msg_fds": 16,
    "max_dma_maps": 65535,
    "max_data_xfer_size": 1048576,
    "migration": {"max_bitmap_size": 268435456, "pgsize": 4096},
    "write_multiple": True,
}


def test_qemu_is_answered_with_its_keys_in_no_more_than_its_bytes(bench: Bench) -> None:
    reply = bench.connect().version(QEMU, minor=0)
    assert reply.size <= 214
    assert reply.payload[:4] == bytes(4)
    answer = capabilities(reply.payload)
    assert answer.keys() == QEMU.keys()
    assert 8 <= answer["max_msg_fds"] <= 16
    assert answer["write_multiple"] is True
    assert bench.device.log == ["attach"]


@pytest.mark.parametrize(("proposed", "agreed"), [(0, 0), (1, 1), (2, 1), (65535, 1)])
def test_minor_version(bench: Bench, proposed: int, agreed: int) -> None:
    assert struct.unpack_from("<HH", bench.connect().version({}, proposed).payload) == (0, agreed)


def test_no_json_is_every_default(bench: Bench) -> None:
    payload = bench.connect().ok(1, struct.pack("<HH", 0, 0))
    assert capabilities(payload) == {}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0",
        struct.pack("<HH", 1, 0),
        struct.pack("<HH", 0, 0) + b"{}",
        struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":-1}}\0',
    ],
)
def test_a_bad_version_is_refused_and_the_client_sent_away(bench: Bench, payload: bytes) -> None:
    client = bench.connect()
    assert client.fails(1, payload) == errno.EINVAL
    assert client.closed()
    assert bench.device.log == []
    assert bench.client().read(0, 0, 1) == b"\0"


@pytest.mark.parametrize("command", [0, 2, 4, 9, 13, 999])
def test_anything_before_version_is_refused(bench: Bench, command: int) -> None:
    client = bench.connect()
    assert client.fails(command, bytes(32)) == errno.EINVAL
    assert client.closed()
    assert bench.device.log == []


def test_a_register_read_together_with_version_is_served(bench: Bench) -> None:
    client = bench.connect()
    read = struct.pack("<HHIII", 9, 9, 32, 0, 0) + struct.pack("<QII", 0, 0, 4)
    client.raw(struct.pack("<HHIII", 8, 1, 20, 0, 0) + struct.pack("<HH", 0, 0) + read)
    assert client.message().command == 1
    assert client.message().payload[16:] == bytes(4)


def test_version_twice(bench: Bench) -> None:
    client = bench.client()
    assert client.fails(1, struct.pack("<HH", 0, 0)) == errno.EINVAL
    assert client.read(0, 0, 1) == b"\0"


@pytest.mark.parametrize("command", [0, 11, 12, 14, 19, 0xFFFF])
def test_unknown_commands(bench: Bench, command: int) -> None:
    client = bench.client()
    assert client.fails(command, bytes(16)) == errno.EINVAL
    assert client.read(0, 0, 1) == b"\0"


def test_no_reply_to_a_command_that_has_one(bench: Bench) -> None:
    client = bench.client()
    client.send(4, struct.pack("<IIII", 16, 0, 0, 0), flags=0x10)
    assert client.read(0, 0, 1) == b"\0"


def test_a_device_that_cannot_attach(bench: Bench) -> None:
    def fail(host: object) -> None:
        raise RuntimeError("no memory")

    bench.device.attach = fail  # type: ignore[method-assign,assignment]
    client = bench.connect()
    assert client.fails(1, struct.pack("<HH", 0, 0)) == errno.EIO
    assert client.closed()
