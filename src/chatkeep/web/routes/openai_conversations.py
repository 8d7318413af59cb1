"""`/v1/conversations`: the caller's conversations, for any client of the OpenAI API.

They are those of every other surface, under ids of this one's form. Items are what is said
in the branch that is shown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid5

from fastapi import APIRouter, Path
from starlette.responses import JSONResponse, Response

from chatkeep import conversations
from chatkeep.answering.parts import Part, stored, unstored
from chatkeep.answering.retitling import attached_to
from chatkeep.conversations import Message
from chatkeep.errors import Invalid, NotFound, NotYourConversation
from chatkeep.openai_api import conversation_items
from chatkeep.web.auth import SignedIn
from chatkeep.web.once import Once
from chatkeep.web.openai import asking
from chatkeep.web.openai.errors import described
from chatkeep.web.openai.held_files import keep_files
from chatkeep.web.openai.inputs import read
from chatkeep.web.openai.items import CONVERSATION, find_place
from chatkeep.web.openai.listing import (
    AnyItem,
    Limit,
    Order,
    brought,
    get_item,
    item_page,
    listed,
)
from chatkeep.web.openai.response_bodies import ConversationChange, ConversationRequest, NewItems
from chatkeep.web.services import Services, ServicesDep

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from chatkeep.openai_api.conversation_items import Described
    from chatkeep.principal import Principal
    from chatkeep.web.openai.inputs import Given, InputItem
    from chatkeep.web.openai.items import ItemPlace

router = APIRouter(prefix="/v1/conversations", tags=["OpenAI API"])

AnyId = Annotated[str, Path(max_length=300, description="A conversation of the caller.")]
OneItem = Annotated[str, Path(max_length=300, description="An item of the conversation.")]
_WHOLE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}}
}


@router.post("", response_model=None, responses={**_WHOLE, **described(400, 409, 422)})
async def create(
    who: SignedIn, services: ServicesDep, once: Once, body: ConversationRequest | None = None
) -> Response:
    """Make a conversation, with what was said in it so far."""
    wanted = body or ConversationRequest()

    async def make(conversation_id: str) -> Response:
        await services.limits.spend("chat", who.user_id)
        given = await _given(services, who, wanted.items or ())
        await conversation_items.make(
            services.db,
            who.user_id,
            conversation_id,
            title=asking.title_of(given.messages),
            metadata=wanted.metadata or {},
            messages=given.messages,
        )
        made = await conversation_items.describe(services.db, who.user_id, conversation_id)
        return JSONResponse(_conversation(made))

    return await once.answer(who, make)


@router.get("/{conversation_id}", responses={**_WHOLE, **described(404)})
async def retrieve(conversation_id: AnyId, who: SignedIn, services: ServicesDep) -> dict[str, Any]:
    """Return a conversation and its `metadata`."""
    return _conversation(
        await conversation_items.describe(services.db, who.user_id, _own(conversation_id))
    )


@router.post("/{conversation_id}", responses={**_WHOLE, **described(400, 404)})
async def update(
    conversation_id: AnyId, body: ConversationChange, who: SignedIn, services: ServicesDep
) -> dict[str, Any]:
    """Put other `metadata` in place of what was there."""
    kept = await conversation_items.keep_metadata(
        services.db, who.user_id, _own(conversation_id), body.metadata or {}
    )
    return _conversation(kept)


@router.delete("/{conversation_id}", responses={**_WHOLE, **described(404, 503)})
async def delete(conversation_id: AnyId, who: SignedIn, services: ServicesDep) -> dict[str, Any]:
    """Delete a conversation with everything in it. It can be restored for 24 hours."""
    own_id = _own(conversation_id)
    await services.replies.stop(who.user_id, own_id)
    try:
        await conversations.delete(services.db, who.user_id, own_id)
    except NotYourConversation as error:
        raise NotFound from error
    return {"id": f"{CONVERSATION}{own_id}", "object": "conversation.deleted", "deleted": True}


@router.get("/{conversation_id}/items", responses={**_WHOLE, **described(400, 404)})
async def list_items(
    conversation_id: AnyId,
    who: SignedIn,
    services: ServicesDep,
    limit: Limit = 20,
    order: Order = "desc",
    after: AnyItem = None,
) -> dict[str, Any]:
    """List what was said in the branch that is shown."""
    own_id = _own(conversation_id)
    await conversation_items.describe(services.db, who.user_id, own_id)
    found, more = await listed(
        services.db, who.user_id, own_id, after=after, limit=limit, newest_first=order == "desc"
    )
    return item_page(found, limit, more=more)


@router.post(
    "/{conversation_id}/items",
    response_model=None,
    responses={**_WHOLE, **described(400, 404, 409, 422)},
)
async def add_items(
    conversation_id: AnyId, body: NewItems, who: SignedIn, services: ServicesDep, once: Once
) -> Response:
    """Add items at the end of the branch that is shown, without asking for an answer."""

    async def add(request_id: str) -> Response:
        await services.limits.spend("chat", who.user_id)
        named_after = request_id if once.key else None
        return await _added(conversation_id, body, who, services, named_after)

    return await once.answer(who, add)


@router.get("/{conversation_id}/items/{item_id}", responses={**_WHOLE, **described(404)})
async def retrieve_item(
    conversation_id: AnyId, item_id: OneItem, who: SignedIn, services: ServicesDep
) -> dict[str, Any]:
    """Return one item, on whichever branch it is."""
    return await get_item(services.db, who.user_id, _own(conversation_id), item_id)


@router.delete("/{conversation_id}/items/{item_id}", responses={**_WHOLE, **described(404, 409)})
async def delete_item(
    conversation_id: AnyId, item_id: OneItem, who: SignedIn, services: ServicesDep
) -> dict[str, Any]:
    """Erase what an item said; what comes after it stays. Returns the conversation."""
    own_id = _own(conversation_id)
    await get_item(services.db, who.user_id, own_id, item_id)
    place = find_place(item_id)
    assert place is not None  # noqa: S101 -- it was found by it
    await _erase(services, who.user_id, own_id, place)
    return _conversation(await conversation_items.describe(services.db, who.user_id, own_id))


def _own(conversation_id: str) -> str:
    return asking.named(CONVERSATION, conversation_id)


def _conversation(one: Described) -> dict[str, Any]:
    return {
        "id": f"{CONVERSATION}{one.id}",
        "object": "conversation",
        "created_at": int(one.created_at.timestamp()),
        "metadata": one.metadata,
    }


async def _given(
    services: Services, who: Principal, items: Sequence[InputItem], known: Collection[str] = ()
) -> Given:
    given = read(items, known=known, is_whole=True)
    if "system_prompt" in services.offered_models.policy.locked and any(
        one.role == "system" for one in given.messages
    ):
        only = "must have no system or developer message: the operator has set one"
        raise Invalid.of("items", only)
    if given.approvals or (given.outputs and not known):
        raise Invalid.of("items", "has an answer to what was not asked")
    given, _ = await keep_files(services, who.user_id, given, keeps=True)
    return given


async def _added(
    conversation_id: str,
    body: NewItems,
    who: Principal,
    services: Services,
    named_after: str | None,
) -> Response:
    """Add items; what is there from an earlier try stays as it is.

    Messages are *named_after* the request; what functions have answered stands where it was said.
    """
    db, user_id = services.db, who.user_id
    above = await asking.below_conversation(db, user_id, conversation_id)
    own_id, done = above.conversation_id, list[Message]()
    if named_after is not None:
        first = _message_id(named_after, 0)
        done = await conversations.list_messages(db, user_id, own_id, [first])
    is_there = bool(done)
    if done:
        above = await asking.below_message(db, user_id, own_id, done[0].parent_id)
    elif (before := await asking.answered_before(db, user_id, above, body.items)) is not None:
        above, is_there = before, True
    given = await _given(services, who, body.items, above.calls)
    if named_after is not None:
        given = _named(given, named_after)
    decided = asking.settled(given, above)
    answered = (above.message_id or "", stored(decided) or []) if decided is not None else None
    if not is_there:
        title = asking.title_of(given.messages)
        await conversation_items.add(
            db, user_id, own_id, given.messages, answered=answered, title=title
        )
    ids = asking.settled_items(given, above, above.message_id or "") if decided else []
    ids += [one for message in given.messages for one in asking.new_ids(message)]
    found = await brought(db, user_id, own_id, ids)
    return JSONResponse(item_page(found, len(found)))


def _named(given: Given, request_id: str) -> Given:
    """Give its messages the ids that they have each time this request is sent."""
    messages = [
        replace(one, id=_message_id(request_id, number))
        for number, one in enumerate(given.messages)
    ]
    return replace(given, messages=messages)


def _message_id(request_id: str, number: int) -> str:
    return str(uuid5(UUID(request_id), str(number)))


async def _erase(services: Services, user_id: str, conversation_id: str, place: ItemPlace) -> None:
    """Take one part out of its message; the others keep their numbers."""
    found = await conversations.list_messages(
        services.db, user_id, conversation_id, [place.message_id]
    )
    message = found[0]
    content, kept = "", None
    if message.role == "assistant":
        left = unstored(message.content, message.parts)
        left[place.index] = Part("text")
        content = "".join(part.text for part in left if part.kind == "text")
        kept = stored(left) if any(part.kind != "text" or part.text for part in left) else None
    attached = await attached_to(services.db, user_id, conversation_id, message)
    if message.role == "assistant" and content == message.content:
        attached = replace(attached, titles=())
    objects = await conversation_items.erase(
        services.db,
        user_id,
        conversation_id,
        message.id,
        content=content,
        parts=kept,
        part_id=f"{message.id}.{place.index}",
        attached=attached,
    )
    await services.files.forget(objects)
