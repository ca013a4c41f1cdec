"""A small HTTP server to be the other end of a download or upload. Its data are made up, and the same each time.

GET /bytes/N gives N bytes, PUT or POST anything gives the SHA-256 of what came, GET / a line of text.
"""

import hashlib
import itertools
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BLOCK = 1 << 16
_LARGEST = 1 << 40


def pattern(size: int) -> Iterator[bytes]:
    """The `size` bytes that GET /bytes/SIZE gives, in pieces: SHAKE-128 of each block's number."""
    for number in itertools.count():
        if size <= 0:
            return
        piece = hashlib.shake_128(number.to_bytes(8, "little")).digest(min(size, _BLOCK))
        yield piece
        size -= len(piece)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        match = re.fullmatch(r"/bytes/(\d{1,13})", self.path)
        if match and int(match[1]) <= _LARGEST:
            self._head(200, int(match[1]))
            for piece in pattern(int(match[1])):
                self.wfile.write(piece)
        elif self.path == "/":
            self._say(200, "igb_vm\n")
        else:
            self._say(404, "only / and /bytes/N are here\n")

    def do_PUT(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            self._say(411, "a Content-Length is needed\n")
            return
        left, digest = int(length), hashlib.sha256()
        while left > 0 and (piece := self.rfile.read(min(left, _BLOCK))):
            digest.update(piece)
            left -= len(piece)
        self._say(200, digest.hexdigest() + "\n")

    do_POST = do_PUT

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: whoever tests sees the client's side."""

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _say(self, status: int, text: str) -> None:
        self._head(status, len(text))
        self.wfile.write(text.encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # IPv4 too
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is nothing to report."""


def serve(address: str, port: int) -> ThreadingHTTPServer:
    """Serve in a thread of its own until `shutdown` and `server_close`; port 0 picks one (`server_port`).

    address: "::" is IPv4's any address too. Raises OSError as bind(2) does.
    """
    server = _Server(address, port)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="igb_vm-http", daemon=True
    ).start()
    return server
