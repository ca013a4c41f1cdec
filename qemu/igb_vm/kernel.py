"""The guest's kernel: a Debian linux-image package, its vmlinuz and its modules with what they depend on.

Debian's kernel packages have no modules.dep (depmod makes it at installation), so dependencies are read from each
module's own .modinfo section: `depends=`, `softdep=`, `alias=`.
"""

import json
import lzma
import re
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from igb_vm.cache import cache_dir, fresh_dir, locked
from igb_vm.errors import VmError
from igb_vm.fetch import STABLE, AptRoot
from igb_vm.progress import progress

_META = "kernel.json"
_SUITES = {"trixie": STABLE, "trixie-backports": STABLE, "bookworm": "bookworm", "bookworm-backports": "bookworm"}
_LEFT_OUT = re.compile(r"/kernel/(sound|drivers/(gpu|media|staging|infiniband|scsi|iio|hid|usb|comedi))/")


@dataclass(frozen=True)
class Module:
    """A module that a guest needs: its name, its file in the package, and its contents without compression."""

    name: str
    path: Path
    image: bytes = field(repr=False)
    depends: tuple[str, ...]
    aliases: tuple[str, ...]
    soft: tuple[str, ...]  # softdep's "pre:" modules, loaded before if they exist


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot: `vmlinuz`, and the folder of its modules (`…/modules/RELEASE`)."""

    release: str
    version: str  # of the package
    vmlinuz: Path
    folder: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Each module's file by name; as for modprobe, - and _ are the same."""
        return {path.name.split(".ko")[0].replace("-", "_"): path for path in self.folder.rglob("*.ko*")}

    @cached_property
    def builtin(self) -> frozenset[str]:
        """Names of what is built into the kernel and needs no module."""
        lines = (self.folder / "modules.builtin").read_text().splitlines()
        return frozenset(Path(line).name.removesuffix(".ko").replace("-", "_") for line in lines)

    def module(self, name: str) -> Module:
        """One module. Raises VmError if this kernel hasn't got it."""
        path = self.files.get(name.replace("-", "_"))
        if path is None:
            raise VmError(f"kernel {self.release} has no module {name}")
        image = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        info = read_modinfo(image)
        soft = [
            word for line in info.get("softdep", []) for word in line.partition("pre:")[2].partition("post:")[0].split()
        ]
        depends = [word.replace("-", "_") for line in info.get("depends", []) for word in line.split(",") if word]
        return Module(name.replace("-", "_"), path, image, tuple(depends), tuple(info.get("alias", [])), tuple(soft))

    def closure(self, names: Iterable[str]) -> list[Module]:
        """`names` and all they depend on, each after its dependencies. What is built in is passed over.

        Raises VmError for a module this kernel hasn't got.
        """
        done: dict[str, Module] = {}
        under_way: set[str] = set()

        def visit(name: str) -> None:
            name = name.replace("-", "_")
            if name in done or name in self.builtin or name in under_way:
                return
            under_way.add(name)
            module = self.module(name)
            for needed in module.depends:
                visit(needed)
            for wished in module.soft:
                if wished.replace("-", "_") in self.files:
                    visit(wished)
            done[name] = module

        for name in names:
            visit(name)
        return list(done.values())


def read_modinfo(image: bytes) -> dict[str, list[str]]:
    """The `key=value` strings of a module's .modinfo section (elf(5), 64-bit little endian). Empty if there's none."""
    if image[:6] != b"\x7fELF\2\1":
        raise VmError("a kernel module isn't a 64-bit ELF file: the package in the cache is damaged")

    def number(at: int, size: int) -> int:
        return int.from_bytes(image[at : at + size], "little")

    table, entry, count, names = number(40, 8), number(58, 2), number(60, 2), number(62, 2)
    headers = [table + entry * i for i in range(count)]
    strings = number(headers[names] + 24, 8)
    info: dict[str, list[str]] = {}
    for header in headers:
        start = strings + number(header, 4)
        if image[start : start + 9] == b".modinfo\0":
            offset, size = number(header + 24, 8), number(header + 32, 8)
            for item in image[offset : offset + size].split(b"\0"):
                key, equals, value = item.decode(errors="replace").partition("=")
                if equals:
                    info.setdefault(key, []).append(value)
    return info


