"""`/api/admin/users`: finding people and suspending them, for administrators among people.

What anybody said is nowhere: no role can read that.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from chatkeep import accounts
from chatkeep.administration import accounts as administration
from chatkeep.administration import suspensions
from chatkeep.administration.accounts import NOT_BANNED, Wanted
from chatkeep.db import AUTH
from chatkeep.errors import NotFound, UserNotFound
from chatkeep.web import schemas
from chatkeep.web.administrators import Administrator, FreshAdministrator
from chatkeep.web.cursors import cursor_at, read_cursor
from chatkeep.web.persons import UserId
from chatkeep.web.problems import described
from chatkeep.web.services import Services, ServicesDep

if TYPE_CHECKING:
    from chatkeep.accounts import User

router = APIRouter(prefix="/api/admin", tags=["administration"])
#: Comes after all other routes of a person: an id may have slashes, so this takes the rest.
of_anybody = APIRouter(prefix="/api/admin/users", tags=["administration"])

SearchText = Annotated[
    str | None, Query(max_length=254, description="Part of an address or a name, or an id.")
]
Many = Annotated[int, Query(ge=1, le=200, description="How many on a page.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of a page.")]


class BanRequest(schemas.ReasonRequest):
    """For how long (null: until it is lifted), and why, for the log."""

    seconds: Annotated[int, Field(ge=1, le=3_153_600_000)] | None = None


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


@router.get("/users", responses=described(422))
async def list_users(
    _: Administrator,
    services: ServicesDep,
    query: SearchText = None,
    limit: Many = 50,
    cursor: Cursor = None,
) -> UsersAnswer:
    """List or search the accounts of our own issuer, the newest first."""
    totals, users = await services.db.fetch_all(
        AUTH,
        accounts.counted(text=query),
        accounts.listed(text=query, limit=limit + 1, after=read_cursor(cursor) if cursor else None),
    )
    shown = users[:limit]
    more = len(users) > limit
    return UsersAnswer(
        users=[_user(services, one) for one in shown],
        total=totals[0].total,
        next_cursor=cursor_at(shown[-1].created_at, str(shown[-1].id)) if more else None,
    )


@router.post("/users/{user_id:path}/ban", responses=described(404, 409, 422))
async def ban(
    body: BanRequest, who: FreshAdministrator, user_id: UserId, services: ServicesDep
) -> UserAnswer:
    """Suspend a person of any issuer and end everything of theirs, at once and everywhere."""
    length = administration.LONGEST_BAN
    if body.seconds is not None:
        length = timedelta(seconds=body.seconds)
    if _is_of_another_issuer(services, user_id):
        await services.sightings.write()
        await suspensions.suspend(
            services.db,
            services.embedded.revocations,
            user_id,
            length,
            actor=who.user_id,
            reason=body.reason,
        )
        return await _stranger(services, user_id)
    return await _change(services, user_id, Wanted(banned_for=length), who.user_id, body.reason)


@router.post("/users/{user_id:path}/unban", responses=described(404, 422))
async def unban(
    body: schemas.ReasonRequest, who: FreshAdministrator, user_id: UserId, services: ServicesDep
) -> UserAnswer:
    """Lift a suspension. What was ended stays ended."""
    if _is_of_another_issuer(services, user_id):
        found = await _stranger(services, user_id)
        await suspensions.lift(
            services.db,
            services.embedded.revocations,
            user_id,
            actor=who.user_id,
            reason=body.reason,
        )
        return found.model_copy(update={"banned_until": None})
    return await _change(services, user_id, Wanted(banned_for=NOT_BANNED), who.user_id, body.reason)


@of_anybody.get("/{user_id:path}", responses=described(404))
async def get_user(_: Administrator, user_id: UserId, services: ServicesDep) -> UserAnswer:
    """Return one account, or a suspended person of another issuer."""
    if _is_of_another_issuer(services, user_id):
        return await _stranger(services, user_id)
    try:
        return _user(services, await accounts.get_user(services.db, _account(services, user_id)))
    except UserNotFound as error:
        raise NotFound from error


def _user(services: Services, user: User) -> UserAnswer:
    name = user.user_metadata.get("full_name") or user.user_metadata.get("name")
    return UserAnswer(
        user_id=services.embedded.user_id_of(user.id),
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


def _is_of_another_issuer(services: Services, user_id: str) -> bool:
    bare = not services.embedded.issuer.primary
    return suspensions.issuer_of(user_id, services.settings.issuer_names, bare=bare) is not None


async def _stranger(services: Services, user_id: str) -> UserAnswer:
    """What is known of a person of another issuer.

    Raises:
        NotFound: they are not suspended.
    """
    found = await suspensions.listed(services.db, user_id)
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


def _account(services: Services, user_id: str) -> UUID:
    found = services.embedded.subject_of(user_id)
    if found is None:
        raise NotFound
    return found


async def _change(
    services: Services, user_id: str, wanted: Wanted, actor: str, reason: str | None
) -> UserAnswer:
    try:
        changed = await administration.change_account(
            services.embedded,
            _account(services, user_id),
            wanted,
            actor=actor,
            reason=reason,
            administrators=services.settings.admin_roles,
        )
    except UserNotFound as error:
        raise NotFound from error
    return _user(services, changed)
