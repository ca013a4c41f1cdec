"""Starting programs that end when Python does, however it ends: prctl(2) PR_SET_PDEATHSIG."""

import ctypes
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl

_jobs: "queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], Callable[[], subprocess.Popen[bytes]]]]"
_jobs = queue.SimpleQueue()
_lock = threading.Lock()
_thread: threading.Thread | None = None


_LEASH = """exec 3<&0
"$@" 3<&- </dev/null & child=$!
trap 'kill $child' TERM
(read -r _ <&3; kill $child) 2>/dev/null & reader=$!
exec 3<&-
wait $child; status=$?
[ $status -le 128 ] || wait $child
kill $reader 2>/dev/null
exit $status"""


def leashed(command: Sequence[str]) -> list[str]:
    """`command` for `spawn` with `stdin=subprocess.PIPE`, for a program that changes its credentials: the kernel then
    takes the death signal back. It's ended when the pipe is closed, which Python's end does too."""
    return ["sh", "-c", _LEASH, "sh", *command]


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int | IO[Any] | None = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = subprocess.DEVNULL,
    stderr: int | IO[Any] | None = subprocess.DEVNULL,
    enter: Callable[[], None] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a program that the kernel kills when this process dies. `env` goes on top of the environment.

    enter: called in the child first, to change namespaces.

    The kernel's signal comes when the *thread* that started the program ends, so one thread that never ends starts
    them all. Raises OSError as subprocess.Popen does.
    """
    global _thread
    future: Future[subprocess.Popen[bytes]] = Future()
    parent = os.getpid()

    def die_with_parent() -> None:
        if enter is not None:
            enter()  # before the next line, as a change of credentials takes the death signal away
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            pass_fds=pass_fds,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,  # a Ctrl-C is for Python, which then ends its children in order
            preexec_fn=die_with_parent,
        )

    with _lock:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_work, name="igb_vm-spawn", daemon=True)
            _thread.start()
    _jobs.put((future, start))
    return future.result()


def _work() -> None:
    while True:
        future, start = _jobs.get()
        try:
            future.set_result(start())
        except BaseException as error:
            future.set_exception(error)


def end(process: "subprocess.Popen[bytes]", grace: float = 2.0) -> None:
    """End a program: SIGTERM, and SIGKILL after `grace` seconds. Returns when it's gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
