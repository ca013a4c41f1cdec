"""QEMU: finding one that has vfio-user-pci, or fetching Debian's, and asking what it can do."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from igb_vm.errors import VmError
from igb_vm.loader import Program
from igb_vm.packages import Tree, cached, ensure
from igb_vm.progress import say

MINIMUM = (10, 1, 1)  # 10.1.0's vfio-user-pci had a regression
_RELEASE = "trixie-backports"
_PACKAGES = ("qemu-system-x86",)


@dataclass(frozen=True)
class Qemu:
    """A qemu-system-x86_64 that lists vfio-user-pci."""

    program: Program
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def get_qemu(path: str | None = None, mirror: str | None = None) -> Qemu:
    """The QEMU at `path` or $SOFTIGB_QEMU if given, the machine's own if it will do, or else Debian's, fetched.

    Raises VmError if the one that was named won't do, or none can be fetched.
    """
    try:
        installed = _installed(path)
    except UnusableError as why:
        say(f"{why}: using Debian {_RELEASE}'s")
        installed = None
    return installed or _of_tree(ensure(_PACKAGES, release=_RELEASE, mirror=mirror))


def find_qemu(path: str | None = None) -> Qemu | None:
    """What `get_qemu` would return at once, or None where it would have to fetch one. Raises VmError as that does."""
    try:
        installed = _installed(path)
    except UnusableError:
        installed = None
    if installed is None and (tree := cached(_PACKAGES, release=_RELEASE)) is not None:
        return _of_tree(tree)
    return installed


class UnusableError(VmError):
    """The machine's own QEMU won't do."""


def _installed(path: str | None) -> Qemu | None:
    """The QEMU that was named, or the machine's own. Raises VmError, UnusableError for the machine's own."""
    named = path or os.environ.get("SOFTIGB_QEMU")
    if named:
        return probe(Program(named, (named,)))
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        return None
    try:
        return probe(Program("qemu-system-x86_64", (found,)))
    except VmError as why:
        raise UnusableError(str(why)) from None


def _of_tree(tree: Tree) -> Qemu:
    program = tree.program("qemu-system-x86_64")
    folders = [tree.root / "usr/share" / name for name in ("qemu", "seabios", "ipxe/qemu")]
    argv = (*program.argv, *(word for folder in folders if folder.is_dir() for word in ("-L", str(folder))))
    return probe(Program(program.name, argv, program.env))


def probe(program: Program) -> Qemu:
    """Ask a QEMU for its version and for vfio-user-pci. Raises VmError if it won't do."""
    try:
        said = program.run("-version").stdout
        match = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
        if match is None:
            raise VmError(f"{program.name} doesn't run, or is no QEMU")
        version = (int(match[1]), int(match[2]), int(match[3]))
        devices = program.run("-device", "help").stdout
    except OSError as error:
        raise VmError(f"can't run {Path(program.argv[0])}: {error.strerror}") from None
    shown = ".".join(map(str, version))
    if version < MINIMUM:
        raise VmError(f"{program.name} is {shown}, and vfio-user-pci needs {'.'.join(map(str, MINIMUM))}")
    if '"vfio-user-pci"' not in devices:
        raise VmError(f"{program.name} {shown} was built without vfio-user-pci")
    return Qemu(program, version)
