"""Erasure of everything that a person said, was told and chose: for good, and at once.

The account, whose rows belong to whoever issues tokens, is not erased here. What answers
cost stays, as numbers without words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep import audit, files
from chatkeep.db import AUTH, Query, as_user
from chatkeep.personal_keys import records as personal_keys

if TYPE_CHECKING:
    from chatkeep.db import Database
    from chatkeep.principal import Principal
    from chatkeep.stored_files import StoredFiles


@dataclass(frozen=True, slots=True)
class _Gone:
    number: int


async def erase(
    db: Database,
    user_id: str,
    *,
    by: Principal | None,
    actor: str,
    stored: StoredFiles | None = None,
) -> int:
    """Erase what *user_id* has here, and note it; return how many conversations there were.

    Answers being made end, links stop working, and API keys too. *by* is the person
    themselves, None when *actor* does it for them.
    """
    objects = [] if stored is None else await files.objects_of(db, user_id)
    number = await erase_words(db, user_id)
    await db.fetch_all(
        AUTH,
        personal_keys.erasing(user_id),
        audit.entry(
            "data.erased",
            user_id=user_id,
            actor=actor,
            issuer=by.issuer if by else None,
            session_id=by.session_id if by else None,
            details={"conversations": number},
        ),
    )
    if stored is not None:
        await stored.forget(objects)
    return number


async def erase_words(db: Database, user_id: str) -> int:
    """Erase the rows that hold a word of *user_id*; return how many conversations went."""
    erased, *_ = await db.fetch_all(
        as_user(user_id),
        Query(
            """
            with gone as (delete from chat.conversations where user_id = %s returning 1)
            select count(*) as number from gone
            """,
            [user_id],
            _Gone,
        ),
        Query(
            """
            with gone as (delete from chat.chatkit_attachments where user_id = %s returning 1)
            select count(*) as number from gone
            """,
            [user_id],
            _Gone,
        ),
        Query(
            """
            with gone as (delete from chat.idempotency_keys where user_id = %s returning 1)
            select count(*) as number from gone
            """,
            [user_id],
            _Gone,
        ),
        Query(
            """
            with gone as (delete from chat.profiles where id = %s returning 1)
            select count(*) as number from gone
            """,
            [user_id],
            _Gone,
        ),
    )
    number: int = erased[0].number
    return number
