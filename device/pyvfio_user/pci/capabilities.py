"""Capabilities of PCI configuration space: layouts, and functions that fill them in with what a device has.

PM (PCI Bus Power Management 1.2, 3.2), MSI and MSI-X (PCI Local Bus 3.0, 6.8), VPD (6.4 and appendix I), PCI Express
(PCIe Base 3.0, 7.8, of an endpoint), AER (7.10), Device Serial Number (7.12). Left out: 32-bit and unmaskable MSI,
the bridges' parts of PM and PCI Express, AER's TLP prefix log and root registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from construct import Padding, Struct

from pyvfio_user.pci.layout import Access, Layout, bits, number, register, reserved

RO, ROS, RW, RWS, W1C, W1CS = Access.RO, Access.ROS, Access.RW, Access.RWS, Access.W1C, Access.W1CS


@dataclass(frozen=True, slots=True)
class Capability:
    """One capability: `layout` is what follows its header, `values` its reset values by field name.

    `at` is its offset in configuration space, None for the next free one. `name` is what `PciConfig` calls it by.
    """

    name: str
    id: int
    layout: Layout
    values: Mapping[str, Any]
    at: int | None = None
    extended: bool = False
    version: int = 1
    """Of an extended capability."""
    contents: bytes = b""
    """VPD: what is read through its registers. Vendor-specific: its bytes."""
    writable: range = field(default=range(0))
    """VPD: the part of `contents` that software may write."""

    @property
    def header_size(self) -> int:
        return 4 if self.extended else 2

    @property
    def size(self) -> int:
        return self.header_size + self.layout.sizeof()


POWER_MANAGEMENT = Struct(
    "pmc"
    / register(
        "version" / bits(3),
        "pme_clock" / bits(1),
        reserved(1),
        "device_specific_init" / bits(1),
        "aux_current" / bits(3),
        "d1" / bits(1),
        "d2" / bits(1),
        "pme_support" / bits(5),
    ),
    "pmcsr"
    / register(
        "power_state" / bits(2, RW),
        reserved(1),
        "no_soft_reset" / bits(1),
        reserved(4),
        "pme_enable" / bits(1, RWS),
        "data_select" / bits(4),
        "data_scale" / bits(2),
        "pme_status" / bits(1, W1CS),
    ),
    Padding(1),
    "data" / number(8),
)


def power_management(
    *,
    pme_support: int = 0b11001,
    aux_current: int = 0,
    d1: bool = False,
    d2: bool = False,
    no_soft_reset: bool = False,
    device_specific_init: bool = False,
    at: int | None = None,
) -> Capability:
    """PM, version 3. `pme_support` has a bit each for D0, D1, D2, D3hot and D3cold: without any, Linux offers no
    wake on LAN. `aux_current` is the encoded 3.3 V auxiliary current."""
    return Capability(
        "pm",
        0x01,
        POWER_MANAGEMENT,
        {
            "pmc": {
                "version": 3,
                "device_specific_init": int(device_specific_init),
                "aux_current": aux_current,
                "d1": int(d1),
                "d2": int(d2),
                "pme_support": pme_support,
            },
            "pmcsr": {"no_soft_reset": int(no_soft_reset)},
        },
        at,
    )


def _msi_layout(vectors: int) -> Layout:
    # Only the mask bits of vectors that exist are writable.
    return Struct(
        "control"
        / register(
            "enable" / bits(1, RW),
            "capable" / bits(3),
            "enabled" / bits(3, RW),
            "address64" / bits(1),
            "maskable" / bits(1),
            reserved(7),
        ),
        "address" / register(reserved(2), "low" / bits(30, RW)),
        "address_high" / number(32, RW),
        "data" / number(16, RW),
        Padding(2),
        "mask" / register("vectors" / bits(vectors, RW), *((reserved(32 - vectors),) if vectors < 32 else ())),
        "pending" / number(32),
    )


def msi(vectors: int = 1, *, at: int | None = None) -> Capability:
    """MSI with 64-bit addresses and a mask bit a vector; `vectors` is a power of two up to 32. Raises ValueError.

    The pending bits stay 0: a server's interrupts pend in the host.
    """
    if vectors not in (1, 2, 4, 8, 16, 32):
        raise ValueError(f"MSI has 1, 2, 4, 8, 16 or 32 vectors, not {vectors}")
    control = {"capable": vectors.bit_length() - 1, "address64": 1, "maskable": 1}
    return Capability("msi", 0x05, _msi_layout(vectors), {"control": control}, at)


MSIX = Struct(
    "control"
    / register(
        "table_size" / bits(11),
        reserved(3),
        "function_mask" / bits(1, RW),
        "enable" / bits(1, RW),
    ),
    "table" / register("bir" / bits(3), "offset" / bits(29)),
    "pba" / register("bir" / bits(3), "offset" / bits(29)),
)


def msix(
    vectors: int, *, table_bar: int, table_offset: int, pba_bar: int, pba_offset: int, at: int | None = None
) -> Capability:
    """MSI-X; offsets in bytes into the BARs, multiples of 8. Raises ValueError."""
    if not 1 <= vectors <= 2048:
        raise ValueError(f"MSI-X has 1 to 2048 vectors, not {vectors}")
    if table_offset % 8 or pba_offset % 8:
        raise ValueError("the offsets of MSI-X's table and PBA are multiples of 8")
    return Capability(
        "msix",
        0x11,
        MSIX,
        {
            "control": {"table_size": vectors - 1},
            "table": {"bir": table_bar, "offset": table_offset >> 3},
            "pba": {"bir": pba_bar, "offset": pba_offset >> 3},
        },
        at,
    )


# Fields marked RWS that aren't sticky by type are those that section 6.6.2 exempts from a function level reset.
PCI_EXPRESS = Struct(
    "capabilities"
    / register("version" / bits(4), "type" / bits(4), "slot" / bits(1), "interrupt_message" / bits(5), reserved(2)),
    "device_capabilities"
    / register(
        "max_payload" / bits(3),
        "phantom_functions" / bits(2),
        "extended_tag" / bits(1),
        "l0s_latency" / bits(3),
        "l1_latency" / bits(3),
        reserved(3),
        "role_based_errors" / bits(1),
        reserved(2),
        "slot_power_value" / bits(8),
        "slot_power_scale" / bits(2),
        "function_level_reset" / bits(1),
        reserved(3),
    ),
    "device_control"
    / register(
        "correctable_reporting" / bits(1, RW),
        "nonfatal_reporting" / bits(1, RW),
        "fatal_reporting" / bits(1, RW),
        "unsupported_reporting" / bits(1, RW),
        "relaxed_ordering" / bits(1, RW),
        "max_payload" / bits(3, RWS),
        "extended_tag" / bits(1, RW),
        "phantom_functions" / bits(1),
        "aux_power" / bits(1, RWS),
        "no_snoop" / bits(1, RW),
        "max_read_request" / bits(3, RW),
        "initiate_reset" / bits(1, Access.TRIGGER),
    ),
    "device_status"
    / register(
        "correctable" / bits(1, W1C),
        "nonfatal" / bits(1, W1C),
        "fatal" / bits(1, W1C),
        "unsupported" / bits(1, W1C),
        "aux_power" / bits(1),
        "transactions_pending" / bits(1),
        reserved(10),
    ),
    "link_capabilities"
    / register(
        "max_speed" / bits(4),
        "max_width" / bits(6),
        "aspm" / bits(2),
        "l0s_exit_latency" / bits(3),
        "l1_exit_latency" / bits(3),
        "clock_pm" / bits(1),
        reserved(3),
        "aspm_optionality" / bits(1),
        reserved(1),
        "port" / bits(8),
    ),
    "link_control"
    / register(
        "aspm" / bits(2, RWS),
        reserved(1),
        "read_completion_boundary" / bits(1, RWS),
        reserved(2),
        "common_clock" / bits(1, RWS),
        "extended_synch" / bits(1, RWS),
        reserved(8),
    ),
    "link_status"
    / register(
        "speed" / bits(4, ROS),
        "width" / bits(6, ROS),
        reserved(2),
        "slot_clock" / bits(1),
        reserved(3),
    ),
    Padding(16),
    "device_capabilities2"
    / register("completion_timeouts" / bits(4), "completion_timeout_disable" / bits(1), reserved(27)),
    "device_control2"
    / register("completion_timeout" / bits(4, RW), "completion_timeout_disable" / bits(1, RW), reserved(11)),
    "device_status2" / number(16),
    "link_capabilities2" / register(reserved(1), "speeds" / bits(7), reserved(24)),
    "link_control2" / register("target_speed" / bits(4, RWS), reserved(12)),
    "link_status2" / number(16),
    Padding(8),
)


def pci_express(
    *,
    speed: int = 1,
    width: int = 4,
    max_speed: int | None = None,
    max_width: int | None = None,
    function_level_reset: bool = True,
    max_payload: int = 2,
    aspm: int = 0b11,
    completion_timeouts: int = 0xF,
    slot_clock: bool = True,
    at: int | None = None,
) -> Capability:
    """PCI Express, version 2, of an endpoint. `speed` is the encoded rate (1: 2.5 GT/s, 2: 5 GT/s, ...), `width` the
    lanes of the link that is up, and of the one it could be unless `max_speed` and `max_width` say more;
    `max_payload` the encoded supported size (0: 128 bytes, 1: 256, ...)."""
    max_speed, max_width = max_speed or speed, max_width or width
    return Capability(
        "pcie",
        0x10,
        PCI_EXPRESS,
        {
            "capabilities": {"version": 2},
            "device_capabilities": {
                "max_payload": max_payload,
                "role_based_errors": 1,
                "function_level_reset": int(function_level_reset),
            },
            "device_control": {"relaxed_ordering": 1, "no_snoop": 1, "max_read_request": 2},
            "link_capabilities": {"max_speed": max_speed, "max_width": max_width, "aspm": aspm, "aspm_optionality": 1},
            "link_status": {"speed": speed, "width": width, "slot_clock": int(slot_clock)},
            "device_capabilities2": {"completion_timeouts": completion_timeouts, "completion_timeout_disable": 1},
            "link_capabilities2": {"speeds": (1 << max_speed) - 1},
            "link_control2": {"target_speed": max_speed},
        },
        at,
    )


VPD = Struct(
    "address" / register("offset" / bits(15, RW), "flag" / bits(1, RW)),
    "data" / number(32, RW),
)


def vpd(contents: bytes, *, writable: range = range(0), at: int | None = None) -> Capability:
    """Vital Product Data: `contents` is the image, up to 32 KiB. Bytes of it in `writable` can be written.
    Raises ValueError."""
    if len(contents) > 0x8000:
        raise ValueError(f"VPD has at most 32 KiB, not {len(contents)} bytes")
    return Capability("vpd", 0x03, VPD, {}, at, contents=bytes(contents), writable=writable)


def vendor_specific(contents: bytes, *, name: str = "vendor", at: int | None = None) -> Capability:
    """Read-only bytes of the vendor's, after the id, next and length bytes. Up to 252. Raises ValueError."""
    if len(contents) > 252:
        raise ValueError(f"a vendor-specific capability has at most 252 bytes of its own, not {len(contents)}")
    layout = Struct("length" / number(8), Padding(len(contents)))
    return Capability(name, 0x09, layout, {"length": 3 + len(contents)}, at, contents=bytes(contents))


