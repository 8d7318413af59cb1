"""What a command works on: the database, brought up to date, or our own issuer and its people."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from chatkeep.cli.settings import read_settings
from chatkeep.cli.steps import Steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer

_Answer = TypeVar("_Answer")

#: Who acts, as the audit log calls them.
ACTOR = "operator"

#: A command does one thing after another, beside a server that needs its own: a second one is
#: for what is looked up while a transaction goes on.
_CONNECTIONS: Final = 2


def run_on_database(
    data: Path | None, work: Callable[[Database, Settings], Awaitable[_Answer]]
) -> _Answer:
    """Do *work* on the database that the settings name, with those settings.

    *data* is the data folder, where a command names one.
    """
    # Not `chatkeep.opening`: whatever needs no issuer starts in half the time without it.
    from chatkeep.db import Database  # noqa: PLC0415 -- slow to import

    async def run(complete: Settings) -> _Answer:
        db = Database(
            str(complete.database_url),
            pool_size=_CONNECTIONS,
            behind_pooler=complete.database_pooler,
        )
        await db.open()
        try:
            return await work(db, complete)
        finally:
            await db.close()

    with _with_database(read_settings(data_folder=data)) as complete:
        return asyncio.run(run(complete))


def run_as_issuer(
    data: Path | None, work: Callable[[EmbeddedIssuer, Settings], Awaitable[_Answer]]
) -> _Answer:
    """Do *work* with the issuer of the server that the settings are for, as `run_on_database`."""

    async def run(db: Database, complete: Settings) -> _Answer:
        async with own_issuer(db, complete) as issuer:
            return await work(issuer, complete)

    return run_on_database(data, run)


@contextmanager
def _with_database(settings: Settings) -> Iterator[Settings]:
    """Lend *settings* with a database that is up to date, whether a server runs on it or not."""
    from chatkeep.cli.preparation import (  # noqa: PLC0415 -- slow
        bring_up_to_date,
        prepared,
        warn_of_new_folder,
    )

    steps = Steps(sys.stderr, quiet=True)
    warn_of_new_folder(settings, steps)
    with prepared(settings, steps, "command") as complete:
        bring_up_to_date(complete, steps)
        yield complete


@asynccontextmanager
async def own_issuer(db: Database, settings: Settings) -> AsyncIterator[EmbeddedIssuer]:
    """Lend the issuer of the server that *settings* are for, on its database *db*."""
    from chatkeep.opening import open_embedded  # noqa: PLC0415 -- slow to import

    async with AsyncExitStack() as stack:
        issuer, _ = await open_embedded(stack, settings, db)
        yield issuer
