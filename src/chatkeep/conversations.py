"""Conversations and their messages: the records, and the SQL that reads and writes them.

Messages form a tree: an edit or a new answer is a sibling, never a replacement. A
conversation's `head_id` names the end of the branch that is shown. Every function acts as
the one user it names; another person's conversation and one that never existed are the
same `NotYourConversation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chatkeep.db import WORKER, Query, as_user
from chatkeep.errors import NotYourConversation
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.db import Database

Role = Literal["system", "user", "assistant"]
Status = Literal["queued", "running", "done", "stopped", "failed", "interrupted"]

#: Newer than everything: where a list without a cursor begins.
FIRST_PAGE = ("infinity", "")
#: A page ends early with the message that fills it: it is held in memory until it is read.
_PAGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation of the caller. *active_run* is the answer being made right now."""

    id: str
    title: str | None
    created_at: datetime
    updated_at: datetime
    active_run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. *parts* is None when it is plain text and nothing else."""

    id: str
    parent_id: str | None
    role: Role
    content: str
    parts: list[dict[str, Any]] | None
    client_id: str | None
    created_at: datetime
    run_id: str | None
    status: Status
    model: str | None
    error_code: str | None
    siblings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a message stands in the tree."""

    id: str
    parent_id: str | None
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShown:
    """An answer of the branch that is shown, and the question above it."""

    id: str
    parent_id: str
    parts: list[dict[str, Any]] | None
    run_id: str | None
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


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


async def list_conversations(
    db: Database, user_id: str, *, limit: int, before: tuple[str, str] = FIRST_PAGE
) -> list[Conversation]:
    """List at most *limit* conversations, newest first, older than *before* (time, id)."""
    return await db.fetch(
        as_user(user_id),
        """
        select id, title, created_at, updated_at from chat.conversations
        where user_id = %s and deleted_at is null and (updated_at, id) < (%s::timestamptz, %s)
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
        where user_id = %s and deleted_at is null and (updated_at, id) < (%s::timestamptz, %s)
          and strpos(lower(title), lower(%s)) > 0
        order by updated_at desc, id desc limit %s
        """,
        [user_id, *before, words, limit],
        row=Conversation,
    )


async def get_page(
    db: Database, user_id: str, conversation_id: str, *, limit: int, from_id: str | None = None
) -> tuple[Conversation, list[Message]]:
    """Return the conversation and at most *limit* messages of its branch, oldest first.

    The page ends at *from_id* (inclusive), or at the head; the next page ends at the
    parent of its first message. A page costs as many index look-ups as it has messages,
    however long the conversation is, and ends early when its messages are long.
    """
    scope = {"user": user_id, "conversation": conversation_id, "from": from_id}
    bounded = {**scope, "limit": limit, "bytes": _PAGE_BYTES}
    found, messages = await db.fetch_all(
        as_user(user_id),
        Query(
            """
            select c.id, c.title, c.created_at, c.updated_at, coalesce(
              (select id from chat.runs where user_id = c.user_id and conversation_id = c.id
                and state = 'running'),
              (select id from chat.runs where user_id = c.user_id and conversation_id = c.id
                and state = 'queued' order by queued_at, id limit 1)) as active_run
            from chat.conversations c
            where c.user_id = %(user)s and c.id = %(conversation)s and c.deleted_at is null
            """,
            scope,
            Conversation,
        ),
        Query(
            """
            with recursive ending as materialized (
              select coalesce(%(from)s, head_id) as id from chat.conversations
              where user_id = %(user)s and id = %(conversation)s and deleted_at is null
            ), branch as (
              select m.*, 1 as depth, octet_length(m.content)
                + coalesce(octet_length(m.parts::text), 0) as bytes from ending
              join chat.messages m on m.user_id = %(user)s
                and m.conversation_id = %(conversation)s and m.id = ending.id
              union all
              select p.*, b.depth + 1, b.bytes + octet_length(p.content)
                + coalesce(octet_length(p.parts::text), 0) from branch b
              join chat.messages p on p.user_id = %(user)s
                and p.conversation_id = %(conversation)s and p.id = b.parent_id
              where b.depth < %(limit)s and b.bytes < %(bytes)s
            )
            select b.id, b.parent_id, b.role, b.content, b.parts, b.client_id, b.created_at,
              b.run_id, coalesce(r.state, 'done') as status, r.model, r.error_code,
              case when b.parent_id is null then
                array(select s.id from chat.messages s where s.user_id = %(user)s
                  and s.conversation_id = %(conversation)s and s.parent_id is null
                  order by s.created_at, s.id)
              else
                array(select s.id from chat.messages s where s.user_id = %(user)s
                  and s.conversation_id = %(conversation)s and s.parent_id = b.parent_id
                  order by s.created_at, s.id)
              end as siblings
            from branch b
            left join chat.runs r on r.user_id = %(user)s and r.id = b.run_id
            order by b.depth desc
            """,
            bounded,
            Message,
        ),
    )
    if not found:
        raise NotYourConversation
    return found[0], messages


