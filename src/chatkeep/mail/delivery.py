"""Queued mail, sent: what is done with each, when it is tried again, and when it is given up.

A refusal of the address or of the mail is final; whatever may pass is tried again for most
of an hour, with growing pauses. What is given up leaves a line in the log and an entry in
the audit log, neither of which names an address.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chatkeep import audit
from chatkeep.db import WORKER, Query
from chatkeep.job_queue import GONE_AFTER_S, TryAgain
from chatkeep.mail.messages import message, on_the_wire
from chatkeep.mail.outgoing import TASK
from chatkeep.mail.rendering import rendered
from chatkeep.mail.smtp import NotSent, mail_server

if TYPE_CHECKING:
    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.job_queue import JobQueue, Turn
    from chatkeep.mail.mails import Mail
    from chatkeep.mail.outgoing import Outgoing
    from chatkeep.mail.smtp import MailServer
    from chatkeep.mail.templates import Templates

_log = logging.getLogger(__name__)

#: After each attempt that failed, how long until the next.
PAUSES: Final = tuple(timedelta(seconds=wait) for wait in (5, 20, 60, 300, 900, 1800))
#: A link or code has expired by then; other news is old.
_ASKED_WITHIN_S: Final = 3600.0
_TOLD_WITHIN_S: Final = 86_400.0
#: No attempt may outlast what its worker is believed to live, or another would begin it too.
_AT_MOST_S: Final = GONE_AFTER_S - 15


@dataclass(frozen=True, slots=True)
class _Room:
    """How many mails this hour has had; *wait_s* is how long it lasts, in seconds."""

    sent: int | None
    wait_s: float


@dataclass(frozen=True, slots=True)
class _Age:
    """How long ago a mail was queued."""

    age_s: float


@dataclass(frozen=True, slots=True)
class _Forgotten:
    """An hour that is long over."""

    hour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Sends what was queued, as *sender*, at most *per_hour* over all nodes."""

    db: Database
    outgoing: Outgoing
    server: MailServer
    templates: Templates
    sender: str
    product: str
    per_hour: int

    def add_to(self, queue: JobQueue) -> None:
        """Let *queue* send mail."""
        queue.add(TASK, self.deliver)

    async def deliver(self, turn: Turn, sealed: str) -> None:
        """Send one queued mail, or give it up.

        Raises:
            TryAgain: it could not be sent now.
        """
        posted = self.outgoing.opened(sealed)
        if posted is None:
            # Queued under another secret, or by a newer version, which a node may have.
            await self._again_or_never(turn, None, "unreadable")
            return
        mail = posted.mail
        if await self._age_s(turn) > (_ASKED_WITHIN_S if mail.asks else _TOLD_WITHIN_S):
            await self._give_up(turn, mail, "too_old")
            return
        await self._require_room()
        try:
            await self._send(mail, at=posted.at, identity=sealed)
        except NotSent as error:
            if error.final:
                await self._give_up(turn, mail, error.reason)
                return
            await self._again_or_never(turn, mail, error.reason)

    async def _age_s(self, turn: Turn) -> float:
        """Return how long ago it was queued, by the one clock that all nodes have."""
        (found,) = await self.db.fetch(
            WORKER,
            "select coalesce(extract(epoch from now() - min(at)), 0)::float8 as age_s"
            " from chatkeep_queue.procrastinate_events where job_id = %s and type = 'deferred'",
            [turn.job_id],
            row=_Age,
        )
        return found.age_s

    async def _again_or_never(self, turn: Turn, mail: Mail | None, reason: str) -> None:
        if turn.attempts >= len(PAUSES):
            await self._give_up(turn, mail, reason)
            return
        _log.warning("mail %d waits for another attempt: %s", turn.job_id, reason)
        raise TryAgain(PAUSES[turn.attempts])

    async def _send(self, mail: Mail, *, at: float, identity: str) -> None:
        content = rendered(mail, self.templates, product=self.product, home=self.outgoing.home)
        try:
            to = on_the_wire(mail.to)
            made = message(
                content,
                to=to,
                sender=self.sender,
                sender_name=self.product,
                at=at,
                identity=identity,
            )
        except (ValueError, IndexError):  # the standard library's ways to say: no address
            raise NotSent("bad_address", final=True) from None
        try:
            async with asyncio.timeout(_AT_MOST_S):
                await self.server.send(made, sender=self.sender, to=to)
        except TimeoutError:
            raise NotSent("timeout", final=False) from None

    async def _require_room(self) -> None:
        """Count one more mail in this hour, or wait for the next."""
        rooms, _ = await self.db.fetch_all(
            WORKER,
            Query(
                "with counted as ("
                "  insert into chatkeep.mail_hours as known (hour, sent)"
                "  values (date_trunc('hour', now(), 'UTC'), 1)"
                "  on conflict (hour) do update set sent = known.sent + 1"
                "  where known.sent < %s returning sent)"
                " select (select sent from counted) as sent, extract(epoch from"
                "  date_trunc('hour', now(), 'UTC') + interval '1 hour' - now())::float8 as wait_s",
                [self.per_hour],
                _Room,
            ),
            Query(
                "delete from chatkeep.mail_hours where hour < now() - interval '1 day'"
                " returning hour::text",
                (),
                _Forgotten,
            ),
        )
        if rooms[0].sent is None:
            _log.error("mail waits for the next hour: MAIL_PER_HOUR were sent in this one")
            raise TryAgain(timedelta(seconds=rooms[0].wait_s))

    async def _give_up(self, turn: Turn, mail: Mail | None, reason: str) -> None:
        kind = "unknown" if mail is None else mail.kind
        attempts = turn.attempts + 1
        _log.error(
            "mail %d (%s) is given up at attempt %d: %s", turn.job_id, kind, attempts, reason
        )
        entry = audit.entry(
            "mail.given_up",
            outcome="refused",
            reason=reason,
            user_id=None if mail is None else mail.user_id,
            details={"kind": kind, "attempts": attempts},
        )
        await audit.record(self.db, entry)


def open_delivery(
    settings: Settings, db: Database, outgoing: Outgoing, templates: Templates
) -> Delivery | None:
    """Return what sends mail by *settings*, None where there is no mail server."""
    server = mail_server(settings)
    if server is None:
        return None
    return Delivery(
        db=db,
        outgoing=outgoing,
        server=server,
        templates=templates,
        sender=settings.mail_from or "",
        product=settings.mail_name,
        per_hour=settings.mail_per_hour,
    )
