"""What the tests on real guests share: a card served by `softigb serve`, a guest on it, and the words they said.

A `Rig` is a card with what its cable is plugged into, and a guest that has the card. Booting one takes seconds, so the
tests of a file share theirs. When a test fails, the guest's console and the logs of card and QEMU are in its report.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from igb_vm import Guest, GuestError, Network, Tree, VmError, ensure, initramfs
from igb_vm.webserver import pattern
from softigb.card import CardProcess

MAC = "52:54:00:82:57:60"
PACKAGES = ("pciutils", "python3-minimal", "libpython3.13-stdlib")
PROGRAMS = ("lspci", "setpci", "python3.13")
ENDPOINT = Path(__file__).with_name("endpoint.py")
LINK_SECONDS = 15
_SHOWN = 6000
_LOSSES = re.compile(r"errors|drop|failed|csum_err|coll|timeout|hung")
_TROUBLE = re.compile(
    r"Unit Hang|NETDEV WATCHDOG|Call Trace|BUG:|Oops|hw csum failure|PCIe link lost|transmit queue .* timed out"
)


_rigs: list[Rig] = []  # those that run
_last_words: list[tuple[str, str]] = []  # of a rig that has gone because of a failure


@functools.cache
def packages() -> Tree:
    """What the guest's programs are taken from, fetched if need be."""
    return ensure([*initramfs.PACKAGES, *PACKAGES])


@functools.cache
def _files() -> dict[str, Path]:
    """What the guest has beyond igb_vm's own: endpoint.py, and as much of Python's library as it needs."""
    root = packages().root
    wanted = (
        "*.py",
        "collections/*.py",
        "encodings/*.py",
        "importlib/**/*.py",
        "json/*.py",
        "re/*.py",
        "lib-dynload/mmap*",
    )
    library = [path for name in wanted for path in root.glob(f"usr/lib/python3.13/{name}")]
    return {"/endpoint.py": ENDPOINT, **{f"/{path.relative_to(root)}": path for path in library if path.is_file()}}


