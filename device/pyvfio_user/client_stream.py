"""A client's end of a vfio-user connection: commands go out, replies are awaited, the server's commands are served."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from pyvfio_user.connection import Connection, Message, ProtocolError, pack_command, pack_error, pack_reply
from pyvfio_user.messages import ERROR, TYPE_COMMAND, TYPE_MASK, Command

_RECEIVE: Final = 1 << 16
_MAX_ERRNO: Final = 4095
MAX_FDS: Final = 16
"""Descriptors that are taken with one reply. More are refused by the kernel and never arrive."""


class VfioUserError(OSError):
    """The server refused a request, or the connection failed: `errno` says how.

    ETIMEDOUT: no reply in time. ECONNRESET: the server has closed. EPROTO: it sent what makes no sense. After one of
    these the connection is closed and further requests raise ENOTCONN; after any other it can go on.
    """


class CommandStream:
    """Commands to the server at the unix socket `path`, one at a time.

    `serve` answers a command of the server's: it gets its number and payload and returns the reply's payload, or
    raises OSError with the errno to reply. `timeout`, in seconds, is for each command.
    """

    def __init__(self, path: str, timeout: float, serve: Callable[[int, bytes], bytes]) -> None:
        self.timeout = timeout
        self._serve_command = serve
        self._stream = Connection()
        self._twin: socket.socket | None = None
        self._twin_stream = Connection()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            _limit_blocking(self._socket, timeout)
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise VfioUserError(error.errno or errno.EINVAL, f"{path}: {error.strerror or error}") from None

    def close(self) -> None:
        """May be called again."""
        self._socket.close()
        if self._twin is not None:
            self._twin.close()
        self._stream.close()
        self._twin_stream.close()

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def use_twin(self, fd: int) -> None:
        """From now on the server's commands come on this socket. Takes `fd` over, even when it raises OSError."""
        try:
            self._twin = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            raise
        _limit_blocking(self._twin, self.timeout)

    def post(self, command: int, payload: bytes) -> None:
        """Sends a command that wants no reply."""
        self._send(self._socket, pack_command(self._stream.next_id(), command, payload, no_reply=True))

    def exchange(self, command: int, payload: bytes, fds: Sequence[int] = (), *, with_fds: bool = False) -> Message:
        """One command and its reply. Descriptors are only looked for `with_fds`: else the kernel closes them."""
        stream = self._stream
        msg_id = stream.next_id()
        deadline = time.monotonic() + self.timeout
        self._send(self._socket, pack_command(msg_id, command, payload), fds)
        while True:
            message = self._next(stream)
            if message is None:
                if self._twin is None or self._await_sockets(deadline):
                    self._receive(with_fds)
                if time.monotonic() > deadline:
                    self.fail(errno.ETIMEDOUT, f"no reply to {command_name(command)} in {self.timeout:g} s")
            elif message.flags & TYPE_MASK == TYPE_COMMAND:
                self._serve(message, self._socket)
            elif message.msg_id != msg_id or message.command != command:
                message.close_fds()
                self.fail(
                    errno.EPROTO, f"{command_name(command)} was sent, a reply to {command_name(message.command)} came"
                )
            elif message.flags & ERROR:
                message.close_fds()
                number = message.error if 0 < message.error <= _MAX_ERRNO else errno.EIO
                raise VfioUserError(number, f"{command_name(command)}: {os.strerror(number)}")
            else:
                return message

    def _await_sockets(self, deadline: float) -> bool:
        """With a twin socket: serves what comes there until the main one has something (True) or time is up."""
        poller = select.poll()
        for watched in (self._socket, self._twin):
            if watched is not None:
                poller.register(watched, select.POLLIN)
        while self._twin is not None and (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in poller.poll(left * 1000)}
            if self._twin.fileno() in ready:
                self._serve_twin()
            if self._socket.fileno() in ready:
                return True
        return self._twin is None

    def serve_until(self, deadline: float, fd: int | None = None) -> bool:
        """Serves what there is, waiting until `deadline` for something or for `fd`. False when nothing came."""
        if self.closed:
            self.fail(errno.ENOTCONN, "the client is closed")
        served = self._serve_buffered()
        left = 0.0 if served else max(0.0, deadline - time.monotonic())
        poller = select.poll()
        for watched in (self._socket, self._twin, fd):
            if watched is not None:
                poller.register(watched, select.POLLIN)
        ready = {number for number, _ in poller.poll(left * 1000)}
        if self._twin is not None and self._twin.fileno() in ready:
            self._serve_twin()
        if self._socket.fileno() in ready:
            self._receive(with_fds=False)
            self._serve_buffered()
        return served or bool(ready)

    def _serve_buffered(self) -> bool:
        served = False
        while (message := self._next(self._stream)) is not None:
            self._serve(message, self._socket)
            served = True
        return served

    def _serve_twin(self) -> None:
        assert self._twin is not None
        try:
            data = self._twin.recv(_RECEIVE)
        except OSError as error:
            self._fail_io(error)
        if not data:  # if that was the end, the main socket tells
            self._twin.close()
            self._twin = None
            return
        self._twin_stream.receive(data)
        while (message := self._next(self._twin_stream)) is not None:
            self._serve(message, self._twin)

    def _serve(self, message: Message, to: socket.socket) -> None:
        """Answers a command of the server's."""
        msg_id, command, _, _, payload, _ = message
        message.close_fds()
        if message.is_reply:
            self.fail(errno.EPROTO, f"a reply to {command_name(command)} came that wasn't asked for")
        try:
            reply = pack_reply(msg_id, command, self._serve_command(command, payload))
        except OSError as error:
            reply = pack_error(msg_id, command, error.errno or errno.EIO)
        else:
            if not message.wants_reply:
                return
        self._send(to, reply)

    def _next(self, stream: Connection) -> Message | None:
        try:
            return stream.next_message()
        except ProtocolError as error:
            self.fail(errno.EPROTO, str(error))

    def _receive(self, with_fds: bool) -> None:
        fds: list[int] = []
        try:
            if with_fds:
                data, fds, _, _ = socket.recv_fds(self._socket, _RECEIVE, MAX_FDS)
            else:
                data = self._socket.recv(_RECEIVE)
        except OSError as error:
            self._fail_io(error)
        if not data:
            self.fail(errno.ECONNRESET, "the server has closed the connection")
        self._stream.receive(data, fds)

    def _send(self, to: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
        try:
            if fds:
                sent = socket.send_fds(to, [data], fds)
                if sent == len(data):
                    return
                data = data[sent:]
            to.sendall(data)
        except OSError as error:
            self._fail_io(error)

    def _fail_io(self, error: OSError) -> NoReturn:
        if isinstance(error, BlockingIOError):
            self.fail(errno.ETIMEDOUT, f"the server was silent for {self.timeout:g} s")
        if self.closed:
            self.fail(errno.ENOTCONN, "the client is closed")
        self.fail(errno.ECONNRESET, f"the connection is lost: {error.strerror}")

    def fail(self, number: int, reason: str) -> NoReturn:
        """Closes, and raises VfioUserError."""
        self.close()
        raise VfioUserError(number, reason) from None


def command_name(command: int) -> str:
    """For messages."""
    try:
        return Command(command).name
    except ValueError:
        return f"command {command}"


def _limit_blocking(of: socket.socket, timeout: float) -> None:
    """A blocking socket whose calls give up after `timeout`: cheaper than Python's, which polls before each call."""
    of.setblocking(True)
    value = struct.pack("@ll", int(timeout), int(timeout % 1 * 1_000_000))
    of.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    of.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
