"""Everything a person has here beside their conversations, to be taken away.

The conversations themselves are written out by `web/rest_exports`, in pieces, because they
may be larger than the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chatkeep import audit
from chatkeep.db import Query, as_user

if TYPE_CHECKING:
    from chatkeep.db import Database
    from chatkeep.principal import Principal


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
        Query(_PROFILE, me, _Row),
        Query(_SESSIONS, me, _Row),
        Query(_SHARES, me, _Row),
        Query(_KEYS, me, _Row),
        Query(_USAGE, me, _Row),
        Query(_CONVERSATIONS, me, _Count),
    )
    return Belongings(
        profile=profiles[0].row if profiles else None,
        sessions=[one.row for one in sessions],
        shares=[one.row for one in shares],
        keys=[one.row for one in keys],
        usage=[one.row for one in usage],
        conversations=counted[0].number,
    )


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


_PROFILE = "select to_jsonb(p) - 'id' as row from chat.profiles p where id = %(user)s"

_SESSIONS = """
select jsonb_build_object('id', id, 'issuer', issuer, 'device', device, 'address', address,
  'created_at', created_at, 'last_activity_at', last_activity_at, 'expires_at', expires_at,
  'revoked_at', revoked_at, 'reason', reason) as row
from public.user_sessions where user_id = %(user)s order by created_at, id
"""

_SHARES = """
select to_jsonb(s) - 'user_id' - 'token_hash' as row from chat.shares s
where user_id = %(user)s order by created_at, id
"""

_KEYS = """
select jsonb_build_object('id', id, 'name', name, 'prefix', shown, 'issuer', issuer,
  'scopes', scopes, 'created_at', created_at, 'expires_at', expires_at,
  'last_used_at', last_used_at, 'revoked_at', revoked_at, 'reason', reason) as row
from chatkeep.personal_keys where user_id = %(user)s order by created_at, id
"""

_USAGE = """
select to_jsonb(u) - 'user_id' as row from chat.usage u where user_id = %(user)s order by 1
"""

_CONVERSATIONS = """
select count(*) as number from chat.conversations
where user_id = %(user)s and deleted_at is null
"""
