"""A browser on its way to a provider and back: its cookie, where it goes, how it is told.

The cookie only says that it is the same browser; what for is in the flow.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.responses import Response

from chatkeep import errors
from chatkeep.config.values import THIS_MACHINE
from chatkeep.providers.flows import LIFE, new_text
from chatkeep.sign_in import redirects
from chatkeep.web.cookies import cookie_line, read_cookies
from chatkeep.web.gotrue.answers import fragment_members
from chatkeep.web.gotrue.errors import Refused, worded
from chatkeep.web.hosts import host_name
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from chatkeep.config import Settings
    from chatkeep.issuance import Grant

_COOKIE: Final = "chatkeep-sign-in"
_OURS = re.compile(r"[A-Za-z0-9_-]{43}")
_LOOPBACK: Final = THIS_MACHINE | {"[::1]"}
#: An address with a state, a code or tokens must not travel further, or be kept.
_HEADERS: Final = {
    "cache-control": "no-store",
    "pragma": "no-cache",
    "referrer-policy": "no-referrer",
}
#: What the person or the operator decided: RFC 6749 section 4.1.2.1 has one word for all of it.
_DENIED: Final = 422
_WORDS: Final = {
    400: "invalid_request",
    401: "unauthorized_client",
    403: "access_denied",
    404: "access_denied",
    _DENIED: "access_denied",
    503: "temporarily_unavailable",
}


def browser_of(request: Request) -> str | None:
    """Return which browser *request* comes from, None if it has no cookie of ours yet."""
    name = _cookie_name(services_of(request).settings)
    values = read_cookies(request.headers.getlist("cookie")).get(name, ())
    return values[0] if len(values) == 1 and _OURS.fullmatch(values[0]) else None


def browser_or_new(request: Request) -> str:
    """Return which browser that is; several flows of one browser may be under way at once."""
    return browser_of(request) or new_text()


def sent_to(address: str, *, status: int = 302) -> Response:
    """Send the browser to *address*."""
    return Response(status_code=status, headers={**_HEADERS, "location": address})


def sent_away(request: Request, address: str, browser: str) -> Response:
    """Send *browser* to a provider, and let it be known by when it comes back."""
    return told_who(request, sent_to(address), browser)


def told_who(request: Request, answer: Response, browser: str) -> Response:
    """Have *answer* tell the browser that it is *browser*.

    Lax, so that the cookie comes along when the provider sends the browser back.
    """
    settings = services_of(request).settings
    line = cookie_line(
        _cookie_name(settings),
        browser,
        max_age_s=int(LIFE.total_seconds()),
        same_site="Lax",
        secure=settings.production,
    )
    answer.headers.append("set-cookie", line)
    return answer


def elsewhere_on_this_machine(request: Request) -> str | None:
    """Return where the cookie would come back, if this is another name of this machine.

    A provider sends the browser back to this server's own address: whoever came by
    `localhost` would come back to `127.0.0.1`, without the cookie.
    """
    own = urlsplit(services_of(request).settings.base_url)
    called = host_name(request.headers.get("host", ""))
    if called is None or called == own.hostname or not {called, own.hostname} <= _LOOPBACK:
        return None
    return own._replace(path=request.url.path, query=request.url.query).geturl()


def browser_of_own_page(request: Request) -> str | None:
    """Return which browser a script of this server's own page asks from, None for others.

    It alone keeps the cookie that comes with the answer: a page elsewhere sends and keeps none.
    """
    own = request.headers.getlist("sec-fetch-site") == ["same-origin"]
    return browser_or_new(request) if own else None


def left_a_page_of(request: Request, redirect_to: str) -> bool:
    """Whether the browser has left a page at the origin of *redirect_to*, the application's.

    Else anybody could ask for a link to their account and make somebody else follow it, who
    would then have linked their identity to it. That the page was one of this server's own is
    not enough: its visitors follow what others wrote there.
    """
    wanted, left = urlsplit(redirect_to), urlsplit(request.headers.get("referer", ""))
    return bool(left.netloc) and (left.scheme, left.netloc) == (wanted.scheme, wanted.netloc)


def told(address: str, error: errors.ChatkeepError | Refused) -> Response:
    """Send the browser to *address* with what went wrong, where either kind of client looks."""
    refusal = error.refusal if isinstance(error, Refused) else worded(error)
    word = _WORDS.get(refusal.status, "server_error")
    if isinstance(error, errors.BadOAuthCallback):
        word = error.error
    said = {"error": word, "error_code": refusal.code, "error_description": refusal.message}
    return sent_to(redirects.leading_to(address, query=said, fragment=said))


def signed_in(address: str, grant: Grant) -> Response:
    """Send the browser to *address* with the tokens, where no server sees them."""
    return sent_to(redirects.leading_to(address, fragment=fragment_members(grant)))


def _cookie_name(settings: Settings) -> str:
    return f"__Host-{_COOKIE}" if settings.production else _COOKIE
