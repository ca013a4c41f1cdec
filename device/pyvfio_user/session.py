"""One client of a server: its stream, and the order of things.

Order: everything that has arrived is handled, the replies go out together, and only then the device works
(`PciDevice.process`). A client whose reply is being awaited by a whole virtual machine is never kept waiting for DMA,
which that machine may be unable to serve until it has the reply.

A client that doesn't read its replies isn't read itself, so neither its commands nor its replies pile up.

While DMA by messages waits for the client's answer, its commands are served, so handlers can be entered from inside
`process`; `process` itself isn't. A client that goes away meanwhile is cleaned up once the device has returned.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyvfio_user.capabilities import Capabilities, MigrationCapability, decode_version, encode_version
from pyvfio_user.commands import Commands, Reply, guarded
from pyvfio_user.connection import HEADER_ROOM, Message, ProtocolError, pack_error, pack_reply
from pyvfio_user.device import PciDevice, Reset
from pyvfio_user.dirty import MAX_BITMAP
from pyvfio_user.dma import DmaTable
from pyvfio_user.dma_messages import DmaMessages
from pyvfio_user.host import ClientHost
from pyvfio_user.io_events import IoEvents
from pyvfio_user.irq import Irqs
from pyvfio_user.link import QUEUE_LIMIT, Link
from pyvfio_user.logs import LimitedLog
from pyvfio_user.loop import EventLoop
from pyvfio_user.messages import MAJOR, MINOR, NO_REPLY, NUM_REGIONS, REGION_ACCESS, REGION_ROM, Command
from pyvfio_user.share_check import ShareCheck

_MAX_FDS: Final = 16  # QEMU refuses a server that says more
_READ: Final = int(Command.REGION_READ)
_WRITE: Final = int(Command.REGION_WRITE)
_ACCESS_SIZE: Final = REGION_ACCESS.size
_SHORT: Final = 8  # bytes: the accesses that go the fast way, a register's
_unpack_access = REGION_ACCESS.unpack_from

_log = LimitedLog(logging.getLogger(__name__))


@dataclass(frozen=True, slots=True)
class Options:
    """How a server treats its clients."""

    dma_timeout: float = 5.0
    """Seconds after which a DMA message counts as failed."""
    max_transfer: int = 1 << 20
    """Most bytes of data in one message, offered as max_data_xfer_size."""
    max_maps: int = 65535
    map_unsealed: bool = False
    """Map guest memory whose file the client could shrink: fast, but then the client can kill this process."""
    check_shared: bool = True
    """Look for guest memory that isn't really shared. Only clients that offer write_multiple, as QEMU does, are asked:
    some others can't take a command from the server."""
    twin_socket: bool = True
    """Put the server's commands on a socket of their own where the client offers that."""


