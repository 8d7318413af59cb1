"""What Supabase clients send to `/auth/v1`, read strictly where it matters.

Unknown members are ignored, as Supabase Auth does: clients send more with every version.
No person's can name a role, an audience or `app_metadata`; a server's with the secret key can.
"""

from __future__ import annotations

import re
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.requests import Request

from chatkeep.errors import BadRequest, Invalid, UnsupportedMediaType
from chatkeep.one_time_tokens import Challenge

_CHALLENGE_LENGTHS = range(43, 129)  # RFC 7636 section 4.2
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]+")


class SignUpBody(msgspec.Struct):
    """`POST /signup`."""

    email: str | None = None
    phone: str | None = None
    password: str | None = None
    data: dict[str, Any] | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None


class PasswordBody(msgspec.Struct):
    """`POST /token?grant_type=password`."""

    email: str | None = None
    phone: str | None = None
    password: str | None = None


class RefreshBody(msgspec.Struct):
    """`POST /token?grant_type=refresh_token`."""

    refresh_token: str | None = None


class PkceBody(msgspec.Struct):
    """`POST /token?grant_type=pkce`."""

    auth_code: str | None = None
    code_verifier: str | None = None


class IdTokenBody(msgspec.Struct):
    """`POST /token?grant_type=id_token`."""

    provider: str | None = None
    id_token: str | None = None
    access_token: str | None = None
    nonce: str | None = None
    issuer: str | None = None
    link_identity: bool = False


class OtpBody(msgspec.Struct):
    """`POST /otp` and `POST /magiclink`."""

    email: str | None = None
    phone: str | None = None
    create_user: bool = True
    data: dict[str, Any] | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None


class RecoverBody(msgspec.Struct):
    """`POST /recover`."""

    email: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None


class ResendBody(msgspec.Struct):
    """`POST /resend`."""

    type: str | None = None
    email: str | None = None
    phone: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None


class VerifyBody(msgspec.Struct):
    """`POST /verify`."""

    type: str | None = None
    token: str | None = None
    token_hash: str | None = None
    email: str | None = None
    phone: str | None = None


class UserBody(msgspec.Struct):
    """`PUT /user`."""

    email: str | None = None
    phone: str | None = None
    password: str | None = None
    data: dict[str, Any] | None = None
    app_metadata: Any = None
    nonce: str | None = None
    current_password: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None


class AdminUserBody(msgspec.Struct):
    """`POST /admin/users` and `PUT /admin/users/{user_id}`."""

    id: str | None = None
    aud: str | None = None
    role: str | None = None
    email: str | None = None
    phone: str | None = None
    password: str | None = None
    password_hash: str | None = None
    email_confirm: bool | None = None
    user_metadata: dict[str, Any] | None = None
    app_metadata: dict[str, Any] | None = None
    ban_duration: str | None = None


class InviteBody(msgspec.Struct):
    """`POST /invite`."""

    email: str | None = None
    data: dict[str, Any] | None = None


class LinkBody(msgspec.Struct):
    """`POST /admin/generate_link`."""

    type: str | None = None
    email: str | None = None
    new_email: str | None = None
    password: str | None = None
    data: dict[str, Any] | None = None
    redirect_to: str | None = None


class DeleteUserBody(msgspec.Struct):
    """`DELETE /admin/users/{user_id}`."""

    should_soft_delete: bool = False


Body = TypeVar("Body", bound=msgspec.Struct)


async def read_body(request: Request, shape: type[Body]) -> Body:
    """Return the request's JSON body as *shape*.

    Raises:
        UnsupportedMediaType: a form could send this from any page.
        BadRequest: it is no JSON.
        Invalid: a member has the wrong type.
        PayloadTooLarge: from the middleware that counts.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType
    raw = await request.body()
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise Invalid("A member of the request body has the wrong type") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("Could not parse request body as JSON") from error


class Challenged(Protocol):
    """What may begin a PKCE flow."""

    @property
    def code_challenge(self) -> str | None:
        """The challenge, or nothing."""

    @property
    def code_challenge_method(self) -> str | None:
        """How it was made."""


def challenge_of(body: Challenged) -> Challenge | None:
    """Return the PKCE challenge that a flow begins with, None if it is no PKCE flow.

    Raises:
        Invalid: half a challenge, or one that is none (RFC 7636 section 4.2).
    """
    challenge, method = body.code_challenge, (body.code_challenge_method or "").lower()
    if not challenge and not method:
        return None
    if not challenge or method not in ("s256", "plain"):
        raise Invalid("PKCE flow requires code_challenge_method and code_challenge")
    if len(challenge) not in _CHALLENGE_LENGTHS:
        raise Invalid("code challenge has to be between 43 and 128 characters")
    if not _CHALLENGE.fullmatch(challenge):
        raise Invalid("code challenge can only contain alphanumeric characters, -, ., _ and ~")
    return Challenge(text=challenge, method="s256" if method == "s256" else "plain")


def request_body(*shapes: type[msgspec.Struct], required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI description of a body that has one of *shapes*."""
    schemas = [_schema(shape) for shape in shapes]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": required, "content": content}}


def _schema(shape: type[msgspec.Struct]) -> dict[str, Any]:
    (described,) = msgspec.json.schema(shape)["$defs"].values()
    return dict(described)
