"""The host's end of an agent port, against a scripted other end."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from igb_vm.agent import Port, PortClosed, PortTimeout
from igb_vm.errors import VmError


@pytest.fixture
def ends() -> Iterator[tuple[Port, socket.socket]]:
    """A port and its other end."""
    ours, theirs = socket.socketpair()
    port = Port("agent0", ours)
    yield port, theirs
    port.close()
    theirs.close()


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def test_a_request_carries_its_length_in_bytes(ends: tuple[Port, socket.socket]) -> None:
    port, theirs = ends
    theirs.sendall(b"done 7 3 2\n\0\n\xffer")
    assert port.run("echo é\n", False, soon()) == (7, b"\0\n\xff", b"er")
    assert theirs.recv(100) == b"run 0 8\necho \xc3\xa9\n"


def test_answers_may_come_in_pieces(ends: tuple[Port, socket.socket]) -> None:
    port, theirs = ends

    def dribble() -> None:
        for byte in b"booting\nready\ndone 0 5 0\nhello":
            theirs.sendall(bytes([byte]))

    thread = threading.Thread(target=dribble)
    thread.start()
    port.wait_ready(soon())
    assert port.answer(soon()) == (0, b"hello", b"")
    thread.join()


def test_two_answers_at_once_are_kept_apart(ends: tuple[Port, socket.socket]) -> None:
    port, theirs = ends
    theirs.sendall(b"done 0 1 0\nadone 1 0 1\nb")
    assert port.answer(soon()) == (0, b"a", b"")
    assert port.answer(soon()) == (1, b"", b"b")


@pytest.mark.parametrize("said", [b"", b"done 0 5", b"done 0 5 0\nhel"])
def test_silence_ends_at_the_deadline(ends: tuple[Port, socket.socket], said: bytes) -> None:
    port, theirs = ends
    theirs.sendall(said)
    with pytest.raises(PortTimeout):
        port.answer(soon(0.05))


@pytest.mark.parametrize("said", [b"", b"done 0 5 0\nhel"])
def test_the_end_of_qemu_is_noticed_at_once(ends: tuple[Port, socket.socket], said: bytes) -> None:
    port, theirs = ends
    theirs.sendall(said)
    theirs.close()
    began = time.monotonic()
    with pytest.raises(PortClosed):
        port.answer(soon())
    assert time.monotonic() - began < 1


def test_a_full_port_does_not_block_for_ever(ends: tuple[Port, socket.socket]) -> None:
    port, _ = ends
    with pytest.raises(PortTimeout):
        port.put("/x", bytes(50_000_000), 0o644, soon(0.2))


def test_nonsense_is_one_line(ends: tuple[Port, socket.socket]) -> None:
    port, theirs = ends
    theirs.sendall(b"\xff\xfe nonsense\n")
    with pytest.raises(VmError, match="nonsense") as error:
        port.answer(soon())
    assert "\n" not in str(error.value)
