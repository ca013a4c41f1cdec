"""Modules and what they depend on, from hand-made ELF files; and the real igb's, against depmod's own answer."""

import json
import lzma
import os
import struct
import subprocess
from pathlib import Path

import pytest

from igb_vm.errors import VmError
from igb_vm.kernel import Kernel, _unpack, get_kernel, read_modinfo


def elf_module(**info: str | list[str]) -> bytes:
    """The least ELF64 file with a .modinfo section: header, strings, section, table of three sections (elf(5))."""
    strings = b"\0.shstrtab\0.modinfo\0"
    items = [(key, item) for key, value in info.items() for item in ([value] if isinstance(value, str) else value)]
    modinfo = b"".join(f"{key}={item}\0".encode() for key, item in items)
    names_at, modinfo_at = 64, 64 + len(strings)
    table_at = modinfo_at + len(modinfo)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, 3, 1)
    section = struct.Struct("<IIQQQQIIQQ")
    sections = [
        section.pack(*[0] * 10),
        section.pack(1, 3, 0, 0, names_at, len(strings), 0, 0, 1, 0),
        section.pack(11, 1, 2, 0, modinfo_at, len(modinfo), 0, 0, 1, 0),
    ]
    return header + strings + modinfo + b"".join(sections)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel with igb's family, one module compressed, one built in, two that need each other softly."""
    folder = tmp_path / "modules"
    (folder / "kernel/net").mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/drivers/ptp/ptp.ko\nkernel/drivers/i2c/i2c-core.ko\n")
    files = {
        "igb": elf_module(depends="i2c-algo-bit,dca,ptp", license="GPL", alias=["pci:v8086d10C9*", "pci:v8086d1533*"]),
        "i2c-algo-bit": elf_module(depends="i2c-core"),
        "dca": elf_module(depends=""),
        "a": elf_module(softdep="pre: b missing post: dca", depends=""),
        "b": elf_module(softdep="pre: a"),
    }
    for name, image in files.items():
        (folder / "kernel/net" / f"{name}.ko.xz").write_bytes(lzma.compress(image))
    (folder / "kernel/plain.ko").write_bytes(elf_module(depends="igb"))
    return Kernel("6.0-test", "1", tmp_path / "vmlinuz", folder)


def test_dependencies_come_first_and_builtin_ones_not_at_all(kernel: Kernel) -> None:
    assert [module.name for module in kernel.closure(["plain", "igb"])] == ["i2c_algo_bit", "dca", "igb", "plain"]


def test_names_are_the_same_with_either_dash(kernel: Kernel) -> None:
    assert kernel.closure(["i2c-algo-bit"]) == kernel.closure(["i2c_algo_bit"])


def test_soft_dependencies_may_be_missing_or_go_in_circles(kernel: Kernel) -> None:
    assert [module.name for module in kernel.closure(["a"])] == ["b", "a"]


def test_a_module_knows_its_aliases(kernel: Kernel) -> None:
    assert kernel.module("igb").aliases == ("pci:v8086d10C9*", "pci:v8086d1533*")


def test_a_missing_module_is_one_line(kernel: Kernel) -> None:
    with pytest.raises(VmError, match=r"kernel 6\.0-test has no module nosuch"):
        kernel.closure(["nosuch"])


def test_what_is_no_elf_is_refused() -> None:
    with pytest.raises(VmError, match="ELF"):
        read_modinfo(b"not a module")


@pytest.mark.parametrize("bad", ["../etc", "a b", "x;y", ""])
def test_a_release_is_no_path(bad: str, cache: Path) -> None:
    if bad:
        with pytest.raises(VmError, match="neither"):
            get_kernel(bad)


@pytest.mark.parametrize("kept", [0, 50, 0.5, 0.99])
def test_a_damaged_package_is_one_error_and_goes(tmp_path: Path, kept: float) -> None:
    source = tmp_path / "source"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN/control").write_text(
        "Package: linux-image-6.0-test\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n"
    )
    (source / "boot").mkdir()
    (source / "boot/vmlinuz-6.0-test").write_bytes(os.urandom(100_000))
    deb = tmp_path / "linux-image-6.0-test_1_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", source, deb], check=True, capture_output=True)
    folder = tmp_path / "kernel"
    folder.mkdir()
    _unpack([deb], folder)
    assert json.loads((folder / "kernel.json").read_text()) == {"release": "6.0-test", "version": "1"}
    whole = deb.read_bytes()
    deb.write_bytes(whole[: int(kept if kept >= 1 else kept * len(whole))])
    with pytest.raises(VmError, match=r"^can't unpack linux-image-6\.0-test_1_amd64\.deb: [^\n]*try again\)$"):
        _unpack([deb], folder)
    assert not deb.exists()


@pytest.mark.qemu
def test_the_real_modules_agree_with_depmod(tmp_path: Path) -> None:
    from igb_vm.initramfs import MODULES
    from igb_vm.packages import ensure

    kernel = get_kernel()
    base = tmp_path / "lib/modules" / kernel.release
    names = [name for name in MODULES if name in kernel.files]
    for module in kernel.closure(names):
        place = base / f"{module.name}.ko"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(module.image)
    run = ensure(["kmod"]).program("depmod").run("-b", tmp_path, "-m", "/lib/modules", kernel.release)
    assert (base / "modules.dep").exists(), run.stderr
    depmods = {}
    for line in (base / "modules.dep").read_text().splitlines():
        name, _, needed = line.partition(":")
        depmods[name.removesuffix(".ko")] = {word.removesuffix(".ko") for word in needed.split()}
    assert depmods["igb"] == {"dca", "i2c_algo_bit"}
    for name in names:
        hard = {module.name for module in kernel.closure([name])} - {name}
        assert depmods[name] <= hard
