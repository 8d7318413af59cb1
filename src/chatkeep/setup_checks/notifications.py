"""Whether NOTIFY reaches a server where it listens, or is lost at a pooler. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg

from chatkeep.db import connection_settings
from chatkeep.setup_checks.findings import Finding

if TYPE_CHECKING:
    from chatkeep.config import Settings

_NAME: Final = "Notifications"
_WITHIN_S: Final = 3.0


async def examine_notifications(settings: Settings) -> Finding | None:
    """Send a notification and wait for it where a server listens; None where none would listen.

    A pooler in transaction mode takes LISTEN and never tells; nor does another database of the
    same PostgreSQL.

    Raises:
        psycopg.Error: DATABASE_URL itself leads nowhere.
    """
    listens_at = settings.database_listen_url
    if listens_at is None and settings.database_pooler:
        return None
    async with await _connected(str(settings.database_url)) as telling:
        try:
            hears = await _hears(listens_at or str(settings.database_url), telling)
        except psycopg.Error as error:
            said = str(error).partition("\n")[0]
            return Finding(name=_NAME, problems=(f"{said}. Check DATABASE_LISTEN_URL.",))
    if hears:
        return Finding(
            name=_NAME, note="are heard" + (" at DATABASE_LISTEN_URL" if listens_at else "")
        )
    problem = (
        "What is said at DATABASE_URL does not arrive at DATABASE_LISTEN_URL: give it the direct"
        " address of the same database, not that of a pooler."
        if listens_at is not None
        else "What is said at DATABASE_URL does not arrive there: if it leads to a pooler, set"
        " DATABASE_POOLER=on, and DATABASE_LISTEN_URL to the direct address."
    )
    return Finding(name=_NAME, problems=(problem,))


async def _hears(url: str, telling: psycopg.AsyncConnection) -> bool:
    """Whether somebody connected to *url* hears what *telling* says."""
    async with await _connected(url) as listening:
        await listening.execute("listen chatkeep_doctor")
        await telling.execute("select pg_notify('chatkeep_doctor', '')")
        heard = listening.notifies(timeout=_WITHIN_S, stop_after=1)
        return [one async for one in heard] != []


async def _connected(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, **connection_settings(behind_pooler=True))
