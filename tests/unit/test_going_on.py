"""What goes on for as long as the process does so also after a fault."""

from __future__ import annotations

import asyncio

import pytest

from chatkeep.going_on import go_on

pytestmark = pytest.mark.usefixtures("no_pause")


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault is followed by the next attempt at once."""
    monkeypatch.setattr("chatkeep.going_on._PAUSE_S", 0.0)


async def test_fault_is_logged_and_the_work_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    """As often as it takes; who reads the log sees which work it was, and what went wrong."""
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise LookupError(begun)

    await go_on(work, "the sweep")
    assert begun == 3
    assert [one.getMessage().partition(":")[0] for one in caplog.records] == ["the sweep"] * 2
    assert all(one.exc_info and one.exc_info[0] is LookupError for one in caplog.records)


async def test_end_of_the_process_ends_it() -> None:
    """A cancellation is no fault."""
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(go_on(work, "the sweep"))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
