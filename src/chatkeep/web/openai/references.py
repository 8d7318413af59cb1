"""Items that a request names by their ids in place of sending them: put where they are named.

Clients that know their answers are kept send an `item_reference` for each part of one. What
stands in the conversation that the request goes on from is known already, and is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from chatkeep import conversations
from chatkeep.errors import Invalid, NotFound
from chatkeep.web.openai.inputs import InputItem, InputReference
from chatkeep.web.openai.items import find_place, items_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.db import Database

_AT_MOST: Final = 100
_ITEM: TypeAdapter[InputItem] = TypeAdapter(InputItem)


async def resolved(
    db: Database,
    user_id: str,
    items: str | Sequence[InputItem] | None,
    *,
    known_in: str | None,
) -> str | Sequence[InputItem] | None:
    """Return *items* with what they name; *known_in* is the conversation that goes on.

    Raises:
        NotFound: one is of none of the conversations that the caller has used last.
        Invalid: they are of too many messages.
    """
    if items is None or isinstance(items, str):
        return items
    named = [one.id for one in items if isinstance(one, InputReference)]
    if not named:
        return items
    found = await _named(db, user_id, named, known_in)
    return [
        kept
        for one in items
        for kept in (found[one.id] if isinstance(one, InputReference) else [one])
    ]


async def _named(
    db: Database, user_id: str, ids: Sequence[str], known_in: str | None
) -> dict[str, list[InputItem]]:
    """Return for each id its item, or nothing for what is known."""
    places = {one: find_place(one) for one in ids}
    message_ids = sorted({place.message_id for place in places.values() if place is not None})
    if len(message_ids) > _AT_MOST:
        raise Invalid.of("input", f"must not name items of more than {_AT_MOST} messages")
    homes = await conversations.find_homes(db, user_id, message_ids)
    found: dict[str, list[InputItem]] = {}
    for home in {one.conversation_id for one in homes}:
        inside = [one.id for one in homes if one.conversation_id == home]
        for message in await conversations.list_messages(db, user_id, home, inside):
            for item in items_of(message):
                taken = [] if home == known_in else [_ITEM.validate_python(_sendable(item))]
                found[str(item["id"])] = taken
    if not set(ids) <= found.keys():
        raise NotFound
    return found


def _sendable(item: dict[str, Any]) -> dict[str, Any]:
    """Return *item* without the images that are kept here: their addresses are no provider's."""
    content = item.get("content")
    if not isinstance(content, list):
        return item
    shown = [one for one in content if not str(one.get("image_url", "")).startswith("/")]
    return {**item, "content": shown}
