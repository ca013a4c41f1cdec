"""Rules for all tests: those marked `fuzz` run only when `-m` asks for them (`make fuzz`). And programs for them."""

import functools
import os
import shutil
import signal
from collections.abc import Callable

import pytest

from igb_vm import Program, VmError, ensure

_PACKAGES = {"ip": "iproute2", "lspci": "pciutils", "sqop": "sqop", "tshark": "tshark"}
_SYSTEM = "/usr/sbin:/sbin"  # where a user's PATH may not lead


def pytest_configure() -> None:
    # A shell's job in the background ignores Ctrl-C, and so would all that the tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "fuzz" in config.option.markexpr:
        return
    endless = [item for item in items if item.get_closest_marker("fuzz")]
    if endless:
        config.hook.pytest_deselected(items=endless)
        items[:] = [item for item in items if not item.get_closest_marker("fuzz")]


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Program]:
    """A program by its name: the machine's own, or Debian's, fetched without root.

    Where there's neither, the test is skipped; in CI ($CI) it fails.
    """
    return _tool


@functools.cache
def _tool(name: str) -> Program:
    if installed := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM}"):
        return Program(name, (installed,))
    try:
        return ensure([_PACKAGES[name]]).program(name)
    except VmError as why:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no {name}: {why}")
