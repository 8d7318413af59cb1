"""`/api/admin`: people and their sessions, for administrators among people.

Finds people, suspends them, ends sessions of anybody and shows the audit log. Tokens are
nowhere, and so is what anybody said: no role can read that.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import Response

from chatkeep import accounts, audit
from chatkeep.administration import accounts as administration
from chatkeep.administration import suspensions
from chatkeep.administration.accounts import NOT_BANNED, Wanted
from chatkeep.db import AUTH
from chatkeep.errors import NotFound, UserNotFound
from chatkeep.sessions import administration as session_administration
from chatkeep.tokens import MAX_IDENTIFIER_LENGTH
from chatkeep.web import schemas
from chatkeep.web.administrators import Administrator, FreshAdministrator
from chatkeep.web.cursors import cursor_at, read_cursor
from chatkeep.web.problems import described
from chatkeep.web.services import Parts, Services

if TYPE_CHECKING:
    from chatkeep.accounts import User

router = APIRouter(prefix="/api/admin", tags=["administration"])
#: Comes after all other routes of a person: an id may have slashes, so this takes the rest.
of_anybody = APIRouter(prefix="/api/admin/users", tags=["administration"])


def _placed(moment: datetime | None) -> datetime | None:
    """Take a moment that names no zone for UTC, wherever the database is."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


#: An issuer's name, a colon, and what that issuer calls the person.
_LONGEST_ID: Final = 32 + 1 + MAX_IDENTIFIER_LENGTH
UserId = Annotated[
    str, Path(max_length=_LONGEST_ID, description="The id of a person, as tokens say it.")
]
SearchText = Annotated[
    str | None, Query(max_length=254, description="Part of an address or a name, or an id.")
]
Many = Annotated[int, Query(ge=1, le=200, description="How many on a page.")]
ManyEntries = Annotated[int, Query(ge=1, le=1000, description="How many on a page.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of a page.")]
About = Annotated[str | None, Query(max_length=_LONGEST_ID, description="Whom it is about.")]
Action = Annotated[str | None, Query(max_length=255, description="One of the audit log's.")]
Outcome = Annotated[str | None, Query(max_length=255, description="`succeeded` or `refused`.")]
Since = Annotated[
    datetime | None, AfterValidator(_placed), Query(description="Not before then: ISO 8601.")
]
Until = Annotated[
    datetime | None, AfterValidator(_placed), Query(description="Before then: ISO 8601.")
]
Before = Annotated[int | None, Query(ge=1, lt=2**63, description="`next_before` of a page.")]
SessionId = Annotated[UUID, Path(description="A session of theirs.")]
AlsoEnded = Annotated[bool, Query(description="Also what has ended.")]


class BanRequest(schemas.Request):
    """For how long (null: until it is lifted), and why, for the log."""

    seconds: Annotated[int, Field(ge=1, le=3_153_600_000)] | None = None
    reason: schemas.Line | None = None


class ReasonRequest(schemas.Request):
    """Why, for the log."""

    reason: schemas.Line | None = None


class UserAnswer(BaseModel):
    """An account of our own; of a person of another issuer only whether they are suspended."""

    user_id: str
    email: str | None
    email_confirmed_at: datetime | None
    name: str | None
    roles: list[str]
    providers: list[str]
    is_anonymous: bool
    has_second_factor: bool
    banned_until: datetime | None
    deleted_at: datetime | None
    created_at: datetime | None
    last_sign_in_at: datetime | None


class UsersAnswer(BaseModel):
    """A page of accounts, the newest first."""

    users: list[UserAnswer]
    total: int
    next_cursor: str | None


class SessionAnswer(BaseModel):
    """A session of a person. Nothing in it is a token, or could be used as one."""

    id: UUID
    user_id: str
    issuer: str
    aal: str
    device: str | None
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    is_active: bool
    ended_at: datetime | None
    reason: str | None


class SessionsAnswer(BaseModel):
    """Where a person is signed in, last used first."""

    sessions: list[SessionAnswer]


class EndedAnswer(BaseModel):
    """How many sessions were ended."""

    revoked: int


