"""`softigb serve`: a card behind a unix socket, for one's own QEMU."""

from __future__ import annotations

import enum
import gc
from pathlib import Path
from typing import Annotated

import typer


class LogLevel(enum.StrEnum):
    """How much is said on stderr."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


def serve(
    socket: Annotated[Path, typer.Option(metavar="PATH", help="The unix socket to listen on; it's made.")],
    wire: Annotated[str, typer.Option(metavar="SPEC", help="What the cable is plugged into; see below.")],
    mac: Annotated[
        str | None, typer.Option(help="The card's address [by default made from the socket's path].")
    ] = None,
    capture: Annotated[Path | None, typer.Option(metavar="FILE", help="Record the wire as pcapng.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the first client has left.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="What to say on stderr.")] = LogLevel.WARNING,
) -> None:
    """Serves the card to QEMU's vfio-user-pci.

    Prints one line when it listens. Ctrl-C or SIGTERM end it, with status 0, and remove the socket. When a client
    leaves, the next one gets a card as after power on.

    \b
    QEMU needs memory that is shared, and the socket:
      -object memory-backend-memfd,id=m,size=1G,share=on -machine q35,memory-backend=m
      -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"PATH"}}'

    \b
    A wire's SPEC is one of:
      tap:NAME                 a TAP of this host
      fd:N                     an inherited descriptor of one, opened with IFF_VNET_HDR
      stream:ADDRESS           to a socket such as passt's or that of QEMU's -netdev stream
      stream:listen:ADDRESS    the same, the other side connects
      dgram:LOCAL,REMOTE       as QEMU's -netdev dgram
      cable:/PATH              to another card's cable of the same path
      pcap:FILE                replays a capture; pcap:in=FILE,out=FILE,pace=real|fast records as well
      none                     no cable
    An ADDRESS is unix:/PATH, HOST:PORT or [IPV6]:PORT.
    """
    gc.disable()  # until everything is loaded: it would look at all that again and again
    try:
        from softigb.mac import mac_for, parse_mac
        from softigb.serving import Card, serve_card

        address = parse_mac(mac) if mac else mac_for(socket)
        serve_card(Card(socket, wire, address, capture), once, log_level.value.upper())
    finally:
        gc.enable()
