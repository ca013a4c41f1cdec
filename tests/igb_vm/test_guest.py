"""Guests that really boot: commands, files, the monitor, the driver on QEMU's own igb, and every way to end."""

import gc
import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from igb_vm import Guest, GuestError, GuestTimeout, Network, VmError

pytestmark = pytest.mark.qemu


def wait_gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not os.path.exists(f"/proc/{pid}"):
            return True
        time.sleep(0.02)
    return False


def test_status_output_and_errors(guest: Guest) -> None:
    apart = guest.run("echo out; echo err >&2; exit 42", merged=False)
    assert (apart.status, apart.output, apart.errors) == (42, "out\n", "err\n")
    together = guest.run("echo out; echo err >&2")
    assert (together.status, together.output, together.errors) == (0, "out\nerr\n", "")


def test_a_command_in_words_needs_no_quoting(guest: Guest) -> None:
    assert guest.run(["printf", "%s|", "a b", "$HOME", "'"]).output == "a b|$HOME|'|"


def test_output_is_binary_and_may_be_large(guest: Guest) -> None:
    result = guest.run(
        "dd if=/dev/urandom of=/tmp/large bs=64k count=64 2>/dev/null; sha256sum < /tmp/large >&2; cat /tmp/large",
        merged=False,
    )
    assert len(result.raw) == 4 << 20
    assert hashlib.sha256(result.raw).hexdigest() == result.errors.split()[0]
    guest.run("rm /tmp/large")


@pytest.mark.parametrize("size", [0, 1, 4096, 1_000_001])
def test_files_go_in_and_come_out(guest: Guest, size: int) -> None:
    data = hashlib.shake_128(b"file").digest(size)
    guest.copy_in(data, "/tmp/new folder/file", mode=0o750)
    assert guest.run("sha256sum '/tmp/new folder/file'").output.split()[0] == hashlib.sha256(data).hexdigest()
    assert guest.run("stat -c %a '/tmp/new folder/file'").output == "750\n"
    assert guest.copy_out("/tmp/new folder/file") == data


def test_files_that_cannot_be_are_errors(guest: Guest, tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="/nonexistent"):
        guest.copy_out("/nonexistent")
    with pytest.raises(GuestError, match="/proc/x"):
        guest.copy_in(b"", "/proc/x/y")
    with pytest.raises(VmError, match="no usable path"):
        guest.copy_in(b"", "relative")
    assert guest.run("true").status == 0


def test_check_raises_with_what_was_said(guest: Guest) -> None:
    with pytest.raises(GuestError, match="it is broken"):
        guest.run("echo it is broken; false", check=True)


def test_a_command_that_takes_too_long_is_killed_with_its_children(guest: Guest) -> None:
    with pytest.raises(GuestTimeout, match="said: started"):
        guest.run("echo started; sleep 987 & sleep 987", timeout=1.0)
    assert guest.run("ps | grep -c 'sleep 98[7]'").output == "0\n"


