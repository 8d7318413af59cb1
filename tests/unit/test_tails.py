"""What a node remembers of who reads which answer elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from chatkeep.answering.tails import Tails
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    import pytest

    from chatkeep.redis_link import RedisLink


class _Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_readers_of_others_answers_are_forgotten() -> None:
    """Every node hears of every reader; a node that makes none of their answers keeps none."""
    clock = _Clock()
    tails = Tails(clock=clock)
    for _ in range(1000):
        tails.told(f"?{uuid4()}")
        clock.now += 1.0
    assert len(tails._by_notice) < 20


def test_reader_who_goes_on_asking_is_told() -> None:
    """However many others have asked meanwhile."""
    clock = _Clock()
    tails = Tails(clock=clock)
    for _ in range(100):
        tails.told("?mine")
        assert tails.tells("mine")
        tails.told(f"?{uuid4()}")
        clock.now += 5.0
    clock.now += 60.0
    assert not tails.tells("mine")


def test_news_for_a_reader_who_has_left_are_not_kept() -> None:
    """What a stream said last is remembered for as long as somebody reads it."""
    tails = Tails()
    with tails.following("run"):
        tails._take("run", [(b"1-0", {})])
        assert tails._seen == {"run": b"1-0"}
    assert tails._seen == {}
    tails._take("run", [(b"2-0", {})])
    assert tails._seen == {}


class _Redis:
    """A server with one stream, of which each read gives one more entry."""

    usable = True

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.asked_for: list[list[str]] = []

    def subscribe(self, channel: str, told: object) -> None:
        """Tell nobody."""

    async def read_streams(self, seen: dict[str, bytes], *, wait_ms: int) -> object:
        """Return the entry after the one that was seen."""
        self.asked_for.append(list(seen))
        if not seen:
            return None
        ((name, last),) = seen.items()
        number = int(last.partition(b"-")[0])
        if number >= len(self.entries):
            await asyncio.sleep(wait_ms / 1000)
            return {}
        return {name: [(b"%d-0" % (number + 1), {b"d": self.entries[number]})]}


async def test_who_left_at_once_is_not_read_for() -> None:
    """Redis refuses to read no stream at all, and would be taken for away."""
    redis = _Redis()
    tails = Tails(cast("RedisLink", redis))
    redis.entries = [tails._seal.close(b"end", "run")]
    reading = asyncio.create_task(tails.keep_reading())
    await asyncio.sleep(0)  # until it waits for somebody
    with tails.following("other"):
        pass
    await asyncio.sleep(0)
    with tails.following("run") as tail:
        async with asyncio.timeout(PATIENCE_S):
            await tail.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert redis.asked_for
    assert all(redis.asked_for)


async def test_news_that_cannot_be_read_end_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a later version, while both run: what comes after them is read all the same."""
    monkeypatch.setattr("chatkeep.going_on._PAUSE_S", 0.0)
    redis = _Redis()
    tails = Tails(cast("RedisLink", redis))
    redis.entries = [tails._seal.close(one, "run") for one in (b'{"later": 1}', b"end")]
    looked = asyncio.Event()
    reading = asyncio.create_task(tails.keep_reading())
    with tails.following("run") as tail:
        monkeypatch.setattr(tail, "look", looked.set)
        async with asyncio.timeout(PATIENCE_S):
            await looked.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
