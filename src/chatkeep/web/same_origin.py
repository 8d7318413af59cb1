"""Whether a request with a cookie was meant by the person: Fetch Metadata and Origin.

A browser adds cookies to requests that another site makes it send. It also says which
site that was, and no page can change what it says (`Sec-Fetch-Site`, `Origin`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chatkeep.errors import CrossSiteRequest

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import HTTPConnection

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def require_same_origin(
    request: HTTPConnection, *, own: str | None, allowed: Collection[str]
) -> None:
    """Refuse a write that another site sent with the person's cookie, and its WebSockets.

    A page can read what comes on a WebSocket, of whichever site it is. *own* is the address
    people use (None: the one this request names as its host), *allowed* are further origins
    that may write.

    Raises:
        CrossSiteRequest: from another site, or from nobody who says where they are.
    """
    if request.scope["type"] == "http" and request.scope["method"] in _READING:
        return
    origins = request.headers.getlist("origin")
    trusted = {*allowed, _origin(own) if own else _host_origin(request)}
    if len(origins) == 1 and origins[0] in trusted:
        return
    if not origins and request.headers.getlist("sec-fetch-site") == ["same-origin"]:
        return
    raise CrossSiteRequest


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _host_origin(request: HTTPConnection) -> str:
    client = request.scope["state"]["chatkeep_client"]
    return f"{client.scheme}://{request.headers.get('host', '')}"
