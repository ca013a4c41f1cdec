"""Configuration space of a PCI function: storage with write masks, and what writing to it sets off.

PCI Local Bus 3.0 chapter 6, PCIe Base 3.0 sections 6.6.2 (function level reset) and 7.2, PCI-PM 1.2 chapter 5.
Left out: power budgeting, D3cold, and MSI's own mask and pending bits (the client of a server applies them).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyvfio_user.device import Buffer, IrqMode, Reset
from pyvfio_user.pci.capabilities import Capability
from pyvfio_user.pci.header import BAR_OFFSET, HEADER, ROM_OFFSET, Bar, bar_registers, rom_mask
from pyvfio_user.pci.layout import CLEARABLE, STICKY, TRIGGERS, WRITABLE, Layout, Values, build, mask, offset_of
from pyvfio_user.pci.vpd_registers import VpdRegisters

_CAPABILITIES_AT = 0x40
_EXTENDED_AT = 0x100
_D0, _D3HOT = 0, 3


@dataclass(frozen=True, slots=True)
class Identity:
    """The numbers by which software finds its driver. `class_code` has 24 bits: class, subclass, interface."""

    vendor: int
    device: int
    class_code: int
    revision: int = 0
    subsystem_vendor: int = 0
    subsystem: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the guest has set the function to, as of the last write."""

    io_enabled: bool = False
    memory_enabled: bool = False
    bus_master: bool = False
    intx_disabled: bool = False
    power_state: int = _D0
    """0 to 3. In any but D0 the function decodes no memory and no I/O and isn't a bus master."""
    msi_enabled: bool = False
    msi_vectors: int = 1
    """How many the guest has granted, a power of two."""
    msix_enabled: bool = False
    msix_masked: bool = False
    """Function Mask."""

    @property
    def irq_mode(self) -> IrqMode:
        if self.msix_enabled:
            return IrqMode.MSIX
        return IrqMode.MSI if self.msi_enabled else IrqMode.INTX


