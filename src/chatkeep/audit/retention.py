"""Letting old entries go, from the beginning of the chain, so that the rest can be verified.

Nothing is let go that does not verify: what was tampered with stays to be looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from chatkeep.audit.chain import ChainKey, held_head, move, page_after, unwrapped
from chatkeep.audit.verifying import problem_of
from chatkeep.db import ADMIN
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from chatkeep.audit.chain import KeptHead, Link
    from chatkeep.db import Database

#: What is younger the database keeps, whatever a setting says.
SHORTEST_DAYS: Final = 30
_BATCH: Final = 2000


async def let_go(db: Database, secret: bytes, *, days: int) -> int:
    """Drop entries older than *days*, a batch of them; return how many.

    0 while another server is at the chain.

    Raises:
        SetupError: they do not verify, or the chain was made under another secret.
        Unavailable: the database is away.
    """
    async with db.acting_as(ADMIN) as connection:
        head = await held_head(connection)
        if head is None or head.chain_key is None:
            return 0
        key = ChainKey(unwrapped(head.chain_key, secret))
        links = await page_after(connection, head.start_position, limit=_BATCH)
        _require_whole(key, head, links)
        going = await _older(connection, links, days)
        if not going:
            return 0
        start = replace(head, start_position=going[-1].position, start_mac=going[-1].mac)
        await move(connection, key, start)
        numbers = [one.number for one in going]
        await connection.execute(
            "delete from chatkeep.audit_log where number = any(%s)", (numbers,)
        )
        await connection.execute(
            "delete from chatkeep.audit_links where position <= %s", (start.start_position,)
        )
        return len(going)


def _require_whole(key: ChainKey, head: KeptHead, links: list[Link]) -> None:
    position, mac = head.start_position, head.start_mac
    broken = not key.fits(head)
    for link in links:
        broken = broken or problem_of(key, mac, position + 1, link) is not None
        position, mac = link.position, link.mac
    if broken:
        raise SetupError("The audit log was tampered with: run `chatkeep audit verify`.")


async def _older(connection: AsyncConnection, links: list[Link], days: int) -> list[Link]:
    """Return those of *links*, from the first on, whose entries are all older than *days*."""
    cursor = await connection.execute(
        "select number from chatkeep.audit_log where number = any(%s)"
        " and at < now() - make_interval(days => %s)",
        ([one.number for one in links], max(days, SHORTEST_DAYS)),
    )
    old = {row[0] for row in await cursor.fetchall()}
    kept = next((place for place, one in enumerate(links) if one.number not in old), len(links))
    return links[:kept]
