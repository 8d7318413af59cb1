"""`/v1/responses`: answers that are kept as conversations, for any client of the OpenAI API.

A response is an answer in a conversation like any other: it is listed, read and continued on
every other surface. With `store: false` nothing is kept.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatkeep import files
from chatkeep.answering.prompts import prompt_of
from chatkeep.errors import Invalid
from chatkeep.ids import new_id
from chatkeep.openai_api import responses
from chatkeep.web.auth import SignedIn
from chatkeep.web.budget_headers import budget_headers
from chatkeep.web.key_access import require_reading
from chatkeep.web.once import Once
from chatkeep.web.openai import asking, keeping
from chatkeep.web.openai.errors import described, failure_of_answer
from chatkeep.web.openai.held_files import keep_files
from chatkeep.web.openai.inputs import read
from chatkeep.web.openai.items import RESPONSE
from chatkeep.web.openai.leaving import begun, stopping, while_connected
from chatkeep.web.openai.listing import AnyItem, Limit, Order, brought, item_page
from chatkeep.web.openai.references import resolved
from chatkeep.web.openai.response_bodies import ResponsesRequest
from chatkeep.web.openai.response_events import ResponseEvents, farewell
from chatkeep.web.openai.response_objects import Head, head_of, kept_json, said_in
from chatkeep.web.services import Services, ServicesDep
from chatkeep.web.sse import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.answering.answers import Answer
    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.answering.turns import Turn
    from chatkeep.policies import Choices
    from chatkeep.principal import Principal
    from chatkeep.web.openai.asking import Above
    from chatkeep.web.openai.inputs import Given

router = APIRouter(prefix="/v1/responses", tags=["OpenAI API"])

AnyId = Annotated[str, Path(max_length=300, description="A response of the caller.")]
_NAMES = {"system_prompt": "instructions", "max_tokens": "max_output_tokens"}
_OBJECT: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
_EVENTS: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
_WHOLE: dict[int | str, dict[str, Any]] = {200: {"content": _OBJECT}}
_EITHER: dict[int | str, dict[str, Any]] = {
    200: {"description": "The response, whole or as events.", "content": _OBJECT | _EVENTS}
}


@router.post(
    "",
    response_model=None,
    responses={**_EITHER, **described(400, 401, 404, 409, 422, 429, 502, 503, 504)},
)
async def create(
    request: Request, body: ResponsesRequest, who: SignedIn, services: ServicesDep, once: Once
) -> Response:
    """Answer `input`, whole or as events; what is kept goes on from any device."""
    _refuse_contradictions(body)
    if not body.keeps:
        return await once.answer(who, lambda _: _unkept(request, body, who, services))
    marked = await once.mark(who)
    answer = await keeping.begin(services, who, marked, lambda: _turn(body, who, services))
    kept = await responses.get(services.db, who.user_id, answer.address.id, "response")
    left = budget_headers(answer.charged)
    if body.background and not body.stream:
        return JSONResponse(kept_json(kept), headers=left)
    # Who brought a key asks again where the connection broke, and finds this answer.
    is_waited_for = not body.background and marked is None
    answering = stopping(_events(kept, answer), _stop(services, kept) if is_waited_for else None)
    events = ResponseEvents(head_of(kept), kept.message_id, begun=said_in(kept)[: kept.begun])
    if body.stream:
        first = answering if body.background else await while_connected(request, begun(answering))
        return EventStream(events.frames(first), left, farewell=farewell())
    return JSONResponse(await while_connected(request, _whole(events, answering)), headers=left)


@router.get("/{response_id}", response_model=None, responses={**_EITHER, **described(400, 404)})
async def retrieve(
    response_id: AnyId,
    who: SignedIn,
    services: ServicesDep,
    stream: Annotated[bool, Query(description="Play its events, and go on live.")] = False,  # noqa: FBT002 -- a member of the query
    starting_after: Annotated[
        int | None, Query(ge=0, le=2**53, description="Leave out events up to this number.")
    ] = None,
) -> Response:
    """Return a response as it is now, or play its events from the start."""
    kept = await _get(services, who, response_id)
    if not stream:
        return JSONResponse(kept_json(kept))
    answering = (
        keeping.replay(kept)
        if kept.ended
        else _events(kept, await services.replies.join(who.user_id, kept.id))
    )
    events = ResponseEvents(
        head_of(kept),
        kept.message_id,
        begun=said_in(kept)[: kept.begun],
        after=-1 if starting_after is None else starting_after,
    )
    return EventStream(events.frames(answering), farewell=farewell())


@router.delete("/{response_id}", responses={**_WHOLE, **described(404, 503)})
async def delete(response_id: AnyId, who: SignedIn, services: ServicesDep) -> dict[str, Any]:
    """Erase a response; a conversation that was made for it alone is deleted with it."""
    kept = await _get(services, who, response_id)
    if not kept.ended:
        await services.replies.stop_run(who.user_id, kept.id)
    await responses.forget(services.db, who.user_id, kept.id, "response")
    return {"id": f"{RESPONSE}{kept.id}", "object": "response", "deleted": True}


@router.post(
    "/{response_id}/cancel", response_model=None, responses={**_WHOLE, **described(404, 503)}
)
async def cancel(
    request: Request, response_id: AnyId, who: SignedIn, services: ServicesDep
) -> Response:
    """Stop a response that is being made, and keep what was said; one that has ended stays."""
    kept = await _get(services, who, response_id)
    if kept.ended:
        require_reading(request, who)  # nothing is left to stop
    else:
        await services.replies.stop_run(who.user_id, kept.id)
    return JSONResponse(kept_json(await _get(services, who, response_id)))


@router.get("/{response_id}/input_items", responses={**_WHOLE, **described(400, 404)})
async def input_items(
    response_id: AnyId,
    who: SignedIn,
    services: ServicesDep,
    limit: Limit = 20,
    order: Order = "desc",
    after: AnyItem = None,
) -> dict[str, Any]:
    """List the items that the request of a response brought."""
    kept = await _get(services, who, response_id)
    ids = kept.input if order == "asc" else kept.input[::-1]
    if after is not None:
        if after not in ids:
            raise Invalid.of("after", "is not an item of this response")
        ids = ids[ids.index(after) + 1 :]
    found = await brought(services.db, who.user_id, kept.conversation_id, ids[: limit + 1])
    return item_page(found, limit)


def _refuse_contradictions(body: ResponsesRequest) -> None:
    if body.conversation_id is not None and body.previous_response_id is not None:
        alone = "must not be sent together with `conversation`"
        raise Invalid.of("previous_response_id", alone)
    if not body.keeps and body.background:
        raise Invalid.of("background", "must not be true where `store` is false")
    if not body.keeps and body.conversation_id is not None:
        raise Invalid.of("store", "must not be false for a response in a `conversation`")


async def _get(services: Services, who: Principal, response_id: str) -> responses.Response:
    own_id = asking.named(RESPONSE, response_id)
    return await responses.get(services.db, who.user_id, own_id, "response")


async def _choices(body: ResponsesRequest, who: Principal, services: Services) -> Choices:
    """How the answer is made: the request within the operator's policy."""
    if body.model is not None:
        await services.offered_models.require(who, body.model)
    profile = await services.preferences.get_profile(who.user_id)
    try:
        choices = await services.offered_models.choose(who, profile, body.wishes())
    except Invalid as error:
        raise keeping.renamed(error, _NAMES) from error
    settings = replace(choices.settings, **body.more_settings())
    return replace(choices, settings=settings, tools=[one.as_tool() for one in body.tools or ()])


