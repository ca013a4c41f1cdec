"""Running programs through a tree's loader; the machine's own root serves as the tree."""

import subprocess
from pathlib import Path

import pytest

from igb_vm.errors import VmError
from igb_vm.loader import Loader, Program


@pytest.fixture
def machine() -> Loader:
    loader = Loader(Path("/"))
    try:
        _ = loader.path
    except VmError:
        pytest.skip("this machine's files aren't laid out as Debian's")
    return loader


def test_a_dynamic_program_runs_through_the_loader(machine: Loader) -> None:
    program = machine.program("ls")
    assert program.argv[0] == str(machine.path)
    run = program.run("--version")
    assert run.returncode == 0
    assert run.stdout.startswith("ls ")


def test_arguments_and_environment_arrive(machine: Loader) -> None:
    run = machine.program("env", {"IGB_VM": "a b"}).run("sh", "-c", 'echo "$IGB_VM,$0"', "x y")
    assert run.stdout == "a b,x y\n"


def test_a_script_runs_by_itself(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    script = tmp_path / "usr/bin/hello"
    script.write_text("#!/bin/sh\necho hello $1\n")
    script.chmod(0o755)
    program = Loader(tmp_path).program("hello")
    assert program.argv == (str(script),)
    assert program.run("you").stdout == "hello you\n"


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    for ask in (lambda: Loader(tmp_path).program("nosuch"), lambda: Loader(tmp_path).path):
        with pytest.raises(VmError, match="has no"):
            ask()


def test_options_go_to_subprocess() -> None:
    program = Program("false", ("false",))
    with pytest.raises(subprocess.CalledProcessError):
        program.run(check=True)
