"""Plain REST: conversations of the caller, and messages to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from chatkeep import conversations
from chatkeep.answering.titles import title_from
from chatkeep.answering.turns import Turn
from chatkeep.conversations import FIRST_PAGE
from chatkeep.errors import Invalid, NotFound, NotYourConversation
from chatkeep.ids import new_id
from chatkeep.web import rest_answers, rest_exports
from chatkeep.web.auth import SignedInOnRest
from chatkeep.web.cursors import cursor_after, read_cursor
from chatkeep.web.once import Once, begun_once
from chatkeep.web.problems import described
from chatkeep.web.schemas import (
    ChangeConversationRequest,
    ConversationAnswer,
    ConversationsAnswer,
    PageAnswer,
    SendAnswer,
    SendRequest,
    StartAnswer,
    StartRequest,
)
from chatkeep.web.services import ServicesDep

router = APIRouter(
    prefix="/api/v1/chat",
    tags=["conversations"],
    responses=described(403, 422),
)

# Any text is taken here: what is none of the caller's ids is not the caller's conversation.
AnyId = Annotated[str, Path(max_length=200, description="A conversation of the caller.")]
Limit = Annotated[int, Query(ge=1, description="At most so many; more than 100 counts as 100.")]
_PAGE_AT_MOST = 100
_JSON_EXPORT: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
_MARKDOWN: dict[str, Any] = {"text/markdown": {"schema": {"type": "string"}}}
_EXPORT: dict[int | str, dict[str, Any]] = {200: {"content": _JSON_EXPORT}}
_EXPORT_IN_TWO_FORMS: dict[int | str, dict[str, Any]] = {200: {"content": _JSON_EXPORT | _MARKDOWN}}


@router.post("/start", response_model=StartAnswer, responses=described(409))
async def start(
    who: SignedInOnRest, services: ServicesDep, once: Once, _body: StartRequest | None = None
) -> StartAnswer | Response:
    """Start a conversation; its first message is the assistant's greeting."""
    greeting = services.settings.greeting

    async def make(new_id: str) -> StartAnswer:
        await services.limits.spend("chat", who.user_id)
        conversation_id = await conversations.start_conversation(
            services.db, who.user_id, greeting=greeting, conversation_id=new_id
        )
        return StartAnswer(conversation_id=conversation_id, message=greeting)

    return await once.answer(who, make)


