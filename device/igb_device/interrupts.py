"""Interrupts (82576 datasheet section 7.3): causes, masks, vectors, throttling.

The causes ICR and EICR are state. Whether something is signalled is recomputed from them by `evaluate` after every
change, as a level; nothing else reaches the host. Two worlds share the registers:

* GPIE.Multiple_MSIX set and MSI-X enabled: a queue's cause goes through IVAR to an EICR bit, anything in ICR & IMS
  through IVAR_MISC to another; each bit of EICR & EIMS is an MSI-X vector of its own.
* otherwise: ICR & IMS drive one interrupt, which leaves as MSI-X vector 0, MSI or INTx, whichever PCI has enabled.

Left out: low-latency interrupts (IMIR), the TCP timer, queue causes in EICR without Multiple_MSIX.
"""

from __future__ import annotations

from collections.abc import Callable

from igb_device.clock import Clock, Timer
from igb_hw.registers import MAP
from pyvfio_user.device import Host, IrqMode

VECTORS = 25
VECTOR_MASK = (1 << VECTORS) - 1
INT_ASSERTED = 1 << 31

_GPIE = MAP["GPIE"]
NSICR = _GPIE["NSICR"]
MSIX_MODE = _GPIE["MSIX_MODE"]
EIAME = _GPIE["EIAME"]
_ICR = MAP["ICR"]
TXDW = _ICR["TXDW"]
LSC = _ICR["LSC"]
RXDMT0 = _ICR["RXDMT0"]
RXO = _ICR["RXO"]
RXT0 = _ICR["RXT0"]
MDAC = _ICR["MDAC"]

_CAUSES = MAP["ICS"].write_only  # the bits that exist
_EITR_INTERVAL = 0x7FFC
_EITR_LOW = 0x1FFFFF  # interval and low-latency fields; above them the counter
_EITR_COUNTER_SHIFT = 21
_EITR_CNT_IGNORE = 1 << 31


