"""Fixtures of igb_vm's tests: an empty cache folder, and one booted guest that tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from igb_vm import Guest, Network, VmError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, used instead of the user's."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SOFTIGB_CACHE", str(folder))
    monkeypatch.delenv("SOFTIGB_MIRROR", raising=False)
    return folder


@pytest.fixture(scope="session")
def guest() -> Iterator[Guest]:
    """A running guest without devices of its own. Whoever breaks it starts one of their own instead."""
    with Guest() as running:
        yield running


@pytest.fixture
def network() -> Iterator[Network]:
    """An open network with a TAP. Skips where this machine allows none."""
    try:
        made = Network("namespace").__enter__()
    except VmError as why:
        pytest.skip(str(why))
    yield made
    made.close()
