"""Answers that wait for their turn, because their conversation is being answered.

One that waits is a run like any other, below what is said before it: the order is that of
the messages. Nobody holds it. Whichever node ends the answer before it begins it, or any that
finds nobody doing so; what it was asked with is kept until then. It is charged when it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from chatkeep import runs
from chatkeep.answering.refusals import find_repeated
from chatkeep.conversations import holding
from chatkeep.db import AUTH, WORKER, ConstraintViolated, Query, as_user
from chatkeep.ended_credentials import everything_has_ended
from chatkeep.errors import (
    NotFound,
    NotWaiting,
    QueueFull,
    TokenRevoked,
)
from chatkeep.llm.model import ModelSettings
from chatkeep.notifications import Told
from chatkeep.policies import Choices
from chatkeep.principal import Principal

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.answering.turns import Turn
    from chatkeep.db import Database

PER_CONVERSATION_AT_MOST: Final = 10
PER_USER_AT_MOST: Final = 50
#: An answer that nobody could begin for so long is not wanted any more.
WAITS_AT_MOST: Final = timedelta(hours=1)
_LOOKED_FOR_AT_MOST: Final = 100
_WHO: Final = (
    *("issuer", "subject", "credential", "session_id", "token_id", "email", "email_verified"),
    *("name", "role", "aal"),
)
_HOW: Final = ("model", "temperature", "top_p", "max_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A run that waits. *place* counts from 1."""

    id: str
    message_id: str
    user_message_id: str
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """The run whose turn it is, and what it was asked with."""

    id: str
    message_id: str
    user_message_id: str
    model: str
    content: str
    asked: dict[str, Any]
    queued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A conversation in which somebody waits and nobody is answered."""

    user_id: str
    conversation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Locked:
    id: str
    of_user: str


async def enqueue(db: Database, who: Principal, turn: Turn, choices: Choices) -> None:
    """Store the question and let its run wait, behind all that is there already.

    Raises:
        QueueFull: too many wait in this conversation, or of this person.
        AlreadyStarted: the same request has a run already.
        IdempotencyKeyReused: another question was asked with its key.
        NotFound: no such conversation of this user.
    """
    values = {
        "user": who.user_id,
        "conversation": turn.conversation_id,
        "run": turn.run_id,
        "answer": turn.message_id,
        "question": turn.user_message_id,
        "model": turn.model,
        "content": turn.content,
        "parts": None if turn.parts is None else Jsonb(turn.parts),
        "client_id": turn.client_id,
        "request_key": turn.request_key,
        "asked": Jsonb(_asked(who, choices)),
        "lasts": WAITS_AT_MOST,
        "per_conversation": PER_CONVERSATION_AT_MOST,
        "per_user": PER_USER_AT_MOST,
    }
    try:
        # The second statement sees whatever those did who held the locks of the first.
        found, waits, *_ = await db.fetch_all(
            as_user(who.user_id),
            Query(_LOCK, values, _Locked),
            Query(_ENQUEUE, values, _Id),
            *turn.after,
        )
    except ConstraintViolated as violated:
        if (repeated := await find_repeated(db, who.user_id, turn)) is None:
            raise
        raise repeated from violated
    if not found:
        raise NotFound
    if not waits:
        raise QueueFull


async def find_next(db: Database, user_id: str, conversation_id: str) -> Next | None:
    """Find the run whose turn it is; None while one is being made, or when none waits.

    What was asked before everything of its person ended (`ended_credentials`) is given up:
    whoever had taken a token away would be answered, and have tools run, long after.
    """
    values = {"user": user_id, "conversation": conversation_id}
    while rows := await db.fetch(as_user(user_id), _NEXT, values, row=Next):
        found = rows[0]
        issuer = str(found.asked["who"]["issuer"])
        asking = everything_has_ended(user_id, issuer, since=found.queued_at)
        (verdicts,) = await db.fetch_all(AUTH, asking)
        if not verdicts[0].revoked:
            return found
        await give_up(db, user_id, found.id, TokenRevoked.code)
    return None


async def give_up(db: Database, user_id: str, run_id: str, error_code: str) -> None:
    """Let a run that waits fail, because it cannot begin."""
    await db.fetch(
        as_user(user_id),
        """
        update chat.runs set state = 'failed', error_code = %(code)s, ended_at = now(),
          asked = null
        where user_id = %(user)s and id = %(run)s and state = 'queued'
        returning id, pg_notify('chatkeep_tails', id)::text as told
        """,
        {"user": user_id, "run": run_id, "code": error_code},
        row=Told,
    )


async def cancel(db: Database, user_id: str, conversation_id: str, run_id: str | None) -> list[str]:
    """Take a run, or all, out of those that wait; return which.

    What waited behind it is not below it any more, so that no model is asked its question;
    the question is kept, as a branch of its own that ends there.

    Raises:
        NotWaiting: there is this run, and it has begun or ended.
        NotFound: there is no such run, or conversation, of this user.
    """
    cancelled: list[str] = []
    values = {"user": user_id, "conversation": conversation_id, "run": run_id}
    while True:
        found, rows = await db.fetch_all(
            as_user(user_id), holding(user_id, conversation_id), Query(_CANCEL, values, Told)
        )
        if not found:
            raise NotFound
        cancelled += [row.id for row in rows]
        if run_id is None and rows:
            continue
        if run_id is not None and not rows:
            run = await runs.get_run(db, user_id, run_id)
            raise NotWaiting if run.conversation_id == conversation_id else NotFound
        return cancelled


async def list_waiting(db: Database, user_id: str, conversation_id: str) -> list[Waiting]:
    """List the runs that wait in a conversation, the next one first."""
    return await db.fetch(
        as_user(user_id),
        """
        select r.id, r.message_id, m.parent_id as user_message_id,
          (row_number() over (order by r.queued_at, r.id))::int as place
        from chat.runs r
        join chat.conversations c on c.user_id = r.user_id and c.id = r.conversation_id
        -- `offset 0`: looked up by its whole key, however long the conversation is.
        cross join lateral (
          select parent_id from chat.messages where user_id = r.user_id
            and conversation_id = r.conversation_id and id = r.message_id offset 0
        ) m
        where r.user_id = %s and r.conversation_id = %s and r.state = 'queued'
          and c.deleted_at is null
        order by r.queued_at, r.id
        """,
        [user_id, conversation_id],
        row=Waiting,
    )


async def find_held(db: Database) -> list[Held]:
    """Find where somebody waits and nobody is answered: its node has died, or begins it."""
    return await db.fetch(
        WORKER,
        """
        select distinct q.user_id, q.conversation_id from chat.runs q
        where q.state = 'queued' and not exists (
          select from chat.runs r where r.user_id = q.user_id
            and r.conversation_id = q.conversation_id and r.state = 'running'
        )
        limit %s
        """,
        [_LOOKED_FOR_AT_MOST],
        row=Held,
    )


def asked_by(user_id: str, waited: Next) -> tuple[Principal, Choices]:
    """Return who asked for *waited*, and how it is to be answered.

    Their credential held when they asked, whenever it was issued.
    """
    who, how = waited.asked["who"], waited.asked["how"]
    principal = Principal(
        user_id=user_id,
        issued_at=waited.queued_at,
        roles=frozenset(who["roles"]),
        scopes=frozenset(who["scopes"]),
        claims=who["claims"],
        **{name: who[name] for name in _WHO},
    )
    settings = ModelSettings(**{name: how[name] for name in _HOW})
    choices = Choices(
        settings=settings, system_prompt=how["system_prompt"], alone=how.get("alone", False)
    )
    return principal, choices


def _asked(who: Principal, choices: Choices) -> dict[str, Any]:
    return {
        "who": {
            **{name: getattr(who, name) for name in _WHO},
            "roles": sorted(who.roles),
            "scopes": sorted(who.scopes),
            "claims": dict(who.claims),
        },
        "how": {
            **{name: getattr(choices.settings, name) for name in _HOW},
            "system_prompt": choices.system_prompt,
            "alone": choices.alone,
        },
    }


_NEXT = """
select r.id, r.message_id, a.parent_id as user_message_id, r.model, q.content, r.asked,
  coalesce(r.queued_at, r.started_at) as queued_at
