"""Which forms of an answer a client takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

#: RFC 9110 section 12.5.3; a weight of nothing refuses.
_GZIP = re.compile(
    r"(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.IGNORECASE
)


def takes_gzip(request: Request) -> bool:
    """Whether the client says that it can unpack what was packed with gzip."""
    return _GZIP.search(request.headers.get("accept-encoding", "")) is not None
