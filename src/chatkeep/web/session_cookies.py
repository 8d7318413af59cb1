"""The session cookie on its way in and out of a browser: set, renewed, replaced, taken back.

SameSite=Lax: a link from elsewhere finds the person signed in, and no other site's form does;
what could change something is looked at again by `same_origin`. Whose session it is, and
whether it is good, is for others to say.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from chatkeep.errors import ChatkeepError, TokenExpired, TokenInvalid, TokenRevoked
from chatkeep.web.cookies import add_cookie, cookie_line, read_cookies

if TYPE_CHECKING:
    from starlette.requests import Request

    from chatkeep.authentication import Presented
    from chatkeep.principal import Principal
    from chatkeep.sessions.cookie_tokens import SessionToken
    from chatkeep.web.services import Services

SAME_SITE: Final = "Lax"
_LOOKED_AT: Final = 4


def set_session_cookie(request: Request, services: Services, issued: SessionToken) -> None:
    """Hand the browser its session; the value is in no body."""
    life_s = max(int((issued.expires_at - datetime.now(UTC)).total_seconds()), 1)
    _add(request, services, issued.token, life_s)


def clear_session_cookie(request: Request, services: Services) -> None:
    """Take the cookie back."""
    _add(request, services, "", 0)


async def previous_sessions(request: Request, services: Services) -> list[Principal]:
    """Return whose sessions the cookies of *request* are, as far as they are good.

    All of that name: whoever signs in must not go on in a session that somebody planted.
    """
    values = read_cookies(request.headers.getlist("cookie")).get(services.session_tokens.cookie, ())
    found = []
    for value in values[:_LOOKED_AT]:
        try:
            found.append(await services.session_tokens.read(value))
        except TokenInvalid:
            continue
    return found


async def renew_if_due(request: Request, services: Services, who: Principal) -> None:
    """Give the browser the next cookie of the session of *who*, when it is time for one."""
    if "sid" in who.claims and "idp" in who.claims:
        renewed = await services.browser_sessions.renewed(who)
        if renewed is not None:
            set_session_cookie(request, services, renewed)


def clear_if_over(
    request: Request, services: Services, presented: Presented, error: ChatkeepError
) -> None:
    """Take back a cookie that has ended for good: no script of the page could.

    Only where it was all that said who calls, and not for what a newer version may have made.
    """
    own = services.session_tokens.cookie
    others = [name for name in presented.cookies if name.endswith("session_token")]
    if (
        isinstance(error, TokenExpired | TokenRevoked)
        and not presented.authorization
        and len(presented.cookies.get(own, ())) == 1
        and not others
    ):
        clear_session_cookie(request, services)


def _add(request: Request, services: Services, value: str, max_age_s: int) -> None:
    line = cookie_line(
        services.session_tokens.cookie,
        value,
        max_age_s=max_age_s,
        same_site=SAME_SITE,
        secure=services.settings.production,
    )
    add_cookie(request, line)
