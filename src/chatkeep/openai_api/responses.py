"""Responses: what a client of the OpenAI API asked with, and which part of an answer it got.

A response is a run: its words are the message's, its state and cost the run's. A row here
has what only such a client asks for again. Every function acts as the one user it names; what
is another person's, or of a deleted conversation, is `NotFound`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from psycopg.types.json import Jsonb

from chatkeep.db import Query, as_user
from chatkeep.errors import NotFound
from chatkeep.runs import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from chatkeep.db import Database

Kind = Literal["response", "completion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response(Run):
    """A run that such a client asked for.

    *request* is what was asked beside the input, *input* the ids of the items that it brought.
    Of *parts*, those from *begun* up to *until* (None: all) were said in this run. *alone*:
    the request named no conversation, so this one was made for it.
    """

    request: dict[str, Any]
    input: list[str]
    alone: bool
    started_at: datetime
    ended_at: datetime | None
    until: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


def noting(
    user_id: str,
    run_id: str,
    kind: Kind,
    *,
    request: Mapping[str, Any],
    brought: Sequence[str],
    alone: bool,
) -> Query[Any]:
    """Return the statement that makes a run a response, in the transaction that begins it."""
    return Query(
        """
        insert into chat.responses (user_id, id, kind, request, input, alone)
        select user_id, id, %(kind)s, %(request)s::jsonb, %(input)s::text[], %(alone)s
        from chat.runs where user_id = %(user)s and id = %(run)s
        returning id
        """,
        {
            "user": user_id,
            "run": run_id,
            "kind": kind,
            "request": Jsonb(dict(request)),
            "input": list(brought),
            "alone": alone,
        },
        _Id,
    )


async def get(db: Database, user_id: str, response_id: str, kind: Kind) -> Response:
    """Return a response of *user_id* as it is now. Raises `NotFound`."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select p.id, p.request, p.input, p.alone, r.conversation_id, r.message_id,
          m.parent_id as user_message_id, r.state, r.model, r.finish_reason, r.error_code,
          r.prompt_tokens, r.completion_tokens, r.cost, r.cached_tokens, r.reasoning_tokens,
          r.started_at, r.ended_at, r.begun, r.said_before,
          (
            select n.begun from chat.runs n
            where n.user_id = %(user)s and n.conversation_id = r.conversation_id
              and n.message_id = r.message_id and (n.started_at, n.id) > (r.started_at, r.id)
            order by n.started_at, n.id limit 1
          ) as until, m.content, m.parts
        from chat.responses p
        join chat.runs r on r.user_id = p.user_id and r.id = p.id
        join chat.conversations c on c.user_id = r.user_id and c.id = r.conversation_id
        -- `offset 0`: looked up by its whole key, however long the conversation is.
        cross join lateral (
          select parent_id, content, parts from chat.messages where user_id = %(user)s
            and conversation_id = r.conversation_id and id = r.message_id offset 0
        ) m
        where p.user_id = %(user)s and p.id = %(id)s and p.kind = %(kind)s
          and c.deleted_at is null
        """,
        {"user": user_id, "id": response_id, "kind": kind},
        row=Response,
    )
    if not rows:
        raise NotFound
    return rows[0]


async def forget(db: Database, user_id: str, response_id: str, kind: Kind) -> None:
    """Erase a response, and delete the conversation that was made for it and has no more.

    In a conversation that it was part of, what was said stays. Raises `NotFound`.
    """
    scope = {"user": user_id, "id": response_id, "kind": kind}
    *_, forgotten = await db.fetch_all(
        as_user(user_id), _holding(scope), _deleting_what_was_made_for(scope), _forgetting(scope)
    )
    if not forgotten:
        raise NotFound


def _holding(scope: Mapping[str, object]) -> Query[_Id]:
    """Let who begins an answer in the conversation of a response wait, or be seen afterwards."""
    return Query(
        """
        select id from chat.conversations
        where user_id = %(user)s and id = (
          select conversation_id from chat.runs where user_id = %(user)s and id = %(id)s limit 1)
        for update
        """,
        scope,
        _Id,
    )


def _deleting_what_was_made_for(scope: Mapping[str, object]) -> Query[_Id]:
    """The conversation that a response stands alone in: nothing was said or begun there since."""
    return Query(
        """
        with made as materialized (
          select r.id, r.conversation_id, r.message_id from chat.responses p
          join chat.runs r on r.user_id = p.user_id and r.id = p.id
          where p.user_id = %(user)s and p.id = %(id)s and p.kind = %(kind)s and p.alone
        )
        update chat.conversations c set deleted_at = now()
        where c.user_id = %(user)s and c.id = (select conversation_id from made limit 1)
          and c.deleted_at is null
          and not exists (
            select from chat.runs n where n.user_id = %(user)s
              and n.conversation_id = (select conversation_id from made limit 1)
              and n.id <> %(id)s)
          and not exists (
            select from chat.messages m where m.user_id = %(user)s
              and m.conversation_id = (select conversation_id from made limit 1)
              and m.parent_id = (select message_id from made limit 1))
        returning c.id
        """,
        scope,
        _Id,
    )


def _forgetting(scope: Mapping[str, object]) -> Query[_Id]:
    """A response whose conversation is there, or was deleted with it in this transaction."""
    return Query(
        """
        delete from chat.responses p using chat.runs r
        join chat.conversations c on c.user_id = r.user_id and c.id = r.conversation_id
        where p.user_id = %(user)s and p.id = %(id)s and p.kind = %(kind)s
          and r.user_id = p.user_id and r.id = p.id
          and (c.deleted_at is null or c.deleted_at = now())
        returning p.id
        """,
        scope,
        _Id,
    )
