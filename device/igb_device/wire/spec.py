"""Wires by name: what a user writes after `--wire`."""

from __future__ import annotations

import socket

from igb_device.clock import Clock
from igb_device.wire.address import AddressInUseError, parse_address
from igb_device.wire.base import Readers, Wire, WireError
from igb_device.wire.dgram import DgramWire
from igb_device.wire.none import NoWire
from igb_device.wire.pcap import open_pcap
from igb_device.wire.stream import StreamWire
from igb_device.wire.tap import TapWire, open_tap

KINDS = ("tap", "fd", "stream", "dgram", "cable", "pcap", "none")

GRAMMAR = """\
tap:NAME                    a TAP of this host
fd:N                        a TAP's file descriptor, opened with IFF_VNET_HDR and inherited
stream:ADDRESS              connects; a frame behind its length, as QEMU's -netdev stream and passt have it
stream:listen:ADDRESS       the same, the other side connects
dgram:LOCAL,REMOTE          a frame a datagram, as QEMU's -netdev dgram has it
cable:/PATH                 to another card with the same path: the first one there listens
pcap:FILE                   replays a capture to the card
pcap:in=FILE,out=FILE,pace=real|fast
                            the same, and records what the card sends; any of the three can be left out
none                        no cable
An ADDRESS (LOCAL, REMOTE) is unix:/PATH, HOST:PORT or [IPV6]:PORT."""


def open_wire(spec: str, readers: Readers, clock: Clock, epoch: int = 0) -> Wire:
    """The wire that `spec` names, in the grammar of GRAMMAR. `epoch` is the time in ns since 1970 at which the clock
    showed 0, for recordings. Raises WireError, with one line."""
    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        raise WireError(f"{spec!r} is no wire; there are {', '.join(KINDS)}")
    if bool(rest) is (kind == "none"):
        raise WireError(f"{spec!r}: none has nothing after it" if rest else f"{spec!r} lacks what comes after {kind}:")
    if kind == "none":
        return NoWire()
    if kind == "pcap":
        return open_pcap(rest, clock, epoch)
    if kind == "tap":
        return TapWire(open_tap(rest), readers, rest)
    if kind == "fd":
        return _fd(rest, readers)
    if kind == "dgram":
        return _dgram(rest, readers)
    if kind == "cable":
        return _cable(rest, readers, clock)
    return _stream(rest, readers, clock)


def _fd(number: str, readers: Readers) -> Wire:
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise WireError(f"fd:{number}: a file descriptor is a number")
    return TapWire(int(number), readers, f"fd{number}")


def _stream(rest: str, readers: Readers, clock: Clock) -> Wire:
    listen = rest.startswith("listen:")
    address = parse_address(rest.removeprefix("listen:"), socket.SOCK_STREAM)
    return StreamWire(address, readers, clock, listen)


def _dgram(rest: str, readers: Readers) -> Wire:
    both = rest.split(",")
    if len(both) != 2:
        raise WireError(f"dgram:{rest}: two addresses are needed, dgram:LOCAL,REMOTE")
    local, remote = (parse_address(text, socket.SOCK_DGRAM) for text in both)
    return DgramWire(local, remote, readers)


def _cable(path: str, readers: Readers, clock: Clock) -> Wire:
    address = parse_address(f"unix:{path}", socket.SOCK_STREAM)
    try:
        return StreamWire(address, readers, clock, listen=True)
    except AddressInUseError:
        return StreamWire(address, readers, clock)