class Interrupts:
    """Everything between "a descriptor was written back" and "this vector fires"."""

    def __init__(self, clock: Clock, irq_mode: Callable[[], IrqMode], intx_disabled: Callable[[], bool]) -> None:
        self._clock = clock
        self._irq_mode = irq_mode
        self._intx_disabled = intx_disabled
        self._host: Host | None = None
        self._asserted = False  # the one interrupt of non-MSI-X mode
        self._line = False  # INTx, as the host knows it
        self._timer: Timer | None = None
        self._timer_due = 0
        self.eitr = [0] * VECTORS
        self.ready = [0] * VECTORS
        """When each vector may fire next (ns), by its throttle."""
        self.reset()

    def attach(self, host: Host | None) -> None:
        self._host = host
        self._line = False

    def reset(self) -> None:
        """Software reset: causes, masks and routes go; EITR and its counters survive it (datasheet 4.2.1.6.1)."""
        self.icr = self.ims = self.iam = 0
        self.eicr = self.eims = self.eiac = self.eiam = 0
        self.gpie = 0
        self.ivar = [0] * 8
        self.ivar_misc = 0
        self._rx_bit = [0] * 16
        self._tx_bit = [0] * 16
        self._other_bit = 0
        self._fired = 0  # vectors whose message for the present assertion has gone out
        if self._asserted:
            self._lower()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def power_on(self) -> None:
        """As `reset`, and throttling too."""
        self.reset()
        self.eitr = [0] * VECTORS
        self.ready = [0] * VECTORS

    def mode_changed(self) -> None:
        """PCI enabled another kind of interrupt: what is pending is signalled anew, by the new kind."""
        self._fired = 0
        self._asserted = False
        if self._irq_mode() is not IrqMode.INTX or self._intx_disabled():
            self._drive(False)

    # --- causes

    def rx(self, queue: int, causes: int = RXT0) -> None:
        """Descriptors of a receive queue were written back."""
        self.icr |= causes
        if self.gpie & MSIX_MODE:
            self.eicr |= self._rx_bit[queue]
        if causes & self.ims:
            self.eicr |= self._other_bit

    def tx(self, queue: int) -> None:
        """Descriptors of a transmit queue that asked for a report were written back."""
        self.icr |= TXDW
        if self.gpie & MSIX_MODE:
            self.eicr |= self._tx_bit[queue]
        if self.ims & TXDW:
            self.eicr |= self._other_bit

    def cause(self, bits: int) -> None:
        """Any other cause of ICR."""
        self.icr |= bits
        if bits & self.ims:
            self.eicr |= self._other_bit

    # --- registers

    def read_icr(self, _: int = 0) -> int:
        value = self.icr
        if self._asserted:
            value |= INT_ASSERTED
        if self.gpie & NSICR or self.ims == 0 or self._asserted:
            self.icr = 0
            if self._asserted:
                self.ims &= ~self.iam
                self._lower()
        return value

    def write_icr(self, _: int, value: int) -> None:
        self.icr &= ~value
        if self._asserted:
            self.ims &= ~self.iam
            self._lower()

    def _lower(self) -> None:
        """The handler has been here: what is still pending is signalled anew. INTx falls at once, because the
        client takes the access that just ended as the end of interrupt and would see a line still high."""
        self._asserted = False
        if not self.icr & self.ims:
            self._drive(False)

    def _drive(self, level: bool) -> None:
        """Sets the INTx line."""
        if level != self._line and self._host is not None:
            self._line = level
            self._host.intx(level)

    def write_ics(self, _: int, value: int) -> None:
        self.cause(value & _CAUSES)

    def read_ics(self, _: int) -> int:
        """ICR without the effects of reading it."""
        return self.icr | (INT_ASSERTED if self._asserted else 0)

    def read_ims(self, _: int) -> int:
        return self.ims

    def write_ims(self, _: int, value: int) -> None:
        new = value & ~self.ims & _CAUSES
        self.ims |= new
        if self.icr & new:
            self.eicr |= self._other_bit

    def write_imc(self, _: int, value: int) -> None:
        self.ims &= ~value
        if self._asserted and not self.icr & self.ims:
            self._lower()

    def read_iam(self, _: int) -> int:
        return self.iam

    def write_iam(self, _: int, value: int) -> None:
        self.iam = value & _CAUSES

    def read_eicr(self, _: int) -> int:
        value = self.eicr
        if not self.gpie & MSIX_MODE:
            self.eicr = 0
        if not self.gpie & EIAME:
            self.eims &= ~self.eiam
        return value

    def write_eicr(self, _: int, value: int) -> None:
        self.eicr &= ~value
        if not self.gpie & EIAME:
            self.eims &= ~self.eiam

    def write_eics(self, _: int, value: int) -> None:
        self.eicr |= value & VECTOR_MASK

    def read_eics(self, _: int) -> int:
        """EICR without the effects of reading it."""
        return self.eicr

    def read_eims(self, _: int) -> int:
        return self.eims

    def write_eims(self, _: int, value: int) -> None:
        self.eims |= value & VECTOR_MASK

    def write_eimc(self, _: int, value: int) -> None:
        self.eims &= ~value

    def read_eiac(self, _: int) -> int:
        return self.eiac

    def write_eiac(self, _: int, value: int) -> None:
        self.eiac = value & VECTOR_MASK

    def read_eiam(self, _: int) -> int:
        return self.eiam

    def write_eiam(self, _: int, value: int) -> None:
        self.eiam = value & VECTOR_MASK

    def read_gpie(self, _: int) -> int:
        return self.gpie

    def write_gpie(self, _: int, value: int) -> None:
        if (value ^ self.gpie) & MSIX_MODE and self._asserted:
            self._lower()
        self.gpie = value & _GPIE.writable
        self._route()

    def read_ivar(self, i: int) -> int:
        return self.ivar[i]

    def write_ivar(self, i: int, value: int) -> None:
        self.ivar[i] = value & 0x9F9F9F9F
        self._route()

    def read_ivar_misc(self, _: int) -> int:
        return self.ivar_misc

    def write_ivar_misc(self, _: int, value: int) -> None:
        self.ivar_misc = value & 0x9F9F
        self._route()

    def _route(self) -> None:
        """IVAR to masks: queue q's entry is in column q & 7, queues 8 and up in the upper half (section 7.3.1)."""

        def bit(entry: int) -> int:
            return 1 << (entry & 0x1F) & VECTOR_MASK if entry & 0x80 else 0

        for queue in range(16):
            shift = 16 if queue >= 8 else 0
            self._rx_bit[queue] = bit(self.ivar[queue & 7] >> shift)
            self._tx_bit[queue] = bit(self.ivar[queue & 7] >> (shift + 8))
        self._other_bit = bit(self.ivar_misc >> 8) if self.gpie & MSIX_MODE else 0

    def read_eitr(self, i: int) -> int:
        left = max(0, self.ready[i] - self._clock.now()) // 1000
        return self.eitr[i] | min(left >> 2, 0x3FF) << _EITR_COUNTER_SHIFT

    def write_eitr(self, i: int, value: int) -> None:
        """Bits 14:2 are the interval in µs; the counter above is loaded too unless CNT_INGR says to leave it."""
        self.eitr[i] = value & _EITR_LOW
        if not value & _EITR_CNT_IGNORE:
            counter_us = (value >> _EITR_COUNTER_SHIFT & 0x3FF) << 2
            self.ready[i] = self._clock.now() + counter_us * 1000

    # --- signalling

    def evaluate(self) -> None:
        """Signals what the causes, masks and throttles of this moment ask for. Called once after every batch."""
        host = self._host
        if host is None:
            return
        mode = self._irq_mode()
        if self.gpie & MSIX_MODE and mode is IrqMode.MSIX:
            level = self.eicr & self.eims
            self._fired &= level
            pending = level & ~self._fired
            if pending:
                self._fire_vectors(host, pending)
        else:
            self._evaluate_single(host, mode)

    def _fire_vectors(self, host: Host, pending: int) -> None:
        now = self._clock.now()
        auto_mask = self.eiam if self.gpie & EIAME else 0
        while pending:
            bit = pending & -pending
            pending ^= bit
            vector = bit.bit_length() - 1
            if now < self.ready[vector]:
                self._wake_at(self.ready[vector])
                continue
            self.ready[vector] = now + ((self.eitr[vector] & _EITR_INTERVAL) >> 2) * 1000
            self._fired |= bit
            self.eicr &= ~(bit & self.eiac)
            self.eims &= ~(bit & auto_mask)
            self._fired &= self.eicr & self.eims
            host.interrupt(vector)

    def _evaluate_single(self, host: Host, mode: IrqMode) -> None:
        level = self.icr & self.ims != 0
        if not level:
            self._asserted = False
        elif not self._asserted:
            now = self._clock.now()
            if now < self.ready[0]:
                self._wake_at(self.ready[0])
            else:
                self.ready[0] = now + ((self.eitr[0] & _EITR_INTERVAL) >> 2) * 1000
                self._asserted = True
                if mode is not IrqMode.INTX:
                    host.interrupt(0)
        if mode is IrqMode.INTX:
            self._drive(self._asserted and not self._intx_disabled())

    def _wake_at(self, when: int) -> None:
        if self._timer is not None:
            if self._timer_due <= when:
                return
            self._timer.cancel()
        self._timer_due = when
        self._timer = self._clock.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.evaluate()
