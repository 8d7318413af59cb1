"""What has ended, in memory: what makes log-out immediate at no cost a request.

Sessions, single tokens, everything of a person, of an issuer, or of a person at one issuer that
was issued before a moment. Filled from a table whose rows are numbered in the order in which
they become visible, so that "after the newest number I have seen" misses nothing; told by
NOTIFY (and Redis, where there is one) to look at once, and looking every second anyhow, because
a notification can be lost. A node that has not been able to look for `TRUSTED_S` asks the table
for each request, rather than trust its memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from sys import intern
from typing import TYPE_CHECKING, Final

from chatkeep.batches import in_turns
from chatkeep.db import AUTH, Query
from chatkeep.ended_credentials import (
    counted_as_issued,
    everything_by,
    everything_has_ended,
    has_no_session,
    holds_no_more,
    keys_at_issuer,
)
from chatkeep.errors import ChatkeepError, TokenRevoked
from chatkeep.going_on import go_on
from chatkeep.outages import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from chatkeep.db import Database
    from chatkeep.ended_credentials import Key, Verdict
    from chatkeep.principal import Principal

_log = logging.getLogger(__name__)

#: Memory is believed for so long after the last look.
TRUSTED_S: Final = 5.0
#: The longest life that an access token of ours can be given (`ACCESS_TOKEN_EXPIRY`).
LONGEST_TOKEN_LIFE: Final = timedelta(days=1)
#: What is further away, as `infinity` is, Python has no moment for.
_FAR: Final = datetime(9000, 1, 1, tzinfo=UTC)
_LOOK_EVERY_S = 1.0
_PAUSE_S = 0.002
_PURGE_EVERY_LOOKS = 600

#: Kinds of what has ended because its issuer says so.
_TOLD: Final = frozenset({"subject", "sessionless"})
#: Kinds of what has ended as far as it was issued before a moment.
_DATED: Final = _TOLD | {"user", "issuer"}


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    kind: str
    issuer: str
    subject: str
    not_before: datetime | None
    until: datetime

    @property
    def key(self) -> Key:
        """What has ended, whenever that was. There are many of few kinds and issuers: one text."""
        return intern(self.kind), intern(self.issuer), self.subject


@dataclass(frozen=True, slots=True)
class _Newest:
    newest: int


@dataclass(frozen=True, slots=True)
class _Moment:
    now: datetime


class Revocations:
    """What has ended. One per process; `catch_up` before the first request, then `start`."""

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet; *clock* counts seconds."""
        self._db = db
        self._clock = clock
        self._ended: dict[Key, datetime] = {}
        self._not_before: dict[Key, tuple[datetime, datetime]] = {}
        #: The issuers that have said of somebody that they signed out.
        self._telling: set[str] = set()
        self._newest: _Row | None = None
        self._confirmed = float("-inf")
        self._look = asyncio.Event()
        self._watched: dict[Callable[[], None], Principal] = {}
        self._looking: asyncio.Task[None] | None = None
        self._announce: Callable[[], None] | None = None

    def knows(self, principal: Principal) -> bool:
        """Whether memory says that the credential of *principal* has ended."""
        ended, issuer, token_id = self._ended, principal.issuer, principal.token_id
        if ended and (
            ("session", issuer, principal.session_id or token_id) in ended
            or ("token", issuer, token_id) in ended
        ):
            return True
        if not self._not_before:
            return False
        if self._is_older(principal, ("user", "", principal.user_id)) or self._is_older(
            principal, ("issuer", issuer, "")
        ):
            return True
        return issuer in self._telling and any(
            self._is_older(principal, key) for key in keys_at_issuer(principal)
        )

    def is_known_to_hold(self, principal: Principal) -> bool:
        """Whether memory may be believed now, and the credential of *principal* has not ended.

        False says nothing: `is_revoked` decides.
        """
        return self._clock() - self._confirmed <= TRUSTED_S and not self.knows(principal)

    async def is_revoked(self, principal: Principal) -> bool:
        """Whether the credential of *principal* has ended.

        Raises:
            Unavailable: nothing could be confirmed for a while, and the database is away.
        """
        if self.knows(principal):
            return True
        if self._clock() - self._confirmed <= TRUSTED_S:
            return False
        return await self.is_revoked_now(principal)

    async def is_revoked_now(self, principal: Principal) -> bool:
        """Ask the table, whatever memory says: for what must not be a moment behind.

        Raises:
            Unavailable: the database is away.
        """
        (found,) = await self._db.fetch_all(AUTH, holds_no_more(principal))
        verdict: Verdict = found[0]
        return verdict.revoked

    async def confirm(self, principal: Principal) -> None:
        """Let *principal* pass only if the database says now that their credential holds.

        Strict mode: for a request that must not rely on what this process was told a moment
        ago, at the price of one round trip. Beside what was ended it looks, for people of our
        own issuer, whether their session is there and has not expired, and they are not banned.

        Raises:
            TokenRevoked: it does not hold.
            Unavailable: the database is away.
        """
        if self.knows(principal):
            raise TokenRevoked
        if principal.credential == "development_header":
            return
        verdicts = await self._db.fetch_all(
            AUTH, holds_no_more(principal), has_no_session(principal)
        )
        if any(found[0].revoked for found in verdicts):
            raise TokenRevoked

    async def require_standing(self, principal: Principal) -> None:
        """Let go on what *principal* began, unless everything of theirs has ended since.

        A session that is signed out ends nothing that was begun in it; who is suspended, or
        signed out everywhere, has nothing done in their name any more.

        Raises:
            TokenRevoked: everything of them, or of their issuer, has ended.
            Unavailable: the database is away.
        """
        if principal.credential == "development_header":
            return
        since = counted_as_issued(principal)
        asking = everything_has_ended(principal.user_id, principal.issuer, since=since)
        (found,) = await self._db.fetch_all(AUTH, asking)
        if found[0].revoked:
            raise TokenRevoked

    @property
    def age_s(self) -> float:
        """How many seconds ago this process last saw all that has ended."""
        return self._clock() - self._confirmed

    def told(self, _payload: str = "") -> None:
        """Take note that something ended, or may have: `run` looks at once."""
        self._look.set()

    def announce_by(self, announce: Callable[[], None]) -> None:
        """Call *announce* when this node ended something: a way to tell others beside NOTIFY.

        They answer it with `told`: whatever is said on that way, the table is what counts.
        """
        self._announce = announce

    def ended(self, sessions: Iterable[UUID]) -> None:
        """Take note of sessions of our own that this node ended, before anybody tells it."""
        until, ids = datetime.now(UTC) + LONGEST_TOKEN_LIFE, list(sessions)
        if not ids:
            return
        for session_id in ids:
            self._ended.setdefault(("session", "embedded", str(session_id)), until)
        self._tell_the_watched()
        self._tell_others()

    async def revoke_session(self, issuer: str, reference: str, *, until: datetime) -> None:
        """End the session that *issuer* calls *reference*; its tokens live until *until*."""
        await self._revoke("session", issuer, reference, until)

    async def revoke_token(self, issuer: str, token_id: str, *, until: datetime) -> None:
        """End one token (its `jti`), which lives until *until*."""
        await self._revoke("token", issuer, token_id, until)

    async def revoke_issuer(self, issuer: str) -> None:
        """End every token that *issuer* issued before now.

        If it is our own, end the sessions too: their tokens of this very second are left.
        """
        await self._db.fetch_all(AUTH, everything_by(issuer))
        await self.catch_up()

    def watch(self, principal: Principal, ended: Callable[[], None]) -> None:
        """Call *ended* when the credential of *principal* has ended, at once if it has.

        It may be called more than once, until `unwatch`.
        """
        self._watched[ended] = principal
        if self.knows(principal):
            ended()

    def unwatch(self, ended: Callable[[], None]) -> None:
        """Call *ended* no more, if it was to be called."""
        self._watched.pop(ended, None)

    async def catch_up(self) -> None:
        """Learn from the table what ended since the last look, because this node ended some.

        Raises:
            Unavailable: the database is away; what is known stays known.
        """
        await self._look_for_news()
        self._tell_others()

    async def _look_for_news(self) -> None:
        # What had been seen when it was asked: others look meanwhile, and see more.
        asked_at, before = self._clock(), self._newest
        seen = 0 if before is None else before.number
        newest, rows = await self._db.fetch_all(
            AUTH,
            Query("select newest from chatkeep.revocation_numbers", (), _Newest),
            Query(
                "select number, kind, issuer, subject,"
                " greatest('epoch', least(not_before, %s)) as not_before,"
                " least(until, %s) as until from chatkeep.revocations"
                " where number >= %s and until > now() order by number",
                (_FAR, _FAR, seen),
                _Row,
            ),
        )
        if before is not None and rows[:1] == [before]:
            del rows[0]
        elif (
            before is not None
            # Else whoever ends the same again and again had everything read each time.
            and not any(row.key == before.key for row in rows)
            and (before.until > datetime.now(UTC) or (newest[0].newest if newest else 0) < seen)
        ):
            # A backup was restored, or a standby took over that had not heard of it: its
            # numbers go on from below what was seen here.
            self._newest = None
            await self._look_for_news()
            return
        for row in rows:
            self._learn(row)
        self._confirmed = max(self._confirmed, asked_at)
        if rows:
            self._newest = rows[-1]
            self._tell_the_watched()

    def start(self) -> None:
        """Begin to look, in a task that `close` ends."""
        self._looking = asyncio.create_task(go_on(self.run, "looking for what has ended"))

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def run(self) -> None:
        """Keep looking until cancelled."""
        looks, outage = 0, Outage(_log, "see what has ended")
        while True:
            self._look.clear()
            try:
                await self._look_for_news()
                if looks % _PURGE_EVERY_LOOKS == 0:
                    await self._forget_the_old()
                outage.worked()
            except ChatkeepError as error:
                outage.failed(error.code)
            looks += 1
            await asyncio.sleep(_PAUSE_S)  # however often it is told: that anybody might do
            try:
                # Not `wait_for`: before Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._look.wait()
            except TimeoutError:
                continue

    def _learn(self, row: _Row) -> None:
        key = row.key
        # `greatest` of a null and a moment is the moment: the kind says whether it counts.
        if row.kind in _DATED and row.not_before is not None:
            self._not_before[key] = (row.not_before, row.until)
            if row.kind in _TOLD:
                self._telling.add(row.issuer)
        else:
            self._ended[key] = row.until

    def _is_older(self, principal: Principal, key: Key) -> bool:
        found = self._not_before.get(key)
        return found is not None and counted_as_issued(principal) < found[0]

    def _tell_others(self) -> None:
        if self._announce is not None:
            self._announce()

    def _tell_the_watched(self) -> None:
        for ended, principal in list(self._watched.items()):
            if self.knows(principal):
                ended()

    async def _revoke(self, kind: str, issuer: str, subject: str, until: datetime) -> None:
        await self._db.execute(
            AUTH,
            "select chatkeep.revoke(%s, %s, %s, null, %s)",
            (kind, issuer, subject, until),
        )
        await self.catch_up()

    async def _forget_the_old(self) -> None:
        """Drop what no living token can name, here and in the table.

        By whichever clock is behind, ours or that of the database: what is forgotten is not learnt
        again when ours, which may be ahead for a while, is put right.
        """
        (theirs,) = await self._db.fetch(AUTH, "select now() as now", (), row=_Moment)
        now = min(datetime.now(UTC), theirs.now)
        self._ended = {key: until for key, until in self._ended.items() if until > now}
        self._not_before = {key: one for key, one in self._not_before.items() if one[1] > now}
        self._telling = {issuer for kind, issuer, _ in self._not_before if kind in _TOLD}
        await in_turns(
            lambda at_most: self._db.execute(
                AUTH,
                "with few as materialized (select kind, issuer, subject"
                "  from chatkeep.revocations where until < now()"
                "  limit %s for update skip locked)"
                " delete from chatkeep.revocations r using few where"
                " (r.kind, r.issuer, r.subject) = (few.kind, few.issuer, few.subject)",
                (at_most,),
            )
        )
