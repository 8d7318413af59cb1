"""What clients of the OpenAI API do to a conversation without asking for an answer.

They add messages to it, erase what one said, and keep notes of their own beside it
(`metadata`). Every function acts as the one user it names; another person's conversation and
one that never was are the same `NotFound`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg.types.json import Jsonb

from chatkeep import files, runs
from chatkeep.conversations import holding, list_messages, search
from chatkeep.conversations.attached import Attached
from chatkeep.conversations.erasing import erasing
from chatkeep.db import ConstraintViolated, Query, as_user
from chatkeep.errors import NotFound, RunInProgress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chatkeep.conversations import Role
    from chatkeep.db import Database

_NOTHING: Final = Attached()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to add; *parts* as `chatkeep.answering.parts` keeps them."""

    id: str
    role: Role
    content: str
    parts: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A conversation, where its branch ends, and its client's notes."""

    id: str
    created_at: datetime
    head_id: str | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


async def describe(db: Database, user_id: str, conversation_id: str) -> Described:
    """Return a conversation of *user_id*. Raises `NotFound`."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select c.id, c.created_at, c.head_id, coalesce(m.metadata, '{}') as metadata
        from chat.conversations c
        left join chat.conversation_metadata m
          on m.user_id = c.user_id and m.conversation_id = c.id
        where c.user_id = %s and c.id = %s and c.deleted_at is null
        """,
        [user_id, conversation_id],
        row=Described,
    )
    if not rows:
        raise NotFound
    return rows[0]


def making(user_id: str, conversation_id: str, title: str | None) -> Query[Any]:
    """Return the statement that makes an empty conversation under a new id."""
    return Query(
        """
        insert into chat.conversations (user_id, id, title)
        values (%(user)s, %(conversation)s, %(title)s) returning id
        """,
        {"user": user_id, "conversation": conversation_id, "title": title},
        _Id,
    )


def describing(user_id: str, conversation_id: str, metadata: Mapping[str, str]) -> Query[Any]:
    """Return the statement that keeps a client's notes in place of those before."""
    return Query(
        """
        insert into chat.conversation_metadata (user_id, conversation_id, metadata)
        select user_id, id, %(metadata)s::jsonb from chat.conversations
        where user_id = %(user)s and id = %(conversation)s and deleted_at is null
        on conflict (user_id, conversation_id) do update set metadata = excluded.metadata
        returning conversation_id as id
        """,
        {"user": user_id, "conversation": conversation_id, "metadata": Jsonb(dict(metadata))},
        _Id,
    )


def adding(
    user_id: str,
    conversation_id: str,
    messages: Sequence[NewMessage],
    *,
    below: str | None = None,
    idle: bool = False,
    title: str | None = None,
) -> Query[Any]:
    """Return the statement that adds *messages*, each below the one before.

    The first hangs below the message *below*, or below the end of the branch that is shown;
    the last is its end then. When *idle*, nothing happens while an answer is made or waits.
    """
    parents = [below, *(one.id for one in messages[:-1])]
    return Query(
        """
        with c as materialized (
          select id, head_id from chat.conversations
          where user_id = %(user)s and id = %(conversation)s and deleted_at is null
            and not (%(idle)s and exists (
              select from chat.runs r where r.user_id = %(user)s
                and r.conversation_id = %(conversation)s and r.state in ('queued', 'running')))
          for update
        ), added as (
          insert into chat.messages
            (user_id, conversation_id, id, parent_id, role, content, parts, created_at)
          select %(user)s, c.id, m.id, coalesce(m.parent_id, c.head_id), m.role, m.content,
            m.parts::jsonb, clock_timestamp()
          from c cross join unnest(%(ids)s::text[], %(parents)s::text[], %(roles)s::text[],
            %(contents)s::text[], %(parts)s::text[]) as m (id, parent_id, role, content, parts)
        )
        update chat.conversations set head_id = %(last)s, updated_at = now(),
          title = coalesce(title, %(title)s)
        where user_id = %(user)s and id = %(conversation)s and exists (select from c)
        returning id
        """,
        {
            "user": user_id,
            "conversation": conversation_id,
            "idle": idle,
            "ids": [one.id for one in messages],
            "parents": parents,
            "roles": [one.role for one in messages],
            "contents": [one.content for one in messages],
            "parts": [_json(one.parts) for one in messages],
            "last": messages[-1].id,
            "title": title,
        },
        _Id,
    )


