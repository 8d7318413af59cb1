"""Answers that end with their reader: on this API hanging up stops what nobody waits for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from chatkeep.answering.reading import Ended
from chatkeep.errors import ClientGone
from chatkeep.web.openai.errors import failure_of_answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from starlette.requests import Request

    from chatkeep.answering.reading import AnswerEvent

_Result = TypeVar("_Result")


async def while_connected(request: Request, work: Coroutine[None, None, _Result]) -> _Result:
    """Do *work*, but for no longer than its reader waits for it.

    Raises:
        ClientGone: nobody is there any more.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait((working, leaving))


async def begun(
    events: AsyncGenerator[AnswerEvent, None],
) -> AsyncGenerator[AnswerEvent, None]:
    """Wait for the first event: what fails before it is an error with a status of its own."""
    try:
        first = await anext(events)
    except asyncio.CancelledError:
        await events.aclose()
        raise
    if isinstance(first, Ended):
        failure = failure_of_answer(first.ending, said=False)
        if failure is not None:
            await events.aclose()
            raise failure
    return _resumed(first, events)


async def stopping(
    events: AsyncGenerator[AnswerEvent, None], stop: Callable[[], object] | None
) -> AsyncGenerator[AnswerEvent, None]:
    """Hand *events* on, and *stop* the answer when its reader leaves before its end."""
    ended = False
    try:
        async with aclosing(events):
            async for event in events:
                ended = isinstance(event, Ended)
                yield event
    finally:
        if stop is not None and not ended:
            stop()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _resumed(
    first: AnswerEvent, events: AsyncGenerator[AnswerEvent, None]
) -> AsyncGenerator[AnswerEvent, None]:
    async with aclosing(events):
        yield first
        async for event in events:
            yield event
