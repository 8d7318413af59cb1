"""Runs: one row for each attempt to get an answer, from its start to its explicit end.

A run holds a lease while a process works on it. Whoever stops renewing it (a killed
server) is found by the sweeper, which marks the run `interrupted`, keeps what was said
and never runs it again. Only states and leases are seen by the worker role. What an answer
says meanwhile is kept in `checkpoints`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chatkeep.db import WORKER, Query, as_user
from chatkeep.errors import NotFound
from chatkeep.notifications import Told

if TYPE_CHECKING:
    from decimal import Decimal

    from chatkeep.db import Database

State = Literal["queued", "running", "done", "stopped", "failed", "interrupted"]
#: How long a run may go without a sign of life before it counts as interrupted.
LEASE_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run and what its answer says so far (as of the last checkpoint).

    *begun*: the first so many parts are of runs before it, and had *said_before* bytes; where
    they are kept as parts, they have *grown* by so many since.
    """

    id: str
    conversation_id: str
    message_id: str
    user_message_id: str | None
    state: State
    model: str
    finish_reason: str | None
    error_code: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: Decimal | None
    content: str
    parts: list[dict[str, Any]] | None
    begun: int = 0
    said_before: int = 0
    grown: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will be added any more."""
        return self.state not in {"queued", "running"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the answer of a run is kept."""

    id: str
    conversation_id: str
    message_id: str
    user_message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended; *paused* is where its responder stands, which waits for the person.

    *retry_after_s* is what a provider said to whoever waits here; it is not kept.
    """

    state: Literal["done", "stopped", "failed", "interrupted"]
    finish_reason: str | None = None
    error_code: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: Decimal | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    paused: str | None = None
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that was begun before, and the question that it answers."""

    id: str
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _MaybeId:
    id: str | None


async def get_run(db: Database, user_id: str, run_id: str) -> Run:
    """Return a run with what has been said so far. Raises `NotFound`."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select r.id, r.conversation_id, r.message_id, m.parent_id as user_message_id, r.state,
          r.model, r.finish_reason, r.error_code, r.prompt_tokens, r.completion_tokens, r.cost,
          r.cached_tokens, r.reasoning_tokens, m.content, m.parts, r.begun, r.said_before,
          case when r.said_before > 0 and m.parts is not null then octet_length((
            select jsonb_agg(p.part order by p.place)
            from jsonb_array_elements(m.parts) with ordinality p (part, place)
            where p.place <= r.begun
          )::text) - r.said_before end as grown
        from chat.runs r
        -- `offset 0`: looked up by its whole key, however long the conversation is.
        cross join lateral (
          select parent_id, content, parts from chat.messages where user_id = r.user_id
            and conversation_id = r.conversation_id and id = r.message_id offset 0
        ) m
        where r.user_id = %s and r.id = %s
        """,
        [user_id, run_id],
        row=Run,
    )
    if not rows:
        raise NotFound
    return rows[0]


async def find_active(db: Database, user_id: str, conversation_id: str) -> str | None:
    """Find the run that is answering in a conversation now, or is about to."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select coalesce(
          (select r.id from chat.runs r where r.user_id = c.user_id
            and r.conversation_id = c.id and r.state = 'running'),
          (select r.id from chat.runs r where r.user_id = c.user_id
            and r.conversation_id = c.id and r.state = 'queued'
            order by r.queued_at, r.id limit 1)) as id
        from chat.conversations c
        where c.user_id = %s and c.id = %s and c.deleted_at is null
        """,
        [user_id, conversation_id],
        row=_MaybeId,
    )
    return rows[0].id if rows else None


async def find_newest(db: Database, user_id: str, conversation_id: str) -> str | None:
    """Find the run that began last in a conversation, ended or not."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select r.id from chat.runs r
        join chat.conversations c on c.user_id = r.user_id and c.id = r.conversation_id
        where r.user_id = %s and r.conversation_id = %s and c.deleted_at is null
        order by r.state in ('queued', 'running') desc, r.started_at desc limit 1
        """,
        [user_id, conversation_id],
        row=_Id,
    )
    return rows[0].id if rows else None


async def find_by_request(db: Database, user_id: str, request_key: str) -> Begun | None:
    """Find the run that an earlier copy of the same request began."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select r.id, q.content as question from chat.runs r
        join chat.conversations c on c.user_id = r.user_id and c.id = r.conversation_id
        -- `offset 0`: looked up by their whole keys, however long the conversation is.
        cross join lateral (
          select parent_id from chat.messages where user_id = r.user_id
            and conversation_id = r.conversation_id and id = r.message_id offset 0
        ) a
        cross join lateral (
          select content from chat.messages where user_id = r.user_id
            and conversation_id = r.conversation_id and id = a.parent_id offset 0
        ) q
        where r.user_id = %s and r.request_key = %s and c.deleted_at is null
        """,
        [user_id, request_key],
        row=Begun,
    )
    return rows[0] if rows else None


async def forget_request(db: Database, user_id: str, run_id: str) -> bool:
    """Let the request that began the run be made again; return whether that is right.

    It is when the run failed, or when its answer is on a branch that is not shown any more:
    then the same words do not mean the same request.
    """
    rows = await db.fetch(
        as_user(user_id),
        """
        with recursive run as (
          select id, conversation_id, message_id, state, request_key from chat.runs
          where user_id = %(user)s and id = %(run)s and state not in ('queued', 'running')
        ), shown as (
          select c.head_id as id from run cross join lateral (
            select head_id from chat.conversations
            where user_id = %(user)s and id = run.conversation_id offset 0
          ) c
          union all
          select m.parent_id from shown
          join run on shown.id <> run.message_id
          -- `offset 0`: each is looked up by its whole key, however long the conversation is.
          cross join lateral (
            select parent_id from chat.messages where user_id = %(user)s
              and conversation_id = run.conversation_id and id = shown.id offset 0
          ) m
        )
        update chat.runs r set request_key = null
        from run
        where r.user_id = %(user)s and r.id = %(run)s and run.request_key is not null
          and (run.state in ('failed', 'interrupted')
            or not exists (select from shown where shown.id = run.message_id))
        returning r.id
        """,
        {"user": user_id, "run": run_id},
        row=_Id,
    )
    return bool(rows)


async def request_stop(db: Database, user_id: str, run_id: str) -> None:
    """Ask whichever process works on the run to stop it."""
    await db.fetch_all(
        as_user(user_id),
        Query(
            """
            update chat.runs set stop_requested = true
            where user_id = %s and id = %s and state in ('queued', 'running')
            returning id, pg_notify('chatkeep_runs', id)::text as told
            """,
            [user_id, run_id],
            Told,
        ),
    )


async def sweep(db: Database) -> int:
    """Mark runs without a sign of life as interrupted; return how many."""
    return await db.execute(
        WORKER,
        """
        update chat.runs set state = 'interrupted', ended_at = now(),
          error_code = 'answer_interrupted'
        where (state = 'running' or state = 'queued') and lease_until < now()
        """,
        [],
    )


async def interrupt_all(db: Database) -> int:
    """Mark every run that was begun as interrupted: for a start that is surely alone."""
    return await db.execute(
        WORKER,
        """
        update chat.runs set state = 'interrupted', ended_at = now(),
          error_code = 'answer_interrupted'
        where state = 'running'
        """,
        [],
    )
