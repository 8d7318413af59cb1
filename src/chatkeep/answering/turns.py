"""Turns: a question stored and its run begun, in one round trip or not at all.

Why one did not begin is in `refusals`, what an answer becomes afterwards in `runs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from chatkeep import runs
from chatkeep.answering import refusals
from chatkeep.answering.history import reading
from chatkeep.conversations import holding
from chatkeep.db import ConstraintViolated, Query, as_user
from chatkeep.notifications import Told
from chatkeep.runs import Address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chatkeep.answering.history import Said
    from chatkeep.db import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One exchange to begin.

    *content* None: a new answer to *user_message_id*, without a new question. Otherwise the
    question hangs below the head of the conversation, or below *parent_id* when
    *branches* (an edit). *request_key* makes the same request the same run, unless it
    *may_recur* and `forget_request` finds that it has. With *resumed*, the parts that
    *message_id* has already, that answer goes on instead of a new one being made, as long as
    it is still the run *resumes* that waits, where that is said. With
    *continues*, the run that was cut off, so does that answer, with what is kept of it. With
    *begun*, a new answer is made that has these parts from its start. What is done *before*
    and *after* is done in the transaction that begins it.
    """

    conversation_id: str
    run_id: str
    message_id: str
    user_message_id: str
    model: str
    content: str | None
    parts: list[dict[str, Any]] | None = None
    client_id: str | None = None
    branches: bool = False
    parent_id: str | None = None
    may_create: bool = False
    title: str | None = None
    request_key: str | None = None
    may_recur: bool = False
    resumed: list[dict[str, Any]] | None = None
    resumes: str | None = None
    continues: str | None = None
    begun: list[dict[str, Any]] | None = None
    before: Sequence[Query[Any]] = ()
    after: Sequence[Query[Any]] = ()

    @property
    def has(self) -> list[dict[str, Any]]:
        """The parts that the answer has before anybody is asked."""
        return self.resumed or self.begun or []

    @property
    def address(self) -> Address:
        """Where its answer is kept."""
        return Address(
            id=self.run_id,
            conversation_id=self.conversation_id,
            message_id=self.message_id,
            user_message_id=self.user_message_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a turn began with: the history to answer, and the rows of what was done also.

    *paused* is what the run before left, of an answer that goes on (`events.Paused`).
    """

    history: list[Said]
    rows: list[list[Any]]
    paused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    id: str
    paused: str | None = None


async def start(db: Database, user_id: str, turn: Turn, also: Sequence[Query[Any]] = ()) -> Started:
    """Store the question and the run of *turn*, and do *also* after it, in one round trip.

    It is one transaction: what refuses one of *also* refuses the turn, so that nothing of it is
    kept. Of an answer that is continued the history ends with what is kept of it.

    Raises:
        BudgetExhausted: one of *also* found that a budget has too little left.
        AlreadyStarted: the same request has a run already.
        IdempotencyKeyReused: another question was asked with its key.
        RunInProgress: another answer of the conversation is being made, or waits.
        AnswerNotInterrupted: what *turn* continues is whole, or was continued already.
        NotFound: no such conversation of this user.
    """
    values = _values(user_id, turn)
    try:
        found = await db.fetch_all(
            as_user(user_id),
            holding(user_id, turn.conversation_id),
            *turn.before,
            _beginning(turn, values),
            reading(values),
            *also,
            *turn.after,
        )
    except ConstraintViolated as violated:
        raise await refusals.why_violated(db, user_id, turn, violated) from violated
    started, history, *rows = found[1 + len(turn.before) :]
    if not started:
        raise await refusals.why_not_begun(db, user_id, turn)
    return Started(history=list(reversed(history)), rows=rows, paused=started[0].paused)


def _beginning(turn: Turn, values: Mapping[str, object]) -> Query[_Begun]:
    if turn.continues is not None:
        return Query(_CONTINUE, values, _Begun)
    if turn.resumed is not None:
        return Query(_RESUME, values, _Begun)
    return Query(_START, values, _Begun)


async def claim(
    db: Database, user_id: str, turn: Turn, also: Sequence[Query[Any]]
) -> Started | None:
    """Begin the run of *turn*, which waits, and do *also* after it in the same transaction.

    Returns as `start`; None when another node was quicker, or it does not wait any
    more. Raises `ConstraintViolated` as *also* does, and then it goes on waiting.
    """
    values = {
        "user": user_id,
        "conversation": turn.conversation_id,
        "run": turn.run_id,
        "newest": turn.user_message_id,
        "lease": runs.LEASE_S,
    }
    try:
        begun, history, *rows = await db.fetch_all(
            as_user(user_id), Query(_CLAIM, values, Told), reading(values), *also
        )
    except ConstraintViolated as violated:
        if violated.name in {"runs_one_at_a_time", "charges_pkey"}:
            return None
        raise
    return Started(history=list(reversed(history)), rows=rows) if begun else None


def _values(user_id: str, turn: Turn) -> dict[str, object]:
    has = turn.has
    return {
        "user": user_id,
        "conversation": turn.conversation_id,
        "run": turn.run_id,
        "answer": turn.message_id,
        "question": turn.user_message_id,
        "model": turn.model,
        "content": turn.content,
        "parts": None if turn.parts is None else Jsonb(turn.parts),
        "has": Jsonb(has) if has else None,
        "begun": len(has),
        "continues": turn.continues,
        "resumes": turn.resumes,
        "newest": turn.user_message_id if turn.continues is None else turn.message_id,
        "client_id": turn.client_id,
        "branches": turn.branches,
        "parent": turn.parent_id,
        "may_create": turn.may_create,
        "title": turn.title,
        "request_key": turn.request_key,
        "lease": runs.LEASE_S,
    }


_START = """
with old as materialized (
  select user_id, head_id from chat.conversations
  where user_id = %(user)s and id = %(conversation)s and deleted_at is null
  for update
), made as (
  insert into chat.conversations (user_id, id, title, head_id)
  select %(user)s, %(conversation)s, %(title)s, %(answer)s
  where %(may_create)s and not exists (select from old)
  returning id
), place as (
  select case when %(branches)s then %(parent)s else head_id end as parent_id from old
  -- Nobody overtakes those who wait.
  where not exists (select from chat.runs r where r.user_id = old.user_id
    and r.conversation_id = %(conversation)s and r.state = 'queued')
  union all select null from made
), said as (
  insert into chat.messages
    (user_id, conversation_id, id, parent_id, role, content, parts, client_id, run_id, created_at)
  select %(user)s, %(conversation)s, m.* from place cross join lateral (values
    (%(question)s, place.parent_id, 'user', %(content)s::text, %(parts)s::jsonb,
      %(client_id)s::text, null::text, now()),
    (%(answer)s, %(question)s, 'assistant', '', %(has)s::jsonb, null, %(run)s, clock_timestamp())
  ) m (id, parent_id, role, content, parts, client_id, run_id, created_at)
  where m.content is not null
), shown as (
  update chat.conversations
  set head_id = %(answer)s, updated_at = now(), title = coalesce(title, %(title)s)
  where user_id = %(user)s and id = %(conversation)s and exists (select from old)
    and exists (select from place)
)
insert into chat.runs
  (user_id, id, conversation_id, message_id, request_key, state, model, begun, lease_until)
select %(user)s, %(run)s, %(conversation)s, %(answer)s, %(request_key)s, 'running', %(model)s,
  %(begun)s, now() + make_interval(secs => %(lease)s)
from place
returning id
"""

# Only the end of the branch that is shown can go on, and once: what its run left is used up.
_RESUME = """
with old as materialized (
  select user_id, head_id from chat.conversations
  where user_id = %(user)s and id = %(conversation)s and deleted_at is null
  for update
), before as materialized (
  select r.user_id, r.id, r.paused from old
  join chat.messages m on m.user_id = old.user_id
    and m.conversation_id = %(conversation)s and m.id = %(answer)s
  -- `offset 0`: looked up by its whole key, however many this person has.
  cross join lateral (
    select user_id, id, paused from chat.runs
    where user_id = m.user_id and id = m.run_id offset 0
  ) r
), answer as (
  update chat.messages m set parts = %(has)s::jsonb, run_id = %(run)s
  from old
  where m.user_id = %(user)s and m.conversation_id = %(conversation)s and m.id = %(answer)s
    and m.id = old.head_id and m.parent_id = %(question)s and m.role = 'assistant'
    and (%(resumes)s::text is null or m.run_id = %(resumes)s)
  returning m.id
), used_up as (
  update chat.runs r set paused = null
  where r.user_id = (select user_id from before limit 1) and exists (select from answer)
    and r.id = (select id from before where paused is not null limit 1)
), shown as (
  update chat.conversations set updated_at = now(), head_id = %(answer)s
  where user_id = %(user)s and id = %(conversation)s and exists (select from answer)
)
insert into chat.runs
  (user_id, id, conversation_id, message_id, request_key, state, model, begun, lease_until,
    said_before)
select %(user)s, %(run)s, %(conversation)s, %(answer)s, %(request_key)s, 'running', %(model)s,
  %(begun)s, now() + make_interval(secs => %(lease)s), octet_length(%(has)s::jsonb::text)
from answer
returning id, (select paused from before) as paused
"""

# Whoever stopped answering may come back: what it says then is not this run's any more.
_CONTINUE = """
with old as materialized (
  select user_id, head_id from chat.conversations
  where user_id = %(user)s and id = %(conversation)s and deleted_at is null
  for update
), answer as (
  update chat.messages m set run_id = %(run)s
  from old, chat.runs r
  where m.user_id = old.user_id and m.conversation_id = %(conversation)s and m.id = %(answer)s
    and m.id = old.head_id and m.parent_id = %(question)s and m.run_id = %(continues)s
    and r.user_id = old.user_id and r.id = %(continues)s
    and (r.state in ('stopped', 'interrupted')
      or r.state = 'done' and r.finish_reason = 'length')
  returning m.user_id, octet_length(coalesce(m.parts::text, m.content)) as said,
    coalesce(jsonb_array_length(m.parts), (m.content <> '')::integer) as begun
), shown as (
  update chat.conversations c set updated_at = now() from answer
  where c.user_id = answer.user_id and c.id = %(conversation)s
)
insert into chat.runs
  (user_id, id, conversation_id, message_id, request_key, state, model, begun, lease_until,
    said_before)
select %(user)s, %(run)s, %(conversation)s, %(answer)s, %(request_key)s, 'running', %(model)s,
  answer.begun, now() + make_interval(secs => %(lease)s), answer.said
from answer
returning id
"""

# Of two nodes that begin the same one, the second waits for the row and finds it begun; of two
# that begin different ones, the second violates the index.
_CLAIM = """
update chat.runs r set state = 'running', asked = null, started_at = now(),
  lease_until = now() + make_interval(secs => %(lease)s)
where r.user_id = %(user)s and r.id = %(run)s and r.state = 'queued'
returning id, pg_notify('chatkeep_tails', id)::text as told
"""
