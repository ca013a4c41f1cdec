"""What `softigb boot` tries when it isn't told what to run: the guest's own igb, put through its paces."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable

from igb_vm.webserver import pattern
from softigb.machine import INTERFACE, Machine
from softigb.steps import StepError, Steps

_PINGS = 20
_ARPINGS = 4
_IPERF_SECONDS = 4
_HTTP_BYTES = 16 << 20
_SELF_TESTS = 5
_LOSSES = re.compile(r"errors|drop|failed|csum_err|coll|timeout")
"""Statistics that count frames lost or damaged. rx_no_buffer_count isn't one: those frames waited in the card."""
_TROUBLE = re.compile(r"Unit Hang|NETDEV WATCHDOG|Call Trace|BUG:|Detected Tx|Unable to allocate|PCIe link lost")


class Demo:
    """The steps, in order. Those that need a peer are there only on a network of the machine's own."""

    def __init__(self, machine: Machine, steps: Steps) -> None:
        self._machine = machine
        self._steps = steps

    def run(self) -> None:
        """Tries everything. A step that others rest on ends it; the others' rows then say so."""
        base: list[tuple[str, Callable[[], str]]] = [
            ("card", self._card),
            ("guest", self._boot),
            ("driver", self._driver),
        ]
        with_peer = [
            ("ping", self._ping),
            ("iperf3 to the peer", lambda: self._iperf("")),
            ("iperf3 from the peer", lambda: self._iperf("-R")),
            ("HTTP", self._http),
        ]
        rest = [
            ("link", self._link),
            *(with_peer if self._machine.network is not None else []),
            ("ethtool -t offline", self._self_test),
            ("statistics", self._statistics),
        ]
        stopped = ""
        for number, (step, call) in enumerate([*base, *rest, ("shutdown", self._shutdown)]):
            if stopped:
                self._steps.leave_out(step, stopped)
            elif not self._steps.run(step, call):
                if number < len(base):
                    stopped = f"no {step}"
                elif not self._machine.guest.alive:
                    stopped = "the guest is gone"

    # --- The parts come up

    def _card(self) -> str:
        self._machine.start_card()
        where = {"namespace": "a TAP in a network namespace", "passt": "passt", "slirp": "slirp"}
        network = self._machine.network
        return f"82576 on {where[network.kind] if network is not None else self._machine.settings.wire}"

    def _boot(self) -> str:
        self._machine.boot()
        release = self._ask("uname -r").strip()
        guest = self._machine.guest
        processors = f"{guest.smp} CPU{'s' if guest.smp > 1 else ''}"
        return f"Linux {release}, QEMU {guest.qemu.version_text}, {guest.accel.upper()}, {processors}"

    def _driver(self) -> str:
        seconds = self._machine.load_driver()
        facts = dict(re.findall(r"^([\w-]+): (.+)$", self._ask(f"ethtool -i {INTERFACE}"), re.MULTILINE))
        if facts.get("driver") != "igb":
            raise StepError(f"{INTERFACE} is driven by {facts.get('driver', 'nothing')}")
        self._machine.configure()
        link = f"link up after {seconds:.2f} s" if seconds else "no link"
        return f"igb {facts.get('version', '?')}, firmware {facts.get('firmware-version', '?')}, {link}"

    # --- What it does

    def _link(self) -> str:
        said = self._ask(f"ethtool {INTERFACE}")
        facts = dict(re.findall(r"^\s*([\w -]+): (.+)$", said, re.MULTILINE))
        if facts.get("Link detected") != "yes":
            raise StepError("no link", said)
        return f"{facts.get('Speed')}, {facts.get('Duplex', '').lower()} duplex"

    def _ping(self) -> str:
        network = self._machine.network
        if network is not None and network.kind == "passt":
            # passt may only send pings of its own where net.ipv4.ping_group_range has its group.
            said = self._ask(f"arping -c {_ARPINGS} -w 10 -I {INTERFACE} {self._peer}")
            answers = re.search(r"Received (\d+)", said)
            if answers is None or int(answers[1]) < _ARPINGS:
                raise StepError("not every answer came", said)
            return f"{answers[1]} of {_ARPINGS} answers, by ARP as passt is the peer"
        said = self._ask(f"ping -q -n -c {_PINGS} -i 0.1 {self._peer}")
        counts = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        times = re.search(r"= ([\d.]+)/([\d.]+)/", said)
        if counts is None or times is None or counts[1] != counts[2]:
            raise StepError("not every answer came", said)
        return f"{counts[2]} of {counts[1]} answers, {float(times[1]):.2f} ms at best, {float(times[2]):.2f} on average"

    def _iperf(self, direction: str) -> str:
        network = self._machine.network
        assert network is not None
        # Its status tells less than its JSON.
        result = self._machine.guest.run(
            f"iperf3 -J -c {self._peer} -p {network.iperf_port} -t {_IPERF_SECONDS} {direction}",
            timeout=30.0 + _IPERF_SECONDS,
        )
        try:
            report = json.loads(result.output)
            speed = float(report["end"]["sum_received"]["bits_per_second"])
        except (ValueError, KeyError, TypeError):
            raise StepError("iperf3 didn't get through", result.output[-2000:]) from None
        if "error" in report or speed <= 0:
            raise StepError(f"iperf3: {report.get('error', 'nothing arrived')}")
        return f"{speed / 1e6:.0f} Mb/s, {report['end']['sum_sent'].get('retransmits', 0)} retransmissions"

    def _http(self) -> str:
        network = self._machine.network
        assert network is not None
        url = f"http://{self._peer}:{network.http_port}/bytes/{_HTTP_BYTES}"
        said = self._ask(f"wget -q -O /tmp/fetched {url} && sha256sum < /tmp/fetched; rm -f /tmp/fetched").split()
        wanted = hashlib.sha256()
        for piece in pattern(_HTTP_BYTES):
            wanted.update(piece)
        if said[:1] != [wanted.hexdigest()]:
            raise StepError("what was fetched isn't what was sent", " ".join(said))
        return f"{_HTTP_BYTES >> 20} MiB fetched, SHA-256 is the server's"

    def _self_test(self) -> str:
        said = self._machine.guest.run(f"ethtool -t {INTERFACE} offline", timeout=120.0).output
        results = re.findall(r"^(\w+) test +\(.*\)\s+(\d+)$", said, re.MULTILINE)
        failed = [name for name, result in results if result != "0"]
        if "result is PASS" not in said or failed or len(results) != _SELF_TESTS:
            raise StepError(f"failed: {', '.join(failed) or 'no result'}", said)
        return "PASS: " + ", ".join(name.lower() for name, _ in results)

    def _statistics(self) -> str:
        said = self._ask(f"ethtool -S {INTERFACE}")
        counts = {name: int(count) for name, count in re.findall(r"^\s*(\w+): (\d+)$", said, re.MULTILINE)}
        lost = {name: count for name, count in counts.items() if count and _LOSSES.search(name)}
        if lost:
            raise StepError(", ".join(f"{name} {count}" for name, count in lost.items()), said)
        if not counts.get("tx_packets"):
            raise StepError("nothing was counted", said)
        trouble = [line for line in self._ask("dmesg").splitlines() if _TROUBLE.search(line)]
        if trouble:
            raise StepError("the guest's kernel complains", "\n".join(trouble[:20]))
        return f"{counts['rx_packets']} frames in, {counts['tx_packets']} out, none lost"

    def _shutdown(self) -> str:
        self._machine.guest.shutdown()
        status = self._machine.card.end()
        if status != 0 or self._machine.card.socket.exists():
            raise StepError(f"the card's process ended with status {status}", self._machine.card.log)
        return "guest off, card ended, socket removed"

    @property
    def _peer(self) -> str:
        assert self._machine.network is not None
        return self._machine.network.host_ip

    def _ask(self, command: str) -> str:
        """The output of a command in the guest. Raises StepError if it fails."""
        result = self._machine.guest.run(command)
        if result.status != 0:
            raise StepError(f"{command.split()[0]} ended with status {result.status}", result.output)
        return result.output
