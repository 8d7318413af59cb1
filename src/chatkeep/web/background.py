"""What a server does beside its requests: checkpoints, sweeping, listening."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from chatkeep import conversations, idempotency, one_time_tokens
from chatkeep.audit import keep_chain
from chatkeep.errors import ChatkeepError
from chatkeep.going_on import go_on
from chatkeep.mail.outbox import trim_outbox
from chatkeep.notifications import Listener
from chatkeep.personal_keys import records as key_records
from chatkeep.sessions import forgetting as old_sessions
from chatkeep.sign_in import anonymous_accounts, authorization_codes
from chatkeep.web.clock import ClockWatch
from chatkeep.web.measures import collect, watch_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AsyncExitStack

    from chatkeep.web.services import Services

_log = logging.getLogger(__name__)

_SWEEP_EVERY_S = 5.0
_PURGE_EVERY_S = 600.0
#: Once a day: it lists a whole bucket.
_FILES_EVERY_PURGES = 24 * 6


def start_background(stack: AsyncExitStack, services: Services) -> None:
    """Start it; *stack* ends it, after the answers being made have ended."""
    settings = services.settings
    work: list[Coroutine[Any, Any, None]] = [
        go_on(services.replies.keep_checkpoints, "keeping answers"),
        services.replies.keep_tails(),
        go_on(partial(_keep_swept, services), "sweeping"),
        go_on(partial(_keep_purged, services), "erasing what is old"),
        go_on(ClockWatch(services.db).run, "comparing the clocks"),
        go_on(services.webhooks.keep, "looking who is told"),
        go_on(services.sightings.run, "writing which sessions are used"),
        go_on(services.personal_keys.run, "writing which keys are used"),
        go_on(
            partial(
                keep_chain,
                services.db,
                str(settings.secret).encode(),
                retention_days=settings.audit_retention_days,
            ),
            "sealing the audit log",
        ),
    ]
    if settings.limits_money or len(settings.upstream_names) > 1:
        work.append(go_on(services.offered_models.keep_known, "asking which models there are"))
    if settings.database_listen_url or not settings.database_pooler:
        work.append(go_on(_listener(services).run, "listening for notifications"))
    tasks = [asyncio.create_task(one) for one in work]
    stack.push_async_callback(_end, tasks)
    if settings.smtp_url is not None:
        services.jobs.start("mail")
    stack.push_async_callback(drained, services)


async def start_metrics(stack: AsyncExitStack, services: Services) -> None:
    """Let a monitoring system ask, where a port is set for it.

    Raises:
        SetupError: somebody else listens there.
    """
    settings = services.settings
    if settings.metrics_port is None:
        return
    # It takes a moment to import, for those who do not ask.
    from chatkeep.web.metrics_server import serve_metrics  # noqa: PLC0415

    await serve_metrics(
        stack,
        partial(collect, services),
        host=settings.metrics_host,
        port=settings.metrics_port,
        token=settings.metrics_token,
    )
    stack.push_async_callback(_end, [asyncio.create_task(watch_loop())])


async def drained(services: Services) -> None:
    """Let what is being answered and what is being sent end, side by side."""
    drain_s = float(services.settings.drain_s)
    await asyncio.gather(
        services.replies.close(drain_s=drain_s),
        services.chatkit.close(drain_s=drain_s),
        services.jobs.close(),
        services.webhooks.close(),
    )


def _listener(services: Services) -> Listener:
    settings, revocations = services.settings, services.embedded.revocations
    listener = Listener(settings.database_listen_url or services.db.url)
    listener.subscribe(
        "chatkeep_profiles", services.preferences.forget, missed=services.preferences.forget_all
    )
    listener.subscribe("chatkeep_revocations", revocations.told, missed=revocations.told)
    ring = services.embedded.signing_keys
    listener.subscribe("chatkeep_signing_keys", ring.told, missed=ring.told)
    listener.subscribe("chatkeep_runs", services.replies.told_to_stop, missed=_nothing)
    tails = services.replies.tails
    listener.subscribe("chatkeep_tails", tails.told, missed=tails.missed)
    listener.subscribe("chatkeep_titles", services.titling.told, missed=_nothing)
    if settings.smtp_url is not None:
        listener.subscribe(
            "procrastinate_any_queue_v1", services.jobs.told, missed=services.jobs.missed
        )
    if (webhooks := services.webhooks).has_receivers:
        listener.subscribe("procrastinate_any_queue_v1", webhooks.told, missed=webhooks.missed)
    return listener


def _nothing() -> None:
    """A lost wish to stop is found by the next checkpoint, a lost title by the next look."""


async def _keep_swept(services: Services) -> None:
    """Find runs whose process died, for which somebody waits."""
    while True:
        await _tried(services.replies.sweep)
        await asyncio.sleep(_SWEEP_EVERY_S)


async def _keep_purged(services: Services) -> None:
    """Erase deleted conversations, and what else has expired, for which nobody waits.

    Beside the sweeps: much that was deleted takes minutes, and a bucket may be large.
    """
    purges, sweeps = 0, _purges(services)
    while True:
        if purges % _FILES_EVERY_PURGES == _FILES_EVERY_PURGES - 1:
            await _tried(services.files.sweep)
        for purge in sweeps:
            await _tried(purge)
        purges += 1
        await asyncio.sleep(_PURGE_EVERY_S)


def _purges(services: Services) -> tuple[Callable[[], Awaitable[object]], ...]:
    db = services.db
    return (
        partial(conversations.purge_deleted, db),
        services.files.purge,
        partial(idempotency.forget_old, db),
        partial(trim_outbox, db),
        partial(one_time_tokens.sweep, db),
        partial(authorization_codes.sweep, db),
        anonymous_accounts.Sweep(services.embedded).run,
        partial(old_sessions.forget, db),
        partial(key_records.forget_old, db),
        services.replies.budgets.forget_old,
    )


async def _tried(sweep: Callable[[], Awaitable[object]]) -> None:
    """Do *sweep*; what one cannot do now, as without the store of files, keeps no other waiting."""
    try:
        await sweep()
    except ChatkeepError:
        return  # the database is away, or that store: the next time finds the same
    except Exception:  # noqa: BLE001 -- whatever it was, the others must go on
        _log.exception("a sweep failed")


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
