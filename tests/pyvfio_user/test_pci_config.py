"""Writes to configuration space: what sticks, what is cleared, what is set off. Values from the PCI specifications."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio_user.device import IrqMode, Reset
from pyvfio_user.pci import (
    Bar,
    BarKind,
    Capability,
    Identity,
    PciConfig,
    PciFunction,
    aer,
    msi,
    msix,
    pci_express,
    power_management,
    serial_number,
    vendor_specific,
    vpd,
)

COMMAND, STATUS, BAR0, ROM, INTERRUPT_LINE = 0x04, 0x06, 0x10, 0x30, 0x3C
PM, MSI, MSIX, PCIE, VPD, AER = 0x40, 0x50, 0x70, 0xA0, 0xE0, 0x100
PMCSR, DEVCTL, DEVSTA, LNKCTL = PM + 4, PCIE + 8, PCIE + 0xA, PCIE + 0x10
INITIATE_FLR = 1 << 15


def capabilities(**pm: bool) -> list[Capability]:
    return [
        power_management(at=PM, **pm),
        msi(4, at=MSI),
        msix(10, table_bar=3, table_offset=0, pba_bar=3, pba_offset=0x2000, at=MSIX),
        pci_express(at=PCIE),
        vpd(bytes(range(64)), writable=range(32, 40), at=VPD),
        aer(at=AER),
        serial_number(1, at=0x140),
    ]


def make(**pm: bool) -> PciConfig:
    return PciConfig(
        Identity(0x8086, 0x10C9, 0x020000),
        bars=[Bar(0x20000), None, Bar(32, BarKind.IO), Bar(1 << 33, BarKind.MEMORY64, prefetchable=True)],
        rom_size=0x10000,
        capabilities=capabilities(**pm),
    )


def u16(config: PciConfig, offset: int) -> int:
    return int(struct.unpack("<H", config.read(offset, 2))[0])


def u32(config: PciConfig, offset: int) -> int:
    return int(struct.unpack("<I", config.read(offset, 4))[0])


def put16(config: PciConfig, offset: int, value: int) -> Reset | None:
    return config.write(offset, struct.pack("<H", value))


def put32(config: PciConfig, offset: int, value: int) -> Reset | None:
    return config.write(offset, struct.pack("<I", value))


class TestBars:
    def test_sizing_reads_back_the_size_mask_and_the_type(self) -> None:
        config = make()
        for offset in range(BAR0, BAR0 + 24, 4):
            put32(config, offset, 0xFFFFFFFF)
        masks = [u32(config, offset) for offset in range(BAR0, BAR0 + 24, 4)]
        assert masks == [0xFFFE0000, 0, 0xFFFFFFE1, 0x0000000C, 0xFFFFFFFE, 0]

    def test_rom_sizing_keeps_the_enable_bit(self) -> None:
        config = make()
        put32(config, ROM, 0xFFFFF800)
        assert u32(config, ROM) == 0xFFFF0000
        put32(config, ROM, 0xFFFFFFFF)
        assert u32(config, ROM) == 0xFFFF0001

    def test_absent_bars_and_rom_stay_zero(self) -> None:
        config = PciConfig(Identity(1, 2, 3))
        config.write(0x10, b"\xff" * 24)
        put32(config, ROM, 0xFFFFFFFF)
        assert config.read(0x10, 24) == bytes(24)
        assert u32(config, ROM) == 0

    @pytest.mark.parametrize(
        ("size", "kind"),
        [(0, BarKind.MEMORY32), (24, BarKind.MEMORY32), (8, BarKind.MEMORY32), (512, BarKind.IO), (2, BarKind.IO)],
    )
    def test_impossible_sizes_are_refused(self, size: int, kind: BarKind) -> None:
        with pytest.raises(ValueError):
            Bar(size, kind)

    def test_a_64_bit_bar_needs_two_registers(self) -> None:
        wide = Bar(0x1000, BarKind.MEMORY64)
        with pytest.raises(ValueError, match="needs index 1"):
            PciConfig(Identity(1, 2, 3), bars=[wide, Bar(0x1000)])
        with pytest.raises(ValueError, match="needs index 6"):
            PciConfig(Identity(1, 2, 3), bars=[None] * 5 + [wide])


class TestHeader:
    def test_identity_is_read_only(self) -> None:
        config = make()
        before = config.read(0, 0x40)
        for offset in (0x00, 0x08, 0x2C):
            config.write(offset, b"\xff" * (3 if offset == 0x08 else 4))
        config.write(0x0B, b"\xff")
        config.write(0x34, b"\xff")
        config.write(0x3D, b"\xff\xff\xff")
        assert config.read(0, 0x40) == before

    def test_command_holds_only_what_an_endpoint_implements(self) -> None:
        config = make()
        put16(config, COMMAND, 0xFFFF)
        assert u16(config, COMMAND) == 0x0547

    def test_status_errors_are_cleared_by_writing_one(self) -> None:
        config = make()
        config.set("header", "status", received_master_abort=1, detected_parity_error=1)
        put16(config, STATUS, 0x2000)
        assert u16(config, STATUS) == 0x8010
        put16(config, STATUS, 0xFFFF)
        assert u16(config, STATUS) == 0x0010, "the capability list bit isn't an error"

    def test_a_write_of_part_of_a_register_leaves_the_rest(self) -> None:
        config = make()
        put16(config, COMMAND, 0x0406)
        config.write(COMMAND, b"\0")
        assert u16(config, COMMAND) == 0x0400

    def test_interrupt_line_is_scratch(self) -> None:
        config = make()
        config.write(INTERRUPT_LINE, b"\x0a\xff")
        assert config.read(INTERRUPT_LINE, 2) == b"\x0a\x01"


class TestSettings:
    def test_command_bits(self) -> None:
        config = make()
        put16(config, COMMAND, 0x0407)
        settings = config.settings
        assert (settings.io_enabled, settings.memory_enabled, settings.bus_master, settings.intx_disabled) == (
            True,
        ) * 4

    def test_interrupt_mode_prefers_msix(self) -> None:
        config = make()
        assert config.settings.irq_mode is IrqMode.INTX
        put16(config, MSI + 2, 0x0001)
        assert config.settings.irq_mode is IrqMode.MSI
        put16(config, MSIX + 2, 0x8000)
        assert config.settings.irq_mode is IrqMode.MSIX
        assert not config.settings.msix_masked
        put16(config, MSIX + 2, 0xC000)
        assert config.settings.msix_masked

    @pytest.mark.parametrize(("granted", "vectors"), [(0, 1), (1, 2), (2, 4), (3, 4), (7, 4)])
    def test_msi_grants_no_more_than_there_are(self, granted: int, vectors: int) -> None:
        config = make()
        put16(config, MSI + 2, granted << 4 | 1)
        assert config.settings.msi_vectors == vectors

    def test_msi_registers(self) -> None:
        config = make()
        config.write(MSI + 4, b"\xff" * 20)
        assert u32(config, MSI + 4) == 0xFFFFFFFC
        assert u32(config, MSI + 8) == 0xFFFFFFFF
        assert u32(config, MSI + 0xC) == 0x0000FFFF
        assert u32(config, MSI + 0x10) == 0x0000000F, "mask bits of four vectors"
        assert u32(config, MSI + 0x14) == 0

    def test_msix_table_place_is_read_only(self) -> None:
        config = make()
        config.write(MSIX + 2, b"\xff" * 10)
        assert u16(config, MSIX + 2) == 0xC009
        assert (u32(config, MSIX + 4), u32(config, MSIX + 8)) == (3, 0x2003)


class TestPower:
    def test_d3hot_switches_the_function_off(self) -> None:
        config = make()
        put16(config, COMMAND, 7)
        assert put16(config, PMCSR, 3) is None
        settings = config.settings
        assert settings.power_state == 3
        assert not settings.memory_enabled
        assert not settings.io_enabled
        assert not settings.bus_master
        assert u16(config, COMMAND) == 7, "the register itself keeps its bits"

    def test_leaving_d3hot_asks_for_a_reset(self) -> None:
        config = make()
        put16(config, PMCSR, 3)
        assert put16(config, PMCSR, 0) is Reset.POWER

    def test_no_soft_reset_needs_none(self) -> None:
        config = make(no_soft_reset=True)
        put16(config, PMCSR, 3)
        assert put16(config, PMCSR, 0) is None

    def test_states_that_arent_supported_are_ignored(self) -> None:
        config = make()
        put16(config, PMCSR, 1)
        assert config.settings.power_state == 0
        put16(config, PMCSR, 3)
        put16(config, PMCSR, 2)
        assert config.settings.power_state == 3
        config = make(d1=True, d2=True)
        put16(config, PMCSR, 1)
        assert config.settings.power_state == 1

    def test_pme_status_is_cleared_by_writing_one(self) -> None:
        config = make()
        config.set("pm", "pmcsr", pme_status=1)
        put16(config, PMCSR, 0x0100)
        assert u16(config, PMCSR) == 0x8100
        put16(config, PMCSR, 0x8100)
        assert u16(config, PMCSR) == 0x0100


class TestReset:
    def test_flr_bit_reads_zero_and_asks_for_the_reset(self) -> None:
        config = make()
        assert put16(config, DEVCTL, INITIATE_FLR | 0x2810) is Reset.FLR
        assert u16(config, DEVCTL) == 0x2810

    @pytest.mark.parametrize("offset_and_data", [(DEVCTL + 1, b"\x80"), (DEVCTL - 4, b"\0\0\0\0\0\x80\0\0")])
    def test_flr_by_any_width_of_write(self, offset_and_data: tuple[int, bytes]) -> None:
        assert make().write(*offset_and_data) is Reset.FLR

    def test_no_flr_unless_the_device_capabilities_say_so(self) -> None:
        config = PciConfig(Identity(1, 2, 3), capabilities=[pci_express(function_level_reset=False, at=PCIE)])
        assert put16(config, DEVCTL, 0xFFFF) is None
        assert not u16(config, DEVCTL) & INITIATE_FLR

    def fill(self, config: PciConfig) -> None:
        put16(config, COMMAND, 0x0407)
        put32(config, BAR0, 0xFEB00000)
        put16(config, MSIX + 2, 0x8000)
        put16(config, DEVCTL, 0x5020)
        put16(config, LNKCTL, 0x00C3)
        put16(config, PMCSR, 0x0100)
        put32(config, AER + 8, 0x00004000)
        config.set("pm", "pmcsr", pme_status=1)
        config.set("aer", "uncorrectable_status", completion_timeout=1)
        config.set("pcie", "device_status", nonfatal=1)

    def test_flr_keeps_what_section_6_6_2_names_and_sticky_fields(self) -> None:
        config = make()
        self.fill(config)
        config.reset(keep_sticky=True)
        assert u16(config, COMMAND) == 0
        assert u32(config, BAR0) == 0
        assert u16(config, MSIX + 2) == 0x0009
        assert u16(config, DEVSTA) == 0
        assert u16(config, DEVCTL) & 0x70E0 == 0x2020, "Max_Payload_Size stays, Max_Read_Request_Size doesn't"
        assert u16(config, LNKCTL) == 0x00C3, "ASPM control, common clock and extended synch stay"
        assert u16(config, PMCSR) == 0x8100, "the PME context stays"
        assert u32(config, AER + 4) == 0x00004000
        assert u32(config, AER + 8) == 0x00004000
        assert config.settings.irq_mode is IrqMode.INTX

    def test_a_machine_reset_keeps_nothing(self) -> None:
        config, fresh = make(), make()
        self.fill(config)
        config.reset(keep_sticky=False)
        assert config.read(0, 4096) == fresh.read(0, 4096)
        assert config.settings == fresh.settings


class TestVpd:
    def read_word(self, config: PciConfig, address: int) -> bytes:
        put16(config, VPD + 2, address)
        assert u16(config, VPD + 2) & 0x8000, "the flag says the data is there"
        return config.read(VPD + 4, 4)

    def test_reading_by_the_handshake(self) -> None:
        config = make()
        assert self.read_word(config, 0) == bytes([0, 1, 2, 3])
        assert self.read_word(config, 60) == bytes([60, 61, 62, 63])
        assert self.read_word(config, 64) == bytes(4)
        assert self.read_word(config, 0x7FFC) == bytes(4)

    def test_writing_by_the_handshake_reaches_only_the_writable_part(self) -> None:
        config = make()
        for address in (0, 28, 32, 36, 40, 0x7FFC):
            put32(config, VPD + 4, 0xDDCCBBAA)
            put16(config, VPD + 2, 0x8000 | address)
            assert not u16(config, VPD + 2) & 0x8000, "the flag says it is written"
        image = b"".join(self.read_word(config, address) for address in range(0, 64, 4))
        assert image == bytes(range(32)) + b"\xaa\xbb\xcc\xdd" * 2 + bytes(range(40, 64))

    def test_contents_outlive_resets(self) -> None:
        config = make()
        put32(config, VPD + 4, 0)
        put16(config, VPD + 2, 0x8000 | 32)
        config.reset(keep_sticky=False)
        assert self.read_word(config, 32) == bytes(4)


class TestPlaces:
    def test_capabilities_without_a_place_get_free_ones(self) -> None:
        config = PciConfig(
            Identity(1, 2, 3),
            capabilities=[vendor_specific(b"ab"), power_management(at=0x40), pci_express(), aer(), serial_number(7)],
        )
        places = [config.offset(name, first) & ~3 for name, first in [("pm", "pmc"), ("pcie", "capabilities")]]
        assert places[0] == 0x40
        assert config.read(config.read(0x34, 1)[0], 5) == bytes([0x09, 0x40, 0x05, 0x61, 0x62])
        assert u32(config, 0x100) == 0x1 | 1 << 16 | 0x12C << 20
        assert u32(config, 0x12C) == 0x3 | 1 << 16

    @pytest.mark.parametrize(
        "parts",
        [
            [power_management(at=0x40), msi(at=0x44)],
            [power_management(at=0x3C)],
            [power_management(at=0x42)],
            [msi(at=0xF0)],
            [aer(at=0x200)],
            [aer(at=0xFFC)],
            [vendor_specific(bytes(150), name="a"), vendor_specific(bytes(150), name="b")],
            [msi(), msi()],
        ],
        ids=["overlap", "in the header", "unaligned", "over the end", "first not at 0x100", "end", "full", "twice"],
    )
    def test_what_doesnt_fit_is_refused(self, parts: list[Capability]) -> None:
        with pytest.raises(ValueError):
            PciConfig(Identity(1, 2, 3), capabilities=parts)

    def test_extended_capabilities_need_4096_bytes(self) -> None:
        with pytest.raises(ValueError):
            PciConfig(Identity(1, 2, 3), capabilities=[aer()], size=256)

    @pytest.mark.parametrize("vectors", [0, 3, 64])
    def test_impossible_msi(self, vectors: int) -> None:
        with pytest.raises(ValueError):
            msi(vectors)

    def test_unknown_fields_are_named(self) -> None:
        with pytest.raises(ValueError, match="nonsense"):
            make().set("pm", "pmcsr", nonsense=1)


writes = st.lists(
    st.integers(0, 4095).flatmap(lambda at: st.tuples(st.just(at), st.binary(min_size=1, max_size=min(64, 4096 - at)))),
    max_size=30,
)


class TestMasks:
    """Properties that hold whatever is written."""

    @settings(max_examples=40)
    @given(writes)
    def test_whole_and_byte_writes_are_equal(self, operations: list[tuple[int, bytes]]) -> None:
        whole, bytewise = make(), make()
        for at, data in operations:
            if at <= VPD + 5 and at + len(data) > VPD + 2:
                continue  # its handshake makes the order of bytes matter
            if at <= PMCSR < at + len(data):
                continue  # leaving D3hot is an event of one write
            whole.write(at, data)
            for index, byte in enumerate(data):
                bytewise.write(at + index, bytes([byte]))
        assert whole.read(0, 4096) == bytewise.read(0, 4096)
        assert whole.settings == bytewise.settings

    @settings(max_examples=40)
    @given(writes)
    def test_reset_undoes_any_writes(self, operations: list[tuple[int, bytes]]) -> None:
        config = make()
        for at, data in operations:
            config.write(at, data)
        config.reset(keep_sticky=False)
        assert config.read(0, 4096) == make().read(0, 4096)

    @settings(max_examples=40)
    @given(writes)
    def test_the_capability_chain_survives_any_writes(self, operations: list[tuple[int, bytes]]) -> None:
        config = make()
        for at, data in operations:
            config.write(at, data)
        chain = []
        at = config.read(0x34, 1)[0]
        while at:
            chain.append((config.read(at, 1)[0], at))
            at = config.read(at + 1, 1)[0]
        assert chain == [(0x01, PM), (0x05, MSI), (0x11, MSIX), (0x10, PCIE), (0x03, VPD)]

    def test_no_bit_is_both_writable_and_clearable(self) -> None:
        """Ones everywhere, twice: a bit that is stored stays, one that is cleared was never stored."""
        config = make()
        config.write(0, b"\xff" * VPD)
        once = config.read(0, VPD)
        config.write(0, b"\xff" * VPD)
        assert config.read(0, VPD) == once


class Recorder(PciFunction):
    def __init__(self, config: PciConfig) -> None:
        super().__init__(config)
        self.events: list[object] = []

    def reset(self, kind: Reset) -> None:
        super().reset(kind)
        self.events.append(kind)

    def config_changed(self) -> None:
        self.events.append(self.config.settings)


class TestFunction:
    def test_what_a_server_asks(self) -> None:
        function = Recorder(make())
        assert [region.size for region in function.regions] == [0x20000, 0, 32, 1 << 33, 0, 0, 0x10000]
        assert not function.regions[6].writable
        assert function.config_size == 4096
        assert function.irq_counts == (1, 4, 10)
        assert PciFunction(PciConfig(Identity(1, 2, 3), interrupt_pin=0)).irq_counts == (0, 0, 0)

    def test_config_changed_once_a_change(self) -> None:
        function = Recorder(make())
        function.config_write(COMMAND, b"\x06\x00")
        assert function.bus_master
        function.config_write(COMMAND, b"\x06\x00")
        function.config_write(INTERRUPT_LINE, b"\x05")
        assert len(function.events) == 1

    def test_flr_resets_configuration_before_the_write_returns(self) -> None:
        function = Recorder(make())
        function.config_write(COMMAND, b"\x06\x00")
        function.config_write(DEVCTL, struct.pack("<H", INITIATE_FLR))
        assert function.events[1] is Reset.FLR
        assert not function.bus_master
        assert function.config_read(COMMAND, 2) == b"\0\0"

    def test_d3hot_and_back(self) -> None:
        function = Recorder(make())
        function.config_write(COMMAND, b"\x06\x00")
        function.config_write(PMCSR, b"\x03\x00")
        assert not function.bus_master
        function.config_write(PMCSR, b"\x00\x00")
        assert Reset.POWER in function.events
        assert function.config_read(COMMAND, 2) == b"\0\0"

    def test_lost_client_gives_the_next_one_a_fresh_device(self) -> None:
        function = Recorder(make())
        function.config_write(PMCSR, b"\x00\x01")
        function.reset(Reset.LOST_CLIENT)
        assert function.config_read(0, 4096) == make().read(0, 4096)
