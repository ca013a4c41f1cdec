"""`softigb boot`: a card, QEMU and a Linux guest in one go; a tour of the card, or one's own commands in the guest."""

from __future__ import annotations

import contextlib
import enum
import ipaddress
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softigb.errors import FAILED, USAGE, CliError

if TYPE_CHECKING:
    from softigb.machine import Machine


class NetworkKind(enum.StrEnum):
    """How the network of its own is made."""

    AUTO = "auto"
    NAMESPACE = "namespace"
    PASST = "passt"
    SLIRP = "slirp"


class Accel(enum.StrEnum):
    """How QEMU runs the guest's processor."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


def boot(
    wire: Annotated[
        str | None, typer.Option(metavar="SPEC", help="As for softigb serve [default: a network of its own].")
    ] = None,
    network: Annotated[
        NetworkKind, typer.Option(help="A network namespace with a TAP where allowed, else passt, else slirp.")
    ] = NetworkKind.AUTO,
    run: Annotated[
        list[str] | None, typer.Option(metavar="CMD", help="Run this in the guest, not the tour; may be repeated.")
    ] = None,
    smp: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Processors of the guest.")] = 1,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="The guest's memory, as QEMU writes it.")] = "512M",
    kernel_release: Annotated[
        str | None, typer.Option(metavar="R", help="Debian suite or kernel release [default: Debian stable's].")
    ] = None,
    append: Annotated[str, typer.Option(metavar="ARGS", help="More kernel arguments, such as pci=nomsi.")] = "",
    accel: Annotated[Accel, typer.Option(help="KVM where it works, or one of them.")] = Accel.AUTO,
    mac: Annotated[str, typer.Option(metavar="MAC", help="The card's address.")] = "52:54:00:82:57:60",
    address: Annotated[
        str | None, typer.Option(metavar="IP/BITS", help="The guest's address, where --wire is given.")
    ] = None,
    capture: Annotated[Path | None, typer.Option(metavar="FILE", help="Record the wire as pcapng.")] = None,
    keep_console: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the guest's console here.")] = None,
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Debian mirror [default: apt's].")] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="For each --run.")] = 600.0,
) -> None:
    """Boots a Linux guest with the card in it, on a network made for it, and tries what the card can do.

    Fetches QEMU and a kernel first if need be, without root and without installing anything. Ends with status 0 only if
    every step passed. With --run the guest runs your commands instead, with eth0 up and its address set; the status is
    then that of the first command that failed.
    """
    from softigb.mac import parse_mac
    from softigb.machine import Machine, Settings

    parse_mac(mac)
    if not re.fullmatch(r"[1-9][0-9]{0,7}[MGmg]", memory):
        raise CliError(f"{memory!r} is no size of memory: it looks like 512M", USAGE)
    if wire is not None and network is not NetworkKind.AUTO:
        raise CliError("--network is for a network of its own: --wire says there's another", USAGE)
    if wire == "":
        raise CliError("--wire is empty: leave it out for a network of its own", USAGE)
    if address is not None:
        if wire is None:
            raise CliError("--address is for --wire: the network of its own has addresses", USAGE)
        try:
            ipaddress.ip_interface(address)
        except ValueError:
            raise CliError(f"--address {address}: not an address such as 10.0.2.2/24", USAGE) from None
    settings = Settings(
        wire=wire,
        network=network.value,
        mac=mac,
        smp=smp,
        memory=memory,
        accel=accel.value,
        kernel_release=kernel_release,
        append=append,
        mirror=mirror,
        capture=capture.absolute() if capture else None,
        console=keep_console,
        address=address,
    )
    with _signals_end_it(), contextlib.ExitStack() as stack:
        machine = stack.enter_context(Machine(settings))
        stack.callback(_undisturbed)
        status = _run_commands(machine, run, timeout) if run else _tour(machine)
    raise typer.Exit(status)


def _tour(machine: Machine) -> int:
    from softigb.demo import Demo
    from softigb.screen import console, text
    from softigb.steps import Steps

    machine.prepare()
    screen = console()
    steps = Steps(screen)
    try:
        with steps:
            Demo(machine, steps).run()
    finally:
        _show_log(machine)
    for detail in steps.details:
        screen.print(text(detail.rstrip()), soft_wrap=True)
    screen.print()
    screen.print(steps.table())
    screen.print()
    if steps.failed:
        screen.print(text(f"{steps.failed} of {len(steps.rows)} steps didn't pass", "bold red"))
        return FAILED
    screen.print(text(f"all {len(steps.rows)} steps passed", "green"))
    return 0


def _run_commands(machine: Machine, commands: list[str], timeout: float) -> int:
    machine.prepare()
    try:
        machine.start_card()
        machine.boot()
        if not machine.load_driver():
            print("softigb: eth0 has no link", file=sys.stderr)
        machine.configure()
        first = 0
        for command in commands:
            result = machine.guest.run(command, timeout=timeout)
            sys.stdout.buffer.write(result.raw)
            sys.stdout.flush()
            first = first or result.status
        machine.guest.shutdown()
        return first
    finally:
        _show_log(machine)


def _show_log(machine: Machine) -> None:
    if machine.card.started and (said := machine.card.log.strip()):
        print(f"softigb: the card said:\n{said}", file=sys.stderr)


@contextlib.contextmanager
def _signals_end_it() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does, with the status that shells give them."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = [(number, signal.signal(number, end)) for number in (signal.SIGTERM, signal.SIGHUP)]
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        for number, handler in (*before, (signal.SIGINT, interrupt)):
            signal.signal(number, handler)


def _undisturbed() -> None:
    """From here on it is being ended: a second Ctrl-C would only leave something behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
