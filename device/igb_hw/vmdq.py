"""Virtualisation as the PF sees it: 82576 datasheet, chapter 8.14, and the PF's view of each VF at 0x10000.

The VF's own page (BAR0 of a VF) is not part of this map.
"""

from __future__ import annotations

from typing import Any

from .interrupts import VECTORS
from .register import Access, Register, field

POOLS = 8
MAILBOX_WORDS = 16

VT_CTL = Register(
    "VT_CTL",
    0x581C,
    "VMDq Control",
    "8.14",
    fields=(
        field("DEFAULT_POOL", 7, 3, doc="pool of frames that no filter claims"),
        field("IGNORE_MAC", 28, doc="pools by VLAN alone"),
        field("DISABLE_DEF_POOL", 29, doc="drop frames that no filter claims"),
        field("VM_REPL_EN", 30, doc="replicate broadcasts and multicasts to all pools that want them"),
    ),
)
VFRE = Register("VFRE", 0x0C8C, "VF Receive Enable", "8.14", reset=0xFF, fields=(field("VFRE", 0, POOLS),))
VFTE = Register("VFTE", 0x0C90, "VF Transmit Enable", "8.14", reset=0xFF, fields=(field("VFTE", 0, POOLS),))
VMOLR = Register(
    "VMOLR",
    0x5AD0,
    "VM Offload",
    "8.14",
    count=POOLS,
    reset=0x8000_2600,
    fields=(
        field("RLPML", 0, 14, doc="longest packet, with LPE"),
        field("LPE", 16, doc="long packets"),
        field("RSSE", 17, doc="RSS within the pool"),
        field("AUPE", 24, doc="accept untagged packets"),
        field("ROMPE", 25, doc="accept multicasts by MTA"),
        field("ROPE", 26, doc="accept unicasts by UTA"),
        field("BAM", 27, doc="accept broadcasts"),
        field("MPME", 28, doc="multicast promiscuous"),
        field("STRVLAN", 30, doc="strip the VLAN tag"),
        field("STRCRC", 31, doc="strip the CRC"),
    ),
)
RPLOLR = Register(
    "RPLOLR",
    0x5AF0,
    "Replication Offload",
    "8.14",
    reset=0x8000_0000,
    fields=(field("STRVLAN", 30), field("STRCRC", 31)),
)
VLVF = Register(
    "VLVF",
    0x5D00,
    "VLAN VM Filter",
    "8.14",
    count=32,
    fields=(
        field("VLANID", 0, 12),
        field("POOLSEL", 12, POOLS, doc="a bit for each pool"),
        field("LVLAN", 20, doc="local: frames of this VLAN don't leave the switch"),
        field("VLANID_ENABLE", 31),
    ),
)
VMVIR = Register(
    "VMVIR",
    0x3700,
    "VM VLAN Insert",
    "8.14",
    count=POOLS,
    fields=(
        field("PORT_VLAN_ID", 0, 16),
        field("VLANA_DEFAULT", 30, doc="always insert PORT_VLAN_ID"),
        field("VLANA_NEVER", 31, doc="never insert a tag"),
    ),
)
DTXSWC = Register(
    "DTXSWC",
    0x3500,
    "DMA Transmit Switch Control",
    "8.14",
    fields=(
        field("MAC_SPOOF", 0, POOLS, doc="drop frames with a foreign source address"),
        field("VLAN_SPOOF", 8, POOLS, doc="drop frames of a foreign VLAN"),
        field("LLE", 16, POOLS, doc="let a pool send to itself"),
        field("LOOPBACK_EN", 31, doc="switch between pools", also=("VMDQ_LOOPBACK_EN",)),
    ),
)
TXSWC = Register("TXSWC", 0x5ACC, "Transmit Switch Control, of later parts", "8.14", modelled=False)
LVMMC = Register("LVMMC", 0x3548, "Last VM Misbehavior Cause", "8.14", access=Access.RC)
WVBR = Register("WVBR", 0x3554, "Wrong VM Behavior", "8.14", fields=(field("WVM", 0, 16, Access.RC),))
DVMOLR = Register(
    "DVMOLR", 0xC038, "DMA VM Offload, of later parts", "8.14", count=16, stride=0x40, access=Access.RSV, modelled=False
)
MBVFICR = Register(
    "MBVFICR",
    0x0C80,
    "Mailbox VF Interrupt Causes",
    "8.14",
    fields=(
        field("VFREQ", 0, POOLS, Access.W1C, "a VF sent a message"),
        field("VFACK", 16, POOLS, Access.W1C, "a VF took a message"),
    ),
)
MBVFIMR = Register(
    "MBVFIMR", 0x0C84, "Mailbox VF Interrupt Mask", "8.14", reset=0xFF, fields=(field("MBIM", 0, POOLS),)
)
VFLRE = Register("VFLRE", 0x0C88, "VF Level Reset Events", "8.14", fields=(field("VFLRE", 0, POOLS, Access.W1C),))
P2VMAILBOX = Register(
    "P2VMAILBOX",
    0x0C00,
    "PF to VF Mailbox",
    "8.14",
    count=POOLS,
    fields=(
        field("STS", 0, 1, Access.WO, "a message is there for the VF"),
        field("ACK", 1, 1, Access.WO, "the VF's message is taken"),
        field("VFU", 2, 1, Access.RO, "the VF owns the buffer"),
        field("PFU", 3, doc="the PF owns the buffer"),
        field("RVFU", 4, 1, Access.WO, "take the buffer from the VF"),
    ),
)
V2PMAILBOX = Register(
    "V2PMAILBOX",
    0x0C40,
    "VF to PF Mailbox",
    "8.14",
    count=POOLS,
    reset=0x40,
    fields=(
        field("REQ", 0, 1, Access.WO, "a message is there for the PF"),
        field("ACK", 1, 1, Access.WO, "the PF's message is taken"),
        field("VFU", 2, doc="the VF owns the buffer"),
        field("PFU", 3, 1, Access.RO, "the PF owns the buffer"),
        field("PFSTS", 4, 1, Access.RC, "the PF sent a message"),
        field("PFACK", 5, 1, Access.RC, "the PF took the message"),
        field("RSTI", 6, 1, Access.RO, "the PF is in reset"),
        field("RSTD", 7, 1, Access.RC, "the PF's reset has ended"),
    ),
)
VMBMEM = Register(
    "VMBMEM", 0x0800, "Mailbox memory: 16 words a VF, one VF after the other", "8.14", count=POOLS * MAILBOX_WORDS
)

