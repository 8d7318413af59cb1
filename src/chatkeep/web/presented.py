"""What a request carries that could say who calls: read once, in one place, for every surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chatkeep.authentication import Presented
from chatkeep.token_binding import Proven, Request
from chatkeep.web.cookies import read_cookies
from chatkeep.web.hosts import names_this_machine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import HTTPConnection

#: In the scope of a request that is answered as another method than it was asked with.
ASKED_METHOD: Final = "chatkeep.asked_method"
#: Every header that can say who calls, or belongs to one that does.
_CREDENTIALS: Final = frozenset({b"authorization", b"cookie", b"dpop", b"x-user-id"})


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


def authorization_alone(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the value of the `Authorization` header, if nothing else could say who calls.

    *headers* as ASGI has them, with names in lower case.
    """
    found = None
    for name, value in headers:
        if name in _CREDENTIALS:
            if found is not None or name != b"authorization":
                return None
            found = value
    return found


def request_of(connection: HTTPConnection) -> Request:
    """Return what a proof must be made for; behind a proxy the public address comes before it."""
    scope = connection.scope
    client = scope.get("state", {}).get("chatkeep_client")
    scheme = client.scheme if client is not None else scope["scheme"]
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
    host = connection.headers.get("host", "")
    method = scope.get(ASKED_METHOD) or scope.get("method", "GET")
    return Request(method=method, url=f"{scheme}://{host}{path}")


def proven_without_proof(connection: HTTPConnection) -> Proven:
    """Return where the request comes from and with what, for tokens that are bound to that."""
    client = connection.scope.get("state", {}).get("chatkeep_client")
    return Proven(
        address=None if client is None else client.address,
        user_agent=connection.headers.get("user-agent"),
    )
