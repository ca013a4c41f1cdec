"""The host's end of an agent port: agent.sh's protocol on a stream socket."""

import socket
import time

from igb_vm.errors import VmError


class PortClosed(Exception):
    """QEMU is gone, or has closed the port."""


class PortTimeout(Exception):
    """No answer by the deadline."""


class Port:
    """One agent, which serves one request at a time. Not for several threads at once.

    Methods raise PortClosed and PortTimeout; `deadline` is a time of time.monotonic().
    """

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self._socket = sock
        self._buffer = b""

    def wait_ready(self, deadline: float) -> None:
        """Wait until the guest's agent says it's there."""
        while self._line(deadline) != "ready":
            pass

    def run(self, script: str, merged: bool, deadline: float) -> tuple[int, bytes, bytes]:
        """Run a shell script in the guest: its status, output and errors."""
        data = script.encode()
        self._send(f"run {int(merged)} {len(data)}\n".encode() + data, deadline)
        return self.answer(deadline)

    def put(self, path: str, data: bytes, mode: int, deadline: float) -> tuple[int, bytes]:
        """Write a file in the guest: status, and what went wrong."""
        self._send(f"put {mode:o} {len(data)} {path}\n".encode() + data, deadline)
        return self.answer(deadline)[:2]

    def get(self, path: str, deadline: float) -> tuple[int, bytes]:
        """Read a file in the guest: status, and its contents or what went wrong."""
        self._send(f"get {path}\n".encode(), deadline)
        return self.answer(deadline)[:2]

    def answer(self, deadline: float) -> tuple[int, bytes, bytes]:
        """The answer to a request that was sent: status and two outputs."""
        line = self._line(deadline)
        words = line.split()
        if len(words) != 4 or words[0] != "done":
            raise VmError(f"the guest's agent said {line[:80]!r}")
        status, out, err = map(int, words[1:])
        return status, self._exactly(out, deadline), self._exactly(err, deadline)

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes, deadline: float) -> None:
        self._arm(deadline)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise PortTimeout from None
        except OSError:
            raise PortClosed from None

    def _line(self, deadline: float) -> str:
        while b"\n" not in self._buffer:
            self._more(deadline)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def _exactly(self, size: int, deadline: float) -> bytes:
        chunks = bytearray(self._buffer)
        self._buffer = b""
        while len(chunks) < size:
            self._more(deadline)
            chunks += self._buffer
            self._buffer = b""
        self._buffer = bytes(chunks[size:])
        return bytes(chunks[:size])

    def _more(self, deadline: float) -> None:
        self._arm(deadline)
        try:
            data = self._socket.recv(1 << 18)
        except TimeoutError:
            raise PortTimeout from None
        except OSError:
            raise PortClosed from None
        if not data:
            raise PortClosed
        self._buffer += data

    def _arm(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise PortTimeout
        self._socket.settimeout(left)
