"""The client with a real server, which runs in a thread: what a driver does, through to the device and back."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pyvfio_user.client import Client, VfioUserError
from pyvfio_user.device import Buffer, MmapArea, Region, Reset
from pyvfio_user.loop import EventLoop
from pyvfio_user.messages import IrqIndex
from pyvfio_user.pci import Bar, Identity, PciConfig, PciFunction, msi, msix, pci_express
from pyvfio_user.server import Server
from pyvfio_user.session import Options

PAGE = 4096
MSIX_AT, PCIE_AT = 0x50, 0x70


class Device(PciFunction):
    """BAR 0 is memory, and writing to its last word is work: `job` is called from `process`. BAR 1 can be mapped."""

    def __init__(self) -> None:
        config = PciConfig(
            Identity(0x1234, 0x5678, 0x020000),
            bars=[Bar(PAGE), Bar(4 * PAGE)],
            capabilities=[
                msi(2, at=0xB0),
                msix(8, table_bar=0, table_offset=0x400, pba_bar=0, pba_offset=0x800, at=MSIX_AT),
                pci_express(at=PCIE_AT),
            ],
        )
        super().__init__(config)
        self.memory = bytearray(PAGE)
        self.file = os.memfd_create("bar1", os.MFD_CLOEXEC)
        os.ftruncate(self.file, 4 * PAGE)
        self.job: Callable[[], None] = lambda: None
        self.wanted = 0
        self.writes: list[tuple[int, bytes]] = []
        self.resets: list[Reset] = []

    @property
    def regions(self) -> list[Region]:
        areas = (MmapArea(0, PAGE), MmapArea(2 * PAGE, PAGE))
        return [self._regions[0], Region(4 * PAGE, fd=self.file, areas=areas), *self._regions[2:]]

    def region_read(self, region: int, offset: int, count: int) -> Buffer:
        return bytes(self.memory[offset : offset + count])

    def region_write(self, region: int, offset: int, data: Buffer) -> None:
        self.memory[offset : offset + len(data)] = data
        self.writes.append((offset, bytes(data)))
        self.wanted += offset == PAGE - 4

    def process(self) -> None:
        while self.wanted:
            self.wanted -= 1
            self.job()

    def reset(self, kind: Reset) -> None:
        super().reset(kind)
        self.resets.append(kind)


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    os.close(device.file)


@pytest.fixture
def connect(tmp_path: Path, device: Device) -> Iterator[Callable[..., Client]]:
    """Starts the server and connects. At the end neither side has a descriptor left."""
    before = len(os.listdir("/proc/self/fd"))
    clients: list[Client] = []
    threads: list[threading.Thread] = []

    def make(**options: object) -> Client:
        path = tmp_path / "s"
        loop = EventLoop()
        server = Server(path, device, loop, once=True, options=Options(dma_timeout=2))

        def run() -> None:
            loop.run()
            server.close()
            loop.close()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        clients.append(Client(path, timeout=5, **options))  # type: ignore[arg-type]
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    return connect()


def test_what_the_device_is(client: Client) -> None:
    assert tuple(client.device_info()) == (3, 9, 5)
    assert [client.region_info(index).size for index in range(9)] == [PAGE, 4 * PAGE, 0, 0, 0, 0, 0, 4096, 0]
    assert [client.irq_info(index).vectors for index in range(5)] == [1, 2, 8, 1, 1]
    assert client.config_read(0, 4) == struct.pack("<HH", 0x1234, 0x5678)


def test_registers(client: Client, device: Device) -> None:
    client.write(0, 0x10, b"abcd")
    assert client.read(0, 0x10, 4) == b"abcd"
    client.write(0, 0x12, b"Z", posted=True)
    assert client.read(0, 0x10, 4) == b"abZd", "a posted write is done before the next reply"
    client.config_write(4, b"\x06\x00")
    assert device.bus_master
    assert client.config_read(4, 2) == b"\x06\x00"


def test_many_writes_in_a_message(client: Client, device: Device) -> None:
    writes = [(0, 4 * i, struct.pack("<I", i)) for i in range(450)]
    client.write_multi(writes)
    assert client.read(0, 4 * 449, 4) == struct.pack("<I", 449)
    client.write_multi([(0, 0x700, b"12345678"), (0, 0x708, b"9")], posted=False)
    assert device.writes == [(offset, data) for _, offset, data in writes] + [(0x700, b"12345678"), (0x708, b"9")]


def test_errors_carry_the_servers_errno_and_the_client_goes_on(client: Client) -> None:
    for call, number in [
        (lambda: client.read(9, 0, 4), errno.EINVAL),
        (lambda: client.write(0, PAGE - 1, b"ab"), errno.EINVAL),
        (lambda: client.request(99), errno.EINVAL),
    ]:
        with pytest.raises(VfioUserError) as error:
            call()
        assert error.value.errno == number
    assert client.read(0, 0, 1) == b"\0"


def test_shared_memory(client: Client, device: Device) -> None:
    memory = client.map_memory(16 * PAGE, 0x100000)
    array = np.frombuffer(memory, np.uint32)
    array[3] = 0xCAFE
    client.config_write(4, b"\x06\x00")
    views: list[memoryview | None] = []

    def job() -> None:
        assert device.host is not None
        assert bytes(device.host.read(0x10000C, 4)) == b"\xfe\xca\0\0"
        device.host.write(0x100010, b"from the device")
        views.append(device.host.view(0x100000, PAGE))

    device.job = job
    client.write(0, PAGE - 4, bytes(4))
    client.read(0, 0, 4)
    client.read(0, 0, 4)
    assert bytes(memory[0x10:0x1F]) == b"from the device"
    assert views[0] is not None, "sealed memory is mapped, not read by messages"
    views.clear()
    del array
    client.unmap(0x100000)
    with pytest.raises(ValueError):
        memory[0]


@pytest.mark.parametrize("twin", [False, True])
def test_memory_by_messages(connect: Callable[..., Client], device: Device, twin: bool) -> None:
    client = connect(twin_socket=twin, write_multiple=False)
    memory = client.map_memory(PAGE, 0x4000, shared=False)
    memory[:5] = b"hello"
    client.config_write(4, b"\x06\x00")
    vectors = client.enable_irqs(IrqIndex.MSIX, 8)
    client.config_write(MSIX_AT + 2, struct.pack("<H", 0x8007))

    def job() -> None:
        assert device.host is not None
        assert device.host.view(0x4000, 8) is None
        data = bytes(device.host.read(0x4000, 5))
        device.host.write(0x4100, data.upper())
        device.host.interrupt(5)

    device.job = job
    client.write(0, PAGE - 4, bytes(4))
    assert client.wait_irq(IrqIndex.MSIX, 5) == 1
    assert bytes(memory[0x100:0x105]) == b"HELLO"
    assert len(vectors) == 8


def test_interrupts(client: Client, device: Device) -> None:
    client.config_write(4, b"\x06\x00")
    client.config_write(MSIX_AT + 2, struct.pack("<H", 0x8007))
    client.enable_irqs(IrqIndex.MSIX, 4)
    device.job = lambda: device.host.interrupt(2) if device.host else None
    for _ in range(3):
        client.write(0, PAGE - 4, bytes(4))
    client.read(0, 0, 4)
    assert client.wait_irq(IrqIndex.MSIX, 2) >= 1
    assert client.wait_irq(IrqIndex.MSIX, 3, timeout=0.01) == 0
    device.job = lambda: device.host.interrupt(6) if device.host else None
    client.write(0, PAGE - 4, bytes(4))
    client.read(0, 0, 4)
    client.enable_irqs(IrqIndex.MSIX, 4, start=4)
    assert client.wait_irq(IrqIndex.MSIX, 6) == 1, "what pended is delivered with the eventfd"
    client.disable_irqs(IrqIndex.MSIX)
    with pytest.raises(KeyError):
        client.wait_irq(IrqIndex.MSIX, 2)


def test_intx_is_masked_by_its_signal_and_fires_again_when_unmasked(client: Client, device: Device) -> None:
    client.enable_irqs(IrqIndex.INTX, 1)
    device.job = lambda: device.host.intx(True) if device.host else None
    client.write(0, PAGE - 4, bytes(4))
    assert client.wait_irq(IrqIndex.INTX) == 1
    assert client.wait_irq(IrqIndex.INTX, timeout=0.01) == 0
    client.unmask_irq(IrqIndex.INTX)
    assert client.wait_irq(IrqIndex.INTX) == 1, "the level is still high"
    device.job = lambda: device.host.intx(False) if device.host else None
    client.write(0, PAGE - 4, bytes(4))
    client.read(0, 0, 4)
    client.unmask_irq(IrqIndex.INTX)
    assert client.wait_irq(IrqIndex.INTX, timeout=0.01) == 0


def test_enabling_again_replaces_the_eventfds(client: Client) -> None:
    first = client.enable_irqs(IrqIndex.MSIX, 8)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        client.enable_irqs(IrqIndex.MSIX, 8)
    client.read(0, 0, 4)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(first) == 8


def test_more_vectors_than_there_are(client: Client) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(VfioUserError):
        client.enable_irqs(IrqIndex.MSIX, 9)
    client.read(0, 0, 4)
    assert len(os.listdir("/proc/self/fd")) == before


def test_mapped_areas_of_a_region(client: Client, device: Device) -> None:
    info = client.region_info(1)
    assert info.areas == (MmapArea(0, PAGE), MmapArea(2 * PAGE, PAGE))
    maps = client.map_region(1)
    maps[2 * PAGE][0:3] = b"bar"
    assert os.pread(device.file, 3, 2 * PAGE) == b"bar"
    for memory in maps.values():
        memory.close()
    assert client.map_region(0) == {}


def test_overlapping_maps(client: Client) -> None:
    client.map_memory(4 * PAGE, 0x10000)
    for iova in (0xF000, 0x10000, 0x13000):
        with pytest.raises(OSError, match="mapped already") as error:
            client.map_memory(2 * PAGE, iova)
        assert error.value.errno == errno.EEXIST
    client.map_memory(PAGE, 0x14000)
    client.unmap(0x10000)
    client.map_memory(4 * PAGE, 0x10000)
    with pytest.raises(KeyError):
        client.unmap(0x11000)


def test_resets(client: Client, device: Device) -> None:
    client.config_write(4, b"\x06\x00")
    client.reset()
    assert device.resets == [Reset.DEVICE]
    assert client.config_read(4, 2) == b"\0\0"
    client.config_write(PCIE_AT + 8, struct.pack("<H", 0x8000))
    assert device.resets == [Reset.DEVICE, Reset.FLR]


def test_leaving_resets_the_device(client: Client, device: Device) -> None:
    client.config_write(4, b"\x06\x00")
    client.close()
    client.close()
    deadline = threading.Event()
    while Reset.LOST_CLIENT not in device.resets:
        assert not deadline.wait(0.005)
    assert not device.bus_master


def test_features_a_device_hasnt_got(client: Client) -> None:
    with pytest.raises(VfioUserError):
        client.feature(1 << 16 | 0x7777)
    with pytest.raises(VfioUserError):
        client.migration_read(4096)
    with pytest.raises(VfioUserError):
        client.migration_write(b"state")
    assert client.read(0, 0, 1) == b"\0"


def test_dirty_pages_by_device_features(client: Client, device: Device) -> None:
    """DMA_LOGGING_START (6), then what the device has written in DMA_LOGGING_REPORT (8), by linux/vfio.h's layouts."""
    client.map_memory(16 * PAGE, 0)
    client.config_write(4, b"\x06\x00")
    client.feature(1 << 17 | 6, struct.pack("<QII", PAGE, 0, 0))
    device.job = lambda: device.host.write(3 * PAGE + 8, b"dirty") if device.host else None
    client.write(0, PAGE - 4, bytes(4))
    client.read(0, 0, 4)
    report = client.feature(1 << 16 | 8, struct.pack("<QQQ", 0, 16 * PAGE, PAGE), argsz=8 + 24 + 8)
    assert struct.unpack_from("<Q", report, 24) == (1 << 3,)
