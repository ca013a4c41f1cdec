"""What all ends of a cable have in common: the card's two callbacks, the link state, pause and the count of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from igb_device.wire.base import Accepts, Frame

if TYPE_CHECKING:
    from igb_device.drops import DropReason


def _no_card() -> None:
    pass


def _no_card_for_link(_up: bool) -> None:
    pass


class Endpoint:
    """Base of the wires: everything of `Wire` but `send` and `receive`.

    A subclass says in `_watch` what is to be done when the card is plugged in, when `pause` changes and at `close`:
    it compares `_wanted` (is the card to be told of arriving frames?) with what it has registered.
    """

    accepts: Accepts = Accepts.NONE
    wants_verdicts: bool = False

    def __init__(self, link: bool = False) -> None:
        self.link = link
        self.errors = 0
        self._ready: Callable[[], None] = _no_card
        self._link_changed: Callable[[bool], None] = _no_card_for_link
        self._connected = False
        self._paused = False
        self._closed = False

    def connect(self, ready: Callable[[], None], link_changed: Callable[[bool], None]) -> None:
        self._ready = ready
        self._link_changed = link_changed
        self._connected = True
        self._watch()

    def pause(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            self._watch()

    def settled(self, frame: Frame, queue: int, reason: DropReason | None) -> None:
        pass

    def close(self) -> None:
        """Unplugs the card, which isn't called any more. Harmless when done twice."""
        if self._closed:
            return
        self._ready = _no_card
        self._link_changed = _no_card_for_link
        self._closed = True
        self._connected = False
        self.link = False
        self._watch()

    @property
    def _wanted(self) -> bool:
        return self._connected and not self._paused

    def _watch(self) -> None:
        pass

    def _set_link(self, up: bool) -> None:
        """Changes `link` and tells the card. May happen within the card's own `send` or `receive`."""
        if up != self.link:
            self.link = up
            self._link_changed(up)
