"""What ChatKit has beside conversations and messages: rows, and the SQL of them.

Knows nothing of ChatKit's own types: an item is the JSON that it wrote. Every function acts
as the one user it names; what is another person's is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from chatkeep.conversations import search
from chatkeep.db import ConstraintViolated, Query, as_user
from chatkeep.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chatkeep.db import Database

#: How long a thread stays taken when whoever took it has died.
LEASE_S: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadRow:
    """A conversation as a thread. *thread* is what ChatKit has kept of it, if anything."""

    id: str
    title: str | None
    created_at: datetime
    head_id: str | None
    thread: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """An item as ChatKit wrote it. *hidden*: it was taken out of the thread."""

    id: str
    message_id: str | None
    item: dict[str, Any]
    hidden: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item to keep; with a *role* it is a message too, at the end of the branch shown."""

    id: str
    item: dict[str, Any]
    role: str | None = None
    content: str = ""
    parts: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


async def find_thread(db: Database, user_id: str, thread_id: str) -> ThreadRow | None:
    """Find a conversation that was not deleted."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select c.id, c.title, c.created_at, c.head_id, t.thread from chat.conversations c
        left join chat.chatkit_threads t on t.user_id = c.user_id and t.conversation_id = c.id
        where c.user_id = %s and c.id = %s and c.deleted_at is null
        """,
        [user_id, thread_id],
        row=ThreadRow,
    )
    return rows[0] if rows else None


async def list_threads(
    db: Database, user_id: str, *, limit: int, after: str | None, newest_first: bool
) -> list[ThreadRow]:
    """List at most *limit* threads in the order they were made, after the one named *after*."""
    values = {"user": user_id, "after": after, "limit": limit}
    if newest_first:
        return await db.fetch(
            as_user(user_id),
            """
            select c.id, c.title, c.created_at, c.head_id, t.thread from chat.conversations c
            left join lateral (
              select thread from chat.chatkit_threads
              where user_id = c.user_id and conversation_id = c.id offset 0
            ) t on true
            where c.user_id = %(user)s and c.deleted_at is null and c.created_at >= '-infinity'
              and (c.created_at, c.id) < (case when %(after)s::text is null then 'infinity'
                else (select created_at from chat.conversations
                  where user_id = %(user)s and id = %(after)s) end, coalesce(%(after)s, ''))
            order by c.created_at desc, c.id desc limit %(limit)s
            """,
            values,
            row=ThreadRow,
        )
    return await db.fetch(
        as_user(user_id),
        """
        select c.id, c.title, c.created_at, c.head_id, t.thread from chat.conversations c
        left join lateral (
          select thread from chat.chatkit_threads
          where user_id = c.user_id and conversation_id = c.id offset 0
        ) t on true
        where c.user_id = %(user)s and c.deleted_at is null and c.created_at >= '-infinity'
          and (c.created_at, c.id) > (case when %(after)s::text is null then '-infinity'
            else (select created_at from chat.conversations
              where user_id = %(user)s and id = %(after)s) end, coalesce(%(after)s, ''))
        order by c.created_at, c.id limit %(limit)s
        """,
        values,
        row=ThreadRow,
    )


async def save_thread(
    db: Database,
    user_id: str,
    thread_id: str,
    *,
    title: str | None,
    thread: dict[str, Any],
    known: bool,
    retitled: bool,
) -> None:
    """Keep what only ChatKit has of a conversation, and its title, where it is *retitled*.

    It is made where it is not there, unless it was *known*: then it was erased meanwhile.

    Raises:
        NotFound: it was erased or deleted, or this id is somebody else's.
    """
    values = {"user": user_id, "thread": thread_id, "title": title, "kept": Jsonb(thread)}
    try:
        if known:
            changed = {**values, "retitled": retitled}
            rows = await db.fetch(as_user(user_id), _CHANGE, changed, row=_Id)
        else:
            rows = await db.fetch(as_user(user_id), _MAKE, values, row=_Id)
    except ConstraintViolated as violated:
        raise NotFound from violated  # somebody else's id
    if not rows:
        raise NotFound