async def get_whole(
    db: Database, user_id: str, conversation_id: str
) -> tuple[Conversation, list[str]]:
    """Return the conversation and the ids of all its messages, oldest first: for the export."""
    scope = {"user": user_id, "conversation": conversation_id}
    found, ids = await db.fetch_all(
        as_user(user_id),
        Query(
            """
            select id, title, created_at, updated_at from chat.conversations
            where user_id = %(user)s and id = %(conversation)s and deleted_at is null
            """,
            scope,
            Conversation,
        ),
        Query(
            """
            select id from chat.messages
            where user_id = %(user)s and conversation_id = %(conversation)s
            order by created_at, id
            """,
            scope,
            _Id,
        ),
    )
    if not found:
        raise NotYourConversation
    return found[0], [one.id for one in ids]


async def list_messages(
    db: Database, user_id: str, conversation_id: str, ids: list[str]
) -> list[Message]:
    """List the messages that have these *ids*, oldest first, on whichever branch they are."""
    return await db.fetch(
        as_user(user_id),
        """
        select m.id, m.parent_id, m.role, m.content, m.parts, m.client_id, m.created_at,
          m.run_id, coalesce(r.state, 'done') as status, r.model, r.error_code,
          array[]::text[] as siblings
        from chat.messages m
        left join chat.runs r on r.user_id = m.user_id and r.id = m.run_id
        where m.user_id = %s and m.conversation_id = %s and m.id = any(%s)
        order by m.created_at, m.id
        """,
        [user_id, conversation_id, ids],
        row=Message,
    )


async def find_place(
    db: Database, user_id: str, conversation_id: str, message_id: str | None
) -> Place | None:
    """Find a message by our id or the client's own, or the head when *message_id* is None."""
    rows = await db.fetch(
        as_user(user_id),
        """
        with shown as materialized (
          select user_id, coalesce(%(message)s, head_id) as id
          from chat.conversations
          where user_id = %(user)s and id = %(conversation)s and deleted_at is null
        ), named as (
          select m.* from shown join chat.messages m on m.user_id = shown.user_id
            and m.conversation_id = %(conversation)s and m.id = shown.id
          union all
          select m.* from shown join chat.messages m on m.user_id = shown.user_id
            and m.conversation_id = %(conversation)s and m.client_id = %(message)s
        )
        select id, parent_id, role from named order by created_at desc limit 1
        """,
        {"user": user_id, "conversation": conversation_id, "message": message_id},
        row=Place,
    )
    return rows[0] if rows else None


async def find_answer(
    db: Database, user_id: str, conversation_id: str, message_id: str | None
) -> AnswerShown | None:
    """Find an answer by our id, or the one at the head when *message_id* is None."""
    rows = await db.fetch(
        as_user(user_id),
        """
        with shown as materialized (
          select user_id, coalesce(%(message)s, head_id) as id
          from chat.conversations
          where user_id = %(user)s and id = %(conversation)s and deleted_at is null
        )
        select m.id, m.parent_id, m.parts, m.run_id, coalesce(r.state, 'done') as status
        from shown
        join chat.messages m on m.user_id = shown.user_id
          and m.conversation_id = %(conversation)s and m.id = shown.id
        left join chat.runs r on r.user_id = m.user_id and r.id = m.run_id
        where m.role = 'assistant' and m.parent_id is not null
        """,
        {"user": user_id, "conversation": conversation_id, "message": message_id},
        row=AnswerShown,
    )
    return rows[0] if rows else None


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
    """Undo `delete`; one that is there stays, so that it can be asked again."""
    rows = await db.fetch(
        as_user(user_id),
        """
        update chat.conversations set deleted_at = null
        where user_id = %s and id = %s
        returning id, title, created_at, updated_at
        """,
        [user_id, conversation_id],
        row=Conversation,
    )
    return _only(rows)


async def purge_deleted(db: Database) -> int:
    """Erase for good what was deleted more than a day ago; return how many."""
    return await db.execute(
        WORKER,
        "delete from chat.conversations where deleted_at < now() - interval '24 hours'",
        [],
    )


async def erase_all(db: Database, user_id: str) -> int:
    """Erase everything a person said, for good and at once; return how many conversations."""
    return await db.execute(
        as_user(user_id),
        """
        with files as (delete from chat.chatkit_attachments where user_id = %(user)s),
          answers as (delete from chat.idempotency_keys where user_id = %(user)s)
        delete from chat.conversations where user_id = %(user)s
        """,
        {"user": user_id},
    )


def _only(rows: list[Conversation]) -> Conversation:
    if not rows:
        raise NotYourConversation
    return rows[0]
