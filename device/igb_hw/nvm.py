"""The NVM (a 128 Kbit SPI EEPROM): 82576 datasheet, chapter 6, and what Linux reads from it.

`build` makes an image: the word map below, a part number, vital product data (VPD) and the checksum. The image is
bytes, little-endian words, as it would be read from the chip.

What `ethtool -i` shows as firmware-version comes from here. Without an EETRACK id (word 0x43 doesn't begin with 8)
Linux prints word 0x05 as major.minor.image: 0x1043 is "1.4.3". With one it prints "major.minor, 0xEETRACK" and takes
the minor number as two decimal digits. The default is the first form, as on most cards of this kind.

Left out: the PCIe analog, PHY and manageability sections that words 0x10 on may point to (their pointers read 0xFFFF),
PXE and iSCSI configuration, and the option ROM.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import construct as cs

WORDS: Final = 8192
"""Words of the default chip: 128 Kbit."""
MIN_WORDS: Final = 256
MAX_WORDS: Final = 16384
"""From 32768 words on Linux would read through EECD only."""

CHECKSUM_WORD: Final = 0x3F
CHECKSUM_SUM: Final = 0xBABA
"""Words 0 to 0x3F add up to this."""
PBA_POINTER_GUARD: Final = 0xFAFA
"""In word 8: word 9 points to the part number's string."""
EMPTY: Final = 0xFFFF

PBA_AT: Final = 0x50
VPD_AT: Final = 0x80
"""Word addresses where `build` puts the part number and the VPD area."""
VPD_SIZE: Final = 256
"""Bytes of the VPD area."""


@dataclass(frozen=True, slots=True)
class Word:
    """`count` words of the map from word address `at`, and what an image has there unless told otherwise."""

    at: int
    name: str
    doc: str
    default: int = 0
    count: int = 1


WORD_MAP: Final[tuple[Word, ...]] = (
    Word(0x00, "mac", "Ethernet address, first byte lowest", count=3),
    Word(0x03, "compatibility", "Compatibility"),
    Word(0x04, "led_settings", "ID LED settings: what the driver makes of each LED", 0x8911),
    Word(0x05, "version", "Image version: major in 15:12, minor in 11:4, image in 3:0"),
    Word(0x06, "oem", "OEM configuration", EMPTY, 2),
    Word(0x08, "pba", "Part number: guard 0xFAFA and a word pointer to its string", count=2),
    Word(0x0A, "init_control_1", "Initialization Control 1: 1:0: the ids below are loaded", 0x002B),
    Word(0x0B, "subsystem_id", "PCI subsystem id"),
    Word(0x0C, "subsystem_vendor", "PCI subsystem vendor id"),
    Word(0x0D, "device_id", "PCI device id"),
    Word(0x0E, "vendor_id", "PCI vendor id"),
    Word(0x0F, "init_control_2", "Initialization Control 2: 13:12: PAUSE: 0: none, 2: send, else both", 0xB040),
    Word(0x10, "software_pins_1", "Software Defined Pins Control, port 1", 0x0004),
    Word(0x11, "device_id_1", "PCI device id of port 1"),
    Word(0x12, "sizing", "EEPROM Sizing: 15:14 are 01, 13:10 the size as in EECD.SIZE_EX"),
    Word(0x13, "reserved_13", "Reserved"),
    Word(0x14, "init_control_3_b", "Initialization Control 3, port 1: 10: wake by APM", 0x0400),
    Word(0x15, "pcie_completion", "PCIe completion timeout", 0x0014),
    Word(0x16, "msix", "MSI-X configuration: entries - 1 in 15:11", 0x4A40),
    Word(0x17, "analog", "Analog configuration: word pointer", EMPTY),
    Word(0x18, "pcie_init_1", "PCIe Init Configuration 1", 0x6CFB),
    Word(0x19, "pcie_init_2", "PCIe Init Configuration 2", 0xC7B0),
    Word(0x1A, "pcie_init_3", "PCIe Init Configuration 3", 0x0ABE),
    Word(0x1B, "pcie_control", "PCIe Control", 0x0403),
    Word(0x1C, "led_1_3", "LED 1 and 3 defaults: bytes 1 and 3 of LEDCTL", 0x0783),
    Word(0x1D, "dummy_device_id", "PCI device id of a disabled port 0", 0x10A6),
    Word(0x1E, "revision", "PCI revision", 0x0001),
    Word(0x1F, "led_0_2", "LED 0 and 2 defaults: bytes 0 and 2 of LEDCTL", 0x0602),
    Word(0x20, "software_pins_0", "Software Defined Pins Control, port 0", 0x0004),
    Word(0x21, "functions", "Functions Control", 0x0020),
    Word(0x22, "power", "LAN power consumption"),
    Word(0x23, "management", "Management hardware configuration"),
    Word(0x24, "init_control_3_a", "Initialization Control 3, port 0: 10: wake by APM", 0x0400),
    Word(0x25, "iov_control", "IOV Control: VFs - 1 in 7:5", 0x00F5),
    Word(0x26, "iov_device_id", "PCI device id of the VFs", 0x10CA),
    Word(0x27, "reserved_27", "Reserved", count=3),
    Word(0x2A, "led_1_3_b", "The same LEDs of port 1", 0x0783),
    Word(0x2B, "led_0_2_b", "The same LEDs of port 1", 0x0602),
    Word(0x2C, "readonly_end", "End of the write-protected area; 0: none"),
    Word(0x2D, "readonly_start", "Start of the write-protected area; 0: none"),
    Word(0x2E, "watchdog", "Watchdog configuration", 0x1000),
    Word(0x2F, "vpd_pointer", "VPD: word pointer"),
    Word(0x30, "pxe", "PXE configuration", 0x0000, 7),
    Word(0x37, "alternate_mac", "Alternate MAC address: word pointer, 0xFFFF: none", EMPTY),
    Word(0x38, "reserved_38", "Reserved", EMPTY, 5),
    Word(0x3D, "iscsi_pointer", "Boot configuration: word pointer, 0: none", 0x0000),
    Word(0x3E, "reserved_3e", "Reserved", EMPTY),
    Word(0x3F, "checksum", "Checksum: words 0 to 0x3F add up to 0xBABA"),
    Word(0x40, "reserved_40", "Reserved", EMPTY, 2),
    Word(0x42, "etrack_low", "EETRACK id, low", EMPTY),
    Word(0x43, "etrack_high", "EETRACK id, high: valid if 15:12 are 8", EMPTY),
)
"""Words 0 to 0x43, without gaps."""

