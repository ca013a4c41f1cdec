"""All that `softigb boot` puts together: a network, the card on it, a guest with the card."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from igb_vm.errors import GuestError
from igb_vm.guest import Guest
from igb_vm.kernel import get_kernel
from igb_vm.network import Network
from igb_vm.qemu import get_qemu
from softigb.card import CardProcess

INTERFACE = "eth0"
LINK_SECONDS = 15
"""Linux's igb looks at the link every 2 s."""


@dataclass(frozen=True)
class Settings:
    """What `softigb boot` can be told. `wire` None: a network of its own, of the kind that Network takes."""

    wire: str | None = None
    network: str = "auto"
    mac: str | None = None
    smp: int = 1
    memory: str = "512M"
    accel: str = "auto"
    kernel_release: str | None = None
    append: str = ""
    mirror: str | None = None
    capture: Path | None = None
    console: Path | None = None
    address: str | None = None


class Machine:
    """A guest with the card in it. Used in this order: `prepare`, `start_card`, `boot`, `load_driver`, `configure`.

    A context manager, whose exit ends all that was started. What it raises are errors of users: CliError, VmError.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.network: Network | None = None
        self._card: CardProcess | None = None
        self._guest: Guest | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def card(self) -> CardProcess:
        """The card's process, after `prepare`."""
        assert self._card is not None
        return self._card

    @property
    def guest(self) -> Guest:
        """The guest, after `prepare`; running after `boot`."""
        assert self._guest is not None
        return self._guest

    def prepare(self) -> None:
        """Fetches what is missing and makes the network. All that shows progress of its own happens here."""
        settings = self.settings
        qemu = get_qemu(mirror=settings.mirror)
        kernel = get_kernel(settings.kernel_release, settings.mirror)
        wire, fds = settings.wire or "", []
        if not wire:
            self.network = self._stack.enter_context(Network(settings.network, mirror=settings.mirror))
            fds = self.network.tap_fds[:1]
            wire = f"fd:{fds[0]}" if fds else f"stream:unix:{self.network.socket}"
        self._card = CardProcess(wire, mac=settings.mac, capture=settings.capture, pass_fds=fds)
        self._stack.callback(self._card.close)
        self._guest = Guest(
            qemu=qemu,
            kernel=kernel,
            smp=settings.smp,
            memory=settings.memory,
            accel=settings.accel,
            append=settings.append,
            devices=self._card.devices(),
            console=settings.console,
            mirror=settings.mirror,
        )
        self._stack.callback(self._guest.close)

    def start_card(self) -> None:
        """The card listens when this returns."""
        self.card.start()

    def boot(self) -> None:
        """The guest answers when this returns; it has not loaded igb yet."""
        self.guest.start()

    def load_driver(self) -> float:
        """Loads igb and sets its interface up; seconds of the guest's time until the link was up, 0.0 if it isn't.

        Raises GuestError if there's no interface then.
        """
        loaded = self.guest.run(
            "read start _ < /proc/uptime\n"
            f"modprobe igb && ip link set {INTERFACE} up || exit 1\n"
            "while read now _ < /proc/uptime; do\n"
            f'    read carrier < /sys/class/net/{INTERFACE}/carrier; [ "$carrier" = 1 ] && exec echo "$start $now"\n'
            f"    [ $((${{now%.*}} - ${{start%.*}})) -gt {LINK_SECONDS} ] && exit 0; sleep 0.02\n"
            "done",
            timeout=60.0,
        )
        if loaded.status != 0:
            said = self.guest.run("dmesg | grep -i igb | tail -n 3").output
            raise GuestError(" / ".join(["igb made no interface", *loaded.output.splitlines(), *said.splitlines()]))
        times = loaded.output.split()
        return float(times[1]) - float(times[0]) if len(times) == 2 else 0.0

    def configure(self) -> None:
        """Gives the guest its addresses and a default route, as far as they are known."""
        commands = []
        if self.network is not None:
            net = self.network
            commands = [
                f"ip address add {net.guest_ip}/{net.prefix} dev {INTERFACE}",
                f"ip address add {net.guest_ip6}/{net.prefix6} dev {INTERFACE} nodad",
                f"ip route add default via {net.host_ip}",
            ]
        elif self.settings.address:
            commands = [f"ip address add {shlex.quote(self.settings.address)} dev {INTERFACE}"]
        if commands:
            self.guest.run(" && ".join(commands), check=True)
