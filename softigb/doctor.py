"""`softigb doctor`: what this machine can do, and the remedy for what it can't."""

from __future__ import annotations

from typing import Annotated

import typer

_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Debian mirror to fetch from, as for boot.")] = None,
    kvm: Annotated[bool, typer.Option(help="Boot a guest under KVM to see whether that works (20 s at most).")] = True,
) -> None:
    """Checks what this machine has for `softigb boot`. Status 0 if it can work, 1 if not. Fetches nothing."""
    from softigb.checks import Level, run_checks
    from softigb.screen import console, table, text

    screen = console()
    checks = run_checks(mirror, kvm)
    out = table("", "what", "found")
    for check in checks:
        out.add_row(text(check.level.value, _STYLE[check.level.value]), check.what, text(check.found))
        if check.remedy:
            out.add_row("", "", text(f"→ {check.remedy}", "dim"))
    screen.print(out)
    screen.print()
    failed = [check.what for check in checks if check.level is Level.FAIL]
    if failed:
        screen.print(text(f"softigb boot can't work here yet: {', '.join(failed)}", "bold red"))
        raise typer.Exit(1)
    screen.print(text("softigb boot can work here", "green"))