async def list_items(
    db: Database, user_id: str, thread_id: str, message_ids: Sequence[str]
) -> list[ItemRow]:
    """List the items that belong to these messages in order; '' stands for before all."""
    return await db.fetch(
        as_user(user_id),
        """
        select id, message_id, item, hidden from (
          select i.* from (select distinct unnest(%(messages)s::text[]) as id) wanted
          -- `offset 0`: looked up by their whole keys, however long the thread is.
          cross join lateral (
            select id, message_id, item, hidden, seq from chat.chatkit_items
            where user_id = %(user)s and conversation_id = %(thread)s
              and message_id = wanted.id offset 0
          ) i
          union all
          select id, message_id, item, hidden, seq from chat.chatkit_items
          where user_id = %(user)s and conversation_id = %(thread)s and message_id is null
            and '' = any(%(messages)s)
        ) found
        order by seq
        """,
        {"user": user_id, "thread": thread_id, "messages": list(message_ids)},
        row=ItemRow,
    )


async def find_item(db: Database, user_id: str, thread_id: str, item_id: str) -> ItemRow | None:
    """Find an item that has a row of its own."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select i.id, i.message_id, i.item, i.hidden from chat.chatkit_items i
        join chat.conversations c on c.user_id = i.user_id and c.id = i.conversation_id
        where i.user_id = %s and i.conversation_id = %s and i.id = %s and c.deleted_at is null
        """,
        [user_id, thread_id, item_id],
        row=ItemRow,
    )
    return rows[0] if rows else None


async def add_item(db: Database, user_id: str, thread_id: str, new: NewItem) -> None:
    """Keep an item at the end of the branch that is shown, in one statement.

    Raises:
        NotFound: no such thread of this user.
        Conflict: an item has this id already.
    """
    try:
        rows = await db.fetch(as_user(user_id), _ADD, _values(user_id, thread_id, new), row=_Id)
    except ConstraintViolated as violated:
        raise Conflict("An item with this id is there already.") from violated
    if not rows:
        raise NotFound


async def save_item(
    db: Database, user_id: str, thread_id: str, new: NewItem, *, message_id: str | None
) -> None:
    """Write an item that is there already, and the text of the message that it is, if any."""
    await db.fetch_all(
        as_user(user_id),
        Query(
            """
            with said as (
              update chat.messages set content = %(content)s, parts = %(parts)s::jsonb
              where user_id = %(user)s and conversation_id = %(thread)s and id = %(id)s
                and run_id is null
            )
            insert into chat.chatkit_items (user_id, conversation_id, id, message_id, item)
            values (%(user)s, %(thread)s, %(id)s, %(message)s, %(item)s::jsonb)
            on conflict (user_id, conversation_id, id)
              do update set item = excluded.item, hidden = false
            returning id
            """,
            {**_values(user_id, thread_id, new), "message": message_id},
            _Id,
        ),
        search.reading_again(thread_id, new.id),
    )


async def hide_item(
    db: Database, user_id: str, thread_id: str, item_id: str, *, message_id: str | None
) -> None:
    """Take an item out of the thread and keep what it said."""
    await db.execute(
        as_user(user_id),
        """
        insert into chat.chatkit_items (user_id, conversation_id, id, message_id, item, hidden)
        values (%s, %s, %s, %s, '{}', true)
        on conflict (user_id, conversation_id, id) do update set hidden = true
        """,
        [user_id, thread_id, item_id, message_id],
    )


async def show_items(db: Database, user_id: str, thread_id: str, item_ids: Sequence[str]) -> None:
    """Undo `hide_item` of each, all or none."""
    # One by one: looking for several, PostgreSQL before 17 may read the whole thread.
    await db.fetch_all(
        as_user(user_id),
        *(
            Query(
                """
                update chat.chatkit_items set hidden = false
                where user_id = %s and conversation_id = %s and id = %s and item <> '{}'
                returning id
                """,
                [user_id, thread_id, item_id],
                _Id,
            )
            for item_id in item_ids
        ),
    )


async def show_up_to(db: Database, user_id: str, thread_id: str, message_id: str) -> None:
    """Let the branch that is shown end with *message_id*; what came after it is kept."""
    await db.execute(
        as_user(user_id),
        """
        update chat.conversations set head_id = %(message)s
        where user_id = %(user)s and id = %(thread)s and deleted_at is null and exists (
          select from chat.messages where user_id = %(user)s and conversation_id = %(thread)s
            and id = %(message)s)
        """,
        {"user": user_id, "thread": thread_id, "message": message_id},
    )


