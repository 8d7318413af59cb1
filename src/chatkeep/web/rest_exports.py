"""Exports: what a person said and was told, in a form they can keep.

Written out while they are read from the database, a few messages at a time: a conversation
may be larger than the memory.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from chatkeep import conversations, files
from chatkeep.errors import NotFound, NotYourConversation
from chatkeep.files.stored import with_file
from chatkeep.personal_data import exports
from chatkeep.web import rest_answers
from chatkeep.web.revocable_stream import RevocableStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from chatkeep.conversations import Conversation, Message
    from chatkeep.db import Database
    from chatkeep.files.stored import StoredFiles
    from chatkeep.limits import Limits
    from chatkeep.personal_data.exports import Belongings

_AT_A_TIME = 50
_MESSAGES_AT_A_TIME = 10
_SPEAKERS = {"user": "You", "assistant": "Assistant", "system": "System"}


class Export(RevocableStream):
    """An export on its way, one of those that a person may have under way at once.

    It holds a file in memory for as long as its reader takes for that file.
    """

    def __init__(
        self,
        limits: Limits,
        user_id: str,
        content: AsyncIterator[bytes] | AsyncIterator[str],
        *,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send *content*, once; whoever makes one returns it.

        Raises:
            RateLimited: *user_id* has as many under way as may be.
        """
        limits.enter("exports", user_id)
        super().__init__(content, media_type=media_type, headers=headers)
        self._leave = partial(limits.leave, "exports", user_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


async def as_json(
    stored: StoredFiles, user_id: str, conversation: Conversation, message_ids: list[str]
) -> AsyncIterator[bytes]:
    """Yield the JSON of a conversation with the messages of *message_ids*, files in them.

    And what clients keep beside those, where they do.
    """
    scope = (stored.db, user_id, conversation.id)
    kept = await exports.beside_conversation(*scope)
    members = {**rest_answers.conversation_json(conversation), **kept, "messages": []}
    yield msgspec.json.encode(members).removesuffix(b"]}")
    separator = b""
    async for page in _pages(stored.db, user_id, conversation, message_ids):
        beside = await exports.beside_messages(*scope, [one.id for one in page])
        for one in page:
            shown = {**rest_answers.message_json(one), **beside.get(one.id, {})}
            parts = shown.pop("parts")
            del shown["siblings"]  # `parent_id` says the same
            yield separator + msgspec.json.encode(shown).removesuffix(b"}") + b',"parts":'
            async for piece in stored.written_out(user_id, parts):
                yield piece
            yield b"}"
            separator = b","
    yield b"]}"


async def as_markdown(
    db: Database, user_id: str, conversation: Conversation, message_ids: list[str]
) -> AsyncIterator[str]:
    """Yield the conversation as Markdown, with the messages of *message_ids*."""
    yield f"# {conversation.title or 'Conversation'}\n"
    async for page in _pages(db, user_id, conversation, message_ids):
        for one in page:
            said = f"{_SPEAKERS[one.role]}, {one.created_at:%Y-%m-%d %H:%M} UTC"
            yield f"\n## {said}\n\n{one.content}\n"


async def everything(stored: StoredFiles, user_id: str) -> AsyncIterator[bytes]:
    """Yield the JSON of all conversations of *user_id*."""
    yield b'{"user_id":%s,"conversations":[' % msgspec.json.encode(user_id)
    async for piece in _conversations(stored, user_id, wrote=lambda: None):
        yield piece
    yield b"]}"


async def account(
    stored: StoredFiles,
    user_id: str,
    found: Belongings,
    *,
    wrote: Callable[[], object] = lambda: None,
) -> AsyncIterator[bytes]:
    """Yield the JSON of *found* and of all conversations; *wrote* is called after each."""
    members = {
        "format": "chatkeep-account-1",
        "user_id": user_id,
        "exported_at": datetime.now(UTC),
        "settings": found.profile,
        "sessions": found.sessions,
        "shares": found.shares,
        "api_keys": found.keys,
        "usage": found.usage,
        "conversations": [],
    }
    yield msgspec.json.encode(members).removesuffix(b"]}")
    async for piece in _conversations(stored, user_id, wrote=wrote):
        yield piece
    yield b'],"files":['
    async for piece in _unsent_files(stored, user_id):
        yield piece
    yield b"]}"


async def _unsent_files(stored: StoredFiles, user_id: str) -> AsyncIterator[bytes]:
    """The files that stand in no message, with what is in them."""
    after, separator = "", b""
    while page := await files.list_files(
        stored.db, user_id, limit=_AT_A_TIME, after=after, unsent=True
    ):
        for one in page:
            try:
                file = await stored.read(user_id, one.id)
            except NotFound:
                continue  # erased while the export runs
            members = {"id": one.id, "filename": one.name, "mediaType": one.media_type}
            yield separator
            for piece in with_file({**members, "created_at": one.created_at}, file):
                yield piece
            separator = b","
        after = page[-1].id


async def _conversations(
    stored: StoredFiles, user_id: str, *, wrote: Callable[[], object]
) -> AsyncIterator[bytes]:
    after, separator = "", b""
    while page := await conversations.list_by_id(stored.db, user_id, limit=_AT_A_TIME, after=after):
        for one in page:
            try:
                whole = await conversations.get_whole(stored.db, user_id, one.id)
            except NotYourConversation:
                continue  # deleted while the export runs
            yield separator
            async for piece in as_json(stored, user_id, *whole):
                yield piece
            separator = b","
            wrote()
        after = page[-1].id


async def _pages(
    db: Database, user_id: str, conversation: Conversation, message_ids: list[str]
) -> AsyncIterator[list[Message]]:
    for first in range(0, len(message_ids), _MESSAGES_AT_A_TIME):
        some = message_ids[first : first + _MESSAGES_AT_A_TIME]
        yield await conversations.list_messages(db, user_id, conversation.id, some)
