"""`softigb doctor` on this machine and on ones that lack things."""

from __future__ import annotations

import os

import pytest

from softigb import checks
from softigb.checks import Check, Level

LINES = ("Python", "system", "cache", "fetching", "QEMU", "guest", "KVM", "TAP", "namespaces", "passt", "iproute2")


@pytest.fixture(autouse=True)
def _without_kvm_boot(monkeypatch):
    monkeypatch.setattr(checks, "choose", lambda *_: "tcg")


def by_name(found):
    return {check.what: check for check in found}


def test_each_part_has_a_line_and_a_failing_one_its_remedy(softigb):
    ran = softigb("doctor", "--mirror", "http://localhost/debian", "--no-kvm")
    rows = {words[1]: words[0] for line in ran.out.splitlines() if len(words := line.split()) > 1}
    assert {rows[name] for name in LINES} <= {"ok", "warn", "fail"}
    assert ran.status == (1 if "fail" in (rows[name] for name in LINES) else 0)


def test_an_empty_cache_and_no_apt_mean_that_boot_cannot_work(softigb, monkeypatch, tmp_path):
    monkeypatch.setenv("SOFTIGB_CACHE", str(tmp_path))
    monkeypatch.setattr(checks.shutil, "which", lambda _name: None)
    ran = softigb("doctor")
    assert ran.status == 1
    assert "softigb boot can't work" in ran.out
    found = by_name(checks.run_checks(None, False))
    assert found["QEMU"].level is found["guest"].level is found["fetching"].level is Level.FAIL
    assert all(check.remedy for check in found.values() if check.level is not Level.OK)


def test_an_empty_cache_with_a_mirror_is_fine_and_stays_empty(monkeypatch, tmp_path):
    monkeypatch.setenv("SOFTIGB_CACHE", str(tmp_path))
    monkeypatch.delenv("SOFTIGB_QEMU", raising=False)
    monkeypatch.setattr(checks.shutil, "which", lambda name: None if "qemu" in name else f"/usr/bin/{name}")
    found = by_name(checks.run_checks("http://localhost/debian", True))
    assert found["QEMU"].level is found["guest"].level is Level.OK
    assert "fetch" in found["QEMU"].found
    assert not any(tmp_path.iterdir())


def test_a_named_qemu_that_will_not_do_is_a_failure(monkeypatch, tmp_path):
    old = tmp_path / "qemu"
    old.write_text("#!/bin/sh\necho QEMU emulator version 7.2.0\n")
    old.chmod(0o755)
    monkeypatch.setenv("SOFTIGB_QEMU", str(old))
    check = by_name(checks.run_checks(None, False))["QEMU"]
    assert check.level is Level.FAIL
    assert "7.2.0" in check.found


def test_passt_takes_the_place_of_a_tap_and_slirp_that_of_passt(monkeypatch):
    monkeypatch.setattr(checks, "_tun", lambda: Check(Level.WARN, "TAP", "none", "make one"))
    monkeypatch.setattr(checks, "_namespaces", lambda: Check(Level.OK, "namespaces", "allowed"))
    monkeypatch.setattr(checks, "_passt", lambda _can_fetch: Check(Level.OK, "passt", "there"))
    assert by_name(checks.run_checks(None, False))["passt"] == Check(Level.OK, "passt", "there")
    monkeypatch.setattr(checks, "_namespaces", lambda: Check(Level.WARN, "namespaces", "forbidden", "allow them"))
    found = by_name(checks.run_checks(None, False))
    assert [found[name].level for name in ("TAP", "namespaces", "passt")] == [Level.WARN] * 3
    assert "slirp" in found["passt"].remedy


def test_kvm_is_only_called_working_where_a_guest_boots(monkeypatch):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or checks.find_qemu() is None or checks.find_kernel() is None:
        pytest.skip("no KVM to try, or nothing fetched to try it with")
    assert by_name(checks.run_checks(None, True))["KVM"].level is Level.WARN
    monkeypatch.setattr(checks, "choose", lambda *_: "kvm")
    assert by_name(checks.run_checks(None, True))["KVM"].level is Level.OK
