"""VERSION's capabilities: the JSON of the protocol specification's section "Version Data Format".

Parsing is strict, for this is the first thing a stranger sends: wrong types, values out of range, duplicate keys, NaN,
nesting without end and a missing NUL are all refused with `ValueError`. Unknown keys are passed over, as the
specification asks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pyvfio_user.messages import VERSION

MAX_JSON: Final = 16384
"""Longest JSON accepted, in bytes. QEMU's has 210."""

_U32: Final = (1 << 32) - 1
_U64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class MigrationCapability:
    """Page size and bitmap limit for dirty page logs, in bytes. Sent by QEMU, absent from the specification's table."""

    pgsize: int = 4096
    max_bitmap_size: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one side can do. The defaults are those of the specification for an absent key."""

    max_msg_fds: int = 1
    """Descriptors this side can receive in one message."""
    max_data_xfer_size: int = 1 << 20
    """Most data bytes in one REGION_READ, REGION_WRITE, DMA_READ or DMA_WRITE."""
    max_dma_maps: int = 65535
    pgsizes: int = 4096
    """Mask of the page sizes DMA_MAP may use."""
    twin_socket: bool = False
    """Server commands go over a socket of their own."""
    twin_fd_index: int | None = None
    """In a server's reply: which of the message's descriptors is the client's end of that socket."""
    write_multiple: bool = False
    migration: MigrationCapability | None = None
    offered: frozenset[str] = field(default=frozenset(), compare=False)
    """The keys that were in the JSON. A server answers only those."""


class Version(NamedTuple):
    """VERSION's payload, decoded."""

    major: int
    minor: int
    capabilities: Capabilities


_RANGES: Final = {
    "max_msg_fds": (0, 1024),
    "max_data_xfer_size": (1, _U32),
    "max_dma_maps": (0, _U32),
    "pgsizes": (1, _U64),
}


def decode_version(payload: bytes) -> Version:
    """VERSION's payload, from either side. Raises ValueError in words fit for a log."""
    if len(payload) < VERSION.size:
        raise ValueError("VERSION is too short")
    major, minor = VERSION.unpack_from(payload)
    text = payload[VERSION.size :]
    if not text:
        return Version(major, minor, Capabilities())
    if text[-1] != 0:
        raise ValueError("the capabilities don't end in a NUL")
    return Version(major, minor, _decode(text[:-1]))


def encode_version(major: int, minor: int, capabilities: Capabilities, keys: frozenset[str]) -> bytes:
    """VERSION's payload holding only `keys` of the capabilities, as short as JSON can be.

    The reply must not exceed the request: QEMU's client reads it into the request's buffer.
    """
    values: dict[str, object] = {key: getattr(capabilities, key) for key in _RANGES}
    values["write_multiple"] = capabilities.write_multiple
    if capabilities.migration is not None:
        values["migration"] = {
            "pgsize": capabilities.migration.pgsize,
            "max_bitmap_size": capabilities.migration.max_bitmap_size,
        }
    twin: dict[str, object] = {"supported": capabilities.twin_socket}
    if capabilities.twin_fd_index is not None:
        twin["fd_index"] = capabilities.twin_fd_index
    values["twin_socket"] = twin
    sent = {key: value for key, value in values.items() if key in keys}
    text = json.dumps({"capabilities": sent}, separators=(",", ":"))
    return VERSION.pack(major, minor) + text.encode() + b"\0"


def _decode(text: bytes) -> Capabilities:
    if len(text) > MAX_JSON:
        raise ValueError(f"{len(text)} bytes of capabilities")
    try:
        top = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("capabilities nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("capabilities aren't UTF-8") from None
    table = _object(_object(top, "version data").get("capabilities", {}), "capabilities")
    values: dict[str, Any] = {key: _number(table[key], key, *limits) for key, limits in _RANGES.items() if key in table}
    if "write_multiple" in table:
        values["write_multiple"] = _boolean(table["write_multiple"], "write_multiple")
    if "migration" in table:
        migration = _object(table["migration"], "migration")
        values["migration"] = MigrationCapability(
            _number(migration.get("pgsize", 4096), "pgsize", 1, _U64),
            _number(migration.get("max_bitmap_size", 256 << 20), "max_bitmap_size", 0, _U64),
        )
    if "twin_socket" in table:
        twin = _object(table["twin_socket"], "twin_socket")
        values["twin_socket"] = _boolean(twin.get("supported", False), "twin_socket")
        if "fd_index" in twin:
            values["twin_fd_index"] = _number(twin["fd_index"], "fd_index", 0, 1024)
    return Capabilities(**values, offered=frozenset(table))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a capability is given twice")
    return table


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} isn't JSON")


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} isn't an object")
    return value


def _number(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}")
    return value


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false")
    return value