from chat.runs r
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
where r.user_id = %(user)s and r.conversation_id = %(conversation)s
  and r.state = 'queued' and c.deleted_at is null
  and not exists (
    select from chat.runs o where o.user_id = r.user_id
      and o.conversation_id = r.conversation_id and o.state = 'running'
  )
order by r.queued_at, r.id limit 1
"""

# Everybody takes the conversation before the person, so that nobody waits for each other.
_LOCK = """
with talk as materialized (
  select id from chat.conversations
  where user_id = %(user)s and id = %(conversation)s and deleted_at is null
  for update
)
select id, pg_advisory_xact_lock(hashtextextended('chatkeep queue ' || %(user)s, 0))::text
  as of_user
from talk
"""

_ENQUEUE = """
with talk as (
  select c.user_id, c.head_id from chat.conversations c
  where c.user_id = %(user)s and c.id = %(conversation)s and c.deleted_at is null
    and (select count(*) from chat.runs r where r.user_id = c.user_id
      and r.conversation_id = c.id and r.state = 'queued') < %(per_conversation)s
    and (select count(*) from chat.runs r where r.user_id = c.user_id and r.state = 'queued')
      < %(per_user)s
), asked as (
  insert into chat.messages
    (user_id, conversation_id, id, parent_id, role, content, parts, client_id)
  select user_id, %(conversation)s, %(question)s, head_id, 'user', %(content)s,
    %(parts)s::jsonb, %(client_id)s
  from talk
), answer as (
  insert into chat.messages
    (user_id, conversation_id, id, parent_id, role, run_id, created_at)
  select user_id, %(conversation)s, %(answer)s, %(question)s, 'assistant', %(run)s,
    clock_timestamp()
  from talk
), shown as (
  update chat.conversations c set head_id = %(answer)s, updated_at = now() from talk
  where c.user_id = talk.user_id and c.id = %(conversation)s
)
insert into chat.runs (user_id, id, conversation_id, message_id, request_key, state, model,
  lease_until, asked, queued_at)
