"""`/v1`: the OpenAI API, with the caller's own token as its key.

The client keeps its conversation and sends all of it; here it is kept only when it says so
(`store`). Hanging up stops the answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chatkeep.errors import Invalid
from chatkeep.llm.model import Prompt, PromptMessage
from chatkeep.openai_api import responses
from chatkeep.policies import Choices
from chatkeep.web.auth import SignedIn
from chatkeep.web.budget_headers import budget_headers
from chatkeep.web.once import OnceDoor
from chatkeep.web.openai import chat_turns, keeping
from chatkeep.web.openai.answers import Completion, farewell
from chatkeep.web.openai.bodies import ChatCompletionRequest
from chatkeep.web.openai.errors import described
from chatkeep.web.openai.items import CONVERSATION
from chatkeep.web.openai.leaving import begun, stopping, while_connected
from chatkeep.web.schemas import IdempotencyKey
from chatkeep.web.services import Services, ServicesDep, services_of
from chatkeep.web.sse import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.answering.reading import AnswerEvent
    from chatkeep.answering.turns import Turn
    from chatkeep.idempotency import Marked
    from chatkeep.llm.model import ModelSettings
    from chatkeep.principal import Principal

router = APIRouter(prefix="/v1", tags=["OpenAI API"])

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
async def models(who: SignedIn, services: ServicesDep) -> OpenAiModels:
    """List the models that the caller may ask."""
    offered = await services.offered_models.listed(who)
    return OpenAiModels(data=[_model_json(one.id) for one in offered])


@router.get("/models/{model:path}", responses=described(401, 404, 429, 503))
async def model(model: AnyModel, who: SignedIn, services: ServicesDep) -> OpenAiModel:
    """Describe one model."""
    await services.offered_models.require(who, model)
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
        **described(400, 401, 404, 409, 422, 429, 502, 503, 504),
    },
)
async def chat_completions(
    request: Request,
    body: ChatCompletionRequest,
    who: SignedIn,
    idempotency_key: IdempotencyKey = "",
) -> Response:
    """Answer the conversation that the client sends, whole or as a stream."""
    services = services_of(request)
    once = OnceDoor(services, request, idempotency_key)
    if body.conversation_id is not None and not body.store:
        raise Invalid.of("store", "must be true where `metadata` names a conversation")
    if body.store:
        return await _kept(request, body, who, services, await once.mark(who))
    return await once.answer(who, lambda _: _completed(request, body, who, services))


async def _completed(
    request: Request, body: ChatCompletionRequest, who: Principal, services: Services
) -> Response:
    await services.limits.spend("chat", who.user_id)
    await services.offered_models.require(who, body.model)
    profile = await services.preferences.get_profile(who.user_id)
    choices = await services.offered_models.choose(who, profile, body.wishes())
    prompt = _prompt(body, choices, services, who.user_id)
    own_tools = [one.function.name for one in body.tools or ()]
    completion = Completion(body.model, own_tools=own_tools)
    charge = await services.replies.unkept.charge(who, prompt)
    left = budget_headers(charge.charged)
    events = services.replies.unkept.answer(prompt, charge=charge, who=who)
    return await _answer(request, body, completion, events, left)


async def _kept(
    request: Request,
    body: ChatCompletionRequest,
    who: Principal,
    services: Services,
    marked: Marked | None,
) -> Response:
    """Answer in a conversation that is kept; what was said before is what is kept of it."""
    answer = await keeping.begin(services, who, marked, lambda: _turn(body, who, services))
    kept = await responses.get(services.db, who.user_id, answer.address.id, "completion")
    conversation = f"{CONVERSATION}{kept.conversation_id}"
    own_tools = [one.function.name for one in body.tools or ()]
    completion = Completion(
        body.model, kept_as=kept.id, conversation=conversation, own_tools=own_tools
    )
    headers = {"x-conversation-id": conversation, **budget_headers(answer.charged)}
    # Who brought a key asks again where the connection broke, and finds this answer.
    stop = (lambda: services.replies.stop_here(kept.id)) if marked is None else None
    events = stopping(keeping.replay(kept) if kept.ended else answer.follow(only_new=True), stop)
    return await _answer(request, body, completion, events, headers)


async def _answer(
    request: Request,
    body: ChatCompletionRequest,
    completion: Completion,
    events: AsyncGenerator[AnswerEvent, None],
    headers: dict[str, str],
) -> Response:
    """Show *events* as the client wants them, whole or as a stream, while it is there."""
    if not body.stream:
        whole = await while_connected(request, completion.whole(events))
        return JSONResponse(whole, headers=headers)
    first = await while_connected(request, begun(events))
    frames = completion.frames(first, with_usage=body.wants_usage)
    return EventStream(frames, headers, farewell=farewell())


async def _turn(
    body: ChatCompletionRequest, who: Principal, services: Services
) -> tuple[Turn, Choices]:
    await services.offered_models.require(who, body.model)
    profile = await services.preferences.get_profile(who.user_id)
    choices = await services.offered_models.choose(who, profile, body.wishes())
    if body.instructs:
        if choices.alone:
            raise _instructions_are_fixed()
        choices = replace(choices, system_prompt=chat_turns.instructions(body))
    choices = replace(
        choices,
        settings=_settings(body, choices),
        tools=[one.as_tool() for one in body.tools or ()],
    )
    above = await chat_turns.above_of(services.db, who.user_id, body)
    asked = chat_turns.asked(who.user_id, body, above, model=choices.settings.model)
    noted = {"metadata": body.metadata or {}}
    turn = keeping.noted(who, asked, "completion", noted, alone=above is None)
    return turn, choices


def _instructions_are_fixed() -> Invalid:
    return Invalid.of("messages", "must have no system message: the operator has set one")


def _prompt(
    body: ChatCompletionRequest, choices: Choices, services: Services, user_id: str
) -> Prompt:
    """The client's own messages, behind the operator's system prompt where that is fixed."""
    fixed = "system_prompt" in services.offered_models.policy.locked
    if body.instructs and fixed:
        raise _instructions_are_fixed()
    messages = [one.as_prompt() for one in body.messages]
    if choices.system_prompt and not body.instructs:
        messages.insert(0, PromptMessage(role="system", text=choices.system_prompt))
    return Prompt(
        messages=messages,
        settings=_settings(body, choices),
        tools=[one.as_tool() for one in body.tools or ()],
        user_key=services.replies.pseudonym(user_id),
    )


def _settings(body: ChatCompletionRequest, choices: Choices) -> ModelSettings:
    return replace(
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


def _stops(body: ChatCompletionRequest) -> tuple[str, ...]:
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())


def _model_json(name: str) -> OpenAiModel:
    owner, _, _ = name.rpartition("/")
    return OpenAiModel(id=name, owned_by=owner or "chatkeep")