class PciConfig:
    """A type 0 configuration space made of an identity, BARs and capabilities.

    `capabilities` are chained in the order given; those without `at` get the next free offset. `size` is 256, or
    4096 (what extended capabilities need); None chooses. `interrupt_pin` is 1 for INTA, 0 for none.
    Raises ValueError for parts that overlap or don't fit.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        bars: Sequence[Bar | None] = (),
        rom_size: int = 0,
        capabilities: Iterable[Capability] = (),
        interrupt_pin: int = 1,
        size: int | None = None,
    ) -> None:
        parts = list(capabilities)
        if size is None:
            size = 4096 if any(c.extended or c.name == "pcie" for c in parts) else 256
        if size not in (256, 4096):
            raise ValueError(f"configuration space has 256 or 4096 bytes, not {size}")
        self.size = size
        self.bars: tuple[Bar | None, ...] = (*bars, *[None] * (6 - len(bars)))
        self.rom_size = rom_size
        self.capabilities = {c.name: c for c in parts}
        if len(self.capabilities) != len(parts):
            raise ValueError("two capabilities have the same name")

        self._defaults = bytearray(size)
        self._writable = bytearray(size)
        self._clearable = bytearray(size)
        self._sticky = bytearray(size)
        self._triggers = bytearray(size)
        self._places: dict[str, tuple[int, Layout]] = {"header": (0, HEADER)}
        self._lay_header(identity, interrupt_pin, has_capabilities=any(not c.extended for c in parts))
        self._lay_bars(bars)
        self._lay_capabilities(parts)
        self._data = bytearray(self._defaults)

        self._command = self.offset("header", "command")
        self._pmcsr = self._offset_if("pm", "pmcsr")
        if "pcie" not in self._places or not self.get("pcie").device_capabilities.function_level_reset:
            self._triggers = bytearray(size)
        self._msi = self._offset_if("msi", "control")
        self._msix = self._offset_if("msix", "control")
        vpd = self.capabilities.get("vpd")
        self._vpd = VpdRegisters(self._data, self.offset("vpd", "address"), vpd) if vpd else None
        self.settings = self._read_settings()

    # Access by software.

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes at `offset`, all inside `size`: the caller has checked that."""
        return bytes(self._data[offset : offset + count])

    def write(self, offset: int, data: Buffer) -> Reset | None:
        """A write by software, of any length and alignment inside `size`. `settings` follow it.

        Returns the kind of reset it asks for, FLR or POWER, if any. That hasn't happened yet: the owner is to reset
        itself and this.
        """
        count = len(data)
        where = slice(offset, offset + count)
        value = int.from_bytes(data, "little")
        old = int.from_bytes(self._data[where], "little")
        writable = int.from_bytes(self._writable[where], "little")
        new = (old & ~writable) | (value & writable)
        new &= ~(value & int.from_bytes(self._clearable[where], "little"))
        self._data[where] = new.to_bytes(count, "little")

        wanted: Reset | None = None
        if self._vpd is not None:
            self._vpd.written(offset, count)
        if self._pmcsr is not None and offset <= self._pmcsr < offset + count:
            wanted = self._power_state_written(self.settings.power_state)
        if value & int.from_bytes(self._triggers[where], "little"):
            wanted = Reset.FLR  # Initiate Function Level Reset is the only field of that kind
        self.settings = self._read_settings()
        return wanted

    # Access by the function itself.

    def offset(self, part: str, register: str) -> int:
        """Where a register of "header" or of a capability is. Raises KeyError."""
        at, layout = self._places[part]
        return at + offset_of(layout, register)

    def get(self, part: str) -> Any:
        """ "header" or a capability, parsed: registers and fields by name. Not for the packet path."""
        at, layout = self._places[part]
        return layout.parse(bytes(self._data[at : at + layout.sizeof()]))

    def set(self, part: str, register: str, **fields: int) -> None:
        """Sets fields of a register whatever software may do to them: status bits, the state of the link.

        Raises ValueError for a field that there isn't, KeyError for a part or register.
        """
        at, layout = self._places[part]
        member = next((sub for sub in layout.subcons if sub.name == register), None)  # type: ignore[attr-defined]
        if member is None:
            raise KeyError(register)
        start = at + offset_of(layout, register)
        where = slice(start, start + member.sizeof())
        values = {name: value for name, value in member.parse(bytes(self._data[where])).items() if name[0] != "_"}
        if unknown := fields.keys() - values.keys():
            raise ValueError(f"{part}.{register} has no field {', '.join(sorted(unknown))}")
        self._data[where] = member.build(values | fields)
        self.settings = self._read_settings()

    def reset(self, *, keep_sticky: bool) -> None:
        """Back to the defaults; `keep_sticky` for the resets that leave sticky fields alone (FLR, D3hot to D0)."""
        keep = int.from_bytes(self._sticky if keep_sticky else b"", "little")
        kept = int.from_bytes(self._data, "little") & keep
        fresh = int.from_bytes(self._defaults, "little") & ~keep
        self._data[:] = (kept | fresh).to_bytes(self.size, "little")
        self.settings = self._read_settings()

    def dump(self, slot: str = "00:00.0") -> str:
        """The whole space as the text that `lspci -F FILE` reads."""
        lines = [f"{slot} softigb"]
        for at in range(0, self.size, 16):
            lines.append(f"{at:02x}: {self._data[at : at + 16].hex(' ')}")
        return "\n".join(lines) + "\n\n"

    # What the masks were made of.

    def _lay(self, at: int, layout: Layout, values: Values) -> None:
        where = slice(at, at + layout.sizeof())
        self._defaults[where] = build(layout, values)
        self._writable[where] = mask(layout, WRITABLE)
        self._clearable[where] = mask(layout, CLEARABLE)
        self._sticky[where] = mask(layout, STICKY)
        self._triggers[where] = mask(layout, TRIGGERS)

    def _lay_header(self, identity: Identity, interrupt_pin: int, *, has_capabilities: bool) -> None:
        self._lay(
            0,
            HEADER,
            {
                "vendor": identity.vendor,
                "device": identity.device,
                "status": {"capabilities": int(has_capabilities)},
                "revision": identity.revision,
                "class_code": identity.class_code,
                "subsystem_vendor": identity.subsystem_vendor,
                "subsystem": identity.subsystem,
                "interrupt_pin": interrupt_pin,
            },
        )

    def _lay_bars(self, bars: Sequence[Bar | None]) -> None:
        values, masks = bar_registers(bars)
        self._defaults[BAR_OFFSET : BAR_OFFSET + len(values)] = values
        self._writable[BAR_OFFSET : BAR_OFFSET + len(masks)] = masks
        self._writable[ROM_OFFSET : ROM_OFFSET + 4] = rom_mask(self.rom_size)

    def _lay_capabilities(self, parts: list[Capability]) -> None:
        used = bytearray(self.size)
        used[:_CAPABILITIES_AT] = b"\1" * _CAPABILITIES_AT
        offsets: dict[str, int] = {}
        for part in sorted(parts, key=lambda part: part.at is None):  # those with a place of their own first
            offsets[part.name] = at = self._place(part, used)
            used[at : at + part.size] = b"\1" * part.size
        link = self.offset("header", "capabilities_pointer")
        for part in (part for part in parts if not part.extended):
            at = offsets[part.name]
            self._defaults[link] = at
            self._defaults[at] = part.id
            link = at + 1
            self._lay_body(part, at)
        previous = 0
        for part in (part for part in parts if part.extended):
            at = offsets[part.name]
            if not previous and at != _EXTENDED_AT:
                raise ValueError(f"the first extended capability has to be at {_EXTENDED_AT:#x}, not {at:#x}")
            self._defaults[at : at + 4] = (part.id | part.version << 16).to_bytes(4, "little")
            if previous:
                header = int.from_bytes(self._defaults[previous : previous + 4], "little") | at << 20
                self._defaults[previous : previous + 4] = header.to_bytes(4, "little")
            previous = at
            self._lay_body(part, at)

    def _lay_body(self, part: Capability, at: int) -> None:
        body = at + part.header_size
        self._places[part.name] = (body, part.layout)
        self._lay(body, part.layout, part.values)
        if part.name != "vpd" and part.contents:
            end = at + part.size
            self._defaults[end - len(part.contents) : end] = part.contents

    def _place(self, part: Capability, used: bytearray) -> int:
        low, high = (_EXTENDED_AT, self.size) if part.extended else (_CAPABILITIES_AT, 0x100)
        places: Iterator[int] = iter(range(low, high - part.size + 1, 4) if part.at is None else (part.at,))
        for at in places:
            if at % 4 == 0 and low <= at and at + part.size <= high and not any(used[at : at + part.size]):
                return at
        where = "" if part.at is None else f" at {part.at:#x}"
        raise ValueError(f"the capability {part.name!r} of {part.size} bytes doesn't fit{where}")

    def _offset_if(self, part: str, register: str) -> int | None:
        return self.offset(part, register) if part in self._places else None

    def _word(self, at: int) -> int:
        return self._data[at] | self._data[at + 1] << 8

    def _power_state_written(self, was: int) -> Reset | None:
        assert self._pmcsr is not None
        state = self._data[self._pmcsr] & 3
        supported = self.get("pm").pmc
        if (state == 1 and not supported.d1) or (state == 2 and not supported.d2):
            self._data[self._pmcsr] = self._data[self._pmcsr] & ~3 | was
            return None
        soft_reset = not self.get("pm").pmcsr.no_soft_reset
        return Reset.POWER if was == _D3HOT and state == _D0 and soft_reset else None

    def _read_settings(self) -> Settings:
        command = self._word(self._command)
        state = self._data[self._pmcsr] & 3 if self._pmcsr is not None else _D0
        msi = self._word(self._msi) if self._msi is not None else 0
        msix = self._word(self._msix) if self._msix is not None else 0
        awake = state == _D0
        return Settings(
            io_enabled=awake and bool(command & 1),
            memory_enabled=awake and bool(command & 2),
            bus_master=awake and bool(command & 4),
            intx_disabled=bool(command & 0x400),
            power_state=state,
            msi_enabled=bool(msi & 1),
            msi_vectors=1 << min(msi >> 4 & 7, msi >> 1 & 7),
            msix_enabled=bool(msix & 0x8000),
            msix_masked=bool(msix & 0x4000),
        )
