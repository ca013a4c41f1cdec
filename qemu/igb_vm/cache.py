"""The cache folder: where it is, and how two processes share it.

Everything in it is made in a temporary place beside its final name and renamed when complete, so that what has a final
name is whole, whatever was interrupted. Locks are flock(2) on a file: the kernel drops them with their process.
"""

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from igb_vm.errors import VmError


def cache_dir() -> Path:
    """The cache folder, made if absent: $SOFTIGB_CACHE, or softigb in $XDG_CACHE_HOME or ~/.cache.

    Raises VmError where it can't be made or written.
    """
    named = os.environ.get("SOFTIGB_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME")
    try:
        path = Path(named).expanduser() if named else (Path(xdg) if xdg else Path.home() / ".cache") / "softigb"
        path = path.absolute()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise VmError(f"can't make the cache folder: {error} (set SOFTIGB_CACHE to one that can be written)") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise VmError(f"the cache folder {path} can't be written (set SOFTIGB_CACHE to one that can)")
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock `name`; says so on stderr if another process has it."""
    folder = cache_dir() / "locks"
    folder.mkdir(exist_ok=True)
    with open(folder / name, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"igb_vm: waiting for another process that prepares {name}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def fresh_dir(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target` if the block ends well, and vanishes if not. Hold a lock around it.

    Leftovers of an earlier, killed attempt are removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".new-{target.name}-"
    for leftover in target.parent.glob(prefix + "*"):
        shutil.rmtree(leftover, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        made.chmod(0o755)
        yield made
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file so that it's there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".new-{target.name}-", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.chmod(file.name, 0o644)
            os.rename(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise
