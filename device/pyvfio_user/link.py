"""A non-blocking unix socket with its `Connection`: whole messages in, a bounded queue of messages out."""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Final

from pyvfio_user.connection import MAX_FDS, Connection, ProtocolError, close_all

_RECEIVE: Final = 64 << 10  # more would have malloc map and unmap a buffer for every call
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_FDS * 4)
# plain numbers: an operation on the enum costs as much as the system call
_CLOEXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED: Final = int(socket.MSG_CTRUNC)
QUEUE_LIMIT: Final = 1 << 20
"""Bytes of unsent messages over which no more of the peer's messages should be taken."""


class Link:
    """Owns the socket. `lost` says why it can't be used any more, "" as long as it can."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.connection = Connection()
        self.lost = ""
        self.queued = 0
        """Bytes in the queue."""
        self._fresh: list[bytes] = []  # not tried yet, without descriptors
        self._blocked: deque[tuple[memoryview, list[int]]] = deque()  # the socket was full, or descriptors come along
        self._recvmsg = sock.recvmsg
        self._send = sock.send

    def receive(self) -> bool:
        """Takes what is there, up to 64 KiB. False if nothing was, or if the link is lost."""
        try:
            data, ancillary, flags, _ = self._recvmsg(_RECEIVE, _ANCILLARY, _CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.lost = str(error)
            return False
        fds: list[int] = []
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds += struct.unpack(f"={len(raw) // 4}i", raw[: len(raw) // 4 * 4])
        if not data or flags & _TRUNCATED:
            close_all(fds)
            if data:
                self.lost = "descriptors were lost, as this process has too many open"
            elif self.connection.mid_message:
                self.lost = "the peer closed in the middle of a message"
            else:
                self.lost = "the peer closed"
            return False
        try:
            self.connection.receive(data, fds)
        except ProtocolError as error:
            self.lost = str(error)
            return False
        return True

    def send(self, message: bytes) -> None:
        """Puts a message into the queue; `flush` sends it."""
        self._fresh.append(message)
        self.queued += len(message)

    def send_fds(self, message: bytes, fds: list[int]) -> None:
        """As `send`, with descriptors, which are the queue's from now on: it closes them once they are sent."""
        self._gather()
        self._blocked.append((memoryview(message), fds))
        self.queued += len(message)

    def flush(self) -> bool:
        """Sends as much as the socket takes, in as few calls as can be. True if all is sent, or the link is lost."""
        if not self._blocked:
            fresh = self._fresh
            if not fresh:
                return True
            data = fresh[0] if len(fresh) == 1 else b"".join(fresh)
            fresh.clear()
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._drop(str(error))
                return True
            self.queued -= sent
            if sent == len(data):
                return True
            self._blocked.append((memoryview(data)[sent:], []))
        self._gather()
        return self._flush_blocked()

    def close(self) -> None:
        """Closes the socket and every descriptor in flight."""
        self._drop(self.lost or "closed")
        self.connection.close()
        self.sock.close()

    def _gather(self) -> None:
        if self._fresh:
            self._blocked.append((memoryview(b"".join(self._fresh)), []))
            self._fresh.clear()

    def _flush_blocked(self) -> bool:
        blocked = self._blocked
        while blocked:
            data, fds = blocked[0]
            try:
                sent = socket.send_fds(self.sock, [data], fds) if fds else self._send(data)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self._drop(str(error))
                return True
            close_all(fds)
            self.queued -= sent
            if sent == len(data):
                blocked.popleft()
            else:
                blocked[0] = (data[sent:], [])
        return True

    def _drop(self, reason: str) -> None:
        self.lost = self.lost or reason
        self._fresh.clear()
        for _, fds in self._blocked:
            close_all(fds)
        self._blocked.clear()
        self.queued = 0
