"""Settings: whose tokens are taken, beside our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.config import values as read
from chatkeep.config.reading import setting

if TYPE_CHECKING:
    from chatkeep.config.values import Secret


@dataclass(frozen=True, kw_only=True)
class IssuerSettings:
    """Whose tokens are taken, beside our own."""

    supabase_project_url: str | None = setting(
        "SUPABASE_PROJECT_URL", read.web_address_or_domain, "SUPABASE_AUTH_DOMAIN"
    )
    supabase_jwt_secret: Secret | None = setting("SUPABASE_JWT_SECRET", read.long_secret)
    supabase_audience: str = setting(
        "SUPABASE_AUTH_AUDIENCE", read.plain_text, default="authenticated"
    )
    supabase_client_id: str | None = setting("SUPABASE_AUTH_CLIENT_ID", read.plain_text)
    supabase_client_secret: Secret | None = setting("SUPABASE_AUTH_CLIENT_SECRET", read.secret)
    supabase_sessions: bool = setting("SUPABASE_SESSIONS", read.flag, default=False)
    better_auth_url: str | None = setting("BETTER_AUTH_URL", read.web_address)
    better_auth_secret: Secret | None = setting("BETTER_AUTH_SECRET", read.long_secret)
    better_auth_issuer: str | None = setting("BETTER_AUTH_ISSUER", read.plain_text)
    better_auth_audience: str | None = setting("BETTER_AUTH_AUDIENCE", read.plain_text)
    better_auth_database_url: Secret | None = setting("BETTER_AUTH_DATABASE_URL", read.database_url)
    oidc_issuer: str | None = setting("OIDC_ISSUER", read.exact_web_address)
    oidc_audience: str | None = setting("OIDC_AUDIENCE", read.plain_text)
    oidc_client_id: str | None = setting("OIDC_CLIENT_ID", read.plain_text)
    oidc_client_secret: Secret | None = setting("OIDC_CLIENT_SECRET", read.secret)
    oidc_jwks_url: str | None = setting("OIDC_JWKS_URL", read.exact_web_address)
    oidc_roles_claim: tuple[str, ...] = setting("OIDC_ROLES_CLAIM", read.path, default=("roles",))
    oidc_issuers: tuple[str, ...] = setting("OIDC_ISSUERS", read.names, default=())
    primary_issuer: str | None = setting("PRIMARY_ISSUER", read.plain_text)
