"""Items that a request names by their ids in place of sending them: put where they are named.

Clients that know their answers are kept send an `item_reference` for each part of one. What
stands in the conversation that the request goes on from is known already, and is left out.
A few bytes name a megabyte, as often as they are sent: so what is named has the length that a
body may have, as if it had been sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What stands for an id: its item and how many bytes that has, or nothing for what is known."""

    items: list[InputItem] = field(default_factory=list)
    size: int = 0


async def resolved(
    db: Database,
    user_id: str,
    items: str | Sequence[InputItem] | None,
    *,
    known_in: str | None,
    at_most: int,
) -> str | Sequence[InputItem] | None:
    """Return *items* with what they name; *known_in* is the conversation that goes on.

    Raises:
        NotFound: one is of none of the conversations that the caller has used last.
        Invalid: they are of too many messages, or have more than *at_most* bytes.
    """
    if items is None or isinstance(items, str):
        return items
    named = [one.id for one in items if isinstance(one, InputReference)]
    if not named:
        return items
    found = await _named(db, user_id, named, known_in, at_most)
    if sum(found[one].size for one in named) > at_most:
        raise _too_long(at_most)
    return [
        kept
        for one in items
        for kept in (found[one.id].items if isinstance(one, InputReference) else [one])
    ]


async def _named(
    db: Database, user_id: str, ids: Sequence[str], known_in: str | None, at_most: int
) -> dict[str, _Found]:
    """Return for each id what stands for it."""
    places = {one: find_place(one) for one in ids}
    message_ids = sorted({place.message_id for place in places.values() if place is not None})
    if len(message_ids) > _AT_MOST:
        raise Invalid.of("input", f"must not name items of more than {_AT_MOST} messages")
    homes = await conversations.find_homes(db, user_id, message_ids)
    if sum(one.size for one in homes if one.conversation_id != known_in) > at_most:
        raise _too_long(at_most)  # before any of it is read
    found: dict[str, _Found] = {}
    for home in {one.conversation_id for one in homes}:
        inside = [one.id for one in homes if one.conversation_id == home]
        for message in await conversations.list_messages(db, user_id, home, inside):
            for item in items_of(message):
                found[str(item["id"])] = _Found() if home == known_in else _taken(item)
    if not set(ids) <= found.keys():
        raise NotFound
    return found


def _taken(item: dict[str, Any]) -> _Found:
    sendable = _sendable(item)
    size = len(msgspec.json.encode(sendable))
    return _Found(items=[_ITEM.validate_python(sendable)], size=size)


def _too_long(at_most: int) -> Invalid:
    return Invalid.of("input", f"must not name items of more than {at_most} bytes together")


def _sendable(item: dict[str, Any]) -> dict[str, Any]:
    """Return *item* without the images that are kept here: their addresses are no provider's."""
    content = item.get("content")
    if not isinstance(content, list):
        return item
    shown = [one for one in content if not str(one.get("image_url", "")).startswith("/")]
    return {**item, "content": shown}
