"""Tokens of others that are good once: which were shown here, on any server, until they expire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chatkeep.db import AUTH, ConstraintViolated, Query

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.db import Database

_SHOWN_BEFORE: Final = "shown_id_tokens_pkey"


@dataclass(frozen=True, slots=True)
class _Noted:
    noted: bool


async def was_shown(db: Database, token_hash: bytes) -> bool:
    """Whether `note_shown` has remembered that token."""
    (found,) = await db.fetch_all(
        AUTH,
        Query(
            "select true as noted from chatkeep.shown_id_tokens where token_hash = %s",
            (token_hash,),
            _Noted,
        ),
    )
    return bool(found)


async def note_shown(
    db: Database, token_hash: bytes, expires_at: datetime, *also: Query[Any]
) -> bool:
    """Remember a token until it expires; return whether that was the first time.

    *also* is done with it, in one transaction, the first time alone.
    """
    forget = Query(
        "with few as materialized (select token_hash from chatkeep.shown_id_tokens"
        "  where expires_at < now() - interval '1 hour' limit 100 for update skip locked)"
        " delete from chatkeep.shown_id_tokens s using few where s.token_hash = few.token_hash"
        " returning true as noted",
        (),
        _Noted,
    )
    note = Query(
        "insert into chatkeep.shown_id_tokens (token_hash, expires_at) values (%s, %s)"
        " returning true as noted",
        (token_hash, expires_at),
        _Noted,
    )
    try:
        await db.fetch_all(AUTH, forget, note, *also)
    except ConstraintViolated as error:
        if error.name == _SHOWN_BEFORE:
            return False
        raise
    return True
