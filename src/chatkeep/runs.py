"""Runs: one row for each attempt to get an answer, from its start to its explicit end.

A run holds a lease while a process works on it. Whoever stops renewing it (a killed
server) is found by the sweeper, which marks the run `interrupted`, keeps what was said
and never runs it again. The content of an answer is written as the user it belongs to;
only states and leases are seen by the worker role.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from psycopg.types.json import Jsonb

from chatkeep.db import WORKER, Query, as_user
from chatkeep.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from chatkeep.db import Database

State = Literal["queued", "running", "done", "stopped", "failed", "interrupted"]
#: How long a run may go without a sign of life before it counts as interrupted.
LEASE_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run and what its answer says so far (as of the last checkpoint).

    *begun*: the first so many parts are of runs before it, and had *said_before* bytes.
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

    @property
    def ended(self) -> bool:
        """Whether nothing will be added any more."""
        return self.state not in {"queued", "running"}


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
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the answer of a run is kept."""

    id: str
    conversation_id: str
    message_id: str
    user_message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended."""

    state: Literal["done", "stopped", "failed", "interrupted"]
    finish_reason: str | None = None
    error_code: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: Decimal | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    stop_requested: bool
    told: str | None


_CHECKPOINT = """
with run as (
  update chat.runs set lease_until = now() + make_interval(secs => %(lease)s),
    said = greatest(0,
      octet_length(coalesce(%(parts)s::jsonb::text, %(content)s)) - said_before)
  where user_id = %(user)s and id = %(run)s
    and state in ('queued', 'running', 'interrupted')
  returning message_id, stop_requested
), kept as (
  update chat.messages m set content = %(content)s, parts = %(parts)s::jsonb
  from run
  where m.user_id = %(user)s and m.conversation_id = %(conversation)s
    and m.id = run.message_id and m.run_id = %(run)s
)
select stop_requested,
  case when %(tells)s then pg_notify('chatkeep_tails', %(run)s)::text end as told
