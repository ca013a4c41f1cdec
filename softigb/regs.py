"""`softigb regs`: the register map of the 82576, a register's fields, a value decoded."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated

import typer

from softigb.errors import USAGE, CliError

if TYPE_CHECKING:
    from igb_hw.register import Register

_WORD = 0xFFFF_FFFF


def regs(
    register: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|OFFSET]", help="CTRL, RDBAL[3], or an offset in BAR0 such as 0x100."),
    ] = None,
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]", help="A value to decode: 0x04008002.")] = None,
) -> None:
    """The card's registers: all of them, one with its fields, or a value of one decoded."""
    if register is None:
        _list()
        return
    found, index, offset = _find(register)
    _describe(found, index, offset, None if value is None else _number(value))


def _find(word: str) -> tuple[Register, int, int]:
    """The register, its index and the offset asked for (which may be an alias)."""
    from igb_hw.registers import BAR0_SIZE, MAP

    if word[:1].isdigit():
        try:
            offset = int(word, 0)
        except ValueError:
            raise CliError(f"{word!r} is neither a register nor an offset such as 0x100", USAGE) from None
        if offset >= BAR0_SIZE:
            raise CliError(f"{offset:#x} is beyond BAR0, which has {BAR0_SIZE:#x} bytes", USAGE)
        at = MAP.lookup(offset)
        if at is None:
            near = sorted((place for known in MAP for place in known.offsets), key=lambda place: abs(place - offset))
            names = " and ".join(f"{MAP.name_of(place)} ({place:#x})" for place in sorted(near[:2]))
            raise CliError(f"the 82576 has no register at {offset:#x}; nearest are {names}", USAGE)
        return *at, offset & ~3
    try:
        known, index = MAP.find(word)
    except IndexError as error:
        raise CliError(str(error), USAGE) from None
    except KeyError as error:
        close = _similar(word)
        hint = f"; like it are {', '.join(close)}" if close else ""
        raise CliError(f"{error.args[0]}{hint}", USAGE) from None
    return known, index, known.at(index)


def _similar(word: str) -> list[str]:
    from igb_hw.registers import MAP

    wanted = word.upper().partition("[")[0].partition("(")[0]
    names = [name for known in MAP for name in (known.name, *known.also)]
    by_upper = {name.upper(): name for name in names}
    close = difflib.get_close_matches(wanted, by_upper, n=5, cutoff=0.6)
    if len(wanted) > 2:
        close += [name for name in by_upper if wanted in name and name not in close]
    return [by_upper[name] for name in close[:6]]


def _number(word: str) -> int:
    try:
        value = int(word, 0)
    except ValueError:
        raise CliError(f"{word!r} is no number: a register's value is written 0x04008002", USAGE) from None
    if not 0 <= value <= _WORD:
        raise CliError(f"{word} doesn't fit a register's 32 bits", USAGE)
    return value


def _list() -> None:
    from igb_hw.registers import MAP
    from softigb.screen import console, table, text

    out = table("offset", "name", "count", "access", "section", "what it is", right=("count",))
    for known in MAP:
        out.add_row(
            f"{known.offset:#07x}",
            text(known.name, "" if known.modelled else "dim"),
            str(known.count),
            _access(known),
            known.section,
            text(known.doc if known.modelled else f"{known.doc} (storage only)"),
        )
    console().print(out)


def _access(known: Register) -> str:
    """RW, RO …, or those of its fields, the most frequent first."""
    if not known.fields:
        return _letters(known.access.name)
    kinds = [field.access.name for field in known.fields]
    return " ".join(_letters(kind) for kind in sorted(set(kinds), key=lambda kind: -kinds.count(kind)))


def _letters(name: str) -> str:
    return name.replace("_", "/")


def _describe(known: Register, index: int, offset: int, value: int | None) -> None:
    from softigb.screen import console, table, text

    screen = console()
    name = f"{known.name}[{index}]" if known.count > 1 else known.name
    others = f" (also {', '.join(known.also)})" if known.also else ""
    section = f", section {known.section}" if known.section else ""
    screen.print(text(f"{name}{others} at {offset:#07x}: {known.doc}{section}", "bold"))
    for line in _places(known, index, offset):
        screen.print(text(line))
    if not known.modelled:
        screen.print(text("storage only: nothing in the card reacts to it"))
    shown = known.reset_of(index) if value is None else value
    screen.print(text(f"{'reset value' if value is None else 'value'} {known.format(shown)}"))
    if not known.fields:
        screen.print(text(f"{_letters(known.access.name)}: {known.access.value}; no fields"))
        return
    screen.print()
    out = table("bits", "field", "access", "reset" if value is None else "value", "what it is", right=("bits",))
    for field in sorted(known.fields, key=lambda field: field.lsb):
        top = field.lsb + field.width - 1
        number = known.get(shown, field.name)
        out.add_row(
            f"{top}:{field.lsb}" if field.width > 1 else str(field.lsb),
            text(" ".join((field.name, *field.also)), "bold" if value is not None and number else ""),
            _letters(field.access.name),
            str(number) if number < 10 else f"{number:#x}",
            text(field.doc),
        )
    screen.print(out)
    declared = sum(field.mask for field in known.fields)
    if value is not None and value & ~declared:
        screen.print(text(f"reserved bits that are set: {value & ~declared:#010x}", "yellow"))


def _places(known: Register, index: int, offset: int) -> list[str]:
    """Where else it can be reached, and how an array lies."""
    lines = []
    alias = [place for place, i in known.alias_offsets() if i == index]
    own = known.at(index)
    if offset != own:
        lines.append(f"an alias of {own:#07x}")
    elif alias:
        lines.append(f"also at {', '.join(f'{place:#07x}' for place in alias)}")
    if known.count > 1:
        lines.append(
            f"one of {known.count}, the first at {known.at(0):#07x}, the last at {known.at(known.count - 1):#07x}"
        )
    return lines
