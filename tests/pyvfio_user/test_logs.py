"""Log lines that come without end are cut, and the cut is told."""

from __future__ import annotations

import logging

import pytest

from pyvfio_user.logs import LimitedLog


def test_a_flood_is_cut_and_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1
    monkeypatch.setattr("time.monotonic_ns", lambda: now)
    log = LimitedLog(logging.getLogger("flood"), burst=3)
    with caplog.at_level(logging.WARNING):
        for number in range(10):
            log.log(logging.WARNING, "line %d", number)
        now += 11_000_000_000
        log.log(logging.WARNING, "later")
    assert [record.message for record in caplog.records] == [
        "line 0",
        "line 1",
        "line 2",
        "7 more messages like the last were left out",
        "later",
    ]
