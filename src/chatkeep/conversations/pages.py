"""The messages of one conversation: a page of the branch that is shown, or all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep.conversations.records import Conversation, Message
from chatkeep.db import Query, as_user
from chatkeep.errors import NotYourConversation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.db import Database

#: A page ends early with the message that fills it: it is held in memory until it is read.
_PAGE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitting(Message):
    taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


async def get_page(
    db: Database, user_id: str, conversation_id: str, *, limit: int, from_id: str | None = None
) -> tuple[Conversation, list[Message]]:
    """Return the conversation and at most *limit* messages of its branch, oldest first.

    The page ends at *from_id* (inclusive), or at the head; the next page ends at the
    parent of its first message. A page costs as many index look-ups as it has messages,
    however long the conversation is, and ends early when its messages are long.
    """
    scope = {"user": user_id, "conversation": conversation_id, "from": from_id}
    found, messages = await db.fetch_all(as_user(user_id), _shown(scope), _branch(scope, limit))
    if not found:
        raise NotYourConversation
    return found[0], messages


def _shown(scope: Mapping[str, str | None]) -> Query[Conversation]:
    return Query(
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
    )


def _branch(scope: Mapping[str, str | None], limit: int) -> Query[Message]:
    return Query(
        """
        with recursive ending as materialized (
          select coalesce(%(from)s, head_id) as id from chat.conversations
          where user_id = %(user)s and id = %(conversation)s and deleted_at is null
        ), branch as (
          select m.*, 1 as depth, octet_length(m.content)
            + coalesce(octet_length(m.parts::text), 0) as bytes from ending
          cross join lateral (
            select * from chat.messages where user_id = %(user)s
              and conversation_id = %(conversation)s and id = ending.id offset 0
          ) m
          union all
          select p.*, b.depth + 1, b.bytes + octet_length(p.content)
            + coalesce(octet_length(p.parts::text), 0) from branch b
          -- `offset 0`: each is looked up by its whole key, however long the conversation is.
          cross join lateral (
            select * from chat.messages where user_id = %(user)s
              and conversation_id = %(conversation)s and id = b.parent_id offset 0
          ) p
          where b.depth < %(limit)s and b.bytes < %(bytes)s
        ), beside as materialized (
          -- All answers to what the branch answers, and little else: one scan of an index.
          select parent_id from chat.messages
          where user_id = %(user)s and conversation_id = %(conversation)s
            and parent_id >= (select min(parent_id) from branch)
            and parent_id <= (select max(parent_id) from branch)
          order by parent_id limit %(enough)s
        )
        select b.id, b.parent_id, b.role, b.content, b.parts, b.client_id, b.created_at,
          b.run_id, coalesce(r.state, 'done') as status, r.model, r.error_code,
          r.finish_reason, case when b.parent_id is null then
            array(select s.id from chat.messages s where s.user_id = %(user)s
              and s.conversation_id = %(conversation)s and s.parent_id is null
              order by s.created_at, s.id)
          when (select count(*) from beside) < %(enough)s and b.parent_id <> all (array(
            select parent_id from beside group by parent_id having count(*) > 1
          )) then array[b.id]
          else
            array(select s.id from chat.messages s where s.user_id = %(user)s
              and s.conversation_id = %(conversation)s and s.parent_id = b.parent_id
              order by s.created_at, s.id)
          end as siblings
        from branch b
        left join lateral (
          select id, state, model, error_code, finish_reason from chat.runs
          where user_id = %(user)s and conversation_id = %(conversation)s
            and message_id = b.id and b.run_id is not null offset 0
        ) r on r.id = b.run_id
        order by b.depth desc
        """,
        {**scope, "limit": limit, "enough": 2 * limit, "bytes": _PAGE_BYTES},
        Message,
    )


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
          r.finish_reason, array[]::text[] as siblings
        from (select distinct unnest(%(ids)s::text[]) as id) wanted
        -- `offset 0`: before version 17 PostgreSQL may else read all of the conversation.
        cross join lateral (
          select * from chat.messages where user_id = %(user)s
            and conversation_id = %(conversation)s and id = wanted.id offset 0
        ) m
        left join lateral (
          select id, state, model, error_code, finish_reason from chat.runs
          where user_id = %(user)s and conversation_id = %(conversation)s
            and message_id = m.id and m.run_id is not null offset 0
        ) r on r.id = m.run_id
        order by m.created_at, m.id
        """,
        {"user": user_id, "conversation": conversation_id, "ids": ids},
        row=Message,
    )


async def list_fitting(
    db: Database, user_id: str, conversation_id: str, ids: list[str], *, most: int = _PAGE_BYTES
) -> tuple[list[Message], int]:
    """List the messages of the first of *ids*, in their order; return how many ids those were.

    They end with the message that has the *most*-th byte, so there is one at least, if any. An
    id without a message has no length.
    """
    found = await db.fetch(
        as_user(user_id),
        """
        with sized as materialized (
          select w.place, m.*, coalesce(sum(m.size) over (
            order by w.place rows between unbounded preceding and 1 preceding), 0) as before
          from unnest(%(ids)s::text[]) with ordinality as w (wanted, place)
          -- `offset 0`: before version 17 PostgreSQL may else read all of the conversation.
          left join lateral (
            select id, parent_id, role, content, parts, client_id, created_at, run_id,
              octet_length(content) + coalesce(octet_length(parts::text), 0) as size
            from chat.messages where user_id = %(user)s
              and conversation_id = %(conversation)s and id = w.wanted offset 0
          ) m on true
        ), fitting as materialized (
          select *, count(*) over () as taken from sized where before < %(most)s
        )
        select m.id, m.parent_id, m.role, m.content, m.parts, m.client_id, m.created_at,
          m.run_id, coalesce(r.state, 'done') as status, r.model, r.error_code,
          r.finish_reason, array[]::text[] as siblings, m.taken
        from fitting m
        left join lateral (
          select id, state, model, error_code, finish_reason from chat.runs
          where user_id = %(user)s and conversation_id = %(conversation)s
            and message_id = m.id and m.run_id is not null offset 0
        ) r on r.id = m.run_id
        where m.id is not null
        order by m.place
        """,
        {"user": user_id, "conversation": conversation_id, "ids": ids, "most": most},
        row=_Fitting,
    )
    return list(found), found[0].taken if found else len(ids)
