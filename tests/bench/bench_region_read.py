"""Round trip of REGION_READ against a server in another process: what a register read costs without a guest."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import socket
import statistics
import struct
import time

from pyvfio_user import Buffer, EventLoop, Host, IrqMode, Region, Reset, Server


class Memory:
    """A device whose BAR 0 is memory."""

    def __init__(self) -> None:
        self.regions = [Region(0x20000), *[Region()] * 6]
        self.config_size = 256
        self.irq_counts = (1, 0, 0)
        self.bus_master = False
        self.irq_mode = IrqMode.INTX
        self._bar = bytearray(0x20000)

    def attach(self, host: Host) -> None: ...

    def detach(self) -> None: ...

    def config_read(self, offset: int, count: int) -> bytes:
        return bytes(count)

    def config_write(self, offset: int, data: Buffer) -> None: ...

    def region_read(self, region: int, offset: int, count: int) -> Buffer:
        return self._bar[offset : offset + count]

    def region_write(self, region: int, offset: int, data: Buffer) -> None:
        self._bar[offset : offset + len(data)] = data

    def reset(self, kind: Reset) -> None: ...

    def process(self) -> None: ...


def serve(sock: socket.socket) -> None:
    loop = EventLoop()
    signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    server = Server(None, Memory(), loop)
    server.serve(sock)
    loop.run()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20000, help="round trips (default %(default)s)")
    parser.add_argument("--size", type=int, default=4, help="bytes a read (default %(default)s)")
    parser.add_argument("--posted", type=int, default=0, help="posted writes before each read (default %(default)s)")
    parser.add_argument("--spin", action="store_true", help="don't sleep in the client: keeps its core awake")
    options = parser.parse_args()

    mine, theirs = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    mine.sendall(struct.pack("<HHIIIHH", 0, 1, 20, 0, 0, 0, 1))
    mine.recv(4096)
    request = struct.pack("<HHIII", 1, 9, 32, 0, 0) + struct.pack("<QII", 0x8, 0, options.size)
    write = struct.pack("<HHIII", 1, 10, 36, 0x10, 0) + struct.pack("<QIII", 0x40, 0, 4, 7)
    request = write * options.posted + request
    flags = socket.MSG_DONTWAIT if options.spin else 0
    times = []
    for _ in range(options.rounds):
        started = time.perf_counter_ns()
        mine.send(request)
        while True:
            try:
                mine.recv(4096, flags)
                break
            except BlockingIOError:
                pass
        times.append(time.perf_counter_ns() - started)
    process.terminate()
    process.join()
    cuts = statistics.quantiles(times, n=100)
    print(f"{options.rounds} reads of {options.size} bytes, {options.posted} posted writes before each")
    print("median {:.1f} us, 90 % {:.1f} us, 99 % {:.1f} us".format(*(cuts[at] / 1000 for at in (49, 89, 98))))


if __name__ == "__main__":
    main()
