"""What `/auth/v1` answers, member for member as Supabase Auth does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from chatkeep.accounts import User
    from chatkeep.audit import Entry
    from chatkeep.issuance import Grant, ProviderTokens

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
        "token_type": grant.token_type,
        "expires_in": grant.expires_in,
        "expires_at": grant.expires_at,
        "refresh_token": grant.refresh_token,
        "user": user_members(grant.user),
        **_provider_members(grant.provider_tokens),
    }
    return json_answer(body, headers)


def fragment_members(grant: Grant) -> dict[str, str]:
    """Return *grant* as a browser takes it along in the fragment of an address.

    No server sees that. `sb` stands there as it does at Supabase Auth.
    """
    return {
        "access_token": grant.access_token,
        "token_type": grant.token_type,
        "expires_in": str(grant.expires_in),
        "expires_at": str(grant.expires_at),
        "refresh_token": grant.refresh_token,
        **_provider_members(grant.provider_tokens),
        "sb": "",
    }


def _provider_members(theirs: ProviderTokens | None) -> dict[str, str]:
    if theirs is None:
        return {}
    said = {"provider_token": theirs.access, "provider_refresh_token": theirs.refresh}
    return {name: value for name, value in said.items() if value}


def user_members(user: User) -> dict[str, Any]:
    """Return *user* as Supabase clients know users; members without a value are left out."""
    optional: dict[str, datetime | None] = {
        "email_confirmed_at": user.email_confirmed_at,
        "confirmed_at": user.email_confirmed_at,
        "last_sign_in_at": user.last_sign_in_at,
        "confirmation_sent_at": user.confirmation_sent_at,
        "recovery_sent_at": user.recovery_sent_at,
        "email_change_sent_at": user.email_change_sent_at,
        "reauthentication_sent_at": user.reauthentication_sent_at,
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
        **({"new_email": user.new_email} if user.new_email else {}),
        **{name: value for name, value in optional.items() if value is not None},
        "app_metadata": user.app_metadata,
        "user_metadata": user.user_metadata,
        "identities": [_identity_members(one) for one in user.identities],
        **({"factors": [factor_members(one) for one in user.factors]} if user.factors else {}),
        "created_at": user.created_at,
        "updated_at": user.updated_at,
        "is_anonymous": user.is_anonymous,
    }


def factor_members(factor: dict[str, Any]) -> dict[str, Any]:
    """Return one of `User.factors` as Supabase clients know factors."""
    return {name: value for name, value in factor.items() if value is not None}


def audit_members(entry: Entry) -> dict[str, Any]:
    """Return an entry of the audit log in the shape of Supabase Auth's, and whole beside it."""
    payload = {
        "actor_id": entry.actor,
        "action": entry.action,
        "log_type": entry.action.partition(".")[0],
        "outcome": entry.outcome,
        "reason": entry.reason,
        "user_id": entry.user_id,
        "issuer": entry.issuer,
        "session_id": entry.session_id,
        "request_id": entry.request_id,
        "device": entry.device,
        "traits": entry.details,
    }
    return {
        "id": str(entry.number),
        "payload": {name: value for name, value in payload.items() if value is not None},
        "created_at": entry.at,
        "ip_address": entry.address or "",
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


def settings_members(
    *,
    sign_up_open: bool,
    autoconfirm: bool,
    anonymous: bool,
    passkeys: bool,
    providers: Iterable[str] = (),
) -> dict[str, Any]:
    """Return what `GET /settings` says this server offers."""
    return {
        "external": {
            **dict.fromkeys(_PROVIDERS, False),
            "email": True,
            "anonymous_users": anonymous,
            **dict.fromkeys(providers, True),
        },
        "disable_signup": not sign_up_open,
        "mailer_autoconfirm": autoconfirm,
        "phone_autoconfirm": False,
        "sms_provider": "",
        "saml_enabled": False,
        "saml_private_key_next_configured": False,
        "passkeys_enabled": passkeys,
    }
