"""Audit entries that strangers can cause as often as they like, and therefore are bounded.

A refused credential is an entry, and a flood of them must not fill the disk. So of one
action and reason from one network, the first few of each minute are entries of their own,
and the rest of that minute is one entry that says how many it stands for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from chatkeep.audit.entries import Outcome, Written, entry
from chatkeep.db import AUTH
from chatkeep.errors import ChatkeepError
from chatkeep.going_on import go_on
from chatkeep.outages import Outage
from chatkeep.pending_writes import PendingWrites
from chatkeep.request_origin import RequestOrigin, request_origin

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from chatkeep.db import Database, Query

_log = logging.getLogger(__name__)

#: Of one action and reason from one network, entries of their own in a minute.
EACH_A_MINUTE: Final = 20
#: Of everything together, and from how many networks the rest is told apart.
ALL_A_MINUTE: Final = 600
_NETWORKS_TOLD_APART: Final = 200
_MINUTE_S: Final = 60.0
_WRITE_EVERY_S: Final = 1.0
_IPV6_NETWORK: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    action: str
    outcome: Outcome
    reason: str | None
    network: str | None


class Notices:
    """Takes notices, and writes them down every second. One per process; `start` and `close`."""

    def __init__(self, db: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing noticed; *clock* counts seconds."""
        self._db = db
        self._clock = clock
        self._since = clock()
        self._seen: Counter[_Kind] = Counter()
        self._counted: Counter[_Kind] = Counter()
        self._taken = 0
        self._waiting: list[Query[Written]] = []
        self._pending = PendingWrites()
        self._writing: asyncio.Task[None] | None = None
        self._outage = Outage(_log, "write to the audit log")

    def note(
        self,
        action: str,
        *,
        outcome: Outcome = "refused",
        reason: str | None = None,
        user_id: str | None = None,
        issuer: str | None = None,
        session_id: UUID | str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Take notice of what the request at hand was refused; the words are those of `entry`."""
        self._turn()
        network = _network(request_origin.get().address)
        kind = _Kind(action=action, outcome=outcome, reason=reason, network=network)
        if self._seen[kind] >= EACH_A_MINUTE or self._taken >= ALL_A_MINUTE:
            if kind not in self._counted and len(self._counted) >= _NETWORKS_TOLD_APART:
                kind = _Kind(action=action, outcome=outcome, reason=reason, network=None)
            self._counted[kind] += 1
            return
        self._seen[kind] += 1
        self._taken += 1
        self._waiting.append(
            entry(  # audit: the literal is where this is called
                action,
                outcome=outcome,
                reason=reason,
                user_id=user_id,
                issuer=issuer,
                session_id=session_id,
                details=details,
            )
        )

    async def write(self) -> None:
        """Write down what was noticed until now; return when it is written, by whomever.

        Raises:
            Unavailable: the database is away; it is written the next time.
        """
        self._turn()
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._pending.begin(self._written(waiting))
        await self._pending.wait()

    def start(self) -> None:
        """Begin to write, in a task that `close` ends."""
        self._writing = asyncio.create_task(go_on(self._run, "writing notices for the audit log"))

    async def close(self) -> None:
        """Write the rest, and no more."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        self._since = float("-inf")
        await self._tried()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            await self._tried()

    async def _written(self, waiting: list[Query[Written]]) -> None:
        try:
            await self._db.fetch_all(AUTH, *waiting)
        except ChatkeepError:
            self._waiting = (waiting + self._waiting)[:ALL_A_MINUTE]
            raise

    async def _tried(self) -> None:
        try:
            await self.write()
            self._outage.worked()
        except ChatkeepError as error:
            self._outage.failed(error.code)

    def _turn(self) -> None:
        """Begin the next minute when this one is over: what was only counted becomes entries."""
        now = self._clock()
        if now - self._since < _MINUTE_S:
            return
        for kind, times in self._counted.items():
            address = kind.network and kind.network.partition("/")[0]
            self._waiting.append(
                entry(
                    kind.action,
                    outcome=kind.outcome,
                    reason=kind.reason,
                    details={"times": times, "within_s": int(_MINUTE_S)},
                    origin=RequestOrigin(address=address),
                )
            )
        self._since, self._taken = now, 0
        self._seen.clear()
        self._counted.clear()


def _network(address: str | None) -> str | None:
    """The address, or in IPv6 its /64: a device chooses the other half by itself."""
    if not address:
        return None
    try:
        length = _IPV6_NETWORK if ip_address(address).version == 6 else 32  # noqa: PLR2004 -- the version
    except ValueError:
        return None
    return str(ip_network(f"{address}/{length}", strict=False))
