"""Rate limits: exact, even, and bounded in memory."""

from __future__ import annotations

import pytest

from chatkeep.errors import RateLimited
from chatkeep.limits import AT_ONCE, RATES, Limits, local

KIND = "anonymous_chat"
RATE = RATES[KIND]


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


async def admitted(of: Limits, times: int, key: str = "a") -> int:
    """Return how many of *times* requests pass."""
    passed = 0
    for _ in range(times):
        try:
            await of.spend(KIND, key)
        except RateLimited:
            continue
        passed += 1
    return passed


async def test_burst_passes_and_no_more() -> None:
    """As many at once as the rate says, for each key and kind on its own."""
    counts = Limits(clock=Clock())
    assert await admitted(counts, 1000) == RATE.burst
    assert await admitted(counts, 1000, "b") == RATE.burst
    await counts.spend("token", "a")


async def test_refusal_says_when_to_come_back() -> None:
    """Whoever waits as long as was said is let in; a second earlier they are not."""
    clock = Clock()
    counts = Limits(clock=clock)
    await admitted(counts, RATE.burst)
    with pytest.raises(RateLimited) as refused:
        await counts.spend(KIND, "a")
    wait = refused.value.retry_after_s
    assert wait is not None
    assert 1 <= wait <= RATE.period_s / RATE.burst + 1
    clock.now += wait - 1
    assert await admitted(counts, 1) == 0
    clock.now += 1
    assert await admitted(counts, 2) == 1


async def test_refused_requests_cost_nothing() -> None:
    """Knocking on a closed door keeps it closed no longer."""
    clock = Clock()
    counts = Limits(clock=clock)
    await admitted(counts, 10_000)
    clock.now += RATE.period_s / RATE.burst
    assert await admitted(counts, 1) == 1


async def test_allowance_comes_back_evenly_and_no_further() -> None:
    """After a while it is whole again, and after a long while not more than whole."""
    clock = Clock()
    counts = Limits(clock=clock)
    await admitted(counts, RATE.burst)
    clock.now += RATE.period_s / 2
    assert await admitted(counts, 1000) == RATE.burst // 2
    clock.now += RATE.period_s * 100
    assert await admitted(counts, 1000) == RATE.burst


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys appear, only so many are remembered, the newest."""
    monkeypatch.setattr(local, "_KEYS_AT_MOST", 100)
    counts = Limits(clock=Clock())
    for number in range(10_000):
        await counts.spend(KIND, f"key-{number}")
    assert len(counts._local._due) == 100
    assert await admitted(counts, 1000, "key-9999") == RATE.burst - 1


async def test_limits_can_be_switched_off() -> None:
    """For development everything passes, and nothing is remembered."""
    counts = Limits(enabled=False, clock=Clock())
    assert await admitted(counts, 10_000) == 10_000
    assert not counts._local._due


async def test_every_rate_lets_somebody_in() -> None:
    """Each kind has a rate that can be lived with."""
    assert all(rate.burst >= 1 and rate.period_s > 0 for rate in RATES.values())


async def test_so_many_at_once_and_no_more() -> None:
    """Each user has a number of places; one that is left is free again, and nothing is kept."""
    counts = Limits()
    for _ in range(AT_ONCE["streams"]):
        counts.enter("streams", "a")
    with pytest.raises(RateLimited):
        counts.enter("streams", "a")
    counts.enter("streams", "b")
    counts.leave("streams", "a")
    counts.enter("streams", "a")
    for _ in range(AT_ONCE["streams"]):
        counts.leave("streams", "a")
    counts.leave("streams", "b")
    assert not counts._held


async def test_flood_of_keys_washes_nobody_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is limited stays so while a multitude of other keys passes by."""
    monkeypatch.setattr(local, "_KEYS_AT_MOST", 100)
    counts = Limits(clock=Clock())
    await admitted(counts, RATE.burst)
    for number in range(10_000):
        await counts.spend(KIND, f"key-{number}")
        if number % 50 == 0:
            assert await admitted(counts, 1) == 0
    assert len(counts._local._due) == 100
