"""Requests of OpenAI clients whose answers are kept: begun once, and found again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from chatkeep.answering.answers import ending_of
from chatkeep.answering.reading import Ended, Reader
from chatkeep.errors import Conflict, Invalid, NotFound
from chatkeep.openai_api.responses import noting
from chatkeep.web.once import begun_before, begun_of_counted, counted, key_of
from chatkeep.web.openai.response_objects import decided_in, said_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from chatkeep.answering.answers import Answer
    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.answering.turns import Turn
    from chatkeep.idempotency import Marked
    from chatkeep.openai_api.responses import Kind, Response
    from chatkeep.policies import Choices
    from chatkeep.principal import Principal
    from chatkeep.web.openai.asking import Asked
    from chatkeep.web.services import Services


async def begin(
    services: Services,
    who: Principal,
    marked: Marked | None,
    build: Callable[[], Awaitable[tuple[Turn, Choices]]],
) -> Answer:
    """Begin the turn that *build* returns, or join the run that the same request began.

    It is counted before *build* looks anything up, and also where that refuses it.

    Raises what *build* and `Replies.begin` raise, and
    RateLimited: this would be one answer too many.
    """
    find = partial(begun_before, services, who, marked)
    may_repeat = marked is not None and marked.seen
    if (same := await find()) is not None:
        return same
    if (same := await counted(services, who, find if may_repeat else None)) is not None:
        return same
    try:
        turn, choices = await build()
    except (Invalid, NotFound, Conflict):
        # What it goes on from is not as it was, because the first copy has begun meanwhile.
        if (same := await find()) is None:
            raise
        await services.limits.give_back("chat", who.user_id)
        return same
    if marked is not None:
        turn = replace(turn, request_key=key_of(marked))

    async def start(turn: Turn) -> Answer:
        return await services.replies.begin(who, turn, choices)

    return await begun_of_counted(services, who, turn, start)


def noted(
    who: Principal, asked: Asked, kind: Kind, request: Mapping[str, Any], *, alone: bool
) -> Turn:
    """Return the turn, with the note of what it was asked with."""
    note = noting(
        who.user_id,
        asked.turn.run_id,
        kind,
        request=request,
        brought=asked.brought,
        alone=alone,
    )
    return replace(asked.turn, after=[*asked.turn.after, note])


async def replay(kept: Response) -> AsyncGenerator[AnswerEvent, None]:
    """Yield what happened in a response that has ended."""
    ending = ending_of(kept)
    for event in Reader(kept.begun, decided_in(kept)).advance(said_in(kept), ended=True):
        yield event
    yield Ended(ending=ending)


def renamed(error: Invalid, names: Mapping[str, str]) -> Invalid:
    """Return *error* with its fields as this API calls them."""
    listed = error.members.get("errors")
    if not isinstance(listed, list) or not listed:
        return error
    problems = [{**one, "field": names.get(one["field"], one["field"])} for one in listed]
    first = problems[0]
    return Invalid(f"{first['field']}: {first['message']}", errors=problems)
