"""The network for a card: a namespace whose kernel answers on the TAP, and without one passt and slirp."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether

from igb_vm import Network, VmError
from igb_vm.holder import listening
from igb_vm.loader import Program

VNET_HEADER = 10  # bytes: struct virtio_net_hdr, as a TAP has it by default


def exchange(fd: int, frame: bytes, want: type) -> Ether:
    """Send a frame into the TAP and return the first answer that has the layer `want`."""
    os.write(fd, bytes(VNET_HEADER) + frame)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            answer = Ether(os.read(fd, 65536)[VNET_HEADER:])
        except BlockingIOError:
            time.sleep(0.005)
            continue
        if want in answer:
            return answer
    raise AssertionError("no answer")


def children_of(pid: int) -> list[int]:
    """The processes whose parent, the fourth word of /proc/PID/stat, is `pid`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not os.path.exists(f"/proc/{pid}"):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.netns
def test_a_real_kernel_answers_on_the_tap(network: Network) -> None:
    mac = "02:00:00:00:00:99"
    question = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=1, hwsrc=mac, psrc=network.guest_ip, pdst=network.host_ip
    )
    arp = exchange(network.tap_fd, bytes(question), ARP)
    assert (arp[ARP].op, arp[ARP].psrc) == (2, network.host_ip)
    ping = Ether(src=mac, dst=arp.src) / IP(src=network.guest_ip, dst=network.host_ip) / ICMP(id=7, seq=9) / b"payload"
    echo = exchange(network.tap_fd, bytes(ping), ICMP)
    assert (echo[ICMP].type, echo[ICMP].id, echo[ICMP].seq, bytes(echo[ICMP].payload)) == (0, 7, 9, b"payload")


@pytest.mark.netns
def test_its_servers_listen_in_the_namespace(network: Network) -> None:
    code = "import urllib.request as u; print(u.urlopen('http://%s:%d/').read())"
    run = network.run([sys.executable, "-c", code % (network.host_ip, network.http_port)], check=True)
    assert run.stdout == "b'igb_vm\\n'\n"
    code = "from igb_vm.holder import listening; print(listening(%d))"
    assert network.run([sys.executable, "-c", code % network.iperf_port], check=True).stdout == "True\n"
    assert network.name not in [name for _, name in socket.if_nameindex()]


@pytest.mark.netns
def test_ipv6_is_usable_at_once(network: Network) -> None:
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6")
    code = f"import socket; socket.create_connection(('{network.host_ip6}', {network.http_port}), 1)"
    network.run([sys.executable, "-c", code], check=True)


@pytest.mark.netns
def test_status_output_and_timeout_of_commands(network: Network) -> None:
    run = network.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (run.returncode, run.stdout, run.stderr) == (3, "out\n", "err\n")
    with pytest.raises(VmError, match="longer than"):
        network.run(["sleep", "60"], timeout=0.2)
    with pytest.raises(VmError, match="nosuch"):
        network.run(["nosuch-program"])


@pytest.mark.netns
def test_all_is_gone_after_close(network: Network) -> None:
    child = network.popen(["sleep", "60"])
    holder = network._holder
    assert holder is not None
    children = children_of(holder.pid)
    assert children, "iperf3 should be there"
    fd = network.tap_fd
    network.close()
    assert child.poll() is not None
    assert gone(holder.pid)
    assert all(gone(pid) for pid in children)
    with pytest.raises(OSError, match=r".*"):
        os.fstat(fd)
    network.close()


@pytest.mark.netns
@pytest.mark.usefixtures("network")
def test_all_is_gone_when_python_is_killed() -> None:
    code = (
        "import time\nfrom igb_vm import Network\n"
        "with Network('namespace') as n:\n    print(n._holder.pid, flush=True)\n    time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    holder = int(parent.stdout.readline())
    children = children_of(holder)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert gone(holder)
    assert all(gone(pid) for pid in children)


@pytest.mark.netns
@pytest.mark.usefixtures("network")
def test_queues_and_mtu() -> None:
    with Network("namespace", queues=3, mtu=9000, iperf=False) as network:
        assert len(network.tap_fds) == 3
        code = (
            "import fcntl, socket, struct; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
            f"print(struct.unpack_from('16xi', fcntl.ioctl(s, 0x8921, struct.pack('40s', b'{network.name}')))[0])"
        )
        assert network.run([sys.executable, "-c", code], check=True).stdout == "9000\n"


@pytest.mark.parametrize("kind", ["passt", pytest.param("slirp", marks=pytest.mark.qemu)])
def test_frames_over_the_socket(kind: str) -> None:
    try:
        made = Network(kind).__enter__()
    except VmError as why:
        if kind != "passt" or "namespace" not in str(why):
            raise
        pytest.skip(str(why))  # where the kernel forbids passt what it needs
    with contextlib.closing(made) as network:
        assert network.kind == kind
        assert network.socket is not None
        assert listening(network.iperf_port)
        with pytest.raises(VmError, match="no TAP"):
            _ = network.tap_fd
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(network.socket))
            mac = "02:00:00:00:00:99"
            arp = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(
                op=1, hwsrc=mac, psrc=network.guest_ip, pdst=network.host_ip
            )
            link.sendall(struct.pack("!I", len(arp)) + bytes(arp))
            while True:  # router advertisements may come first
                (length,) = struct.unpack("!I", link.recv(4, socket.MSG_WAITALL))
                answer = Ether(link.recv(length, socket.MSG_WAITALL))
                if ARP in answer:
                    break
        assert (answer[ARP].op, answer[ARP].psrc) == (2, network.host_ip)
        folder = network.socket.parent
    assert not folder.exists()


@pytest.mark.qemu
def test_where_namespaces_are_forbidden_it_is_slirp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "_start_namespace", refuse)
    monkeypatch.setattr(
        Network, "_passt", lambda *_: (Program("sh", ("sh",)), ["-c", "echo no namespaces >&2; exit 1"])
    )
    with Network(iperf=False) as network:
        assert network.kind == "slirp"
        assert network.socket is not None


def refuse(_: Network) -> None:
    raise VmError("forbidden")


@pytest.mark.qemu
def test_jumbo_frames_are_not_for_slirp() -> None:
    with pytest.raises(VmError, match="1500"):
        Network("slirp", mtu=9000, iperf=False).__enter__()


def test_bad_settings_are_one_line() -> None:
    for options in ({"kind": "bridge"}, {"mtu": 10}, {"queues": 0}):
        with pytest.raises(VmError) as error:
            Network(**options)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


def test_passt_ends_with_a_python_that_is_killed(tmp_path):
    """passt changes its credentials, by which the kernel's own death signal is lost."""
    script = (
        "from igb_vm.network import Network\n"
        "with Network(kind='passt', iperf=False) as network:\n"
        "    print(network.socket, flush=True)\n"
        "    input()\n"
    )
    python = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with python:
        assert python.stdout is not None
        path = python.stdout.readline().strip()
        if not path:
            assert python.stderr is not None
            pytest.skip(python.stderr.read().strip().rpartition("\n")[2])
        assert _users_of(path)
        python.kill()
    shutil.rmtree(Path(path).parent)
    deadline = time.monotonic() + 10
    while left := _users_of(path):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _users_of(path: str) -> list[str]:
    """The programs that have `path` in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if path in words and "passt" in " ".join(words):
            found.append(" ".join(words))
    return found
