"""The same card with `pci=nomsi`: INTx, a level that the driver's reading of ICR takes down."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.netns]


@pytest.fixture(scope="module")
def rig(boot):
    with boot(append="pci=nomsi") as running:
        yield running


def test_the_driver_uses_the_pin(rig):
    said = rig.dmesg("igb")
    assert "Using legacy interrupts. 1 rx queue(s), 1 tx queue(s)" in said
    assert "NIC Link is Up 1000 Mbps Full Duplex, Flow Control: RX/TX" in said
    lines = [line for line in rig.sh("cat /proc/interrupts").splitlines() if line.endswith("eth0")]
    assert len(lines) == 1
    assert "fasteoi" in lines[0]


def test_ping(rig):
    rig.ping("-s 4000")
    rig.ping("-s 4000", address=rig.net.host_ip6)
    assert rig.answers_peer("-s 4000")


def test_tcp(rig):
    rig.tcp(4 << 20)
    rig.tcp(1 << 20, rig.net.host_ip6)


def test_udp(rig):
    for to_guest in (True, False):
        rig.udp(1400, 100, to_guest)


def test_iperf3(rig):
    for direction in ("", "-R", "--bidir"):
        rig.iperf(direction)
    assert rig.losses() == {}


def test_interrupts_are_few_and_none_is_nobodys(rig):
    before = rig.interrupts()["eth0"]
    rig.tcp(4 << 20)
    assert 0 < rig.interrupts()["eth0"] - before < 10000  # there were some 3000 frames each way
    assert "nobody cared" not in rig.dmesg()


def test_an_idle_card_is_quiet(rig):
    """A level that stays up would be an interrupt without end."""
    before, began = rig.interrupts()["eth0"], rig.seconds()
    rig.sh("sleep 2")
    per_second = (rig.interrupts()["eth0"] - before) / (rig.seconds() - began)
    assert per_second < 50


def test_self_test_twice(rig):
    rig.self_test()
    rig.self_test()
    rig.up()
    rig.traffic()


def test_down_and_up_and_reload(rig):
    rig.sh("ip link set eth0 down")
    rig.up()
    rig.traffic(64 << 10)
    rig.sh("modprobe -r igb")
    rig.load()
    rig.traffic(64 << 10)
