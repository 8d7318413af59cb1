"""What `/auth/v1` answers, member for member as Supabase Auth does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.accounts import User
    from chatkeep.issuance import Grant

_PROVIDERS: Final = (
    *("anonymous_users", "apple", "azure", "bitbucket", "discord", "facebook", "snapchat"),
    *("figma", "fly", "github", "gitlab", "google", "keycloak", "kakao", "linkedin"),
    *("linkedin_oidc", "notion", "spotify", "slack", "slack_oidc", "workos", "twitch"),
    *("twitter", "phone", "zoom"),
)
#: Tokens stay out of every cache (RFC 6749 section 5.1).
_NOT_KEPT: Final = {"cache-control": "no-store", "pragma": "no-cache"}


def json_answer(body: object, headers: dict[str, str] | None = None) -> Response:
    """Return a 200 with *body* as JSON, which no cache may keep."""
    return Response(
        msgspec.json.encode(body),
        headers=_NOT_KEPT | (headers or {}),
        media_type="application/json",
    )


def session_answer(grant: Grant, *, refreshed: bool = False) -> Response:
    """Return the answer that hands out *grant*."""
    headers = {
        "sb-auth-user-id": str(grant.user.id),
        "sb-auth-session-id": str(grant.session_id),
        "sb-auth-refresh-token-counter": str(grant.counter),
    }
    if refreshed:
        headers["sb-auth-refresh-token-reuse"] = "true" if grant.again else "false"
    body = {
        "access_token": grant.access_token,
        "token_type": "bearer",
        "expires_in": grant.expires_in,
        "expires_at": grant.expires_at,
        "refresh_token": grant.refresh_token,
        "user": user_members(grant.user),
    }
    return json_answer(body, headers)


def user_members(user: User) -> dict[str, Any]:
    """Return *user* as Supabase clients know users; members without a value are left out."""
    optional: dict[str, datetime | None] = {
        "email_confirmed_at": user.email_confirmed_at,
        "confirmed_at": user.email_confirmed_at,
        "last_sign_in_at": user.last_sign_in_at,
        "banned_until": user.banned_until,
        "invited_at": user.invited_at,
        "deleted_at": user.deleted_at,
    }
    return {
        "id": user.id,
        "aud": user.aud,
        "role": user.role,
        "email": user.email or "",
        "phone": "",
        **{name: value for name, value in optional.items() if value is not None},
        "app_metadata": user.app_metadata,
        "user_metadata": user.user_metadata,
        "identities": [_identity_members(one) for one in user.identities],
        "created_at": user.created_at,
        "updated_at": user.updated_at,
        "is_anonymous": user.is_anonymous,
    }


def _identity_members(identity: dict[str, Any]) -> dict[str, Any]:
    data = identity["identity_data"]
    members = {
        "identity_id": identity["id"],
        "id": identity["provider_id"],
        "user_id": identity["user_id"],
        "identity_data": data,
        "provider": identity["provider"],
        "last_sign_in_at": identity["last_sign_in_at"],
        "created_at": identity["created_at"],
        "updated_at": identity["updated_at"],
        "email": data.get("email"),
    }
    return {name: value for name, value in members.items() if value is not None}


def settings_members(*, sign_up_open: bool) -> dict[str, Any]:
    """Return what `GET /settings` says this server offers."""
    return {
        "external": {**dict.fromkeys(_PROVIDERS, False), "email": True},
        "disable_signup": not sign_up_open,
        "mailer_autoconfirm": True,
        "phone_autoconfirm": False,
        "sms_provider": "",
        "saml_enabled": False,
        "saml_private_key_next_configured": False,
        "passkeys_enabled": False,
    }
