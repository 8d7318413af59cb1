"""What a request carries that could say who calls: read once, in one place, for every surface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.authentication import Presented
from chatkeep.token_binding import Proven, Request
from chatkeep.web.cookies import read_cookies
from chatkeep.web.hosts import names_this_machine

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection


def presented_by(connection: HTTPConnection) -> Presented:
    """Return every value of each kind, believing none of it."""
    headers = connection.headers
    return Presented(
        authorization=tuple(headers.getlist("authorization")),
        cookies=read_cookies(headers.getlist("cookie")),
        user_ids=tuple(headers.getlist("x-user-id")),
        local=names_this_machine(headers),
        proofs=tuple(headers.getlist("dpop")),
        request=request_of(connection),
        proven=proven_without_proof(connection),
    )


def request_of(connection: HTTPConnection) -> Request:
    """Return what a proof must be made for; behind a proxy the public address comes before it."""
    scope = connection.scope
    client = scope.get("state", {}).get("client")
    scheme = client.scheme if client is not None else scope["scheme"]
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
    host = connection.headers.get("host", "")
    return Request(method=scope.get("method", "GET"), url=f"{scheme}://{host}{path}")


def proven_without_proof(connection: HTTPConnection) -> Proven:
    """Return where the request comes from and with what, for tokens that are bound to that."""
    client = connection.scope.get("state", {}).get("client")
    return Proven(
        address=None if client is None else client.address,
        user_agent=connection.headers.get("user-agent"),
    )
