"""A network for a card, made without root: a real Linux kernel as the peer, with an iperf3 and an HTTP server.

Where possible it's a network namespace (in a user namespace, unless root) with a TAP; where /dev/net/tun is forbidden
it's passt, which carries the guest's connections over ordinary sockets of the host. passt locks itself into namespaces;
where these are forbidden too, as in most containers, it's slirp, which is in QEMU and does the same, slower.
"""

import ctypes
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from igb_vm import process, webserver
from igb_vm.errors import VmError
from igb_vm.holder import CLONE_NEWNET, CLONE_NEWUSER, Settings, libc, listening
from igb_vm.loader import Program
from igb_vm.packages import ensure
from igb_vm.progress import say
from igb_vm.qemu import get_qemu

_SETUP_SECONDS = 30.0
_SO_ACCEPTCON = 0x10000  # in /proc/net/unix: it listens
_SLIRP_MTU = 1500
_KINDS = ("namespace", "passt", "slirp")  # the best first


class Network:
    """A peer for a card's cable. A context manager; all of it is gone at exit, or when Python dies.

    kind: "namespace", "passt", "slirp", or "auto" for the first of them that works. iperf: serve iperf3. queues: of the
    TAP. After entry: `kind`; `host_ip`, `guest_ip`, `host_ip6`, `guest_ip6`, `prefix`, `prefix6`; `http_port`,
    `iperf_port` (on host_ip, as the guest sees it); and either `tap_fds` (frames with a virtio_net_hdr, non-blocking;
    `tap_fd` is the first) and `name`, or `socket` (QEMU's stream format). Raises VmError on entry if none works.
    """

    host_ip, guest_ip, prefix = "10.0.2.1", "10.0.2.2", 24
    host_ip6, guest_ip6, prefix6 = "fd00::1", "fd00::2", 64
    name = "tap0"

    def __init__(
        self, kind: str = "auto", *, mtu: int = 1500, queues: int = 1, iperf: bool = True, mirror: str | None = None
    ) -> None:
        if kind not in ("auto", *_KINDS):
            raise VmError(f"{kind!r} is no kind of network: auto, {', '.join(_KINDS)}")
        if not 1280 <= mtu <= 65521 or not 1 <= queues <= 256:
            raise VmError(f"an MTU is 1280 to 65521 and a TAP has 1 to 256 queues, not {mtu} and {queues}")
        self.kind = kind
        self.mtu = mtu
        self.queues = queues
        self.http_port = 8080
        self.iperf_port = 5201
        self.tap_fds: list[int] = []
        self.socket: Path | None = None
        self._iperf = iperf
        self._mirror = mirror
        self._holder: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._web: ThreadingHTTPServer | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        if self._holder is not None:
            raise VmError("this network is open already")
        kinds = list(_KINDS) if self.kind == "auto" else [self.kind]
        try:
            while True:
                try:
                    self._start(kinds.pop(0))
                    break
                except VmError as why:
                    if not kinds:
                        raise
                    self.close()
                    say(f"{why}: using {kinds[0]}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tap_fd(self) -> int:
        """The TAP's first queue. Raises VmError where there's no TAP (passt)."""
        if not self.tap_fds:
            raise VmError("this network has no TAP: it's passt's or slirp's, or not open")
        return self.tap_fds[0]

    def popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a program in the namespace, as root there; without one, on the host. It's killed at close.

        options: stdin, stdout, stderr, env and pass_fds as `process.spawn` has them.
        """
        if self._holder is None:
            raise VmError("this network isn't open")
        try:
            child = process.spawn(command, enter=self._enter if self.kind == "namespace" else None, **options)
        except (OSError, subprocess.SubprocessError) as error:
            raise VmError(f"can't run {command[0]} in the network: {error}") from None
        self._children.append(child)
        return child

    def run(
        self, command: Sequence[str], timeout: float = 60.0, check: bool = False, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program as `popen` does, to its end, output captured. Raises VmError after `timeout` seconds."""
        child = self.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise VmError(f"{command[0]} took longer than {timeout:g} s in the network") from None
        finally:
            self._children.remove(child)
        result = subprocess.CompletedProcess(list(command), child.returncode, _text(out), _text(err))
        if check and result.returncode != 0:
            raise VmError(f"{' '.join(command)[:200]} ended with status {result.returncode}: {result.stderr[-2000:]}")
        return result

    def close(self) -> None:
        """End everything in the network. May be called again."""
        for child in self._children:
            process.end(child)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        self._children.clear()
        for fd in self.tap_fds:
            os.close(fd)
        self.tap_fds = []
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._holder is not None:
            process.end(self._holder)
            if self._holder.stdin is not None:
                self._holder.stdin.close()
            self._holder = None
        if self._web is not None:
            self._web.shutdown()
            self._web.server_close()
            self._web = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
            self.socket = None

    def _start(self, kind: str) -> None:
        if kind == "namespace":
            self._start_namespace()
        else:
            self._start_userspace(kind)
        self.kind = kind

    def _start_namespace(self) -> None:
        iperf = _program("iperf3", self._mirror) if self._iperf else None
        settings = Settings(
            name=self.name,
            ip=self.host_ip,
            prefix=self.prefix,
            ip6=self.host_ip6,
            prefix6=self.prefix6,
            mtu=self.mtu,
            queues=self.queues,
            http_port=self.http_port,
            iperf=iperf.argv if iperf else (),
            iperf_port=self.iperf_port,
        )
        ours, theirs = socket.socketpair()
        self._link = ours
        with theirs:
            start = "from igb_vm.holder import main; main()"
            command = [sys.executable, "-c", start, str(theirs.fileno()), settings.to_json()]
            self._holder = process.spawn(command, env=_python_path(), pass_fds=[theirs.fileno()], stderr=None)
        ours.settimeout(_SETUP_SECONDS)
        try:
            message, fds, _, _ = socket.recv_fds(ours, 65536, self.queues)
        except TimeoutError:
            raise VmError("making a network namespace takes too long") from None
        self.tap_fds = list(fds)
        for fd in fds:
            os.set_inheritable(fd, False)
        answer = json.loads(message or b'{"error": "the process that holds the namespace died"}')
        if "error" in answer:
            self.close()
            raise VmError(answer["error"])

    def _start_userspace(self, kind: str) -> None:
        """passt or slirp, behind a socket; the guest reaches this machine's loopback at `host_ip`."""
        iperf = _program("iperf3", self._mirror) if self._iperf else None
        self._web = webserver.serve("127.0.0.1", 0)
        self.http_port = self._web.server_port
        # A short path: a socket's may have 107 bytes.
        self._folder = tempfile.TemporaryDirectory(
            prefix=f"{kind}-", dir="/tmp" if len(tempfile.gettempdir()) > 60 else None
        )
        self.socket = Path(self._folder.name, "s")
        ready = Path(self._folder.name, "pid")
        program, arguments = self._passt(self.socket, ready) if kind == "passt" else self._slirp(self.socket)
        with tempfile.TemporaryFile() as log:
            command = process.leashed(program.command(*arguments))
            self._holder = process.spawn(command, env=program.env, stdin=subprocess.PIPE, stdout=log, stderr=log)
            deadline = time.monotonic() + _SETUP_SECONDS
            while not (_written(ready) if kind == "passt" else _listens(self.socket)):
                if self._holder.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip().rpartition("\n")[2]
                    raise VmError(f"{kind} doesn't start: {said}")
                time.sleep(0.01)
        if iperf is not None:
            self.iperf_port = _free_port()
            self.popen(iperf.command("-s", "-B", "127.0.0.1", "-p", str(self.iperf_port)), env=iperf.env)
            while not listening(self.iperf_port):
                if time.monotonic() > deadline:
                    raise VmError("iperf3 doesn't start")
                time.sleep(0.01)

    def _passt(self, path: Path, pid: Path) -> tuple[Program, list[str]]:
        """passt writes its process id when it has locked itself in, which is where it fails if it does."""
        words = ["--foreground", "--quiet", "--socket", str(path), "--pid", str(pid), "--mtu", str(self.mtu)]
        words += ["--address", self.guest_ip, "--netmask", str(self.prefix), "--gateway", self.host_ip]
        words += ["--address", self.guest_ip6, "--gateway", self.host_ip6, "--no-dhcp-dns"]
        return _program("passt", self._mirror), words

    def _slirp(self, path: Path) -> tuple[Program, list[str]]:
        """A QEMU without a machine, whose hub joins slirp and a socket."""
        if self.mtu > _SLIRP_MTU:
            raise VmError(f"slirp has an MTU of {_SLIRP_MTU}, not {self.mtu}")
        network = ipaddress.ip_interface(f"{self.host_ip}/{self.prefix}").network
        network6 = ipaddress.ip_interface(f"{self.host_ip6}/{self.prefix6}").network
        netdevs = [
            {"type": "user", "id": "slirp", "net": str(network), "host": self.host_ip, "dhcpstart": str(network[16])}
            | {"ipv6-prefix": str(network6[0]), "ipv6-prefixlen": self.prefix6, "ipv6-host": self.host_ip6},
            {"type": "hubport", "id": "port0", "hubid": 0, "netdev": "slirp"},
            {"type": "stream", "id": "wire", "server": True, "addr": {"type": "unix", "path": str(path)}},
            {"type": "hubport", "id": "port1", "hubid": 0, "netdev": "wire"},
        ]
        words = ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none"]
        for netdev in netdevs:
            words += ["-netdev", json.dumps(netdev)]
        return get_qemu(mirror=self._mirror).program, words

    def _enter(self) -> None:
        """In a new child, before it becomes the program: go where the holder is."""
        assert self._holder is not None
        flags = 0
        for kind, flag in (("user", CLONE_NEWUSER), ("net", CLONE_NEWNET)):
            if os.readlink(f"/proc/{self._holder.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"):
                flags |= flag
        fd = os.pidfd_open(self._holder.pid)
        if libc.setns(fd, flags) != 0:
            raise OSError(ctypes.get_errno(), "can't enter the network's namespace")
        os.close(fd)


def _program(name: str, mirror: str | None) -> Program:
    """The machine's own program if there's one, or else Debian's from the cache."""
    if installed := shutil.which(name):
        return Program(name, (installed,))
    return ensure([name], mirror=mirror).program(name)


def _python_path() -> dict[str, str]:
    """So that the holder finds this package where this process has it."""
    here = str(Path(__file__).parent.parent)
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{here}{os.pathsep}{others}" if others else here}


def _written(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _listens(path: Path) -> bool:
    """Whether a unix socket is listened on; one that connects to find out would be the card, to its owner."""
    for line in Path("/proc/net/unix").read_text().splitlines():
        words = line.split(maxsplit=7)
        if words[7:] == [str(path)] and int(words[3], 16) & _SO_ACCEPTCON:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
