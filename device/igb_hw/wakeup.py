"""Wake up: 82576 datasheet, chapter 8.19. The flexible filters' tables are in manageability.py."""

from __future__ import annotations

from .register import Access, Register, field, unmodelled

RO, W1C = Access.RO, Access.W1C

WUC = Register(
    "WUC",
    0x5800,
    "Wake Up Control",
    "8.19",
    fields=(
        field("APME", 0, doc="wake by APM"),
        field("PME_EN", 1, doc="PME_En of the power management capability"),
        field("PME_STATUS", 2, access=W1C),
        field("APMPME", 3, doc="assert PME on APM wake-up"),
        field("SPM", 31),
    ),
)
_WAKE = ("LNKC", "MAG", "EX", "MC", "BC", "ARP", "IPV4", "IPV6")
WUFC = Register(
    "WUFC",
    0x5808,
    "Wake Up Filter Control",
    "8.19",
    fields=(
        *(field(name, bit) for bit, name in enumerate(_WAKE)),
        field("NS", 9),
        field("NS_DIRECTED", 10),
        field("NO_TCO", 15),
        *(field(f"FLX{n}", 16 + n) for n in range(6)),
    ),
)
WUS = Register(
    "WUS",
    0x5810,
    "Wake Up Status",
    "8.19",
    fields=(
        *(field(name, bit, access=W1C) for bit, name in enumerate(_WAKE)),
        field("MNG", 8, access=W1C),
        field("NS", 9, access=W1C),
        field("NS_DIRECTED", 10, access=W1C),
        *(field(f"FLX{n}", 16 + n, access=W1C) for n in range(6)),
    ),
)
IPAV = Register(
    "IPAV",
    0x5838,
    "IP Address Valid",
    "8.19",
    fields=(*(field(f"V4{n}", n) for n in range(4)), field("V60", 16)),
    modelled=False,
)
IP4AT = unmodelled("IP4AT", 0x5840, "IPv4 Address Table", "8.19", count=4, stride=8)
IP6AT = unmodelled("IP6AT", 0x5880, "IPv6 Address Table", "8.19", count=4)
WUPL = Register("WUPL", 0x5900, "Wake Up Packet Length", "8.19", fields=(field("LEN", 0, 12, RO),), modelled=False)
WUPM = unmodelled("WUPM", 0x5A00, "Wake Up Packet Memory", "8.19", RO, count=32)
