"""Exports: what a person said and was told, in a form they can keep."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from chatkeep import conversations
from chatkeep.errors import NotYourConversation
from chatkeep.web import rest_answers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from chatkeep.conversations import Conversation, Message
    from chatkeep.db import Database

_AT_A_TIME = 50
_SPEAKERS = {"user": "You", "assistant": "Assistant", "system": "System"}


def exported(conversation: Conversation, messages: Sequence[Message]) -> dict[str, Any]:
    """Return a conversation with every message, branches included."""
    shown = [rest_answers.message_json(one) for one in messages]
    for one in shown:
        del one["siblings"]  # `parent_id` says the same
    return {**rest_answers.conversation_json(conversation), "messages": shown}


def markdown(conversation: Conversation, messages: Sequence[Message]) -> str:
    """Return a conversation as Markdown."""
    blocks = [f"# {conversation.title or 'Conversation'}"]
    blocks += [
        f"## {_SPEAKERS[one.role]}, {one.created_at:%Y-%m-%d %H:%M} UTC\n\n{one.content}"
        for one in messages
    ]
    return "\n\n".join(blocks) + "\n"


async def everything(db: Database, user_id: str) -> AsyncIterator[bytes]:
    """Yield the JSON of all conversations of *user_id*, a few in memory at a time."""
    yield b'{"user_id":%s,"conversations":[' % msgspec.json.encode(user_id)
    after, separator = "", b""
    while page := await conversations.list_by_id(db, user_id, limit=_AT_A_TIME, after=after):
        for one in page:
            with suppress(NotYourConversation):  # deleted while the export runs
                whole = await conversations.list_every_message(db, user_id, one.id)
                yield separator + msgspec.json.encode(exported(*whole))
                separator = b","
        after = page[-1].id
    yield b"]}"
