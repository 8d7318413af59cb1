"""Everything a person has here beside what their messages say, to be taken away.

The conversations themselves are written out by `web/rest_exports`, in pieces, because they
may be larger than the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chatkeep import audit
from chatkeep.db import Query, as_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.db import Database
    from chatkeep.principal import Principal

#: Types of ChatKit's items that are messages, or that it shows nobody.
_NO_ITEMS_OF_ITS_OWN: Final = [
    *("user_message", "assistant_message", "end_of_turn"),
    *("hidden_context_item", "sdk_hidden_context"),
]


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
class _Beside:
    message_id: str
    said: dict[str, Any]


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


async def beside_conversation(db: Database, user_id: str, conversation_id: str) -> dict[str, Any]:
    """Return what clients keep of a conversation, by what it is; nothing of what there is none.

    That is OpenAI clients' `metadata`, what was thought of items (`feedback`), and ChatKit's
    `items` that stand before all messages.
    """
    scope = {"user": user_id, "conversation": conversation_id, "own": _NO_ITEMS_OF_ITS_OWN}
    rows = await db.fetch(as_user(user_id), _BESIDE_CONVERSATION, scope, row=_Row)
    return {name: one for row in rows for name, one in row.row.items() if one}


async def beside_messages(
    db: Database, user_id: str, conversation_id: str, message_ids: Sequence[str]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return what clients keep with messages, by their ids and by what it is.

    That is what OpenAI clients asked for an answer with (`requests`), and ChatKit's `items`
    that are no messages themselves, and that it shows.
    """
    values = {
        "user": user_id,
        "conversation": conversation_id,
        "ids": list(message_ids),
        "own": _NO_ITEMS_OF_ITS_OWN,
    }
    requests, items = await db.fetch_all(
        as_user(user_id), Query(_REQUESTS, values, _Beside), Query(_ITEMS, values, _Beside)
    )
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, rows in (("requests", requests), ("items", items)):
        for row in rows:
            found.setdefault(row.message_id, {}).setdefault(name, []).append(row.said)
    return found


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

_BESIDE_CONVERSATION = """
select jsonb_build_object('metadata', m.metadata, 'feedback', t.feedback, 'items', (
  select jsonb_agg(item order by seq) from chat.chatkit_items
  where user_id = %(user)s and conversation_id = %(conversation)s and message_id is null
    and item <> '{}' and coalesce(item ->> 'type', '') <> all(%(own)s::text[])
)) as row
from chat.conversations c
left join chat.conversation_metadata m on m.user_id = c.user_id and m.conversation_id = c.id
left join chat.chatkit_threads t on t.user_id = c.user_id and t.conversation_id = c.id
where c.user_id = %(user)s and c.id = %(conversation)s
"""

# `offset 0`: looked up by their whole keys, however long the conversation is.
_REQUESTS = """
select wanted.id as message_id,
  jsonb_build_object('run_id', r.id, 'asked_at', r.started_at, 'request', p.request) as said
from (select distinct unnest(%(ids)s::text[]) as id) wanted
cross join lateral (
  select id, started_at from chat.runs where user_id = %(user)s
    and conversation_id = %(conversation)s and message_id = wanted.id offset 0
) r
cross join lateral (
  select request from chat.responses where user_id = %(user)s and id = r.id offset 0
) p
order by r.started_at, r.id
"""

_ITEMS = """
select wanted.id as message_id, i.item as said
from (select distinct unnest(%(ids)s::text[]) as id) wanted
cross join lateral (
  select item, seq from chat.chatkit_items where user_id = %(user)s
    and conversation_id = %(conversation)s and message_id = wanted.id offset 0
) i
where i.item <> '{}' and coalesce(i.item ->> 'type', '') <> all(%(own)s::text[])
order by i.seq
"""
