"""Items of a conversation, found by their ids and listed in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Query

from chatkeep import conversations
from chatkeep.errors import Invalid, NotFound
from chatkeep.openai_api import conversation_items
from chatkeep.web.openai.items import find_place, items_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from chatkeep.db import Database


Limit = Annotated[int, Query(ge=1, le=100, description="At most so many.")]
Order = Annotated[Literal["asc", "desc"], Query(description="The oldest first, or the newest.")]
AnyItem = Annotated[
    str | None, Query(max_length=300, description="The last item of the page before.")
]


async def brought(
    db: Database, user_id: str, conversation_id: str, ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the items that have these *ids*, in their order; what was erased is left out."""
    places = [find_place(one) for one in ids]
    message_ids = {one.message_id for one in places if one is not None}
    listed = await conversations.list_messages(db, user_id, conversation_id, sorted(message_ids))
    by_id = {str(item["id"]): item for one in listed for item in items_of(one)}
    return [by_id[one] for one in ids if one in by_id]


async def listed(
    db: Database,
    user_id: str,
    conversation_id: str,
    *,
    after: str | None,
    limit: int,
    newest_first: bool,
) -> tuple[list[dict[str, Any]], bool]:
    """Return at most *limit* items of the branch that is shown, those behind the item *after*.

    And whether there are more: they end early with the message that fills a page.

    Raises:
        Invalid: *after* is no item of this conversation.
    """
    chunks = _chunks(
        db, user_id, conversation_id, after=after, size=limit + 2, newest_first=newest_first
    )
    found: list[dict[str, Any]] = []
    looked_for = after
    async for ids in chunks:
        left = ids
        while left:
            messages, taken = await conversations.list_fitting(db, user_id, conversation_id, left)
            here, left = left[:taken], left[taken:]
            by_id = {one.id: items_of(one) for one in messages}
            for message_id in here:
                shown = by_id.get(message_id, [])
                found += reversed(shown) if newest_first else shown
            if looked_for is not None:
                found, looked_for = _behind(found, looked_for), None
            if len(found) > limit or (left and found):
                return found[:limit], True
    return found, False


def item_page(found: Sequence[dict[str, Any]], limit: int, *, more: bool = False) -> dict[str, Any]:
    """Return the page of *found*, of which there may be one more than *limit*.

    *more*: there are others, however few these are.
    """
    data = list(found[:limit])
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else "",
        "last_id": data[-1]["id"] if data else "",
        "has_more": more or len(found) > limit,
    }


async def get_item(
    db: Database, user_id: str, conversation_id: str, item_id: str
) -> dict[str, Any]:
    """Return an item of a conversation. Raises `NotFound`."""
    await conversation_items.describe(db, user_id, conversation_id)
    found = await brought(db, user_id, conversation_id, [item_id])
    if not found:
        raise NotFound
    return found[0]


async def _chunks(
    db: Database,
    user_id: str,
    conversation_id: str,
    *,
    after: str | None,
    size: int,
    newest_first: bool,
) -> AsyncIterator[list[str]]:
    """Yield the ids of the messages to look through, from that of the item *after* on.

    Newest first, no more are looked up than are asked for; the other way, the ids of all.
    """
    place = find_place(after) if after is not None else None
    if after is not None and place is None:
        raise _not_here()
    scope = (db, user_id, conversation_id)
    if newest_first:
        from_id = place.message_id if place is not None else None
        while True:
            ids = await conversations.branch_ids(*scope, from_id=from_id, limit=size + 1)
            if place is not None and not ids:
                raise _not_here()
            yield ids[:size]
            if len(ids) <= size:
                return
            from_id = ids[size]
    ids = await conversations.branch_ids(*scope, from_id=None, limit=conversations.BRANCH_AT_MOST)
    ids.reverse()
    if place is not None:
        if place.message_id not in ids:
            raise _not_here()
        ids = ids[ids.index(place.message_id) :]
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _behind(found: list[dict[str, Any]], after: str) -> list[dict[str, Any]]:
    """What comes behind the item *after*; all of it where that was erased meanwhile."""
    ids = [one["id"] for one in found]
    return found[ids.index(after) + 1 :] if after in ids else found


def _not_here() -> Invalid:
    return Invalid.of("after", "is not an item of this conversation")