class Rig:
    """Cards and a guest that has them: eth0, and so on. `card` is the first.

    network: the other end of the first card's wire, where it is one of igb_vm's. macs: the cards' addresses.
    `tolerant`: troubles that the guest's kernel sees are no failure.
    """

    def __init__(
        self, cards: Sequence[CardProcess], guest: Guest, network: Network | None, macs: Sequence[str]
    ) -> None:
        self.cards = list(cards)
        self.guest = guest
        self.network = network
        self.macs = list(macs)
        self.tolerant = False
        self._told: set[str] = set()

    @property
    def card(self) -> CardProcess:
        return self.cards[0]

    @property
    def mac(self) -> str:
        return self.macs[0]

    @property
    def net(self) -> Network:
        assert self.network is not None
        return self.network

    def sh(self, command: str, timeout: float = 60.0) -> str:
        """The output of a command in the guest, which must succeed."""
        return self.guest.run(command, timeout=timeout, check=True).output

    def peer(self, *words: str) -> str:
        """The output of a program of the guest's packages, run in the peer's namespace. It must succeed."""
        program = packages().program(words[0])
        return self.net.run(program.command(*words[1:]), env=program.env, check=True).stdout

    def answers_peer(self, words: str = "") -> bool:
        """Whether the guest answers the peer's pings."""
        program = packages().program("ping")
        ping = program.command("-q", "-n", "-c", "2", "-i", "0.05", "-W", "1", *words.split(), self.net.guest_ip)
        return self.net.run(ping, env=program.env).returncode == 0

    endpoint = "python3.13 /endpoint.py"
    """How endpoint.py is called in the guest."""

    @staticmethod
    def here(*words: str) -> list[str]:
        """The command that runs endpoint.py on this machine."""
        return [sys.executable, str(ENDPOINT), *words]

    def load(self, arguments: str = "") -> None:
        """Loads igb and brings eth0 up with its addresses."""
        self.sh(f"modprobe igb {arguments}")
        self.up()

    def up(self) -> None:
        """Gives eth0 its addresses and waits for its link."""
        commands = ["ip link set eth0 up", "ip address flush dev eth0 scope global"]
        if self.network is not None:
            net = self.network
            commands += [
                f"ip address add {net.guest_ip}/{net.prefix} dev eth0",
                f"ip -6 address add {net.guest_ip6}/{net.prefix6} dev eth0 nodad",
            ]
        self.sh(" && ".join(commands))
        self.wait_carrier(True)

    def wait_carrier(self, up: bool, interface: str = "eth0") -> None:
        """Waits until the driver has seen the link as wished; it looks every 2 s."""
        steps = LINK_SECONDS * 20
        done = self.guest.run(
            f"i=0; until [ $(cat /sys/class/net/{interface}/carrier) = {int(up)} ]; do "
            f"i=$((i+1)); [ $i -gt {steps} ] && exit 1; sleep 0.05; done",
            timeout=2 * LINK_SECONDS,
        )
        assert done.status == 0, f"{interface} has{' no' * up} carrier"

    def ping(self, words: str = "", count: int = 3, address: str | None = None) -> None:
        """Pings; every answer must come."""
        said = self.guest.run(f"ping -q -n -i 0.05 -c {count} -W 2 {words} {address or self.net.host_ip}").output
        assert f"{count} received" in said, said

    def traffic(self, size: int = 1 << 20) -> None:
        """Pings, and `size` bytes by TCP each way; what arrives must be what was sent."""
        self.ping()
        self.tcp(size)

    def tcp(self, size: int, address: str | None = None) -> None:
        """`size` bytes from the peer's HTTP server and back to it, compared by SHA-256 at both ends."""
        host, port = address or self.net.host_ip, self.net.http_port
        put = f"PUT / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: {size}\\r\\n\\r\\n"
        wrapped = f"[{host}]" if ":" in host else host
        said = self.sh(
            f"set -e; wget -q -T 20 -O /tmp/got http://{wrapped}:{port}/bytes/{size}; sha256sum < /tmp/got; "
            f"{{ printf '{put}'; cat /tmp/got; }} | nc -w 20 {host} {port} | tail -n 1; rm /tmp/got"
        ).split()
        assert said[0] == pattern_digest(size), "what was fetched isn't what the server gave"
        assert said[-1] == said[0], "what was sent arrived changed"

    def iperf(self, words: str = "", seconds: int = 1, address: str | None = None) -> dict[str, Any]:
        """iperf3's report, as it is in its JSON."""
        command = f"iperf3 -J -c {address or self.net.host_ip} -p {self.net.iperf_port} -t {seconds} {words}"
        deadline = time.monotonic() + 5
        while True:
            report: dict[str, Any] = json.loads(self.guest.run(command).output)
            # The server takes one client at a time, and a while to be done with the one before.
            if "error" not in report or report["start"]["connected"] or time.monotonic() > deadline:
                break
        assert "error" not in report, report["error"]
        return report

    def statistics(self, interface: str = "eth0") -> dict[str, int]:
        """`ethtool -S`."""
        said = self.sh(f"ethtool -S {interface}")
        return {name: int(count) for name, count in re.findall(r"^\s*(\w+): (\d+)$", said, re.MULTILINE)}

    def losses(self, interface: str = "eth0") -> dict[str, int]:
        """What `ethtool -S` and the kernel count as lost or damaged, as far as it isn't 0."""
        kernel = f"cd /sys/class/net/{interface}/statistics && grep -H . *errors *dropped"
        counts = {name: int(count) for name, count in re.findall(r"(\w+):(\d+)", self.sh(kernel))}
        counts.update(self.statistics(interface))
        return {name: count for name, count in counts.items() if count and _LOSSES.search(name)}

    def interrupts(self, interface: str = "eth0") -> dict[str, int]:
        """/proc/interrupts: how often each of the interface's fired, over all CPUs, by name."""
        counts = {}
        for line in self.sh("cat /proc/interrupts").splitlines():
            words = line.split()
            if words and words[-1].startswith(interface):
                counts[words[-1]] = sum(int(word) for word in words[1 : 1 + self.guest.smp])
        return counts

    def seconds(self) -> float:
        """The guest's time since it was booted."""
        return float(self.sh("cut -d' ' -f1 /proc/uptime"))

    def dmesg(self, pattern: str = "") -> str:
        """What the kernel said, or only the lines that match an extended regular expression."""
        return self.guest.run(f"dmesg | grep -E '{pattern}'" if pattern else "dmesg").output

    def receiving(self, *words: str) -> str:
        """The command that starts endpoint.py in the guest and waits until it is ready; `received` is its answer."""
        start = f"rm -f /tmp/udp; {self.endpoint} {' '.join(words)} > /tmp/udp &"
        return f"{start} until grep -qs ready /tmp/udp; do sleep 0.05; done"

    def received(self) -> str:
        """What endpoint.py, started by `receiving`, says at its end."""
        return self.sh("until grep -q whole /tmp/udp; do sleep 0.05; done; tail -n 1 /tmp/udp", timeout=30.0)

    def udp(self, size: int, count: int, to_guest: bool, address: str = "", segments: int = 1) -> None:
        """`count` datagrams of `size` bytes; each must arrive, as it was sent."""
        receive = ["receive", "5300", str(count), "15"]
        send = ["send", address or (self.net.guest_ip if to_guest else self.net.host_ip), "5300", str(size), str(count)]
        send += [str(segments)]
        if to_guest:
            self.sh(self.receiving(*receive))
            self.net.run(self.here(*send), check=True)
            said = self.received()
        else:
            receiver = self.net.popen(self.here(*receive), stdout=subprocess.PIPE)
            assert receiver.stdout is not None
            receiver.stdout.readline()
            self.sh(f"{self.endpoint} {' '.join(send)}")
            said = receiver.communicate(timeout=30)[0].decode()
        assert json.loads(said) == {"whole": count, "bad": 0}

    def self_test(self) -> None:
        """`ethtool -t offline`: every part must pass."""
        said = self.guest.run("ethtool -t eth0 offline", timeout=120.0).output
        results = dict(re.findall(r"^(\w+) test +\(.*\)\s+(\d+)$", said, re.MULTILINE))
        wanted = dict.fromkeys(("Register", "Eeprom", "Interrupt", "Loopback", "Link"), "0")
        assert results == wanted, said + self.dmesg("igb")[-2000:]
        assert "result is PASS" in said

    def check(self) -> None:
        """Fails if a card's process or the guest's kernel complained about anything."""
        for card in self.cards:
            assert "Traceback" not in card.log, card.log
        if self.guest.alive and not self.tolerant:
            trouble = [line for line in self.dmesg().splitlines() if _TROUBLE.search(line)]
            new = [line for line in trouble if line not in self._told]
            self._told.update(new)
            assert not new, "\n".join(new[:20])

    def words(self) -> list[tuple[str, str]]:
        """What everybody said so far, for the report of a failure."""
        said = [("the guest's console", self.guest.console), ("QEMU's log", self.guest.log)]
        with contextlib.suppress(GuestError):
            if self.guest.alive:
                said.append(("the guest's kernel", self.guest.run("dmesg | tail -n 40", timeout=5.0).output))
        said += [("a card's log", card.log) for card in self.cards]
        return [(title, text[-_SHOWN:]) for title, text in said if text.strip()]


