"""`/v1`: the OpenAI API, with the caller's own token as its key.

Nothing is kept: the client keeps its conversation and sends all of it, and hanging up
stops the answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import APIRouter, Path
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatkeep.errors import ClientGone, Invalid
from chatkeep.live import Ended
from chatkeep.llm.model import Prompt, PromptMessage
from chatkeep.policies import Choices
from chatkeep.web.auth import SignedIn
from chatkeep.web.budget_headers import budget_headers
from chatkeep.web.openai.answers import Completion, failure_of, farewell
from chatkeep.web.openai.bodies import ChatCompletionRequest
from chatkeep.web.openai.errors import described
from chatkeep.web.services import Parts, Services
from chatkeep.web.sse import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from chatkeep.live import AnswerEvent

router = APIRouter(prefix="/v1", tags=["OpenAI API"])

_Result = TypeVar("_Result")

AnyModel = Annotated[str, Path(max_length=200, description="The id of a model.")]


class OpenAiModel(BaseModel):
    """A model as the OpenAI API lists it."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str


class OpenAiModels(BaseModel):
    """All models that the caller may ask."""

    object: str = "list"
    data: list[OpenAiModel]


@router.get("/models", responses=described(401, 429, 503))
async def models(who: SignedIn, parts: Parts) -> OpenAiModels:
    """List the models that the caller may ask."""
    offered = await parts.offered_models.listed(who)
    return OpenAiModels(data=[_model_json(one.id) for one in offered])


@router.get("/models/{model:path}", responses=described(401, 404, 429, 503))
async def model(model: AnyModel, who: SignedIn, parts: Parts) -> OpenAiModel:
    """Describe one model."""
    await parts.offered_models.require(who, model)
    return _model_json(model)


@router.post(
    "/chat/completions",
    response_model=None,
    responses={
        200: {
            "description": "The answer, whole or as events.",
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        },
        **described(400, 401, 404, 429, 502, 503, 504),
    },
)
async def chat_completions(
    request: Request, body: ChatCompletionRequest, who: SignedIn, parts: Parts
) -> Response:
    """Answer the conversation that the client sends, whole or as a stream."""
    await parts.limits.spend("chat", who.user_id)
    await parts.offered_models.require(who, body.model)
    profile = await parts.preferences.get_profile(who.user_id)
    choices = await parts.offered_models.choose(who, profile, body.wishes())
    prompt = _prompt(body, choices, parts, who.user_id)
    completion = Completion(body.model)
    charge = await parts.replies.budgets.charge_unkept(who, prompt)
    left = budget_headers(charge.charged)
    events = parts.replies.answer_unkept(prompt, charge=charge)
    if not body.stream:
        whole = await _while_connected(request, completion.whole(events))
        return JSONResponse(whole, headers=left)
    begun = await _while_connected(request, _begun(events))
    frames = completion.frames(begun, with_usage=body.wants_usage)
    return EventStream(frames, left, farewell=farewell())


def _prompt(body: ChatCompletionRequest, choices: Choices, parts: Services, user_id: str) -> Prompt:
    """The client's own messages, behind the operator's system prompt where that is fixed."""
    fixed = "system_prompt" in parts.policy.locked
    if body.instructs and fixed:
        raise Invalid.of("messages", "must have no system message: the operator has set one")
    messages = [one.as_prompt() for one in body.messages]
    if choices.system_prompt and not body.instructs:
        messages.insert(0, PromptMessage(role="system", text=choices.system_prompt))
    settings = replace(
        choices.settings,
        stop=_stops(body),
        seed=body.seed,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        reasoning_effort=body.reasoning_effort,
        response_format=body.response_format,
        tool_choice=body.tool_choice,
        parallel_tool_calls=body.parallel_tool_calls,
    )
    return Prompt(
        messages=messages,
        settings=settings,
        tools=[one.as_tool() for one in body.tools or ()],
        user_key=parts.replies.pseudonym(user_id),
    )


def _stops(body: ChatCompletionRequest) -> tuple[str, ...]:
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())


async def _while_connected(request: Request, work: Coroutine[None, None, _Result]) -> _Result:
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


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _begun(
    events: AsyncGenerator[AnswerEvent, None],
) -> AsyncGenerator[AnswerEvent, None]:
    """Wait for the first event: what fails before it is an error with a status of its own."""
    try:
        first = await anext(events)
    except asyncio.CancelledError:
        await events.aclose()
        raise
    if isinstance(first, Ended) and (failure := failure_of(first.ending)) is not None:
        await events.aclose()
        raise failure
    return _resumed(first, events)


async def _resumed(
    first: AnswerEvent, events: AsyncGenerator[AnswerEvent, None]
) -> AsyncGenerator[AnswerEvent, None]:
    try:
        yield first
        async for event in events:
            yield event
    finally:
        await events.aclose()


def _model_json(name: str) -> OpenAiModel:
    owner, _, _ = name.rpartition("/")
    return OpenAiModel(id=name, owned_by=owner or "chatkeep")
