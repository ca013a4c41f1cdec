"""What `softigb doctor` looks at: the parts of a machine that `softigb boot` needs. Nothing is fetched or changed."""

from __future__ import annotations

import enum
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace

from igb_vm.accel import choose
from igb_vm.cache import cache_dir
from igb_vm.errors import VmError
from igb_vm.guest import Guest
from igb_vm.initramfs import PACKAGES
from igb_vm.kernel import Kernel, find_kernel
from igb_vm.mirror import find_mirror
from igb_vm.packages import cached
from igb_vm.qemu import MINIMUM, Qemu, find_qemu

_FETCHED_BYTES = 1500 << 20
"""What a first `softigb boot` leaves in the cache, with what it needs on the way."""


class Level(enum.Enum):
    """OK; WARN: works, but slower or in another way; FAIL: `softigb boot` can't work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, what was found, and what to do about it."""

    level: Level
    what: str
    found: str
    remedy: str = ""


def run_checks(mirror: str | None, boot_with_kvm: bool) -> list[Check]:
    """All checks, in the order in which a boot needs things."""
    fetching = _fetching(mirror)
    can_fetch = fetching.level is not Level.FAIL
    qemu, qemu_check = _qemu(can_fetch)
    kernel, kernel_check = _kernel(can_fetch)
    if qemu is not None and kernel is not None and fetching.level is Level.FAIL:
        fetching = replace(fetching, level=Level.WARN)  # there's nothing left to fetch
    tun, namespaces, passt = _tun(), _namespaces(), _passt(can_fetch)
    if tun.level is Level.OK and namespaces.level is Level.OK:
        passt = Check(Level.OK, passt.what, f"{passt.found} (not needed: a namespace with a TAP does better)")
    elif namespaces.level is not Level.OK:
        passt = Check(Level.WARN, passt.what, "needs namespaces too", "none needed: slirp, in QEMU, takes its place")
    return [
        _python(),
        _system(),
        _cache(qemu is not None and kernel is not None),
        fetching,
        qemu_check,
        kernel_check,
        _kvm(qemu, kernel, boot_with_kvm),
        tun,
        namespaces,
        passt,
        _iproute(),
    ]


def _python() -> Check:
    return Check(
        Level.OK, "Python", f"{platform.python_version()} ({sys.executable})"
    )  # an older one wouldn't get here


def _system() -> Check:
    found = f"{platform.system()} {platform.release()} on {platform.machine()}, {os.cpu_count()} CPUs"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return Check(Level.FAIL, "system", found, "guests, and the QEMU that is fetched, are for Linux on x86_64")
    if (os.cpu_count() or 1) < 2:
        return Check(Level.WARN, "system", found, "card and guest share one CPU: expect half the throughput")
    return Check(Level.OK, "system", found)


def _cache(complete: bool) -> Check:
    try:
        folder = cache_dir()
    except VmError as error:
        return Check(Level.FAIL, "cache", str(error), "set SOFTIGB_CACHE to a folder that can be written")
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free >> 20} MB free"
    if free < _FETCHED_BYTES and not complete:
        return Check(Level.FAIL, "cache", found, f"set SOFTIGB_CACHE to a place with {_FETCHED_BYTES >> 20} MB")
    return Check(Level.OK, "cache", found)


def _fetching(mirror: str | None) -> Check:
    what = "fetching"
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        return Check(Level.FAIL, what, f"no {' and no '.join(missing)}", "use Debian, Ubuntu or a container of them")
    try:
        return Check(Level.OK, what, f"from the Debian mirror {find_mirror(mirror)}")
    except VmError as error:
        return Check(Level.FAIL, what, str(error), "give --mirror URL, or set SOFTIGB_MIRROR")


def _qemu(can_fetch: bool) -> tuple[Qemu | None, Check]:
    what = "QEMU"
    wanted = f">= {'.'.join(map(str, MINIMUM))} with vfio-user-pci"
    try:
        qemu = find_qemu()
    except VmError as error:
        return None, Check(Level.FAIL, what, str(error), f"SOFTIGB_QEMU must name a qemu-system-x86_64 {wanted}")
    if qemu is not None:
        place = "fetched" if str(cache_dir()) in qemu.program.argv[0] else qemu.program.argv[0]
        return qemu, Check(Level.OK, what, f"{qemu.version_text} with vfio-user-pci ({place})")
    if can_fetch:
        return None, Check(Level.OK, what, f"none {wanted}: softigb boot fetches Debian's, without installing it")
    return None, Check(Level.FAIL, what, f"none {wanted}", "install one, and name it by SOFTIGB_QEMU")


