"""The command line: `softigb COMMAND`. Each command is a file; its imports are inside its function, to start fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from softigb.boot import boot
from softigb.doctor import doctor
from softigb.errors import FAILED, USAGE, CliError, users_error
from softigb.regs import regs
from softigb.serve import serve

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

# Every error of usage derives from this, whichever click typer brings along.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="softigb",
    help="An Intel igb network card in software: an 82576 that QEMU attaches to a guest over vfio-user.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS = {function.__name__: app.command()(function) for function in (boot, serve, doctor, regs)}


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"softigb {version('softigb')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command in `arguments` (by default the process's own) and returns the exit status.

    An error that the user can do something about is one line on stderr and a status that isn't 0.
    """
    # numpy would start a thread for each processor, for algebra that nothing here does: a fifth of the time to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(app(args=words or ["--help"], prog_name="softigb", standalone_mode=False) or 0)
    except _UsageError as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        command = f"{words[0]} " if words[0] in _COMMANDS else ""
        return _complain(f"{message.rstrip('.')} (softigb {command}--help says more)", USAGE)
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        line = users_error(error)
        if line is None:
            raise
        return _complain(line, error.status if isinstance(error, CliError) else FAILED)


def _complain(line: str, status: int) -> int:
    print(f"softigb: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
