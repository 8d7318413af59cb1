"""How many old tokens still come, and when what they need can be deleted.

Every process counts in memory and adds what it counted to one table every few seconds, in
one statement; a killed process loses no more than that. A row is an hour, a version and a
claim; the claim '' stands for the tokens of that version themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from chatkeep.db import ADMIN, WORKER
from chatkeep.errors import ChatkeepError
from chatkeep.outages import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from chatkeep.claims.declared import ClaimVersions
    from chatkeep.db import Database

_log = logging.getLogger(__name__)

#: How long a session token is good for, however much it is used.
TOKEN_LIFE: Final = timedelta(days=7)
_FLUSH_EVERY_S: Final = 2.0
_HOUR_S: Final = 3600

_ADD: Final = """
with forgotten as (
  delete from chatkeep.claim_counts where hour < now() - interval '30 days'
)
insert into chatkeep.claim_counts as kept
  (hour, version, claim, tokens, reads, issued, newest_issued_at)
select * from unnest(%s::timestamptz[], %s::int[], %s::text[], %s::bigint[], %s::bigint[],
  %s::bigint[], %s::timestamptz[])
on conflict (hour, version, claim) do update set
  tokens = kept.tokens + excluded.tokens,
  reads = kept.reads + excluded.reads,
  issued = kept.issued + excluded.issued,
  newest_issued_at = greatest(kept.newest_issued_at, excluded.newest_issued_at)