SCCRL = Register("SCCRL", 0x5DB0, "Storm Control Control", "8.14", modelled=False)
BSCTRH = Register("BSCTRH", 0x5DB8, "Broadcast Storm Control Threshold", "8.14", modelled=False)
MSCTRH = Register("MSCTRH", 0x5DBC, "Multicast Storm Control Threshold", "8.14", modelled=False)
VMRCTL = Register("VMRCTL", 0x5D80, "Virtual Mirror Rule Control", "8.14", count=4, modelled=False)
VMRVLAN = Register("VMRVLAN", 0x5D90, "Virtual Mirror Rule VLAN", "8.14", count=4, modelled=False)
VMRVM = Register("VMRVM", 0x5DA0, "Virtual Mirror Rule VM", "8.14", count=4, modelled=False)


def _pv(name: str, at: int, doc: str, **more: Any) -> Register:
    return Register(name, 0x10000 + at, doc, "8.14", count=POOLS, stride=0x100, **more)


_VF_VECTORS = 3
assert _VF_VECTORS * POOLS < VECTORS  # the PF's own vector is left

PVTCTRL = _pv("PVTCTRL", 0x00, "PF view of a VF's Control", fields=(field("RST", 26, 1, Access.SC),), also=("VTCTRL",))
PVTEICS = _pv("PVTEICS", 0x20, "PF view of a VF's EICS", fields=(field("VECTOR", 0, _VF_VECTORS, Access.WO),))
PVTEIMS = _pv("PVTEIMS", 0x24, "PF view of a VF's EIMS", fields=(field("VECTOR", 0, _VF_VECTORS, Access.W1S),))
PVTEIMC = _pv("PVTEIMC", 0x28, "PF view of a VF's EIMC", fields=(field("VECTOR", 0, _VF_VECTORS, Access.WO),))
PVTEIAC = _pv("PVTEIAC", 0x2C, "PF view of a VF's EIAC", fields=(field("VECTOR", 0, _VF_VECTORS),))
PVTEIAM = _pv("PVTEIAM", 0x30, "PF view of a VF's EIAM", fields=(field("VECTOR", 0, _VF_VECTORS),))
PVTEICR = _pv("PVTEICR", 0x80, "PF view of a VF's EICR", fields=(field("VECTOR", 0, _VF_VECTORS, Access.RC_W1C),))