class EntryAnswer(BaseModel):
    """One entry of the audit log."""

    number: int
    at: datetime
    action: str
    outcome: str
    reason: str | None
    user_id: str | None
    actor: str | None
    issuer: str | None
    session_id: str | None
    request_id: str | None
    address: str | None
    device: str | None
    details: dict[str, Any]


class EntriesAnswer(BaseModel):
    """A page of the audit log, the newest first."""

    entries: list[EntryAnswer]
    next_before: int | None


# --- people ---------------------------------------------------------------------------------------


@router.get("/users", responses=described(422))
async def list_users(
    _: Administrator,
    parts: Parts,
    query: SearchText = None,
    limit: Many = 50,
    cursor: Cursor = None,
) -> UsersAnswer:
    """List or search the accounts of our own issuer, the newest first."""
    totals, users = await parts.db.fetch_all(
        AUTH,
        accounts.counted(text=query),
        accounts.listed(text=query, limit=limit + 1, after=read_cursor(cursor) if cursor else None),
    )
    shown = users[:limit]
    more = len(users) > limit
    return UsersAnswer(
        users=[_user(parts, one) for one in shown],
        total=totals[0].total,
        next_cursor=cursor_at(shown[-1].created_at, str(shown[-1].id)) if more else None,
    )


@router.post("/users/{user_id:path}/ban", responses=described(404, 409, 422))
async def ban(
    body: BanRequest, who: FreshAdministrator, user_id: UserId, parts: Parts
) -> UserAnswer:
    """Suspend a person of any issuer and end everything of theirs, at once and everywhere."""
    length = administration.LONGEST_BAN
    if body.seconds is not None:
        length = timedelta(seconds=body.seconds)
    if _is_of_another_issuer(parts, user_id):
        await parts.sightings.write()
        await suspensions.suspend(
            parts.db,
            parts.embedded.revocations,
            user_id,
            length,
            actor=who.user_id,
            reason=body.reason,
        )
        return await _stranger(parts, user_id)
    return await _change(parts, user_id, Wanted(banned_for=length), who.user_id, body.reason)


@router.post("/users/{user_id:path}/unban", responses=described(404, 422))
async def unban(
    body: ReasonRequest, who: FreshAdministrator, user_id: UserId, parts: Parts
) -> UserAnswer:
    """Lift a suspension. What was ended stays ended."""
    if _is_of_another_issuer(parts, user_id):
        found = await _stranger(parts, user_id)
        await suspensions.lift(
            parts.db,
            parts.embedded.revocations,
            user_id,
            actor=who.user_id,
            reason=body.reason,
        )
        return found.model_copy(update={"banned_until": None})
    return await _change(parts, user_id, Wanted(banned_for=NOT_BANNED), who.user_id, body.reason)


@router.post("/users/{user_id:path}/sign-out", responses=described(404, 422))
async def force_out(
    body: ReasonRequest, who: FreshAdministrator, user_id: UserId, parts: Parts
) -> EndedAnswer:
    """End everything of a person of any issuer, at once and everywhere; they may come back."""
    await parts.sightings.write()
    ended = await session_administration.force_out(
        parts.db,
        parts.embedded.revocations,
        user_id,
        actor=who.user_id,
        reason=body.reason or "forced_out",
    )
    return EndedAnswer(revoked=ended)


# --- sessions -------------------------------------------------------------------------------------


@router.get("/users/{user_id:path}/sessions", responses=described(404))
async def list_sessions(
    _: Administrator, user_id: UserId, parts: Parts, *, ended: AlsoEnded = False
) -> SessionsAnswer:
    """List where a person of any issuer is signed in; with `ended=true` also what has ended."""
    await parts.sightings.write()
    found = await session_administration.list_sessions_of(parts.db, user_id, ended=ended)
    return SessionsAnswer(
        sessions=[SessionAnswer.model_validate(one, from_attributes=True) for one in found]
    )


@router.delete(
    "/users/{user_id:path}/sessions/{session_id}", status_code=204, responses=described(404)
)
async def end_session(
    who: FreshAdministrator, user_id: UserId, session_id: SessionId, parts: Parts
) -> Response:
    """End one session of a person, at once and everywhere."""
    await parts.sightings.write()
    ended = await session_administration.end_session_of(
        parts.db, user_id, session_id, actor=who.user_id
    )
    if not ended:
        raise NotFound
    await parts.embedded.revocations.catch_up()
    return Response(status_code=204)


