"""What goes to the terminal as tables: rich's console, wide enough where there's no terminal to fit into."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_OF_A_FILE = 200


def console() -> Console:
    """A console on stdout. A pipe or file gets no colours and lines up to 200 characters, as COLUMNS isn't its
    width."""
    plain = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_WIDTH_OF_A_FILE if plain else None, highlight=False, markup=False, soft_wrap=False)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table with a line under its head only. `right` names the columns of numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def text(content: object, style: str = "") -> Text:
    """`content` as it is: `RDBAL[3]` isn't markup."""
    return Text(str(content), style=style)
