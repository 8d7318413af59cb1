"""The connection that listens is made again at once when it was good, and seldom when it is not."""

from __future__ import annotations

import asyncio
import socket
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


async def test_why_nobody_can_listen_is_told_without_the_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An address of its own may fail alone: the reason is in the log, once."""
    tried: list[float] = []

    async def noted(pause_s: float) -> None:
        tried.append(pause_s)
        if len(tried) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("chatkeep.notifications.asyncio.sleep", noted)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # listens to nobody, and nobody else can
        address = f"postgresql://ana:a-secret@127.0.0.1:{taken.getsockname()[1]}/chat"
        with pytest.raises(asyncio.CancelledError):
            await Listener(address).run()
    (told,) = [one.getMessage() for one in caplog.records]
    assert "Connection refused" in told
    assert "secret" not in told
