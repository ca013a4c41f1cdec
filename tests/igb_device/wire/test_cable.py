"""Two cards back to back."""

from __future__ import annotations

import pytest

from igb_device.clock import SimClock
from igb_device.wire.base import GSO_TCPV4, NEEDS_CSUM, Accepts, Frame, Offload
from igb_device.wire.cable import cable
from igb_device.wire.none import NoWire


@pytest.fixture
def ends(clock, card):
    a, b = cable(clock, capacity=4)
    return card(a), card(b)


def test_link_is_up_once_both_have_a_card(clock, card):
    a, b = cable(clock)
    first = card(a)
    assert (a.link, first.links) == (False, [])
    assert first.send(b"x" * 60) == 1
    assert a.errors == 1
    second = card(b)
    assert (first.links, second.links) == ([True], [True])
    b.close()
    assert (first.links, a.link, second.links) == ([True, False], False, [True])


def test_frames_and_their_offload_arrive_as_copies(ends, clock):
    mine, theirs = ends
    live = bytearray(b"header" + b"payload")
    note = Offload(NEEDS_CSUM, GSO_TCPV4, 54, 1460, 34, 16)
    frame = Frame((memoryview(live)[:6], memoryview(live)[6:]), note, queue=3)
    assert mine.wire.send([frame]) == 1
    live[:] = b"overwritten!!"
    assert theirs.frames == []
    clock.advance(0)
    assert theirs.frames == [b"headerpayload"]
    assert theirs.offloads == [note]
    assert mine.wire.accepts == Accepts.CSUM | Accepts.TSO4 | Accepts.TSO6 | Accepts.USO


def test_full_cable(ends, clock):
    mine, theirs = ends
    theirs.wire.pause(True)
    frames = [bytes([number]) * 60 for number in range(10)]
    assert mine.send(*frames) == 4
    assert mine.send(*frames[4:]) == 0
    clock.advance(10)
    assert (theirs.frames, mine.readies) == ([], 0)
    theirs.wire.pause(False)
    clock.advance(0)
    assert theirs.frames == frames[:4]
    assert mine.readies == 1
    assert mine.send(*frames[4:8]) == 4
    clock.advance(0)
    assert theirs.frames == frames[:8]
    assert mine.wire.errors == 0


def test_a_card_that_takes_one_at_a_time_gets_all(ends, clock):
    mine, theirs = ends
    theirs.limit = 1
    mine.send(*[bytes([number]) * 60 for number in range(4)])
    clock.advance(0)
    assert [frame[0] for frame in theirs.frames] == [0, 1, 2, 3]


def test_answers_from_within_ready_do_not_nest(clock):
    """Each card answers a frame by a frame: one is called after the other, not inside it."""
    a, b = cable(clock)
    depth = 0
    deepest = 0
    count = 0

    def answer(end):
        def ready():
            nonlocal depth, deepest, count
            depth += 1
            deepest = max(deepest, depth)
            for frame in end.receive(10):
                count += 1
                if count < 5000:
                    end.send([Frame(frame.parts)])
            depth -= 1

        return ready

    a.connect(answer(a), lambda up: None)
    b.connect(answer(b), lambda up: None)
    a.send([Frame((b"ball" * 15,))])
    clock.advance(0)
    assert (count, deepest) == (5000, 1)


def test_a_card_that_takes_nothing_does_not_hang_the_clock(clock):
    a, b = cable(clock)
    calls = []
    a.connect(lambda: None, lambda up: None)
    b.connect(lambda: calls.append(1), lambda up: None)
    a.send([Frame((b"x" * 60,))])
    clock.advance(1000)
    assert calls == [1]


def test_no_wire(card):
    clock = SimClock()
    wire = NoWire()
    mine = card(wire)
    assert mine.send(b"a" * 60, b"b" * 60) == 2
    assert (wire.errors, wire.link, list(wire.receive(5)), mine.links) == (2, False, [], [])
    assert clock.next_due is None
