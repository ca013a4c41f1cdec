"""This card and QEMU's own igb in one guest, in turn: throughput, packets, latency, time to link.

Both cards sit in the same guest, each in a network namespace of its own there, each on a TAP of its own with a Linux
kernel as the peer. Every round measures both, one after the other, the order changing from round to round; medians and
the ratio (this card's rate by QEMU's; for times, QEMU's by this card's) are printed, so above 1 is this card ahead.

    python tests/bench/bench_guest.py [--rounds 5] [--seconds 4] [--cases tx,rx,...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from igb_vm import Guest
from igb_vm.network import Network

OURS, QEMUS = "softigb", "qemu igb"


@dataclass
class Card:
    """One of the two: its namespace in the guest, its interface, PCI address and peer."""

    name: str
    ns: str
    network: Network
    interface: str = ""
    pci: str = ""


@dataclass
class Case:
    """A figure: how it's measured, in what unit, and whether more is better."""

    title: str
    unit: str
    more: bool
    measure: Callable[[Guest, Card, float], float]
    values: dict[str, list[float]] = field(default_factory=lambda: {OURS: [], QEMUS: []})


def in_guest(guest: Guest, card: Card, command: str, timeout: float = 120) -> str:
    return guest.run(f"ip netns exec {card.ns} {command}", timeout=timeout, check=True).output


def iperf(guest: Guest, card: Card, seconds: float, *options: str) -> dict[str, Any]:
    network = card.network
    command = f"iperf3 -c {network.host_ip} -p {network.iperf_port} -t {seconds:g} -J {' '.join(options)}"
    result: dict[str, Any] = json.loads(in_guest(guest, card, command, seconds + 60))
    return result


def tcp_transmit(guest: Guest, card: Card, seconds: float) -> float:
    return iperf(guest, card, seconds)["end"]["sum_received"]["bits_per_second"] / 1e6


def tcp_receive(guest: Guest, card: Card, seconds: float) -> float:
    return iperf(guest, card, seconds, "-R")["end"]["sum_received"]["bits_per_second"] / 1e6


def udp_packets(guest: Guest, card: Card, seconds: float) -> float:
    """64-byte frames are 18 bytes of UDP payload; what arrived is counted, not what was sent."""
    total = iperf(guest, card, seconds, "-u", "-b", "0", "-l", "18")["end"]["sum"]
    return (total["packets"] - total["lost_packets"]) / total["seconds"] / 1e3


def ping_flood(guest: Guest, card: Card, seconds: float) -> float:
    output = in_guest(guest, card, f"ping -q -f -c {int(seconds * 500)} {card.network.host_ip}")
    found = re.search(r"= [\d.]+/([\d.]+)/", output)
    assert found, output
    return float(found[1]) * 1000


def driver_to_link(guest: Guest, card: Card, seconds: float) -> float:
    """From binding the driver to carrier, measured in the guest's own time."""
    unbind(guest, card)
    script = (
        f"t0=$(cut -d' ' -f1 /proc/uptime); echo {card.pci} > /sys/bus/pci/drivers/igb/bind; "
        f"i=$(ls /sys/bus/pci/devices/{card.pci}/net); ip link set $i up; "
        f"while [ \"$(cat /sys/class/net/$i/carrier)\" != 1 ]; do :; done; echo $i $t0 $(cut -d' ' -f1 /proc/uptime)"
    )
    interface, begin, end = guest.run(script, timeout=60, check=True).output.split()
    card.interface = interface
    configure(guest, card)
    return (float(end) - float(begin)) * 1000


CASES = {
    "tx": Case("iperf3 TCP transmit", "Mb/s", True, tcp_transmit),
    "rx": Case("iperf3 TCP receive", "Mb/s", True, tcp_receive),
    "udp": Case("64-byte UDP transmit", "kpkt/s", True, udp_packets),
    "ping": Case("ping -f round trip", "us", False, ping_flood),
    "link": Case("driver load to link up", "ms", False, driver_to_link),
}


def unbind(guest: Guest, card: Card) -> None:
    guest.run(f"echo {card.pci} > /sys/bus/pci/drivers/igb/unbind", timeout=60, check=True)


