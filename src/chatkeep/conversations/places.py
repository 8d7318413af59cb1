"""Where a message stands in the tree of its conversation, and what answers it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chatkeep.db import as_user

if TYPE_CHECKING:
    from chatkeep.conversations.records import Role, Status
    from chatkeep.db import Database


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
        select m.id, m.parent_id, m.parts, m.run_id, coalesce(r.state, 'done') as status
        from chat.conversations c
        -- `offset 0`: looked up by their whole keys, whatever else this person has.
        cross join lateral (
          select user_id, id, parent_id, parts, run_id, role from chat.messages
          where user_id = c.user_id and conversation_id = c.id
            and id = case when %(message)s::text is null then c.head_id else %(message)s end
          offset 0
        ) m
        left join lateral (
          select state from chat.runs where user_id = m.user_id and id = m.run_id offset 0
        ) r on true
        where c.user_id = %(user)s and c.id = %(conversation)s and c.deleted_at is null
          and m.role = 'assistant' and m.parent_id is not null
        """,
        {"user": user_id, "conversation": conversation_id, "message": message_id},
        row=AnswerShown,
    )
    return rows[0] if rows else None
