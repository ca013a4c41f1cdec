"""What a register is: a name, an offset, fields with an access each, and the masks that follow (82576 datasheet, 8.1).

Everything a user needs on a fast path (masks, shifts, offsets) is a plain integer computed when the register is
declared. construct's form of the same declaration is `Register.layout`; a property test holds both equal.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property
from typing import Any

import construct as cs


class Access(enum.Enum):
    """What reading and writing does to a field. The words are those of the datasheet's own tables."""

    RW = "read/write"
    RO = "read-only"
    WO = "write-only, reads as 0"
    W1C = "write 1 to clear"
    W1S = "write 1 to set"
    W0C = "write 0 to clear"
    RC = "cleared by reading"
    RC_W1C = "cleared by reading, and by writing 1"
    SC = "self-clearing: a command, done when it reads 0"
    RSV = "reserved: reads as 0, writes are ignored"


_W1C = frozenset({Access.W1C, Access.RC_W1C})
_READ_CLEAR = frozenset({Access.RC, Access.RC_W1C})


@dataclass(frozen=True, slots=True)
class Field:
    """`width` bits of a register from bit `lsb` upward. `also` are other names of it, Linux's mostly."""

    name: str
    lsb: int
    width: int = 1
    access: Access = Access.RW
    doc: str = ""
    also: tuple[str, ...] = ()

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.width) - 1) << self.lsb


def field(
    name: str,
    lsb: int,
    width: int = 1,
    access: Access = Access.RW,
    doc: str = "",
    also: tuple[str, ...] = (),
) -> Field:
    """A field of `width` bits from bit `lsb` upward."""
    return Field(name, lsb, width, access, doc, also)


@dataclass(frozen=True, slots=True)
class Block:
    """`count` words from `base`, `stride` bytes apart: a second place of an array, or its continuation."""

    base: int
    stride: int = 4
    count: int = 1


