"""Our own issuer, opened for a command: the database brought up to date, and its people."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from chatkeep.cli.steps import Steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer

#: Who acts, as the audit log calls them.
ACTOR = "operator"


@contextmanager
def with_database(settings: Settings) -> Iterator[Settings]:
    """Lend *settings* with a database that is up to date, whether a server runs on it or not."""
    from chatkeep.cli.preparation import bring_up_to_date, prepared  # noqa: PLC0415 -- slow

    steps = Steps(sys.stderr, quiet=True)
    with prepared(settings, steps, "command") as complete:
        bring_up_to_date(complete, steps)
        yield complete


@asynccontextmanager
async def own_issuer(settings: Settings) -> AsyncIterator[EmbeddedIssuer]:
    """Lend the issuer of the server that *settings* are for; see `with_database`."""
    from chatkeep import primary_issuer  # noqa: PLC0415 -- slow to import
    from chatkeep.issuance import open_issuer  # noqa: PLC0415 -- as above
    from chatkeep.opening import open_database  # noqa: PLC0415 -- as above

    async with AsyncExitStack() as stack:
        db = await open_database(stack, settings)
        wanted = settings.primary_issuer or settings.issuer_names[0]
        primary = await primary_issuer.settle(db, wanted)
        issuer = await open_issuer(
            db, settings, str(settings.secret).encode(), primary=primary == "embedded"
        )
        stack.callback(issuer.close)
        yield issuer
