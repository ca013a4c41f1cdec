"""Configuration space as pciutils decodes it: `lspci -F` reads a dump, so its reading is independent of ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from igb_vm import Program
from pyvfio_user.pci import (
    Bar,
    BarKind,
    Identity,
    PciConfig,
    aer,
    msi,
    msix,
    pci_express,
    power_management,
    serial_number,
    vendor_specific,
    vpd,
)

Lspci = Callable[[PciConfig], str]


@pytest.fixture
def lspci(tool: Callable[[str], Program], tmp_path: Path) -> Lspci:
    """What `lspci -vvv -n` says of a configuration, blanks collapsed so that its line layout doesn't matter."""

    def run(config: PciConfig) -> str:
        dump = tmp_path / "dump"
        dump.write_text(config.dump())
        done = tool("lspci").run("-F", dump, "-vvv", "-n", timeout=20, check=True)
        return re.sub(r"\s+", " ", done.stdout)

    return run


def make() -> PciConfig:
    return PciConfig(
        Identity(0x8086, 0x10C9, 0x020000, revision=1, subsystem_vendor=0x8086, subsystem=0xA03C),
        bars=[Bar(0x20000), None, Bar(32, BarKind.IO), Bar(0x4000, BarKind.MEMORY64, prefetchable=True)],
        rom_size=0x10000,
        capabilities=[
            power_management(pme_support=0b11001, at=0x40),
            msi(4, at=0x50),
            msix(10, table_bar=3, table_offset=0, pba_bar=3, pba_offset=0x2000, at=0x70),
            vendor_specific(b"\xaa\xbb\xcc", at=0x80),
            pci_express(speed=1, width=2, max_speed=2, max_width=4, max_payload=2, at=0xA0),
            vpd(b"\x82\x02\x00hi\x78", at=0xE0),
            aer(at=0x100),
            serial_number(0x0123456789ABCDEF, at=0x140),
        ],
    )


def test_identity_and_power_on_state(lspci: Lspci) -> None:
    text = lspci(make())
    assert text.startswith("00:00.0 0200: 8086:10c9 (rev 01)")
    assert "Subsystem: 8086:a03c" in text
    assert "Control: I/O- Mem- BusMaster-" in text
    assert "DisINTx-" in text
    assert "Interrupt: pin A" in text


def test_every_capability_is_found_at_its_place(lspci: Lspci) -> None:
    text = lspci(make())
    assert re.findall(r"Capabilities: \[(\w+)", text) == ["40", "50", "70", "80", "a0", "e0", "100", "140"]
    assert "[40] Power Management version 3" in text
    assert "PME(D0+,D1-,D2-,D3hot+,D3cold+)" in text
    assert "Status: D0 NoSoftRst-" in text
    assert "[50] MSI: Enable- Count=1/4 Maskable+ 64bit+" in text
    assert "[70] MSI-X: Enable- Count=10 Masked-" in text
    assert "Vector table: BAR=3 offset=00000000 PBA: BAR=3 offset=00002000" in text
    assert "[80] Vendor Specific Information: Len=06" in text
    assert "[e0] Vital Product Data" in text
    assert "[140 v1] Device Serial Number 01-23-45-67-89-ab-cd-ef" in text


def test_pci_express(lspci: Lspci) -> None:
    text = lspci(make())
    assert "[a0] Express (v2) Endpoint" in text
    assert "MaxPayload 512 bytes" in text
    assert re.search(r"FLReset\+ SlotPowerLimit", text)
    assert "LnkCap: Port #0, Speed 5GT/s, Width x4, ASPM L0s L1" in text
    assert re.search(r"LnkSta: Speed 2.5GT/s( \(downgraded\))?, Width x2", text)
    assert re.search(r"DevCtl2: Completion Timeout: 50us to 50ms, TimeoutDis-", text)
    assert "Target Link Speed: 5GT/s" in text


def test_aer_defaults_are_the_specifications(lspci: Lspci) -> None:
    text = lspci(make())
    assert "[100 v1] Advanced Error Reporting" in text
    assert re.search(r"UESvrt: DLP\+ SDES. TLP- FCP\+ CmpltTO- CmpltAbrt- UnxCmplt- RxOF\+ MalfTLP\+ ECRC-", text)
    assert re.search(r"CEMsk: RxErr- BadTLP- BadDLLP- Rollover- Timeout- AdvNonFatalErr\+", text)
    assert "ECRCGenCap+" in text


def test_what_software_sets_is_what_lspci_then_reads(lspci: Lspci) -> None:
    config = make()
    config.write(0x04, (0x0407).to_bytes(2, "little"))
    config.write(0x10, (0xFEB00000).to_bytes(4, "little"))
    config.write(0x18, (0xC020).to_bytes(4, "little"))
    config.write(0x1C, (0x1_FEB4_0000).to_bytes(8, "little"))
    config.write(0x3C, b"\x0b")
    config.write(0x72, (0xC000).to_bytes(2, "little"))
    config.write(0x52, (0x0021).to_bytes(2, "little"))
    config.write(0xA8, (0x2820).to_bytes(2, "little"))
    config.write(0x44, (0x0103).to_bytes(2, "little"))
    text = lspci(config)
    assert "Control: I/O+ Mem+ BusMaster+" in text
    assert "DisINTx+" in text
    assert "Memory at feb00000 (32-bit, non-prefetchable)" in text
    assert "I/O ports at c020" in text
    assert "Memory at 1feb40000 (64-bit, prefetchable)" in text
    assert "routed to IRQ 11" in text
    assert "MSI-X: Enable+ Count=10 Masked+" in text
    assert "MSI: Enable+ Count=4/4" in text
    assert "MaxPayload 256 bytes, MaxReadReq 512 bytes" in text
    assert "Status: D3 NoSoftRst- PME-Enable+" in text


def test_hardware_side_status_is_decoded(lspci: Lspci) -> None:
    config = make()
    config.set("header", "status", received_master_abort=1, interrupt=1)
    config.set("pm", "pmcsr", pme_status=1)
    config.set("aer", "uncorrectable_status", completion_timeout=1)
    config.set("pcie", "device_status", nonfatal=1)
    text = lspci(config)
    assert "<MAbort+" in text
    assert "INTx+" in text
    assert "PME+" in text
    assert re.search(r"UESta: DLP- SDES. TLP- FCP- CmpltTO\+ CmpltAbrt-", text)
    assert "NonFatalErr+ FatalErr- UnsupReq- AuxPwr-" in text


def test_without_capabilities_there_is_no_list(lspci: Lspci) -> None:
    config = PciConfig(Identity(0x1234, 0x5678, 0xFF0000), interrupt_pin=0)
    assert config.size == 256
    text = lspci(config)
    assert "Cap-" in text
    assert "Capabilities" not in text
    assert "Interrupt: pin" not in text
