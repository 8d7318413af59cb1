"""Telling: each receiver from a queue of its own, so that a slow one keeps nobody else waiting.

What a receiver does not take is tried again for most of a day, with growing pauses, and then
kept for an operator. Addresses may hold secrets: the log has names.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec

from chatkeep.errors import ChatkeepError
from chatkeep.fetching import FetchFailed, post
from chatkeep.job_queue import JobQueue, TryAgain
from chatkeep.webhooks import records
from chatkeep.webhooks.signing import signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.config import Settings
    from chatkeep.config.webhooks import WebhookEndpoint
    from chatkeep.db import Database
    from chatkeep.errors import BudgetExhausted
    from chatkeep.job_queue import Turn

_log = logging.getLogger(__name__)

TASK: Final = "send_webhook"
#: After each attempt that failed, how long until the next; the ninth is the last.
PAUSES: Final = tuple(
    timedelta(seconds=wait) for wait in (5, 30, 120, 600, 1800, 7200, 18_000, 36_000)
)
#: How long a receiver may take. It should take note, and do its work afterwards.
DEADLINE_S: Final = 15.0
_GONE: Final = 410
_LOOK_EVERY_S: Final = 600.0
_REMEMBERED: Final = 10_000


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is queued: what happened *at* when, in seconds since 1970, and about which ids."""

    id: str
    event: str
    at: float
    about: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What tells one *endpoint*. *account* is our id of a person by that of their account."""

    db: Database
    endpoint: WebhookEndpoint
    public_only: bool
    account: Callable[[str], str]

    async def deliver(self, turn: Turn, content: str) -> None:
        """Tell it once, or put it away for good.

        Raises:
            TryAgain: it could not be told now.
        """
        told = msgspec.json.decode(content, type=Told)
        reason = await self.send(told)
        if reason is None:
            return
        name, attempts = self.endpoint.name, turn.attempts + 1
        if reason != str(_GONE) and attempts <= len(PAUSES):
            _log.warning("webhook %s to %s waits: %s", told.id, name, reason)
            raise TryAgain(PAUSES[attempts - 1])
        _log.error("webhook %s to %s is given up: %s", told.id, name, reason)
        await records.bury(
            self.db,
            name=name,
            identity=told.id,
            event=told.event,
            content=content,
            attempts=attempts,
            reason=reason,
        )

    async def send(self, told: Told) -> str | None:
        """Send *told*; return why it was not taken, None when it was.

        Raises:
            Unavailable: the database is away.
        """
        body = msgspec.json.encode(await self._payload(told))
        # Receivers refuse what is minutes off: not by this server's clock, which may be.
        now = int((await self.db.now()).timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Chatkeep",
            "webhook-id": told.id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self.endpoint.keys, identity=told.id, at=now, body=body),
        }
        public_only = self.public_only and not self.endpoint.private
        try:
            status = await post(
                self.endpoint.url,
                body,
                public_only=public_only,
                headers=headers,
                deadline_s=DEADLINE_S,
            )
        except FetchFailed as failed:
            return "timeout" if isinstance(failed.__cause__, TimeoutError) else "unreachable"
        except ValueError:
            return "address"
        return None if 200 <= status < 300 else str(status)  # noqa: PLR2004 -- whatever is a success

    async def _payload(self, told: Told) -> dict[str, Any]:
        about = dict(told.about)
        if "account" in about:
            about = {"user_id": self.account(about.pop("account")), **about}
        if self.endpoint.text and told.event == "answer.finished":
            words = await records.find_words(
                self.db, about["user_id"], about["conversation_id"], about["message_id"]
            )
            about["question"] = None if words is None else words.question
            about["answer"] = None if words is None else words.answer
        at = datetime.fromtimestamp(told.at, UTC).isoformat().replace("+00:00", "Z")
        return {"type": told.event, "timestamp": at, "data": about}


class Webhooks:
    """Everybody who is told of what happens here. Share one per process."""

    def __init__(self, db: Database, settings: Settings, account: Callable[[str], str]) -> None:
        """Prepare; `start` begins. *account* is our id of a person by that of their account."""
        self._db = db
        self.deliveries = [
            Delivery(db=db, endpoint=one, public_only=settings.production, account=account)
            for one in settings.webhooks
        ]
        self._endpoints = [one.endpoint for one in self.deliveries]
        self._refused: set[str] = set()
        self._queues = [self._queue(one, float(settings.drain_s)) for one in self.deliveries]

    @property
    def has_receivers(self) -> bool:
        """Whether anybody is told."""
        return bool(self.deliveries)

    async def budget_exhausted(self, user_id: str, error: BudgetExhausted) -> None:
        """Tell, once for each budget and the time it is for, that somebody was refused.

        The id is the same whichever node tells it. What cannot be queued is logged, and queued
        when the next one is refused.
        """
        name, until = error.members.get("budget"), error.members.get("resets_at")
        identity = hashlib.sha256(f"{user_id}\n{name}\n{until}".encode()).hexdigest()[:32]
        if not self.deliveries or until is None or identity in self._refused:
            return
        if len(self._refused) >= _REMEMBERED:
            self._refused.clear()
        self._refused.add(identity)
        about = {"user_id": user_id, "budget": name, "resets_at": until}
        told = Told(id=f"msg_{identity}", event="budget.exhausted", at=time.time(), about=about)
        try:
            await records.queue(self._db, told.event, msgspec.json.encode(told).decode())
        except ChatkeepError as failed:
            _log.warning("webhook %s is not queued: %s", told.id, failed.code)
            self._refused.discard(identity)

    async def start(self) -> None:
        """Let what happens be queued, and begin to tell."""
        await records.begin(self._db, self._endpoints)
        for queue, one in zip(self._queues, self.deliveries, strict=True):
            queue.start(f"webhook:{one.endpoint.name}")

    async def keep(self) -> None:
        """Say now and then who is told here, and end who is told nowhere, until cancelled.

        Not at once: after a long rest of all servers the one that names somebody may start last.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self.look()
            except ChatkeepError as failed:
                _log.debug("no look at who is told: %s", failed.code)

    async def look(self) -> None:
        """Say who is told here, and end who was told nowhere for a day.

        Raises:
            Unavailable: the database is away.
        """
        await records.go_on(self._db, self._endpoints)
        for name in await records.end_unnamed(self._db):
            _log.warning("webhooks to %s have ended: no server has named it for a day", name)
        if dropped := await records.drop_waiting(self._db):
            _log.warning("%d webhooks are dropped: whom they were for has ended", dropped)

    async def close(self) -> None:
        """Begin nothing further, and let what is being sent end."""
        await asyncio.gather(*(one.close() for one in self._queues))

    def told(self, payload: str) -> None:
        """Take a notification that there is something new in a queue."""
        for one in self._queues:
            one.told(payload)

    def missed(self) -> None:
        """Look into the queues, because notifications may have been lost."""
        for one in self._queues:
            one.missed()

    def _queue(self, delivery: Delivery, drain_s: float) -> JobQueue:
        queue = JobQueue(self._db, drain_s=drain_s)
        queue.add(TASK, delivery.deliver)
        return queue


def test_event() -> Told:
    """Return something to tell that has not happened, for an operator to try."""
    return Told(id=f"msg_{uuid4().hex}", event="test", at=time.time(), about={})
