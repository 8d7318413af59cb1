"""`/auth/v1/passkeys`: sign-in without a password, as `supabase.auth.passkey` expects it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.errors import PasskeyChallengeNotFound, PasskeyNotFound
from chatkeep.factors.ceremonies import RelyingParty
from chatkeep.sign_in import passkeys
from chatkeep.web.auth import Anybody
from chatkeep.web.gotrue.answers import json_answer, session_answer
from chatkeep.web.gotrue.bodies import read_body, request_body
from chatkeep.web.gotrue.callers import Issuer, device_of, limited
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused, described
from chatkeep.web.gotrue.factor_bodies import PasskeyBody, PasskeyNameBody
from chatkeep.web.routes.gotrue.factors import NamedHere
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from chatkeep.sign_in.passkeys import Ceremony, Passkey

_STATUSES: Final = (400, 401, 403, 404, 413, 415, 422, 429, 503)
_DISABLED = Refusal(404, "passkey_disabled", "Passkeys are disabled")


async def party_of(request: Request) -> RelyingParty:
    """Return who this server is to authenticators.

    Raises:
        Refused: passkeys are switched off, or the server has no domain they could belong to.
    """
    settings = services_of(request).settings
    party = RelyingParty.of(settings) if settings.passkeys else None
    if party is None:
        raise Refused(_DISABLED)
    return party


Party = Annotated[RelyingParty, Depends(party_of)]
PasskeyId = Annotated[str, Path(description="A passkey of the caller.")]

router = APIRouter(
    prefix="/auth/v1/passkeys",
    route_class=GoTrueRoute,
    tags=["Supabase Auth"],
    dependencies=[Depends(party_of)],  # before anybody is asked who they are
)


@router.post(
    "/registration/options",
    dependencies=[limited("factor")],
    responses=described(*_STATUSES),
)
async def registration_options(here: NamedHere, party: Party, issuer: Issuer) -> Response:
    """Return the options for a new passkey of the caller's."""
    return _ceremony_answer(await passkeys.begin_registration(issuer, here, party))


@router.post(
    "/registration/verify",
    dependencies=[limited("factor")],
    openapi_extra=request_body(PasskeyBody),
    responses=described(*_STATUSES),
)
async def verify_registration(
    here: NamedHere, party: Party, request: Request, issuer: Issuer
) -> Response:
    """Keep the passkey that the browser made."""
    body = await read_body(request, PasskeyBody)
    made = await passkeys.register(
        issuer, here, party, _challenge(body), body.credential or {}, await device_of(request)
    )
    return json_answer(members_of(made))


@router.post(
    "/authentication/options",
    dependencies=[limited("factor")],
    responses=described(400, 404, 429, 503),
)
async def authentication_options(_: Anybody, party: Party, issuer: Issuer) -> Response:
    """Return the options for signing in, which name nobody's passkeys."""
    return _ceremony_answer(await passkeys.begin_sign_in(issuer, party))


@router.post(
    "/authentication/verify",
    dependencies=[limited("token")],
    openapi_extra=request_body(PasskeyBody),
    responses=described(400, 404, 413, 415, 422, 429, 503),
)
async def verify_authentication(
    _: Anybody, party: Party, request: Request, issuer: Issuer
) -> Response:
    """Sign in whoever's passkey has signed the challenge."""
    body = await read_body(request, PasskeyBody)
    grant = await passkeys.sign_in(
        issuer, party, _challenge(body), body.credential or {}, await device_of(request)
    )
    return session_answer(grant)


@router.get("", responses=described(400, 401, 403, 404, 503))
async def list_passkeys(here: NamedHere, issuer: Issuer) -> Response:
    """List the caller's passkeys."""
    found = await passkeys.list_passkeys(issuer.db, here.user.id)
    return json_answer([members_of(one) for one in found])


@router.patch(
    "/{passkey_id}",
    openapi_extra=request_body(PasskeyNameBody),
    responses=described(*_STATUSES),
)
async def rename_passkey(
    passkey_id: PasskeyId, here: NamedHere, request: Request, issuer: Issuer
) -> Response:
    """Give a passkey another name."""
    body = await read_body(request, PasskeyNameBody)
    renamed = await passkeys.rename(issuer, here, _id(passkey_id), body.friendly_name)
    return json_answer(members_of(renamed))


@router.delete("/{passkey_id}", status_code=204, responses=described(400, 401, 403, 404, 503))
async def remove_passkey(passkey_id: PasskeyId, here: NamedHere, issuer: Issuer) -> Response:
    """Take a passkey away."""
    await passkeys.remove(issuer, here, _id(passkey_id))
    return Response(status_code=204)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise PasskeyNotFound from error


def _challenge(body: PasskeyBody) -> UUID:
    try:
        return UUID(body.challenge_id or "")
    except ValueError as error:
        raise PasskeyChallengeNotFound from error


def _ceremony_answer(made: Ceremony) -> Response:
    return json_answer(
        {
            "challenge_id": made.challenge_id,
            "options": made.options,
            "expires_at": made.expires_at,
        }
    )


def members_of(passkey: Passkey) -> dict[str, Any]:
    """Return *passkey* as Supabase clients know passkeys."""
    members = {
        "id": passkey.id,
        "friendly_name": passkey.friendly_name,
        "created_at": passkey.created_at,
        "last_used_at": passkey.last_used_at,
    }
    return {name: value for name, value in members.items() if value is not None}