@router.post("/sign-out-everybody", responses=described(422))
async def force_everybody_out(
    body: ReasonRequest, who: FreshAdministrator, parts: Parts
) -> EndedAnswer:
    """End every session of everybody at every issuer, that of the caller too."""
    await parts.sightings.write()
    ended = await session_administration.force_everybody_out(
        parts.db,
        parts.embedded.revocations,
        parts.settings.issuer_names,
        actor=who.user_id,
        reason=body.reason or "everybody_out",
    )
    return EndedAnswer(revoked=ended)


# --- the log --------------------------------------------------------------------------------------


@router.get("/audit", responses=described(422))
async def list_audit(
    _: Administrator,
    parts: Parts,
    user_id: About = None,
    action: Action = None,
    outcome: Outcome = None,
    since: Since = None,
    until: Until = None,
    before: Before = None,
    limit: ManyEntries = 100,
) -> EntriesAnswer:
    """List what happened, the newest first."""
    found = await audit.listed(
        parts.db,
        user_id=user_id,
        action=action,
        outcome=outcome,
        since=since,
        until=until,
        before=before,
        limit=limit,
    )
    return EntriesAnswer(
        entries=[EntryAnswer.model_validate(one, from_attributes=True) for one in found],
        next_before=found[-1].number if len(found) == limit else None,
    )


# --- one person -----------------------------------------------------------------------------------


@of_anybody.get("/{user_id:path}", responses=described(404))
async def get_user(_: Administrator, user_id: UserId, parts: Parts) -> UserAnswer:
    """Return one account, or a suspended person of another issuer."""
    if _is_of_another_issuer(parts, user_id):
        return await _stranger(parts, user_id)
    try:
        return _user(parts, await accounts.get_user(parts.db, _account(parts, user_id)))
    except UserNotFound as error:
        raise NotFound from error


def _user(parts: Services, user: User) -> UserAnswer:
    name = user.user_metadata.get("full_name") or user.user_metadata.get("name")
    return UserAnswer(
        user_id=parts.embedded.user_id_of(user.id),
        email=user.email,
        email_confirmed_at=user.email_confirmed_at,
        name=name if isinstance(name, str) else None,
        roles=sorted(user.roles),
        providers=sorted({str(one["provider"]) for one in user.identities}),
        is_anonymous=user.is_anonymous,
        has_second_factor=user.has_second_factor,
        banned_until=user.banned_until,
        deleted_at=user.deleted_at,
        created_at=user.created_at,
        last_sign_in_at=user.last_sign_in_at,
    )


def _is_of_another_issuer(parts: Services, user_id: str) -> bool:
    bare = not parts.embedded.issuer.primary
    return suspensions.issuer_of(user_id, parts.settings.issuer_names, bare=bare) is not None


async def _stranger(parts: Services, user_id: str) -> UserAnswer:
    """What is known of a person of another issuer.

    Raises:
        NotFound: they are not suspended.
    """
    found = await suspensions.listed(parts.db, user_id)
    if not found:
        raise NotFound
    return UserAnswer(
        user_id=user_id,
        email=None,
        email_confirmed_at=None,
        name=None,
        roles=[],
        providers=[],
        is_anonymous=False,
        has_second_factor=False,
        banned_until=found[0].until,
        deleted_at=None,
        created_at=None,
        last_sign_in_at=None,
    )


def _account(parts: Services, user_id: str) -> UUID:
    found = parts.embedded.subject_of(user_id)
    if found is None:
        raise NotFound
    return found


async def _change(
    parts: Services, user_id: str, wanted: Wanted, actor: str, reason: str | None
) -> UserAnswer:
    try:
        changed = await administration.change_account(
            parts.embedded,
            _account(parts, user_id),
            wanted,
            actor=actor,
            reason=reason,
            administrators=parts.settings.admin_roles,
        )
    except UserNotFound as error:
        raise NotFound from error
    return _user(parts, changed)
