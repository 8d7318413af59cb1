"""Erasure of everything that a person said, was told and chose: for good, and at once.

All of it is out of everybody's reach in one transaction. Their rows then go a few
conversations at a time, because a million messages take longer than one statement may;
what an interruption leaves goes with the other conversations that were deleted long ago.

The account, whose rows belong to whoever issues tokens, is not erased here. What answers
cost stays, as numbers without words.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep import audit, files
from chatkeep.batches import Batch
from chatkeep.db import AUTH, Query, as_user
from chatkeep.errors import DatabaseUnavailable, Unavailable
from chatkeep.personal_keys import records as personal_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.db import Database
    from chatkeep.files.stored import StoredFiles
    from chatkeep.principal import Principal

_LARGEST_BATCH: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """How many conversations went, and how many nobody can reach any more but are *left*."""

    conversations: int
    left: int


_OUT_OF_REACH = """
update chat.conversations set deleted_at = clock_timestamp() - interval '25 hours'
where user_id = %s and (deleted_at is null or deleted_at >= now() - interval '24 hours')
"""

# Nodes that have it in memory are told, as they are of a change.
_FORGET_PROFILE = """
with gone as (delete from chat.profiles where id = %s returning id)
select count(pg_notify('chatkeep_profiles', id)::text) as number from gone
"""


@dataclass(frozen=True, slots=True)
class _Gone:
    number: int


@dataclass(frozen=True, slots=True)
class _Erased:
    number: int
    last: str | None


async def erase(
    db: Database,
    user_id: str,
    *,
    by: Principal | None,
    actor: str,
    stored: StoredFiles | None = None,
    at_most: int | None = None,
    tell: Callable[[int], object] | None = None,
) -> Erased:
    """Erase what *user_id* has here, and note it.

    Answers being made end, links stop working, and API keys too. *by* is the person
    themselves, None when *actor* does it for them. With *at_most* so many conversations go
    now; whoever asks again erases the next. *tell* hears how many went, as they do.
    """
    objects = [] if stored is None else await files.objects_of(db, user_id)
    total = await _put_out_of_reach(db, user_id)
    await db.fetch_all(
        AUTH,
        personal_keys.erasing(user_id),
        audit.entry(
            "data.erased",
            user_id=user_id,
            actor=actor,
            issuer=by.issuer if by else None,
            session_id=by.session_id if by else None,
            details={"conversations": total},
        ),
    )
    if stored is not None:
        await stored.forget(objects)
    number = await _erase_conversations(db, user_id, at_most or total, tell)
    return Erased(conversations=number, left=total - number)


async def erase_words(db: Database, user_id: str) -> int:
    """Erase the rows that hold a word of *user_id*; return how many conversations went."""
    total = await _put_out_of_reach(db, user_id)
    return await _erase_conversations(db, user_id, total, None)


async def _put_out_of_reach(db: Database, user_id: str) -> int:
    """Erase all but the conversations, which nobody can restore any more; return how many."""
    *_, found = await db.fetch_all(
        as_user(user_id),
        Query(_OUT_OF_REACH, [user_id], _Gone),
        # The first one waits for copies that are being made, and does not see them.
        Query(_OUT_OF_REACH, [user_id], _Gone),
        Query("delete from chat.chatkit_attachments where user_id = %s", [user_id], _Gone),
        Query("delete from chat.idempotency_keys where user_id = %s", [user_id], _Gone),
        Query(_FORGET_PROFILE, [user_id], _Gone),
        Query(
            "select count(*) as number from chat.conversations where user_id = %s",
            [user_id],
            _Gone,
        ),
    )
    number: int = found[0].number
    return number


async def _erase_conversations(
    db: Database, user_id: str, at_most: int, tell: Callable[[int], object] | None
) -> int:
    """Erase conversations that are out of reach, as many at a time as take a moment."""
    erased, after, batch = 0, "", Batch(most=_LARGEST_BATCH)
    while erased < at_most:
        began = time.monotonic()
        size = min(batch.size, at_most - erased)
        try:
            gone = await _erase_some(db, user_id, after=after, size=size)
        except DatabaseUnavailable:
            raise
        except Unavailable:
            # Out of reach it all is. One that takes longer by itself is left to the chore.
            if not batch.was_too_large():
                raise
            continue
        if gone.last is None:
            break
        erased, after = erased + gone.number, gone.last
        if tell is not None:
            tell(gone.number)
        batch.took(time.monotonic() - began)
    return erased


async def _erase_some(db: Database, user_id: str, *, after: str, size: int) -> _Erased:
    (gone,) = await db.fetch(
        as_user(user_id),
        """
        with batch as (
          select user_id, id from chat.conversations
          where user_id = %(user)s and id > %(after)s
            and deleted_at < now() - interval '24 hours'
          order by id limit %(size)s
        ), gone as (
          delete from chat.conversations c using batch
          where c.user_id = batch.user_id and c.id = batch.id
        )
        select count(*) as number, max(id) as last from batch
        """,
        {"user": user_id, "after": after, "size": size},
        row=_Erased,
    )
    return gone
