"""`/auth/v1/admin/users/{user_id}/factors` and `/passkeys`: for whoever lost theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path
from starlette.responses import Response

from chatkeep import accounts
from chatkeep.errors import FactorNotFound, Invalid, PasskeyNotFound, UserNotFound
from chatkeep.factors.enrolment import remove_for
from chatkeep.sign_in import passkeys
from chatkeep.web.gotrue.administrators import SecretKey
from chatkeep.web.gotrue.answers import factor_members, json_answer
from chatkeep.web.gotrue.callers import Issuer
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused, described
from chatkeep.web.routes.gotrue.passkeys import members_of

if TYPE_CHECKING:
    from chatkeep.accounts import User
    from chatkeep.issuance import EmbeddedIssuer

router = APIRouter(
    prefix="/auth/v1/admin/users/{user_id}",
    route_class=GoTrueRoute,
    tags=["Supabase Auth administration"],
)

_STATUSES: Final = (400, 401, 403, 404, 503)
_NO_SUCH_USER: Final = Refusal(404, "user_not_found", "User not found")

UserId = Annotated[str, Path(description="An account.")]


@router.get("/factors", responses=described(*_STATUSES))
async def list_factors(_: SecretKey, user_id: UserId, issuer: Issuer) -> Response:
    """List a person's second factors, without what they are checked against."""
    person = await _person(issuer, user_id)
    return json_answer([factor_members(one) for one in person.factors])


@router.delete("/factors/{factor_id}", responses=described(*_STATUSES))
async def remove_factor(
    actor: SecretKey,
    user_id: UserId,
    factor_id: Annotated[str, Path(description="A factor of that account.")],
    issuer: Issuer,
) -> Response:
    """Take a second factor away from who lost it; they are told by mail."""
    person = await _person(issuer, user_id)
    try:
        asked = UUID(factor_id)
    except ValueError as error:
        raise FactorNotFound from error
    removed = await remove_for(issuer, person, asked, actor=actor)
    return json_answer({"id": removed.id})


@router.get("/passkeys", responses=described(*_STATUSES))
async def list_passkeys(_: SecretKey, user_id: UserId, issuer: Issuer) -> Response:
    """List a person's passkeys."""
    person = await _person(issuer, user_id)
    found = await passkeys.list_passkeys(issuer.db, person.id)
    return json_answer([members_of(one) for one in found])


@router.delete("/passkeys/{passkey_id}", status_code=204, responses=described(*_STATUSES))
async def remove_passkey(
    actor: SecretKey,
    user_id: UserId,
    passkey_id: Annotated[str, Path(description="A passkey of that account.")],
    issuer: Issuer,
) -> Response:
    """Take a passkey away from who lost it; they are told by mail."""
    person = await _person(issuer, user_id)
    try:
        asked = UUID(passkey_id)
    except ValueError as error:
        raise PasskeyNotFound from error
    await passkeys.remove_for(issuer, person, asked, actor=actor)
    return Response(status_code=204)


async def _person(issuer: EmbeddedIssuer, user_id: str) -> User:
    try:
        return await accounts.get_user(issuer.db, UUID(user_id))
    except ValueError as error:
        raise Invalid("user_id must be an UUID") from error
    except UserNotFound as error:
        raise Refused(_NO_SUCH_USER) from error
