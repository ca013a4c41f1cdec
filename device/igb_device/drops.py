"""Why a frame did not arrive. Each reason is counted by the card, shown in captures, and mapped to the statistics
register that hardware bumps for it (datasheet section 8.18), where it has one."""

from __future__ import annotations

import enum


class DropReason(enum.Enum):
    """`(text, statistics register or "")`"""

    # receive
    RX_DISABLED = ("receiver disabled", "")
    LINK_DOWN = ("link down", "")
    NO_MATCH = ("no address filter matched", "")
    VLAN_FILTER = ("VLAN not in the filter table", "")
    TOO_LONG = ("longer than the receive limit", "ROC")
    BAD_FRAME = ("not an Ethernet frame", "RXERRC")
    BUFFER_FULL = ("packet buffer full", "MPC")
    RING_FULL = ("ring full and DROP_EN set", "RQDPC")
    QUEUE_OFF = ("queue not enabled", "MPC")
    RX_DMA = ("receive buffer or descriptor not in memory", "")
    # transmit
    TX_DMA = ("transmit buffer or descriptor not in memory", "")
    TX_BAD = ("malformed transmit descriptors", "")
    WIRE_ERROR = ("the wire refused the frame", "")

    @property
    def text(self) -> str:
        return self.value[0]

    @property
    def register(self) -> str:
        return self.value[1]
