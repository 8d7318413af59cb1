"""`/api/admin/overview`: figures of the whole installation; and who may see them.

Numbers only. What anybody said, and in which conversation, is not among what can be asked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from chatkeep.administration import overview as overviews
from chatkeep.administration.administrators import require_administrator
from chatkeep.administration.backlog import read_backlog
from chatkeep.errors import Forbidden, StepUpRequired
from chatkeep.web.administrators import Administrator
from chatkeep.web.auth import SignedIn
from chatkeep.web.problems import described
from chatkeep.web.services import ServicesDep

router = APIRouter(tags=["administration"])

Window = Annotated[
    Literal["hour", "day"], Query(description="By the minute, or by the quarter of an hour.")
]


class AccessAnswer(BaseModel):
    """Whether the caller may open the admin console."""

    administrator: bool


class BucketAnswer(BaseModel):
    """What was asked from `at` on, and what became of it so far."""

    at: datetime
    done: int
    stopped: int
    failed: int
    interrupted: int
    open: int = Field(description="Being answered, or waiting behind another answer.")
    people: int = Field(description="How many people asked.")
    prompt_tokens: int
    completion_tokens: int
    cost: str = Field(description="US dollars, exact.", examples=["0.0123"])


class ErrorAnswer(BaseModel):
    """How many answers ended with a code."""

    code: str
    answers: int


class JobsAnswer(BaseModel):
    """How many jobs of a queue are in a state."""

    queue: str
    state: str
    jobs: int


class ChainAnswer(BaseModel):
    """How far the entries of the audit log are linked, and when that was last sealed."""

    entries: int
    sealed_at: datetime | None


class PoolAnswer(BaseModel):
    """The connections of this process to the database, and who waits for one."""

    size: int
    idle: int
    most: int
    waiting: int


class FirstPieceAnswer(BaseModel):
    """How many answers began within so many seconds; the last number is of those above."""

    bounds: list[float]
    counts: list[int]


class ServerAnswer(BaseModel):
    """The process that answered, since it began: other processes have figures of their own."""

    host: str
    process: int
    began_at: datetime
    pool: PoolAnswer
    open_streams: int
    requests: dict[str, int] = Field(description="By the first digit of their status.")
    first_piece: FirstPieceAnswer


class OverviewAnswer(BaseModel):
    """The whole installation, and at the end what one process knows of itself."""

    window: Literal["hour", "day"]
    bucket_seconds: int
    buckets: list[BucketAnswer]
    people: int = Field(description="How many asked in the whole window.")
    errors: list[ErrorAnswer]
    running: int
    queued: int
    jobs: list[JobsAnswer]
    oldest_job_seconds: float
    audit_chain: ChainAnswer
    this_server: ServerAnswer


@router.get("/api/access")
async def access(who: SignedIn, services: ServicesDep) -> AccessAnswer:
    """Say whether the caller is an administrator, so that a client knows what to offer.

    It decides nothing: each route of administration asks for itself, and may ask for more.
    """
    try:
        await require_administrator(services.embedded, who, services.settings.admin_roles)
    except Forbidden:
        return AccessAnswer(administrator=False)
    except StepUpRequired:  # they are one, and are asked for their second factor there
        return AccessAnswer(administrator=True)
    return AccessAnswer(administrator=True)


@router.get("/api/admin/overview", responses=described(422))
async def overview(
    _: Administrator, services: ServicesDep, window: Window = "hour"
) -> OverviewAnswer:
    """Show how many answers there were and how they ended, over the last hour or day."""
    found = await services.overviews.read(window)
    backlog, chain = await read_backlog(services.db), await overviews.read_chain(services.db)
    return OverviewAnswer(
        window=found.window,
        bucket_seconds=int(found.bucket.total_seconds()),
        buckets=[_bucket(one) for one in found.buckets],
        people=found.people,
        errors=[ErrorAnswer(code=one.code, answers=one.answers) for one in found.errors],
        running=backlog.answers.get("running", 0),
        queued=backlog.answers.get("queued", 0),
        jobs=[
            JobsAnswer(queue=queue, state=state, jobs=number)
            for (queue, state), number in sorted(backlog.jobs.items())
        ],
        oldest_job_seconds=backlog.oldest_job_s,
        audit_chain=ChainAnswer(entries=chain.entries, sealed_at=chain.sealed_at),
        this_server=_server(overviews.read_server(services.db)),
    )


def _bucket(one: overviews.Bucket) -> BucketAnswer:
    return BucketAnswer(
        at=one.at,
        done=one.done,
        stopped=one.stopped,
        failed=one.failed,
        interrupted=one.interrupted,
        open=one.open,
        people=one.people,
        prompt_tokens=one.prompt_tokens,
        completion_tokens=one.completion_tokens,
        cost=f"{one.cost:f}",
    )


def _server(one: overviews.ServerFigures) -> ServerAnswer:
    pool = one.pool
    return ServerAnswer(
        host=one.host,
        process=one.process,
        began_at=datetime.fromtimestamp(one.began, UTC),
        pool=PoolAnswer(size=pool.size, idle=pool.idle, most=pool.most, waiting=pool.waiting),
        open_streams=one.open_streams,
        requests=one.requests,
        first_piece=FirstPieceAnswer(
            bounds=list(one.first_piece_bounds), counts=list(one.first_piece_counts)
        ),
    )
