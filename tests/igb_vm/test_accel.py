"""KVM is used only where a guest booted with it, and that is tried once."""

import os
from pathlib import Path

import pytest

from igb_vm import accel
from igb_vm.errors import GuestError, VmError


@pytest.fixture
def kvm_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where /dev/kvm can be opened."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: True if path == "/dev/kvm" else real(path, mode))


@pytest.fixture
def no_kvm_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where it can't."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: False if path == "/dev/kvm" else real(path, mode))


class Boot:
    """A stand-in for booting a guest with KVM."""

    def __init__(self, works: bool) -> None:
        self.works = works
        self.calls = 0

    def __call__(self, timeout: float) -> None:
        self.calls += 1
        if not self.works:
            raise GuestError("no answer")


@pytest.mark.usefixtures("cache", "kvm_device")
@pytest.mark.parametrize(("works", "chosen"), [(True, "kvm"), (False, "tcg")])
def test_the_outcome_is_remembered(works: bool, chosen: str) -> None:
    boot = Boot(works)
    assert accel.choose("auto", "11.1.3", "6.12", boot) == chosen
    assert accel.choose("auto", "11.1.3", "6.12", boot) == chosen
    assert boot.calls == 1
    assert accel.choose("auto", "11.1.4", "6.12", boot) == chosen
    assert boot.calls == 2


@pytest.mark.usefixtures("kvm_device")
def test_a_damaged_memory_is_made_anew(cache: Path) -> None:
    boot = Boot(True)
    accel.choose("auto", "11.1.3", "6.12", boot)
    (memory,) = cache.glob("kvm-*")
    memory.write_text("{")
    assert accel.choose("auto", "11.1.3", "6.12", boot) == "kvm"
    assert boot.calls == 2


@pytest.mark.usefixtures("cache", "no_kvm_device")
def test_without_the_device_it_is_tcg() -> None:
    boot = Boot(True)
    assert accel.choose("auto", "11.1.3", "6.12", boot) == "tcg"
    assert boot.calls == 0
    with pytest.raises(VmError, match="/dev/kvm"):
        accel.choose("kvm", "11.1.3", "6.12", boot)


def test_an_unknown_accelerator_is_refused() -> None:
    with pytest.raises(VmError, match="xen"):
        accel.choose("xen", "11.1.3", "6.12", Boot(True))
