"""`/auth/v1/factors`: second factors, as `supabase.auth.mfa` expects them."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.errors import (
    FactorAddressMismatch,
    FactorChallengeExpired,
    FactorNotFound,
    InsufficientAal,
    Invalid,
    RateLimited,
    RecoveryCodesLocked,
    SessionNotFound,
)
from chatkeep.factors import recovery_codes, totp
from chatkeep.factors.ceremonies import RelyingParty
from chatkeep.factors.challenges import make_challenge
from chatkeep.factors.enrolment import enroll, sound_name, unenroll
from chatkeep.factors.recovery_codes import CodeSet, verify_recovery_code
from chatkeep.factors.security_keys import KeyAnswer, asked_of_key, verify_key
from chatkeep.factors.verification import verify_code
from chatkeep.issuance import Here
from chatkeep.web.attempts import attempting
from chatkeep.web.gotrue.answers import json_answer, session_answer
from chatkeep.web.gotrue.bodies import read_body, request_body
from chatkeep.web.gotrue.callers import Issuer, SignedInHere, device_of, limited
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused, described
from chatkeep.web.gotrue.factor_bodies import (
    EnrollBody,
    RecoveryCodeBody,
    RecoveryCodesBody,
    VerifyFactorBody,
)
from chatkeep.web.services import services_of

router = APIRouter(prefix="/auth/v1", route_class=GoTrueRoute, tags=["Supabase Auth"])

_STATUSES: Final = (400, 401, 403, 404, 413, 415, 422, 429, 503)
_NOT_FOR_THE_NAMELESS = Refusal(
    403, "no_authorization", "Anonymous user not allowed to perform these actions"
)
#: What is refused before anybody looks at the code.
_NO_GUESSES: Final = (
    FactorNotFound,
    FactorChallengeExpired,
    FactorAddressMismatch,
    InsufficientAal,
    RateLimited,
    RecoveryCodesLocked,
    SessionNotFound,
)
_NO_PHONE = Refusal(422, "mfa_phone_enroll_not_enabled", "MFA enroll is disabled for Phone")
_NO_KEYS = Refusal(422, "mfa_webauthn_enroll_not_enabled", "MFA enroll is disabled for WebAuthn")


async def named_here(here: SignedInHere) -> Here:
    """Return who calls, if that is somebody with a way to sign in again.

    Raises:
        Refused: the account is anonymous.
    """
    if here.user.is_anonymous:
        raise Refused(_NOT_FOR_THE_NAMELESS)
    return here


NamedHere = Annotated[Here, Depends(named_here)]
FactorId = Annotated[str, Path(description="A factor of the caller.")]


@router.post(
    "/factors",
    dependencies=[limited("factor")],
    openapi_extra=request_body(EnrollBody),
    responses=described(*_STATUSES),
)
async def enroll_factor(here: NamedHere, request: Request, issuer: Issuer) -> Response:
    """Make a second factor, which is unverified until it is verified once."""
    body = await read_body(request, EnrollBody)
    if body.factor_type == "phone":
        raise Refused(_NO_PHONE)
    if body.factor_type not in {"totp", "webauthn"}:
        raise Invalid("factor_type needs to be totp, phone, or webauthn")
    if body.factor_type == "webauthn":
        _party(request)
    made = await enroll(
        issuer,
        here,
        "webauthn" if body.factor_type == "webauthn" else "totp",
        friendly_name=body.friendly_name,
        app_name=_app_name(body.issuer, request),
    )
    members: dict[str, object] = {"id": made.id, "type": made.factor_type}
    if made.friendly_name is not None:
        members["friendly_name"] = made.friendly_name
    if made.secret is not None and made.uri is not None:
        drawn = totp.qr_code(made.uri)
        members["totp"] = {"qr_code": drawn, "secret": made.secret, "uri": made.uri}
    return json_answer(members)


@router.get("/factors/recovery-codes", responses=described(400, 401, 403, 404, 503))
async def recovery_codes_status(here: NamedHere, issuer: Issuer) -> Response:
    """Say how many recovery codes are left."""
    status = await recovery_codes.get_status(issuer, here)
    members = {"id": status.id, "type": "recovery_code"}
    return json_answer(members | {"total": status.total, "remaining": status.remaining})


@router.post(
    "/factors/recovery-codes",
    dependencies=[limited("factor")],
    openapi_extra=request_body(RecoveryCodesBody, required=False),
    responses=described(*_STATUSES),
)
async def generate_recovery_codes(here: NamedHere, request: Request, issuer: Issuer) -> Response:
    """Make recovery codes; they are in this answer and nowhere else."""
    name = None
    if await request.body():
        name = (await read_body(request, RecoveryCodesBody)).friendly_name
    return _codes_answer(await recovery_codes.generate(issuer, here, name))


@router.post(
    "/factors/recovery-codes/regenerate",
    dependencies=[limited("factor")],
    responses=described(*_STATUSES),
)
async def regenerate_recovery_codes(here: NamedHere, issuer: Issuer) -> Response:
    """Replace the recovery codes; those so far are good for nothing any more."""
    return _codes_answer(await recovery_codes.regenerate(issuer, here))


@router.delete("/factors/recovery-codes", responses=described(400, 401, 403, 404, 503))
async def remove_recovery_codes(here: NamedHere, issuer: Issuer) -> Response:
    """Take the recovery codes away."""
    return json_answer({"id": await recovery_codes.remove(issuer, here)})


@router.post(
    "/factors/recovery-codes/verify",
    dependencies=[limited("factor")],
    openapi_extra=request_body(RecoveryCodeBody),
    responses=described(*_STATUSES),
)
async def verify_with_recovery_code(here: NamedHere, request: Request, issuer: Issuer) -> Response:
    """Use up one recovery code and raise the session to AAL2."""
    body = await read_body(request, RecoveryCodeBody)
    async with attempting(request, "code", str(here.user.id), harmless=_NO_GUESSES):
        grant = await verify_recovery_code(issuer, here, body.code or "")
    return session_answer(grant)


@router.post(
    "/factors/{factor_id}/challenge",
    dependencies=[limited("factor")],
    responses=described(*_STATUSES),
)
async def challenge_factor(
    factor_id: FactorId, here: NamedHere, request: Request, issuer: Issuer
) -> Response:
    """Begin to verify a factor: five minutes, on this network."""
    address = (await device_of(request)).address
    made = await make_challenge(issuer.db, here.user.id, _id(factor_id), address)
    members: dict[str, object] = {
        "id": made.id,
        "type": made.factor_type,
        "expires_at": made.expires_at,
    }
    if made.factor_type == "webauthn":
        asked = await asked_of_key(issuer, here, _party(request), made)
        options = {"publicKey": asked.options}
        members["webauthn"] = {"type": asked.type, "credential_options": options}
    return json_answer(members)


@router.post(
    "/factors/{factor_id}/verify",
    dependencies=[limited("factor")],
    openapi_extra=request_body(VerifyFactorBody),
    responses=described(*_STATUSES),
)
async def verify_factor(
    factor_id: FactorId, here: NamedHere, request: Request, issuer: Issuer
) -> Response:
    """Verify a factor with a code or a key and raise the session to AAL2."""
    body = await read_body(request, VerifyFactorBody)
    asked = (_id(factor_id), _id(body.challenge_id or ""))
    if body.webauthn is not None:
        credential = body.webauthn.get("credential_response")
        answer = KeyAnswer(
            party=_party(request),
            challenge_id=asked[1],
            credential=credential if isinstance(credential, dict) else {},
        )
        return session_answer(
            await verify_key(issuer, here, asked[0], answer, await device_of(request))
        )
    async with attempting(request, "code", str(here.user.id), harmless=_NO_GUESSES):
        grant = await verify_code(issuer, here, *asked, body.code or "", await device_of(request))
    return session_answer(grant)


@router.delete("/factors/{factor_id}", responses=described(400, 401, 403, 404, 503))
async def unenroll_factor(factor_id: FactorId, here: NamedHere, issuer: Issuer) -> Response:
    """Take a factor away; what was at AAL2 by it alone falls to AAL1."""
    asked = _id(factor_id)
    await unenroll(issuer, here, asked)
    return json_answer({"id": asked})


def _app_name(wanted: str | None, request: Request) -> str:
    """What an authenticator app shows: the client's word, or the server's name."""
    settings = services_of(request).settings
    named = sound_name((wanted or "").replace(":", " "))
    return named or urlsplit(settings.base_url).hostname or "chatkeep"


def _party(request: Request) -> RelyingParty:
    """Who this server is to authenticators, whatever the client says it is.

    Raises:
        Refused: it has no domain that keys could belong to.
    """
    party = RelyingParty.of(services_of(request).settings)
    if party is None:
        raise Refused(_NO_KEYS)
    return party


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise FactorNotFound from error


def _codes_answer(made: CodeSet) -> Response:
    members: dict[str, object] = {"id": made.id, "type": "recovery_code"}
    if made.friendly_name is not None:
        members["friendly_name"] = made.friendly_name
    return json_answer(members | {"total": len(made.codes), "codes": made.codes})