def test_commands_run_at_the_same_time(guest: Guest) -> None:
    # Each waits for a file that the other makes: one after the other, they would never end.
    results = {}

    def meet(mine: str, other: str) -> None:
        script = f"touch /tmp/{mine}; while [ ! -e /tmp/{other} ]; do sleep 0.05; done; echo {mine}"
        results[mine] = guest.run(script, timeout=20).output

    threads = [threading.Thread(target=meet, args=pair) for pair in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {name: f"{name}\n" for name in "abcd"}


def test_what_stays_in_the_background_holds_nobody_up(guest: Guest) -> None:
    result = guest.run("sleep 654 & echo $!")
    assert result.seconds < 30
    assert guest.run(f"kill {result.output}").status == 0


def test_qmp(guest: Guest) -> None:
    assert guest.qmp("query-status")["status"] == "running"
    assert guest.qmp("human-monitor-command", **{"command-line": "info name"}) is not None
    with pytest.raises(GuestError, match="nosuch"):
        guest.qmp("nosuch-command")


def test_console_has_what_init_says(guest: Guest) -> None:
    assert "init: done" in guest.console


def test_the_guest_has_what_tests_need(guest: Guest) -> None:
    script = "for p in ip tc ss bridge ethtool iperf3 ping trace-cmd; do command -v $p || echo missing $p; done"
    assert "missing" not in guest.run(script).output
    assert guest.run("ip -o link show lo").output.count("LOWER_UP") == 1
    assert guest.run("ls /sys/kernel/tracing/trace /sys/kernel/debug /dev/pts").status == 0
    assert "igb" not in guest.run("lsmod").output
    modules = "igb 8021q vxlan ip_gre ipip pktgen sch_fq_codel vfio-pci"
    assert guest.run(f"for m in {modules}; do modprobe $m || echo missing $m; done; modprobe -r igb").output == ""


def test_boot_is_quick(guest: Guest) -> None:
    print(f"booted in {guest.boot_seconds:.1f} s with {guest.accel}")
    assert guest.boot_seconds < 60


@pytest.mark.netns
def test_igb_reaches_the_namespace(network: Network) -> None:
    devices = [{"driver": "pcie-root-port", "id": "rp0"}, {"driver": "igb", "bus": "rp0", "netdev": "n0"}]
    netdev = ["-netdev", f"tap,id=n0,fd={network.tap_fd}"]
    with Guest(devices=devices, arguments=netdev, pass_fds=[network.tap_fd]) as guest:
        guest.run("modprobe igb && dmesg | grep 'Intel(R) Gigabit Ethernet Network Connection'", check=True)
        guest.run(f"ip addr add {network.guest_ip}/{network.prefix} dev eth0 && ip link set eth0 up", check=True)
        guest.run("until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.05; done", timeout=30, check=True)
        assert " 0% packet loss" in guest.run(f"ping -c 3 -i 0.2 {network.host_ip}", check=True).output
        assert "sender" in guest.run(f"iperf3 -c {network.host_ip} -t 1", check=True).output
        url = f"http://{network.host_ip}:{network.http_port}"
        assert guest.run(f"wget -q -O - {url}/", check=True).output == "igb_vm\n"


def test_shutdown_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    guest = Guest().start()
    pid = guest.pid
    guest.shutdown()
    assert not guest.alive
    assert wait_gone(pid)
    guest.close()
    assert "init: done" in guest.console
    del guest
    gc.collect()  # the console's file goes with the guest, which refers to itself in some versions of Python
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []


def test_a_panic_is_told_with_the_console() -> None:
    with Guest() as guest:
        with pytest.raises(GuestError) as error:
            guest.run("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger", timeout=20)
        assert "Kernel panic" in error.value.console
        with pytest.raises(GuestError, match="isn't running"):
            guest.run("true")


def test_a_guest_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("igb_vm.guest._KILL_SECONDS", 1.0)
    with Guest() as guest:
        guest.qmp("stop")
        began = time.monotonic()
        with pytest.raises(GuestError, match="doesn't react"):
            guest.run("true", timeout=0.5)
        with pytest.raises(GuestError, match="hangs"):
            guest.run("true")
        assert time.monotonic() - began < 10


def test_what_qemu_refuses_is_told() -> None:
    with pytest.raises(GuestError, match="nosuchdevice"):
        Guest(devices=["nosuchdevice"]).start()


def test_a_guest_that_cannot_be_made_is_one_error() -> None:
    code = "from igb_vm import *\ntry:\n    Guest(modules=['nosuchmodule'])\nexcept VmError as error:\n    print(error)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "nosuchmodule" in run.stdout
    assert run.stderr == ""


def test_qemu_ends_when_python_is_killed() -> None:
    code = "import time\nfrom igb_vm import Guest\nwith Guest() as g:\n    print(g.pid, flush=True)\n    time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert wait_gone(pid)


def test_kernel_arguments_arrive_and_modules_load_at_boot(tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.write_text("from the host")
    console = tmp_path / "console"
    with Guest(append="pci=nomsi", load=["igb", "dummy"], files={"/etc/extra": extra}, console=console, smp=2) as guest:
        assert re.search(r"\bpci=nomsi\b", guest.run("cat /proc/cmdline").output)
        assert {"igb", "dummy"} <= {line.split()[0] for line in guest.run("lsmod").output.splitlines()}
        assert guest.run("cat /etc/extra; nproc").output == "from the host2\n"
    assert "init: done" in console.read_text()


def test_a_person_gets_a_shell_on_their_terminal() -> None:
    code = "from igb_vm import Guest\nwith Guest(terminal=True) as g:\n    g.wait(60)"
    ours, theirs = pty.openpty()
    person = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs)
    os.close(theirs)
    seen = b""
    lines = [b"echo $((6*7))\n", b"exit\n"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end has closed
            break
        if lines and seen.count(b"guest# ") > 2 - len(lines):
            os.write(ours, lines.pop(0))
    assert person.wait(20) == 0
    os.close(ours)
    assert b"\n42\r" in seen
