"""How a conversation is started, renamed, shown, deleted and restored."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString

from chatkeep.batches import Batch
from chatkeep.conversations.records import Conversation
from chatkeep.db import WORKER, Query, as_user
from chatkeep.errors import NotYourConversation
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from chatkeep.db import Database

_PURGED_TOGETHER: Final = 200
#: Nobody waits for what nobody sees any more, and one conversation may be as long as it likes.
_PURGE_WITHIN: Final = "10min"
_PURGE_PATIENCE_S: Final = 610.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


def holding(user_id: str, conversation_id: str) -> Query[Any]:
    """Return the statement that lets others who change a conversation wait until the end.

    It comes first in a transaction: what stands after it sees whatever those did who had the
    conversation until then. A statement that waits in its middle sees what was there before, of
    every row but the one that it has waited for. One row, if the conversation is there.
    """
    return Query(
        """
        select id from chat.conversations
        where user_id = %(user)s and id = %(conversation)s and deleted_at is null
        for update
        """,
        {"user": user_id, "conversation": conversation_id},
        _Id,
    )


async def start_conversation(
    db: Database, user_id: str, *, greeting: str, conversation_id: str | None = None
) -> str:
    """Make a conversation whose first message is the assistant's *greeting*; return its id.

    One that is there already, by its *conversation_id*, is left as it is.
    """
    conversation_id, message_id = conversation_id or new_id(), new_id()
    await db.execute(
        as_user(user_id),
        """
        with made as (
          insert into chat.conversations (user_id, id, head_id)
          values (%(user)s, %(conversation)s, %(message)s)
          on conflict (user_id, id) do nothing
          returning id
        )
        insert into chat.messages (user_id, conversation_id, id, role, content)
        select %(user)s, id, %(message)s, 'assistant', %(greeting)s from made
        """,
        {
            "user": user_id,
            "conversation": conversation_id,
            "message": message_id,
            "greeting": greeting,
        },
    )
    return conversation_id


async def rename(db: Database, user_id: str, conversation_id: str, title: str) -> Conversation:
    """Give the conversation the title that a person typed, without moving it in the list."""
    rows = await db.fetch(
        as_user(user_id),
        """
        update chat.conversations set title = %s, title_typed = true
        where user_id = %s and id = %s and deleted_at is null
        returning id, title, created_at, updated_at
        """,
        [title, user_id, conversation_id],
        row=Conversation,
    )
    return _only(rows)


async def show_branch(
    db: Database, user_id: str, conversation_id: str, message_id: str
) -> Conversation:
    """Show the branch through *message_id*: down to its newest descendant."""
    rows = await db.fetch(
        as_user(user_id),
        """
        with recursive down as (
          select id, 1 as depth from chat.messages
          where user_id = %(user)s and conversation_id = %(conversation)s and id = %(message)s
          union all
          select (
            select c.id from chat.messages c
            where c.user_id = %(user)s and c.conversation_id = %(conversation)s
              and c.parent_id = d.id
            order by c.created_at desc, c.id desc limit 1
          ), d.depth + 1
          from down d where d.id is not null
        )
        update chat.conversations set head_id = found.id
        from (select id from down where id is not null order by depth desc limit 1) found
        where user_id = %(user)s and conversations.id = %(conversation)s and deleted_at is null
        returning conversations.id, title, created_at, updated_at
        """,
        {"user": user_id, "conversation": conversation_id, "message": message_id},
        row=Conversation,
    )
    return _only(rows)


async def delete(db: Database, user_id: str, conversation_id: str) -> None:
    """Hide the conversation; it can be restored until it is purged."""
    rows = await db.fetch(
        as_user(user_id),
        """
        update chat.conversations set deleted_at = now()
        where user_id = %s and id = %s and deleted_at is null returning id
        """,
        [user_id, conversation_id],
        row=_Id,
    )
    if not rows:
        raise NotYourConversation


async def restore(db: Database, user_id: str, conversation_id: str) -> Conversation:
    """Undo `delete`, within a day; one that is there stays, so that it can be asked again."""
    rows = await db.fetch(
        as_user(user_id),
        """
        update chat.conversations set deleted_at = null
        where user_id = %s and id = %s
          and (deleted_at is null or deleted_at >= now() - interval '24 hours')
        returning id, title, created_at, updated_at
        """,
        [user_id, conversation_id],
        row=Conversation,
    )
    return _only(rows)


async def purge_deleted(db: Database) -> int:
    """Erase for good what was deleted more than a day ago, a few at a time; return how many.

    0 while another node is at it.

    Raises:
        Unavailable: the database is away; what was erased stays erased.
    """
    purged, batch = 0, Batch(most=_PURGED_TOGETHER)
    while True:
        began = time.monotonic()
        some = await _purge(db, batch.size)
        if not some:
            return purged
        purged += some
        batch.took(time.monotonic() - began)


async def _purge(db: Database, size: int) -> int:
    async with db.acting_as(WORKER, patience_s=_PURGE_PATIENCE_S) as connection:
        cursor = await connection.execute(_ALONE)
        if await cursor.fetchone() != (True,):
            return 0
        await connection.execute(
            "select set_config('statement_timeout', %s, true)", [_PURGE_WITHIN]
        )
        return (await connection.execute(_PURGE, [size])).rowcount


def _only(rows: list[Conversation]) -> Conversation:
    if not rows:
        raise NotYourConversation
    return rows[0]


# Else each node would wait, with a connection, for what another one erases.
_ALONE: LiteralString = "select pg_try_advisory_xact_lock(hashtextextended('chatkeep purge', 0))"

# The worker sees of a conversation when it was deleted, and nothing else.
_PURGE: LiteralString = """
delete from chat.conversations where deleted_at <= (
  select max(oldest.deleted_at) from (
    select deleted_at from chat.conversations where deleted_at < now() - interval '24 hours'
    order by deleted_at limit %s) oldest)
"""
