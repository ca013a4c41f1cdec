"""The IEEE 1588 clock (datasheet 7.9.2): SYSTIM counts by TIMINCA."""

import pytest

SYSTIML, SYSTIMH, TIMINCA = 0xB600, 0xB604, 0xB608
LINUX = 1 << 24 | 16 << 19  # a period of 16 ns, 16 << 19 a period: SYSTIM >> 19 is nanoseconds


def systim(bench):
    low = bench.read(SYSTIML)
    return bench.read(SYSTIMH) << 32 | low


def test_it_stands_still_at_first(bench):
    bench.clock.advance(1_000_000)
    assert systim(bench) == 0


@pytest.mark.parametrize("ns", [16, 1_000_000_000, 3_600_000_000_000])
def test_linux_sees_nanoseconds(bench, ns):
    bench.write(TIMINCA, LINUX)
    start = systim(bench)
    bench.clock.advance(ns)
    assert (systim(bench) - start) >> 19 == ns


def test_frequency_is_adjusted(bench):
    """igb_ptp_adjfine_82576 changes the increment: 16 << 19 plus a part per million."""
    bench.write(TIMINCA, LINUX + 8)
    bench.clock.advance(1_000_000_000)
    assert systim(bench) >> 19 == 1_000_000_953  # 8 / 2**23 is 0.954 ppm


def test_changing_the_increment_keeps_the_time(bench):
    bench.write(TIMINCA, LINUX)
    bench.clock.advance(16_000)
    bench.write(TIMINCA, LINUX * 1 + (1 << 24))  # a period of 32 ns: half as fast
    assert systim(bench) >> 19 == 16_000
    bench.clock.advance(16_000)
    assert systim(bench) >> 19 == 24_000


def test_written_and_read_back(bench):
    bench.write(SYSTIML, 0x12345678)
    bench.write(SYSTIMH, 0x9ABCDEF0)
    assert systim(bench) == 0x9ABCDEF012345678
    bench.write(TIMINCA, LINUX)
    bench.write(SYSTIML, 0)
    bench.write(SYSTIMH, 0)
    assert systim(bench) == 0


def test_both_halves_are_of_one_moment(bench):
    bench.write(TIMINCA, LINUX)
    bench.write(SYSTIML, 0xFFFFFFFF)
    bench.write(SYSTIMH, 5)
    low = bench.read(SYSTIML)
    bench.clock.advance(16)
    assert (bench.read(SYSTIMH), low) == (5, 0xFFFFFFFF)
    assert systim(bench) >> 32 == 6


def test_it_wraps(bench):
    bench.write(TIMINCA, LINUX)
    bench.write(SYSTIML, 0xFFFFFFFF)
    bench.write(SYSTIMH, 0xFFFFFFFF)
    bench.clock.advance(16)
    assert systim(bench) == (16 << 19) - 1


def test_reset_stops_it(bench):
    bench.write(TIMINCA, LINUX)
    bench.clock.advance(1000)
    bench.write(0, 1 << 26)
    bench.clock.advance(1000)
    assert systim(bench) == 0
