"""What a run has said so far: kept by whoever works on it, read by those who follow elsewhere.

What an answer says is written where all of its keys say that it belongs, and only while its run
has not ended: of many by one function (`chat.keep_answers`). With the last of it comes the end,
which is written as the user whose answer it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Json, Jsonb

from chatkeep.db import WORKER, Query, as_user
from chatkeep.errors import NotFound
from chatkeep.notifications import Told
from chatkeep.runs import LEASE_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from chatkeep.db import Database
    from chatkeep.runs import Address, Ending, Run, State


#: More would be taken by `chat.keep_answers` for answers that are not there.
_KEPT_AT_MOST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was said so far in a run. With *tells*, those who follow elsewhere hear of it."""

    user_id: str
    run: Address
    content: str
    parts: Sequence[dict[str, Any]] | None
    tells: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """How a run stands, and what its answer has more. *parts* None: no more, or text alone."""

    state: State
    model: str
    finish_reason: str | None
    error_code: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: Decimal | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    said: int
    more: str
    parts: list[dict[str, Any]] | None

    def of(self, run: Run) -> Run:
        """Return *run* as it stands now, with what it said as it was."""
        return replace(
            run,
            state=self.state,
            model=self.model,
            finish_reason=self.finish_reason,
            error_code=self.error_code,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost=self.cost,
            cached_tokens=self.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Id:
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    n: int
    stop_requested: bool
    told: str | None


async def keep(db: Database, some: Sequence[Checkpoint]) -> list[bool]:
    """Keep what *some* runs said so far and renew their leases, in one round trip; all or none.

    Returns for each whether it must stop: somebody asked for it, or it was erased. The message
    is written only by who holds the run's row: a checkpoint that the database delayed can never
    write its older text over the end. Nor over what another run has said since, where the
    answer was given up and continued.

    Raises:
        ValueError: more than 1,000 at once.
    """
    if len(some) > _KEPT_AT_MOST:
        raise ValueError(f"not more than {_KEPT_AT_MOST} checkpoints together")
    given = [_given(number, one) for number, one in enumerate(some)]
    kept = await db.fetch(
        WORKER,
        "select n, stop_requested, told from chat.keep_answers(%(given)s, %(lease)s)",
        {"given": Json(given), "lease": LEASE_S},
        row=_Kept,
    )
    must_stop = {one.n: one.stop_requested for one in kept}
    # No row: the conversation was erased meanwhile, so there is nobody to answer.
    return [must_stop.get(number, True) for number in range(len(some))]


async def finish(
    db: Database,
    user_id: str,
    run: Address,
    ending: Ending,
    *,
    content: str,
    parts: Sequence[dict[str, Any]] | None,
    title: str | None,
    also: Sequence[Query[Any]] = (),
) -> bool:
    """Keep the whole answer and how it ended, in one round trip; *also* in its transaction.

    Returns whether another question of the conversation waits to be answered.

    A run that the sweeper gave up while the database was away is set right here: it did
    end as *ending* says.
    """
    _, *_, next_one = await db.fetch_all(
        as_user(user_id),
        Query(
            _FINISH,
            {
                **_address(user_id, run),
                "content": content,
                "parts": _json(parts),
                "title": title,
                **{name: getattr(ending, name) for name in ending.__slots__},
            },
            _Id,
        ),
        *also,
        Query(_NEXT_IN_LINE, _address(user_id, run), _Id),
    )
    return bool(next_one)


async def fail(db: Database, user_id: str, run: Address, error_code: str) -> None:
    """Say that a run has failed whose end cannot be kept; what was kept of its answer stays."""
    await db.execute(
        as_user(user_id),
        """
        update chat.runs set state = 'failed', ended_at = now(), error_code = %(code)s
        where user_id = %(user)s and id = %(run)s
          and conversation_id = %(conversation)s and message_id = %(message)s
          and state in ('queued', 'running')
        """,
        {**_address(user_id, run), "code": error_code},
    )


def telling(run_id: str) -> Query[Told]:
    """Return the statement that tells those who follow on other nodes that there is news."""
    return Query(
        "select %(run)s as id, pg_notify('chatkeep_tails', %(run)s)::text as told",
        {"run": run_id},
        Told,
    )


async def get_news(db: Database, user_id: str, run_id: str, *, has: int, said: int) -> News:
    """Return how a run stands, and what its answer says more than *has* characters of text.

    An answer that is more than text comes whole, if it says another number of bytes than *said*
    or has ended.

    Raises:
        NotFound: it was erased meanwhile.
    """
    rows = await db.fetch(
        as_user(user_id),
        """
        select r.state, r.model, r.finish_reason, r.error_code, r.prompt_tokens,
          r.completion_tokens, r.cost, r.cached_tokens, r.reasoning_tokens, r.said,
          case when m.parts is null then substr(m.content, %(has)s::integer + 1) else '' end
            as more,
          case when r.said <> %(said)s::integer or r.state not in ('queued', 'running')
            then m.parts end as parts
        from chat.runs r
        cross join lateral (
          select content, parts from chat.messages
          where user_id = r.user_id and conversation_id = r.conversation_id and id = r.message_id
          offset 0
        ) m
        where r.user_id = %(user)s and r.id = %(run)s
        """,
        {"user": user_id, "run": run_id, "has": has, "said": said},
        row=News,
    )
    if not rows:
        raise NotFound
    return rows[0]


async def ask_for_news(db: Database, user_id: str, run_id: str) -> None:
    """Ask whichever process works on the run to tell of its checkpoints for a while."""
    await db.fetch(
        as_user(user_id),
        "select %(run)s as id, pg_notify('chatkeep_tails', '?' || %(run)s)::text as told",
        {"run": run_id},
        row=Told,
    )


def _given(number: int, one: Checkpoint) -> dict[str, object]:
    return {
        "n": number,
        "user_id": one.user_id,
        "conversation_id": one.run.conversation_id,
        "message_id": one.run.message_id,
        "run_id": one.run.id,
        "content": one.content,
        "parts": one.parts,
        "tells": one.tells,
    }


def _json(parts: Sequence[dict[str, Any]] | None) -> Jsonb | None:
    return None if parts is None else Jsonb(list(parts))


def _address(user_id: str, run: Address) -> dict[str, object]:
    return {
        "user": user_id,
        "conversation": run.conversation_id,
        "message": run.message_id,
        "run": run.id,
    }


_FINISH = """
with run as (
  update chat.runs set state = %(state)s, ended_at = now(),
    finish_reason = %(finish_reason)s, error_code = %(error_code)s,
    model = coalesce(%(model)s, model), prompt_tokens = %(prompt_tokens)s,
    completion_tokens = %(completion_tokens)s, cost = %(cost)s,
    cached_tokens = %(cached_tokens)s, reasoning_tokens = %(reasoning_tokens)s,
    paused = %(paused)s
  where user_id = %(user)s and id = %(run)s
    and conversation_id = %(conversation)s and message_id = %(message)s
    and state in ('queued', 'running', 'interrupted')
  returning id
), answer as (
  update chat.messages m set content = %(content)s, parts = %(parts)s::jsonb
  from run
  where m.user_id = %(user)s and m.conversation_id = %(conversation)s
    and m.id = %(message)s and m.run_id = %(run)s
)
update chat.conversations
set updated_at = now(), title = coalesce(title, %(title)s)
where user_id = %(user)s and id = %(conversation)s
returning id
"""

# Whoever let one wait held the conversation meanwhile, which this transaction has now.
_NEXT_IN_LINE = """
select id from chat.runs
where user_id = %(user)s and conversation_id = %(conversation)s and state = 'queued'
limit 1
"""
