"""Wires to what isn't ours: passt, and a TAP that is recorded and then taken away."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from igb_vm import Network, VmError, ensure

pytestmark = pytest.mark.qemu

DIRECTION, IN, OUT = "frame.packet_flags_direction", 1, 2
CHECKSUMS = [f"{protocol}.checksum.status" for protocol in ("ip", "tcp", "icmp", "icmpv6")]
GOOD = "1"

SCRIPT = r"""#!/bin/sh
[ "$1" = bound ] || exit 0
ip address replace $ip/$mask dev $interface
for gateway in $router; do ip route replace default via $gateway; done
"""


def test_passt(boot):
    """DHCP, HTTP and iperf3 over passt's stream socket."""
    try:
        network = Network("passt").__enter__()
    except VmError as why:
        pytest.skip(str(why))
    with contextlib.closing(network), boot(f"stream:unix:{network.socket}", network=network, load=False) as rig:
        rig.sh("modprobe igb; ip link set eth0 up")
        rig.wait_carrier(True)
        rig.guest.copy_in(SCRIPT.encode(), "/dhcp", mode=0o755)
        rig.sh("udhcpc -i eth0 -f -q -n -t 10 -T 1 -s /dhcp")
        assert f"inet {network.guest_ip}/{network.prefix}" in rig.sh("ip address show eth0")
        rig.tcp(1 << 20)
        for direction in ("", "-R"):
            assert rig.iperf(direction)["end"]["sum_received"]["bytes"] > 1 << 18
        assert rig.losses() == {}


@pytest.mark.netns
def test_a_recorded_tap_that_goes(boot, tmp_path):
    capture = tmp_path / "c.pcapng"
    with boot(capture=capture, smp=2) as rig:
        rig.ping("-s 1000", count=5)
        assert rig.answers_peer("-s 1100")
        rig.ping("-s 1200", count=2, address=rig.net.host_ip6)
        rig.tcp(256 << 10)
        deadline = time.monotonic() + 10
        frames = dissected(capture)
        while carried(frames) < 2 * (256 << 10):  # the last ones are written within half a second
            assert time.monotonic() < deadline, carried(frames)
            frames = dissected(capture)
        requests = [frame for frame in frames if frame.get("icmp.type") == "8"]
        answers = [frame for frame in frames if frame.get("icmp.type") == "0"]
        for echoes, mine, theirs in ((requests, OUT, IN), (answers, IN, OUT)):
            by_size = {size: [f for f in echoes if f["ip.len"] == str(size + 28)] for size in (1000, 1100)}
            assert [int(frame[DIRECTION], 16) for frame in by_size[1000]] == [mine] * 5
            assert [int(frame[DIRECTION], 16) for frame in by_size[1100]] == [theirs] * 2
            assert all(frame["frame.interface_queue"] in ("0", "1") for frame in echoes)
        assert len([frame for frame in frames if frame.get("icmpv6.type") in ("128", "129")]) == 4
        for field in CHECKSUMS:
            assert {frame[field] for frame in frames if field in frame} == {GOOD}, field

        rig.peer("ip", "link", "delete", rig.net.name)
        rig.wait_carrier(False)
        assert "NIC Link is Down" in rig.dmesg()
        assert rig.guest.run("ethtool eth0 | grep detected").output.strip() == "Link detected: no"
        rig.sh("ip link set eth0 down; ip link set eth0 up; ethtool -S eth0")
        os.kill(rig.card.pid, 0)
        assert not [line for line in rig.card.log.splitlines() if "ERROR" in line or "Traceback" in line]


def carried(frames: list[dict[str, str]]) -> int:
    """Bytes that TCP carried."""
    return sum(int(frame["tcp.len"]) for frame in frames if "tcp.len" in frame)


def dissected(capture) -> list[dict[str, str]]:
    """What tshark finds in each frame, without what a frame hasn't got. Checksums are summed up, not believed."""
    names = ["frame.packet_flags_direction", "frame.interface_queue", "ip.len", "icmp.type", "icmpv6.type", "tcp.len"]
    names += CHECKSUMS
    words = ["-n", "-r", str(capture), "-T", "fields", "-E", "separator=|"]
    for name in names:
        words += ["-e", name]
    for protocol in ("ip", "tcp", "udp"):
        words += ["-o", f"{protocol}.check_checksum:TRUE"]
    said = ensure(["tshark"]).program("tshark").run(*words)
    assert said.returncode == 0, said.stderr
    frames = [dict(zip(names, line.split("|"), strict=True)) for line in said.stdout.splitlines()]
    return [{name: value for name, value in frame.items() if value} for frame in frames]