class Session:
    """Serves one client until it leaves; then `lost` is called, once, with the reason."""

    def __init__(
        self, sock: socket.socket, device: PciDevice, loop: EventLoop, options: Options, lost: Callable[[str], None]
    ) -> None:
        self.negotiated = False
        self._device = device
        self._loop = loop
        self._options = options
        self._lost = lost
        self._link = Link(sock)
        self._link.connection.max_message = options.max_transfer + HEADER_ROOM
        self._twin: Link | None = None
        self._dma = DmaMessages(self._link, self._serve, self._run_later, options.dma_timeout, options.max_transfer)
        self._table = DmaTable(options.max_maps, options.map_unsealed)
        self._irqs = Irqs(device.irq_counts, loop)
        self._io_events = IoEvents(loop, self._io_event)
        self._host = ClientHost(device, self._table, self._irqs, self._dma)
        self._commands = Commands(device, self._host, self._table, self._irqs, self._io_events, options.max_transfer)
        self._read_sizes = [0] * NUM_REGIONS  # of the regions, once VERSION permits access to them
        self._write_sizes = [0] * NUM_REGIONS
        self._check: ShareCheck | None = None
        self._attached = False
        self._busy = False  # inside _run, at whose end it is seen what has changed
        self._closed = False
        self._run_asked = False
        self._reading = True
        self._writing = False
        loop.add_reader(self._link.fd, self._readable)

    @property
    def irqs(self) -> Irqs:
        """The client's interrupts, for ERR and REQ, which no device signals itself."""
        return self._irqs

    def close_if_left(self) -> None:
        """Ends the session if the client has closed its end, even with messages of it unread: before another is
        turned away for one that has gone."""
        poll = select.poll()
        poll.register(self._link.fd, 0)
        if poll.poll(0):
            self.close("the peer closed")

    def close(self, reason: str) -> None:
        """Ends the session and frees everything; the device gets its reset. Where the device is just working, that
        happens once it has returned."""
        if self._closed:
            return
        if self._busy or self._dma.waiting:
            self._link.lost = self._link.lost or reason
            self._run_later()
            return
        self._closed = True
        for link in (self._link, self._twin):
            if link is not None:
                self._loop.remove_reader(link.fd)
                self._loop.remove_writer(link.fd)
                link.close()
        self._host.revoke()
        if self._attached:
            self._tell_device(self._device.detach)
        self._table.clear()
        self._irqs.close()
        self._io_events.close()
        if self._attached:
            self._tell_device(self._device.reset, Reset.LOST_CLIENT)
        self._lost(reason)

    # --- Turns ---

    def _readable(self) -> None:
        self._link.receive()
        self._run()

    def _run(self) -> None:
        """Handles what has arrived, answers it, lets the device work."""
        if self._closed or self._busy:
            return
        self._busy = True
        link = self._link
        try:
            self._serve()
            if self.negotiated and not link.lost and link.queued <= QUEUE_LIMIT:
                migration = self._commands.migration
                if migration is None or migration.running:
                    self._tell_device(self._device.process)
                if self._check is not None and self._host.bus_master:
                    self._check.step()
                self._flush()
        finally:
            self._busy = False
            if link.lost or (self._twin is not None and self._twin.lost):
                self.close(link.lost or "the twin socket was closed")
            elif link.queued or self._writing:
                self._balance()

    def _run_later(self) -> None:
        """A turn is needed although nothing may arrive."""
        if not self._run_asked:
            self._run_asked = True
            self._loop.call_at(0, self._run_asked_for)

    def _run_asked_for(self) -> None:
        self._run_asked = False
        self._run()

    def _serve(self) -> None:
        """Handles and answers what has arrived, as long as the client takes the answers."""
        while self._handle() and self._flush():
            pass
        self._flush()

    def _flush(self) -> bool:
        """Sends what can be sent. True if there's room for more."""
        self._link.flush()
        if self._twin is not None:
            self._twin.flush()
        return self._link.queued <= QUEUE_LIMIT

    def _balance(self) -> None:
        """Waits for the socket to take more while it is full; doesn't read while too much waits to be sent."""
        link = self._link
        if bool(link.queued) != self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(link.fd, self._run)
            else:
                self._loop.remove_writer(link.fd)
        if (link.queued <= QUEUE_LIMIT) != self._reading:
            self._reading = not self._reading
            if self._reading:
                self._loop.add_reader(link.fd, self._readable)
            else:
                self._loop.remove_reader(link.fd)

    def _tell_device(self, call: Callable[..., None], *args: object) -> None:
        try:
            guarded(call, *args)
        except OSError:
            pass  # logged

    def _twin_readable(self) -> None:
        twin = self._twin
        assert twin is not None
        twin.receive()
        self._handle_twin(twin)
        self._run()

    def _io_event(self, region: int, offset: int, data: bytes) -> None:
        self._tell_device(self._device.region_write, region, offset, data)
        self._run_later()

    # --- Messages ---

    def _handle(self) -> bool:
        """Handles complete messages. True if it stopped only because the queue of replies is full."""
        link = self._link
        device = self._device
        next_message = link.connection.next_message
        read_sizes = self._read_sizes
        write_sizes = self._write_sizes
        if self._twin is not None:
            self._handle_twin(self._twin)
        try:
            while link.queued <= QUEUE_LIMIT and not link.lost:
                message = next_message()
                if message is None:
                    return False
                msg_id, command, flags, _, payload, fds = message
                # A register access is the common case; everything else, and whatever is wrong, goes the general way.
                if command == _READ:
                    if len(payload) == _ACCESS_SIZE and not flags and not fds:
                        offset, region, count = _unpack_access(payload)
                        if region <= REGION_ROM and 0 < count <= _SHORT and offset + count <= read_sizes[region]:
                            try:
                                data = device.region_read(region, offset, count)
                            except Exception:
                                self._access_failed(message)
                                continue
                            if len(data) == count:
                                link.send(pack_reply(msg_id, _READ, payload + data))
                                continue
                elif command == _WRITE and len(payload) > _ACCESS_SIZE and not fds and not flags & ~NO_REPLY:
                    offset, region, count = _unpack_access(payload)
                    if (
                        region <= REGION_ROM
                        and len(payload) - _ACCESS_SIZE == count <= _SHORT
                        and offset + count <= write_sizes[region]
                    ):
                        try:
                            device.region_write(region, offset, payload[_ACCESS_SIZE:])
                        except Exception:
                            self._access_failed(message)
                            continue
                        if not flags:
                            link.send(pack_reply(msg_id, _WRITE, payload[:_ACCESS_SIZE]))
                        continue
                self._command(message)
        except ProtocolError as error:
            link.lost = link.lost or f"broken framing: {error}"
        return not link.lost

    def _handle_twin(self, twin: Link) -> None:
        try:
            while (message := twin.connection.next_message()) is not None:
                message.close_fds()
                if message.is_reply:
                    self._dma.reply(message)
                else:
                    _log.log(logging.WARNING, "the client sent a command over the twin socket")
        except ProtocolError as error:
            twin.lost = twin.lost or f"broken framing on the twin socket: {error}"

    def _command(self, message: Message) -> None:
        """Handles any message, and closes those of its descriptors that aren't kept."""
        if message.is_reply:
            message.close_fds()
            self._dma.reply(message)
            return
        command = message.command
        result: Reply
        try:
            if not self.negotiated or command == Command.VERSION:
                result = self._version(message)
            elif (handler := self._commands.handlers.get(command)) is not None:
                result = handler(message)
            else:
                raise OSError(errno.EINVAL, "unknown or not negotiated")
        except OSError as error:
            _log.log(logging.WARNING, "command %s refused: %s", _name(command), error.strerror or error)
            if message.wants_reply:
                self._link.send(pack_error(message.msg_id, command, error.errno or errno.EINVAL))
            if not self.negotiated:
                self._flush()
                self._link.lost = self._link.lost or "it didn't begin with an acceptable VERSION"
        else:
            if message.wants_reply:
                payload, fds = result if isinstance(result, tuple) else (result, None)
                reply = pack_reply(message.msg_id, command, payload)
                if fds:
                    self._link.send_fds(reply, fds)
                else:
                    self._link.send(reply)
        finally:
            message.close_fds()

    def _access_failed(self, message: Message) -> None:
        """The device has raised in a register access."""
        _log.log(logging.ERROR, "the device failed in %s", _name(message.command), exc_info=True)
        if message.wants_reply:
            self._link.send(pack_error(message.msg_id, message.command, errno.EIO))

    # --- VERSION ---

    def _version(self, message: Message) -> tuple[bytes, list[int]]:
        """Negotiates, and attaches the device."""
        if self.negotiated:
            raise OSError(errno.EINVAL, "VERSION again")
        if message.command != Command.VERSION:
            raise OSError(errno.EINVAL, "the first message must be VERSION")
        try:
            major, minor, theirs = decode_version(message.payload)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None
        if major != MAJOR:
            raise OSError(errno.EINVAL, f"version {major}.{minor}")
        twin = self._options.twin_socket and theirs.twin_socket and theirs.max_msg_fds > 0
        ours = Capabilities(
            max_msg_fds=_MAX_FDS,
            max_data_xfer_size=min(self._options.max_transfer, theirs.max_data_xfer_size),
            max_dma_maps=min(self._options.max_maps, theirs.max_dma_maps),
            twin_socket=twin,
            twin_fd_index=0 if twin else None,
            write_multiple=theirs.write_multiple,
            migration=MigrationCapability(max_bitmap_size=MAX_BITMAP),
        )
        self._dma.max_transfer = ours.max_data_xfer_size
        self._commands.peer_fds = theirs.max_msg_fds
        if theirs.write_multiple:
            self._commands.permit_write_multi()
        self._attached = True
        guarded(self._device.attach, self._host)
        self.negotiated = True
        self._host.refresh()
        self._read_sizes[:] = self._commands.read_sizes
        self._write_sizes[:] = self._commands.write_sizes
        if self._options.check_shared and theirs.write_multiple:
            self._check = self._host.probe = ShareCheck(self._dma.ask, self._host.peek, self._loop.now)
        fds = [self._open_twin()] if twin else []
        return encode_version(MAJOR, min(minor, MINOR), ours, theirs.offered), fds

    def _open_twin(self) -> int:
        """Moves our commands to a socket of their own; returns the client's end."""
        mine, peers = socket.socketpair()
        self._twin = self._dma.carrier = Link(mine)
        self._loop.add_reader(self._twin.fd, self._twin_readable)
        return peers.detach()


def _name(command: int) -> str:
    try:
        return Command(command).name
    except ValueError:
        return str(command)
