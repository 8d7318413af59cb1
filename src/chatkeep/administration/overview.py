"""What an administrator sees of the whole installation: how many answers, and how they end.

Everything is a number, or a code that is one of few. The role that reads it has no right to
what anybody said, nor to where it is: who may look here still reads no conversation.
What only one process knows is apart, and named as such, in `ServerFigures`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, LiteralString

from chatkeep import metrics
from chatkeep.db import ADMIN, Database, PoolState, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Window = Literal["hour", "day"]
#: How long each bar of a chart stands for, and how many there are.
_WINDOWS: Final[dict[Window, tuple[timedelta, int]]] = {
    "hour": (timedelta(minutes=1), 60),
    "day": (timedelta(minutes=15), 96),
}
_HOST: Final = socket.gethostname()
_BEGAN: Final = time.time()
_MOST_ERRORS: Final = 10
#: An overview that took longer is shown again for so many times as long.
_QUICK_S: Final = 1.0
_SHOWN_AGAIN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What was asked from *at* on for the length of a bucket, and what became of it so far.

    *open*: is being answered, or waits behind another answer. *people*: how many asked.
    """

    at: datetime
    done: int = 0
    stopped: int = 0
    failed: int = 0
    interrupted: int = 0
    open: int = 0
    people: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCount:
    """How many answers ended with a code."""

    code: str
    answers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """How far the entries of the audit log are linked, and when the chain was last sealed."""

    entries: int
    sealed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The whole installation over a window that ends now; *people* asked in all of it."""

    window: Window
    bucket: timedelta
    buckets: tuple[Bucket, ...]
    people: int
    errors: tuple[ErrorCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """What the process that answers knows of itself, since *began*.

    *first_piece_counts* has how many answers began within each of *first_piece_bounds* (in
    seconds, each without those before it), and one more of those that took longer.
    """

    host: str
    process: int
    began: float
    pool: PoolState
    open_streams: int
    requests: dict[str, int]
    first_piece_bounds: tuple[float, ...]
    first_piece_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Newest:
    at: datetime


@dataclass(frozen=True, slots=True)
class _People:
    at: datetime | None
    people: int


@dataclass(frozen=True, slots=True)
class _Answers:
    at: datetime
    state: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal


# The same moments in all statements: they are one transaction, and so is its `now()`. Both ends
# are named, because of one alone PostgreSQL thinks that a third of the table is wanted.
_NEWEST: LiteralString = "select date_bin(%(width)s, now(), timestamptz 'epoch') as at"
_ANSWERS: LiteralString = """
select date_bin(%(width)s, started_at, timestamptz 'epoch') as at, state,
  count(*) as answers, coalesce(sum(prompt_tokens), 0)::bigint as prompt_tokens,
  coalesce(sum(completion_tokens), 0)::bigint as completion_tokens,
  coalesce(sum(cost), 0) as cost
from chat.runs
where started_at >= date_bin(%(width)s, now(), timestamptz 'epoch') - %(before)s
  and started_at < date_bin(%(width)s, now(), timestamptz 'epoch') + %(width)s
group by 1, 2
"""
_PEOPLE: LiteralString = """
select date_bin(%(width)s, started_at, timestamptz 'epoch') as at,
  count(distinct user_id) as people
from chat.runs
where started_at >= date_bin(%(width)s, now(), timestamptz 'epoch') - %(before)s
  and started_at < date_bin(%(width)s, now(), timestamptz 'epoch') + %(width)s
group by grouping sets ((1), ())
"""
_ERRORS: LiteralString = """
select error_code as code, count(*) as answers from chat.runs
where started_at >= date_bin(%(width)s, now(), timestamptz 'epoch') - %(before)s
  and started_at < date_bin(%(width)s, now(), timestamptz 'epoch') + %(width)s
  and error_code is not null