@dataclass(frozen=True)
class Register:
    """A 32-bit register, or an array of `count` of them `stride` bytes apart. With `bits` 16: a register of the PHY.

    offset      of the first element, in bytes from the start of BAR0
    aliases     blocks at which the first elements appear a second time
    continued   blocks that hold the elements after the first run, for arrays that aren't in one piece
    reset       value after a device reset; `resets` overrides it for single elements: ((index, value), ...)
    access      of the whole word, for a register declared without fields
    also        other names, as Linux or other drivers spell them
    modelled    False: known by name and reset value only; nothing in the card reacts to it beyond storage
    """

    name: str
    offset: int
    doc: str
    section: str = ""
    count: int = 1
    stride: int = 4
    aliases: tuple[Block, ...] = ()
    continued: tuple[Block, ...] = ()
    reset: int = 0
    resets: tuple[tuple[int, int], ...] = ()
    access: Access = Access.RW
    fields: tuple[Field, ...] = ()
    also: tuple[str, ...] = ()
    modelled: bool = True
    bits: int = 32
    _by_name: dict[str, Field] = dataclass_field(init=False, repr=False, compare=False)
    _masks: dict[str, int] = dataclass_field(init=False, repr=False, compare=False)
    _offsets: tuple[int, ...] = dataclass_field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[str, Field] = {}
        used = 0
        for item in self.fields:
            if item.width < 1 or item.lsb < 0 or item.lsb + item.width > self.bits:
                raise ValueError(f"{self.name}.{item.name}: {item.width} bits from {item.lsb} don't fit {self.bits}")
            if used & item.mask:
                raise ValueError(f"{self.name}.{item.name} overlaps another field")
            used |= item.mask
            for name in (item.name, *item.also):
                if name in by_name:
                    raise ValueError(f"{self.name}.{name} is declared twice")
                by_name[name] = item
        first = self.count - sum(block.count for block in self.continued)
        if first < 1:
            raise ValueError(f"{self.name}: {self.count} elements, yet the continuations alone hold as many")
        offsets = [self.offset + self.stride * i for i in range(first)]
        for block in self.continued:
            offsets += [block.base + block.stride * i for i in range(block.count)]
        object.__setattr__(self, "_by_name", by_name)
        object.__setattr__(self, "_masks", {name: item.mask for name, item in by_name.items()})
        object.__setattr__(self, "_offsets", tuple(offsets))

    def __hash__(self) -> int:
        return hash((self.name, self.offset))

    def __getitem__(self, field: str) -> int:
        """The field's mask. KeyError if the register has no such field."""
        try:
            return self._masks[field]
        except KeyError:
            raise KeyError(f"{self.name} has no field {field}") from None

    def __contains__(self, field: object) -> bool:
        return field in self._masks

    def field(self, name: str) -> Field:
        """The declaration of a field. KeyError if the register has no such field."""
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(f"{self.name} has no field {name}") from None

    def shift(self, field: str) -> int:
        """The field's lowest bit number."""
        return self.field(field).lsb

    def get(self, value: int, field: str) -> int:
        """The field's value, taken out of a register's value."""
        item = self.field(field)
        return (value & item.mask) >> item.lsb

    def put(self, value: int = 0, **fields: int) -> int:
        """`value` with the named fields replaced. ValueError for a number that doesn't fit its field."""
        for name, number in fields.items():
            item = self.field(name)
            if not 0 <= number < 1 << item.width:
                raise ValueError(f"{self.name}.{name} has {item.width} bits: {number} doesn't fit")
            value = value & ~item.mask | number << item.lsb
        return value

    def at(self, i: int) -> int:
        """The offset of element `i`. IndexError beyond the array."""
        if not 0 <= i < self.count:
            raise IndexError(f"{self.name} has {self.count} elements, not {i + 1}")
        return self._offsets[i]

    @property
    def offsets(self) -> tuple[int, ...]:
        """The offsets of all elements."""
        return self._offsets

    def alias_offsets(self) -> Iterator[tuple[int, int]]:
        """(alias offset, index) for each element that has a second place."""
        for block in self.aliases:
            for i in range(block.count):
                yield block.base + block.stride * i, i

    def reset_of(self, i: int) -> int:
        """The reset value of element `i`."""
        return dict(self.resets).get(i, self.reset)

    def decode(self, value: int) -> dict[str, int]:
        """All fields of a value by name, in the order of declaration."""
        return {item.name: (value & item.mask) >> item.lsb for item in self.fields}

    def format(self, value: int) -> str:
        """`0x00000042 (SLU=1, LU=1)`: the value and the fields in it that aren't 0."""
        text = ", ".join(
            f"{name}={number}" if number < 10 else f"{name}={number:#x}"
            for name, number in self.decode(value).items()
            if number
        )
        number = f"{value:#0{2 + self.bits // 4}x}"
        return f"{number} ({text})" if text else number

    def _mask_of(self, kinds: frozenset[Access]) -> int:
        if not self.fields:
            return (1 << self.bits) - 1 if self.access in kinds else 0
        return sum(item.mask for item in self.fields if item.access in kinds)

    @cached_property
    def writable(self) -> int:
        """The bits that a plain write stores."""
        return self._mask_of(frozenset({Access.RW}))

    @cached_property
    def w1c(self) -> int:
        """The bits that writing 1 clears."""
        return self._mask_of(_W1C)

    @cached_property
    def read_clear(self) -> int:
        """The bits that reading clears."""
        return self._mask_of(_READ_CLEAR)

    @cached_property
    def read_only(self) -> int:
        """The bits that are read and that no write changes. Reserved bits aren't among them."""
        return self._mask_of(frozenset({Access.RO, Access.RC}))

    @cached_property
    def write_only(self) -> int:
        """The bits that are written, as commands, and read as 0."""
        return self._mask_of(frozenset({Access.WO, Access.SC}))

    @cached_property
    def layout(self) -> cs.Construct[Any, Any]:
        """construct's declaration of the bytes on the bus, little-endian, padding included."""
        parts: list[Any] = []
        top = self.bits
        for item in sorted(self.fields or (Field(self.name, 0, self.bits),), key=lambda f: -f.lsb):
            if gap := top - item.lsb - item.width:
                parts.append(cs.Padding(gap))
            parts.append(item.name / cs.BitsInteger(item.width))
            top = item.lsb
        if top:
            parts.append(cs.Padding(top))
        return cs.ByteSwapped(cs.BitStruct(*parts))


def unmodelled(
    name: str, offset: int, doc: str, section: str = "", access: Access = Access.RW, **more: Any
) -> Register:
    """A register known by its name: storage of the given access, nothing reacts to it."""
    return Register(name, offset, doc, section, access=access, modelled=False, **more)
