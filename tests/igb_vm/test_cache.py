"""The cache folder: what is interrupted leaves nothing behind, and two processes don't disturb each other."""

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest

from igb_vm.cache import cache_dir, fresh_dir, locked, write_atomically
from igb_vm.errors import VmError


def test_it_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOFTIGB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg/softigb"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home/.cache/softigb"
    monkeypatch.setenv("SOFTIGB_CACHE", str(tmp_path / "named"))
    assert cache_dir() == tmp_path / "named"
    assert (tmp_path / "named").is_dir()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOFTIGB_CACHE", str(tmp_path / "file/below"))
    with pytest.raises(VmError, match="SOFTIGB_CACHE") as error:
        cache_dir()
    assert "\n" not in str(error.value)


def interrupted(target: Path) -> None:
    with fresh_dir(target) as folder:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt


def test_a_folder_appears_only_when_complete(cache: Path) -> None:
    target = cache_dir() / "tree"
    with pytest.raises(KeyboardInterrupt):
        interrupted(target)
    assert list(cache.iterdir()) == []
    with fresh_dir(target) as folder:
        (folder / "whole").write_text("x")
        assert not target.exists()
    assert [path.name for path in cache.rglob("*")] == ["tree", "whole"]


def test_leftovers_of_a_killed_attempt_go(cache: Path) -> None:
    target = cache_dir() / "tree"
    (cache / ".new-tree-abc").mkdir()
    with fresh_dir(target):
        pass
    assert [path.name for path in cache.iterdir()] == ["tree"]


def test_a_file_is_replaced_whole(cache: Path) -> None:
    target = cache_dir() / "deep/file"
    write_atomically(target, b"one")
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(target.parent.iterdir()) == [target]


def _hold(entered: "multiprocessing.synchronize.Event", leave: "multiprocessing.synchronize.Event") -> None:
    with locked("thing"):
        entered.set()
        leave.wait(20)


def test_the_second_process_waits_and_says_so(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(entered, leave))
    first.start()
    try:
        assert entered.wait(20)
        code = "from igb_vm.cache import locked\nwith locked('thing'): print('in', flush=True)"
        second = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert "waiting for another process" in second.stderr.readline()
        assert second.poll() is None
        leave.set()
        assert second.communicate(timeout=20)[0] == "in\n"
    finally:
        leave.set()
        first.join(20)


def test_a_killed_holder_leaves_no_lock(cache: Path) -> None:
    code = "import time\nfrom igb_vm.cache import locked\nwith locked('thing'): print('in', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"in\n"
    holder.kill()
    holder.communicate()
    began = time.monotonic()
    with locked("thing"):
        assert time.monotonic() - began < 5
