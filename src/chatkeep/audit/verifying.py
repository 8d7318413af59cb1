"""Walking the chain of the audit log: is every entry still there, as it was written?"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg.rows import class_row

from chatkeep.audit.chain import ChainKey, KeptHead, Link, page_after, shared_head, unwrapped
from chatkeep.db import ADMIN

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from chatkeep.db import Database

_PAGE: Final = 2000
_STATEMENT_TIMEOUT: Final = "5min"
_PATIENCE_S: Final = 310.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first place where the chain does not hold: the entry's *number*, if it has one."""

    number: int | None
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found. *head* is what to keep elsewhere: `POSITION:DIGEST`, "" when empty."""

    entries: int
    waiting: int
    head: str
    broken: Break | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    count: int
    beside: int | None


async def verify(db: Database, secret: bytes, *, known_head: str | None = None) -> Verification:
    """Walk the whole chain, while nobody adds to it; find the first place that does not hold.

    *known_head* is a head that an earlier verification gave, kept elsewhere: the chain must
    go through it. It may be older than what retention has let go.

    Raises:
        SetupError: the chain was made under another secret.
        Unavailable: the database is away.
    """
    async with db.acting_as(ADMIN, patience_s=_PATIENCE_S) as connection:
        await connection.execute(
            "select set_config('statement_timeout', %s, true)", [_STATEMENT_TIMEOUT]
        )
        head = await shared_head(connection)
        if head is None:
            return Verification(entries=0, waiting=0, head="", broken=_HEAD_GONE)
        waiting = await _waiting(connection)
        broken = None
        try:
            walked = await _walk(connection, head, secret, known_head)
        except _Broken as error:
            walked, broken = error.walked, error.found
        if broken is None and waiting.beside is not None:
            broken = Break(number=waiting.beside, problem="was put in beside the chain")
        return Verification(
            entries=walked, waiting=waiting.count, head=in_text(head), broken=broken
        )


def is_head(text: str) -> bool:
    """Whether *text* has the form of an end of the chain, `POSITION:DIGEST`."""
    return re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", text) is not None


def in_text(head: KeptHead) -> str:
    """Return the end of the chain as it is kept elsewhere."""
    return f"{head.position}:{head.mac.hex()}" if head.position else ""


_HEAD_GONE: Final = Break(number=None, problem="the head of the chain is gone")
_FORGED: Final = Break(number=None, problem="the head of the chain was changed, or put back")
_NOT_THROUGH: Final = Break(
    number=None, problem="the chain does not go through the head that was kept"
)


class _Broken(Exception):
    """Ends the walk at the first place that does not hold, after so many that do."""

    def __init__(self, found: Break, walked: int = 0) -> None:
        self.found = found
        self.walked = walked


async def _walk(
    connection: AsyncConnection, head: KeptHead, secret: bytes, known_head: str | None
) -> int:
    """Return how many links there are; all of them hold."""
    known = _read(known_head)
    if known is not None and known[0] > head.position:
        raise _Broken(_NOT_THROUGH)
    if head.chain_key is None:
        if head.position or await page_after(connection, 0, limit=1):
            raise _Broken(_FORGED)
        return 0
    key = ChainKey(unwrapped(head.chain_key, secret))
    if not key.fits(head):
        raise _Broken(_FORGED)
    return await _follow(connection, key, head, known)


async def _follow(
    connection: AsyncConnection, key: ChainKey, head: KeptHead, known: tuple[int, str] | None
) -> int:
    position, mac = head.start_position, head.start_mac
    while page := await page_after(connection, position, limit=_PAGE):
        for link in page:
            broken = problem_of(key, mac, position + 1, link)
            if position == head.position:
                broken = Break(number=link.number, problem="stands behind the end of the chain")
            if broken is None and known == (link.position, link.mac.hex()):
                known = None
            if broken is not None:
                raise _Broken(broken, position - head.start_position)
            position, mac = link.position, link.mac
    walked = position - head.start_position
    if (position, mac) != (head.position, head.mac):
        missing = f"the end is cut off: {head.position - position} links are missing"
        raise _Broken(Break(number=None, problem=missing), walked)
    if known is not None and known[0] > head.start_position:
        raise _Broken(_NOT_THROUGH, walked)
    return walked


def problem_of(key: ChainKey, before: bytes, expected: int, link: Link) -> Break | None:
    """Return what is wrong with *link*, which should be number *expected* after *before*."""
    if link.position != expected:
        return Break(number=None, problem=f"link {expected} of the chain is missing")
    if link.text is None:
        return Break(number=link.number, problem="was deleted")
    if not hmac.compare_digest(key.link(before, expected, link.text), link.mac):
        return Break(number=link.number, problem="was changed, or stands in another place")
    return None


async def _waiting(connection: AsyncConnection) -> _Waiting:
    """Return how many entries are not linked, and the first that should long have been."""
    cursor = connection.cursor(row_factory=class_row(_Waiting))
    await cursor.execute(
        "select count(*) as count, min(l.number) filter (where l.number <= h.settled"
        " or l.at < h.sealed_at - interval '10 minutes') as beside"
        " from chatkeep.audit_log l cross join chatkeep.audit_head h where not exists"
        " (select from chatkeep.audit_links k where k.number = l.number)"
    )
    found = await cursor.fetchone()
    return found or _Waiting(0, None)


def _read(known: str | None) -> tuple[int, str] | None:
    if known is None:
        return None
    position, _, digest = known.partition(":")
    return int(position), digest
