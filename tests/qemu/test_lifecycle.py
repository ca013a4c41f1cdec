"""QEMU, server and guest come and go: resets, sleep, a driver that is unbound, a QEMU or a server that dies."""

from __future__ import annotations

import os
import signal
import time

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.netns]

DEVICE = "/sys/bus/pci/devices/0000:01:00.0"
VET, VET_DEFAULT = 0x38, 0x8100  # and another tag's type in the upper half
"""A register whose value a reset sets: what was written there shows whether there was one."""


@pytest.fixture(scope="module")
def rig(boot):
    # iomem=relaxed: a program may look at the registers of a device that a driver has.
    with boot(append="iomem=relaxed") as running:
        yield running


def vet(rig, value: int | None = None) -> int:
    """Reads VET, or writes it first."""
    base = int(rig.sh(f"head -n 1 {DEVICE}/resource").split()[0], 16)
    if value is not None:
        rig.sh(f"devmem {base + VET:#x} 32 {value:#x}")
    return int(rig.sh(f"devmem {base + VET:#x} 32"), 16)


def test_flr(rig):
    assert "flr" in rig.sh(f"cat {DEVICE}/reset_method").split()
    assert vet(rig, 0x1234) == 0x1234
    rig.sh(f"ip link set eth0 down && echo flr > {DEVICE}/reset_method && echo 1 > {DEVICE}/reset")
    assert vet(rig) & 0xFFFF == VET_DEFAULT
    rig.up()
    rig.traffic()


def test_flr_under_traffic(rig):
    """The driver isn't told; what it does next has to work again."""
    rig.sh(f"iperf3 -c {rig.net.host_ip} -t 4 > /tmp/iperf & sleep 1; echo 1 > {DEVICE}/reset; sleep 0.5; kill $!")
    rig.sh("ip link set eth0 down")
    rig.up()
    rig.traffic()


def test_unbind_and_bind(rig):
    driver = "/sys/bus/pci/drivers/igb"
    for _ in range(2):
        rig.sh(f"echo 0000:01:00.0 > {driver}/unbind")
        assert rig.guest.run("ip link show eth0").status != 0
        rig.sh(f"echo 0000:01:00.0 > {driver}/bind")
        rig.up()
        rig.traffic(64 << 10)


def test_removed_and_found_again(rig):
    rig.sh(f"echo 1 > {DEVICE}/remove")
    assert rig.guest.run("ip link show eth0").status != 0
    rig.sh("echo 1 > /sys/bus/pci/rescan; until [ -e /sys/class/net/eth0 ]; do sleep 0.05; done")
    rig.up()
    rig.traffic()


def test_runtime_sleep(rig):
    """With its interface down the card is put to D3hot after 5 s, and wakes when the interface comes up."""
    rig.sh(f"ip link set eth0 down; echo auto > {DEVICE}/power/control")
    rig.sh(
        f"i=0; until [ $(cat {DEVICE}/power_state) = D3hot ]; do sleep 0.2; i=$((i+1)); [ $i -lt 100 ] || exit 1; done"
    )
    assert "Status: D3" in rig.sh("setpci -s 01:00.0 CAP_PM+4.w > /dev/null; lspci -vv -s 01:00.0")
    rig.up()
    assert rig.sh(f"cat {DEVICE}/power_state").strip() == "D0"
    rig.sh(f"echo on > {DEVICE}/power/control")
    rig.traffic()


def test_suspend_and_resume(rig):
    """The kernel's own test of devices: they go to sleep, and are woken after a second."""
    if rig.guest.run("grep -q devices /sys/power/pm_test && grep -q freeze /sys/power/state").status != 0:
        pytest.skip("this kernel has no test of suspend")
    rig.sh("echo 1 > /sys/module/suspend/parameters/pm_test_delay; echo devices > /sys/power/pm_test")
    rig.sh("echo freeze > /sys/power/state")
    assert "suspend debug: Waiting for 1 second" in rig.dmesg()
    rig.wait_carrier(True)
    rig.traffic()


def test_reset_button_while_frames_run(rig):
    rig.sh(f"iperf3 -c {rig.net.host_ip} -t 30 > /dev/null 2>&1 & iperf3 -h > /dev/null; sleep 0.5")
    rig.guest.reset()
    rig.load()
    rig.traffic()
    assert rig.losses() == {}


def test_the_next_qemu_gets_the_card(rig, boot):
    os.kill(rig.guest.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while rig.guest.alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with boot(cards=[rig.card], network=rig.net) as second:
        second.traffic()
        assert second.losses() == {}
        second.guest.shutdown()
    assert rig.card.log.count("a client has come") == 2


def test_a_server_that_dies_leaves_guest_and_qemu_alive(boot):
    with boot() as rig:
        rig.tolerant = True
        rig.sh(f"ping -i 0.05 {rig.net.host_ip} > /dev/null &")
        os.kill(rig.card.pid, signal.SIGKILL)
        assert rig.sh("setpci -s 01:00.0 VENDOR_ID.w", timeout=20.0).strip() == "ffff"
        rig.guest.run("ip link show eth0; ethtool eth0; ethtool -S eth0", timeout=30.0)
        rig.guest.run("ip link set eth0 down", timeout=60.0)
        assert rig.sh("echo alive", timeout=20.0) == "alive\n"
        assert rig.guest.qmp("query-status")["status"] == "running"
