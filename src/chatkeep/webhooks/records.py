"""What of webhooks is in the database: who wants to hear of what, and what could not be told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from chatkeep.batches import in_turns
from chatkeep.db import WORKER, Query, as_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.config.webhooks import WebhookEndpoint
    from chatkeep.db import Database

#: So long a receiver goes on that no server names: far longer than it takes to replace them all,
#: or to notice that one lacks a setting.
LISTENED_FOR: Final = timedelta(days=1)


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


async def begin(db: Database, endpoints: Sequence[WebhookEndpoint]) -> None:
    """Let the database queue for *endpoints* what they want to hear of now.

    Others go on: they may be those of a server with other settings.
    """
    if not endpoints:
        return
    await db.fetch_all(
        WORKER,
        *(
            Query(
                "insert into chatkeep.webhooks (name, events) values (%s, %s) on conflict (name)"
                " do update set events = excluded.events, listened_at = now() returning name",
                [one.name, list(one.events)],
                _Name,
            )
            for one in _in_order(endpoints)
        ),
    )


async def go_on(db: Database, endpoints: Sequence[WebhookEndpoint]) -> None:
    """Say that a server names *endpoints* still; one that was ended meanwhile begins again."""
    if not endpoints:
        return
    await db.fetch_all(
        WORKER,
        *(
            Query(
                "insert into chatkeep.webhooks (name, events) values (%s, %s) on conflict (name)"
                " do update set listened_at = now() returning name",
                [one.name, list(one.events)],
                _Name,
            )
            for one in _in_order(endpoints)
        ),
    )


def _in_order(endpoints: Sequence[WebhookEndpoint]) -> list[WebhookEndpoint]:
    """Return them as every server takes them, or two would wait for each other."""
    return sorted(endpoints, key=lambda one: one.name)


async def end_unnamed(db: Database) -> list[str]:
    """End the receivers that no server has named for a day; return who they were."""
    found = await db.fetch(
        WORKER,
        "delete from chatkeep.webhooks where listened_at < now() - %s returning name",
        [LISTENED_FOR],
        row=_Name,
    )
    return [one.name for one in found]


async def end(db: Database, name: str) -> bool:
    """End the receiver at once, until a server names it; return whether there was one."""
    return bool(await db.execute(WORKER, "delete from chatkeep.webhooks where name = %s", [name]))


async def drop_waiting(db: Database) -> int:
    """Drop what waits for receivers that have ended; return how much that was."""
    return await in_turns(
        lambda at_most: db.execute(
            WORKER,
            "with few as materialized (select id from chatkeep_queue.procrastinate_jobs job"
            "  where task_name = 'send_webhook' and status = 'todo' and not exists"
            "   (select from chatkeep.webhooks w where 'webhook:' || w.name = job.queue_name)"
            "  limit %s for update of job skip locked)"
            " delete from chatkeep_queue.procrastinate_jobs job using few where job.id = few.id",
            [at_most],
        )
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
