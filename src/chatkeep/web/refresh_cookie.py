"""The refresh cookie: for browsers that should not hold a refresh token in a script.

SameSite=Strict, because nothing but a page of our own ever needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chatkeep.errors import TokenInvalid
from chatkeep.web.cookies import add_cookie, cookie_line, read_cookies

if TYPE_CHECKING:
    from starlette.requests import Request

    from chatkeep.refresh_cookies import Kept
    from chatkeep.web.services import Services

_LIFE_S: Final = 7 * 86_400


def kept_in_cookie(request: Request, parts: Services) -> Kept | None:
    """Return the refresh token that the cookie of *request* holds.

    Raises:
        TokenInvalid: there are two of the name.
        BadRequest: it holds something else.
    """
    values = read_cookies(request.headers.getlist("cookie")).get(_name(parts), ())
    if len(values) > 1:
        # Which of two would be read first is the planter's choice (RFC 6265bis §8.6).
        raise TokenInvalid
    return parts.refresh_cookies.read(values[0]) if values and values[0] else None


def keep_in_cookie(request: Request, parts: Services, kept: Kept) -> None:
    """Hand the browser *kept*; raises `Invalid` when it is too long for a cookie."""
    age_s = min(parts.settings.refresh_token_expiry_ms // 1000, _LIFE_S)
    _add(request, parts, parts.refresh_cookies.write(kept), age_s)


def clear_refresh_cookie(request: Request, parts: Services) -> None:
    """Take the cookie back."""
    _add(request, parts, "", 0)


def _name(parts: Services) -> str:
    return "__Host-chatkeep_refresh" if parts.settings.production else "chatkeep_refresh"


def _add(request: Request, parts: Services, value: str, age_s: int) -> None:
    secure = parts.settings.production
    line = cookie_line(_name(parts), value, max_age_s=age_s, same_site="Strict", secure=secure)
    add_cookie(request, line)
