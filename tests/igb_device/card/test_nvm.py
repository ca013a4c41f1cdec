"""The NVM through registers, as Linux reads it (datasheet 3.3 and 8.4)."""

import pytest

EECD, EERD = 0x10, 0x14


def eerd(bench, word):
    """igb_read_nvm_eerd: start, poll DONE, take the upper half."""
    bench.write(EERD, word << 2 | 1)
    value = bench.read(EERD)
    assert value & 2
    return value >> 16


def test_checksum(bench):
    assert sum(eerd(bench, word) for word in range(0x40)) & 0xFFFF == 0xBABA


def test_address(bench):
    words = [eerd(bench, word) for word in range(3)]
    assert b"".join(word.to_bytes(2, "little") for word in words) == bytes.fromhex("525400123456")
    assert bench.read(0x5400).to_bytes(4, "little") + bench.read(0x5404).to_bytes(4, "little")[:2] == bytes.fromhex(
        "525400123456"
    )
    assert bench.read(0x5404) >> 31 == 1, "address valid"


def test_size_fits_what_eerd_reaches(bench):
    """Linux takes SIZE_EX + 6 as log2 of the words, and reads by EERD only below 2**15."""
    words = 1 << (bench.read(EECD) >> 11 & 15) + 6
    assert 64 <= words < 1 << 15
    eerd(bench, words - 1)


@pytest.mark.parametrize("word", [0x3FFF, 0x2FFF])
def test_beyond_the_image(bench, word):
    assert eerd(bench, word) == 0xFFFF


def test_words_that_drivers_look_at(bench):
    assert eerd(bench, 0x37) == 0xFFFF, "no alternate address"
    assert eerd(bench, 0x0D) == 0x10C9
    assert eerd(bench, 0x08) == 0xFAFA, "the part number is a string"


def test_a_write_without_start_reads_nothing(bench):
    before = eerd(bench, 1)
    bench.write(EERD, 2 << 2)
    assert bench.read(EERD) >> 16 == before


def test_auto_read_is_over_and_access_is_granted(bench):
    assert bench.read(EECD) & 0x300 == 0x300
    assert bench.read(EECD) & 0x80 == 0
    bench.write(EECD, bench.read(EECD) | 0x40)
    assert bench.read(EECD) & 0x80
    bench.write(EECD, bench.read(EECD) & ~0x40)
    assert bench.read(EECD) & 0x80 == 0


def test_vpd_in_config_space(bench):
    """The Vital Product Data of the image begin with an identifier string (PCI 2.2, appendix I)."""
    config = bench.nic.config_read(0, 256)
    at = config[0x34]
    while config[at] != 3:
        at = config[at + 1]
    bench.nic.config_write(at + 2, (0).to_bytes(2, "little"))
    assert int.from_bytes(bench.nic.config_read(at + 2, 2), "little") & 0x8000
    assert bench.nic.config_read(at + 4, 1) == b"\x82"
