"""Rings end to end: a frame in, a frame out."""

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether


def test_a_frame_is_received(bench):
    bench.rx_setup()
    bench.rx_on()
    frame = bytes(Ether(dst="52:54:00:12:34:56", src="02:00:00:00:00:01") / IP() / UDP() / (b"x" * 50))
    bench.wire.give(frame)
    (got,) = bench.rx_take()
    assert got.data == frame


def test_a_frame_is_sent(bench):
    bench.tx_setup()
    frame = bytes(range(200))
    index = bench.send(frame)
    assert bench.wire.frames == [frame]
    assert bench.tx_done(index)
