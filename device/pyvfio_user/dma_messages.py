"""DMA_READ and DMA_WRITE of the protocol specification: guest memory that only messages reach.

A call returns when the client has answered. Meanwhile `serve` handles what the client itself wants, and every reply is
out before the wait begins: the client may be unable to answer until it has its own.
"""

from __future__ import annotations

import errno
import logging
import select
import time
from collections.abc import Callable
from typing import Final

from pyvfio_user.connection import Message, pack_command
from pyvfio_user.device import DmaError
from pyvfio_user.link import QUEUE_LIMIT, Link
from pyvfio_user.logs import LimitedLog
from pyvfio_user.messages import DMA_ACCESS, Command

_MAX_NESTING: Final = 8
"""Waits within waits: an access served during one may ask for DMA itself."""

_log = LimitedLog(logging.getLogger(__name__))


class DmaMessages:
    """The `Transport` of one client. Commands go over `carrier`: the client's own link, or the twin of it.

    `serve` handles and answers what has arrived; `waited` is called after each wait, for what it has left to do.
    """

    def __init__(
        self, link: Link, serve: Callable[[], None], waited: Callable[[], None], timeout: float, max_transfer: int
    ) -> None:
        self.max_transfer = max_transfer
        self.carrier = link
        self._link = link
        self._serve = serve
        self._waited = waited
        self._timeout = timeout
        self._depth = 0
        self._answers: dict[int, Message | None] = {}  # by id: those that are waited for
        self._asked: dict[int, Callable[[bytes | None], None]] = {}  # and those that aren't
        self._unanswered = False

    @property
    def waiting(self) -> bool:
        """Whether the device is on the stack, waiting for memory."""
        return self._depth > 0

    def dma_read(self, addr: int, count: int) -> bytes:
        answer = self._exchange(Command.DMA_READ, addr, count, b"")
        return answer.payload[DMA_ACCESS.size :]

    def dma_write(self, addr: int, data: memoryview) -> None:
        self._exchange(Command.DMA_WRITE, addr, len(data), bytes(data))

    def ask(self, addr: int, count: int, answered: Callable[[bytes | None], None]) -> None:
        """A DMA_READ that nobody waits for: `answered` is called with the data, or None for an error."""
        msg_id = self._next_id()
        self._asked[msg_id] = answered
        self.carrier.send(pack_command(msg_id, Command.DMA_READ, DMA_ACCESS.pack(addr, count)))

    def reply(self, message: Message) -> None:
        """A reply has arrived, to one of our commands or to none."""
        self._unanswered = False
        if self._answers.get(message.msg_id, message) is None:
            self._answers[message.msg_id] = message
        elif (answered := self._asked.pop(message.msg_id, None)) is not None:
            answered(message.payload[DMA_ACCESS.size :] if not message.is_error else None)
        else:
            _log.log(logging.WARNING, "the client sent a reply to nothing, or too late (id %d)", message.msg_id)

    def _next_id(self) -> int:
        msg_id = self.carrier.connection.next_id()
        while msg_id in self._answers or msg_id in self._asked:
            msg_id = self.carrier.connection.next_id()
        return msg_id

    def _exchange(self, command: Command, addr: int, count: int, data: bytes) -> Message:
        if self._unanswered:
            raise DmaError(addr, count, "the client doesn't answer DMA messages")
        if self._depth >= _MAX_NESTING:
            raise DmaError(addr, count, "too many accesses within accesses")
        msg_id = self._next_id()
        self._answers[msg_id] = None
        self.carrier.send(pack_command(msg_id, command, DMA_ACCESS.pack(addr, count) + data))
        self._depth += 1
        try:
            answer = self._await(msg_id, addr, count)
        finally:
            self._depth -= 1
            del self._answers[msg_id]
            self._waited()
        if answer.is_error:
            raise DmaError(addr, count, f"refused by the client: {errno.errorcode.get(answer.error, answer.error)}")
        expected = DMA_ACCESS.size + (count if command == Command.DMA_READ else 0)
        if answer.command != command or (command == Command.DMA_READ and len(answer.payload) != expected):
            raise DmaError(addr, count, "the client's answer makes no sense")
        return answer

    def _await(self, msg_id: int, addr: int, count: int) -> Message:
        deadline = time.monotonic() + self._timeout
        while True:
            self._serve()
            answer = self._answers[msg_id]
            if answer is not None:
                return answer
            if self._link.lost or self.carrier.lost:
                raise DmaError(addr, count, "the client has gone")
            left = deadline - time.monotonic()
            if left <= 0:
                self._unanswered = True
                _log.log(logging.ERROR, "the client hasn't answered a DMA message for %g seconds", self._timeout)
                raise DmaError(addr, count, "the client doesn't answer DMA messages")
            self._wait(left)

    def _wait(self, seconds: float) -> None:
        """Until something can be received, or sent that couldn't before."""
        poll = select.poll()
        for link in {self._link, self.carrier}:
            poll.register(
                link.fd,
                (select.POLLIN if link.queued <= QUEUE_LIMIT else 0) | (select.POLLOUT if link.queued else 0),
            )
        ready = dict(poll.poll(seconds * 1000))
        for link in {self._link, self.carrier}:
            if ready.get(link.fd, 0) & ~select.POLLOUT:
                link.receive()
