"""QMP, QEMU's monitor protocol, for callers without asyncio: qemu.qmp's client in a thread of its own."""

import asyncio
import socket
import threading
from typing import Any

from qemu.qmp import QMPClient
from qemu.qmp.error import QMPError

from igb_vm.errors import GuestError


class Monitor:
    """A connection to QEMU's monitor, made on first use. Safe for several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket: socket.socket | None = sock
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: QMPClient | None = None

    def execute(self, command: str, arguments: dict[str, Any], timeout: float = 30.0) -> Any:
        """Run a QMP command; what it returns. Raises GuestError if QEMU refuses it, is gone or doesn't answer."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="igb_vm-qmp", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(self._execute(command, arguments), self._loop)
            try:
                return future.result(timeout)
            except TimeoutError:
                future.cancel()
                raise GuestError(f"QEMU didn't answer {command} within {timeout:g} s") from None
            except (QMPError, OSError, EOFError) as error:
                raise GuestError(f"QEMU refused {command}: {error}") from None

    def close(self) -> None:
        """Drop the connection."""
        with self._lock:
            if self._loop is not None and self._thread is not None:
                if self._client is not None:
                    future = asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop)
                    try:
                        future.result(5.0)
                    except (QMPError, OSError, EOFError, TimeoutError):
                        pass  # it ended on its own
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._loop = None
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    async def _execute(self, command: str, arguments: dict[str, Any]) -> Any:
        if self._client is None:
            if self._socket is None:
                raise EOFError("it's closed")
            client = QMPClient("igb_vm")
            await client.connect(self._socket)
            self._client, self._socket = client, None
        return await self._client.execute(command, arguments or None)

    async def _disconnect(self) -> None:
        if self._client is not None:
            await self._client.disconnect()
