"""A Linux TAP as the far end: drivers/net/tun.c with IFF_VNET_HDR, struct virtio_net_hdr of include/uapi/linux.

With a virtio_net_hdr in front of each frame, segments of up to 64 KiB cross whole in one system call, in both
directions, and checksums between this host and the guest are never computed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Sequence

from igb_device.wire.base import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    MAX_FRAME,
    NEEDS_CSUM,
    NO_OFFLOAD,
    Accepts,
    Frame,
    Offload,
    Readers,
    WireError,
)
from igb_device.wire.endpoint import Endpoint

# ioctl numbers as on x86, Arm and RISC-V (asm-generic/ioctl.h)
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
TUNGETIFF = 0x800454D2
TUNSETVNETHDRSZ = 0x400454D8

IFF_TAP = 0x0002
IFF_MULTI_QUEUE = 0x0100
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFNAMSIZ = 16
_IFREQ = struct.Struct(f"{IFNAMSIZ}sH22x")

TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
TUN_F_TSO_ECN = 0x08
TUN_F_USO4 = 0x20
TUN_F_USO6 = 0x40

_TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
_TAKES_TSO = Accepts.CSUM | Accepts.TSO4 | Accepts.TSO6
OFFLOAD_STEPS = (  # what to ask TUNSETOFFLOAD for, best first; USO exists since Linux 6.2
    (_TSO | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6, _TAKES_TSO | Accepts.USO),
    (_TSO | TUN_F_TSO_ECN, _TAKES_TSO),
    (_TSO, _TAKES_TSO),
    (TUN_F_CSUM, Accepts.CSUM),
)

_HEADER = struct.Struct("=BBHHHH")  # struct virtio_net_hdr, in the host's byte order as TAPs have it by default
_HEADER_LEN = _HEADER.size
_PLAIN = _HEADER.pack(*NO_OFFLOAD)
_GOOD = Offload(flags=DATA_VALID)
_IOV_MAX = 1024

_SLOT = _HEADER_LEN + MAX_FRAME + 1  # the byte more shows that a frame was cut
_ARENA = 32 * _SLOT
_ALIGN = 64

_GONE = frozenset((errno.EBADF, errno.EBADFD, errno.ENODEV, errno.ENXIO))
_LATER = frozenset((errno.EAGAIN, errno.EINTR))


def open_tap(name: str, multi_queue: bool = False, *, create: bool = False) -> int:
    """Attaches to the TAP `name` of this network namespace and returns its descriptor, non-blocking, with a
    virtio_net_hdr of 10 bytes before each frame. With `multi_queue` each call adds one queue.

    Needs CAP_NET_ADMIN, or a TAP made for this user. Raises WireError. `create` makes a TAP that isn't there and
    vanishes with the descriptor; else a missing one is an error, since one made here would have no address, no
    bridge and be down.
    """
    encoded = name.encode()
    if not encoded or len(encoded) >= IFNAMSIZ or b"\0" in encoded or b"/" in encoded or b"%" in encoded:
        raise WireError(f"{name!r} can't be the name of a TAP: an interface's name has 1 to {IFNAMSIZ - 1} bytes")
    if not create:
        try:
            socket.if_nametoindex(name)
        except OSError:
            raise WireError(
                f"there is no TAP {name!r} here; make one: ip tuntap add {name} mode tap && ip link set {name} up"
            ) from None
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise WireError("there is no /dev/net/tun: load the kernel's tun module (modprobe tun)") from None
    except OSError as error:
        raise WireError(f"can't open /dev/net/tun: {error.strerror}") from None
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if multi_queue else 0)
    try:
        fcntl.ioctl(fd, TUNSETIFF, _IFREQ.pack(encoded, flags))
        set_offloads(fd)
    except OSError as error:
        os.close(fd)
        raise WireError(_why_not(name, multi_queue, error)) from None
    except WireError:
        os.close(fd)
        raise
    return fd


def _why_not(name: str, multi_queue: bool, error: OSError) -> str:
    if error.errno == errno.EPERM:
        return f"no permission for TAP {name!r}: run as root, or make it yours: ip tuntap add {name} mode tap user NAME"
    if error.errno == errno.EBUSY:
        return f"TAP {name!r} is in use by another process"
    if error.errno == errno.EINVAL:
        made = "without" if multi_queue else "with"
        return f"{name!r} is no TAP, or one made {made} multi_queue (ip -details link show {name})"
    return f"can't attach to TAP {name!r}: {error.strerror}"


def set_offloads(fd: int) -> Accepts:
    """Asks for everything that may cross unfinished, less where the kernel refuses, and returns what it granted.

    Raises WireError if `fd` isn't a TAP with IFF_VNET_HDR (one handed in as `fd:N` may be anything).
    """
    try:
        raw = fcntl.ioctl(fd, TUNGETIFF, bytes(_IFREQ.size))
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("=i", _HEADER_LEN))
    except OSError as error:
        raise WireError(f"file descriptor {fd} is no TAP: {error.strerror}") from None
    flags = _IFREQ.unpack(raw)[1]
    if not flags & IFF_TAP or not flags & IFF_VNET_HDR or not flags & IFF_NO_PI:
        raise WireError(f"file descriptor {fd} must be a TAP (not TUN) opened with IFF_NO_PI and IFF_VNET_HDR")
    for ask, takes in OFFLOAD_STEPS:
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, ask)
        except OSError:
            continue
        return takes
    return Accepts.NONE


class TapWire(Endpoint):
    """A TAP's file descriptor as a wire. Owns `fd` and closes it.

    `link` is True while the descriptor works. A TAP that is deleted means link down for good. One that is merely set
    down (`ip link set … down`) keeps the link and loses what is sent, counted in `errors`, as a dead port of a
    switch would. Setting `accepts` skips asking the kernel, for descriptors that carry a virtio_net_hdr and frame a
    message but aren't TAPs (a SOCK_SEQPACKET pair). Raises WireError.
    """

    def __init__(self, fd: int, readers: Readers, name: str = "", accepts: Accepts | None = None) -> None:
        super().__init__(link=True)
        self.accepts = set_offloads(fd) if accepts is None else accepts
        self.name = name
        os.set_blocking(fd, False)
        self._fd = fd
        self._readers = readers
        self._arena = bytearray(_ARENA)
        self._view = memoryview(self._arena)
        self._reading = False
        self._writing = False
        self._asked = False

    def send(self, frames: Sequence[Frame]) -> int:
        fd = self._fd
        writev = os.writev
        for sent, (parts, offload, _) in enumerate(frames):
            header = _PLAIN if offload is NO_OFFLOAD else _HEADER.pack(*offload)
            try:
                if len(parts) < _IOV_MAX:
                    writev(fd, (header, *parts))
                else:
                    writev(fd, (header, b"".join(parts)))
            except OSError as error:
                if error.errno in _LATER:
                    self._want_write()
                    return sent
                # EIO: set down. EINVAL: not a frame to the kernel. Others: memory (host's or guest's). All: lost.
                self.errors += 1
                if error.errno in _GONE:
                    self.errors += len(frames) - sent - 1
                    self._gone()
                    break
        return len(frames)

    def receive(self, limit: int) -> Sequence[Frame]:
        self._asked = True
        fd = self._fd
        arena = self._arena
        view = self._view
        readv = os.readv
        unpack = _HEADER.unpack_from
        frames: list[Frame] = []
        at = 0
        for _ in range(limit):
            if at + _SLOT > _ARENA:
                break
            try:
                length = readv(fd, (view[at : at + _SLOT],))
            except OSError as error:
                if error.errno not in _LATER:
                    self._gone()
                break
            if length <= _HEADER_LEN or length == _SLOT:
                if length == 0:  # end of file: never of a TAP
                    self._gone()
                    break
                self.errors += 1
                continue
            frame = view[at + _HEADER_LEN : at + length]
            fields = unpack(arena, at)
            if fields[0] | fields[1] == 0:
                offload = NO_OFFLOAD
            elif fields[0] == DATA_VALID and fields[1] == GSO_NONE:
                offload = _GOOD
            else:
                checked = check_offload(fields, frame)
                if checked is None:
                    self.errors += 1
                    continue
                offload = checked
            frames.append(Frame((frame,), offload))
            at = (at + length + _ALIGN - 1) & -_ALIGN
        return frames

    def close(self) -> None:
        if not self._closed:
            super().close()
            self._stop_writing()
            os.close(self._fd)
            self._fd = -1

    def _watch(self) -> None:
        wanted = self._wanted and self.link
        if wanted and not self._reading:
            self._readers.add_reader(self._fd, self._readable)
        elif self._reading and not wanted:
            self._readers.remove_reader(self._fd)
        self._reading = wanted

    def _readable(self) -> None:
        self._asked = False
        self._ready()
        # An error of the descriptor shows in `receive`; a card that doesn't call it now would be woken without end.
        if not self._asked and self._reading and self._failed():
            self._gone()

    def _want_write(self) -> None:
        if not self._writing and self.link:
            self._writing = True
            self._readers.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        self._stop_writing()
        if self._failed():
            self._gone()
        self._ready()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._readers.remove_writer(self._fd)

    def _failed(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, 0)
        return any(events & (select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))

    def _gone(self) -> None:
        self._stop_writing()
        if self._reading:
            self._reading = False
            self._readers.remove_reader(self._fd)
        self._set_link(False)


def check_offload(fields: tuple[int, int, int, int, int, int], frame: memoryview) -> Offload | None:
    """The note of a received frame, or None if it doesn't fit the frame.

    `hdr_len` is worked out anew: the kernel's is only its count of linear bytes. A segment must come with
    NEEDS_CSUM, as Linux's own and GRO's do.
    """
    flags, gso_type, _, gso_size, csum_start, csum_offset = fields
    flags &= NEEDS_CSUM | DATA_VALID
    length = len(frame)
    if flags & NEEDS_CSUM and csum_start + csum_offset + 2 > length:
        return None
    kind = gso_type & ~GSO_ECN
    if kind == GSO_NONE:
        return Offload(flags, GSO_NONE, 0, 0, csum_start, csum_offset)
    if not flags & NEEDS_CSUM or gso_size == 0:
        return None
    if kind in (GSO_TCPV4, GSO_TCPV6):
        if csum_start + 20 > length:
            return None
        l4_len = (frame[csum_start + 12] >> 4) * 4
        if l4_len < 20:
            return None
    elif kind == GSO_UDP_L4:
        l4_len = 8
    else:
        return None
    hdr_len = csum_start + l4_len
    if hdr_len > length:
        return None
    return Offload(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)