def answering(
    user_id: str,
    conversation_id: str,
    message_id: str,
    parts: Sequence[dict[str, Any]],
    *,
    idle: bool = False,
) -> Query[Any]:
    """Return the statement that writes into an answer what its tools have said since.

    When *idle*, nothing happens while an answer is made or waits.
    """
    return Query(
        """
        update chat.messages set parts = %(parts)s::jsonb
        where user_id = %(user)s and conversation_id = %(conversation)s and id = %(message)s
          and role = 'assistant' and not (%(idle)s and exists (
            select from chat.runs r where r.user_id = %(user)s
              and r.conversation_id = %(conversation)s and r.state in ('queued', 'running')))
        returning id
        """,
        {
            "user": user_id,
            "conversation": conversation_id,
            "idle": idle,
            "message": message_id,
            "parts": Jsonb(list(parts)),
        },
        _Id,
    )


async def make(
    db: Database,
    user_id: str,
    conversation_id: str,
    *,
    title: str | None,
    metadata: Mapping[str, str],
    messages: Sequence[NewMessage],
) -> None:
    """Make a conversation with these *messages*, whole or not at all.

    One that has this id was made by the same request before, and stays as it is.
    """
    more = [adding(user_id, conversation_id, messages)] if messages else []
    more += _using_files(user_id, conversation_id, messages)
    try:
        await db.fetch_all(
            as_user(user_id),
            making(user_id, conversation_id, title),
            describing(user_id, conversation_id, metadata),
            *more,
        )
    except ConstraintViolated as violated:
        if not violated.name.startswith("conversations_"):
            raise


async def keep_metadata(
    db: Database, user_id: str, conversation_id: str, metadata: Mapping[str, str]
) -> Described:
    """Keep a client's notes in place of those before. Raises `NotFound`."""
    (kept,) = await db.fetch_all(as_user(user_id), describing(user_id, conversation_id, metadata))
    if not kept:
        raise NotFound
    return await describe(db, user_id, conversation_id)


async def add(
    db: Database,
    user_id: str,
    conversation_id: str,
    messages: Sequence[NewMessage],
    *,
    answered: tuple[str, Sequence[dict[str, Any]]] | None = None,
    title: str | None = None,
) -> None:
    """Add *messages* at the end of the branch that is shown.

    *answered*: an answer there, and its parts with what its tools have said since.

    Raises:
        NotFound: no such conversation of this user.
        RunInProgress: an answer is being made in it.
    """
    queries = [holding(user_id, conversation_id)]
    if answered is not None:
        queries.append(answering(user_id, conversation_id, *answered, idle=True))
    if messages:
        queries.append(adding(user_id, conversation_id, messages, idle=True, title=title))
    sent = _using_files(user_id, conversation_id, messages)
    done = await db.fetch_all(as_user(user_id), *queries, *sent)
    if not all(done[: len(queries)]):
        raise await _why_not(db, user_id, conversation_id, is_there=bool(done[0]))


def _using_files(
    user_id: str, conversation_id: str, messages: Sequence[NewMessage]
) -> list[Query[Any]]:
    """The statements that say which files the conversation has now."""
    found = [file_id for one in messages for file_id in files.in_parts(one.parts)]
    return files.using(user_id, conversation_id, found)


async def erase(
    db: Database,
    user_id: str,
    conversation_id: str,
    message_id: str,
    *,
    content: str,
    parts: Sequence[dict[str, Any]] | None,
    part_id: str,
    attached: Attached = _NOTHING,
) -> list[str]:
    """Leave of a message only *content* and *parts*; it stays as a joint of its branch.

    ChatKit may have a copy of what goes, under the message's id or *part_id*. What was *attached*
    goes with it; return where the bytes of its files were, if elsewhere.

    Raises:
        RunInProgress: the conversation is being answered.
        NotFound: no such message.
    """
    said = erasing(
        user_id,
        conversation_id,
        message_id,
        attached,
        content=content,
        parts=parts,
        part_id=part_id,
        idle=True,
    )
    leaving = files.leaving(user_id, conversation_id, attached.file_ids)
    unfound = search.reading_again(conversation_id, message_id)
    held = holding(user_id, conversation_id)
    there, erased, _, *left = await db.fetch_all(as_user(user_id), held, said, unfound, *leaving)
    if not erased:
        found = there and await list_messages(db, user_id, conversation_id, [message_id])
        raise await _why_not(db, user_id, conversation_id, is_there=bool(found))
    return files.objects_left(left)


async def _why_not(
    db: Database, user_id: str, conversation_id: str, *, is_there: bool
) -> NotFound | RunInProgress:
    """Return why nothing could be changed: it was not there, or the conversation was answered.

    The answer may have ended since.
    """
    running = await runs.find_active(db, user_id, conversation_id)
    if running is None and not is_there:
        return NotFound()
    return RunInProgress(run_id=running or "")


def _json(parts: Sequence[dict[str, Any]] | None) -> str | None:
    return None if parts is None else msgspec.json.encode(list(parts)).decode()
