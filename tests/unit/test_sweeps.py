"""Sweeps: what one of them cannot do now keeps none of the others waiting."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from chatkeep.errors import Unavailable
from chatkeep.web import background

if TYPE_CHECKING:
    from chatkeep.web.services import Services


@pytest.mark.parametrize("fault", [Unavailable, LookupError])
async def test_sweep_that_fails_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """Neither the store of files that is away, nor what nobody foresaw."""
    done: list[str] = []
    second = asyncio.Event()

    async def fails() -> None:
        done.append("failed")
        raise fault

    async def works() -> None:
        done.append("purged")
        if done.count("purged") > 1:
            second.set()

    parts = SimpleNamespace(replies=SimpleNamespace(sweep=fails))
    monkeypatch.setattr(background, "_SWEEP_EVERY_S", 0.0)
    monkeypatch.setattr(background, "_PURGE_EVERY_SWEEPS", 1)
    monkeypatch.setattr(background, "_purges", lambda _: (fails, works))
    task = asyncio.create_task(background._keep_swept(cast("Services", parts)))
    async with asyncio.timeout(30):
        await second.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert done[:6] == ["failed", "failed", "purged"] * 2
