"""Cookies: read as they came, every value of each name and no leniency; and set.

A lenient parser lets somebody plant a cookie that reads as another: a nameless one
(`=__Host-x=v`), a quoted one, one whose name differs in case. Such a pair is passed over
here, and the name keeps only what was said plainly (RFC 6265bis section 4.2.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import HTTPConnection

_PAIR = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*)")
_PAIRS_AT_MOST = 200


def read_cookies(headers: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Return all values of each cookie of the `Cookie` *headers*, in the order sent."""
    found: dict[str, tuple[str, ...]] = {}
    for header in headers:
        for pair in header.split(";")[:_PAIRS_AT_MOST]:
            match = _PAIR.fullmatch(pair.strip(" \t"))
            if match is not None:
                name, value = match.groups()
                found[name] = (*found.get(name, ()), value)
    return found


def cookie_line(name: str, value: str, *, max_age_s: int, same_site: str, secure: bool) -> str:
    """Return a `Set-Cookie` line for this host alone, out of every script's reach.

    With *secure* and a name that begins with `__Host-` a browser takes it from this very host
    and nobody else (RFC 6265bis section 4.1.3.2). An age of 0 takes it back.
    """
    said = f"{name}={value}; Max-Age={max_age_s}; Path=/; HttpOnly; SameSite={same_site}"
    return f"{said}; Secure" if secure else said


def add_cookie(request: HTTPConnection, line: str) -> None:
    """Send *line* with the answer to *request*, whatever that will be."""
    request.scope["state"].setdefault("cookies", []).append(line)
