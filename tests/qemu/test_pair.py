"""Two guests: a card on each kind of socket, and QEMU's virtio-net at the end of the first.

virtio-net behind QEMU's stream socket gets bare frames, so segments and checksums are finished by the card, and checked
by a kernel that has no offload to trust in.

    one                         two
    eth0  stream  <------->  virtio-net by QEMU's -netdev stream
    eth1  cable   <------->  card
    eth2  dgram   <------->  card
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

import pytest

from softigb.card import CardProcess

pytestmark = pytest.mark.qemu

VIRTIO = "52:54:00:00:00:01"
SECOND = "52:54:00:82:57:70"  # of guest two's cards


@dataclass
class Pair:
    """Two rigs. On wire N guest `one` has the address 10.N.0.1, `two` has 10.N.0.2; fdNN::1 and fdNN::2 too."""

    one: object
    two: object
    cable: str

    def names(self, wire: int) -> tuple[str, str]:
        return f"eth{wire}", self.interface(self.two, [VIRTIO, *self.two.macs][wire])

    @staticmethod
    def interface(rig, mac: str) -> str:
        return rig.sh(f"grep -l {mac} /sys/class/net/eth*/address").split("/")[4]

    def up(self, wire: int) -> None:
        for end, (rig, name) in enumerate(zip((self.one, self.two), self.names(wire), strict=True), 1):
            rig.sh(
                f"ip link set {name} up; ip address replace 10.{wire}.0.{end}/24 dev {name}; "
                f"ip address replace fd0{wire}::{end}/64 dev {name} nodad"
            )
        for rig, name in zip((self.one, self.two), self.names(wire), strict=True):
            rig.wait_carrier(True, name)

    def carry(self, size: int, address: str, back: str) -> None:
        """`size` bytes by TCP from one to two and back, compared by SHA-256."""
        for sender, receiver, target in ((self.one, self.two, address), (self.two, self.one, back)):
            sent = sender.sh(f"head -c {size} /dev/urandom > /tmp/sent; sha256sum < /tmp/sent")
            receiver.sh(
                "rm -f /tmp/sum /tmp/open; mkfifo /tmp/open; "  # its stdin, at whose end nc would hang up
                "{ nc -l -p 9000 <> /tmp/open | sha256sum > /tmp/new; mv /tmp/new /tmp/sum; } & "
                "until grep -q :2328 /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done"  # 9000
            )
            sender.sh(f"nc -w 20 {target} 9000 < /tmp/sent")
            assert receiver.sh("until [ -e /tmp/sum ]; do sleep 0.05; done; cat /tmp/sum") == sent

    def udp(self, size: int, count: int, address: str, back: str, segments: int = 1) -> None:
        """`count` datagrams each way; each must arrive as it was sent."""
        for sender, receiver, target in ((self.one, self.two, address), (self.two, self.one, back)):
            receiver.sh(receiver.receiving("receive", "5300", str(count), "15"))
            sender.sh(f"{sender.endpoint} send {target} 5300 {size} {count} {segments}")
            assert json.loads(receiver.received()) == {"whole": count, "bad": 0}

    def iperf(self, wire: int, words: str = "") -> None:
        said = self.one.guest.run(f"iperf3 -J -c 10.{wire}.0.2 -t 1 {words}").output
        report = json.loads(said)
        assert report.get("error") is None
        assert report["end"]["sum_received"]["bytes"] > 1 << 18


@pytest.fixture(scope="module")
def pair(boot, tmp_path_factory):
    place = tmp_path_factory.mktemp("w")
    cable, stream = f"cable:{place}/c", place / "s"
    left, right = f"unix:{place}/l", f"unix:{place}/r"
    netdev = ["-netdev", f"stream,id=n,server=on,addr.type=unix,addr.path={stream}"]
    virtio = {"driver": "virtio-net-pci", "netdev": "n", "mac": VIRTIO}
    with contextlib.ExitStack() as stack:
        two = stack.enter_context(
            boot(cable, f"dgram:{right},{left}", mac=SECOND, devices=[virtio], arguments=netdev, load=False,
                 modules=["virtio_net", "crc32c_generic"])
        )  # fmt: skip
        two.sh("modprobe virtio_net; modprobe igb; iperf3 -s -D")
        one = stack.enter_context(
            boot(f"stream:unix:{stream}", cable, f"dgram:{left},{right}", load=False, modules=["crc32c_generic"])
        )
        one.sh("modprobe igb")
        both = Pair(one, two, cable)
        for wire in range(3):
            both.up(wire)
        yield both


@pytest.mark.parametrize("wire", range(3), ids=["stream", "cable", "dgram"])
class TestWire:
    def test_ping(self, pair, wire):
        for size in (0, 1473, 9000):
            pair.one.ping(f"-s {size}", address=f"10.{wire}.0.2")
        pair.two.ping("-s 4000", address=f"fd0{wire}::1")

    def test_tcp(self, pair, wire):
        before = pair.one.statistics(f"eth{wire}")["tx_tcp_seg_good"]
        pair.carry(1 << 20, f"10.{wire}.0.2", f"10.{wire}.0.1")
        pair.carry(256 << 10, f"fd0{wire}::2", f"fd0{wire}::1")
        assert pair.one.statistics(f"eth{wire}")["tx_tcp_seg_good"] > before

    def test_udp(self, pair, wire):
        pair.udp(1200, 90, f"10.{wire}.0.2", f"10.{wire}.0.1", segments=30)
        pair.udp(1201, 90, f"fd0{wire}::2", f"fd0{wire}::1", segments=30)

    def test_iperf3(self, pair, wire):
        pair.iperf(wire)
        pair.iperf(wire, "-R")

    def test_jumbo_frames(self, pair, wire):
        names = pair.names(wire)
        for mtu in (9000, 1500):
            for rig, name in zip((pair.one, pair.two), names, strict=True):
                rig.sh(f"ip link set {name} mtu {mtu}")
            pair.up(wire)
            pair.one.ping(f"-M do -s {mtu - 28}", address=f"10.{wire}.0.2")
            pair.carry(1 << 20, f"10.{wire}.0.2", f"10.{wire}.0.1")
        assert pair.one.losses(names[0]) == {}


def tunnel(pair, make: str, module: str = "") -> None:
    """TCP with segments, UDP and pings through an interface `t0` on both ends; `make` has {me}, {it} and {dev}."""
    names = pair.names(0)
    rigs = (pair.one, pair.two)
    try:
        for end, (rig, name) in enumerate(zip(rigs, names, strict=True), 1):
            command = make.format(me=f"10.0.0.{end}", it=f"10.0.0.{3 - end}", dev=name)
            load = f"modprobe {module};" if module else ""
            rig.sh(f"{load} ip link add {command}; ip address add 10.99.0.{end}/24 dev t0; ip link set t0 up")
        before = pair.one.statistics()["tx_tcp_seg_good"]
        pair.one.ping(address="10.99.0.2")
        pair.one.ping("-s 4000", address="10.99.0.2")
        pair.carry(1 << 20, "10.99.0.2", "10.99.0.1")
        pair.udp(1300, 60, "10.99.0.2", "10.99.0.1", segments=20)
        assert pair.one.statistics()["tx_tcp_seg_good"] > before
    finally:
        for rig in rigs:
            rig.guest.run("ip link delete t0")
    assert pair.one.losses() == {}
    assert bad_checksums(pair.two) == 0


def bad_checksums(rig) -> int:
    """What the kernel found wrong in TCP's and UDP's checksums since it was booted."""
    lines = [line.split() for line in rig.sh("cat /proc/net/snmp").splitlines()]
    counts = {
        f"{names[0]}{name}": int(count)
        for names, values in zip(lines[::2], lines[1::2], strict=True)
        for name, count in zip(names[1:], values[1:], strict=True)
    }
    return counts["Tcp:InCsumErrors"] + counts["Udp:InCsumErrors"]


@pytest.mark.parametrize("offloads", ["on", "off"])
def test_vlan(pair, offloads):
    pair.one.sh(f"ethtool -K eth0 rxvlan {offloads}")
    pair.up(0)
    try:
        tunnel(pair, "link {dev} name t0 type vlan id 5", "8021q")
    finally:
        pair.one.sh("ethtool -K eth0 rxvlan on")
        pair.up(0)


def test_only_vlans_that_are_wanted_come_in(pair):
    two = pair.names(0)[1]
    for rig in (pair.one, pair.two):
        rig.sh("modprobe 8021q")
    pair.two.sh(f"ip link add link {two} name v6 type vlan id 6; ip address add 10.98.0.2/24 dev v6; ip link set v6 up")
    pair.two.sh("ip neighbour replace 10.98.0.1 lladdr " + pair.one.mac + " dev v6")
    try:
        counts = []
        for wanted in (False, True):
            if wanted:
                pair.one.sh("ip link add link eth0 name v6 type vlan id 6; ip link set v6 up")
            before = pair.one.statistics()["rx_packets"]
            pair.two.sh(f"{pair.two.endpoint} send 10.98.0.1 5301 100 20")
            counts.append(pair.one.statistics()["rx_packets"] - before)
        assert counts[0] < 20 <= counts[1]
    finally:
        for rig in (pair.one, pair.two):
            rig.guest.run("ip link delete v6")


@pytest.mark.parametrize(
    ("make", "module"),
    [
        ("t0 type vxlan id 7 dstport 4789 local {me} remote {it} dev {dev}", "vxlan"),
        ("t0 type vxlan id 7 dstport 4789 local {me} remote {it} dev {dev} udpcsum", "vxlan"),
        ("t0 type gretap local {me} remote {it} dev {dev}", "ip_gre"),
        ("t0 type gre local {me} remote {it} dev {dev} csum", "ip_gre"),
        ("t0 type ipip local {me} remote {it} dev {dev}", "ipip"),
    ],
    ids=["vxlan", "vxlan with outer checksum", "gretap", "gre with checksum", "ipip"],
)
def test_tunnel(pair, make, module):
    tunnel(pair, make, module)


def test_sctp(pair):
    """Its CRC32c is the card's work."""
    for rig in (pair.one, pair.two):
        rig.sh("modprobe crc32c_generic; modprobe sctp")
    assert "tx-checksum-sctp: on" in pair.one.sh("ethtool -k eth0")
    for sender, receiver, address in ((pair.one, pair.two, "10.0.0.2"), (pair.two, pair.one, "10.0.0.1")):
        receiver.sh(receiver.receiving("sctp-receive", "5400", "200000"))
        sender.sh(f"{sender.endpoint} sctp-send {address} 5400 200000")
        assert json.loads(receiver.received()) == {"whole": 1}
        errors = receiver.sh("grep SctpChecksumErrors /proc/net/sctp/snmp")
        assert int(errors.split()[1]) == 0


def test_no_checksum_was_ever_wrong(pair):
    for rig in (pair.one, pair.two):
        assert bad_checksums(rig) == 0
    assert pair.one.losses() == {}


def test_a_far_end_that_goes_is_a_link_down_and_comes_back(pair):
    one, two = pair.one, pair.two
    # The cable: the other card ends, and another one takes its place.
    two.tolerant = True
    two.cards[0].end()
    one.wait_carrier(False, "eth1")
    assert "eth1: igb: eth1 NIC Link is Down" in one.dmesg()
    with CardProcess(pair.cable):
        one.wait_carrier(True, "eth1")
    # QEMU's stream: that end goes with its QEMU.
    two.guest.close()
    one.wait_carrier(False, "eth0")
    assert "eth0: igb: eth0 NIC Link is Down" in one.dmesg()
    assert one.sh("echo alive") == "alive\n"
