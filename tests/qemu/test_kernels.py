"""The drivers of other kernels than Debian stable's: the oldest that is promised to work, and the newest there is."""

from __future__ import annotations

import pytest

from igb_vm import VmError, get_kernel

pytestmark = [pytest.mark.qemu, pytest.mark.netns, pytest.mark.slow]


@pytest.mark.parametrize(("suite", "version"), [("bookworm", "6.1."), ("trixie-backports", "")])
def test_kernel(boot, suite, version):
    try:
        kernel = get_kernel(suite)
    except VmError as why:
        pytest.skip(f"no kernel of {suite}: {why}")
    with boot(kernel=kernel, smp=2) as rig:
        assert rig.sh("uname -r").startswith(version)
        said = rig.dmesg("igb")
        assert f"eth0: (PCIe:2.5Gb/s:Width x4) {rig.mac}" in said
        assert "Using MSI-X interrupts. 2 rx queue(s), 2 tx queue(s)" in said
        rig.ping("-s 4000")
        rig.traffic(1 << 20)
        rig.tcp(256 << 10, rig.net.host_ip6)
        rig.self_test()
        rig.up()
        rig.traffic(64 << 10)
        assert rig.losses() == {}
        rig.sh("modprobe -r igb")