async def _above(body: ResponsesRequest, who: Principal, services: Services) -> Above | None:
    if body.previous_response_id is not None:
        return await asking.below_response(services.db, who.user_id, body.previous_response_id)
    if body.conversation_id is not None:
        return await asking.below_conversation(services.db, who.user_id, body.conversation_id)
    return None


async def _given(
    services: Services,
    who: Principal,
    body: ResponsesRequest,
    above: Above | None,
    choices: Choices,
) -> tuple[Given, list[str]]:
    known_in = above.conversation_id if above is not None else None
    at_most = services.settings.max_body_bytes
    items = await resolved(services.db, who.user_id, body.input, known_in=known_in, at_most=at_most)
    given = read(items, known=above.calls if above is not None else ())
    given, file_ids = await keep_files(services, who.user_id, given, keeps=body.keeps)
    if choices.alone and any(one.role == "system" for one in given.messages):
        only = "must have no system or developer message: the operator has set one"
        raise Invalid.of("input", only)
    return given, file_ids


async def _turn(body: ResponsesRequest, who: Principal, services: Services) -> tuple[Turn, Choices]:
    choices = await _choices(body, who, services)
    above = await _above(body, who, services)
    given, file_ids = await _given(services, who, body, above, choices)
    asked = asking.asked(who.user_id, given, above, model=choices.settings.model)
    if file_ids:
        used = files.using(who.user_id, asked.turn.conversation_id, file_ids)
        asked = replace(asked, turn=replace(asked.turn, after=[*asked.turn.after, *used]))
    noted = {**body.noted(), "model": choices.settings.model}
    turn = keeping.noted(who, asked, "response", noted, alone=above is None)
    return turn, choices


def _events(kept: responses.Response, answer: Answer) -> AsyncGenerator[AnswerEvent, None]:
    return keeping.replay(kept) if kept.ended else answer.follow(only_new=True)


def _stop(services: Services, kept: responses.Response) -> Any:  # noqa: ANN401 -- what `stopping` takes
    return lambda: services.replies.stop_here(kept.id)


async def _unkept(
    request: Request, body: ResponsesRequest, who: Principal, services: Services
) -> Response:
    await services.limits.spend("chat", who.user_id)
    choices = await _choices(body, who, services)
    above = await _above(body, who, services)
    given, _ = await _given(services, who, body, above, choices)
    asking.asked(who.user_id, given, above, model=choices.settings.model)
    if given.approvals:
        raise Invalid.of("store", "must not be false where a tool is to run here")
    decided = asking.settled(given, above)
    said = await asking.history(services.db, who.user_id, above, decided)
    prompt = prompt_of(
        [*said, *asking.said_by(given)], choices, user_key=services.replies.pseudonym(who.user_id)
    )
    charge = await services.replies.unkept.charge(who, prompt)
    left = budget_headers(charge.charged)
    head = Head(
        id=new_id(),
        conversation_id=None,
        model=choices.settings.model,
        created_at=int(time.time()),
        noted=body.noted(),
    )
    events = ResponseEvents(head, head.id)
    answering = services.replies.unkept.answer(prompt, charge=charge, who=who)
    if body.stream:
        first = await while_connected(request, begun(answering))
        return EventStream(events.frames(first), left, farewell=farewell())
    return JSONResponse(await while_connected(request, _whole(events, answering)), headers=left)


async def _whole(
    events: ResponseEvents, answering: AsyncGenerator[AnswerEvent, None]
) -> dict[str, Any]:
    """Wait for the end; return the response, or raise what it failed with."""
    async for _ in events.frames(answering):
        pass
    assert events.ending is not None  # noqa: S101 -- an answer ends with Ended
    assert events.final is not None  # noqa: S101 -- and that with a response
    failure = failure_of_answer(events.ending, said=bool(events.final["output"]))
    if failure is not None:
        raise failure
    return events.final
