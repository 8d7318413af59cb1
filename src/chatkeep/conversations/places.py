"""Look-ups in the tree of messages: by id, by branch, and by the answer that is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chatkeep.db import as_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.conversations.records import Role, Status
    from chatkeep.db import Database

#: So many messages of a branch are known at once to who needs them all.
BRANCH_AT_MOST: Final = 20_000


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
    finish_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The conversation that a message stands in, and how many bytes the message has."""

    id: str
    conversation_id: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


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
          select m.* from shown cross join lateral (
            select * from chat.messages where user_id = shown.user_id
              and conversation_id = %(conversation)s and id = shown.id offset 0
          ) m
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
        select m.id, m.parent_id, m.parts, m.run_id, coalesce(r.state, 'done') as status,
          r.finish_reason
        from chat.conversations c
        -- `offset 0`: looked up by their whole keys, whatever else this person has.
        cross join lateral (
          select user_id, id, parent_id, parts, run_id, role from chat.messages
          where user_id = c.user_id and conversation_id = c.id
            and id = case when %(message)s::text is null then c.head_id else %(message)s end
          offset 0
        ) m
        left join lateral (
          select state, finish_reason from chat.runs
          where user_id = m.user_id and id = m.run_id offset 0
        ) r on true
        where c.user_id = %(user)s and c.id = %(conversation)s and c.deleted_at is null
          and m.role = 'assistant' and m.parent_id is not null
        """,
        {"user": user_id, "conversation": conversation_id, "message": message_id},
        row=AnswerShown,
    )
    return rows[0] if rows else None


async def branch_ids(
    db: Database, user_id: str, conversation_id: str, *, from_id: str | None, limit: int
) -> list[str]:
    """Return the ids of at most *limit* messages, newest first, from *from_id* or the end.

    Of the branch that is shown, or of the one through *from_id*. Empty: there is none.
    """
    rows = await db.fetch(
        as_user(user_id),
        """
        with recursive branch as (
          select m.id, m.parent_id, 1 as depth from chat.conversations c
          cross join lateral (
            select id, parent_id from chat.messages
            where user_id = c.user_id and conversation_id = c.id
              and id = case when %(from)s::text is null then c.head_id else %(from)s end offset 0
          ) m
          where c.user_id = %(user)s and c.id = %(conversation)s and c.deleted_at is null
          union all
          select p.*, b.depth + 1 from branch b
          -- `offset 0`: each is looked up by its whole key, however long the conversation is.
          cross join lateral (
            select id, parent_id from chat.messages where user_id = %(user)s
              and conversation_id = %(conversation)s and id = b.parent_id offset 0
          ) p
          where b.depth < %(limit)s
        )
        select id from branch order by depth
        """,
        {"user": user_id, "conversation": conversation_id, "from": from_id, "limit": limit},
        row=_Id,
    )
    return [row.id for row in rows]


async def find_homes(db: Database, user_id: str, message_ids: Sequence[str]) -> list[Home]:
    """Find which of the hundred conversations that *user_id* used last have these messages.

    Nothing finds a message by its id alone, so each of the hundred is looked into by the whole
    key.
    """
    return await db.fetch(
        as_user(user_id),
        """
        with used as materialized (
          select user_id, id from chat.conversations
          where user_id = %(user)s and deleted_at is null and updated_at >= '-infinity'
          order by updated_at desc, id desc limit 100
        )
        select m.id, m.conversation_id, m.size from used
        cross join unnest(%(messages)s::text[]) as named(id)
        -- `offset 0`: looked up by its whole key, however much they have said.
        cross join lateral (
          select id, conversation_id,
            octet_length(content) + coalesce(octet_length(parts::text), 0) as size
          from chat.messages where user_id = used.user_id
            and conversation_id = used.id and id = named.id offset 0
        ) m
        """,
        {"user": user_id, "messages": list(message_ids)},
        row=Home,
    )