async def keep_feedback(
    db: Database, user_id: str, thread_id: str, feedback: dict[str, str]
) -> None:
    """Keep what the person thinks of items, by their ids."""
    await db.execute(
        as_user(user_id),
        """
        insert into chat.chatkit_threads as t (user_id, conversation_id, feedback)
        values (%s, %s, %s)
        on conflict (user_id, conversation_id)
          do update set feedback = t.feedback || excluded.feedback
        """,
        [user_id, thread_id, Jsonb(feedback)],
    )


async def take(db: Database, user_id: str, thread_id: str, token: str) -> bool:
    """Take the thread for one change at a time, or renew it; return whether it is ours."""
    rows = await db.fetch(
        as_user(user_id),
        """
        insert into chat.chatkit_threads as t (user_id, conversation_id, busy_with, busy_until)
        values (%(user)s, %(thread)s, %(token)s, now() + make_interval(secs => %(lease)s))
        on conflict (user_id, conversation_id) do update
          set busy_with = excluded.busy_with, busy_until = excluded.busy_until
          where t.busy_until is null or t.busy_until < now() or t.busy_with = %(token)s
        returning conversation_id as id
        """,
        {"user": user_id, "thread": thread_id, "token": token, "lease": LEASE_S},
        row=_Id,
    )
    return bool(rows)


async def give_back(db: Database, user_id: str, thread_id: str, token: str) -> None:
    """Let others change the thread."""
    await db.execute(
        as_user(user_id),
        """
        update chat.chatkit_threads set busy_with = null, busy_until = null
        where user_id = %s and conversation_id = %s and busy_with = %s
        """,
        [user_id, thread_id, token],
    )


def _values(user_id: str, thread_id: str, new: NewItem) -> dict[str, object]:
    return {
        "user": user_id,
        "thread": thread_id,
        "id": new.id,
        "item": Jsonb(new.item),
        "role": new.role,
        "content": new.content,
        "parts": None if new.parts is None else Jsonb(new.parts),
    }


_ADD = """
with old as materialized (
  select head_id from chat.conversations
  where user_id = %(user)s and id = %(thread)s and deleted_at is null
  for update
), said as (
  insert into chat.messages
    (user_id, conversation_id, id, parent_id, role, content, parts, created_at)
  select %(user)s, %(thread)s, %(id)s, old.head_id, %(role)s, %(content)s, %(parts)s::jsonb,
    clock_timestamp()
  from old where %(role)s::text is not null
), shown as (
  update chat.conversations set updated_at = now(),
    head_id = case when %(role)s::text is null then head_id else %(id)s end
  where user_id = %(user)s and id = %(thread)s and exists (select from old)
)
insert into chat.chatkit_items (user_id, conversation_id, id, message_id, item)
select %(user)s, %(thread)s, %(id)s,
  case when %(role)s::text is null then old.head_id else %(id)s end, %(item)s::jsonb
from old
returning id
"""

_MAKE = """
with kept as (
  insert into chat.conversations as c (user_id, id, title)
  values (%(user)s, %(thread)s, %(title)s)
  on conflict (user_id, id) do update set title = excluded.title,
    title_typed = c.title_typed or coalesce(c.title <> excluded.title, false)
  where c.deleted_at is null
  returning id
)
insert into chat.chatkit_threads (user_id, conversation_id, thread)
select %(user)s, id, %(kept)s::jsonb from kept
on conflict (user_id, conversation_id) do update set thread = excluded.thread
returning conversation_id as id
"""

_CHANGE = """
with kept as (
  update chat.conversations set title = case when %(retitled)s then %(title)s else title end,
    title_typed = title_typed or %(retitled)s and coalesce(title <> %(title)s, false)
  where user_id = %(user)s and id = %(thread)s and deleted_at is null
  returning id
)
insert into chat.chatkit_threads (user_id, conversation_id, thread)
select %(user)s, %(thread)s, %(kept)s::jsonb where exists (select from kept)
on conflict (user_id, conversation_id) do update set thread = excluded.thread
returning conversation_id as id
"""
