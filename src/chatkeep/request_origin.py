"""Where the work at hand comes from: which request, from which address, with which program.

Set once by whatever takes requests in, and read where a record of the work is kept; so
that nobody in between has to hand it on. Work that no request began has none.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOrigin:
    """One request, as far as it says where it comes from. *address* is a network address."""

    request_id: str | None = None
    address: str | None = None
    user_agent: str | None = None


NOWHERE: Final = RequestOrigin()

#: The request that this task works for.
request_origin: ContextVar[RequestOrigin] = ContextVar("request_origin", default=NOWHERE)
