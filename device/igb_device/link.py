"""The link (82576 datasheet sections 3.5.7 and 8.2.2): PHY, autonegotiation and the MAC's view of it in STATUS.

There is link when the wire has a live far end, the PHY is powered and has finished autonegotiation (or isn't doing
any), and CTRL.SLU lets the MAC see it. Loopback inside the PHY is link without any wire.

Simplified: the far end always negotiates 1000 Mb/s full duplex with symmetric PAUSE, in `AUTONEG_NS` instead of
seconds; a forced speed is kept in the registers but slows nothing down.
"""

from __future__ import annotations

from collections.abc import Callable

from igb_device.clock import Clock, Timer

AUTONEG_NS = 2_000_000
"""How long autonegotiation takes. Hardware needs 2 to 4 s; a guest's boot shouldn't."""


class Link:
    """`up` is the MAC's link; `changed(up)` is called when it goes up or down."""

    def __init__(self, clock: Clock, changed: Callable[[bool], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._timer: Timer | None = None
        self.wire = False
        """The far end is alive."""
        self.loopback = False
        """The PHY is in loopback."""
        self.powered = True
        """The PHY is neither powered down nor held in reset."""
        self.autoneg = True
        """Autonegotiation is enabled."""
        self.negotiated = False
        """Autonegotiation has completed."""
        self.set_up = True
        """CTRL.SLU."""
        self.up = False
        self.latched_down = True
        """The PHY has seen no link since its status was last read (BMSR.LSTATUS latches low)."""

    @property
    def phy_up(self) -> bool:
        """The PHY's link, whatever the MAC makes of it."""
        if not self.powered:
            return False
        return self.loopback or (self.wire and (self.negotiated or not self.autoneg))

    def restart(self) -> None:
        """Autonegotiation begins anew, if it's enabled and there's somebody to negotiate with."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.negotiated = False
        if self.wire and self.powered and self.autoneg and not self.loopback:
            self._timer = self._clock.call_at(self._clock.now() + AUTONEG_NS, self._done)
        self.update()

    def _done(self) -> None:
        self._timer = None
        self.negotiated = True
        self.update()

    def wire_changed(self, alive: bool) -> None:
        """The far end came or went."""
        self.wire = alive
        self.restart()

    def update(self) -> None:
        """Recomputes `up` after anything it depends on has changed."""
        if not self.phy_up:
            self.latched_down = True
        up = self.phy_up and self.set_up
        if up != self.up:
            self.up = up
            self._changed(up)

    def read_status(self) -> bool:
        """The PHY's link as BMSR tells it: down once after every loss."""
        link = self.phy_up and not self.latched_down
        self.latched_down = not self.phy_up
        return link