def configure(guest: Guest, card: Card) -> None:
    network = card.network
    guest.run(
        f"ip link set {card.interface} netns {card.ns} && "
        f"ip -n {card.ns} addr add {network.guest_ip}/{network.prefix} dev {card.interface} && "
        f"ip -n {card.ns} link set {card.interface} up",
        check=True,
    )
    deadline = time.monotonic() + 20
    while guest.run(f"ip netns exec {card.ns} ping -c1 -W1 -q {network.host_ip}").status:
        if time.monotonic() > deadline:
            raise SystemExit(f"{card.name}: the peer doesn't answer\n{guest.console[-2000:]}")


@contextmanager
def server(socket: Path, tap: int) -> Iterator[subprocess.Popen[str]]:
    """The card in a process of its own, as a user runs it."""
    command = [sys.executable, "-m", "softigb", "serve", "--socket", str(socket), "--wire", f"fd:{tap}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=[tap])
    try:
        assert process.stdout
        if not process.stdout.readline():
            raise SystemExit("softigb serve didn't start")
        yield process
    finally:
        process.terminate()
        process.wait(10)


def run(rounds: int, seconds: float, names: list[str], smp: int) -> tuple[dict[str, Case], str]:
    cases = {name: CASES[name] for name in names}
    with tempfile.TemporaryDirectory() as folder, Network() as mine, Network() as theirs:
        socket = Path(folder, "igb.sock")
        with server(socket, mine.tap_fd):
            devices: list[Any] = [
                {"driver": "pcie-root-port", "id": "rp0", "slot": 1},
                {"driver": "pcie-root-port", "id": "rp1", "slot": 2},
                {"driver": "vfio-user-pci", "bus": "rp0", "socket": {"type": "unix", "path": str(socket)}},
                {"driver": "igb", "bus": "rp1", "netdev": "n1", "mac": "52:54:00:00:00:02"},
            ]
            arguments = ["-netdev", f"tap,id=n1,fd={theirs.tap_fd},vhost=off"]
            with Guest(smp=smp, devices=devices, arguments=arguments, pass_fds=[theirs.tap_fd]) as guest:
                cards = [Card(OURS, "a", mine), Card(QEMUS, "b", theirs)]
                guest.run("modprobe igb", timeout=60, check=True)
                for card, bus in zip(cards, ("01", "02"), strict=True):
                    card.pci = f"0000:{bus}:00.0"
                    card.interface = guest.run(f"ls /sys/bus/pci/devices/{card.pci}/net", check=True).output.strip()
                    guest.run(f"ip netns add {card.ns}", check=True)
                    configure(guest, card)
                qemu = ".".join(map(str, guest.qemu.version))
                versions = f"QEMU {qemu}, guest Linux {guest.kernel.release}, {guest.accel}, {smp} vCPU"
                for number in range(rounds):
                    for name, case in cases.items():
                        for card in cards if number % 2 == 0 else reversed(cards):
                            value = case.measure(guest, card, seconds)
                            case.values[card.name].append(value)
                            print(f"  round {number + 1} {name:5} {card.name:9} {value:9.1f} {case.unit}", flush=True)
    return cases, versions


def report(cases: dict[str, Case], versions: str, rounds: int) -> None:
    print(f"\n{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {versions}, medians of {rounds} rounds")
    print(f"{'case':26} {'softigb':>10} {'qemu igb':>10} {'unit':7} {'ratio':>6}")
    for case in cases.values():
        ours, qemus = (statistics.median(case.values[name]) for name in (OURS, QEMUS))
        ratio = ours / qemus if case.more else qemus / ours
        print(f"{case.title:26} {ours:10.1f} {qemus:10.1f} {case.unit:7} {ratio:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--smp", type=int, default=1, help="vCPUs of the guest")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {','.join(CASES)}")
    parser.add_argument("--json", type=Path, help="write all values there")
    options = parser.parse_args()
    cases, versions = run(options.rounds, options.seconds, options.cases.split(","), options.smp)
    report(cases, versions, options.rounds)
    if options.json:
        options.json.write_text(json.dumps({case.title: case.values for case in cases.values()}, indent=1))


if __name__ == "__main__":
    main()
