"""Programs in an unpacked tree, run through the tree's own dynamic loader: ld.so(8) with --library-path.

So they use the libraries they were built with, whatever the machine has, and nothing needs to be installed.
"""

import os
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from igb_vm.errors import VmError

_LOADERS = (
    "usr/lib64/ld-linux-x86-64.so.2",
    "lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
)
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib")
_PROGRAMS = ("usr/bin", "usr/sbin", "bin", "sbin", "usr/libexec")


@dataclass(frozen=True)
class Program:
    """A command to run: `argv` goes before the arguments, `env` on top of the environment."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str | os.PathLike[str]) -> list[str]:
        """The whole command line."""
        return [*self.argv, *(os.fspath(argument) for argument in arguments)]

    def run(self, *arguments: str | os.PathLike[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, output captured as text; `options` as subprocess.run has them."""
        options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **options}
        return subprocess.run(self.command(*arguments), env={**os.environ, **self.env}, **options)


@dataclass(frozen=True)
class Loader:
    """The dynamic loader and library path of the tree at `root`."""

    root: Path

    @cached_property
    def path(self) -> Path:
        """The loader itself. Raises VmError if the tree has none (no package with a dynamic program in it)."""
        for name in _LOADERS:
            if (found := self.root / name).exists():
                return found
        raise VmError(f"{self.root} has no dynamic loader: libc6 is missing there")

    @cached_property
    def library_path(self) -> str:
        """What ld.so gets as --library-path."""
        folders = [self.root / name for name in _LIBRARIES]
        for config in sorted(self.root.glob("etc/ld.so.conf.d/*.conf")):
            folders += [
                self.root / line.strip().lstrip("/") for line in config.read_text().splitlines() if line[:1] == "/"
            ]
        return ":".join(str(folder) for folder in dict.fromkeys(folders) if folder.is_dir())

    def find(self, name: str) -> Path:
        """Where the tree has the program `name`. Raises VmError if nowhere."""
        for folder in _PROGRAMS:
            if (found := self.root / folder / name).exists():
                return found
        raise VmError(f"{self.root} has no program {name}")

    def find_library(self, name: str) -> Path:
        """Where the tree has the shared library `name`. Raises VmError if nowhere."""
        for folder in self.library_path.split(":"):
            if (found := Path(folder, name)).exists():
                return found
        raise VmError(f"{self.root} has no library {name}")

    def program(self, name: str, env: dict[str, str] | None = None) -> Program:
        """The tree's program `name`, ready to run from outside."""
        path = self.find(name)
        if not _is_dynamic(path):
            return Program(name, (str(path),), env or {})
        argv = (str(self.path), "--argv0", name, "--library-path", self.library_path, str(path))
        return Program(name, argv, env or {})


def _is_dynamic(path: Path) -> bool:
    """Whether a file is an ELF program that names an interpreter (PT_INTERP, type 3)."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if head[:4] != b"\x7fELF":
        return False
    offset = int.from_bytes(head[32:40], "little")
    size = int.from_bytes(head[54:56], "little")
    count = int.from_bytes(head[56:58], "little")
    return any(head[at : at + 4] == b"\3\0\0\0" for at in range(offset, offset + count * size, size))
