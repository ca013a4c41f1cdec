"""A row of steps: shown as they go, collected into a table, each with its result, a figure and the time it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from igb_vm.errors import GuestError
from softigb.screen import table, text


class StepError(Exception):
    """A step didn't give what it should: the line for the table, and more for below it."""

    def __init__(self, line: str, detail: str = "") -> None:
        super().__init__(line)
        self.detail = detail


@dataclass(frozen=True)
class Row:
    """How a step went. `seconds` is None if it wasn't tried."""

    step: str
    passed: bool
    figure: str
    seconds: float | None


class Steps:
    """Runs steps one after the other. A context manager: while it's entered, a terminal shows the table as it grows;
    elsewhere each step is a line when it ends."""

    def __init__(self, screen: Console) -> None:
        self.rows: list[Row] = []
        self.details: list[str] = []
        self._screen = screen
        self._running = ""
        self._live = Live(console=screen, get_renderable=self.table, transient=True) if screen.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def failed(self) -> int:
        """How many steps didn't pass, those that weren't tried included."""
        return sum(not row.passed for row in self.rows)

    def run(self, step: str, call: Callable[[], str]) -> bool:
        """Does a step: `call` returns its figure, or raises StepError or GuestError. Returns whether it passed.

        Anything else that is raised is no step's result and goes on to the caller.
        """
        self._running = step
        began = time.monotonic()
        try:
            figure, passed = call(), True
        except (StepError, GuestError) as error:
            passed = False
            figure, _, detail = str(error).partition("\n")
            self.details += filter(None, [error.detail if isinstance(error, StepError) else detail])
        finally:
            self._running = ""
        self._add(Row(step, passed, figure, time.monotonic() - began))
        return passed

    def leave_out(self, step: str, why: str) -> None:
        """Notes that a step wasn't tried because of another's failure."""
        self._add(Row(step, False, why, None))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        if self._live is None:
            seconds = "" if row.seconds is None else f" ({row.seconds:.1f} s)"
            self._screen.print(text(f"{_result(row)}: {row.step}: {row.figure}{seconds}"), soft_wrap=True)

    def table(self) -> Table:
        """The rows so far, and the step that is running."""
        out = table("step", "result", "figure", "seconds", right=("seconds",))
        for row in self.rows:
            colour = "green" if row.passed else "yellow" if row.seconds is None else "bold red"
            seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
            out.add_row(row.step, text(_result(row), colour), text(row.figure), seconds)
        if self._running:
            out.add_row(self._running, Spinner("dots"), "", "")
        return out


def _result(row: Row) -> str:
    return "passed" if row.passed else "not run" if row.seconds is None else "FAILED"
