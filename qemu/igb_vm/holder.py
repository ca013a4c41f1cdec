"""The process that holds a network namespace: it makes the TAP, serves iperf3 and HTTP, and ends when its parent does.

network.py runs it with two arguments: the number of a stream socket's descriptor, and `Settings` as JSON. It
answers with one line of JSON, with the TAP's descriptors if all went well, and then waits for the socket's end.
Interfaces are set up by ioctl (netdevice(7)), so that the machine needs no iproute2.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from igb_vm import webserver

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG = 1
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_SIOCSIFMTU, _SIOCSIFHWADDR, _SIOCGIFINDEX = 0x8922, 0x8924, 0x8933
_IFF_UP = 1
_ARPHRD_ETHER = 1

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Settings:
    """What a namespace is to have. Addresses are the host's side; prefixes in bits."""

    name: str = "tap0"
    mac: str = "02:00:00:00:00:01"
    ip: str = "10.0.2.1"
    prefix: int = 24
    ip6: str = "fd00::1"
    prefix6: int = 64
    mtu: int = 1500
    queues: int = 1
    http_port: int = 8080
    iperf: tuple[str, ...] = ()  # the command, without its arguments; none: no iperf3
    iperf_port: int = 5201

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class SetupError(Exception):
    """Making the namespace or what is in it failed; the message says at which step."""


def enter_namespace() -> None:
    """Leave for a new network namespace: a plain one with root's rights, one in a user namespace without."""
    if os.geteuid() == 0 and libc.unshare(CLONE_NEWNET) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise SetupError(f"this machine forbids user namespaces ({os.strerror(ctypes.get_errno())})")
    for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            with open(f"/proc/self/{path}", "w") as file:
                file.write(text)
        except OSError as error:
            raise SetupError(f"this machine restricts user namespaces ({path}: {error.strerror})") from None


def make_tap(settings: Settings) -> list[int]:
    """A TAP with its descriptors, one a queue."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if settings.queues > 1 else 0)
    fds = []
    for _ in range(settings.queues):
        try:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise SetupError(f"can't open /dev/net/tun ({error.strerror})") from None
        fds.append(fd)
        try:
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", settings.name.encode(), flags))
        except OSError as error:
            raise SetupError(f"can't make a TAP ({error.strerror})") from None
    return fds


def configure(settings: Settings) -> None:
    """Give the TAP its addresses and MTU, and bring it and the loopback up."""
    name = settings.name.encode()
    try:
        # No duplicate address detection: the IPv6 address is to be usable at once.
        with open(f"/proc/sys/net/ipv6/conf/{settings.name}/accept_dad", "w") as file:
            file.write("0")
    except OSError:
        pass  # no IPv6, or no right to set this: then the address takes a second
    mask = socket.inet_ntoa(struct.pack("!I", (0xFFFFFFFF << (32 - settings.prefix)) & 0xFFFFFFFF))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            mac = bytes.fromhex(settings.mac.replace(":", ""))
            fcntl.ioctl(control, _SIOCSIFHWADDR, struct.pack("16sH6s16x", name, _ARPHRD_ETHER, mac))
            fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", name, settings.mtu))
            for request, address in ((_SIOCSIFADDR, settings.ip), (_SIOCSIFNETMASK, mask)):
                packed = struct.pack("16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(address))
                fcntl.ioctl(control, request, packed)
            for interface in (b"lo", name):
                (flags,) = struct.unpack_from(
                    "16xH", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("40s", interface))
                )
                fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", interface, flags | _IFF_UP))
            (index,) = struct.unpack_from("16xi", fcntl.ioctl(control, _SIOCGIFINDEX, struct.pack("40s", name)))
        except OSError as error:
            raise SetupError(f"can't set up the interface {settings.name} ({error.strerror})") from None
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
            address6 = socket.inet_pton(socket.AF_INET6, settings.ip6)
            fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16sIi", address6, settings.prefix6, index))
    except OSError:
        pass  # the machine has no IPv6; IPv4 is enough to work with


def listening(port: int) -> bool:
    """Whether anything in this namespace listens on a TCP port (state 0A in /proc/net/tcp and tcp6)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                if any(words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in map(str.split, file)):
                    return True
        except OSError:
            continue
    return False


def start_iperf(command: Sequence[str], port: int) -> "subprocess.Popen[bytes]":
    """An iperf3 server that listens when this returns."""

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        process = subprocess.Popen(
            [*command, "-s", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
    except OSError as error:
        raise SetupError(f"can't start iperf3 ({error.strerror})") from None
    deadline = time.monotonic() + 10.0
    while not listening(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            said = process.stderr.read(200).decode(errors="replace").strip() if process.stderr else ""
            raise SetupError(f"iperf3 doesn't serve port {port}: {said}")
        time.sleep(0.01)
    return process


def serve_http(port: int) -> None:
    """The HTTP server, on all addresses that this machine's kernel knows."""
    try:
        webserver.serve("::", port)
    except OSError:  # no IPv6
        webserver.serve("0.0.0.0", port)


def main() -> None:
    """Make all that SETTINGS ask for, report, and hold it until the parent's end of the socket closes."""
    parent = socket.socket(fileno=int(sys.argv[1]))
    settings = Settings(**json.loads(sys.argv[2]))
    iperf = None
    try:
        enter_namespace()
        # Entering a user namespace takes the death signal away; and the parent may have died before.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        fds = make_tap(settings)
        configure(settings)
        serve_http(settings.http_port)
        if settings.iperf:
            iperf = start_iperf(settings.iperf, settings.iperf_port)
    except SetupError as error:
        parent.sendall(json.dumps({"error": str(error)}).encode())
        return
    socket.send_fds(parent, [json.dumps({"pid": os.getpid()}).encode()], fds)
    for fd in fds:
        os.close(fd)
    parent.recv(1)  # nothing is ever sent: this is the end
    if iperf is not None:
        iperf.kill()
