"""`softigb boot`: with real guests, and what it refuses without one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from igb_vm.errors import VmError
from softigb import machine

_SECONDS = 240.0


@pytest.mark.parametrize(
    "words",
    [
        ["--memory", "lots"],
        ["--memory", "512"],
        ["--smp", "0"],
        ["--mac", "01:00:00:00:00:01"],
        ["--address", "10.0.0.1/8"],
        ["--wire", "none", "--address", "foo"],
        ["--wire", ""],
        ["--timeout", "0"],
        ["--wire", "none", "--network", "passt"],
    ],
)
def test_options_that_make_no_sense_are_one_line_and_status_2(softigb, words):
    ran = softigb("boot", *words)
    assert (ran.status, ran.out) == (2, "")
    assert re.fullmatch(r"softigb: .+\n", ran.err)


def test_a_missing_qemu_is_one_line_and_status_1(softigb, monkeypatch):
    def none(**_options: object) -> None:
        raise VmError("QEMU is 7.2.0, and vfio-user-pci needs 10.1.1")

    monkeypatch.setattr(machine, "get_qemu", none)
    ran = softigb("boot")
    assert (ran.status, ran.err) == (1, "softigb: QEMU is 7.2.0, and vfio-user-pci needs 10.1.1\n")


@pytest.mark.parametrize("wire", ["tap:softigb-no", "carrier:pigeon"])
@pytest.mark.qemu
def test_a_wire_that_cannot_be_had_is_one_line(softigb, wire):
    ran = softigb("boot", "--wire", wire)
    assert ran.status == 1
    assert re.fullmatch(r"softigb: .+\n", ran.err)


@pytest.mark.qemu
def test_the_tour_passes_on_this_card(softigb_process):
    ran = softigb_process("boot", timeout=_SECONDS)
    assert ran.status == 0, ran.out + ran.err
    table = re.findall(r"^(\S.*?)  +passed +(\S.*?)  +\d+\.\d$", ran.out, re.MULTILINE)
    assert [step for step, _ in table] == [
        *("card", "guest", "driver", "link", "ping", "iperf3 to the peer", "iperf3 from the peer"),
        *("HTTP", "ethtool -t offline", "statistics", "shutdown"),
    ]
    assert "all 11 steps passed" in ran.out


@pytest.mark.qemu
def test_commands_of_ones_own(softigb_process, tmp_path):
    capture, console = tmp_path / "c.pcapng", tmp_path / "console"
    ran = softigb_process(
        *("boot", "--smp", "2", "--append", "softigb.test=1", "--mac", "02:00:00:00:00:99"),
        *("--capture", str(capture), "--keep-console", str(console)),
        *("--run", "cat /sys/class/net/eth0/address; nproc; cat /proc/cmdline"),
        *("--run", "echo to stderr >&2; exit 3"),
        *("--run", "ping -c 3 -i 0.1 10.0.2.1 || exit 4"),
        timeout=_SECONDS,
    )
    assert ran.status == 3, ran.err
    address, processors, arguments, *rest = ran.out.splitlines()
    assert (address, processors) == ("02:00:00:00:00:99", "2")
    assert "softigb.test=1" in arguments
    assert rest[0] == "to stderr"
    assert "3 received" in ran.out
    assert ran.err == ""
    recorded = capture.read_bytes()
    assert bytes.fromhex("0200000000990200000000010800") in recorded  # IPv4 to the guest
    assert bytes.fromhex("0200000000010200000000990800") in recorded  # and from it
    assert "Linux" in console.read_text() or "init:" in console.read_text()


def marked(mark: str) -> Iterator[bytes]:
    """The command lines of the processes with this in their environment."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                yield (process / "cmdline").read_bytes()
        except OSError:
            continue


@pytest.mark.qemu
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_it_leaves_nothing(tmp_path, number):
    mark = uuid.uuid4().hex
    env = {**os.environ, "SOFTIGB_TEST_MARK": mark, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "softigb", "boot", "--run", "echo up; sleep 600"]
    boot = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60.0
        while not any(b"vfio-user-pci" in command for command in marked(mark)):
            assert boot.poll() is None, boot.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(list(marked(mark))) >= 4  # itself, the network's holder with iperf3, the card, QEMU
        boot.send_signal(number)
        _, err = boot.communicate(timeout=20.0)
        assert boot.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
        assert err == ""
        assert list(marked(mark)) == []
        assert list(tmp_path.iterdir()) == []
    finally:
        boot.terminate()
        boot.communicate()
