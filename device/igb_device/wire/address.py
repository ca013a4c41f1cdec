"""The addresses of sockets as QEMU's -netdev stream and dgram know them, written `unix:/path` or `HOST:PORT`."""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import dataclass
from typing import TypeAlias

from igb_device.wire.base import WireError

SocketAddress: TypeAlias = "str | tuple[str, int] | tuple[str, int, int, int]"

_SUN_PATH = 107  # bytes of a path in struct sockaddr_un, without the final zero


class AddressInUseError(WireError):
    """Somebody else has the address."""


@dataclass(frozen=True)
class Address:
    """Where a socket is bound or connected to. `sockaddr` is what Python's socket calls take."""

    family: socket.AddressFamily
    sockaddr: SocketAddress

    @property
    def path(self) -> str | None:
        """The path of a unix socket, else None."""
        return self.sockaddr if isinstance(self.sockaddr, str) else None

    def __str__(self) -> str:
        if isinstance(self.sockaddr, str):
            return f"unix:{self.sockaddr}"
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str, kind: socket.SocketKind) -> Address:
    """Reads `unix:/path`, `HOST:PORT` or `[IPV6]:PORT`; a host's name is looked up (once, and that may take a
    while), an empty host is this machine by loopback. Raises WireError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise WireError(f"{text!r} lacks a path: unix:/path")
        if len(os.fsencode(path)) > _SUN_PATH:
            raise WireError(f"the path of a unix socket has at most {_SUN_PATH} bytes: {path}")
        return Address(socket.AF_UNIX, path)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise WireError(f"{text!r} is neither unix:/path nor HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise WireError(f"{text!r}: an IPv6 address goes in brackets: [{host}]:{port}")
    try:
        found = socket.getaddrinfo(host or "localhost", int(port), type=kind)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise WireError(f"can't look up host {host!r}: {reason}") from None
    family, _, _, _, sockaddr = found[0]
    if not isinstance(sockaddr[0], str):  # getaddrinfo of a Python without IPv6
        raise WireError(f"{text!r}: this system has no IPv6")
    return Address(family, sockaddr)


def bind(sock: socket.socket, address: Address) -> SocketFile | None:
    """Binds, in place of a socket file that a process left behind when it died. Returns the file made for a unix
    socket, for removal at the end. Raises WireError."""
    try:
        try:
            sock.bind(address.sockaddr)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or address.path is None or not _is_left_behind(address.path):
                raise
            os.unlink(address.path)
            sock.bind(address.sockaddr)
    except OSError as error:
        kind = AddressInUseError if error.errno == errno.EADDRINUSE else WireError
        raise kind(f"can't listen at {address}: {error.strerror}") from None
    return None if address.path is None else SocketFile(address.path)


class SocketFile:
    """The file of a bound unix socket, which the kernel leaves to us to remove."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._inode = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def remove(self) -> None:
        """Removes the file unless it has become somebody else's."""
        if self._inode is not None and self._look() == self._inode:
            try:
                os.unlink(self._path)
            except OSError:
                pass


def _is_left_behind(path: str) -> bool:
    """Whether `path` is a unix socket that nobody has open. Asks with a type that no wire uses: the kernel answers
    EPROTOTYPE if there's a socket, and its owner isn't disturbed by a connection."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
