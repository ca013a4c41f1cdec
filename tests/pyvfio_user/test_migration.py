"""Migration: the arcs of linux/vfio.h's state machine, and a device's state from one server to another."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

import pytest

from pyvfio_user.migration import Migration, State, path

if TYPE_CHECKING:
    from tests.pyvfio_user.conftest import Bench, RawClient

GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18
ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P = range(8)

# The kernel's table for a device with pre-copy and without peer-to-peer states (vfio_mig_get_next_state), whole ways.
WAYS = {
    (STOP, RUNNING): [RUNNING],
    (STOP, STOP_COPY): [STOP_COPY],
    (STOP, RESUMING): [RESUMING],
    (STOP, PRE_COPY): [RUNNING, PRE_COPY],
    (RUNNING, STOP): [STOP],
    (RUNNING, PRE_COPY): [PRE_COPY],
    (RUNNING, STOP_COPY): [STOP, STOP_COPY],
    (RUNNING, RESUMING): [STOP, RESUMING],
    (STOP_COPY, STOP): [STOP],
    (STOP_COPY, RUNNING): [STOP, RUNNING],
    (STOP_COPY, RESUMING): [STOP, RESUMING],
    (RESUMING, STOP): [STOP],
    (RESUMING, RUNNING): [STOP, RUNNING],
    (RESUMING, STOP_COPY): [STOP, STOP_COPY],
    (RESUMING, PRE_COPY): [STOP, RUNNING, PRE_COPY],
    (PRE_COPY, RUNNING): [RUNNING],
    (PRE_COPY, STOP_COPY): [STOP_COPY],
    (PRE_COPY, STOP): [RUNNING, STOP],
    (PRE_COPY, RESUMING): [RUNNING, STOP, RESUMING],
}


@pytest.mark.parametrize("start", range(8))
@pytest.mark.parametrize("end", range(8))
def test_ways_between_states(start: int, end: int) -> None:
    way = path(State(start), State(end))
    if start == end:
        assert way == []
    elif (start, end) in WAYS:
        assert way is not None
        assert [target for _, target in way] == WAYS[start, end]
    else:
        assert way is None


class Card:
    """Notes what it is told; its state is a string."""

    def __init__(self, value: bytes = b"state of the card" * 100) -> None:
        self.value = value
        self.told: list[str] = []

    def quiesce(self) -> None:
        self.told.append("quiesce")

    def resume(self) -> None:
        self.told.append("resume")

    def save(self) -> bytes:
        self.told.append("save")
        return self.value

    def load(self, data: bytes) -> None:
        self.told.append("load")
        if not data.startswith(b"state"):
            raise ValueError("not a state")
        self.value = data


def migratable(bench: Bench, card: Card) -> None:
    for name in ("quiesce", "resume", "save", "load"):
        setattr(bench.device, name, getattr(card, name))


def set_state(client: RawClient, state: int) -> None:
    request = struct.pack("<IIII", 16, SET | 2, state, 0)
    assert client.ok(16, request) == request


def state(client: RawClient) -> int:
    argsz, flags, number, _ = struct.unpack("<IIII", client.ok(16, struct.pack("<II", 16, GET | 2)))
    assert (argsz, flags) == (16, GET | 2)
    return int(number)


def read_all(client: RawClient, size: int) -> bytes:
    data = b""
    while True:
        payload = client.ok(17, struct.pack("<II", 8 + size, size))
        argsz, count = struct.unpack_from("<II", payload)
        assert argsz == len(payload) == 8 + count
        if not count:
            return data
        data += payload[8:]


def write(client: RawClient, data: bytes) -> None:
    assert client.ok(18, struct.pack("<II", 8 + len(data), len(data)) + data) == b""


@pytest.mark.parametrize("precopy", [False, True])
def test_state_goes_from_one_client_to_the_next(bench: Bench, precopy: bool) -> None:
    card = Card()
    migratable(bench, card)
    client = bench.client()
    assert client.ok(16, struct.pack("<II", 16, GET | 1)) == struct.pack("<IIQ", 16, GET | 1, 1 | 4)
    assert state(client) == RUNNING
    if precopy:
        set_state(client, PRE_COPY)
        assert read_all(client, 100) == b""
    set_state(client, STOP_COPY)
    assert card.told == ["quiesce", "save"]
    assert read_all(client, 1000) == card.value
    processed = bench.device.processed
    client.read(0, 0, 1)
    assert bench.device.processed == processed  # a stopped device does no work
    set_state(client, STOP)
    client.sock.close()
    client.pump(lambda: not bench.server.connected)  # type: ignore[union-attr]

    other = Card(b"")
    migratable(bench, other)
    client = bench.client()
    set_state(client, RESUMING)
    for position in range(0, len(card.value), 1000):
        write(client, card.value[position : position + 1000])
    set_state(client, RUNNING)
    assert other.told == ["quiesce", "load", "resume"]
    assert other.value == card.value
    assert state(client) == RUNNING


def test_corrupted_data_is_an_error_that_reset_ends(bench: Bench) -> None:
    migratable(bench, Card())
    client = bench.client()
    set_state(client, RESUMING)
    write(client, b"something else")
    assert client.fails(16, struct.pack("<IIII", 16, SET | 2, RUNNING, 0)) == errno.EINVAL
    assert state(client) == ERROR
    for target in range(1, 8):
        assert client.fails(16, struct.pack("<IIII", 16, SET | 2, target, 0)) == errno.EINVAL
    client.ok(13)
    assert state(client) == RUNNING


def test_a_device_that_fails_to_save(bench: Bench) -> None:
    card = Card()

    def fail() -> Any:
        raise RuntimeError("no state")

    card.save = fail  # type: ignore[method-assign]
    migratable(bench, card)
    client = bench.client()
    assert client.fails(16, struct.pack("<IIII", 16, SET | 2, STOP_COPY, 0)) == errno.EIO
    assert state(client) == ERROR


@pytest.mark.parametrize("target", [ERROR, RUNNING_P2P, PRE_COPY_P2P, 8, 2**32 - 1])
def test_states_that_cannot_be_set(bench: Bench, target: int) -> None:
    migratable(bench, Card())
    client = bench.client()
    assert client.fails(16, struct.pack("<IIII", 16, SET | 2, target, 0)) == errno.EINVAL
    assert state(client) == RUNNING


def test_data_only_in_its_states_and_of_its_size(bench: Bench) -> None:
    migratable(bench, Card())
    client = bench.client()
    read = struct.pack("<II", 108, 100)
    assert client.fails(17, read) == errno.EINVAL
    assert client.fails(18, struct.pack("<II", 9, 1) + b"x") == errno.EINVAL
    set_state(client, STOP_COPY)
    for bad in (b"", read[:7], struct.pack("<II", 107, 100), struct.pack("<II", 2**32 - 1, 2**32 - 9)):
        assert client.fails(17, bad) == errno.EINVAL
    set_state(client, RESUMING)
    for bad in (
        b"",
        struct.pack("<II", 10, 2) + b"x",
        struct.pack("<II", 9, 0) + b"x",
        struct.pack("<II", 8, 1) + b"x",
    ):
        assert client.fails(18, bad) == errno.EINVAL


def test_the_data_received_is_bounded() -> None:
    migration = Migration(Card())
    migration.set_state(RESUMING)
    with pytest.raises(OSError) as raised:  # noqa: PT012
        for _ in range(100):
            migration.write(bytes(1 << 20))
    assert raised.value.errno == errno.ENOSPC


def test_probing_features(bench: Bench) -> None:
    migratable(bench, Card())
    client = bench.client()
    for flags in (PROBE | 1, PROBE | GET | 1, PROBE | GET | SET | 2, PROBE | SET | 6, PROBE | GET | 8):
        request = struct.pack("<II", 8, flags)
        assert client.ok(16, request) == request
    for flags in (PROBE | SET | 1, PROBE | GET | 6, PROBE | 3, GET | 9, GET | SET | 2, 2, GET | 7, 1 << 19 | GET | 2):
        assert client.fails(16, struct.pack("<IIQ", 16, flags, 0)) == errno.EINVAL
    assert client.fails(16, struct.pack("<I", 8)) == errno.EINVAL
    assert client.fails(16, struct.pack("<II", 8, SET | 2)) == errno.EINVAL
    assert client.fails(16, struct.pack("<IIII", 15, SET | 2, STOP, 0)) == errno.EINVAL
    assert client.ok(16, struct.pack("<II", 8, GET | 2)) == struct.pack("<II", 16, GET | 2)


def test_a_device_that_cannot_migrate(client: RawClient) -> None:
    assert client.fails(16, struct.pack("<II", 16, GET | 1)) == errno.EINVAL
    assert client.fails(16, struct.pack("<II", 16, PROBE | 2)) == errno.EINVAL
    assert client.fails(17, struct.pack("<II", 8, 0)) == errno.EINVAL