def _kernel(can_fetch: bool) -> tuple[Kernel | None, Check]:
    what = "guest"
    kernel, programs = find_kernel(), cached(PACKAGES)
    if kernel is not None and programs is not None:
        return kernel, Check(Level.OK, what, f"kernel {kernel.release} and the guest's programs are in the cache")
    missing = " and ".join(
        name for name, there in (("Debian's kernel", kernel), ("the guest's programs", programs)) if there is None
    )
    if can_fetch:
        return None, Check(Level.OK, what, f"not in the cache yet: softigb boot fetches {missing}")
    return None, Check(Level.FAIL, what, f"not in the cache: {missing}", "give --mirror URL")


def _kvm(qemu: Qemu | None, kernel: Kernel | None, boot_with_kvm: bool) -> Check:
    what = "KVM"
    slower = "none needed: TCG runs the guest, several times slower"
    if not os.path.exists("/dev/kvm"):
        return Check(Level.WARN, what, "no /dev/kvm", f"{slower} (load kvm_intel or kvm_amd, or allow nesting)")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Check(Level.WARN, what, "/dev/kvm isn't for this user", f"{slower} (or join the group kvm)")
    if qemu is None or kernel is None or not boot_with_kvm:
        return Check(Level.OK, what, "/dev/kvm is there; whether a guest boots with it wasn't tried")
    tried_qemu, tried_kernel = qemu, kernel

    def boot(timeout: float) -> None:
        guest = Guest(qemu=tried_qemu, kernel=tried_kernel, accel="kvm")
        try:
            guest.start(timeout)
            guest.run("true", timeout)
        finally:
            guest.close()

    if choose("auto", qemu.version_text, kernel.release, boot) == "kvm":
        return Check(Level.OK, what, "a guest boots with it")
    return Check(Level.WARN, what, "there is a /dev/kvm, but a guest doesn't boot with it", slower)


def _tun() -> Check:
    """Without it, without namespaces or without passt, `softigb boot` has another network, a slower one."""
    what = "TAP"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Check(Level.WARN, what, "no /dev/net/tun", "modprobe tun (in a container: pass the device in)")
    except OSError as error:
        return Check(Level.WARN, what, f"/dev/net/tun: {error.strerror}", "chmod 666 /dev/net/tun, as udev has it")
    return Check(Level.OK, what, "/dev/net/tun can be opened")


def _namespaces() -> Check:
    """Tries in a process of its own what igb_vm.network does: this one stays where it is."""
    what = "namespaces"
    program = """if 1:
        import sys
        from igb_vm import holder
        try:
            holder.enter_namespace()
        except holder.SetupError as error:
            sys.exit(str(error))
    """
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ran.returncode == 0:
        kind = "network namespaces, as root" if os.geteuid() == 0 else "user and network namespaces, without root"
        return Check(Level.OK, what, kind)
    reason = ran.stderr.strip().rpartition("\n")[2]
    remedy = "sysctl kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0, or be root"
    return Check(Level.WARN, what, reason, remedy)


def _passt(can_fetch: bool) -> Check:
    what = "passt"
    if (path := shutil.which("passt")) is not None:
        return Check(Level.OK, what, path)
    if cached(["passt"]) is not None:
        return Check(Level.OK, what, "fetched")
    if can_fetch:
        return Check(Level.OK, what, "not installed: softigb boot fetches it where it's needed")
    return Check(Level.WARN, what, "not installed", "apt-get install passt")


def _iproute() -> Check:
    what = "iproute2"
    if (path := shutil.which("ip")) is not None:
        return Check(Level.OK, what, path)
    return Check(
        Level.WARN, what, "no ip here", "softigb boot needs none; to make TAPs by hand: apt-get install iproute2"
    )
