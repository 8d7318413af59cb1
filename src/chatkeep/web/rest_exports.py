"""Exports: what a person said and was told, in a form they can keep.

Written out while they are read from the database, a few messages at a time: a conversation
may be larger than the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from chatkeep import conversations
from chatkeep.errors import NotYourConversation
from chatkeep.web import rest_answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.conversations import Conversation, Message
    from chatkeep.db import Database

_AT_A_TIME = 50
_MESSAGES_AT_A_TIME = 10
_SPEAKERS = {"user": "You", "assistant": "Assistant", "system": "System"}


async def as_json(
    db: Database, user_id: str, conversation: Conversation, message_ids: list[str]
) -> AsyncIterator[bytes]:
    """Yield the JSON of a conversation with the messages of *message_ids*."""
    members = {**rest_answers.conversation_json(conversation), "messages": []}
    yield msgspec.json.encode(members).removesuffix(b"]}")
    separator = b""
    async for one in _messages(db, user_id, conversation, message_ids):
        shown = rest_answers.message_json(one)
        del shown["siblings"]  # `parent_id` says the same
        yield separator + msgspec.json.encode(shown)
        separator = b","
    yield b"]}"


async def as_markdown(
    db: Database, user_id: str, conversation: Conversation, message_ids: list[str]
) -> AsyncIterator[str]:
    """Yield the conversation as Markdown, with the messages of *message_ids*."""
    yield f"# {conversation.title or 'Conversation'}\n"
    async for one in _messages(db, user_id, conversation, message_ids):
        said = f"{_SPEAKERS[one.role]}, {one.created_at:%Y-%m-%d %H:%M} UTC"
        yield f"\n## {said}\n\n{one.content}\n"


async def everything(db: Database, user_id: str) -> AsyncIterator[bytes]:
    """Yield the JSON of all conversations of *user_id*."""
    yield b'{"user_id":%s,"conversations":[' % msgspec.json.encode(user_id)
    after, separator = "", b""
    while page := await conversations.list_by_id(db, user_id, limit=_AT_A_TIME, after=after):
        for one in page:
            try:
                whole = await conversations.get_whole(db, user_id, one.id)
            except NotYourConversation:
                continue  # deleted while the export runs
            yield separator
            async for piece in as_json(db, user_id, *whole):
                yield piece
            separator = b","
        after = page[-1].id
    yield b"]}"


async def _messages(
    db: Database, user_id: str, conversation: Conversation, message_ids: list[str]
) -> AsyncIterator[Message]:
    for first in range(0, len(message_ids), _MESSAGES_AT_A_TIME):
        some = message_ids[first : first + _MESSAGES_AT_A_TIME]
        for one in await conversations.list_messages(db, user_id, conversation.id, some):
            yield one
