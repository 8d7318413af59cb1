"""Settings: signed-in browsers, and what a token is bound to."""

from __future__ import annotations

from dataclasses import dataclass

from chatkeep.config import values as read
from chatkeep.config.reading import setting


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """Signed-in browsers, and what a token is bound to."""

    session_cookie: str = setting(
        "SESSION_COOKIE", read.choice("sliding", "absolute"), default="sliding"
    )
    token_binding: str = setting(
        "TOKEN_BINDING", read.choice("none", "address", "device"), default="none"
    )
