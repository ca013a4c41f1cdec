"""The one table of everything that registers do beyond storing what is written: the card's reactions on a page.

`on_read` and `on_write` replace the storage; `after_write` stores as the register's masks say and then reacts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from igb_hw.registers import MAP

if TYPE_CHECKING:
    from igb_device.nic import Nic


def install(nic: Nic) -> None:
    """Fills the register file's tables."""
    regs, link, irq, rx, tx = nic.regs, nic.control, nic.interrupts, nic.rx, nic.tx
    ptp, nvm, phy = nic.ptp, nic.nvm, nic.phy

    reads: dict[str, Callable[[int], int]] = {
        # device
        "STATUS": link.read_status,
        "SWSM": link.read_swsm,
        "EEMNGCTL": link.read_eemngctl,
        "EECD": nvm.read_eecd,
        "EERD": nvm.read_eerd,
        "MDIC": phy.read_mdic,
        # interrupts
        "ICR": irq.read_icr,
        "ICS": irq.read_ics,
        "IMS": irq.read_ims,
        "IMC": _zero,
        "IAM": irq.read_iam,
        "EICR": irq.read_eicr,
        "EICS": irq.read_eics,
        "EIMS": irq.read_eims,
        "EIMC": _zero,
        "EIAC": irq.read_eiac,
        "EIAM": irq.read_eiam,
        "EITR": irq.read_eitr,
        "GPIE": irq.read_gpie,
        "IVAR": irq.read_ivar,
        "IVAR_MISC": irq.read_ivar_misc,
        # rings
        "RDH": rx.read_head,
        "RDT": rx.read_tail,
        "TDH": tx.read_head,
        "TDT": tx.read_tail,
        # clock
        "SYSTIML": ptp.read_low,
        "SYSTIMH": ptp.read_high,
    }
    writes: dict[str, Callable[[int, int], None]] = {
        "CTRL": link.write_ctrl,
        "STATUS": link.write_status,
        "EECD": nvm.write_eecd,
        "EERD": nvm.write_eerd,
        "MDIC": phy.write_mdic,
        "ICR": irq.write_icr,
        "ICS": irq.write_ics,
        "IMS": irq.write_ims,
        "IMC": irq.write_imc,
        "IAM": irq.write_iam,
        "EICR": irq.write_eicr,
        "EICS": irq.write_eics,
        "EIMS": irq.write_eims,
        "EIMC": irq.write_eimc,
        "EIAC": irq.write_eiac,
        "EIAM": irq.write_eiam,
        "EITR": irq.write_eitr,
        "GPIE": irq.write_gpie,
        "IVAR": irq.write_ivar,
        "IVAR_MISC": irq.write_ivar_misc,
        "RDH": rx.write_head,
        "RDT": rx.write_tail,
        "TDH": tx.write_head,
        "TDT": tx.write_tail,
        "TIMINCA": ptp.write_timinca,
        "SYSTIML": ptp.write_low,
        "SYSTIMH": ptp.write_high,
    }
    after: dict[str, Callable[[int], None]] = {
        # receive
        "RCTL": link.rctl_written,
        "RXCSUM": rx.configure,
        "RLPML": rx.configure,
        "RXPBS": rx.configure,
        "RFCTL": rx.steering_written,
        "VET": rx.configure,
        "CTRL_EXT": rx.configure,
        "RDBAL": rx.address_written,
        "RDBAH": rx.address_written,
        "RDLEN": rx.address_written,
        "RXDCTL": rx.control_written,
        "SRRCTL": rx.srrctl_written,
        "RAL": rx.filter_written,
        "RAH": rx.filter_written,
        "MTA": rx.filter_written,
        "VFTA": rx.filter_written,
        "MRQC": rx.steering_written,
        "RETA": rx.steering_written,
        "RSSRK": rx.steering_written,
        # transmit
        "TCTL": link.tctl_written,
        "TDBAL": tx.address_written,
        "TDBAH": tx.address_written,
        "TDLEN": tx.address_written,
        "TXDCTL": tx.control_written,
    }
    for name, read in reads.items():
        regs.on_read(name, read)
    for name, write in writes.items():
        regs.on_write(name, write)
    for name, call in after.items():
        regs.after_write(name, call)
    assert all(name in MAP for name in (*reads, *writes, *after))


def _zero(_: int) -> int:
    """Write-only registers."""
    return 0