def pattern_digest(size: int) -> str:
    """The SHA-256 of what the peer's HTTP server gives for /bytes/SIZE."""
    digest = hashlib.sha256()
    for piece in pattern(size):
        digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def boot_rig(
    *wires: str,
    network: Network | None = None,
    cards: Sequence[CardProcess] = (),
    mac: str = MAC,
    capture: Path | None = None,
    load: bool = True,
    devices: Sequence[Any] = (),
    **options: Any,
) -> Iterator[Rig]:
    """Boots a rig. options: as `Guest` has them.

    wires: a card for each. Without any there is one card, on the TAP of `network` or of a network made for this rig.
    cards: some that run already, instead. mac: the first card's, the next ones' are the numbers after it. load: igb
    is loaded, and eth0 up if there is a network.
    """
    with contextlib.ExitStack() as stack:
        fds: Sequence[int] = ()
        if not wires and not cards:
            network = network or stack.enter_context(namespace())
            fds = network.tap_fds[:1]
            wires = (f"fd:{fds[0]}",)
        first = int(mac.replace(":", ""), 16)
        macs = [(first + number).to_bytes(6, "big").hex(":") for number in range(len(wires) or len(cards))]
        for wire, address in zip(wires, macs, strict=False):
            card = CardProcess(wire, mac=address, capture=capture, pass_fds=fds, log_level="info")
            cards = [*cards, stack.enter_context(card)]
        guest = Guest(
            devices=[device for number, card in enumerate(cards) for device in _port(card, number)] + [*devices],
            packages=PACKAGES,
            programs=PROGRAMS,
            files=_files(),
            **options,
        )
        stack.callback(guest.close)
        rig = Rig(cards, guest, network, macs)
        _rigs.append(rig)
        stack.callback(_rigs.remove, rig)
        try:
            guest.start()
            if load:
                rig.sh("modprobe igb")
                if network is not None:
                    rig.up()
            yield rig
            rig.check()
        except BaseException:
            _last_words[:] = rig.words()
            raise


def _port(card: CardProcess, number: int) -> list[dict[str, Any]]:
    """QEMU's devices: the card on a PCI Express port of its own, whose bus is 1 + number."""
    address = {"type": "unix", "path": str(card.socket)}
    port = {"driver": "pcie-root-port", "id": f"port{number}", "chassis": number, "slot": number}
    return [port, {"driver": "vfio-user-pci", "id": f"card{number}", "bus": f"port{number}", "socket": address}]


@contextlib.contextmanager
def namespace(**options: Any) -> Iterator[Network]:
    """A network namespace with a TAP; skips the test where there can't be one."""
    try:
        network = Network("namespace", **options).__enter__()
    except VmError as why:
        pytest.skip(str(why))
    with contextlib.closing(network):
        yield network


@pytest.fixture(scope="session")
def boot() -> Callable[..., contextlib.AbstractContextManager[Rig]]:
    """`boot_rig`, for fixtures and tests that want a rig of their own."""
    return boot_rig


@pytest.fixture(scope="session")
def net() -> Callable[..., contextlib.AbstractContextManager[Network]]:
    """`namespace`, for rigs on a network of another kind than usual."""
    return namespace


@pytest.fixture(autouse=True)
def _nobody_complains() -> Iterator[None]:
    """After each test, no rig has complained."""
    yield
    for rig in _rigs:
        rig.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed:
        for rig in _rigs:
            report.sections += rig.words()
        if not _rigs:
            report.sections += _last_words
    _last_words.clear()
    return report
