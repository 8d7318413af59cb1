"""What a request carries that could say who calls: read once, in one place, for every surface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkeep.authentication import Presented
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
    )
