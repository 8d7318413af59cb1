"""Waiting has an end, also for what takes long to give up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from chatkeep.errors import DatabaseUnavailable
from chatkeep.web.in_time import in_time
from chatkeep.web.routes import meta
from tests.patience import PATIENCE_S


async def hanging(let_go: asyncio.Event) -> None:
    """Take as long to be cancelled as to end: as a statement on a PostgreSQL that hangs."""
    try:
        await let_go.wait()
    finally:
        await let_go.wait()


async def test_what_ends_in_time_is_what_it_is() -> None:
    """A result is returned, and a failure raised."""

    async def fails() -> None:
        raise ValueError

    assert await in_time(asyncio.sleep(0, "done"), 10) == "done"
    with pytest.raises(ValueError, match=r"^$"):
        await in_time(fails(), 10)


async def test_what_hangs_is_left_alone() -> None:
    """Whoever waits goes on; what was left is cancelled, and remembered until it has ended."""
    let_go = asyncio.Event()
    waiting = asyncio.create_task(in_time(hanging(let_go), 0.01))
    ended, _ = await asyncio.wait([waiting], timeout=10)
    (left,) = [one for one in asyncio.all_tasks() if "hanging" in repr(one.get_coro())]
    assert left.cancelling()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert ended
    with pytest.raises(TimeoutError):
        await waiting


async def test_whoever_stops_waiting_stops_the_work() -> None:
    """A request that is cancelled leaves nothing that runs on."""
    began, was_stopped = asyncio.Event(), asyncio.Event()

    async def works_on() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            was_stopped.set()

    waiting = asyncio.create_task(in_time(works_on(), 10))
    await began.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(was_stopped.wait(), PATIENCE_S)


async def test_probe_hears_of_a_database_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told so before it goes away by itself."""
    let_go = asyncio.Event()
    monkeypatch.setattr(meta, "_READY_WITHIN_S", 0.01)
    request: Any = SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(shutting_down=False)))
    parts: Any = SimpleNamespace(db=SimpleNamespace(execute=lambda *_: hanging(let_go)))
    probing = asyncio.create_task(meta.readyz(request, parts, None))
    ended, _ = await asyncio.wait([probing], timeout=10)
    let_go.set()
    assert ended
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        await probing
