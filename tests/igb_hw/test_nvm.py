"""The NVM image as a driver reads it: each check is what Linux does with these words, written out here."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igb_hw import nvm
from igb_hw.eeprom import EECD
from igb_hw.personality import I82576, PERSONALITIES

MAC = bytes.fromhex("02005e102030")
MACS = st.binary(min_size=6, max_size=6).filter(lambda mac: not mac[0] & 1 and any(mac))


def words_of(image: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(image) // 2}H", image)


@given(MACS)
def test_the_first_64_words_add_up(mac: bytes) -> None:
    words = words_of(nvm.build(mac))
    assert sum(words[:0x40]) & 0xFFFF == 0xBABA
    assert struct.pack("<3H", *words[:3]) == mac


@given(MACS, st.dictionaries(st.integers(0x44, 0xFF), st.integers(0, 0xFFFF)))
def test_a_built_image_has_no_problems(mac: bytes, changes: dict[int, int]) -> None:
    assert list(nvm.problems(nvm.build(mac, words=256, changes=changes))) == []


def test_size_and_word_count_agree_with_eecd() -> None:
    image = nvm.build(MAC)
    assert len(image) * 8 == 128 * 1024
    # Linux: words = 1 << (SIZE_EX + 6)
    assert 1 << (EECD.get(EECD.reset, "SIZE_EX") + 6) == len(image) // 2
    assert 1 << nvm.size_ex(256) + 6 == 256
    assert nvm.size_ex(I82576.nvm_words) == EECD.get(EECD.reset, "SIZE_EX")


@pytest.mark.parametrize("words", [0, 64, 128, 1000, 32768, -256])
def test_sizes_the_card_does_not_have_are_refused(words: int) -> None:
    with pytest.raises(ValueError, match="256 to 16384"):
        nvm.build(MAC, words=words)


def test_what_a_driver_reads_at_probe() -> None:
    words = words_of(nvm.build(MAC))
    assert words[0x37] in (0, 0xFFFF)  # no alternate MAC address
    assert words[0x0F] & 0x3000 not in (0, 0x2000)  # PAUSE both ways
    assert words[0x24] & 0x0400  # wake by magic packet
    assert words[0x04] not in (0, 0xFFFF)
    assert words[0x0D] == 0x10C9
    assert words[0x0C] == 0x8086
    assert words[0x12] >> 14 == 1


def test_the_part_number_is_a_string_behind_a_pointer() -> None:
    words = words_of(nvm.build(MAC, part="ABC123-007"))
    assert words[8] == 0xFAFA
    length = words[words[9]]
    assert length * 2 - 1 <= 11  # Linux's buffer
    text = b"".join(struct.pack(">H", word) for word in words[words[9] + 1 : words[9] + length])
    assert text == b"ABC123-007"
    assert nvm.part_number(nvm.build(MAC, part="ABC123-007")) == "ABC123-007"
    assert nvm.part_number(nvm.build(MAC, part="ODD")) == "ODD"


def test_a_part_number_in_the_old_form() -> None:
    # 1040FF-0FF is what Linux prints for an image with 1040 ffff in words 8 and 9
    image = nvm.build(MAC, changes={8: 0x1040, 9: 0xFFFF})
    assert nvm.part_number(image) == "1040FF-0FF"


@given(st.integers(0, 15), st.integers(0, 99), st.integers(0, 15))
def test_firmware_version_without_an_etrack_id(major: int, minor: int, image_id: int) -> None:
    image = nvm.build(MAC, version=nvm.Version(major, minor, image_id))
    words = words_of(image)
    assert words[0x43] & 0xF000 != 0x8000
    word = words[0x05]
    assert ((word & 0xF000) >> 12, (word & 0x0FF0) >> 4, word & 0xF) == (major, minor, image_id)
    assert nvm.firmware_version(image) == f"{major}.{minor}.{image_id}"


@given(st.integers(0, 15), st.integers(0, 99), st.integers(0x80000000, 0x8FFFFFFF))
def test_firmware_version_with_an_etrack_id(major: int, minor: int, etrack: int) -> None:
    image = nvm.build(MAC, version=nvm.Version(major, minor, 0), etrack=etrack)
    words = words_of(image)
    assert words[0x43] << 16 | words[0x42] == etrack
    low = words[0x05] & 0xFF if words[0x05] & 0x0F00 == 0 else (words[0x05] & 0x0FF0) >> 4
    assert low // 16 * 10 + low % 16 == minor
    assert nvm.firmware_version(image) == f"{major}.{minor}, {etrack:#010x}"
    assert words[0x3D] == 0  # no option ROM version


def test_vital_product_data_is_well_formed() -> None:
    image = nvm.build(MAC, serial="SN42", part="PART-1")
    words = words_of(image)
    area = image[words[0x2F] * 2 : words[0x2F] * 2 + 256]
    tag, length = struct.unpack_from("<BH", area)
    assert tag == 0x82  # large resource: identifier string
    assert area[3 : 3 + length] == b"Gigabit ET Dual Port Server Adapter"
    at = 3 + length
    tag, length = struct.unpack_from("<BH", area, at)
    assert tag == 0x90  # large resource: VPD-R
    at += 3
    end = at + length
    found = {}
    while at < end:
        found[area[at : at + 2]] = area[at + 3 : at + 3 + area[at + 2]]
        if area[at : at + 2] == b"RV":
            assert sum(area[: at + 4]) % 256 == 0
        at += 3 + area[at + 2]
    assert at == end
    assert found[b"PN"] == b"PART-1"
    assert found[b"SN"] == b"SN42"
    assert b"RV" in found
    assert area[at] == 0x78  # end tag


def test_word_map_has_no_gaps_and_is_construct_s_too() -> None:
    at = 0
    for word in nvm.WORD_MAP:
        assert word.at == at, word.name
        at += word.count
    assert at == nvm.HEADER_WORDS
    parsed = nvm.LAYOUT.parse(nvm.build(MAC))
    assert parsed.device_id == 0x10C9
    assert parsed.pba[0] == 0xFAFA
    assert struct.pack("<3H", *parsed.mac) == MAC


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"mac": b"\x01\0\0\0\0\1"}, "station"),
        ({"mac": bytes(6)}, "station"),
        ({"mac": b"\x02\x03"}, "station"),
        ({"mac": b""}, "nothing"),
        ({"version": nvm.Version(16, 0, 0)}, "version"),
        ({"version": nvm.Version(1, 100, 0)}, "version"),
        ({"etrack": 0x10000000}, "EETRACK"),
        ({"part": ""}, "part number"),
        ({"part": "12345678901"}, "part number"),
        ({"part": "é"}, "part number"),
        ({"serial": "x" * 300}, "VPD"),
        ({"serial": "x" * 240}, "VPD"),
        ({"name": "ü"}, "ASCII"),
        ({"changes": {8192: 0}}, "doesn't fit"),
        ({"changes": {0: 65536}}, "doesn't fit"),
    ],
)
def test_wrong_values_are_refused_in_one_line(wrong: dict[str, object], match: str) -> None:
    arguments: dict[str, object] = {"mac": MAC, **wrong}
    with pytest.raises(ValueError, match=match) as caught:
        nvm.build(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=600))
def test_problems_of_anything_are_lines(image: bytes) -> None:
    lines = list(nvm.problems(image))
    assert lines
    assert all(line and "\n" not in line for line in lines)


def test_problems_are_named() -> None:
    image = bytearray(nvm.build(MAC, words=256))
    image[0x20] ^= 1
    assert any("0xbaba" in line for line in nvm.problems(bytes(image)))
    multicast = nvm.build(MAC, words=256, changes={0: 0x0001})
    assert any("station" in line for line in nvm.problems(multicast))
    far = nvm.build(MAC, words=256, changes={9: 0x4000})
    assert any("part number" in line for line in nvm.problems(far))
    assert nvm.part_number(far) == ""


def test_the_card_as_lspci_shows_it() -> None:
    card = PERSONALITIES["82576"]
    assert card is I82576
    assert (card.vendor_id, card.device_id, card.subsystem_vendor, card.subsystem_id) == (
        0x8086,
        0x10C9,
        0x8086,
        0xA03C,
    )
    assert (card.revision, card.class_code) == (1, 0x020000)
    assert {bar.index: bar.size for bar in card.bars} == {0: 0x20000, 1: 0x20000, 2: 0x20, 3: 0x4000}
    assert card.pm_capabilities & 7 == 3  # version
    assert card.pm_capabilities >> 11 == 0b11001  # PME from D0, D3hot, D3cold
    assert card.device_capabilities >> 28 & 1  # FLR
    assert 128 << (card.device_capabilities & 7) == 512  # MaxPayload
    assert card.link_capabilities & 0xF == 1  # 2.5 GT/s
    assert card.link_capabilities >> 4 & 0x3F == 4  # lanes
    assert card.msix_vectors >= 9  # 8 queues and one more
    assert card.msix_pba >= card.msix_table + 16 * card.msix_vectors
    assert card.capability_offsets["msi"] == 0x50
    assert card.capability_offsets["dsn"] == 0x140
    assert f"{card.dsn(MAC):016x}" == "02005effff102030"
    assert list(nvm.problems(card.nvm_image(MAC))) == []
