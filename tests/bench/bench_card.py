"""The card alone: microseconds a frame, with guest memory in the same process and a wire that costs nothing.

python tests/bench/bench_card.py [--frames 100000]
"""

from __future__ import annotations

import argparse
import platform
import struct
import time
from collections.abc import Callable, Sequence
from datetime import date

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from igb_device.clock import SimClock
from igb_device.drops import DropReason
from igb_device.nic import Nic
from igb_device.wire.base import DATA_VALID, GSO_TCPV4, NEEDS_CSUM, NO_OFFLOAD, Accepts, Frame, Offload
from igb_hw.registers import MAP
from pyvfio_user import MemoryHost

RING = 256
TX, RX, TX_DATA, RX_DATA = 0x10000, 0x20000, 0x200000, 0x800000
MSS = 1448
DATA = 0x2030_0000  # an advanced data descriptor: DEXT, DTYP
RS_EOP = 0x0900_0000
TSE = 1 << 31


class Wire:
    """Takes everything, gives what it is told to."""

    accepts = Accepts.CSUM | Accepts.TSO4 | Accepts.TSO6 | Accepts.USO
    link = True
    wants_verdicts = False
    errors = 0

    def __init__(self) -> None:
        self.incoming: list[Frame] = []

    def connect(self, ready: Callable[[], None], link_changed: Callable[[bool], None]) -> None:
        self.ready = ready

    def send(self, frames: Sequence[Frame]) -> int:
        return len(frames)

    def receive(self, limit: int) -> Sequence[Frame]:
        now, self.incoming = self.incoming[:limit], self.incoming[limit:]
        return now

    def settled(self, frame: Frame, queue: int, reason: DropReason | None) -> None: ...

    def pause(self, paused: bool) -> None: ...

    def close(self) -> None: ...


class Bench:
    """A card that is up, with a ring each way."""

    def __init__(self) -> None:
        clock, self.wire = SimClock(), Wire()
        self.nic = Nic(clock, bytes.fromhex("525400123456"), self.wire)
        self.nic.config_write(4, b"\x06\x00")
        host = MemoryHost(bus_master=lambda: self.nic.bus_master)
        self.memory = host.add(0, 32 << 20)
        self.nic.attach(host)
        rctl, tctl = MAP["RCTL"], MAP["TCTL"]
        for name, value in (
            ("CTRL", MAP["CTRL"]["SLU"]),
            *(("TDBAL", TX), ("TDLEN", RING * 16), ("TXDCTL", 1 << 25), ("TCTL", tctl["EN"] | tctl["PSP"])),
            *(("RDBAL", RX), ("RDLEN", RING * 16), ("SRRCTL", 0x0200_0402), ("RXDCTL", 1 << 25)),
            *(("RXCSUM", 0x2300), ("MRQC", 0x0037_0002), ("RCTL", rctl["EN"] | rctl["BAM"] | rctl["SECRC"])),
        ):
            self.write(name, value)
        for i in range(MAP["RSSRK"].count):
            self.nic.region_write(0, MAP["RSSRK"].at(i), (0x6D5A_56DA * (i + 1) & 0xFFFFFFFF).to_bytes(4, "little"))
        clock.advance(1_000_000_000)
        self.tail = self.rx_tail = 0

    def write(self, name: str, value: int) -> None:
        self.nic.region_write(0, MAP[name].offset, value.to_bytes(4, "little"))

    def descriptor(self, low: int, cmd: int, olinfo: int) -> None:
        struct.pack_into("<QII", self.memory, TX + self.tail * 16, low, cmd, olinfo)
        self.tail = (self.tail + 1) % RING

    def transmit(self, batch: int, frames: int) -> float:
        started, spent, done = 0.0, 0.0, 0
        while done < frames:
            for _ in range(batch):
                self.descriptor(TX_DATA, 64 | DATA | RS_EOP, 64 << 14)
            started = time.perf_counter()
            self.write("TDT", self.tail)
            self.nic.process()
            spent += time.perf_counter() - started
            done += batch
        return spent / done * 1e6

    def transmit_tso(self, frames: int) -> float:
        header = bytes(Ether(dst="02:00:00:00:00:01") / IP(src="192.0.2.2", dst="192.0.2.1", len=0) / TCP())
        self.memory[TX_DATA : TX_DATA + len(header)] = header
        payload, spent = 60000, 0.0
        for _ in range(frames):
            self.descriptor(14 << 9 | 20, 0x2020_0000 | 1 << 10 | 1 << 11, MSS << 16 | 20 << 8)
            self.descriptor(TX_DATA, 54 | DATA | TSE, payload << 14 | 3 << 8)
            self.descriptor(TX_DATA + 4096, 30000 | DATA, 0)
            self.descriptor(TX_DATA + 65536, 30000 | DATA | RS_EOP, 0)
            started = time.perf_counter()
            self.write("TDT", self.tail)
            self.nic.process()
            spent += time.perf_counter() - started
        return spent / frames * 1e6

    def receive(self, frame: bytes, offload: Offload, batch: int, frames: int, each: int = 1) -> float:
        """`each` is the number of frames that one becomes on the wire."""
        spent, done = 0.0, 0
        while done < frames:
            for _ in range(batch * each):
                at = self.rx_tail
                struct.pack_into("<QQ", self.memory, RX + at * 16, RX_DATA + at * 2048, 0)
                self.rx_tail = (at + 1) % RING
            self.write("RDT", self.rx_tail)
            self.wire.incoming = [Frame([memoryview(frame)], offload)] * batch
            started = time.perf_counter()
            self.wire.ready()
            self.nic.process()
            spent += time.perf_counter() - started
            done += batch * each
        lost = self.nic.drops()
        assert not lost, lost
        return spent / done * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000, help="frames of a kind (default %(default)s)")
    frames = parser.parse_args().frames
    print(f"{date.today()}, Python {platform.python_version()}: us a frame, alone and in a batch of 64")
    to_us = Ether(dst="52:54:00:12:34:56") / IP(src="192.0.2.1", dst="192.0.2.2")
    small, large = bytes(to_us / TCP() / bytes(10)), bytes(to_us / TCP() / bytes(MSS))
    big = bytes(to_us / TCP() / bytes(MSS * 40))
    unfinished = Offload(NEEDS_CSUM, csum_start=34, csum_offset=16)
    bench = Bench()
    rows: list[tuple[str, Callable[[int], float]]] = [
        ("transmit 64 bytes", lambda batch: bench.transmit(batch, frames)),
        ("receive 64 bytes, checksum verified", lambda batch: bench.receive(small, NO_OFFLOAD, batch, frames)),
        ("receive 1502 bytes, known good", lambda batch: bench.receive(large, Offload(DATA_VALID), batch, frames)),
        ("receive 1502 bytes, filled in", lambda batch: bench.receive(large, unfinished, batch, frames)),
    ]
    for title, measure in rows:
        print(f"{title:38} {measure(1):6.1f} {measure(64):6.1f}")
    segment = Offload(NEEDS_CSUM, GSO_TCPV4, 54, MSS, 34, 16)
    print(f"{'transmit 60 KB by TSO':38} {bench.transmit_tso(frames // 20):6.1f}")
    print(f"{'receive a 58 KB segment, each frame':38} {bench.receive(big, segment, 1, frames, 40):6.1f}")


if __name__ == "__main__":
    main()
