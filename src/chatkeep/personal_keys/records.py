"""The rows of personal keys: made, listed, ended. Knows no key, only hashes.

What ends a key is written among what has ended, by triggers of the table: so every node
refuses it at once, and whatever ends everything of a person ends their keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from chatkeep import audit
from chatkeep.batches import in_turns
from chatkeep.db import AUTH, ConstraintViolated, Query, as_user
from chatkeep.errors import AnswerNotKept, NotFound, TooManyKeys
from chatkeep.personal_keys import texts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from chatkeep.db import Database
    from chatkeep.principal import Principal

LISTED_AT_MOST: Final = 500
#: One that has ended is shown for so long, and then forgotten.
KEPT_FOR: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalKey:
    """A key as its owner sees it. *shown* is how it begins; *ended_at* also when it expired."""

    id: UUID
    name: str
    shown: str
    issuer: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    ended_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a key is to be."""

    name: str
    scopes: Sequence[str]
    lasts: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A key as it is checked, with its owner. *is_barred*: their account is gone or banned.

    *left_s* is how long it had when it was looked up, by the clock by which it was made.
    """

    id: UUID
    user_id: str
    issuer: str
    subject: str
    scopes: list[str]
    role: str
    roles: list[str]
    metadata: dict[str, Any] | None = field(repr=False)
    created_at: datetime
    expires_at: datetime
    left_s: float
    is_used: bool
    is_revoked: bool
    is_barred: bool


@dataclass(frozen=True, slots=True)
class _Ended:
    id: UUID


@dataclass(frozen=True, slots=True)
class _Locked:
    locked: str


async def make(
    db: Database, who: Principal, wanted: Wanted, *, at_most: int, key_id: UUID
) -> tuple[PersonalKey, str]:
    """Make a key of *who*; return it and its text, which nobody can be told again.

    Raises:
        AnswerNotKept: the key *key_id* is there: the same request has made it before.
        TooManyKeys: they have *at_most* that have not ended.
    """
    key = texts.new_key()
    made = Query(
        "insert into chatkeep.personal_keys (user_id, id, issuer, subject, name, shown, key_hash,"
        " scopes, role, roles, expires_at) select %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
        " now() + %s where (select count(*) from chatkeep.personal_keys where user_id = %s"
        "  and revoked_at is null and expires_at > now()) < %s"
        " returning user_id, id, name, shown, issuer, scopes, created_at, expires_at,"
        "  last_used_at, revoked_at, null::timestamptz as ended_at, reason",
        (
            *(who.user_id, key_id, who.issuer, who.subject, wanted.name),
            *(texts.shown_part(key), texts.hash_of(key), sorted(wanted.scopes)),
            *(who.role, sorted(who.roles), wanted.lasts, who.user_id, at_most),
        ),
        PersonalKey,
    )
    noted = audit.of_change(
        made,
        "api_key.made",
        details={"name": wanted.name, "shown": texts.shown_part(key), "scopes": wanted.scopes},
        keep="id, name, shown, issuer, scopes, created_at, expires_at, last_used_at,"
        " revoked_at, ended_at, reason",
    )
    try:
        _, rows = await db.fetch_all(AUTH, _one_at_a_time(who.user_id), noted)
    except ConstraintViolated as violated:
        if violated.name != "personal_keys_pkey":
            raise
        raise AnswerNotKept from violated
    if not rows:
        raise TooManyKeys(f"You have {at_most} API keys already: revoke one first.")
    return rows[0], key


async def list_own(db: Database, user_id: str) -> list[PersonalKey]:
    """List the keys of a person, the newest first; also what ended lately."""
    return await db.fetch(
        as_user(user_id),
        "select id, name, shown, issuer, scopes, created_at, expires_at, last_used_at, revoked_at,"
        "  coalesce(revoked_at, case when expires_at <= now() then expires_at end) as ended_at,"
        "  reason from chatkeep.personal_keys where user_id = %s"
        " and least(expires_at, revoked_at) > now() - %s"
        " order by created_at desc, id desc limit %s",
        (user_id, KEPT_FOR, LISTED_AT_MOST),
        row=PersonalKey,
    )


async def revoke(
    db: Database, user_id: str, key_id: UUID, *, actor: str | None = None, reason: str = "revoked"
) -> None:
    """End one key of a person; *actor* is who does it for them.

    Raises:
        NotFound: they have no such key, or it has ended.
    """
    ending = Query(
        "update chatkeep.personal_keys set revoked_at = now(), reason = %s"
        " where user_id = %s and id = %s and revoked_at is null and expires_at > now()"
        " returning id, user_id, issuer",
        (reason, user_id, key_id),
        _Ended,
    )
    written = audit.of_change(ending, "api_key.revoked", actor=actor, reason=reason)
    (ended,) = await db.fetch_all(AUTH, written)
    if not ended:
        raise NotFound


def ending(user_id: str, *, reason: str) -> Query[_Ended]:
    """Return the statement that ends every key of a person, for them to see."""
    return audit.of_change(
        Query(
            "update chatkeep.personal_keys set revoked_at = now(), reason = %s"
            " where user_id = %s and revoked_at is null and expires_at > now()"
            " returning id, user_id, issuer",
            (reason, user_id),
            _Ended,
        ),
        "api_key.revoked",
        reason=reason,
    )


def erasing(user_id: str) -> Query[_Ended]:
    """Return the statement that deletes every key of a person, which ends them."""
    return Query(
        "delete from chatkeep.personal_keys where user_id = %s returning id", (user_id,), _Ended
    )


def erasing_one(user_id: str, key_id: UUID) -> Query[_Ended]:
    """Return the statement that takes back a key that should not have been made."""
    return Query(
        "delete from chatkeep.personal_keys where user_id = %s and id = %s returning id",
        (user_id, key_id),
        _Ended,
    )


async def end_everybodys(db: Database, issuers: Sequence[str], *, reason: str) -> None:
    """Mark the keys of everybody at *issuers* as ended, for their owners to see.

    That they are good no more is said by the end of their issuers' credentials, which came
    first.
    """
    await in_turns(
        lambda at_most: db.execute(
            AUTH,
            "with few as materialized (select user_id, id from chatkeep.personal_keys"
            "  where issuer = any(%s) and revoked_at is null limit %s for update skip locked)"
            " update chatkeep.personal_keys k set revoked_at = now(), reason = %s from few"
            " where (k.user_id, k.id) = (few.user_id, few.id)",
            (list(issuers), at_most, reason),
        )
    )


async def forget_old(db: Database) -> None:
    """Delete what ended long ago; several nodes can do this at once."""
    await in_turns(
        lambda at_most: db.execute(
            AUTH,
            "with few as materialized (select user_id, id from chatkeep.personal_keys"
            "  where least(expires_at, revoked_at) < now() - %s"
            "  limit %s for update skip locked)"
            " delete from chatkeep.personal_keys k using few"
            " where (k.user_id, k.id) = (few.user_id, few.id)",
            (KEPT_FOR, at_most),
        )
    )


async def find(db: Database, key: str) -> Held | None:
    """Return the key with the text *key*, with what its owner is now."""
    found = await db.fetch(
        AUTH,
        "select k.id, k.user_id, k.issuer, k.subject, k.scopes, k.created_at, k.expires_at,"
        " extract(epoch from k.expires_at - now())::float8 as left_s,"
        " coalesce(u.role, k.role) as role, k.roles, u.app_metadata as metadata,"
        " k.last_used_at is not null as is_used, k.revoked_at is not null as is_revoked,"
        " k.issuer = 'embedded' and (u.id is null or u.deleted_at is not null"
        "  or coalesce(u.banned_until > now(), false)) as is_barred"
        " from chatkeep.personal_keys k left join chatkeep.users u"
        "  on u.id = case when k.issuer = 'embedded' then k.subject::uuid end"
        " where k.key_hash = %s",
        (texts.hash_of(key),),
        row=Held,
    )
    return found[0] if found else None


async def note_first_use(db: Database, held: Held) -> None:
    """Write down that a key was used for the first time, once however many nodes see it."""
    using = Query(
        "update chatkeep.personal_keys set last_used_at = now()"
        " where user_id = %s and id = %s and last_used_at is null returning id, user_id, issuer",
        (held.user_id, held.id),
        _Ended,
    )
    await db.fetch_all(AUTH, audit.of_change(using, "api_key.first_used"))


async def note_uses(db: Database, used: Sequence[tuple[str, UUID]], *, every: timedelta) -> None:
    """Write down that these keys (owner and id) were used now, unless that was a moment ago."""
    # In one order everywhere, so that two servers never wait for each other.
    ordered = sorted(used)
    await db.execute(
        AUTH,
        "update chatkeep.personal_keys k set last_used_at = now()"
        " from unnest(%s::text[], %s::uuid[]) v (user_id, id)"
        " where k.user_id = v.user_id and k.id = v.id and k.last_used_at < now() - %s",
        ([user_id for user_id, _ in ordered], [key_id for _, key_id in ordered], every),
    )


def _one_at_a_time(user_id: str) -> Query[_Locked]:
    """Let others who make a key for the same person wait, so that they are counted right."""
    return Query(
        "select pg_advisory_xact_lock(hashtextextended('personal keys of ' || %s, 0))::text"
        " as locked",
        (user_id,),
        _Locked,
    )
