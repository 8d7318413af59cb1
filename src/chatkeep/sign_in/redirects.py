"""Where a browser may be sent when somebody has proved who they are.

Tokens and codes travel in such an address, so an address is sent to only if it is this
server's own, one of REDIRECT_URLS, or, in development, of this very machine. It is compared
part by part and never as a text: what two programs read differently is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.config import Settings

_LONGEST: Final = 2048
# RFC 3986 without what a browser reads as something else: spaces, quotes, a backslash.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._~:/?#\[\]!$&'()*+,;=%-]*")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_PORTS: Final = {"http": 80, "https": 443}


def permitted(settings: Settings, wanted: str | None) -> str:
    """Return *wanted* if browsers may be sent there, else this server's own address."""
    if wanted is not None and is_permitted(settings, wanted):
        return wanted
    return settings.base_url


def is_permitted(settings: Settings, wanted: str) -> bool:
    """Whether browsers may be sent to *wanted*; its query and fragment say nothing here."""
    parts = _parts(wanted)
    if parts is None:
        return False
    if _origin(parts) == _origin(urlsplit(settings.base_url)):
        return True
    if not settings.production and _is_this_machine(parts):
        return True
    return any(_matches(pattern, parts) for pattern in settings.redirect_urls)


def leading_to(
    address: str,
    *,
    query: Mapping[str, str] | None = None,
    fragment: Mapping[str, str] | None = None,
) -> str:
    """Return *address* with *query* added to its query, and *fragment* instead of its own."""
    parts = urlsplit(address)
    if query:
        added = urlencode(query, quote_via=quote)
        parts = parts._replace(query=f"{parts.query}&{added}" if parts.query else added)
    if fragment:
        parts = parts._replace(fragment=urlencode(fragment, quote_via=quote))
    if not parts.path and parts.scheme in _PORTS:
        parts = parts._replace(path="/")
    return parts.geturl()


def _parts(address: str) -> SplitResult | None:
    """Return the parts of *address*, None if anybody could read it in two ways."""
    if len(address) > _LONGEST or not _PLAIN.fullmatch(address):
        return None
    try:
        parts = urlsplit(address)
        named = _HOST.fullmatch(parts.hostname or "") is not None and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        return None
    if not named or "@" in parts.netloc or "%" in parts.netloc:
        return None
    segments = [unquote(one) for one in parts.path.split("/")]
    if any(one in {".", ".."} or not {"/", "\\"}.isdisjoint(one) for one in segments):
        return None
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _is_this_machine(parts: SplitResult) -> bool:
    name = parts.hostname or ""
    if parts.scheme not in _PORTS:
        return False
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761 section 6.3


def _matches(pattern: str, wanted: SplitResult) -> bool:
    allowed = _split_pattern(pattern)
    scheme, host, port = _origin(wanted)
    return (
        (scheme, port) == (allowed.scheme, allowed.port or _PORTS.get(allowed.scheme))
        and _glob(allowed.hostname or "", host=True).fullmatch(host or "") is not None
        and _glob(allowed.path or "/", host=False).fullmatch(wanted.path or "/") is not None
    )


@lru_cache(maxsize=256)
def _split_pattern(pattern: str) -> SplitResult:
    return urlsplit(pattern)


@lru_cache(maxsize=512)
def _glob(pattern: str, *, host: bool) -> re.Pattern[str]:
    """`*` is a part of a name or of one segment; `**`, in a path only, also several segments."""
    one = "[a-z0-9-]+" if host else "[^/]*"
    pieces = re.split(r"(\*\*|\*)", pattern.lower() if host else pattern)
    words = {"*": one, "**": one if host else ".*"}
    return re.compile("".join(words.get(piece) or re.escape(piece) for piece in pieces))
