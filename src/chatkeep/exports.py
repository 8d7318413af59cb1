"""Everything a person has here beside their conversations, to be taken away; and its erasure.

The conversations themselves are written out by `web/rest_exports`, in pieces, because they
may be larger than the memory. The account, whose rows belong to whoever issues tokens, is
not erased here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chatkeep import audit, files
from chatkeep.db import AUTH, Query, as_user
from chatkeep.personal_keys import records as personal_keys

if TYPE_CHECKING:
    from chatkeep.db import Database
    from chatkeep.principal import Principal
    from chatkeep.stored_files import StoredFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What is exported beside conversations, and how many of those there are."""

    profile: dict[str, Any] | None
    sessions: list[dict[str, Any]]
    shares: list[dict[str, Any]]
    keys: list[dict[str, Any]]
    usage: list[dict[str, Any]]
    conversations: int


@dataclass(frozen=True, slots=True)
class _Row:
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Count:
    number: int


async def belongings(db: Database, user_id: str) -> Belongings:
    """Return what *user_id* has beside conversations; nothing that would open anything."""
    me = {"user": user_id}
    profiles, sessions, shares, keys, usage, counted = await db.fetch_all(
        as_user(user_id),
        Query(
            "select to_jsonb(p) - 'id' as row from chat.profiles p where id = %(user)s", me, _Row
        ),
        Query(
            """
            select jsonb_build_object('id', id, 'issuer', issuer, 'device', device,
              'address', address, 'created_at', created_at, 'last_activity_at',
              last_activity_at, 'expires_at', expires_at, 'revoked_at', revoked_at,
              'reason', reason) as row
            from public.user_sessions where user_id = %(user)s order by created_at, id
            """,
            me,
            _Row,
        ),
        Query(
            """
            select to_jsonb(s) - 'user_id' - 'token_hash' as row from chat.shares s
            where user_id = %(user)s order by created_at, id
            """,
            me,
            _Row,
        ),
        Query(
            """
            select jsonb_build_object('id', id, 'name', name, 'prefix', shown, 'issuer', issuer,
              'scopes', scopes, 'created_at', created_at, 'expires_at', expires_at,
              'last_used_at', last_used_at, 'revoked_at', revoked_at, 'reason', reason) as row
            from chatkeep.personal_keys where user_id = %(user)s order by created_at, id
            """,
            me,
            _Row,
        ),
        Query(
            """
            select to_jsonb(u) - 'user_id' as row from chat.usage u
            where user_id = %(user)s order by 1
            """,
            me,
            _Row,
        ),
        Query(
            """
            select count(*) as number from chat.conversations
            where user_id = %(user)s and deleted_at is null
            """,
            me,
            _Count,
        ),
    )
    return Belongings(
        profile=profiles[0].row if profiles else None,
        sessions=[one.row for one in sessions],
        shares=[one.row for one in shares],
        keys=[one.row for one in keys],
        usage=[one.row for one in usage],
        conversations=counted[0].number,
    )


async def erase(
    db: Database,
    user_id: str,
    *,
    by: Principal | None,
    actor: str,
    stored: StoredFiles | None = None,
) -> int:
    """Erase what *user_id* said, was told and chose, at once; return how many conversations.

    Answers being made end, links stop working, and API keys too. What it cost stays, as
    numbers without words. *by* is the person themselves, None when *actor* does it for them.
    """
    objects = [] if stored is None else await files.objects_of(db, user_id)
    erased, *_ = await db.fetch_all(
        as_user(user_id),
        Query(
            """
            with gone as (delete from chat.conversations where user_id = %s returning 1)
            select count(*) as number from gone
            """,
            [user_id],
            _Count,
        ),
        Query(
            """
            with gone as (delete from chat.chatkit_attachments where user_id = %s returning 1)
            select count(*) as number from gone
            """,
            [user_id],
            _Count,
        ),
        Query(
            """
            with gone as (delete from chat.idempotency_keys where user_id = %s returning 1)
            select count(*) as number from gone
            """,
            [user_id],
            _Count,
        ),
        Query(
            """
            with gone as (delete from chat.profiles where id = %s returning 1)
            select count(*) as number from gone
            """,
            [user_id],
            _Count,
        ),
    )
    number = erased[0].number
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
    return int(number)


async def note_export(db: Database, user_id: str, *, by: Principal | None, actor: str) -> None:
    """Write down that everything of *user_id* was taken away."""
    await audit.record(
        db,
        audit.entry(
            "data.exported",
            user_id=user_id,
            actor=actor,
            issuer=by.issuer if by else None,
            session_id=by.session_id if by else None,
        ),
    )
