"""A private apt root: the machine's own apt, with its proxies and passwords, on a Debian archive of our choice.

It keeps its lists, its idea of what is installed (nothing) and its downloads in the cache folder, and needs no root.
apt checks the archive's signatures against Debian's keyring and each package's hash, and resumes broken downloads.
Left out: anything but amd64 and `main`, translations, sources, index diffs.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from igb_vm import process
from igb_vm.cache import cache_dir, fresh_dir, locked, write_atomically
from igb_vm.errors import VmError
from igb_vm.mirror import find_mirror
from igb_vm.progress import progress, say

STABLE = "trixie"
_LISTS_MAX_AGE = 7 * 86400.0  # seconds; older lists may name packages the mirror has dropped

# Packages that only maintainer scripts or a running system need; nothing unpacked here runs those.
_ASSUMED = {
    *("adduser", "base-passwd", "cdebconf", "debconf", "dpkg", "init-system-helpers", "install-info", "login"),
    *("login.defs", "libpam-modules", "libpam-modules-bin", "libpam-runtime", "passwd", "perl", "perl-base"),
    *("sensible-utils", "systemd", "systemd-sysv", "tzdata", "ucf", "udev"),
}
_KERNEL_ASSUMED = {"initramfs-tools", "dracut", "kmod", "linux-base"}

_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Default-Release "";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "2";
Acquire::Queue-Mode "access";
Binary::apt-get::APT::Keep-Downloaded-Packages "true";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{root}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{root}/none";
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
"""


@dataclass(frozen=True)
class Deb:
    """A package that a request resolved to."""

    file: str  # its name in the download folder
    size: int  # bytes

    @property
    def name(self) -> str:
        return self.file.split("_")[0]

    @property
    def version(self) -> str:
        return urllib.parse.unquote(self.file.split("_")[1])