@router.post(
    "/message",
    response_model=SendAnswer,
    responses={
        200: {
            "description": "The answer, whole or as events.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **described(409, 429, 502, 504),
    },
)
async def send(
    request: Request,
    body: SendRequest,
    who: SignedInOnRest,
    services: ServicesDep,
    once: Once,
) -> Response:
    """Send a message and get the answer: whole, or as events with `Accept: text/event-stream`.

    Sending the same `Idempotency-Key` (or `client_message_id`) again returns the answer
    that the first one began.
    """
    marked = await once.mark(who)
    profile = await services.preferences.get_profile(who.user_id)
    choices = await services.offered_models.choose(who, profile, body.wishes())
    turn = _turn(body, choices.settings.model)
    begin = services.replies.begin_or_wait if body.when_busy == "queue" else services.replies.begin
    try:
        answer = await begun_once(
            services, who, turn, lambda turn: begin(who, turn, choices), marked=marked
        )
    except NotFound as error:
        raise NotYourConversation from error
    return await rest_answers.whole_or_streamed(request, answer)


def _turn(body: SendRequest, model: str) -> Turn:
    key = body.client_message_id and f"rest:{body.conversation_id}:{body.client_message_id}"
    return Turn(
        conversation_id=body.conversation_id,
        run_id=new_id(),
        message_id=new_id(),
        user_message_id=new_id(),
        model=model,
        content=body.message,
        client_id=body.client_message_id,
        title=title_from(body.message),
        request_key=key,
    )


@router.get("")
async def list_conversations(
    who: SignedInOnRest,
    services: ServicesDep,
    limit: Limit = 30,
    cursor: Annotated[
        str | None, Query(max_length=500, description="`next_cursor` of the page before.")
    ] = None,
    q: Annotated[str | None, Query(max_length=200, description="Title contains.")] = None,
) -> ConversationsAnswer:
    """List the caller's conversations, newest first."""
    limit = min(limit, _PAGE_AT_MOST)
    before = FIRST_PAGE if cursor is None else read_cursor(cursor)
    db, me = services.db, who.user_id
    found = await (
        conversations.search_titles(db, me, q, limit=limit + 1, before=before)
        if q
        else conversations.list_conversations(db, me, limit=limit + 1, before=before)
    )
    page = found[:limit]
    return ConversationsAnswer(
        user_id=me,
        conversations=[ConversationAnswer(**rest_answers.conversation_json(one)) for one in page],
        next_cursor=cursor_after(page[-1]) if len(found) > limit else None,
    )


@router.get("/export", responses=_EXPORT)
async def export_everything(who: SignedInOnRest, services: ServicesDep) -> StreamingResponse:
    """Export every conversation of the caller as JSON, with all branches."""
    await services.limits.spend("export", who.user_id)
    return rest_exports.Export(
        services.limits,
        who.user_id,
        rest_exports.everything(services.files, who.user_id),
        headers={"content-disposition": 'attachment; filename="chatkeep-export.json"'},
    )


@router.get("/{conversation_id}", response_model=PageAnswer)
async def read(
    conversation_id: AnyId,
    who: SignedInOnRest,
    services: ServicesDep,
    limit: Limit = 50,
    before: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page after.")
    ] = None,
) -> Response:
    """Read a conversation: the newest messages of its branch, oldest first."""
    conversation, messages = await conversations.get_page(
        services.db, who.user_id, conversation_id, limit=min(limit, _PAGE_AT_MOST), from_id=before
    )
    if before is not None and not messages:
        raise Invalid.of("before", "is not a message of this conversation")
    return _json(
        {
            "conversation_id": conversation.id,
            "title": conversation.title,
            "created_at": conversation.created_at,
            "updated_at": conversation.updated_at,
            "active_run": conversation.active_run,
            "next_cursor": messages[0].parent_id if messages else None,
            "messages": [rest_answers.message_json(one) for one in messages],
        }
    )


@router.patch("/{conversation_id}")
async def change(
    conversation_id: AnyId,
    body: ChangeConversationRequest,
    who: SignedInOnRest,
    services: ServicesDep,
) -> ConversationAnswer:
    """Rename the conversation, or show the branch through another message."""
    if body.title is None and body.head_id is None:
        raise Invalid("Send `title`, `head_id`, or both.")
    changed = None
    if body.head_id is not None:
        changed = await conversations.show_branch(
            services.db, who.user_id, conversation_id, body.head_id
        )
    if body.title is not None:
        changed = await conversations.rename(
            services.db, who.user_id, conversation_id, body.title.strip() or body.title
        )
    assert changed is not None  # noqa: S101 -- one of the two was sent
    return ConversationAnswer(**rest_answers.conversation_json(changed))


@router.delete("/{conversation_id}", status_code=204)
async def delete(conversation_id: AnyId, who: SignedInOnRest, services: ServicesDep) -> None:
    """Delete the conversation. It can be restored for 24 hours."""
    await services.replies.stop(who.user_id, conversation_id)
    await conversations.delete(services.db, who.user_id, conversation_id)


@router.post("/{conversation_id}/restore")
async def restore(
    conversation_id: AnyId, who: SignedInOnRest, services: ServicesDep
) -> ConversationAnswer:
    """Undo a deletion."""
    restored = await conversations.restore(services.db, who.user_id, conversation_id)
    return ConversationAnswer(**rest_answers.conversation_json(restored))


@router.get(
    "/{conversation_id}/export",
    responses=_EXPORT_IN_TWO_FORMS,
)
async def export(
    conversation_id: AnyId,
    who: SignedInOnRest,
    services: ServicesDep,
    format: Annotated[Literal["json", "markdown"], Query()] = "json",  # noqa: A002 -- its name in the URL
) -> Response:
    """Export one conversation, with all branches."""
    whole = await conversations.get_whole(services.db, who.user_id, conversation_id)
    if format == "markdown":
        text = rest_exports.as_markdown(services.db, who.user_id, *whole)
        return rest_exports.Export(services.limits, who.user_id, text, media_type="text/markdown")
    body = rest_exports.as_json(services.files, who.user_id, *whole)
    return rest_exports.Export(services.limits, who.user_id, body)


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
