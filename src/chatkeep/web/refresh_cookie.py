"""The refresh cookie: for browsers that should not hold a refresh token in a script.

SameSite=Strict, because nothing but a page of our own ever needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chatkeep.db import AUTH
from chatkeep.errors import BadRequest, Invalid, RefreshTokenNotFound, TokenInvalid
from chatkeep.sessions import own as own_sessions
from chatkeep.sessions import records as sessions
from chatkeep.web.cookies import add_cookie, cookie_line, read_cookies

if TYPE_CHECKING:
    from starlette.requests import Request

    from chatkeep.principal import Principal
    from chatkeep.sessions.refresh_cookies import Kept
    from chatkeep.web.services import Services

_LIFE_S: Final = 7 * 86_400


def kept_in_cookie(request: Request, services: Services) -> Kept | None:
    """Return the refresh token that the cookie of *request* holds.

    Raises:
        TokenInvalid: there are two of the name.
        BadRequest: it holds something else.
    """
    values = read_cookies(request.headers.getlist("cookie")).get(_name(services), ())
    if len(values) > 1:
        # Which of two would be read first is the planter's choice (RFC 6265bis §8.6).
        raise TokenInvalid
    return services.refresh_cookies.read(values[0]) if values and values[0] else None


def keep_in_cookie(request: Request, services: Services, kept: Kept) -> None:
    """Hand the browser *kept*; raises `Invalid` when it is too long for a cookie."""
    age_s = min(services.settings.refresh_token_expiry_ms // 1000, _LIFE_S)
    _add(request, services, services.refresh_cookies.write(kept), age_s)


def clear_refresh_cookie(request: Request, services: Services) -> None:
    """Take the cookie back."""
    _add(request, services, "", 0)


async def end_other_refreshes(request: Request, services: Services, who: Principal) -> None:
    """Take back the refresh cookie of whoever was signed in before *who*, and end its session.

    One that goes with the session of *who*, who has just signed in, stays.
    """
    try:
        kept = kept_in_cookie(request, services)
    except (BadRequest, TokenInvalid):
        clear_refresh_cookie(request, services)
        return
    if kept is None or (kept.issuer, kept.subject) == (who.issuer, who.subject):
        return
    if kept.issuer is not None:
        await services.foreign_sessions.end(
            kept.issuer, access_token=None, refresh_token=kept.token
        )
    elif not await _ended_of_ours(services, kept, who):
        return
    clear_refresh_cookie(request, services)


async def _ended_of_ours(services: Services, kept: Kept, who: Principal) -> bool:
    """Whether the session of *kept* is over now: it is not, if it is that of *who*."""
    try:
        session_id = services.embedded.refresh_tokens.read(kept.token).session_id
    except (Invalid, RefreshTokenNotFound):
        return True
    if str(session_id) == who.claims["sid"]:
        return False
    (found,) = await services.db.fetch_all(AUTH, sessions.by_id(session_id))
    if found:
        await own_sessions.end_own(services.db, found[0].user_id, session_id, reason="replaced")
        await services.embedded.revocations.catch_up()
    return True


def _name(services: Services) -> str:
    return "__Host-chatkeep_refresh" if services.settings.production else "chatkeep_refresh"


def _add(request: Request, services: Services, value: str, age_s: int) -> None:
    secure = services.settings.production
    line = cookie_line(_name(services), value, max_age_s=age_s, same_site="Strict", secure=secure)
    add_cookie(request, line)
