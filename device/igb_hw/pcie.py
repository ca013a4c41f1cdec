"""PCIe, and the semaphores between ports and firmware: 82576 datasheet, chapters 8.6 and 8.7.

Left out: what the analog and PLL registers do.
"""

from __future__ import annotations

from .register import Access, Register, field, unmodelled

RO, SC, RC = Access.RO, Access.SC, Access.RC

GCR = Register(
    "GCR",
    0x5B00,
    "PCIe Control",
    "8.6",
    reset=0x0285_0200,
    fields=(
        field("L0S_ADJUST", 9),
        field("CMPL_TMOUT", 12, 4, doc="completion timeout, for devices with a version 1 PCIe capability"),
        field("CMPL_TMOUT_RESEND", 16),
        field("CAP_VER2", 18, access=RO, doc="the PCIe capability is of version 2"),
        field("L1_ENTRY_LATENCY_MSB", 23),
        field("L1_ENTRY_LATENCY_LSB", 25),
        field("DEV_RST_IN_PROGRESS", 31, access=RO),
    ),
)
FUNCTAG = unmodelled("FUNCTAG", 0x5B08, "Function Tag", "8.6")
GSCL_1 = unmodelled("GSCL_1", 0x5B10, "PCIe Statistic Control #1", "8.6")
GSCL_2 = unmodelled("GSCL_2", 0x5B14, "PCIe Statistic Control #2", "8.6")
GSCL_3 = unmodelled("GSCL_3", 0x5B18, "PCIe Statistic Control #3", "8.6")
GSCL_4 = unmodelled("GSCL_4", 0x5B1C, "PCIe Statistic Control #4", "8.6")
GSCN = unmodelled("GSCN", 0x5B20, "PCIe Counter", "8.6", RO, count=4, also=("GSCN_0",))
FACTPS = Register(
    "FACTPS",
    0x5B30,
    "Function Active and Power State",
    "8.6",
    fields=(
        field("FUNC0_POWER_STATE", 0, 2, RO),
        field("LAN0_VALID", 2, access=RO),
        field("FUNC0_AUX_EN", 3, access=RO),
        field("FUNC1_POWER_STATE", 6, 2, RO),
        field("LAN1_VALID", 8, access=RO),
        field("FUNC1_AUX_EN", 9, access=RO),
        field("MNGCG", 29, access=RO, doc="management clock is gated"),
        field("LAN_FUNC_SEL", 30, access=RO),
        field("PM_STATE_CHANGED", 31, access=RC),
    ),
    reset=0x0000_0004,
)
GIOCTL = unmodelled("GIOCTL", 0x5B44, "PCIe Analog Control", "8.6", also=("GIOANACTL0",))
CCMCTL = unmodelled("CCMCTL", 0x5B48, "CCM Control", "8.6")
SCCTL = unmodelled("SCCTL", 0x5B4C, "PCIe PLL Configuration", "8.6")
PCIEMISC = unmodelled("PCIEMISC", 0x5BB8, "PCIe Miscellaneous", "8.6")
IOVCTL = Register(
    "IOVCTL",
    0x5BBC,
    "I/O Virtualisation Control",
    "8.14",
    fields=(field("REUSE_VFQ", 0, doc="VF queues belong to the PF while VFs are off"),),
    also=("IOVTCL",),
)
SWSM = Register(
    "SWSM",
    0x5B50,
    "Software Semaphore",
    "8.7",
    fields=(
        field("SMBI", 0, doc="read sets it: whoever read 0 owns it"),
        field("SWESMBI", 1, doc="write 1, and own the registers below once it reads 1"),
        field("WMNG", 2, access=SC, doc="wake the manageability clock"),
        field("EEUR", 3, access=SC, doc="update request for the EEPROM"),
    ),
)
FWSM = Register(
    "FWSM",
    0x5B54,
    "Firmware Semaphore",
    "8.7",
    fields=(
        field("EEP_FW_SEMAPHORE", 0),
        field("FW_MODE", 1, 3, doc="0: no firmware"),
        field("EEP_RELOAD_IND", 6),
        field("FW_VAL_BIT", 15, doc="the firmware's part is valid"),
        field("RESET_CNT", 16, 3),
        field("EXT_ERR_IND", 19, 6),
        field("PCIE_CONFIG_ERR_IND", 25),
        field("PHY_SERDES0_CONFIG_ERR_IND", 26),
        field("PHY_SERDES1_CONFIG_ERR_IND", 27),
    ),
)
SW_FW_SYNC = Register(
    "SW_FW_SYNC",
    0x5B5C,
    "Software-Firmware Synchronization",
    "8.7",
    fields=(
        field("SW_EEP_SM", 0),
        field("SW_PHY_SM0", 1),
        field("SW_PHY_SM1", 2),
        field("SW_MAC_CSR_SM", 3),
        field("SW_FLASH_SM", 4),
        field("SW_SVR_SM", 5),
        field("SW_MB_SM", 8),
        field("FW_EEP_SM", 16),
        field("FW_PHY_SM0", 17),
        field("FW_PHY_SM1", 18),
        field("FW_MAC_CSR_SM", 19),
        field("FW_FLASH_SM", 20),
    ),
)
