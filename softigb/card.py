"""A card in a process of its own, `softigb serve`, so that it and QEMU have a processor each."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from igb_vm import process
from softigb.errors import CliError

_SECONDS = 20.0
_GRACE = 10.0  # a card that waits for a guest's memory by messages gives up after 5 s
_SHORT = 60
"""Characters of a temporary folder's path: a socket's may have 107 bytes."""


class CardProcess:
    """A served card, for QEMU's `-device`. A context manager; the process ends with this one, however that ends.

    wire: its specification. mac, capture, log_level: as `softigb serve` has them. pass_fds: descriptors that the wire's
    specification speaks of.
    """

    def __init__(
        self,
        wire: str,
        *,
        mac: str | None = None,
        capture: Path | None = None,
        pass_fds: Sequence[int] = (),
        log_level: str = "warning",
    ) -> None:
        place = "/tmp" if len(tempfile.gettempdir()) > _SHORT else None
        self._folder = tempfile.TemporaryDirectory(prefix="softigb-", dir=place)
        self.socket = Path(self._folder.name, "card")
        self._words = ["--socket", str(self.socket), "--wire", wire, "--log-level", log_level]
        self._words += ["--mac", mac] if mac else []
        self._words += ["--capture", str(capture)] if capture else []
        self._pass_fds = list(pass_fds)
        self.started = False  # it has listened; if not, what it said is in the error
        self._process: subprocess.Popen[bytes] | None = None
        self._log = os.memfd_create("card")
        self._said = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Starts the process and waits until it listens. Raises CliError, with what the process said, if it doesn't."""
        command = [sys.executable, "-m", "softigb", "serve", *self._words]
        self._process = process.spawn(command, pass_fds=self._pass_fds, stdout=subprocess.PIPE, stderr=self._log)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _SECONDS)
        if not ready or not self._process.stdout.readline():
            self.close()
            said = self.log.strip() or "the card's process doesn't start"
            raise CliError(said.removeprefix("softigb: "))
        self.started = True
        return self

    @property
    def pid(self) -> int:
        """The card's process. Raises CliError before `start`."""
        if self._process is None:
            raise CliError("the card isn't running")
        return self._process.pid

    @property
    def log(self) -> str:
        """What the card's process has said on stderr so far."""
        if self._log >= 0:
            self._said = os.pread(self._log, os.fstat(self._log).st_size, 0).decode(errors="replace")
        return self._said

    def devices(self) -> list[dict[str, Any]]:
        """QEMU's devices: the card, on a PCI Express port of its own."""
        address = {"type": "unix", "path": str(self.socket)}
        return [
            {"driver": "pcie-root-port", "id": "softigb-port"},
            {"driver": "vfio-user-pci", "bus": "softigb-port", "socket": address},
        ]

    def end(self) -> int:
        """Ends the process by SIGTERM and returns its exit status: 0 if all went well."""
        assert self._process is not None
        process.end(self._process, _GRACE)
        return self._process.returncode

    def close(self) -> None:
        """Ends the process and removes its socket. `log` stays readable. May be called again."""
        if self._process is not None:
            self.end()
            if self._process.stdout is not None:
                self._process.stdout.close()
        if self._log >= 0:
            self._said = self.log
            os.close(self._log)
            self._log = -1
        self._folder.cleanup()