class AptRoot:
    """The private apt root of one Debian release, with its backports.

    codename: of the release ("trixie"). mirror: see `find_mirror`.
    """

    def __init__(self, codename: str = STABLE, mirror: str | None = None) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise VmError(
                "fetching packages needs apt-get and dpkg-deb, which this machine hasn't: "
                "install them, or QEMU >= 10.1.1 with vfio-user-pci"
            )
        self.codename = codename
        self.mirror = mirror
        self.path = cache_dir() / "apt" / codename
        self.archives = self.path / "cache" / "archives"

    def download(
        self, packages: Sequence[str], release: str | None = None, kernel: bool = False, title: str = ""
    ) -> list[Path]:
        """Fetch `packages` and all they depend on, but no recommendations; the paths of the .deb files.

        release: prefer this suite for all of them. kernel: leave out what only installing a kernel needs.
        title: what to call it. Raises VmError if it can't be resolved or fetched.
        """
        title = title or " ".join(packages)
        request = ["install", "--yes", *packages, *(["--target-release", release] if release else [])]
        assumed = (_ASSUMED | (_KERNEL_ASSUMED if kernel else set())) - set(packages)
        with locked(f"apt-{self.codename}"):
            self._prepare()
            self._assume_installed(assumed)
            fresh = self._lists_fresh()
            if not fresh:
                self._update()
            debs = self._resolve(request)
            try:
                self._fetch(request, debs, title)
            except VmError:
                if not fresh:
                    raise
                self._update()  # the lists were older than the mirror's packages, perhaps
                debs = self._resolve(request)
                self._fetch(request, debs, title)
        return [self.archives / deb.file for deb in debs]

    def has(self, package: str) -> bool:
        """Whether the archive has a package of this exact name."""
        with locked(f"apt-{self.codename}"):
            self._prepare()
            if not self._lists_fresh():
                self._update()
            return bool(self._apt("apt-cache", ["madison", package]).strip())

    def _resolve(self, request: list[str]) -> list[Deb]:
        # With an empty download folder, so that what is there already is listed too.
        output = self._apt("apt-get", [*request, "--print-uris", "-o", f"Dir::Cache::archives={self.path}/empty"])
        return [Deb(file, int(size)) for file, size in re.findall(r"^'[^']+' (\S+) (\d+) ", output, re.MULTILINE)]

    def _fetch(self, request: list[str], debs: list[Deb], title: str) -> None:
        missing = [deb for deb in debs if not (self.archives / deb.file).exists()]
        if not missing:
            return
        say(f"fetching {title}: {len(missing)} packages, {sum(deb.size for deb in missing) / 1e6:.0f} MB")
        with progress(title) as show:
            self._apt("apt-get", [*request, "--download-only"], show)

    def _prepare(self) -> None:
        for folder in ("sources", "none", "empty/partial", "state/lists/partial", "cache/archives/partial"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        suites = f"{self.codename} {self.codename}-backports"
        sources = (
            f"Types: deb\nURIs: {find_mirror(self.mirror)}\nSuites: {suites}\nComponents: main\n"
            f"Architectures: amd64\nTargets: Packages\nLanguages: none\nPDiffs: no\nSigned-By: {_keyring()}\n"
        )
        for name, text in (("sources/debian.sources", sources), ("apt.conf", _CONFIG.format(root=self.path))):
            if not (self.path / name).exists() or (self.path / name).read_text() != text:
                write_atomically(self.path / name, text.encode())
                (self.path / "updated").unlink(missing_ok=True)

    def _assume_installed(self, names: set[str]) -> None:
        stanza = (
            "Package: {}\nStatus: install ok installed\nVersion: 999\nArchitecture: all\n"
            "Multi-Arch: foreign\nMaintainer: nobody\nDescription: assumed\n\n"
        )
        write_atomically(self.path / "state/status", "".join(map(stanza.format, sorted(names))).encode())

    def _lists_fresh(self) -> bool:
        try:
            return time.time() - (self.path / "updated").stat().st_mtime < _LISTS_MAX_AGE
        except FileNotFoundError:
            return False

    def _update(self) -> None:
        say(f"reading the package lists of Debian {self.codename}")
        with progress("package lists") as show:
            self._apt("apt-get", ["update", "-o", "APT::Update::Error-Mode=any"], show)
        (self.path / "updated").touch()

    def _apt(self, program: str, arguments: Sequence[str], show: Callable[[float], None] = lambda percent: None) -> str:
        """Run one of apt's programs on this root; its output. Raises VmError with apt's own first complaints."""
        status, output, errors = _run_watched([program, "-c", str(self.path / "apt.conf"), *arguments], show)
        if status != 0:
            lines = [line for line in errors.splitlines() + output.splitlines() if line.startswith(("E:", "Err:"))]
            detail = " / ".join(line.removeprefix("E: ").strip() for line in lines[:3]) or f"status {status}"
            raise VmError(f"{program} {' '.join(arguments[:3])}: {detail}")
        return output


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _run_watched(command: list[str], show: Callable[[float], None]) -> tuple[int, str, str]:
    """Run an apt-get and show its progress, as APT::Status-Fd reports it (`dlstatus:item:percent:text`)."""
    reader, writer = os.pipe()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        status_fd = ["-o", f"APT::Status-Fd={writer}"]
        try:
            apt = process.spawn([*command, *status_fd], env=_environment(), stdout=out, stderr=err, pass_fds=[writer])
        finally:
            os.close(writer)
        try:
            with open(reader, errors="replace") as lines:
                for line in lines:
                    fields = line.split(":")
                    if fields[0] == "dlstatus" and len(fields) > 2:
                        show(float(fields[2]))
            status = apt.wait()
        except BaseException:
            process.end(apt)  # it keeps what it has in archives/partial, and goes on from there next time
            raise
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


def _keyring() -> Path:
    """Debian's keyring: the machine's, or else out of the package that the machine's own signed apt has (Ubuntu)."""
    name = "usr/share/keyrings/debian-archive-keyring"
    for suffix in (".gpg", ".pgp"):
        if (machines := Path("/", name + suffix)).exists():
            return machines
    target = cache_dir() / "keyring"
    for suffix in (".gpg", ".pgp"):
        if (ours := target / (name + suffix)).exists():
            return ours
    say("fetching Debian's keyring from this machine's own archive")
    with fresh_dir(target) as folder:
        download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "debian-archive-keyring"]
        run = subprocess.run(download, cwd=folder, env=_environment(), capture_output=True, text=True)
        packages = list(folder.glob("*.deb"))
        if run.returncode != 0 or not packages:
            raise VmError(
                "there is no Debian keyring to check signatures with, and this machine's apt can't fetch one: "
                "install the package debian-archive-keyring"
            )
        subprocess.run(["dpkg-deb", "-x", packages[0], folder], check=True, capture_output=True)
    return _keyring()
