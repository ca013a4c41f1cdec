"""The card's server without a guest: start, register reads and writes, its rest, its memory. Prints medians and goals.

`softigb serve` runs as a process of its own; this one is the client, and the far end of the card's cable.

    python tests/bench/bench_server.py [--rounds 20000] [--idle 10] [--busy 5]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

from igb_hw.registers import MAP
from pyvfio_user import Client

BAR0 = 0
QUEUES = 16
DESCRIPTORS = 256
BUFFER = 2048
RING, QUEUE = 0x1000, 0x100000  # bytes of a ring, and of a queue: its ring, then its buffers
TX, RX = 0x1000_0000, 0x2000_0000
DATA = 0x2B300000  # flags of an advanced data descriptor: DEXT, RS, IFCS, EOP
RSS = 0x0037_0002  # MRQC: by all that 16 queues can be chosen by
BATCH = 32


@contextlib.contextmanager
def serve(folder: Path, wire: str = "none") -> Iterator[tuple[subprocess.Popen[str], Path, float]]:
    """A `softigb serve`: the process, its socket, and the seconds until it said that it listens."""
    path = folder / "card"
    command = [str(Path(sys.executable).with_name("softigb")), "serve", "--socket", str(path), "--wire", wire]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = time.perf_counter() - started
            if "listens" not in line:
                sys.exit("softigb serve doesn't start")
            yield process, path, seconds
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def show(what: str, figures: str, goal: str = "", met: bool = True) -> None:
    print(
        f"{what:38} {figures:44} {f'goal {goal}: ' + ('met' if met else 'MISSED') if goal else ''}".rstrip(), flush=True
    )


def cpu_seconds(pid: int) -> float:
    """Processor time that a process's only thread has had so far: proc(5), schedstat."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def resident(pid: int) -> tuple[float, float]:
    """Resident MB: the process's own, and of the memory it shares with the guest."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kilobytes = {name: int(status[name].split()[0]) for name in ("VmRSS", "RssShmem")}
    return (kilobytes["VmRSS"] - kilobytes["RssShmem"]) / 1024, kilobytes["RssShmem"] / 1024


def start_times(folder: Path) -> None:
    times = []
    for _ in range(10):
        with serve(folder) as (_, _, seconds):
            times.append(seconds)
    middle = statistics.median(times)
    show("exec to listening", f"median {middle:.2f} s, {min(times):.2f} to {max(times):.2f}", "< 0.5 s", middle < 0.5)


def microseconds(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and 99 % of a call."""
    times = []
    for turn in range(rounds + 1000):  # the first warm up
        started = time.perf_counter_ns()
        call()
        if turn >= 1000:
            times.append(time.perf_counter_ns() - started)
    cuts = statistics.quantiles(times, n=100)
    return cuts[49] / 1000, cuts[98] / 1000


@contextlib.contextmanager
def one_processor(*pids: int) -> Iterator[None]:
    """Keeps this process and others on one processor.

    Between two, every message wakes an idle processor, and under a hypervisor that costs more than all the rest.
    """
    before = {pid: os.sched_getaffinity(pid) for pid in (0, *pids)}
    try:
        for pid in before:
            os.sched_setaffinity(pid, {min(before[0])})
        yield
    finally:
        for pid, processors in before.items():
            os.sched_setaffinity(pid, processors)


def echo(end: socket.socket) -> None:
    """The far end of `bare`: a register read's answer to each register read, and nothing else."""
    while end.recv(64):
        end.send(bytes(36))


def bare(rounds: int, pin: bool) -> float:
    """Median round trip of messages as long as a register read's, over a socket, with nothing behind it (us)."""
    mine, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        mine.close()
        echo(theirs)
        os._exit(0)
    theirs.close()

    def turn() -> None:
        mine.send(bytes(32))
        mine.recv(64)

    try:
        with one_processor(pid) if pin else contextlib.nullcontext():
            return microseconds(turn, rounds)[0]
    finally:
        mine.close()
        os.waitpid(pid, 0)