from run
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was said so far in a run. With *tells*, those who follow elsewhere hear of it."""

    user_id: str
    run: Address
    content: str
    parts: Sequence[dict[str, Any]] | None
    tells: bool = False


async def checkpoint(
    db: Database,
    user_id: str,
    run: Address,
    *,
    content: str,
    parts: Sequence[dict[str, Any]] | None,
    tells: bool = False,
) -> bool:
    """Keep what was said so far and renew the lease; return whether a stop was asked for.

    The message is written only by who holds the run's row: a checkpoint that the database
    delayed can never write its older text over the end. Nor over what another run has
    said since, where the answer was given up and continued.
    """
    one = Checkpoint(user_id=user_id, run=run, content=content, parts=parts, tells=tells)
    rows = await db.fetch(as_user(user_id), _CHECKPOINT, _kept(one), row=_Stop)
    return _must_stop(rows)


async def checkpoint_each(db: Database, some: Sequence[Checkpoint]) -> list[bool]:
    """Do as `checkpoint` for *some* runs, whosever they are, in one round trip; all or none.

    Alone, most of what a checkpoint takes is its round trip and its commit: 32 together take a
    tenth of the time each.
    """
    asked = [(as_user(one.user_id), Query(_CHECKPOINT, _kept(one), _Stop)) for one in some]
    return [_must_stop(rows) for rows in await db.fetch_each(*asked)]


def _kept(one: Checkpoint) -> dict[str, object]:
    return {
        **_address(one.user_id, one.run),
        "content": one.content,
        "parts": _json(one.parts),
        "lease": LEASE_S,
        "tells": one.tells,
    }


def _must_stop(rows: Sequence[_Stop]) -> bool:
    # No row: the conversation was erased meanwhile, so there is nobody to answer.
    return rows[0].stop_requested if rows else True


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
            """
            with run as (
              update chat.runs set state = %(state)s, ended_at = now(),
                finish_reason = %(finish_reason)s, error_code = %(error_code)s,
                model = coalesce(%(model)s, model), prompt_tokens = %(prompt_tokens)s,
                completion_tokens = %(completion_tokens)s, cost = %(cost)s
              where user_id = %(user)s and id = %(run)s
                and state in ('queued', 'running', 'interrupted')
              returning message_id
            ), answer as (
              update chat.messages m set content = %(content)s, parts = %(parts)s::jsonb
              from run
              where m.user_id = %(user)s and m.conversation_id = %(conversation)s
                and m.id = run.message_id and m.run_id = %(run)s
            )
            update chat.conversations
            set updated_at = now(), title = coalesce(title, %(title)s)
            where user_id = %(user)s and id = %(conversation)s
            returning id
            """,
            {
                **_address(user_id, run),
                "content": content,
                "parts": _json(parts),
                "title": title,
                **asdict(ending),
            },
            _Id,
        ),
        *also,
        # Whoever let one wait held the conversation meanwhile, which this transaction has now.
        Query(
            """
            select id from chat.runs
            where user_id = %(user)s and conversation_id = %(conversation)s and state = 'queued'
            limit 1
            """,
            _address(user_id, run),
            _Id,
        ),
    )
    return bool(next_one)


def telling(run_id: str) -> Query[_Told]:
    """Return the statement that tells those who follow on other nodes that there is news."""
    return Query(
        "select %(run)s as id, pg_notify('chatkeep_tails', %(run)s)::text as told",
        {"run": run_id},
        _Told,
    )


async def get_run(db: Database, user_id: str, run_id: str) -> Run:
    """Return a run with what has been said so far."""
    rows = await db.fetch(
        as_user(user_id),
        """
        select r.id, r.conversation_id, r.message_id, m.parent_id as user_message_id, r.state,
          r.model, r.finish_reason, r.error_code, r.prompt_tokens, r.completion_tokens, r.cost,
          m.content, m.parts, r.begun, r.said_before
        from chat.runs r
        join chat.messages m on m.user_id = r.user_id
          and m.conversation_id = r.conversation_id and m.id = r.message_id
        where r.user_id = %s and r.id = %s
        """,
        [user_id, run_id],
        row=Run,
    )
    if not rows:
        raise NotFound
    return rows[0]


async def find_news(db: Database, user_id: str, run_id: str, *, has: int, said: int) -> News:
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
          r.completion_tokens, r.cost, r.said,
          case when m.parts is null then substr(m.content, %(has)s::integer + 1) else '' end
            as more,
          case when r.said <> %(said)s::integer or r.state not in ('queued', 'running')
            then m.parts end as parts
        from chat.runs r
        join chat.messages m on m.user_id = r.user_id
          and m.conversation_id = r.conversation_id and m.id = r.message_id
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
        row=_Told,
    )


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
        join chat.messages a on a.user_id = r.user_id
          and a.conversation_id = r.conversation_id and a.id = r.message_id
        join chat.messages q on q.user_id = r.user_id
          and q.conversation_id = r.conversation_id and q.id = a.parent_id
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
          select id, conversation_id, message_id, state from chat.runs
          where user_id = %(user)s and id = %(run)s and state not in ('queued', 'running')
        ), shown as (
          select c.head_id as id from chat.conversations c
          join run on c.user_id = %(user)s and c.id = run.conversation_id
          union all
          select m.parent_id from shown
          join run on shown.id <> run.message_id
          join chat.messages m on m.user_id = %(user)s
            and m.conversation_id = run.conversation_id and m.id = shown.id
        )
        update chat.runs r set request_key = null
        from run
        where r.user_id = %(user)s and r.id = run.id and r.request_key is not null
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
            _Told,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    id: str
    told: str | None


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


def _json(parts: Sequence[dict[str, Any]] | None) -> Jsonb | None:
    return None if parts is None else Jsonb(list(parts))


def _address(user_id: str, run: Address) -> dict[str, object]:
    return {
        "user": user_id,
        "conversation": run.conversation_id,
        "message": run.message_id,
        "run": run.id,
    }