HEADER_WORDS: Final = 0x44

LAYOUT: Final[Any] = cs.Struct(
    *(word.name / (cs.Int16ul if word.count == 1 else cs.Int16ul[word.count]) for word in WORD_MAP)
)
"""construct's declaration of the same."""


class Version(NamedTuple):
    """An image version as Linux prints it: major.minor.image."""

    major: int
    minor: int
    image: int


VERSION: Final = Version(1, 4, 3)
"""The image version of `build` unless told otherwise."""


def size_ex(words: int) -> int:
    """EECD.SIZE_EX of a chip of that many words. ValueError unless a power of 2 that the card and Linux support."""
    if words & words - 1 or not MIN_WORDS <= words <= MAX_WORDS:
        raise ValueError(f"an EEPROM has 256 to 16384 words, a power of 2, not {words}")
    return words.bit_length() - 1 - 6


def to_words(image: bytes) -> list[int]:
    """An image's words. ValueError if it isn't whole words."""
    if len(image) % 2:
        raise ValueError(f"an NVM image has an even number of bytes, not {len(image)}")
    return list(struct.unpack(f"<{len(image) // 2}H", image))


def from_words(words: list[int]) -> bytes:
    """The image of these words."""
    return struct.pack(f"<{len(words)}H", *words)


def checksum(words: list[int]) -> int:
    """What word 0x3F has to be for words 0 to 0x3F to add up to 0xBABA."""
    return (CHECKSUM_SUM - sum(words[:CHECKSUM_WORD])) & 0xFFFF


def problems(image: bytes) -> Iterator[str]:
    """What is wrong with an image, a line each; nothing if Linux will take it."""
    size = len(image) // 2
    try:
        size_ex(size)
        words = to_words(image)
    except ValueError as error:
        yield str(error)
        return
    if (total := sum(words[: CHECKSUM_WORD + 1]) & 0xFFFF) != CHECKSUM_SUM:
        yield f"the checksum is wrong: words 0 to 0x3F add up to {total:#06x}, not {CHECKSUM_SUM:#06x}"
    mac = mac_of(image)
    if mac[0] & 1 or not any(mac):
        yield f"{mac.hex(':')} isn't the address of a station"
    if words[8] == PBA_POINTER_GUARD and words[9] >= size:
        yield f"the part number is outside the image, at word {words[9]:#x}"


def mac_of(image: bytes) -> bytes:
    """The Ethernet address in words 0 to 2."""
    return bytes(image[:6])


def part_number(image: bytes) -> str:
    """The part number (PBA), as Linux reads it, or "" if there is none. Older images have it in words 8 and 9."""
    words = to_words(image)
    guard, pointer = words[8], words[9]
    if guard != PBA_POINTER_GUARD:
        return f"{guard:04X}{pointer >> 8:02X}-0{pointer & 0xFF:02X}"
    if pointer >= len(words) or words[pointer] in (0, EMPTY):
        return ""
    text = b"".join(struct.pack(">H", word) for word in words[pointer + 1 : pointer + words[pointer]])
    return text.rstrip(b"\0").decode("ascii", "replace")


