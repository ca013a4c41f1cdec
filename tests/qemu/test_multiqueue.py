"""Two vCPUs: several queues with a vector each, flows spread by RSS, and ways to change how."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.netns]


@pytest.fixture(scope="module")
def rig(boot):
    with boot(smp=2) as running:
        yield running


def spread(rig, words: str) -> dict[str, int]:
    """How many packets each queue had while eight flows ran."""
    before = rig.statistics()
    rig.iperf(f"-P 8 {words}")
    after = rig.statistics()
    return {
        name: count - before[name] for name, count in after.items() if re.fullmatch(r"[rt]x_queue_\d+_packets", name)
    }


def queues(rig, combined: int) -> None:
    rig.sh(f"ethtool -L eth0 combined {combined}")
    rig.up()


def test_a_queue_and_a_vector_for_each_cpu(rig):
    assert "Using MSI-X interrupts. 2 rx queue(s), 2 tx queue(s)" in rig.dmesg("igb")
    assert set(rig.interrupts()) == {"eth0", "eth0-rx-0", "eth0-rx-1", "eth0-tx-0", "eth0-tx-1"}


def test_flows_use_all_queues_and_vectors(rig):
    before = rig.interrupts()
    sent, received = spread(rig, ""), spread(rig, "-R")
    after = rig.interrupts()
    for name in ("eth0-rx-0", "eth0-rx-1", "eth0-tx-0", "eth0-tx-1"):
        assert after[name] > before[name], name
    assert min(received["rx_queue_0_packets"], received["rx_queue_1_packets"]) > 10
    assert min(sent["tx_queue_0_packets"], sent["tx_queue_1_packets"]) > 10
    assert rig.losses() == {}


def test_a_flow_stays_on_its_queue(rig):
    """Datagrams of one flow: the hash is of addresses alone for UDP, so they all have one queue."""
    before = rig.statistics()
    rig.udp(500, 200, True)
    after = rig.statistics()
    counts = sorted(after[f"rx_queue_{queue}_packets"] - before[f"rx_queue_{queue}_packets"] for queue in (0, 1))
    assert counts[1] >= 200
    assert counts[0] < 20


def test_traffic(rig):
    rig.traffic(4 << 20)
    rig.tcp(1 << 20, rig.net.host_ip6)


@pytest.mark.parametrize(("weights", "idle"), [("1 0", 1), ("0 1", 0)])
def test_the_indirection_table_decides(rig, weights, idle):
    try:
        rig.sh(f"ethtool -X eth0 weight {weights}")
        table = re.findall(r"^ +\d+:((?: +\d+)+)$", rig.sh("ethtool -x eth0"), re.MULTILINE)
        assert {int(queue) for line in table for queue in line.split()} == {1 - idle}
        counts = spread(rig, "-R")
        assert counts[f"rx_queue_{idle}_packets"] < 20  # ARP and the like have no hash, and go to the first
        assert counts[f"rx_queue_{1 - idle}_packets"] > 50
    finally:
        rig.sh("ethtool -X eth0 default")


def test_the_default_table_spreads_again(rig):
    counts = spread(rig, "-R")
    assert min(counts["rx_queue_0_packets"], counts["rx_queue_1_packets"]) > 10


@pytest.mark.parametrize("combined", [1, 2])
def test_number_of_queues(rig, combined):
    queues(rig, combined)
    assert re.findall(r"^Combined:\s+(\d+)$", rig.sh("ethtool -l eth0"), re.MULTILINE)[1] == str(combined)
    assert len([name for name in rig.interrupts() if "rx" in name]) == combined
    rig.traffic()


def test_both_directions_at_once(rig):
    report = rig.iperf("--bidir -P 4", 2)
    assert report["end"]["sum_received"]["bytes"] > 1 << 20
    assert report["end"]["sum_received_bidir_reverse"]["bytes"] > 1 << 20
    assert rig.losses() == {}
