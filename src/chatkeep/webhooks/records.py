"""What of webhooks is in the database: who wants to hear of what, and what could not be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 -- a record of rows
from typing import TYPE_CHECKING

from chatkeep.db import WORKER, Query, as_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.config.webhooks import WebhookEndpoint
    from chatkeep.db import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """What *name* was not told."""

    id: str
    name: str
    event: str
    attempts: int
    reason: str
    died_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What was asked, and what was answered."""

    question: str | None
    answer: str


@dataclass(frozen=True, slots=True)
class _Name:
    name: str


async def say_who_listens(db: Database, endpoints: Sequence[WebhookEndpoint]) -> None:
    """Let the database queue for *endpoints* what they want to hear of, and for nobody else.

    What waits for somebody who is not told any more is dropped.
    """
    names = [one.name for one in endpoints]
    await db.fetch_all(
        WORKER,
        Query(
            "delete from chatkeep.webhooks where not name = any(%s) returning name", [names], _Name
        ),
        Query(
            "delete from chatkeep_queue.procrastinate_jobs"
            " where task_name = 'send_webhook' and status = 'todo'"
            " and not queue_name = any(%s) returning queue_name as name",
            [[f"webhook:{name}" for name in names]],
            _Name,
        ),
        *(
            Query(
                "insert into chatkeep.webhooks (name, events) values (%s, %s)"
                " on conflict (name) do update set events = excluded.events returning name",
                [one.name, list(one.events)],
                _Name,
            )
            for one in endpoints
        ),
    )


async def queue(db: Database, event: str, content: str) -> None:
    """Queue *content* for everybody who wants to hear of *event*: what no row tells of."""
    await db.execute(
        WORKER,
        "insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, args)"
        " select 'webhook:' || name, 'send_webhook', jsonb_build_object('sealed', %s::text)"
        " from chatkeep.webhooks where %s = any(events)",
        [content, event],
    )


async def bury(
    db: Database, *, name: str, identity: str, event: str, content: str, attempts: int, reason: str
) -> None:
    """Keep what could not be told, for a month."""
    await db.fetch_all(
        WORKER,
        Query(
            "delete from chatkeep.dead_webhooks where died_at < now() - interval '30 days'"
            " returning name",
            (),
            _Name,
        ),
        Query(
            "insert into chatkeep.dead_webhooks (name, id, event, content, attempts, reason)"
            " values (%s, %s, %s, %s, %s, %s) on conflict (name, id) do update"
            " set attempts = excluded.attempts, reason = excluded.reason, died_at = now()"
            " returning name",
            [name, identity, event, content, attempts, reason],
            _Name,
        ),
    )


async def list_dead(db: Database) -> list[Dead]:
    """Return what could not be told, oldest first; 500 at most."""
    return await db.fetch(
        WORKER,
        "select id, name, event, attempts, reason, died_at from chatkeep.dead_webhooks"
        " order by died_at, name, id limit 500",
        (),
        row=Dead,
    )


async def redeliver(db: Database, identities: Sequence[str] | None) -> int:
    """Queue again what could not be told, all of it or *identities*; return how much that was."""
    return await db.execute(
        WORKER,
        "with again as ("
        "  delete from chatkeep.dead_webhooks where %s::text[] is null or id = any(%s)"
        "  returning name, content"
        ") insert into chatkeep_queue.procrastinate_jobs (queue_name, task_name, args)"
        " select 'webhook:' || name, 'send_webhook', jsonb_build_object('sealed', content)"
        " from again",
        [None if identities is None else list(identities)] * 2,
    )


async def find_words(
    db: Database, user_id: str, conversation_id: str, message_id: str
) -> Words | None:
    """Return what was said in one exchange, as its owner sees it; None when it is gone."""
    found = await db.fetch(
        as_user(user_id),
        "select q.content as question, a.content as answer from chat.messages a"
        " join chat.conversations c on c.user_id = a.user_id and c.id = a.conversation_id"
        "  and c.deleted_at is null"
        # `offset 0`: looked up by its whole key, however long the conversation is.
        " left join lateral (select content from chat.messages where user_id = a.user_id"
        "  and conversation_id = a.conversation_id and id = a.parent_id offset 0) q on true"
        " where a.user_id = %(user)s and a.conversation_id = %(conversation)s"
        "  and a.id = %(message)s",
        {"user": user_id, "conversation": conversation_id, "message": message_id},
        row=Words,
    )
    return found[0] if found else None
