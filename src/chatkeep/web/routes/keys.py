"""`/api/keys`: personal API keys, made and revoked by their owner; also by administrators.

A key is shown once, in the answer that makes it. No key reaches any of these routes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from chatkeep.administration.administrators import require_fresh
from chatkeep.db import AUTH
from chatkeep.errors import Forbidden, Invalid, TokenRevoked
from chatkeep.personal_keys import records
from chatkeep.personal_keys.records import Wanted
from chatkeep.personal_keys.scopes import SCOPES
from chatkeep.web import schemas
from chatkeep.web.administrators import Administrator, FreshAdministrator
from chatkeep.web.auth import SignedIn, StrictlySignedIn
from chatkeep.web.once import Once
from chatkeep.web.persons import UserId
from chatkeep.web.problems import described
from chatkeep.web.second_factor import require_second_factor
from chatkeep.web.services import ServicesDep

if TYPE_CHECKING:
    from chatkeep.personal_keys.records import PersonalKey
    from chatkeep.principal import Principal
    from chatkeep.web.services import Services

router = APIRouter(prefix="/api/keys", tags=["API keys"], responses=described(401))
of_anybody = APIRouter(prefix="/api/admin/users/{user_id:path}/keys", tags=["administration"])

KeyId = Annotated[UUID, Path(description="A key, by its id.")]


class KeyRequest(schemas.Request):
    """What a key is to be."""

    name: Annotated[schemas.Line, Field(max_length=80)]
    scopes: Annotated[list[str], Field(min_length=1, max_length=len(SCOPES))]
    expires_in_days: Annotated[int, Field(ge=1, le=366)] = 90


class KeyAnswer(BaseModel):
    """A key, without what it is shown by; *prefix* is how it begins."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="To the minute; null until its first use.")
    ended_at: datetime | None
    reason: str | None = Field(description="Why it has ended; null if it has not, or ran out.")


class NewKeyAnswer(KeyAnswer):
    """A new key. *key* is shown this once."""

    key: str


class ScopeAnswer(BaseModel):
    """Something that a key may do."""

    name: str
    description: str


class KeysAnswer(BaseModel):
    """The caller's keys, the newest first, and what a new one can be."""

    keys: list[KeyAnswer]
    scopes: list[ScopeAnswer]
    at_most: int
    max_days: int


class KeysOfSomebodyAnswer(BaseModel):
    """A person's keys, the newest first."""

    keys: list[KeyAnswer]


@router.get("")
async def list_keys(who: SignedIn, services: ServicesDep) -> KeysAnswer:
    """List the caller's keys, also what ended in the last 90 days."""
    await services.personal_keys.write()
    settings = services.settings
    return KeysAnswer(
        keys=await _listed(services, who.user_id),
        scopes=[ScopeAnswer(name=name, description=said) for name, said in SCOPES.items()],
        at_most=settings.api_keys_per_user,
        max_days=settings.api_key_max_days,
    )


@router.post("", response_model=NewKeyAnswer, responses=described(403, 409, 422))
async def make_key(
    body: KeyRequest, who: StrictlySignedIn, services: ServicesDep, once: Once
) -> NewKeyAnswer | Response:
    """Make a key that acts as the caller within its scopes, and show it this once."""
    wanted = _wanted(body, services)
    await _require_strong(who, services)
    at_most = services.settings.api_keys_per_user

    async def make(key_id: str) -> NewKeyAnswer:
        await services.limits.spend("api_key_made", who.user_id)
        made, key = await records.make(
            services.db, who, wanted, at_most=at_most, key_id=UUID(key_id)
        )
        await _require_still_here(who, made, services)
        return NewKeyAnswer(**_shown(made), key=key)

    return await once.answer(who, make, shown_once=True)


@router.delete("/{key_id}", status_code=204, responses=described(404, 422))
async def revoke_key(key_id: KeyId, who: StrictlySignedIn, services: ServicesDep) -> Response:
    """End a key of the caller, at once and everywhere."""
    await records.revoke(services.db, who.user_id, key_id)
    await services.embedded.revocations.catch_up()
    return Response(status_code=204)


@of_anybody.get("", responses=described(404))
async def list_keys_of(
    _: Administrator, user_id: UserId, services: ServicesDep
) -> KeysOfSomebodyAnswer:
    """List the keys of a person of any issuer, also what ended in the last 90 days."""
    await services.personal_keys.write()
    return KeysOfSomebodyAnswer(keys=await _listed(services, user_id))


@of_anybody.delete("/{key_id}", status_code=204, responses=described(404, 422))
async def revoke_key_of(
    who: FreshAdministrator, user_id: UserId, key_id: KeyId, services: ServicesDep
) -> Response:
    """End a key of a person, at once and everywhere."""
    await records.revoke(services.db, user_id, key_id, actor=who.user_id, reason="revoked_by_admin")
    await services.embedded.revocations.catch_up()
    return Response(status_code=204)


def _wanted(body: KeyRequest, services: Services) -> Wanted:
    """Return what *body* asks for, if there can be such a key."""
    unknown = [one for one in body.scopes if one not in SCOPES]
    if unknown:
        raise Invalid.of("scopes", f"must be some of {', '.join(SCOPES)}")
    longest = services.settings.api_key_max_days
    if body.expires_in_days > longest:
        raise Invalid.of("expires_in_days", f"must be {longest} at most")
    return Wanted(
        name=body.name,
        scopes=sorted(set(body.scopes)),
        lasts=timedelta(days=body.expires_in_days),
    )


async def _require_strong(who: Principal, services: Services) -> None:
    """Refuse who cannot prove enough: a key outlives the session that made it.

    Raises:
        Forbidden: a name without proof, or an account that nobody can sign in to again.
        StepUpRequired: this session lacks the second factor that they have or need, or signed
            in longer ago than API_KEY_SIGN_IN_AGE, or the credential does not say when.
    """
    if who.credential == "development_header" or who.claims.get("is_anonymous") is True:
        raise Forbidden("Sign in to an account of your own to make API keys.")
    standing = await require_second_factor(who, services)
    is_ours = services.embedded.subject_of(who.user_id) is not None
    if is_ours and (standing is None or standing.is_anonymous):
        raise Forbidden("Sign in to an account of your own to make API keys.")
    if services.settings.api_key_sign_in_age_s:
        max_age = timedelta(seconds=services.settings.api_key_sign_in_age_s)
        await require_fresh(services.db, who, max_age)


async def _require_still_here(who: Principal, made: PersonalKey, services: Services) -> None:
    """Take *made* back if everything of its owner was ended while it was made."""
    try:
        await services.embedded.revocations.confirm(who)
    except TokenRevoked:
        await services.db.fetch_all(AUTH, records.erasing_one(who.user_id, made.id))
        raise


async def _listed(services: Services, user_id: str) -> list[KeyAnswer]:
    return [KeyAnswer(**_shown(one)) for one in await records.list_own(services.db, user_id)]


def _shown(one: PersonalKey) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "prefix": one.shown,
        "scopes": one.scopes,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
        "last_used_at": one.last_used_at,
        "ended_at": one.ended_at,
        "reason": one.reason,
    }