def get_kernel(release: str | None = None, mirror: str | None = None) -> Kernel:
    """Debian's kernel: stable's, a suite's (trixie-backports, bookworm, …) or an exact release; fetched if need be.

    release: None, a suite, or what `uname -r` says there ("6.12.117+deb13-amd64"). Raises VmError if there's none.
    """
    wanted, target = _place(release)
    with locked(f"kernel-{target.name}"):
        if not (target / _META).exists():
            paths = _download(wanted, mirror)
            with fresh_dir(target) as folder:
                _unpack(paths, folder)
            for path in paths:
                path.unlink()  # over 100 MB that nothing else needs
    return _load(target)


def find_kernel(release: str | None = None) -> Kernel | None:
    """What `get_kernel` would return at once, or None where it would have to fetch it."""
    _, target = _place(release)
    return _load(target) if (target / _META).exists() else None


def _place(release: str | None) -> tuple[str, Path]:
    wanted = release or STABLE
    if not re.fullmatch(r"[\w.+~-]+", wanted):
        raise VmError(f"{wanted!r} is neither a suite of Debian nor a kernel release")
    return wanted, cache_dir() / "kernels" / wanted


def _load(target: Path) -> Kernel:
    meta = json.loads((target / _META).read_text())
    return Kernel(meta["release"], meta["version"], target / "vmlinuz", target / "modules")


def _download(wanted: str, mirror: str | None) -> list[Path]:
    if wanted in _SUITES:
        return AptRoot(_SUITES[wanted], mirror).download(
            ["linux-image-amd64"], wanted, kernel=True, title=f"the kernel of {wanted}"
        )
    package = f"linux-image-{wanted}"
    for codename in dict.fromkeys(_SUITES.values()):
        apt = AptRoot(codename, mirror)
        if apt.has(package):
            return apt.download([package], kernel=True, title=f"kernel {wanted}")
    raise VmError(f"Debian's {', '.join(_SUITES)} have no kernel {wanted}")


def _unpack(paths: list[Path], folder: Path) -> None:
    """Keep vmlinuz and those modules that a guest without a screen, sound or USB can use. Raises VmError."""
    release = version = ""
    with progress("unpacking the kernel"):
        for path in paths:
            found = _unpack_one(path, folder)
            if found:
                release, version = found, path.name.split("_")[1].replace("%3a", ":")
    if not release:
        raise VmError(f"there is no vmlinuz in {', '.join(path.name for path in paths)}")
    (folder / _META).write_text(json.dumps({"release": release, "version": version}))


def _unpack_one(path: Path, folder: Path) -> str:
    """The release of the vmlinuz that the package has, "" if none. A damaged package is removed, with VmError."""
    release = ""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as deb:
        assert deb.stdout is not None
        assert deb.stderr is not None
        try:
            with tarfile.open(fileobj=deb.stdout, mode="r|") as archive:
                for member in archive:
                    kept = _kept_as(member.name)
                    if kept is None or not member.isfile() or (data := archive.extractfile(member)) is None:
                        continue
                    if kept == "vmlinuz":
                        release = _release(member.name)
                    (folder / kept).parent.mkdir(parents=True, exist_ok=True)
                    (folder / kept).write_bytes(data.read())
            deb.stdout.read()  # padding: unread, it would end dpkg-deb with SIGPIPE
            broken = ""
        except tarfile.TarError as error:
            broken = str(error)
        said = deb.stderr.read().decode(errors="replace").strip()
    if deb.returncode != 0 or broken:
        path.unlink(missing_ok=True)
        raise VmError(f"can't unpack {path.name}: {said.rpartition(chr(10))[2] or broken} (removed; try again)")
    return release


def _release(name: str) -> str:
    """Which kernel release a vmlinuz in a package is: boot/vmlinuz-RELEASE, in newer ones modules/RELEASE/vmlinuz."""
    path = PurePosixPath(name)
    return path.parent.name if path.name == "vmlinuz" else path.name.removeprefix("vmlinuz-")


def _kept_as(name: str) -> str | None:
    """Where a package's file goes in the cache; None if a guest has no use for it."""
    if re.search(r"boot/vmlinuz-[^/]+$|lib/modules/[^/]+/vmlinuz$", name):
        return "vmlinuz"
    match = re.search(r"lib/modules/[^/]+/(.*(\.ko(\.xz)?|modules\.builtin))$", name)
    return f"modules/{match[1]}" if match and not _LEFT_OUT.search(name) else None
