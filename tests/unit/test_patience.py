"""Time limits with one timer for many waits."""

from __future__ import annotations

import asyncio

import pytest

from chatkeep.patience import News, Patience

LONG_S = 60.0


def soon() -> float:
    """Return a moment from now on the event loop's clock."""
    return asyncio.get_running_loop().time() + 0.02


def much_later() -> float:
    """Return a moment that no test waits for."""
    return asyncio.get_running_loop().time() + LONG_S


async def never() -> None:
    """Wait for what does not happen."""
    await asyncio.get_running_loop().create_future()


async def test_a_wait_over_its_limit_is_a_time_out() -> None:
    """It is cancelled, and the task lives on."""
    patience = Patience()
    with pytest.raises(TimeoutError), patience.until(soon()):
        await never()
    await asyncio.sleep(0)
    patience.end()


async def test_a_wait_that_is_over_in_time_is_none() -> None:
    """Neither it nor what the task waits for afterwards, without a limit."""
    patience = Patience()
    with patience.until(soon()):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    patience.end()


async def test_each_wait_has_its_own_limit() -> None:
    """A timer that was set for a short wait does not cut a longer one, nor the other way round."""
    patience = Patience()
    with patience.until(soon()):
        await asyncio.sleep(0)
    with patience.until(much_later()):
        await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError), patience.until(soon()):
        await never()
    with pytest.raises(TimeoutError), patience.until(soon()):
        await never()
    patience.end()


async def test_somebody_elses_cancellation_stays_one() -> None:
    """It is no time-out, also when the limit is reached while the task lets go."""
    patience = Patience()

    async def waits() -> None:
        with patience.until(soon()):
            try:
                await never()
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)  # meanwhile the limit is reached
                raise

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    patience.end()


async def test_another_failure_is_not_hidden() -> None:
    """What the wait itself raises comes out."""
    patience = Patience()
    with pytest.raises(ValueError, match="mine"), patience.until(much_later()):
        raise ValueError("mine")
    patience.end()


async def test_ended_patience_leaves_no_timer() -> None:
    """Nothing of a stream that is over stays in the event loop."""
    patience = Patience()
    with patience.until(soon()):
        await asyncio.sleep(0)
    patience.end()
    assert patience._timer is None
    patience.end()


def test_only_a_task_can_wait() -> None:
    """There is nothing to cancel elsewhere."""

    async def make() -> Patience:
        return Patience()

    loop = asyncio.new_event_loop()
    try:
        patience = loop.run_until_complete(make())
        with pytest.raises(RuntimeError, match="only a task"), patience.until(loop.time() + LONG_S):
            pass
    finally:
        loop.close()


async def test_news_end_the_wait_for_them() -> None:
    """Also those that came while nobody waited, and they say so."""
    news = News(LONG_S)
    waiting = asyncio.create_task(news.come())
    await asyncio.sleep(0)
    news.tell()
    assert await waiting
    assert news.heard
    news.heard = False
    news.tell()
    assert news.heard
    news.end()


async def test_silence_is_heard_of() -> None:
    """Again and again, for as long as it lasts, and only when all of the time was silent."""
    news = News(0.02)
    began = asyncio.get_running_loop().time()
    assert not await news.come()
    assert not await news.come()
    assert asyncio.get_running_loop().time() - began >= 0.02
    news.end()


async def test_a_cancelled_wait_for_news_leaves_nothing_behind() -> None:
    """News that come afterwards find nobody, and that is no error."""
    news = News(LONG_S)
    waiting = asyncio.create_task(news.come())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    news.tell()
    news.end()
