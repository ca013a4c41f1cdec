"""The steps of `softigb boot`: each passes on what a good card gives, and fails on what a bad one would."""

from __future__ import annotations

import hashlib
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from igb_vm.errors import GuestError
from igb_vm.guest import Result
from igb_vm.webserver import pattern
from softigb.demo import Demo
from softigb.steps import StepError, Steps

PING = "20 packets transmitted, {} received, 0% packet loss, time 1900ms\nrtt min/avg/max/mdev = 0.7/1.4/9.1/1.0 ms\n"
SELF_TEST = """The test result is {}
The test extra info:
Register test  (offline)	 0
Eeprom test    (offline)	 0
Interrupt test (offline)	 {}
Loopback test  (offline)	 0
Link test   (on/offline)	 0
"""
STATISTICS = "NIC statistics:\n     rx_packets: 7\n     tx_packets: 9\n     rx_no_buffer_count: 3\n     {}: {}\n"
LINK = "Settings for eth0:\n\tSpeed: 1000Mb/s\n\tDuplex: Full\n\tLink detected: {}\n"
IPERF = json.dumps({"end": {"sum_sent": {"retransmits": 2}, "sum_received": {"bits_per_second": 987654321.0}}})


def sha256sum(size: int = 16 << 20) -> str:
    return hashlib.sha256(b"".join(pattern(size))).hexdigest() + "  -\n"


GOOD = {
    "uname": "6.12.1\n",
    "ethtool -i": "driver: igb\nversion: 6.12.1\nfirmware-version: 1.4.3\n",
    "ethtool eth0": LINK.format("yes"),
    "ping": PING.format(20),
    "arping": "Received 4 response(s)\n",
    "iperf3": IPERF,
    "wget": sha256sum(),
    "ethtool -t": SELF_TEST.format("PASS", 0),
    "ethtool -S": STATISTICS.format("rx_missed_errors", 0),
    "dmesg": "igb 0000:01:00.0: NIC Link is Up\n",
}


class FakeGuest:
    """A guest that answers by the longest start of a command that it knows."""

    qemu = SimpleNamespace(version_text="11.1.3")
    accel = "tcg"
    smp = 1

    def __init__(self, answers: dict[str, str | int]) -> None:
        self.answers = {**GOOD, **answers}
        self.alive = True

    def run(self, command: str, timeout: float = 60.0) -> Result:
        answer = next(
            self.answers[known] for known in sorted(self.answers, key=len, reverse=True) if command.startswith(known)
        )
        if isinstance(answer, int):
            return Result(answer, "it said this\n", "", 0.1, b"")
        if answer == "gone":
            self.alive = False
            raise GuestError("the guest is gone", "the console's end")
        return Result(0, answer, "", 0.1, b"")

    def shutdown(self) -> None:
        self.alive = False


def tour(
    answers: dict[str, str | int] | None = None, kind: str = "namespace", boots: bool = True, status: int = 0
) -> Steps:
    def boot() -> None:
        if not boots:
            raise GuestError("the guest didn't answer within 120 s", "Kernel panic")

    card = SimpleNamespace(end=lambda: status, socket=SimpleNamespace(exists=lambda: False), log="what the card said")
    machine = SimpleNamespace(
        network=SimpleNamespace(kind=kind, host_ip="10.0.2.1", iperf_port=5201, http_port=8080),
        guest=FakeGuest(answers or {}),
        card=card,
        start_card=lambda: None,
        boot=boot,
        load_driver=lambda: 0.9,
        configure=lambda: None,
    )
    steps = Steps(Console(file=io.StringIO(), width=150))
    with steps:
        Demo(machine, steps).run()  # type: ignore[arg-type]
    return steps


def outcome(steps: Steps) -> dict[str, bool]:
    return {row.step: row.passed for row in steps.rows}


@pytest.mark.parametrize("kind", ["namespace", "passt", "slirp"])
def test_a_good_card_passes_every_step(kind):
    steps = tour(kind=kind)
    assert steps.failed == 0
    figures = {row.step: row.figure for row in steps.rows}
    assert "firmware 1.4.3" in figures["driver"]
    assert figures["iperf3 to the peer"].startswith("988 Mb/s")
    assert figures["link"] == "1000Mb/s, full duplex"


@pytest.mark.parametrize(
    ("answers", "failing"),
    [
        ({"ethtool -i": "driver: virtio_net\n"}, "driver"),
        ({"ethtool eth0": LINK.format("no")}, "link"),
        ({"ping": PING.format(19)}, "ping"),
        ({"ping": 1}, "ping"),
        ({"iperf3": '{"error": "unable to connect"}'}, "iperf3 to the peer"),
        ({"iperf3": "Killed"}, "iperf3 from the peer"),
        ({"wget": "0" * 64 + "  -\n"}, "HTTP"),
        ({"wget": 1}, "HTTP"),
        ({"ethtool -t": SELF_TEST.format("FAIL", 4)}, "ethtool -t offline"),
        ({"ethtool -t": "The test result is PASS\n"}, "ethtool -t offline"),
        ({"ethtool -S": STATISTICS.format("rx_missed_errors", 1)}, "statistics"),
        ({"ethtool -S": STATISTICS.format("rx_queue_0_drops", 1)}, "statistics"),
        ({"ethtool -S": STATISTICS.format("rx_queue_0_csum_err", 1)}, "statistics"),
        ({"dmesg": "igb 0000:01:00.0: Detected Tx Unit Hang\n"}, "statistics"),
    ],
)
def test_a_bad_one_fails_the_step_that_looks(answers, failing):
    steps = tour(answers)
    assert outcome(steps)[failing] is False
    if failing != "driver":
        assert outcome(steps)["shutdown"], "the others are tried"


def test_passt_is_asked_by_arp():
    assert outcome(tour({"arping": "Received 3 response(s)\n"}, kind="passt"))["ping"] is False


def test_a_card_that_ends_badly_fails_the_shutdown():
    steps = tour(status=-11)
    assert outcome(steps)["shutdown"] is False
    assert "what the card said" in steps.details


def test_without_a_guest_nothing_else_is_tried_and_the_console_is_told():
    steps = tour(boots=False)
    assert [row.passed for row in steps.rows[:2]] == [True, False]
    assert all(row.seconds is None for row in steps.rows[2:])
    assert steps.failed == len(steps.rows) - 1
    assert "Kernel panic" in steps.details[0]


def test_a_guest_that_dies_ends_the_tour():
    steps = tour({"ping": "gone"})
    left = [row.figure for row in steps.rows if row.seconds is None]
    assert len(left) == 6
    assert set(left) == {"the guest is gone"}


def test_a_terminal_sees_the_table_and_a_file_a_line_for_each_step():
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Steps(terminal) as steps:
        assert steps.run("first", lambda: "100 of them")
    assert "first" in terminal.file.getvalue()  # type: ignore[attr-defined]
    plain = Console(file=io.StringIO(), width=20)

    def broken() -> str:
        raise StepError("no luck [at all]", "more")

    with Steps(plain) as steps:
        assert not steps.run("first", broken)
    assert plain.file.getvalue().startswith("FAILED: first: no luck [at all] (")  # type: ignore[attr-defined]


def test_what_is_no_result_of_a_step_goes_on():
    with pytest.raises(ZeroDivisionError), Steps(Console(file=io.StringIO())) as steps:
        steps.run("first", lambda: str(1 // 0))
