"""`softigb regs`, held against the numbers of Linux's e1000_regs.h and e1000_defines.h."""

from __future__ import annotations

import re

import pytest

# Linux: E1000_CTRL, E1000_STATUS, E1000_RCTL, E1000_TCTL, E1000_EIMS, E1000_MPC, E1000_RDBAL(0), E1000_MTA
OFFSETS = {
    "CTRL": 0x0,
    "STATUS": 0x8,
    "RCTL": 0x100,
    "TCTL": 0x400,
    "EIMS": 0x1524,
    "MPC": 0x4010,
    "RDBAL": 0xC000,
    "MTA": 0x5200,
}


def fields_in(text: str) -> dict[str, tuple[str, str]]:
    """Field to (bits, value), from the table that `softigb regs NAME` prints."""
    rows = re.findall(r"^ *(\d+(?::\d+)?)  (\w+).*?  (?:[A-Z0-9/]+) +(0x[0-9a-f]+|\d+)(?: |$)", text, re.MULTILINE)
    return {name: (bits, value) for bits, name, value in rows}


def test_the_map_has_the_registers_where_linux_has_them(softigb):
    ran = softigb("regs")
    assert ran.status == 0
    listed = {name: int(at, 16) for at, name in re.findall(r"^(0x[0-9a-f]{5})  (\w+) ", ran.out, re.MULTILINE)}
    assert len(listed) > 300
    assert OFFSETS.items() <= listed.items()


def test_a_register_shows_its_fields(softigb):
    ran = softigb("regs", "ctrl")
    assert ran.status == 0
    fields = fields_in(ran.out)
    # E1000_CTRL_FD 0x1, SLU 0x40, RST 0x04000000, PHY_RST 0x80000000
    assert (fields["FD"][0], fields["SLU"][0], fields["RST"][0], fields["PHY_RST"][0]) == ("0", "6", "26", "31")


@pytest.mark.parametrize("name", ["0x100", "RCTL", "256", "0x101"])
def test_a_value_is_decoded(softigb, name):
    ran = softigb("regs", name, "0x04038002")
    fields = fields_in(ran.out)
    # E1000_RCTL_EN 0x2, BAM 0x8000, SZ_256 0x30000, SECRC 0x04000000
    assert {field: value for field, (_, value) in fields.items() if value != "0"} == {
        "EN": "1",
        "BAM": "1",
        "BSIZE": "3",
        "SECRC": "1",
    }


def test_bits_that_no_field_has_are_named(softigb):
    assert "0x00000001" in softigb("regs", "RCTL", "0x1").out.splitlines()[-1]


@pytest.mark.parametrize("name", ["RDBAL[3]", "rdbal(3)", "0xC0C0", "0x2B00"])
def test_an_element_of_an_array_by_name_offset_and_alias(softigb, name):
    head, *rest = softigb("regs", name).out.splitlines()
    assert head.startswith("RDBAL[3] at ")
    assert any("0x0c0c0" in line or "0x02b00" in line for line in (head, *rest))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["RDBALX"], "RDBAL"),
        (["TXDCTRL"], "TXDCTL"),
        (["RDBAL[16]"], "16"),
        (["0xC"], "STATUS (0x8) and EECD (0x10)"),
        (["0x20000"], "0x20000"),
        (["12zz"], "12zz"),
        (["RCTL", "maybe"], "maybe"),
        (["RCTL", "0x100000000"], "32 bits"),
        (["RCTL", "1", "2"], "regs --help"),
        (["[bold]"], "[bold]"),
    ],
)
def test_what_is_unknown_is_one_line_and_status_2(softigb, words, says):
    ran = softigb("regs", *words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("softigb: ")
    assert ran.err.count("\n") == 1
    assert says in ran.err
