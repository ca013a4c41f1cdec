"""Debian packages unpacked into trees of the cache, for programs that this machine hasn't installed."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from igb_vm.cache import cache_dir, fresh_dir, locked
from igb_vm.errors import VmError
from igb_vm.fetch import STABLE, AptRoot
from igb_vm.loader import Loader, Program
from igb_vm.progress import progress

_LEFT_OUT = ("doc", "info", "lintian", "locale", "man")  # of usr/share: nothing runs from there
_MANIFEST = "packages.json"


@dataclass(frozen=True)
class Tree:
    """An unpacked set of packages: usr/, etc/ … below `root`."""

    root: Path

    @cached_property
    def versions(self) -> dict[str, str]:
        """The version of each package in it."""
        versions: dict[str, str] = json.loads((self.root / _MANIFEST).read_text())
        return versions

    @cached_property
    def loader(self) -> Loader:
        return Loader(self.root)

    def program(self, name: str, env: dict[str, str] | None = None) -> Program:
        """A program of the tree, to be run through the tree's own loader. Raises VmError if there's none."""
        return self.loader.program(name, {**_environment(self.root), **(env or {})})


def ensure(
    packages: Sequence[str],
    *,
    codename: str = STABLE,
    release: str | None = None,
    mirror: str | None = None,
    kernel: bool = False,
    refresh: bool = False,
) -> Tree:
    """A tree with `packages` and all they depend on: the cached one, or fetched now.

    release: a suite to prefer, such as trixie-backports. kernel: see `AptRoot.download`. refresh: fetch anew
    even if there is one. Raises VmError where fetching fails.
    """
    target = _place(packages, codename, release, kernel)
    with locked(f"tree-{target.name}"):
        if refresh or not (target / _MANIFEST).exists():
            paths = AptRoot(codename, mirror).download(packages, release, kernel)
            with fresh_dir(target) as folder:
                _unpack(paths, folder, " ".join(packages))
    return Tree(target)


def cached(packages: Sequence[str], *, codename: str = STABLE, release: str | None = None) -> Tree | None:
    """The tree that `ensure` would return at once, or None where it would have to fetch."""
    target = _place(packages, codename, release, False)
    return Tree(target) if (target / _MANIFEST).exists() else None


def _place(packages: Sequence[str], codename: str, release: str | None, kernel: bool) -> Path:
    key = json.dumps([sorted(packages), codename, release, kernel])
    return cache_dir() / "trees" / f"{packages[0]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _unpack(paths: Sequence[Path], folder: Path, title: str) -> None:
    versions = {}
    with progress(f"unpacking {title}") as show:
        for done, path in enumerate(paths):
            show(100.0 * done / len(paths))
            run = subprocess.run(["dpkg-deb", "-x", path, folder], capture_output=True, text=True)
            if run.returncode != 0:
                path.unlink(missing_ok=True)
                raise VmError(f"can't unpack {path.name}: {run.stderr.strip().splitlines()[-1]} (removed; try again)")
            package, version, _ = path.name.split("_")
            versions[package] = version.replace("%3a", ":")
    for name in _LEFT_OUT:
        shutil.rmtree(folder / "usr/share" / name, ignore_errors=True)
    (folder / _MANIFEST).write_text(json.dumps(versions, indent=1, sort_keys=True))


def _environment(root: Path) -> dict[str, str]:
    """Where programs that look for data at fixed places find them in the tree."""
    known = {
        "WIRESHARK_DATA_DIR": "usr/share/wireshark",
        "OPENSSL_MODULES": "usr/lib/x86_64-linux-gnu/ossl-modules",
        "TRACEEVENT_PLUGIN_DIR": "usr/lib/x86_64-linux-gnu/traceevent/plugins",
        "XTABLES_LIBDIR": "usr/lib/x86_64-linux-gnu/xtables",
        "QEMU_MODULE_DIR": "usr/lib/x86_64-linux-gnu/qemu",
    }
    return {name: str(root / place) for name, place in known.items() if (root / place).exists()}
