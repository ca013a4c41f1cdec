"""Datagrams as the far end, in the format of QEMU's `-netdev dgram` (net/dgram.c): a frame a datagram, over unix
sockets or UDP, between two fixed addresses. Multicast is left out.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from igb_device.wire.address import Address, SocketFile, bind
from igb_device.wire.base import MAX_FRAME, Frame, Readers, WireError
from igb_device.wire.endpoint import Endpoint

_SLOT = MAX_FRAME + 1  # the byte more shows that a datagram was cut
_ARENA = 16 * _SLOT
_ALIGN = 64
_IOV_MAX = 1024
_BUFFER = 1 << 20
# To be connected again. Of UDP, ECONNREFUSED tells of a datagram before: this one wasn't sent yet.
_NOT_CONNECTED = frozenset((errno.ENOTCONN, errno.EDESTADDRREQ, errno.ECONNREFUSED))


class DgramWire(Endpoint):
    """A pair of addresses: frames come in at `local` and go out to `remote`. Both are unix or both UDP.

    Nothing tells whether anybody is there, so `link` is always True, and a frame that finds no peer is lost and
    counted. Over UDP only datagrams from `remote` are taken. Takes wire frames only. Raises WireError.
    """

    def __init__(self, local: Address, remote: Address, readers: Readers) -> None:
        super().__init__(link=True)
        if local.family != remote.family:
            raise WireError(f"dgram needs two addresses of one kind, not {local} and {remote}")
        self.local = local
        self.remote = remote
        self._readers = readers
        self._reading = False
        self._writing = False
        self._arena = memoryview(bytearray(_ARENA))
        self._file: SocketFile | None = None
        self._in = socket.socket(local.family, socket.SOCK_DGRAM)
        # A unix socket tells only of its peer's full queue when connected, and then takes datagrams from nobody else,
        # a peer restarted included. So there's one for each direction.
        self._out = self._in if local.path is None else socket.socket(local.family, socket.SOCK_DGRAM)
        try:
            self._in.setblocking(False)
            self._out.setblocking(False)
            self._in.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._file = bind(self._in, local)
            if local.path is None:
                self._out.connect(remote.sockaddr)
        except OSError as error:
            self._release()
            raise WireError(f"can't send from {local} to {remote}: {error.strerror}") from None
        except WireError:
            self._release()
            raise

    def send(self, frames: Sequence[Frame]) -> int:
        for sent, frame in enumerate(frames):
            code = self._send_one(frame)
            if code in _NOT_CONNECTED:
                code = self._out.connect_ex(self.remote.sockaddr) or self._send_one(frame)
            if code == errno.EAGAIN:
                self._want_write()
                return sent
            if code:
                self.errors += 1
        return len(frames)

    def _send_one(self, frame: Frame) -> int:
        parts = frame.parts if len(frame.parts) <= _IOV_MAX else (b"".join(frame.parts),)
        try:
            self._out.sendmsg(parts)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def receive(self, limit: int) -> Sequence[Frame]:
        arena = self._arena
        frames: list[Frame] = []
        at = 0
        for _ in range(limit):
            if at + _SLOT > _ARENA:
                break
            try:
                length = self._in.recv_into(arena[at : at + _SLOT])
            except BlockingIOError:
                break
            except OSError:
                continue  # UDP: what was sent earlier found no peer
            if 0 < length < _SLOT:
                frames.append(Frame((arena[at : at + length],)))
                at = (at + length + _ALIGN - 1) & -_ALIGN
            else:
                self.errors += 1
        return frames

    def close(self) -> None:
        if not self._closed:
            super().close()
            if self._writing:
                self._readers.remove_writer(self._out.fileno())
            self._release()

    def _release(self) -> None:
        if self._file is not None:
            self._file.remove()
        self._in.close()
        self._out.close()

    def _watch(self) -> None:
        wanted = self._wanted
        if wanted and not self._reading:
            self._readers.add_reader(self._in.fileno(), self._readable)
        elif self._reading and not wanted:
            self._readers.remove_reader(self._in.fileno())
        self._reading = wanted

    def _readable(self) -> None:
        self._ready()

    def _want_write(self) -> None:
        if not self._writing:
            self._writing = True
            self._readers.add_writer(self._out.fileno(), self._writable)

    def _writable(self) -> None:
        self._writing = False
        self._readers.remove_writer(self._out.fileno())
        self._ready()