"""


@dataclass(slots=True, kw_only=True)
class _Count:
    tokens: int = 0
    reads: int = 0
    issued: int = 0
    newest: float | None = None

    def add(self, other: _Count) -> None:
        self.tokens += other.tokens
        self.reads += other.reads
        self.issued += other.issued
        self.newest = max((one for one in (self.newest, other.newest) if one), default=None)


_Key = tuple[int, int, str]  # hour since 1970, version, claim


class ClaimCounts:
    """Counts of one process. `close` it at the end, so that nothing is lost."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Callable[[], float] = time.time,
        flush_every_s: float = _FLUSH_EVERY_S,
    ) -> None:
        """Add to the table of *db*; nothing runs while there is nothing to count."""
        self._db = db
        self._clock = clock
        self._flush_every_s = flush_every_s
        self._counted: dict[_Key, _Count] = {}
        self._waiting: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._outage = Outage(_log, "write how many old tokens come")

    def note_upgraded(
        self, version: int, *, claims: Iterable[str], read: Collection[str], issued_at: object
    ) -> None:
        """Count a token of *version* that lacked *claims*, of which some had to be *read*."""
        newest = float(issued_at) if isinstance(issued_at, int | float) else None
        self._note(version, "", _Count(tokens=1, reads=1 if read else 0, newest=newest))
        for claim in claims:
            self._note(version, claim, _Count(tokens=1, reads=1 if claim in read else 0))

    def note_issued(self, version: int, issued_at: float) -> None:
        """Count a new token: so that its end is known even if it never comes back."""
        self._note(version, "", _Count(issued=1, newest=issued_at))

    async def flush(self) -> None:
        """Add what was counted to the table.

        Raises:
            Unavailable: the database is away; the counts are kept.
        """
        async with self._lock:
            taken, self._counted = self._counted, {}
            if not taken:
                return
            try:
                await self._db.execute(WORKER, _ADD, _columns(taken))
            except BaseException:
                for key, count in taken.items():
                    self._counted.setdefault(key, _Count()).add(count)
                raise

    async def close(self) -> None:
        """Add the last counts, if the database is there."""
        if self._waiting is not None:
            self._waiting.cancel()
        try:
            await self.flush()
        except ChatkeepError as error:
            _log.warning("counts of claims are lost: %s", error.code)

    def _note(self, version: int, claim: str, count: _Count) -> None:
        key = (int(self._clock() // _HOUR_S), version, claim)
        self._counted.setdefault(key, _Count()).add(count)
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        try:
            while self._counted:
                await asyncio.sleep(self._flush_every_s)
                try:
                    await asyncio.shield(self.flush())
                    self._outage.worked()
                except ChatkeepError as error:
                    self._outage.failed(error.code)
        finally:
            self._waiting = None


def _columns(counted: dict[_Key, _Count]) -> tuple[list[object], ...]:
    rows = [
        (
            datetime.fromtimestamp(hour * _HOUR_S, UTC),
            version,
            claim,
            count.tokens,
            count.reads,
            count.issued,
            None if count.newest is None else datetime.fromtimestamp(count.newest, UTC),
        )
        for (hour, version, claim), count in sorted(counted.items())
    ]
    return tuple(list(column) for column in zip(*rows, strict=True))


# --- what operators see -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HourCount:
    """How many tokens in one hour, and for how many of them somebody had to be asked."""

    hour: datetime
    tokens: int
    reads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDrain:
    """One claim that tokens of a version lacked. *hours* has those of the last day."""

    claim: str
    tokens: int
    reads: int
    hours: tuple[HourCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDrain:
    """The tokens of one version, over the last thirty days.

    *tokens* had to be upgraded, *reads* of them cost a look-up, *issued* were made.
    *ends_at*: from when on no token of this version can come any more, None when nothing
    is known of any.
    """

    version: int
    state: Literal["old", "current", "newer"]
    tokens: int
    reads: int
    issued: int
    newest_issued_at: datetime | None
    ends_at: datetime | None
    hours: tuple[HourCount, ...]
    claims: tuple[ClaimDrain, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How far the old versions have drained.

    *fallback_ends_at*: after this every version but the newest can be deleted from the
    declaration; None when nothing is known of old tokens.
    """

    newest_version: int
    fallback_ends_at: datetime | None
    versions: tuple[VersionDrain, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    hour: datetime
    version: int
    claim: str
    tokens: int
    reads: int
    issued: int
    newest_issued_at: datetime | None


async def read_drain(
    db: Database, versions: ClaimVersions, *, now: datetime | None = None
) -> Drain:
    """Return what all processes have counted, for the command, the metrics and the page.

    Raises:
        Unavailable: the database is away.
    """
    rows = await db.fetch(
        ADMIN,
        "select hour, version, claim, tokens, reads, issued, newest_issued_at"
        " from chatkeep.claim_counts order by hour, version, claim",
        (),
        row=_Row,
    )
    day = (now or datetime.now(UTC)) - timedelta(days=1)
    numbers = sorted({one.number for one in versions} | {row.version for row in rows})
    drains = tuple(
        _version_drain([row for row in rows if row.version == number], number, versions, day)
        for number in numbers
    )
    ends = [one.ends_at for one in drains if one.state == "old" and one.ends_at]
    return Drain(
        newest_version=versions.newest, fallback_ends_at=max(ends, default=None), versions=drains
    )


def _version_drain(
    rows: list[_Row], number: int, versions: ClaimVersions, day: datetime
) -> VersionDrain:
    own = [row for row in rows if not row.claim]
    newest = max((row.newest_issued_at for row in own if row.newest_issued_at), default=None)
    names = sorted({row.claim for row in rows if row.claim})
    return VersionDrain(
        version=number,
        state=_state(number, versions.newest),
        tokens=sum(row.tokens for row in own),
        reads=sum(row.reads for row in own),
        issued=sum(row.issued for row in own),
        newest_issued_at=newest,
        ends_at=newest and newest + TOKEN_LIFE,
        hours=_hours(own, day),
        claims=tuple(
            _claim_drain([row for row in rows if row.claim == name], name, day) for name in names
        ),
    )


def _state(number: int, newest: int) -> Literal["old", "current", "newer"]:
    if number == newest:
        return "current"
    return "old" if number < newest else "newer"


def _claim_drain(rows: list[_Row], name: str, day: datetime) -> ClaimDrain:
    return ClaimDrain(
        claim=name,
        tokens=sum(row.tokens for row in rows),
        reads=sum(row.reads for row in rows),
        hours=_hours(rows, day),
    )


def _hours(rows: list[_Row], since: datetime) -> tuple[HourCount, ...]:
    return tuple(
        HourCount(hour=row.hour, tokens=row.tokens, reads=row.reads)
        for row in rows
        if row.hour > since and row.tokens
    )
