"""Registers of configuration space declared once, with construct: from a layout come its bytes and its write masks.

The kinds of access are those of the PCI Express Base Specification, section 7.4 (Configuration Register Types).
construct only declares: masks and reset values are derived once, and an access is arithmetic on them.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from construct import BitsInteger, BitStruct, BytesInteger, ByteSwapped, Construct, Padding, Struct, Subconstruct

Layout: TypeAlias = "Construct[Any, Any]"
Values: TypeAlias = Mapping[str, Any]


class Access(enum.Enum):
    """What software's write does to a field, and whether a function level reset leaves the field alone."""

    RO = "read-only"
    ROS = "read-only, survives a function level reset"
    RW = "writable"
    RWS = "writable, survives a function level reset"
    W1C = "a written 1 clears"
    W1CS = "a written 1 clears, survives a function level reset"
    TRIGGER = "a written 1 starts something, reads as 0"


WRITABLE = frozenset({Access.RW, Access.RWS})
CLEARABLE = frozenset({Access.W1C, Access.W1CS})
STICKY = frozenset({Access.ROS, Access.RWS, Access.W1CS})
TRIGGERS = frozenset({Access.TRIGGER})


class Field(Subconstruct):  # type: ignore[type-arg]
    """An unsigned number with an access. Made by `bits` (inside a `register`) and `number` (whole bytes)."""

    def __init__(self, subcon: Layout, access: Access, width: int) -> None:
        super().__init__(subcon)
        self.access = access
        self.ones = (1 << width) - 1


def bits(width: int, access: Access = Access.RO) -> Field:
    """A field of a `register`."""
    return Field(BitsInteger(width), access, width)


def number(width: int, access: Access = Access.RO) -> Field:
    """A little endian number of `width` bits, a multiple of 8, that has no inner fields."""
    return Field(BytesInteger(width // 8, swapped=True), access, width)


def register(*fields: Layout) -> Layout:
    """A little endian register whose fields are listed from bit 0 upwards. Reserved bits are `reserved(width)`."""
    return ByteSwapped(BitStruct(*reversed(fields)))


def reserved(width: int) -> Layout:
    """Bits of a register that read 0."""
    return Padding(width)


def fill(layout: Layout, access: Collection[Access]) -> Any:
    """The values that set every bit of the fields with one of these accesses and clear all others."""
    if isinstance(layout, Field):
        return layout.ones if layout.access in access else 0
    if isinstance(layout, Struct):
        return {sub.name: fill(sub, access) for sub in layout.subcons if sub.name}
    return fill(layout.subcon, access)  # type: ignore[attr-defined]


def mask(layout: Layout, access: Collection[Access]) -> bytes:
    """The bits of `layout` that have one of these accesses."""
    return layout.build(fill(layout, access))


def build(layout: Layout, values: Values) -> bytes:
    """The bytes of `layout` with `values` (nested mappings), 0 where none is given.

    Raises ValueError for a name that the layout hasn't got.
    """
    return layout.build(_merged(fill(layout, ()), values))


def _merged(base: dict[str, Any], values: Values) -> dict[str, Any]:
    for name, value in values.items():
        if name not in base:
            raise ValueError(f"no field {name!r}: there are {', '.join(base)}")
        base[name] = _merged(base[name], value) if isinstance(value, Mapping) else value
    return base


def offset_of(layout: Layout, name: str) -> int:
    """Byte offset of a member of a Struct. Raises KeyError."""
    at = 0
    for sub in layout.subcons:  # type: ignore[attr-defined]
        if sub.name == name:
            return at
        at += sub.sizeof()
    raise KeyError(name)
