"""Random streams of messages: whatever comes, the server answers or hangs up, and the next client is served."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvfio_user import messages as m

INTERESTING = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 24, 32, 0x1000, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
numbers32 = st.one_of(st.sampled_from(INTERESTING), st.integers(0, 2**32 - 1))
numbers64 = st.one_of(st.sampled_from([*INTERESTING, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1))

# Payloads made of the fields that a command has, then cut or lengthened.
LAYOUTS = {
    m.Command.VERSION: "HH",
    m.Command.DMA_MAP: "IIQQQ",
    m.Command.DMA_UNMAP: "IIQQ",
    m.Command.DEVICE_GET_INFO: "IIII",
    m.Command.DEVICE_GET_REGION_INFO: "IIIIQQ",
    m.Command.DEVICE_GET_REGION_IO_FDS: "IIII",
    m.Command.DEVICE_GET_IRQ_INFO: "IIII",
    m.Command.DEVICE_SET_IRQS: "IIIII",
    m.Command.REGION_READ: "QII",
    m.Command.REGION_WRITE: "QII",
    m.Command.DEVICE_RESET: "",
    m.Command.REGION_WRITE_MULTI: "QQIIQ",
    m.Command.DEVICE_FEATURE: "IIQQQ",
    m.Command.MIG_DATA_READ: "II",
    m.Command.MIG_DATA_WRITE: "II",
}
FIELDS = {"H": st.integers(0, 0xFFFF), "I": numbers32, "Q": numbers64}


@st.composite
def shaped(draw: st.DrawFn) -> tuple[int, bytes]:
    command = draw(st.sampled_from(sorted(LAYOUTS)))
    payload = b"".join(struct.pack("<" + code, draw(FIELDS[code])) for code in LAYOUTS[command])
    tail = draw(st.sampled_from([b"", b"", b"\1", b"\0" * 8, b"\xff" * 40]))
    cut = draw(st.integers(0, 3)) if draw(st.integers(0, 9)) == 0 else 0
    return command, (payload + tail)[: len(payload + tail) - cut]


messages = st.tuples(
    st.one_of(shaped(), st.tuples(st.integers(0, 20), st.binary(max_size=64))),
    st.sampled_from([0, 0, 0, 0, m.NO_REPLY, m.TYPE_REPLY, m.TYPE_REPLY | m.ERROR, 0x20]),
    st.integers(0, 2),  # descriptors
)

quiet = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def drain(peer: Any) -> None:
    """Reads until the server has answered all or hung up."""
    peer.socket.settimeout(2)
    peer.command(m.Command.DEVICE_GET_INFO, m.DEVICE_INFO.pack(16, 0, 0, 0))
    peer.socket.shutdown(1)
    with contextlib.suppress(ConnectionResetError):
        while peer.socket.recv(1 << 16):
            pass


@quiet
@given(st.lists(messages, max_size=25), st.booleans())
def test_streams_of_messages(server: Any, stream: list[tuple[tuple[int, bytes], int, int]], greet: bool) -> None:
    peer = server.connect(greet=greet)
    fds = [os.eventfd(0), os.memfd_create("fuzz", os.MFD_ALLOW_SEALING)]
    os.ftruncate(fds[1], 0x20000)
    for (command, payload), flags, count in stream:
        peer.send(peer.message(command, payload, flags=flags), fds[2 - count :] if count else ())
    for fd in fds:
        os.close(fd)
    drain(peer)
    peer.close()
    server.adversaries.clear()
    server.next_client()
    assert server.alive


@quiet
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=10))
def test_streams_of_bytes(server: Any, pieces: list[bytes]) -> None:
    peer = server.connect()
    for piece in pieces:
        peer.send(piece)
    drain(peer)
    peer.close()
    server.adversaries.clear()
    server.next_client()
    assert server.alive


@quiet
@given(
    st.integers(0, 200),
    st.integers(0, 255),
    st.sampled_from([m.Command.DEVICE_SET_IRQS, m.Command.DMA_MAP, m.Command.VERSION]),
)
def test_one_byte_of_a_good_message_changed(server: Any, position: int, value: int, command: int) -> None:
    peer = server.connect()
    fd = os.memfd_create("fuzz", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 0x10000)
    payload = {
        m.Command.DEVICE_SET_IRQS: m.IRQ_SET.pack(20, 0x21, 2, 0, 3),
        m.Command.DMA_MAP: m.DMA_MAP.pack(32, 3, 0, 0x1000, 0x1000),
        m.Command.VERSION: struct.pack("<HH", 0, 1) + b'{"capabilities":{"max_msg_fds":16}}\0',
    }[command]
    data = bytearray(peer.message(command, payload))
    data[position % len(data)] = value
    peer.send(bytes(data), [fd] if command == m.Command.DMA_MAP else ())
    os.close(fd)
    drain(peer)
    peer.close()
    server.adversaries.clear()
    server.next_client()
    assert server.alive
