"""How many answers and jobs wait or are in progress in the whole installation, to be monitored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.db import WORKER, Query

if TYPE_CHECKING:
    from chatkeep.db import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Answers that are being made or wait behind another, and jobs by queue and state.

    *oldest_job_s*: for how many seconds the job that is due for longest is due, 0 without any.
    """

    answers: dict[str, int]
    jobs: dict[tuple[str, str], int]
    oldest_job_s: float


@dataclass(frozen=True, slots=True)
class _Answers:
    state: str
    number: int


@dataclass(frozen=True, slots=True)
class _Jobs:
    queue: str
    state: str
    number: int
    due_s: float


async def read_backlog(db: Database) -> Backlog:
    """Return what waits now.

    Raises:
        Unavailable: the database is away.
    """
    answers, jobs = await db.fetch_all(
        WORKER,
        # Two statements, because each has a partial index that holds nothing else.
        Query(
            "select 'running' as state, count(*) as number from chat.runs where state = 'running'"
            " union all select 'queued', count(*) from chat.runs where state = 'queued'",
            (),
            _Answers,
        ),
        Query(
            "select queue_name as queue, status::text as state, count(*) as number,"
            " coalesce(max(extract(epoch from now() - scheduled_at)), 0)::float8 as due_s"
            " from chatkeep_queue.procrastinate_jobs group by 1, 2",
            (),
            _Jobs,
        ),
    )
    waiting = [one.due_s for one in jobs if one.state == "todo"]
    return Backlog(
        answers={one.state: one.number for one in answers},
        jobs={(one.queue, one.state): one.number for one in jobs},
        oldest_job_s=max(0.0, *waiting) if waiting else 0.0,
    )
