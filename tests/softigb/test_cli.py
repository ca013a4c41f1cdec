"""The command line as a whole: help, version, errors of usage, what becomes of exceptions, and how fast it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from igb_device.wire.base import WireError
from igb_vm.errors import VmError
from softigb import cli
from softigb.errors import CliError, users_error

COMMANDS = ("boot", "serve", "doctor", "regs")


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_names_every_command(softigb, words):
    ran = softigb(*words)
    assert ran.status == 0
    assert all(f"\n  {command} " in ran.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(softigb, command):
    assert softigb(command, "--help").out.startswith(f"Usage: softigb {command} ")


def test_version(softigb):
    assert softigb("--version").out.startswith("softigb ")


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["--nonsense"], ["serve"], ["serve", "--socket"], ["boot", "--smp", "many"], ["doctor", "extra"]],
)
def test_an_error_of_usage_is_one_line_and_status_2(softigb, words):
    ran = softigb(*words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("softigb: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CliError("no luck"), "no luck"),
        (VmError("no QEMU"), "no QEMU"),
        (WireError("no TAP"), "no TAP"),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
    ],
)
def test_errors_of_users_become_a_line(error, line):
    assert users_error(error) == line


def test_errors_of_ours_keep_their_traceback(monkeypatch):
    def broken(*_words: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", broken)
    assert users_error(ZeroDivisionError()) is None
    with pytest.raises(ZeroDivisionError):
        cli.main(["regs"])


def test_starting_imports_nothing_heavy():
    heavy = "numpy", "construct", "rich", "qemu", "asyncio", "igb_vm", "igb_device", "pyvfio_user"
    program = f"import sys, softigb.cli; print(*[name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m softigb regs | head -n 1"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert ran.stdout.startswith("offset")
    assert ran.stderr == ""
