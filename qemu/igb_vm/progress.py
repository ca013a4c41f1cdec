"""What is shown while something is fetched: a bar on a terminal, a sparse line elsewhere. Always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0  # at most one line in this time where there is no terminal


def say(text: str) -> None:
    """One line for the person who waits."""
    print(f"igb_vm: {text}", file=sys.stderr, flush=True)


@contextmanager
def progress(title: str) -> Iterator[Callable[[float], None]]:
    """Show how far `title` is; yields the function to call with the percentage done."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=100.0)
            yield lambda percent: bar.update(task, completed=percent)
        return
    started = shown = time.monotonic()

    def line(percent: float) -> None:
        nonlocal shown
        if time.monotonic() - shown >= LINE_SECONDS:
            shown = time.monotonic()
            say(f"{title}: {percent:.0f} %")

    yield line
    if time.monotonic() - started >= LINE_SECONDS:
        say(f"{title}: done")
