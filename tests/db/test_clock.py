"""A server whose clock is wrong says so, before people are signed out by it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from chatkeep.web import clock
from chatkeep.web.clock import ClockWatch

if TYPE_CHECKING:
    from chatkeep.db import Database


@pytest.mark.parametrize(
    ("wrong_s", "says"), [(300.0, "300 s ahead of that of"), (-300.0, "300 s behind that of")]
)
async def test_clock_that_differs_is_told_once_and_when_it_agrees_again(
    db: Database, wrong_s: float, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The metric says how far it is; a slow database is no difference."""
    caplog.set_level("INFO", clock.__name__)
    off_s = 0.0
    watch = ClockWatch(db, clock=lambda: time.time() + off_s)
    await watch.look()
    assert clock._DIFFERENCE.value() == 0
    off_s = wrong_s
    for _ in range(3):
        await watch.look()
    assert clock._DIFFERENCE.value() == pytest.approx(wrong_s, abs=30)
    off_s = 0.0
    await watch.look()
    told = [one.getMessage() for one in caplog.records if one.name == clock.__name__]
    assert len(told) == 2
    assert says in told[0]
    assert "agrees" in told[1]
    assert clock._DIFFERENCE.value() == 0
