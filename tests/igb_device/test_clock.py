"""Simulated time: calls in the order of their moments, each at its own."""

import random

import pytest

from igb_device.clock import SimClock


@pytest.fixture
def clock():
    return SimClock(100)


def test_time_moves_only_by_advance(clock):
    assert clock.now() == 100
    clock.advance(5)
    clock.advance(0)
    assert clock.now() == 105


def test_calls_run_in_order_each_at_its_moment(clock):
    seen = []
    for when in (300, 150, 200, 150):
        clock.call_at(when, lambda when=when: seen.append((when, clock.now())))
    clock.advance(149)
    assert seen == [(150, 150), (150, 150), (200, 200)]
    assert clock.now() == 249
    clock.advance(51)
    assert seen[-1] == (300, 300)


def test_equal_moments_run_in_the_order_asked(clock):
    seen = []
    for n in range(50):
        clock.call_at(200, lambda n=n: seen.append(n))
    clock.advance(100)
    assert seen == list(range(50))


def test_the_past_is_now(clock):
    seen = []
    clock.call_at(3, lambda: seen.append(clock.now()))
    assert clock.next_due == 100
    assert seen == []
    clock.advance(0)
    assert seen == [100]


def test_a_cancelled_call_never_runs(clock):
    seen = []
    timer = clock.call_at(110, lambda: seen.append(1))
    timer.cancel()
    timer.cancel()
    assert clock.next_due is None
    clock.advance(1000)
    assert seen == []


def test_cancelling_after_it_ran(clock):
    timer = clock.call_at(110, lambda: None)
    clock.advance(20)
    timer.cancel()


def test_a_call_may_ask_for_more(clock):
    seen = []

    def tick():
        seen.append(clock.now())
        clock.call_at(clock.now() + 10, tick)

    clock.call_at(110, tick)
    clock.advance(45)
    assert seen == [110, 120, 130, 140]
    assert clock.next_due == 150


def test_a_call_may_cancel_one_of_the_same_moment(clock):
    seen = []
    clock.call_at(110, lambda: second.cancel())
    second = clock.call_at(110, lambda: seen.append(1))
    clock.advance(20)
    assert seen == []


def test_an_exception_leaves_the_clock_at_the_call(clock):
    def fail():
        raise RuntimeError

    clock.call_at(110, fail)
    with pytest.raises(RuntimeError):
        clock.advance(50)
    assert clock.now() == 110
    clock.advance(50)
    assert clock.now() == 160


def test_many_calls_at_random(clock):
    rng = random.Random(1)
    seen = []
    expected = []
    for _ in range(1000):
        when = rng.randrange(100, 2000)
        timer = clock.call_at(when, lambda when=when: seen.append(when))
        if rng.random() < 0.3:
            timer.cancel()
        else:
            expected.append(when)
    while clock.now() < 2000:
        clock.advance(rng.randrange(50))
    assert seen == sorted(expected)
