"""One vfio-user stream without its I/O: bytes and descriptors in, messages out. The specification's section "Header".

A `Connection` knows neither sockets nor which role it plays: client and server treat a stream alike. Whoever owns the
socket calls `receive` with what one `recvmsg` returned and then `next_message` until it gives None; what is to be
sent, the builders here return as bytes for the owner to send.

Descriptors: on a unix socket the kernel ends a `recvmsg` after the write that carried descriptors, and a sender
writes a message with descriptors alone and in one `sendmsg`. So those that came with a piece of data belong to the
last message that begins in it (or to the one it continues).

Ownership: a descriptor given to `receive` is the connection's. `next_message` passes it on to the message's owner, who
removes from `Message.fds` what it keeps and calls `Message.close_fds` for the rest. `Connection.close` closes those of
messages that were never taken.

A framing error leaves no way to find the next message: `ProtocolError` is raised, now and at each later call, and the
owner must close the stream.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from pyvfio_user.messages import ERROR, HEADER, NO_REPLY, TYPE_COMMAND, TYPE_MASK, TYPE_REPLY

HEADER_ROOM: Final = 256
"""What a message may have beyond max_data_xfer_size bytes of data: the header and a fixed part."""

MAX_FDS: Final = 253
"""Most descriptors the kernel passes at once (SCM_MAX_FD), and the most one message may have here."""

_HEADER_SIZE: Final = HEADER.size
_unpack_header = HEADER.unpack_from
_pack_header = HEADER.pack


class ProtocolError(Exception):
    """The peer broke the framing. The stream can't be used any more."""


class Message(NamedTuple):
    """A complete message. `flags` is the header's word, type included; `payload` all that follows the header."""

    msg_id: int
    command: int
    flags: int
    error: int
    payload: bytes
    fds: list[int]

    @property
    def is_reply(self) -> bool:
        return self.flags & TYPE_MASK == TYPE_REPLY

    @property
    def wants_reply(self) -> bool:
        """A command whose sender awaits an answer."""
        return self.flags & (TYPE_MASK | NO_REPLY) == TYPE_COMMAND

    @property
    def is_error(self) -> bool:
        """An error reply; `error` holds the errno, which may be 0 even so."""
        return self.flags & (TYPE_MASK | ERROR) == TYPE_REPLY | ERROR

    def close_fds(self) -> None:
        """Closes the descriptors that nobody has removed from `fds`."""
        if self.fds:
            close_all(self.fds)
            self.fds.clear()


def close_all(fds: Iterable[int]) -> None:
    """Closes every descriptor; one that is closed already, or whose file reports an error, is passed over."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def pack_command(msg_id: int, command: int, payload: bytes = b"", *, no_reply: bool = False) -> bytes:
    """A command message. `Connection.next_id` gives ids."""
    return _pack_header(msg_id, command, _HEADER_SIZE + len(payload), NO_REPLY if no_reply else 0, 0) + payload


def pack_reply(msg_id: int, command: int, payload: bytes = b"") -> bytes:
    """The reply to a command: its id and number are echoed."""
    return _pack_header(msg_id, command, _HEADER_SIZE + len(payload), TYPE_REPLY, 0) + payload


def pack_error(msg_id: int, command: int, error: int) -> bytes:
    """The reply to a command that failed with `error` (an errno): a header alone."""
    return _pack_header(msg_id, command, _HEADER_SIZE, TYPE_REPLY | ERROR, error)


class Connection:
    """Cuts a stream into messages.

    `max_message` is the longest message accepted, header included; it may be changed at any time.
    """

    __slots__ = ("_data", "_error", "_fds", "_next_id", "_offset", "_partial", "_wanted", "max_message")

    def __init__(self, max_message: int = (1 << 20) + HEADER_ROOM) -> None:
        self.max_message = max_message
        self._data = b""  # complete up to where it isn't: parsed from the front
        self._offset = 0  # of the next message in _data
        self._partial = bytearray()  # the beginning of a message, while more of it is awaited
        self._wanted = 0  # length _partial must reach before it is looked at again
        self._fds: deque[tuple[int, list[int]]] = deque()  # (distance from _data's start to where they came, fds)
        self._error: str | None = None
        self._next_id = 0

    def receive(self, data: bytes, fds: list[int] | None = None) -> None:
        """Takes what one `recvmsg` returned. Take all complete messages (until None) before the next call."""
        if not self._partial:
            if self._offset == len(self._data):
                self._move_fds(self._offset)
                self._data = data
                self._offset = 0
            else:
                self._restart(self._data[self._offset :] + data)
        else:
            self._partial += data
            if len(self._partial) >= self._wanted:
                self._restart(bytes(self._partial))
                self._partial.clear()
        if fds:
            self._fds.append((len(self._partial) or len(self._data), fds))
            if sum(len(more) for _, more in self._fds) > MAX_FDS:
                self._error = f"more than {MAX_FDS} descriptors for one message"

    def next_message(self) -> Message | None:
        """The next complete message, or None until more has been received. Raises ProtocolError."""
        if self._error is not None:
            raise ProtocolError(self._error)
        data = self._data
        start = self._offset
        left = len(data) - start
        if left < _HEADER_SIZE:
            if left:
                self._await(_HEADER_SIZE)
            return None
        msg_id, command, size, flags, error = _unpack_header(data, start)
        if not _HEADER_SIZE <= size <= self.max_message or flags & TYPE_MASK > TYPE_REPLY:
            self._fail(size, flags)
        if left < size:
            self._await(size)
            return None
        end = self._offset = start + size
        fds: list[int] = []
        if self._fds:
            while self._fds and self._fds[0][0] <= end:
                fds += self._fds.popleft()[1]
        return Message(msg_id, command, flags, error, data[start + _HEADER_SIZE : end], fds)

    @property
    def mid_message(self) -> bool:
        """Part of a message has been received: an end of the stream now has cut it off."""
        return bool(self._partial)

    def next_id(self) -> int:
        """An id for a command of our own. They wrap: 65536 commands may be under way."""
        msg_id = self._next_id
        self._next_id = (msg_id + 1) & 0xFFFF
        return msg_id

    def close(self) -> None:
        """Forgets everything and closes the descriptors of messages not taken."""
        for _, fds in self._fds:
            close_all(fds)
        self._fds.clear()
        self._data = b""
        self._offset = 0
        self._partial.clear()

    def _await(self, wanted: int) -> None:
        """Sets the rest of _data aside until `wanted` bytes of it are there: growing it is then linear in its size."""
        self._move_fds(self._offset)
        self._partial += memoryview(self._data)[self._offset :]
        self._wanted = wanted
        self._data = b""
        self._offset = 0

    def _restart(self, data: bytes) -> None:
        self._move_fds(self._offset)
        self._data = data
        self._offset = 0

    def _move_fds(self, by: int) -> None:
        if by and self._fds:
            self._fds = deque((end - by, fds) for end, fds in self._fds)

    def _fail(self, size: int, flags: int) -> None:
        if flags & TYPE_MASK > TYPE_REPLY:
            self._error = f"message type {flags & TYPE_MASK}"
        else:
            self._error = f"message of {size} bytes"
        raise ProtocolError(self._error)
