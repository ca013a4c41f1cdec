"""Errors that a user can do something about: which exceptions they are, and the one line that each becomes."""

from __future__ import annotations

import sys

FAILED = 1
USAGE = 2

_USERS = (
    ("softigb.errors", "CliError"),
    ("igb_vm.errors", "VmError"),
    ("igb_device.wire.base", "WireError"),
    ("pyvfio_user.server", "ServerError"),
)
"""Modules and classes. A class whose module was never imported can't have been raised, so none is imported here."""


class CliError(Exception):
    """What the user asked for can't be done: a line that says why, and the way out. `status` is the exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def users_error(error: BaseException) -> str | None:
    """The line for an error of a user or of the machine; None for one of ours, which deserves its traceback."""
    for module, name in _USERS:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return None