def _uncorrectable(access: Access) -> Layout:
    return register(
        reserved(4),
        "data_link_protocol" / bits(1, access),
        reserved(7),
        "poisoned_tlp" / bits(1, access),
        "flow_control_protocol" / bits(1, access),
        "completion_timeout" / bits(1, access),
        "completer_abort" / bits(1, access),
        "unexpected_completion" / bits(1, access),
        "receiver_overflow" / bits(1, access),
        "malformed_tlp" / bits(1, access),
        "ecrc" / bits(1, access),
        "unsupported_request" / bits(1, access),
        reserved(11),
    )


def _correctable(access: Access) -> Layout:
    return register(
        "receiver_error" / bits(1, access),
        reserved(5),
        "bad_tlp" / bits(1, access),
        "bad_dllp" / bits(1, access),
        "replay_rollover" / bits(1, access),
        reserved(3),
        "replay_timeout" / bits(1, access),
        "advisory_nonfatal" / bits(1, access),
        reserved(18),
    )


AER = Struct(
    "uncorrectable_status" / _uncorrectable(W1CS),
    "uncorrectable_mask" / _uncorrectable(RWS),
    "uncorrectable_severity" / _uncorrectable(RWS),
    "correctable_status" / _correctable(W1CS),
    "correctable_mask" / _correctable(RWS),
    "control"
    / register(
        "first_error" / bits(5, ROS),
        "ecrc_generation_capable" / bits(1),
        "ecrc_generation" / bits(1, RWS),
        "ecrc_check_capable" / bits(1),
        "ecrc_check" / bits(1, RWS),
        reserved(23),
    ),
    "header_log0" / number(32, ROS),
    "header_log1" / number(32, ROS),
    "header_log2" / number(32, ROS),
    "header_log3" / number(32, ROS),
)


def aer(*, ecrc: bool = True, at: int | None = None) -> Capability:
    """Advanced Error Reporting, version 1, with the specification's default masks and severities."""
    fatal = ("data_link_protocol", "flow_control_protocol", "receiver_overflow", "malformed_tlp")
    return Capability(
        "aer",
        0x0001,
        AER,
        {
            "uncorrectable_severity": dict.fromkeys(fatal, 1),
            "correctable_mask": {"advisory_nonfatal": 1},
            "control": {"ecrc_generation_capable": int(ecrc), "ecrc_check_capable": int(ecrc)},
        },
        at,
        extended=True,
    )


SERIAL_NUMBER = Struct("low" / number(32), "high" / number(32))


def serial_number(value: int, *, at: int | None = None) -> Capability:
    """Device Serial Number: an EUI-64 as a 64-bit number. Raises ValueError."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"a serial number has 64 bits, not {value:#x}")
    values = {"low": value & 0xFFFFFFFF, "high": value >> 32}
    return Capability("dsn", 0x0003, SERIAL_NUMBER, values, at, extended=True)
