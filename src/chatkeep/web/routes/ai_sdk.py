"""The AI SDK's chat: `useChat` posts here, resumes here, and stops here.

The history that the model is given is the one in the database: what a client sends of it
can be forged and is not read. Only somebody who is not signed in, and of whom nothing is
kept, brings their own.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import conversations, files
from chatkeep.answering import decisions
from chatkeep.answering.history import Said
from chatkeep.answering.prompts import prompt_of
from chatkeep.answering.titles import title_from
from chatkeep.answering.turns import Turn
from chatkeep.errors import Invalid, NotFound, RunInProgress, Unauthenticated
from chatkeep.ids import new_id
from chatkeep.policies import Choices
from chatkeep.preferences import NO_PROFILE
from chatkeep.web import rest_answers
from chatkeep.web.ai_sdk import answers, sent_files
from chatkeep.web.ai_sdk.bodies import ChatRequest, UiMessage
from chatkeep.web.api_document import BEARER_OPTIONAL
from chatkeep.web.auth import Caller, SignedIn
from chatkeep.web.budget_headers import budget_headers
from chatkeep.web.continuing import continued
from chatkeep.web.once import OnceDoor, begun_before, begun_once
from chatkeep.web.problems import described
from chatkeep.web.schemas import IdempotencyKey, StopAnswer
from chatkeep.web.services import Services, ServicesDep, services_of
from chatkeep.web.sse import EventStream

if TYPE_CHECKING:
    from chatkeep.answering.answers import Answer
    from chatkeep.idempotency import Marked
    from chatkeep.principal import Principal
    from chatkeep.web.ai_sdk.sent_files import SentFile

router = APIRouter(
    prefix="/api/chat",
    tags=["AI SDK"],
    responses=described(422),
)
_STREAM: dict[int | str, dict[str, object]] = {
    200: {
        "description": "The UI message stream.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_STREAM_OR_WHOLE: dict[int | str, dict[str, object]] = {
    200: {
        "description": "The UI message stream; with `Accept: application/json` the whole answer.",
        "content": {
            "text/event-stream": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/SendAnswer"}},
        },
    }
}

# What is none of the caller's conversations has no answer being made.
AnyId = Annotated[str, Path(max_length=200, description="A conversation of the caller.")]


@router.post(
    "",
    response_model=None,
    responses={**_STREAM_OR_WHOLE, **described(404, 409, 413, 429, 502, 504)},
    openapi_extra=BEARER_OPTIONAL,
)
async def chat(
    request: Request,
    body: ChatRequest,
    who: Caller,
    idempotency_key: IdempotencyKey = "",
) -> Response:
    """Submit, edit or regenerate, and stream the answer as a UI message stream.

    Who is signed in and sends `Accept: application/json` gets the whole answer as JSON.
    """
    services = services_of(request)
    if not body.history:
        raise Invalid.of("messages", "must be there, or `message`")
    if who is None:
        return await _unkept(request, body, services)
    marked = await OnceDoor(services, request, idempotency_key).mark(who)
    profile = await services.preferences.get_profile(who.user_id)
    choices = await services.offered_models.choose(who, profile, body.wishes())
    answer = await _begin(services, who, body, choices, marked)
    if request.headers.get("accept", "").startswith("application/json"):
        return await rest_answers.whole(answer)
    # Whoever goes on with an answer has its beginning, unless the client took it away first.
    return _streamed(answer, only_new=body.trigger == "submit-message")


@router.get(
    "/{conversation_id:path}/stream",
    response_class=Response,
    responses={**_STREAM, 204: {"description": "No answer is being made."}, **described(404)},
    openapi_extra=BEARER_OPTIONAL,
)
async def resume(conversation_id: AnyId, who: Caller, services: ServicesDep) -> Response:
    """Play the answer being made from its start and go on live, or 204."""
    if who is None and not services.settings.anonymous_chat:
        raise Unauthenticated
    answer = who and await services.replies.find_running(who.user_id, conversation_id)
    return _streamed(answer) if answer else Response(status_code=204)


@router.post("/{conversation_id:path}/stop", responses=described(404))
async def stop(conversation_id: AnyId, who: SignedIn, services: ServicesDep) -> StopAnswer:
    """Stop the answer being made, from any device; what was said is kept."""
    return StopAnswer(stopped=await services.replies.stop(who.user_id, conversation_id))


async def _begin(
    services: Services, who: Principal, body: ChatRequest, choices: Choices, marked: Marked | None
) -> Answer:
    if (same := await begun_before(services, who, marked)) is not None:
        return same  # what it went on from does not wait for it any more
    if body.go_on:
        return await continued(
            services, who, body.id, choices, message_id=body.messageId, marked=marked
        )
    if body.trigger == "regenerate-message":
        return await _regenerate(services, who, body, choices, marked)
    last = body.history[-1]
    if last.role == "assistant":
        return await _go_on(services, who, body, choices, marked)
    turn, sent = await _question(
        services, who.user_id, body, last, choices.settings.model, is_marked=marked is not None
    )
    replies = services.replies
    start = replies.begin_or_wait if body.when_busy == "queue" else replies.begin_instead

    async def begin(turn: Turn) -> Answer:
        kept = await sent_files.kept_parts(services, who.user_id, sent)
        return await start(who, _with_files(who.user_id, turn, kept), choices)

    return await begun_once(services, who, turn, begin, marked=marked)


async def _question(
    services: Services,
    user_id: str,
    body: ChatRequest,
    last: UiMessage,
    model: str,
    *,
    is_marked: bool,
) -> tuple[Turn, list[SentFile]]:
    """A new question, or another wording of one (`messageId` names the one replaced).

    Its files are beside it: they are kept when it was counted, and not before. Where the request
    *is_marked*, its key says what is the same, and the wording does not.
    """
    text = last.question()
    sent = await sent_files.read(services, user_id, body, last)
    replaced = body.messageId and await conversations.find_place(
        services.db, user_id, body.id, body.messageId
    )
    turn = Turn(
        conversation_id=body.id,
        run_id=new_id(),
        message_id=new_id(),
        user_message_id=new_id(),
        model=model,
        content=text,
        client_id=last.id,
        branches=bool(replaced),
        parent_id=replaced.parent_id if replaced else None,
        may_create=True,
        title=title_from(text),
        request_key=_request_key(body, last.id, text, *(one.id for one in sent)),
        may_recur=bool(replaced) and not is_marked,
    )
    return turn, sent


async def _regenerate(
    services: Services, who: Principal, body: ChatRequest, choices: Choices, marked: Marked | None
) -> Answer:
    """Answer the same question again, beside the earlier answer.

    Without a key nothing tells a second click from a repeated request, so both join the
    answer that is being made.
    """
    replies, model = services.replies, choices.settings.model
    if marked is None and (running := await replies.find_running(who.user_id, body.id)):
        return running
    turn = await _same_question(services, who.user_id, body, model)

    async def begin(turn: Turn) -> Answer:
        if marked is not None:
            return await replies.begin_instead(who, turn, choices)
        try:
            return await replies.begin(who, turn, choices)
        except RunInProgress as busy:
            return await replies.join(who.user_id, busy.run_id)

    return await begun_once(services, who, turn, begin, marked=marked)


async def _go_on(
    services: Services, who: Principal, body: ChatRequest, choices: Choices, marked: Marked | None
) -> Answer:
    """Go on with an answer whose tools waited for the person, or for their client.

    Of what the client sends, only the decisions and outputs that were waited for are taken.
    """
    found = await conversations.find_answer(services.db, who.user_id, body.id, body.messageId)
    if found is None:
        raise decisions.waits_for_nothing()
    if decisions.was_cut_off(found):
        return await continued(services, who, body.id, choices, message_id=found.id, marked=marked)
    decided = decisions.resolved(found.parts, body.history[-1].parts)
    turn = Turn(
        conversation_id=body.id,
        run_id=new_id(),
        message_id=found.id,
        user_message_id=found.parent_id,
        model=choices.settings.model,
        content=None,
        request_key=f"on:{found.id}:{_digest(decided)}",
        resumed=decided,
        resumes=found.run_id,
    )
    return await begun_once(
        services, who, turn, lambda turn: services.replies.begin(who, turn, choices), marked=marked
    )


def _digest(parts: list[dict[str, Any]]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


async def _same_question(services: Services, user_id: str, body: ChatRequest, model: str) -> Turn:
    place = await conversations.find_place(services.db, user_id, body.id, body.messageId)
    if place is None:
        raise NotFound
    question = place.parent_id if place.role == "assistant" else place.id
    if question is None:
        raise Invalid("This message answers no question.")
    return Turn(
        conversation_id=body.id,
        run_id=new_id(),
        message_id=new_id(),
        user_message_id=question,
        model=model,
        content=None,
    )


def _with_files(user_id: str, turn: Turn, kept: list[dict[str, Any]]) -> Turn:
    """Return *turn*, a question, with the files that were *kept* for it."""
    if not kept:
        return turn
    said = [{"type": "text", "text": turn.content}] if turn.content else []
    return replace(
        turn,
        parts=[*said, *kept],
        after=files.using(user_id, turn.conversation_id, files.in_parts(kept)),
        title=title_from(turn.content or kept[0]["filename"]),
    )


def _request_key(
    body: ChatRequest, message_id: str | None, text: str, *file_ids: str
) -> str | None:
    """The same question, sent twice, is one question."""
    if message_id is None:
        return None
    said = "\n".join([str(body.messageId), *file_ids, text])
    digest = hashlib.sha256(said.encode()).hexdigest()
    return f"ui:{body.id}:{message_id}:{digest}"


def _streamed(answer: Answer, *, only_new: bool = False) -> EventStream:
    metadata = {"model": answer.model, "run_id": answer.address.id}
    frames = answers.frames(
        answer.follow(only_new=only_new), message_id=answer.address.message_id, metadata=metadata
    )
    headers = {**answers.HEADERS, **budget_headers(answer.charged)}
    return EventStream(frames, headers, farewell=answers.farewell())


async def _unkept(request: Request, body: ChatRequest, services: Services) -> Response:
    """Answer somebody who is not signed in: their own history, the operator's defaults."""
    if not services.settings.anonymous_chat:
        raise Unauthenticated
    await services.limits.spend("anonymous_chat", request.state.chatkeep_client.bucket)
    choices = await services.offered_models.choose(None, NO_PROFILE, body.wishes())
    if body.history[-1].files:
        raise Invalid.of("messages", "must not end with a file: sign in to send files")
    body.history[-1].question()
    said = [Said(role=one.role, content=one.text) for one in body.history if one.role != "system"]
    prompt = prompt_of(said, choices)
    charge = await services.replies.unkept.charge(None, prompt)
    events = services.replies.unkept.answer(prompt, charge=charge)
    metadata = {"model": choices.settings.model}
    frames = answers.frames(events, message_id=new_id(), metadata=metadata)
    return EventStream(frames, answers.HEADERS)
