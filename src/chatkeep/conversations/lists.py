"""Lists of a person's conversations, a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chatkeep.conversations.records import Conversation
from chatkeep.db import as_user

if TYPE_CHECKING:
    from chatkeep.db import Database

#: Newer than everything: where a list without a cursor begins.
FIRST_PAGE: Final = ("infinity", "")


async def list_conversations(
    db: Database, user_id: str, *, limit: int, before: tuple[str, str] = FIRST_PAGE
) -> list[Conversation]:
    """List at most *limit* conversations, newest first, older than *before* (time, id)."""
    return await db.fetch(
        as_user(user_id),
        """
        select id, title, created_at, updated_at from chat.conversations
        where user_id = %s and deleted_at is null and updated_at >= '-infinity'
          and (updated_at, id) < (%s::timestamptz, %s)
        order by updated_at desc, id desc limit %s
        """,
        [user_id, *before, limit],
        row=Conversation,
    )


async def list_by_id(
    db: Database, user_id: str, *, limit: int, after: str = ""
) -> list[Conversation]:
    """List at most *limit* conversations by their ids: no change moves one past the reader."""
    return await db.fetch(
        as_user(user_id),
        """
        select id, title, created_at, updated_at from chat.conversations
        where user_id = %s and deleted_at is null and id > %s order by id limit %s
        """,
        [user_id, after, limit],
        row=Conversation,
    )


async def search_titles(
    db: Database,
    user_id: str,
    words: str,
    *,
    limit: int,
    before: tuple[str, str] = FIRST_PAGE,
) -> list[Conversation]:
    """List as `list_conversations`, only those whose title contains *words* literally."""
    return await db.fetch(
        as_user(user_id),
        """
        select id, title, created_at, updated_at from chat.conversations
        where user_id = %s and deleted_at is null and updated_at >= '-infinity'
          and (updated_at, id) < (%s::timestamptz, %s)
          and strpos(lower(title), lower(%s)) > 0
        order by updated_at desc, id desc limit %s
        """,
        [user_id, *before, words, limit],
        row=Conversation,
    )