select user_id, %(run)s, %(conversation)s, %(answer)s, %(request_key)s, 'queued', %(model)s,
  now() + %(lasts)s, %(asked)s, clock_timestamp()
from talk
returning id
"""

_CANCEL = """
with gone as (
  update chat.runs g set state = 'stopped', ended_at = now(), asked = null
  where g.user_id = %(user)s and g.state = 'queued' and g.id = (
    select r.id from chat.runs r where r.user_id = g.user_id
      and r.conversation_id = %(conversation)s and r.state = 'queued'
      and (%(run)s::text is null or r.id = %(run)s)
    order by r.queued_at desc, r.id desc limit 1
  )
  returning g.user_id, g.id, g.conversation_id, g.message_id
), place as (
  select gone.*, q.parent_id from gone
  -- `offset 0`: looked up by their whole keys, however long the conversation is.
  cross join lateral (
    select parent_id from chat.messages where user_id = gone.user_id
      and conversation_id = gone.conversation_id and id = gone.message_id offset 0
  ) a
  cross join lateral (
    select parent_id from chat.messages where user_id = gone.user_id
      and conversation_id = gone.conversation_id and id = a.parent_id offset 0
  ) q
), below as (
  update chat.messages m set parent_id = place.parent_id from place
  where m.user_id = place.user_id and m.conversation_id = %(conversation)s
    and m.parent_id = place.message_id
), shown as (
  update chat.conversations c set head_id = place.parent_id from place
  where c.user_id = place.user_id and c.id = place.conversation_id
    and c.head_id = place.message_id
)
select id, pg_notify('chatkeep_tails', id)::text as told from gone
"""