group by 1 order by 2 desc, 1 limit %(most)s
"""


async def read_overview(db: Database, window: Window) -> Overview:
    """Return how the installation does: four statements that read the window and no more.

    Raises:
        Unavailable: the database is away, or takes too long.
    """
    width, many = _WINDOWS[window]
    given = {"width": width, "before": width * (many - 1), "most": _MOST_ERRORS}
    newest, answers, people, errors = await db.fetch_all(
        ADMIN,
        Query(_NEWEST, {"width": width}, _Newest),
        Query(_ANSWERS, given, _Answers),
        Query(_PEOPLE, given, _People),
        Query(_ERRORS, given, ErrorCount),
    )
    moments = [newest[0].at - width * (many - 1 - number) for number in range(many)]
    return Overview(
        window=window,
        bucket=width,
        buckets=_buckets(moments, answers, people),
        people=sum(one.people for one in people if one.at is None),
        errors=tuple(errors),
    )


class Overviews:
    """Reads overviews for whoever asks, one of each window at a time. Share one per process.

    Over a million answers one takes seconds of the database, and every open console asks again
    and again: whoever comes while one is read gets that one, and what took long is shown again.
    """

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Have read none; *clock* counts seconds."""
        self._db = db
        self._clock = clock
        self._reading: dict[Window, asyncio.Task[Overview]] = {}
        self._shown: dict[Window, tuple[Overview, float]] = {}

    async def read(self, window: Window) -> Overview:
        """Return what `read_overview` does, now or a moment ago; raises as it does."""
        shown, until = self._shown.get(window, (None, 0.0))
        if shown is not None and self._clock() < until:
            return shown
        reading = self._reading.get(window)
        if reading is None:
            reading = self._reading[window] = asyncio.create_task(self._read(window))
            reading.add_done_callback(_look_at_its_end)
        return await asyncio.shield(reading)  # it is not theirs alone who goes away

    async def _read(self, window: Window) -> Overview:
        began = self._clock()
        try:
            found = await read_overview(self._db, window)
        finally:
            del self._reading[window]
        took = self._clock() - began
        if took > _QUICK_S:
            self._shown[window] = found, self._clock() + _SHOWN_AGAIN * took
        return found


def _look_at_its_end(reading: asyncio.Task[Overview]) -> None:
    if not reading.cancelled():
        reading.exception()  # else asyncio complains where whoever waited has left


async def read_chain(db: Database) -> ChainState:
    """Return how far the audit log is linked, as the head of its chain says; checks nothing.

    Raises:
        Unavailable: the database is away.
    """
    found = await db.fetch(
        ADMIN,
        "select position as entries, sealed_at from chatkeep.audit_head",
        (),
        row=ChainState,
    )
    return found[0] if found else ChainState(entries=0, sealed_at=None)


def read_server(db: Database) -> ServerFigures:
    """Return what this process knows of itself, without asking anybody."""
    first_piece = metrics.find("chatkeep_first_piece_seconds")
    requests = metrics.find("chatkeep_http_requests_total")
    streams = metrics.find("chatkeep_open_streams")
    if not (
        isinstance(first_piece, metrics.Histogram)
        and isinstance(requests, metrics.Counter)
        and isinstance(streams, metrics.Gauge)
    ):
        raise TypeError("an instrument is of another kind")
    return ServerFigures(
        host=_HOST,
        process=os.getpid(),
        began=_BEGAN,
        pool=db.state(),
        open_streams=int(streams.value()),
        requests=_by_class(requests.totals("status")),
        first_piece_bounds=first_piece.bounds,
        first_piece_counts=tuple(first_piece.counts()),
    )


def _buckets(
    moments: list[datetime], answers: Iterable[_Answers], people: Iterable[_People]
) -> tuple[Bucket, ...]:
    fields: dict[datetime, dict[str, Any]] = {one: {"at": one} for one in moments}
    for one in people:
        if one.at in fields:
            fields[one.at]["people"] = one.people
    for row in answers:
        bucket = fields.get(row.at, {})
        state = "open" if row.state in {"queued", "running"} else row.state
        for name, number in (
            (state, row.answers),
            ("prompt_tokens", row.prompt_tokens),
            ("completion_tokens", row.completion_tokens),
            ("cost", row.cost),
        ):
            bucket[name] = bucket.get(name, 0) + number
    return tuple(Bucket(**one) for one in fields.values())


def _by_class(statuses: dict[str, float]) -> dict[str, int]:
    """Add statuses up by their first digit; 0 is a request that ended without an answer."""
    found = dict.fromkeys(("2xx", "3xx", "4xx", "5xx", "none"), 0)
    for status, number in statuses.items():
        name = f"{status[0]}xx"
        found[name if name in found else "none"] += int(number)
    return found
