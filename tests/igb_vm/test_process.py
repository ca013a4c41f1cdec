"""Children end with Python, whatever ends it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from igb_vm import process


def wait_gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process that isn't our child has ended by then (a zombie has)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] in "ZX":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_a_child_dies_with_its_killed_parent() -> None:
    code = (
        "from igb_vm import process\nimport time\nprint(process.spawn(['sleep', '60']).pid, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert wait_gone(child)


def test_a_child_outlives_the_thread_that_started_it() -> None:
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(process.spawn(["sleep", "60"])))
    thread.start()
    thread.join()
    with pytest.raises(subprocess.TimeoutExpired):
        started[0].wait(0.3)
    process.end(started[0])


def test_end_is_patient_but_not_for_ever() -> None:
    code = "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(flush=True)\ntime.sleep(60)"
    stubborn = process.spawn([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    process.end(stubborn, grace=0.1)
    assert stubborn.returncode == -signal.SIGKILL
    stubborn.stdout.close()
    process.end(stubborn)


def test_a_missing_program_is_an_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        process.spawn(["/nonexistent/program"])