def round_trips(client: Client, server: int, rounds: int) -> None:
    status, mask = MAP["STATUS"].at(0), MAP["EIMC"].at(0)
    for pin, where in ((False, "two processors"), (True, "one processor")):
        with one_processor(server) if pin else contextlib.nullcontext():
            middle, late = microseconds(lambda: client.read(BAR0, status, 4), rounds)
        figures = f"median {middle:.1f} us, 99 % {late:.1f} us; a bare socket: {bare(rounds, pin):.1f} us"
        if pin:
            show(f"register read, {where}", figures, "<= 20 us", middle <= 20)
        else:
            show(f"register read, {where}", figures)
    value = bytes(4)
    middle, late = microseconds(lambda: client.write(BAR0, mask, value), rounds)
    show("register write with a reply", f"median {middle:.1f} us, 99 % {late:.1f} us")
    middle, late = microseconds(lambda: client.write(BAR0, mask, value, posted=True), rounds)
    show("register write, posted: the client", f"median {middle:.1f} us, 99 % {late:.1f} us")

    def burst() -> None:
        for _ in range(BATCH):
            client.write(BAR0, mask, value, posted=True)
        client.read(BAR0, status, 4)

    middle, late = microseconds(burst, max(1, rounds // BATCH))
    show(f"{BATCH} posted writes and a read", f"median {middle:.1f} us, {middle / (BATCH + 1):.1f} us for each of them")


class Driver:
    """A driver without interrupts on all 16 queues: hands frames over, kicks, and takes what came."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tx = client.map_memory(QUEUES * QUEUE, TX)
        self._rx = client.map_memory(QUEUES * QUEUE, RX)
        self._tails = [0] * QUEUES
        self._nexts = [0] * QUEUES
        self.sent = 0
        self.received = [0] * QUEUES

    def write(self, name: str, value: int, index: int = 0) -> None:
        self._client.write(BAR0, MAP[name].at(index), value.to_bytes(4, "little"), posted=True)

    def link_up(self) -> None:
        self._client.config_write(4, (6).to_bytes(2, "little"))
        self.write("CTRL", MAP["CTRL"]["SLU"])
        up = MAP["STATUS"]["LU"]
        deadline = time.monotonic() + 10
        while not int.from_bytes(self._client.read(BAR0, MAP["STATUS"].at(0), 4), "little") & up:
            if time.monotonic() > deadline:
                sys.exit("the link doesn't come up")
            time.sleep(0.01)

    def queues_up(self) -> None:
        for word in range(32):
            self.write("RETA", int.from_bytes(bytes((4 * word + byte) % QUEUES for byte in range(4)), "little"), word)
        for word in range(10):
            self.write("RSSRK", 0x9E3779B9 * (word + 1) & 0xFFFFFFFF, word)
        self.write("MRQC", RSS)
        for queue in range(QUEUES):
            for kind, base in (("T", TX), ("R", RX)):
                self.write(f"{kind}DBAL", base + queue * QUEUE, queue)
                self.write(f"{kind}DLEN", DESCRIPTORS * 16, queue)
            self.write("SRRCTL", 0x0200_0002, queue)  # advanced descriptors, buffers of 2 KiB
            self.write("TXDCTL", 1 << 25, queue)
            self.write("RXDCTL", 1 << 25, queue)
            for index in range(DESCRIPTORS):
                self._give(queue, index)
            self.write("RDT", DESCRIPTORS - 1, queue)
        self.write("TCTL", MAP["TCTL"]["EN"] | MAP["TCTL"]["PSP"])
        self.write("RCTL", MAP["RCTL"]["EN"] | MAP["RCTL"]["BAM"] | MAP["RCTL"]["SECRC"])

    def _give(self, queue: int, index: int) -> None:
        at = queue * QUEUE
        struct.pack_into("<QQ", self._rx, at + index * 16, RX + at + RING + index * BUFFER, 0)

    def send(self, queue: int, frames: list[bytes]) -> None:
        """Hands over frames, as many as have room."""
        at, tail = queue * QUEUE, self._tails[queue]
        for frame in frames:
            last = at + tail * 16
            if self.sent >= DESCRIPTORS * QUEUES and not self._tx[last + 12] & 1:
                break  # the card still has it
            buffer = at + RING + tail * BUFFER
            self._tx[buffer : buffer + len(frame)] = frame
            struct.pack_into("<QII", self._tx, last, TX + buffer, DATA | len(frame), len(frame) << 14)
            tail = (tail + 1) % DESCRIPTORS
            self.sent += 1
        self._tails[queue] = tail
        self.write("TDT", tail, queue)

    def take(self, queue: int) -> None:
        """Takes what came, and gives the descriptors back."""
        at, first = queue * QUEUE, self._nexts[queue]
        index = first
        while self._rx[at + index * 16 + 8] & 1:
            self._give(queue, index)
            self.received[queue] += 1
            index = (index + 1) % DESCRIPTORS
        if index != first:
            self._nexts[queue] = index
            self.write("RDT", (index - 1) % DESCRIPTORS, queue)


def tcp_frame(port: int, size: int = 1514) -> bytes:
    """A broadcast frame with IPv4 and TCP in it; checksums are of no interest here."""
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size - 14, 1, 0, 64, 6, 0, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
    head = b"\xff" * 6 + bytes.fromhex("020000000001") + b"\x08\x00" + ip
    return (head + struct.pack(">HHIIBBHHH", port, 80, 0, 0, 0x50, 0x10, 512, 0, 0)).ljust(size, b"\0")


def memory_and_rest(folder: Path, idle: float, busy: float) -> None:
    """Processor time with link up and nothing to do, and memory before and after traffic on all queues."""
    ours, theirs = folder / "far-end", folder / "card-end"
    with contextlib.ExitStack() as stack:
        cable = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        cable.bind(str(ours))
        cable.setblocking(False)
        process, path, _ = stack.enter_context(serve(folder, f"dgram:unix:{theirs},unix:{ours}"))
        show("resident, nobody connected", f"{resident(process.pid)[0]:.0f} MB")
        driver = Driver(stack.enter_context(Client(path)))
        driver.link_up()
        driver.queues_up()
        time.sleep(1)
        before = cpu_seconds(process.pid)
        time.sleep(idle)
        share = (cpu_seconds(process.pid) - before) / idle * 100
        show(f"processor, idle for {idle:g} s, link up", f"{share:.3f} %", "< 1 %", share < 1)
        own, shared = resident(process.pid)
        show("resident, idle, 16 queues up", f"{own:.0f} MB, and {shared:.0f} MB of the guest's", "< 150 MB", own < 150)

        frames = [[tcp_frame(1000 + queue * BATCH + i) for i in range(BATCH)] for queue in range(QUEUES)]
        started = time.monotonic()
        while time.monotonic() < started + busy:
            for queue in range(QUEUES):
                driver.send(queue, frames[queue])
                with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                    while True:
                        cable.sendto(cable.recv(65536), str(theirs))
            for queue in range(QUEUES):
                driver.take(queue)
        own, shared = resident(process.pid)
        used = sum(count > 0 for count in driver.received)
        show(f"traffic on {used} queues", f"{driver.sent} frames sent, {sum(driver.received)} received")
        show("resident, after it", f"{own:.0f} MB, and {shared:.0f} MB of the guest's", "< 150 MB", own < 150)
        if used < QUEUES:
            sys.exit(f"only {used} queues received anything: {driver.received}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20000, help="register accesses of a kind (default %(default)s)")
    parser.add_argument("--idle", type=float, default=10, help="seconds of rest (default %(default)s)")
    parser.add_argument("--busy", type=float, default=5, help="seconds of traffic (default %(default)s)")
    options = parser.parse_args()
    print(f"{date.today()}, softigb {version('softigb')}, Python {platform.python_version()}, numpy {version('numpy')}")
    print(f"Linux {platform.release()}, {os.cpu_count()} CPUs\n")
    with tempfile.TemporaryDirectory(prefix="softigb-bench-") as name:
        folder = Path(name)
        start_times(folder)
        with serve(folder) as (server, path, _), Client(path) as client:
            round_trips(client, server.pid, options.rounds)
        memory_and_rest(folder, options.idle, options.busy)


if __name__ == "__main__":
    main()
