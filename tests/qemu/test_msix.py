"""One vCPU with MSI-X: what the driver finds at probe, traffic of every kind, and every knob that it has."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = [pytest.mark.qemu, pytest.mark.netns]

STRANGER = "02:00:00:00:00:99"  # an address that nobody has


@pytest.fixture(scope="module")
def rig(boot):
    with boot() as running:
        yield running


def test_the_driver_finds_the_card(rig):
    said = rig.dmesg("igb")
    assert f"eth0: (PCIe:2.5Gb/s:Width x4) {rig.mac}" in said
    assert re.search(r"PBA No: \w{6}-\w{3}$", said, re.MULTILINE)
    assert "Using MSI-X interrupts. 1 rx queue(s), 1 tx queue(s)" in said
    assert "NIC Link is Up 1000 Mbps Full Duplex, Flow Control: RX/TX" in said
    assert not re.search(r"igb.*(fail|error|invalid|timeout|not valid)", said, re.IGNORECASE)


def test_the_link_is_as_negotiated(rig):
    said = rig.sh("ethtool eth0")
    for line in ("Speed: 1000Mb/s", "Duplex: Full", "Auto-negotiation: on", "PHYAD: 1", " (auto)"):
        assert line in said
    assert "Link detected: yes" in said
    pause = re.findall(r"^(Autonegotiate|RX|TX):\s+(\w+)$", rig.sh("ethtool -a eth0"), re.MULTILINE)
    assert dict(pause) == {"Autonegotiate": "on", "RX": "on", "TX": "on"}


@pytest.mark.parametrize("size", [0, 56, 1472, 1473, 4000, 65000])
def test_ping(rig, size):
    rig.ping(f"-s {size}")


def test_ping_by_ipv6(rig):
    rig.ping("-s 56", address=rig.net.host_ip6)
    rig.ping("-s 4000", address=rig.net.host_ip6)


def test_the_peer_pings_with_fragments(rig):
    assert rig.answers_peer("-s 8000")


def test_tcp(rig):
    before = rig.statistics()
    rig.tcp(4 << 20)
    after = rig.statistics()
    assert after["tx_tcp_seg_good"] > before["tx_tcp_seg_good"], "the card has cut no segments"


def test_tcp_by_ipv6(rig):
    rig.tcp(1 << 20, rig.net.host_ip6)


@pytest.mark.parametrize("to_guest", [True, False], ids=["to the guest", "to the peer"])
def test_udp(rig, to_guest):
    rig.udp(1400, 200, to_guest)
    rig.udp(8, 100, to_guest)  # less than the shortest frame
    address = rig.net.guest_ip6 if to_guest else rig.net.host_ip6
    rig.udp(1111, 100, to_guest, address)


@pytest.mark.parametrize("to_guest", [True, False], ids=["to the guest", "to the peer"])
def test_udp_in_segments(rig, to_guest):
    assert "tx-udp-segmentation: on" in rig.sh("ethtool -k eth0")
    rig.udp(1400, 405, to_guest, segments=45)
    rig.udp(100, 200, to_guest, rig.net.guest_ip6 if to_guest else rig.net.host_ip6, segments=64)


def test_iperf3(rig):
    for direction in ("", "-R"):
        assert rig.iperf(f"{direction} -P 2")["end"]["sum_received"]["bits_per_second"] > 1e6


def test_nothing_was_lost_or_damaged(rig):
    assert rig.losses() == {}
    said = rig.sh("ip -s link show eth0")
    counts = re.findall(r"[RT]X:.*\n\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)", said)
    assert len(counts) == 2
    for packets, errors, dropped in counts:
        assert int(packets) > 100
        assert (errors, dropped) == ("0", "0")


def test_both_ends_count_the_same(rig):
    """The card's statistics registers, against the guest's own count of what it gave the card."""
    queue = "tx_queue_0_packets"
    before = rig.statistics()
    rig.ping(count=50)
    after = rig.statistics()
    assert after["tx_packets"] - before["tx_packets"] == after[queue] - before[queue] >= 50
    assert after["rx_packets"] - before["rx_packets"] == after["rx_queue_0_packets"] - before["rx_queue_0_packets"]
    # 98 bytes and the FCS, which hardware counts and Linux takes off again
    assert after["tx_bytes"] - before["tx_bytes"] >= 50 * 98


def test_interrupts_are_few_and_on_their_vectors(rig):
    before = rig.interrupts()
    assert set(before) == {"eth0", "eth0-rx-0", "eth0-tx-0"}
    rig.tcp(4 << 20)
    after = rig.interrupts()
    new = {name: after[name] - before[name] for name in before}
    assert 0 < new["eth0-rx-0"] < 6000  # there were some 3000 frames each way
    assert 0 < new["eth0-tx-0"] < 6000
    assert new["eth0"] < 100


def test_self_test_twice(rig):
    rig.self_test()
    rig.self_test()
    rig.wait_carrier(True)
    rig.up()
    rig.traffic()


def test_driver_and_firmware(rig):
    said = rig.sh("ethtool -i eth0")
    release = rig.sh("uname -r").strip()
    for line in ("driver: igb", f"version: {release}", "bus-info: 0000:01:00.0"):
        assert line in said
    assert re.search(r"^firmware-version: \d+\.\d+", said, re.MULTILINE)


def test_eeprom(rig):
    raw = rig.guest.run("ethtool -e eth0 raw on", check=True).raw
    words = [int.from_bytes(raw[at : at + 2], "little") for at in range(0, len(raw), 2)]
    assert len(raw) >= 128
    assert sum(words[:64]) & 0xFFFF == 0xBABA
    assert raw[:6].hex(":") == rig.mac


def test_registers(rig):
    dump = dict(re.findall(r"^0x\w+: (\w+) .*(0x\w{8})\s*$", rig.sh("ethtool -d eth0"), re.MULTILINE))
    low, high = int(dump["RAL00"], 16), int(dump["RAH00"], 16)
    # ethtool shows it after a swap of the bytes of each half, so only what is in it is compared
    assert sorted((low << 16 | high & 0xFFFF).to_bytes(6, "big")) == sorted(bytes.fromhex(rig.mac.replace(":", "")))
    assert high >> 31 == 1
    assert int(dump["RDLEN0"], 16) == 16 * 256
    assert int(dump["TDLEN0"], 16) == 16 * 256
    assert len(dump) > 300


def test_there_is_no_module_to_read(rig):
    said = rig.guest.run("ethtool -m eth0")
    assert said.status != 0
    assert "not supported" in said.output


def test_config_space_decodes(rig):
    said = rig.sh("lspci -nvv -s 01:00.0")
    assert "<access denied>" not in said
    assert "Unknown" not in said
    for text in (
        "01:00.0 0200: 8086:10c9 (rev 01)",
        "[size=128K]",
        "[size=16K]",
        "[40] Power Management version 3",
        "[50] MSI: Enable- Count=1/1 Maskable+ 64bit+",
        "[70] MSI-X: Enable+ Count=10 Masked-",
        "Vector table: BAR=3 offset=00000000",
        "[a0] Express (v2) Endpoint",
        "FLReset+",
        "Speed 2.5GT/s, Width x4",
        "[e0] Vital Product Data",
        "checksum good",
        "Advanced Error Reporting",
        "Device Serial Number 52-54-00-ff-ff-82-57-60",
    ):
        assert text in said
    for trouble in ("<MAbort+", "<TAbort+", "FatalErr+ UnsupReq+ AuxPwr"):
        assert trouble not in said
    assert re.search(r"DevSta:.*CorrErr- NonFatalErr- FatalErr- UnsupReq-", said)


@pytest.mark.parametrize("size", [80, 4096])
def test_ring_sizes(rig, size):
    rig.sh(f"ethtool -G eth0 rx {size} tx {size}")
    rig.wait_carrier(True)
    assert re.findall(r"^[RT]X:\s+(\d+)$", rig.sh("ethtool -g eth0"), re.MULTILINE)[2:] == [str(size)] * 2
    rig.up()
    rig.traffic()
    rig.sh("ethtool -G eth0 rx 256 tx 256")
    rig.up()


@pytest.mark.parametrize("microseconds", [0, 10, 1000])
def test_coalescing(rig, microseconds):
    rig.sh(f"ethtool -C eth0 rx-usecs {microseconds}")
    assert f"rx-usecs:\t{microseconds}\n" in rig.sh("ethtool -c eth0")
    try:
        rig.traffic(256 << 10)
        if microseconds == 1000:
            # No interrupt comes sooner than 1 ms after the one before, however many frames do.
            before, began = rig.interrupts()["eth0-rx-0"], rig.seconds()
            rig.iperf("-R -u -b 20M -l 100")
            after, ended = rig.interrupts()["eth0-rx-0"], rig.seconds()
            assert after - before <= (ended - began) * 1000 + 1
    finally:
        rig.sh("ethtool -C eth0 rx-usecs 3")


@pytest.mark.parametrize("feature", ["tso", "gso", "gro", "tx", "rx", "sg", "rxvlan", "rxhash"])
def test_without_an_offload(rig, feature):
    rig.sh(f"ethtool -K eth0 {feature} off")
    rig.up()
    before = rig.statistics()
    try:
        rig.traffic()
        after = rig.statistics()
    finally:
        rig.sh(f"ethtool -K eth0 {feature} on; ethtool -K eth0 sg on tx on tso on gso on")
        rig.up()
    if feature in ("tso", "tx", "sg"):
        assert after["tx_tcp_seg_good"] == before["tx_tcp_seg_good"]


def test_checksums_of_what_comes_are_the_cards_work(rig):
    """Linux sums up itself what the card says nothing about."""
    trace = (
        "cd /sys/kernel/tracing && {}echo '*checksum_complete*' > set_ftrace_filter && echo function > current_tracer"
    )
    count = "grep -c 'checksum_complete.*<-' /sys/kernel/tracing/trace"
    counts = {}
    try:
        for rx in ("on", "off"):
            rig.sh(f"ethtool -K eth0 rx {rx}")
            rig.up()
            rig.sh(trace.format("echo > trace; "))
            rig.tcp(1 << 20)
            rig.udp(1000, 50, True)
            counts[rx] = int(rig.guest.run(count).output)
    finally:
        rig.sh("cd /sys/kernel/tracing && echo nop > current_tracer && echo > set_ftrace_filter; ethtool -K eth0 rx on")
        rig.up()
    assert counts["off"] > 100
    assert counts["on"] < 20


def test_down_and_up(rig):
    for _ in range(3):
        rig.sh("ip link set eth0 down")
        try:
            assert not rig.answers_peer()
        finally:
            rig.up()
        rig.traffic(64 << 10)


def arrivals(rig, address: str = "10.0.2.77", count: int = 20) -> int:
    """How many frames more the card took while the peer sent `count` datagrams to `address`."""
    before = rig.statistics()["rx_packets"]
    rig.net.run(rig.here("send", address, "5301", "100", str(count)), check=True)
    return rig.statistics()["rx_packets"] - before


def test_promiscuous(rig):
    rig.peer("ip", "neighbour", "replace", "10.0.2.77", "lladdr", STRANGER, "dev", rig.net.name)
    assert arrivals(rig) < 20
    rig.sh("ip link set eth0 promisc on")
    assert arrivals(rig) >= 20
    rig.sh("ip link set eth0 promisc off")
    assert arrivals(rig) < 20


@pytest.mark.parametrize("group", ["239.1.2.3", "ff15::1:2:3"])
def test_multicast(rig, group):
    if ":" not in group:
        rig.peer("ip", "route", "replace", group, "dev", rig.net.name)
    assert arrivals(rig, group) < 20
    rig.sh(rig.receiving("receive", "5301", "20", "15", group, "eth0"))
    assert arrivals(rig, group) >= 20
    assert json.loads(rig.received()) == {"whole": 20, "bad": 0}


def test_another_address(rig):
    rig.sh("ip link set eth0 address 02:00:00:00:12:34")
    try:
        rig.peer("ip", "neighbour", "flush", "dev", rig.net.name)
        rig.traffic(64 << 10)
        assert "02:00:00:00:12:34" in rig.peer("ip", "neighbour", "show", rig.net.guest_ip)
        rig.peer("ip", "neighbour", "replace", "10.0.2.77", "lladdr", rig.mac, "dev", rig.net.name)
        assert arrivals(rig) < 20
    finally:
        rig.sh(f"ip link set eth0 address {rig.mac}")
        rig.peer("ip", "neighbour", "flush", "dev", rig.net.name)
    rig.traffic(64 << 10)


def test_jumbo_frames(rig):
    rig.peer("ip", "link", "set", rig.net.name, "mtu", "9000")
    rig.sh("ip link set eth0 mtu 9000")
    try:
        rig.up()
        rig.ping("-M do -s 8972")
        assert rig.answers_peer("-M do -s 8972")
        before = rig.statistics()
        rig.tcp(4 << 20)
        rig.udp(8900, 50, True)
        rig.udp(8900, 50, False)
        after = rig.statistics()
        taken = after["rx_packets"] - before["rx_packets"]
        assert (after["rx_bytes"] - before["rx_bytes"]) / taken > 2000, "those weren't jumbo frames"
        assert rig.losses() == {}
    finally:
        rig.sh("ip link set eth0 mtu 1500")
        rig.peer("ip", "link", "set", rig.net.name, "mtu", "1500")
        rig.up()
    rig.traffic()


def test_vxlan(rig):
    """Inner checksums and segments are the card's work (GSO_PARTIAL); the peer's kernel takes them apart."""
    net = rig.net
    vxlan = ["link", "add", "vx0", "type", "vxlan", "id", "42", "dstport", "4789"]
    rig.peer("ip", *vxlan, "local", net.host_ip, "remote", net.guest_ip, "dev", net.name)
    rig.peer("ip", "address", "add", "10.9.0.1/24", "dev", "vx0")
    rig.peer("ip", "link", "set", "vx0", "up")
    try:
        rig.sh(f"modprobe vxlan; ip {' '.join(vxlan)} local {net.guest_ip} remote {net.host_ip} dev eth0")
        rig.sh("ip address add 10.9.0.2/24 dev vx0 && ip link set vx0 up")
        before = rig.statistics()["tx_tcp_seg_good"]
        rig.ping(address="10.9.0.1")
        rig.tcp(2 << 20, "10.9.0.1")
        assert rig.statistics()["tx_tcp_seg_good"] > before
        rig.udp(1300, 100, False, "10.9.0.1")
        rig.udp(1300, 100, True, "10.9.0.2")
    finally:
        rig.guest.run("ip link delete vx0")
        rig.peer("ip", "link", "delete", "vx0")
    assert rig.losses() == {}


def test_unload_and_reload(rig):
    for _ in range(3):
        rig.sh("modprobe -r igb")
        assert not rig.answers_peer()
        began = rig.seconds()
        rig.load()
        seconds = rig.seconds() - began
        print(f"{seconds:.2f} s from modprobe to link")
        assert seconds < 10
        rig.traffic(256 << 10)
    assert rig.losses() == {}
