"""Where OpenID providers say that somebody has signed out there (Back-Channel Logout 1.0)."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.errors import BadRequest, UnsupportedMediaType
from chatkeep.web.auth import Anybody
from chatkeep.web.problems import body_of, described, request_id_of
from chatkeep.web.services import ServicesDep

_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
#: A token of 8,192 characters, and whatever else a provider may say beside it.
_LONGEST_FORM: Final = 16_384
_MOST_FIELDS: Final = 20
_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            _MEDIA_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["logout_token"],
                    "properties": {"logout_token": {"type": "string"}},
                }
            }
        },
    }
}

router = APIRouter(tags=["tokens"])


@router.post(
    "/auth/backchannel-logout",
    response_class=Response,
    openapi_extra=_FORM,
    responses=described(400, 413, 415, 429, 503),
)
async def take_logout_token(request: Request, _: Anybody, services: ServicesDep) -> Response:
    """End what an OpenID provider says has ended there. Its token says who it is; nobody signs in.

    What is refused counts against the address it came from, because each is a signature to check.
    """
    bucket = request.state.chatkeep_client.bucket
    await services.limits.spend("token", bucket)
    try:
        await services.back_channel_logout.take(await _logout_token(request))
    except BadRequest as error:  # what is no good logout token among them
        return _refused(request, error)
    await services.limits.give_back("token", bucket)
    return Response(headers={"cache-control": "no-store"})


async def _logout_token(request: Request) -> str:
    """Return the one `logout_token` of the form; what else is in it is ignored (section 2.5)."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said != _MEDIA_TYPE:
        raise UnsupportedMediaType(f"Send the form as {_MEDIA_TYPE}.")
    raw = await request.body()
    if len(raw) > _LONGEST_FORM:
        raise BadRequest("The form is too long.")
    try:
        fields = parse_qsl(raw.decode("ascii"), max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise BadRequest("The form cannot be read.") from error
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1:
        raise BadRequest("Send exactly one logout_token.")
    return tokens[0]


def _refused(request: Request, error: BadRequest) -> Response:
    """Word it as any problem, with `error` and `error_description` as section 2.8 has them."""
    said = body_of(error, request_id_of(request)) | {
        "error": "invalid_request",
        "error_description": error.detail,
    }
    return Response(
        msgspec.json.encode(said),
        error.status,
        {"cache-control": "no-store"},
        media_type="application/problem+json",
    )