def firmware_version(image: bytes) -> str:
    """What `ethtool -i` will show as firmware-version."""
    words = to_words(image)
    version, high = words[0x05], words[0x43]
    major, minor = version >> 12, version >> 4 & 0xFF
    if high >> 12 != 8:
        return f"{major}.{minor}.{version & 0xF}"
    digits = version & 0xFF if not version & 0x0F00 else minor
    return f"{major}.{digits // 16 * 10 + digits % 16}, {high << 16 | words[0x42]:#010x}"


def vpd(name: str, part: str, serial: str) -> bytes:
    """A VPD area (PCI 2.2, appendix I): a name, part and serial number, and their checksum. ValueError if too long."""

    def keyword(tag: bytes, data: bytes) -> bytes:
        return tag + bytes([len(data)]) + data

    def resource(tag: int, data: bytes) -> bytes:
        return struct.pack("<BH", tag, len(data)) + data

    try:
        fields = keyword(b"PN", part.encode("ascii")) + keyword(b"SN", serial.encode("ascii"))
        text = name.encode("ascii")
        area = resource(0x82, text) + struct.pack("<BH", 0x90, len(fields) + 4) + fields + b"RV\x01"
    except (UnicodeEncodeError, ValueError) as error:
        raise ValueError(f"VPD holds short ASCII texts: {error}") from None
    area += bytes([-sum(area) & 0xFF]) + b"\x78"
    if len(area) > VPD_SIZE:
        raise ValueError(f"the VPD area has {VPD_SIZE} bytes, these texts need {len(area)}")
    return area.ljust(VPD_SIZE, b"\xff")


def build(
    mac: bytes,
    *,
    words: int = WORDS,
    vendor_id: int = 0x8086,
    device_id: int = 0x10C9,
    subsystem_vendor: int = 0x8086,
    subsystem_id: int = 0xA03C,
    version: Version = VERSION,
    etrack: int | None = None,
    part: str = "SOFTIG-001",
    name: str = "Gigabit ET Dual Port Server Adapter",
    serial: str | None = None,
    changes: dict[int, int] | None = None,
) -> bytes:
    """An image for a card with that Ethernet address. `serial` is the address in hex unless given.

    `etrack`    a 32-bit EETRACK id whose top digit is 8; then only major and minor of the version are shown
    `changes`   word address to value, put in last, before the checksum
    ValueError for an address that isn't a station's, or a value that doesn't fit.
    """
    if len(mac) != 6 or mac[0] & 1 or not any(mac):
        raise ValueError(f"{mac.hex(':') or 'nothing'} isn't the address of a station")
    size = size_ex(words)
    major, minor, number = version
    if not (0 <= major < 16 and 0 <= minor < 100 and 0 <= number < 16):
        raise ValueError(f"a version has parts up to 15, 99 and 15, not {major}.{minor}.{number}")
    if etrack is not None and etrack >> 28 != 8:
        raise ValueError(f"an EETRACK id has 32 bits and begins with 8, not {etrack:#x}")
    if not 1 <= len(part) <= 10 or not part.isascii():
        raise ValueError(f"a part number has 1 to 10 ASCII characters, not {part!r}")

    header = [value for word in WORD_MAP for value in [word.default] * word.count]
    header[0x00:0x03] = struct.unpack("<3H", mac)
    header[0x05] = major << 12 | minor << 4 | number
    header[0x08:0x0A] = [PBA_POINTER_GUARD, PBA_AT]
    header[0x0B:0x0F] = [subsystem_id, subsystem_vendor, device_id, vendor_id]
    header[0x11] = device_id
    header[0x12] = 1 << 14 | size << 10
    header[0x2F] = VPD_AT
    if etrack is not None:
        header[0x05] = major << 12 | (minor // 10 * 16 + minor % 10)
        header[0x42:0x44] = [etrack & 0xFFFF, etrack >> 16]

    image = header + [EMPTY] * (words - HEADER_WORDS)
    text = part.encode("ascii")
    text += b"\0" * (len(text) % 2)
    string = struct.unpack(f">{len(text) // 2}H", text)
    image[PBA_AT : PBA_AT + 1 + len(string)] = [1 + len(string), *string]
    area = to_words(vpd(name, part, serial or mac.hex().upper()))
    image[VPD_AT : VPD_AT + len(area)] = area
    for at, value in (changes or {}).items():
        if not (0 <= at < words and 0 <= value < 0x10000):
            raise ValueError(f"word {at:#x} = {value:#x} doesn't fit an EEPROM of {words} words of 16 bits")
        image[at] = value
    image[CHECKSUM_WORD] = checksum(image)
    return from_words(image)
