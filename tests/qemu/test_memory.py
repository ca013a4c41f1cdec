"""Guest memory of other kinds than a shared memfd: behind messages, private, in a file."""

from __future__ import annotations

import time

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.netns]

SIZE = "512M"


def backend(kind: str, *words: str) -> list[str]:
    """QEMU's words for other guest memory."""
    return ["-object", ",".join([kind, "id=other", f"size={SIZE}", *words]), "-machine", "memory-backend=other"]


def test_memory_that_only_messages_reach(boot):
    """No descriptor: each access of the card is a message to QEMU, which serves it while nothing waits for the card."""
    with boot(arguments=backend("memory-backend-ram")) as rig:
        rig.ping("-s 4000")
        rig.ping("-s 4000", address=rig.net.host_ip6)
        rig.tcp(256 << 10)
        rig.udp(1400, 50, True)
        rig.udp(1400, 50, False)
        for direction in ("", "-R"):
            assert rig.iperf(direction)["end"]["sum_received"]["bytes"] > 1 << 17
        rig.sh("modprobe -r igb")
        rig.load()
        rig.traffic(64 << 10)
        assert "timed out" not in rig.guest.log
        assert "vfio-user" not in rig.guest.log


def test_the_self_test_by_messages(boot):
    with boot(arguments=[*backend("memory-backend-ram")], append="pci=nomsi") as rig:
        rig.self_test()
        rig.up()
        rig.traffic(64 << 10)


def test_memory_that_is_private_is_told_in_plain_words(boot):
    with boot(arguments=backend("memory-backend-memfd", "share=off"), load=False) as rig:
        rig.tolerant = True
        rig.sh("modprobe igb; ip link set eth0 up; ip address add 10.0.2.2/24 dev eth0")
        rig.sh("ping -i 0.1 10.0.2.1 > /dev/null 2>&1 &")
        deadline = time.monotonic() + 20
        while not (told := [line for line in rig.card.log.splitlines() if "share=on" in line]):
            assert time.monotonic() < deadline, rig.card.log
            time.sleep(0.1)
        assert len(told) == 1, rig.card.log
        assert "guest memory is a private copy" in told[0]
        assert "ERROR" in told[0]


def test_memory_in_a_file(boot, tmp_path):
    path = tmp_path / "memory"
    with boot(arguments=backend("memory-backend-file", f"mem-path={path}", "share=on")) as rig:
        rig.traffic(1 << 20)
        for direction in ("", "-R"):
            assert rig.iperf(direction)["end"]["sum_received"]["bytes"] > 1 << 18
