"""The connection that listens is made again at once when it was good, and seldom when it is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.notifications import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fickle(Listener):
    """Connects or does not, as *there* says each time, and loses every connection."""

    def __init__(self, there: Iterator[bool]) -> None:
        """Lead nowhere."""
        super().__init__("postgresql://nowhere")
        self._there = there

    async def _listen(self) -> None:
        if next(self._there):
            self.connected.set()
            self._outage.worked()
        raise psycopg.OperationalError


async def test_pauses_grow_only_until_it_is_connected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each lost connection begins with the shortest; an outage is told once."""
    caplog.set_level("INFO", "chatkeep.notifications")
    there = [False, False, False, True, False, True]
    pauses: list[float] = []

    async def noted(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == len(there):
            raise asyncio.CancelledError

    monkeypatch.setattr("chatkeep.notifications.asyncio.sleep", noted)
    with pytest.raises(asyncio.CancelledError):
        await Fickle(iter(there)).run()
    assert pauses == [0.1, 0.2, 0.4, 0.1, 0.2, 0.1]
    told = [one.levelname for one in caplog.records]
    assert told == ["WARNING", "INFO", "WARNING", "INFO", "WARNING"]
