"""Sweeps and purges: what one of them cannot do now keeps none of the others waiting."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from chatkeep.errors import Unavailable
from chatkeep.web import background
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from chatkeep.web.services import Services


@pytest.mark.parametrize("fault", [Unavailable, LookupError])
async def test_sweep_that_fails_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """Neither the store of files that is away, nor what nobody foresaw."""
    done: list[str] = []
    second, swept_again = asyncio.Event(), asyncio.Event()

    async def sweeps() -> None:
        if "swept" in done:
            swept_again.set()
        done.append("swept")
        raise fault

    async def fails() -> None:
        done.append("failed")
        raise fault

    async def works() -> None:
        done.append("purged")
        if done.count("purged") > 1:
            second.set()

    services = cast("Services", SimpleNamespace(replies=SimpleNamespace(sweep=sweeps)))
    monkeypatch.setattr(background, "_SWEEP_EVERY_S", 0.0)
    monkeypatch.setattr(background, "_PURGE_EVERY_S", 0.0)
    monkeypatch.setattr(background, "_purges", lambda _: (fails, works))
    for keeping, event in (
        (background._keep_swept, swept_again),
        (background._keep_purged, second),
    ):
        task = asyncio.create_task(keeping(services))
        async with asyncio.timeout(PATIENCE_S):
            await event.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert done[:2] == ["swept"] * 2
    assert [one for one in done if one != "swept"][:4] == ["failed", "purged"] * 2


async def test_purge_that_takes_long_keeps_no_sweep_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers whose server has died are found meanwhile, and who waits behind them goes on."""
    begun, swept = asyncio.Event(), asyncio.Event()

    async def sweep() -> None:
        if begun.is_set():
            swept.set()

    async def takes_long() -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(background, "_SWEEP_EVERY_S", 0.0)
    monkeypatch.setattr(background, "_purges", lambda _: (takes_long,))
    services = cast("Services", SimpleNamespace(replies=SimpleNamespace(sweep=sweep)))
    tasks = [
        asyncio.create_task(background._keep_swept(services)),
        asyncio.create_task(background._keep_purged(services)),
    ]
    async with asyncio.timeout(PATIENCE_S):
        await swept.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
