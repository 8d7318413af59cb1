"""Settings: our own issuer: accounts, tokens, sessions and their claims."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.config import values as read
from chatkeep.config.reading import setting


@dataclass(frozen=True, kw_only=True)
class AccountSettings:
    """Our own issuer: accounts, tokens, sessions and their claims."""

    sign_up: bool = setting("SIGN_UP", read.flag, default=True)
    access_token_expiry_s: int = setting(
        "ACCESS_TOKEN_EXPIRY", read.whole(60, 86_400), default=3600
    )
    token_refresh_window_s: int = setting(
        "TOKEN_REFRESH_WINDOW", read.whole(0, 86_400), default=300
    )
    refresh_token_expiry_ms: int = setting(
        "REFRESH_TOKEN_EXPIRY", read.whole(60_000, 34_560_000_000), default=604_800_000
    )
    session_lifetime_s: int = setting(
        "SESSION_LIFETIME", read.whole(60, 34_560_000), default=2_592_000
    )
    sessions_per_user: int = setting("SESSIONS_PER_USER", read.whole(1, 10_000), default=100)
    claims: str | None = setting("CLAIMS", read.import_path)
    claims_issue: int | None = setting("CLAIMS_ISSUE", read.whole(1, 9999))
    access_token_hook: str | None = setting("ACCESS_TOKEN_HOOK", read.hook)
    signing_key_wait_s: int = setting("SIGNING_KEY_WAIT", read.whole(600, 2_592_000), default=1200)
    audit_retention_days: int | None = setting("AUDIT_RETENTION", read.whole(30, 36_500))
    development_user_header: bool = setting("DEVELOPMENT_USER_HEADER", read.flag, default=False)
