"""Serves a PCI device on a unix socket, one client at a time; the next may come when one has left."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import Final

from pyvfio_user.device import PciDevice
from pyvfio_user.irq import Irqs
from pyvfio_user.logs import LimitedLog
from pyvfio_user.loop import EventLoop, LoopTimer
from pyvfio_user.session import Options, Session

_HELLO_NS: Final = 10_000_000_000
"""A client that hasn't sent VERSION by then is sent away: it would keep others out."""
_PAUSE_NS: Final = 1_000_000_000
"""Without accepting, after that has failed: what it failed for may be over then."""
_LOCK_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)
_limited = LimitedLog(_log)


class ServerError(Exception):
    """The server can't be set up as asked: one line for the user."""


class Server:
    """Listens from the start; everything else happens while `loop` runs.

    `address` is the path of the socket to make (for this user only), or a socket that listens already, which becomes
    the server's, or None for clients by `serve` only. With `once`, the server closes and stops the loop after its first
    client. Raises ServerError.
    """

    def __init__(
        self,
        address: str | os.PathLike[str] | socket.socket | None,
        device: PciDevice,
        loop: EventLoop,
        *,
        once: bool = False,
        options: Options | None = None,
    ) -> None:
        self._device = device
        self._loop = loop
        self._once = once
        self._options = options or Options()
        self._session: Session | None = None
        self._hello: LoopTimer | None = None
        self._pause: LoopTimer | None = None
        self._path = ""
        self._inode = (0, 0)
        self._listener: socket.socket | None = None
        if address is None:
            return
        self._listener = address if isinstance(address, socket.socket) else self._listen(os.fspath(address))
        self._listener.setblocking(False)
        self._watch()

    @property
    def irqs(self) -> Irqs | None:
        """The present client's interrupts, None without one. For ERR and REQ, which are the server's to signal."""
        return self._session.irqs if self._session is not None else None

    @property
    def connected(self) -> bool:
        """Whether there is a client, and VERSION has been agreed with it."""
        return self._session is not None and self._session.negotiated

    def serve(self, sock: socket.socket) -> None:
        """Takes a connected stream socket as the client. Raises ServerError while there is one."""
        if self._session is not None:
            raise ServerError("there is a client already")
        session = self._session = Session(sock, self._device, self._loop, self._options, self._left)

        def send_away() -> None:
            if not session.negotiated:
                session.close("it has said nothing")

        self._hello = self._loop.call_at(self._loop.now() + _HELLO_NS, send_away)

    def close(self) -> None:
        """Ends the present client's session, and removes the socket unless it has been replaced. May be repeated."""
        self._once = False
        if self._listener is not None:
            if self._pause is not None:
                self._pause.cancel()
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
            self._remove_path()
        if self._session is not None:
            self._session.close("the server is closing")

    def _listen(self, path: str) -> socket.socket:
        with _starting(path):
            _remove_dead(path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            umask = os.umask(0o177)
            try:
                listener.bind(path)
                info = os.lstat(path)
                listener.listen(1)
            except OSError as error:
                listener.close()
                raise ServerError(f"can't listen on {path}: {error.strerror or error}") from None
            finally:
                os.umask(umask)
        self._path = path
        self._inode = (info.st_dev, info.st_ino)
        return listener

    def _remove_path(self) -> None:
        if not self._path:
            return
        try:
            info = os.lstat(self._path)
            if (info.st_dev, info.st_ino) == self._inode:
                os.unlink(self._path)
        except OSError:
            pass  # gone already
        self._path = ""

    def _watch(self) -> None:
        assert self._listener is not None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR, errno.ECONNABORTED):
                _limited.log(logging.ERROR, "can't accept a client: %s", error.strerror)
                # It stays there to be accepted: it would be tried again without a pause.
                self._loop.remove_reader(self._listener.fileno())
                self._pause = self._loop.call_at(self._loop.now() + _PAUSE_NS, self._watch)
            return
        if self._session is not None:
            self._session.close_if_left()
        if self._session is not None:
            _limited.log(logging.WARNING, "a second client was turned away")
            sock.close()
            return
        _log.info("a client has come")
        self.serve(sock)

    def _left(self, reason: str) -> None:
        _log.info("the client has left: %s", reason)
        self._session = None
        if self._hello is not None:
            self._hello.cancel()
        if self._once:
            self.close()
            self._loop.stop()


@contextlib.contextmanager
def _starting(path: str) -> Iterator[None]:
    """Keeps other servers from starting in the same folder: one that isn't listening yet looks dead to them. Somebody
    else's lock on the folder holds nobody up for long."""
    try:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # it isn't there, which binding will tell, or may be entered but not read
        yield
        return
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.005)
            except OSError:
                break  # a file system without locks
        yield
    finally:
        os.close(folder)


def _remove_dead(path: str) -> None:
    """Removes a socket that nobody listens on any more. Raises ServerError for anything else at `path`."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ServerError(f"can't listen on {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(info.st_mode):
        raise ServerError(f"can't listen on {path}: something that isn't a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass
        except OSError as error:
            if error.errno != errno.EAGAIN:  # EAGAIN: somebody listens, with a full backlog
                raise ServerError(f"can't listen on {path}: {error.strerror}") from None
            raise ServerError(f"can't listen on {path}: another server does") from None
        else:
            raise ServerError(f"can't listen on {path}: another server does")
    try:
        os.unlink(path)
    except OSError as error:
        raise ServerError(f"can't remove the dead socket {path}: {error.strerror}") from None
