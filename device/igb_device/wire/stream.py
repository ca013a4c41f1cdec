"""A stream socket as the far end, in the format of QEMU's `-netdev stream` (net/stream.c), which passt,
socket_vmnet and others speak too: each frame behind its length as 4 bytes, big-endian.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence

from igb_device.clock import Clock, Timer
from igb_device.wire.address import Address, SocketFile, bind
from igb_device.wire.base import MAX_FRAME, Frame, Readers, WireError
from igb_device.wire.endpoint import Endpoint

MAX_LENGTH = 4096 + 65536
"""The longest length that QEMU sends or takes (NET_BUFSIZE). A longer one can't be a length: framing is lost."""

RETRY_FIRST = 100_000_000
RETRY_LAST = 5_000_000_000
"""ns until a connection is tried again: doubled from the first to the last."""

_LENGTH = struct.Struct("!I")
_BUFFER = 256 * 1024
_IOV_MAX = 1024


class FramingError(ValueError):
    """What arrives is not in the format."""


class Deframer:
    """Cuts a stream of bytes into frames, without I/O: read into `room()`, say how much by `filled`, `take` frames.

    Memory is bounded: one buffer, larger than the longest frame.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    def room(self) -> memoryview:
        """Where to read to, never empty once `take` has returned nothing. Views from `take` are void."""
        start, end = self._start, self._end
        if start:
            self._buffer[: end - start] = self._buffer[start:end]
            self._start, self._end = 0, end - start
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        self._end += count

    def take(self, limit: int) -> list[memoryview]:
        """Up to `limit` whole frames, valid until `room`. Raises FramingError at a length that can't be, once all
        frames before it have been taken."""
        start, end = self._start, self._end
        unpack = _LENGTH.unpack_from
        buffer, view = self._buffer, self._view
        frames: list[memoryview] = []
        while len(frames) < limit and start + 4 <= end:
            (length,) = unpack(buffer, start)
            if length > MAX_LENGTH:
                if frames:
                    break
                raise FramingError(f"a frame of {length} bytes")
            if start + 4 + length > end:
                break
            frames.append(view[start + 4 : start + 4 + length])
            start += 4 + length
        self._start = start
        return frames

    @property
    def has_frame(self) -> bool:
        """Whether `take` has something to return or to raise."""
        start, end = self._start, self._end
        if start + 4 > end:
            return False
        length: int = _LENGTH.unpack_from(self._buffer, start)[0]
        return length > MAX_LENGTH or start + 4 + length <= end

    def clear(self) -> None:
        self._start = self._end = 0


class StreamWire(Endpoint):
    """A stream socket that connects to `address`, or listens there and takes one peer at a time.

    `link` follows the connection, from the moment the card is plugged in. When it's lost, a listening wire takes the
    next peer, a connecting one tries again, ever more slowly. A length beyond MAX_LENGTH closes the connection.
    `status` says in words how things are. Takes wire frames only. Raises WireError if it can't listen.
    """

    def __init__(self, address: Address, readers: Readers, clock: Clock, listen: bool = False) -> None:
        super().__init__()
        self.address = address
        self.status = f"not yet connected to {address}"
        self._readers = readers
        self._clock = clock
        self._socket: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._file: SocketFile | None = None
        self._deframer = Deframer()
        self._unsent = memoryview(b"")
        self._reading = False
        self._accepting = False
        self._connecting = False
        self._writing = False
        self._room_wanted = False
        self._retry = RETRY_FIRST
        self._timer: Timer | None = None
        self._again: Timer | None = None
        if listen:
            self._listen()

    def send(self, frames: Sequence[Frame]) -> int:
        if not self.link:
            self.errors += len(frames)
            return len(frames)
        done = 0
        while done < len(frames) and self.link and not self._writing:
            done += self._send_some(frames, done)
        if not self.link:
            self.errors += len(frames) - done
            return len(frames)
        if done < len(frames):
            self._room_wanted = True
        return done

    def _send_some(self, frames: Sequence[Frame], first: int) -> int:
        """Sends as many frames as one sendmsg takes and returns how many. What is left of a frame sent in part is
        kept."""
        buffers: list[memoryview | bytes | bytearray] = []
        ends: list[int] = []
        total = 0
        for index in range(first, len(frames)):
            parts = frames[index].parts
            if len(parts) >= _IOV_MAX:
                parts = (b"".join(parts),)
            if len(buffers) + 1 + len(parts) > _IOV_MAX:
                break
            length = sum(map(len, parts))
            if length > MAX_LENGTH:  # the peer would take it for lost framing
                if ends:
                    break
                self.errors += 1
                return 1
            buffers.append(_LENGTH.pack(length))
            buffers.extend(parts)
            total += 4 + length
            ends.append(total)
        assert self._socket is not None
        try:
            count = self._socket.sendmsg(buffers, (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self._want_write()
            return 0
        except OSError as error:
            self._lost(error.strerror or str(error))
            return 0
        if count == total:
            return len(ends)
        whole = sum(1 for end in ends if end <= count)
        begun = ends[whole - 1] if whole else 0
        if count > begun:
            self._unsent = memoryview(b"".join(buffers))[count : ends[whole]]
            whole += 1
        self._want_write()
        return whole

    def receive(self, limit: int) -> Sequence[Frame]:
        deframer = self._deframer
        frames: list[Frame] = []
        try:
            taken = deframer.take(limit)
            if not taken and limit > 0 and self._socket is not None:
                try:
                    count = self._socket.recv_into(deframer.room())
                except BlockingIOError:
                    return frames
                except OSError as error:
                    self._lost(error.strerror or str(error))
                    return frames
                if count == 0:
                    self._lost("closed by the peer")
                    return frames
                deframer.filled(count)
                taken = deframer.take(limit)
        except FramingError as error:
            self.errors += 1
            self._lost(f"not in the stream format: {error}")
            return frames
        for frame in taken:
            if 0 < len(frame) <= MAX_FRAME:
                frames.append(Frame((frame,)))
            else:
                self.errors += 1
        if deframer.has_frame:
            self._ready_again()
        return frames

    def close(self) -> None:
        if not self._closed:
            super().close()
            if self._timer is not None:
                self._timer.cancel()
            self._drop()
            if self._listener is not None:
                self._stop_accepting()
                if self._file is not None:
                    self._file.remove()
                self._listener.close()

    # --- Frames that are in the buffer already: no event of the socket will tell of them ---

    def _ready_again(self) -> None:
        if self._again is None and self._wanted:
            self._again = self._clock.call_at(self._clock.now(), self._tell_again)

    def _tell_again(self) -> None:
        self._again = None
        if self._wanted and self._deframer.has_frame:
            self._ready()

    # --- Watching ---

    def _watch(self) -> None:
        if self._connected and self._socket is None:
            if self._listener is not None:
                self._start_accepting()
            elif self._timer is None:
                self._timer = self._clock.call_at(self._clock.now(), self._try_connect)
        wanted = self._wanted and self.link
        if self._socket is not None and wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._readers.add_reader(self._socket.fileno(), self._readable)
            else:
                self._readers.remove_reader(self._socket.fileno())
        if self._deframer.has_frame:
            self._ready_again()

    def _readable(self) -> None:
        self._ready()

    def _want_write(self) -> None:
        if not self._writing and self._socket is not None:
            self._writing = True
            self._readers.add_writer(self._socket.fileno(), self._writable)

    def _stop_writing(self) -> None:
        if self._writing and self._socket is not None:
            self._readers.remove_writer(self._socket.fileno())
        self._writing = False

    def _writable(self) -> None:
        if self._connecting:
            self._connect_ended()
            return
        if self._unsent and self._socket is not None:
            try:
                count = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(error.strerror or str(error))
                return
            self._unsent = self._unsent[count:]
            if self._unsent:
                return
        self._stop_writing()
        if self._room_wanted:
            self._room_wanted = False
            self._ready()

    # --- Connection ---

    def _listen(self) -> None:
        listener = socket.socket(self.address.family, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            if self.address.path is None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._file = bind(listener, self.address)
            listener.listen(1)
        except OSError as error:
            listener.close()
            raise WireError(f"can't listen at {self.address}: {error.strerror}") from None
        except WireError:
            listener.close()
            raise
        self._listener = listener
        self.status = f"listening at {self.address}"

    def _start_accepting(self) -> None:
        if not self._accepting and self._listener is not None:
            self._accepting = True
            self._readers.add_reader(self._listener.fileno(), self._accept)

    def _stop_accepting(self) -> None:
        if self._accepting and self._listener is not None:
            self._accepting = False
            self._readers.remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            peer, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # The peer stays in the queue, so the listener would call without end: try again later.
                self.status = f"can't accept at {self.address}: {error.strerror}"
                self._stop_accepting()
                self._try_later()
            return
        self._stop_accepting()
        self._established(peer)

    def _try_connect(self) -> None:
        self._timer = None
        if not self._connected:
            return
        if self._listener is not None:
            self._start_accepting()
            return
        try:
            self._socket = socket.socket(self.address.family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            code = self._socket.connect_ex(self.address.sockaddr)
        except OSError as error:
            code = error.errno or errno.EIO
        if code == errno.EINPROGRESS:
            self._connecting = True
            self._want_write()
        elif code:
            self._lost(os.strerror(code))
        else:
            self._established(self._socket)

    def _connect_ended(self) -> None:
        assert self._socket is not None
        self._connecting = False
        self._stop_writing()
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lost(os.strerror(code))
        else:
            self._established(self._socket)

    def _established(self, peer: socket.socket | None) -> None:
        assert peer is not None
        peer.setblocking(False)
        if self.address.path is None:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = peer
        self._retry = RETRY_FIRST
        self.status = f"connected {'at' if self._listener else 'to'} {self.address}"
        self._set_link(True)
        self._watch()

    def _drop(self) -> None:
        """Closes the connection, if there is one, and forgets what was under way."""
        self._stop_writing()
        if self._socket is not None:
            if self._reading:
                self._readers.remove_reader(self._socket.fileno())
            self._socket.close()
        self._socket = None
        self._reading = self._connecting = self._room_wanted = False
        self._unsent = memoryview(b"")
        # Not the deframer's memory: the card may hold frames of it.
        self._deframer.clear()

    def _lost(self, why: str) -> None:
        """The connection ended or didn't come about: link down, and a new one is looked for."""
        self.status = f"{self.address}: {why}"
        self._drop()
        self._set_link(False)
        if self._closed or self._socket is not None:
            return
        if self._listener is None:
            self._try_later()
        elif self._connected:
            self._start_accepting()

    def _try_later(self) -> None:
        if self._timer is None:
            self._timer = self._clock.call_at(self._clock.now() + self._retry, self._try_connect)
            self._retry = min(self._retry * 2, RETRY_LAST)
