"""KVM or TCG: KVM where it truly runs a guest. A /dev/kvm that exists may still not do so, so one is booted to see."""

import json
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path

from igb_vm.cache import cache_dir, locked, write_atomically
from igb_vm.errors import GuestError, VmError
from igb_vm.progress import say

KVM_SECONDS = 20.0  # a guest that hasn't answered by then, under KVM, never will


def choose(wanted: str, qemu: str, kernel: str, boot: Callable[[float], object]) -> str:
    """The accelerator, "kvm" or "tcg", for `wanted` ("auto", "kvm" or "tcg").

    qemu, kernel: their versions. boot: boots a guest under KVM within so many seconds or raises GuestError; it's called
    at most once for each pair of them on each host kernel and processor, and its outcome kept in the cache.
    Raises VmError if KVM is asked for where /dev/kvm can't be opened.
    """
    if wanted not in ("auto", "kvm", "tcg"):
        raise VmError(f"{wanted!r} is no accelerator: auto, kvm or tcg")
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    if wanted == "kvm" and not usable:
        raise VmError("/dev/kvm is absent, or not for this user (often: join the group kvm)")
    if wanted != "auto":
        return wanted
    if not usable:
        return "tcg"
    host = f"{platform.release()} {_processor()}"
    name = re.sub(r"[^\w.+-]+", "_", f"kvm-{qemu}-{kernel}-{host}.json")
    path = cache_dir() / name
    with locked("kvm"):
        try:
            works = bool(json.loads(path.read_text())["works"])
        except (OSError, ValueError, KeyError, TypeError):
            works, why = _try(boot)
            write_atomically(path, json.dumps({"works": works, "why": why}).encode())
            if not works:
                say("there is a /dev/kvm, but a guest doesn't boot with it: using TCG from now on")
    return "kvm" if works else "tcg"


def _try(boot: Callable[[float], object]) -> tuple[bool, str]:
    try:
        boot(KVM_SECONDS)
    except GuestError as error:
        return False, str(error)[:2000]
    return True, ""


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()
