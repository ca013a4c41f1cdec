"""The client fed with random replies: every call returns or raises OSError in time, and no descriptor stays."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvfio_user.client import Client

GREETING = struct.pack("<HH", 0, 1) + b'{"capabilities":{"write_multiple":true}}\0'
numbers = st.sampled_from([0, 1, 8, 31, 32, 33, 0x1000, 0x7FFFFFFF, 0xFFFFFFFF])
region_like = st.builds(lambda *n: struct.pack("<IIIIQQ", *n), *[numbers] * 6)
payloads = st.one_of(st.binary(max_size=80), region_like, st.builds(bytes.__add__, region_like, st.binary(max_size=80)))
# What is answered: the payload, a difference to the right id and command, flags, error, descriptors.
answers = st.tuples(
    payloads,
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 0, 3]),
    st.sampled_from([1, 1, 1, 1, 0x21, 0, 0x10, 2]),
    numbers,
    st.integers(0, 2),
)


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.join(folder, "s"))
        sock.listen(4)
        yield sock


def answer(listener: socket.socket, script: list[tuple[bytes, int, int, int, int, int]]) -> None:
    with listener.accept()[0] as peer:
        peer.settimeout(5)
        try:
            head = peer.recv(1 << 16)
            peer.sendall(struct.pack("<HHIII", 0, 1, 16 + len(GREETING), 1, 0) + GREETING)
            for payload, id_off, command_off, flags, error, fds in script:
                head = peer.recv(1 << 16)
                if len(head) < 16:
                    return
                msg_id, command = struct.unpack_from("<HH", head)
                header = struct.pack(
                    "<HHIII", msg_id + id_off & 0xFFFF, command + command_off, 16 + len(payload), flags, error
                )
                socket.send_fds(peer, [header + payload], [peer.fileno()] * fds)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1 << 16):
                pass
        except OSError:
            pass


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(answers, max_size=8))
def test_random_answers(listener: socket.socket, script: list[tuple[bytes, int, int, int, int, int]]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    thread = threading.Thread(target=answer, args=(listener, script))
    thread.start()
    with Client(listener.getsockname(), timeout=2) as client:
        for call in (
            client.device_info,
            lambda: client.region_info(0),
            lambda: client.map_region(1),
            lambda: client.irq_info(2),
            lambda: client.map_memory(4096, 0),
            lambda: client.read(0, 0, 4),
            lambda: client.write(0, 0, b"1234"),
            lambda: client.enable_irqs(2, 3),
            lambda: client.migration_read(64),
            lambda: client.serve(0),
            lambda: client.unmap(0),
        ):
            try:
                got = call()
            except (OSError, KeyError):
                continue
            if isinstance(got, dict):
                for memory in got.values():
                    memory.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(os.listdir("/proc/self/fd")) == before
