"""Development's outbox: mail that nobody sends, to be looked at instead.

It is the queue of a server without a mail server, which nobody works on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from chatkeep.db import WORKER

if TYPE_CHECKING:
    from chatkeep.db import Database
    from chatkeep.mail.mails import Mail
    from chatkeep.mail.outgoing import Outgoing

#: So much is kept, and shown.
KEPT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A mail of the outbox, newest first by *id*."""

    id: int
    at: datetime
    mail: Mail


@dataclass(frozen=True, slots=True)
class _Waiting:
    id: int
    sealed: str


async def list_outbox(db: Database, outgoing: Outgoing) -> list[Shown]:
    """Return what would have been sent, newest first; what another secret sealed is left out."""
    found = await db.fetch(
        WORKER,
        "select id, args ->> 'sealed' as sealed from chatkeep_queue.procrastinate_jobs"
        " where queue_name = 'outbox' order by id desc limit %s",
        [KEPT],
        row=_Waiting,
    )
    opened = [(one.id, outgoing.opened(one.sealed)) for one in found]
    return [
        Shown(id=number, at=datetime.fromtimestamp(posted.at, UTC), mail=posted.mail)
        for number, posted in opened
        if posted is not None
    ]


async def trim_outbox(db: Database) -> None:
    """Forget all but the newest."""
    await db.execute(
        WORKER,
        "delete from chatkeep_queue.procrastinate_jobs where queue_name = 'outbox' and id <= ("
        " select id from chatkeep_queue.procrastinate_jobs where queue_name = 'outbox'"
        " order by id desc offset %s limit 1)",
        [KEPT],
    )
