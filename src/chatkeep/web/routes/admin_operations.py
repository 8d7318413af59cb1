"""`/api/admin`, for those who operate the server: claims, limits, the audit log as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from chatkeep import audit
from chatkeep.claims import read_drain
from chatkeep.limits import AT_ONCE, RATES
from chatkeep.web.administrators import Administrator
from chatkeep.web.problems import described
from chatkeep.web.routes.admin import About, Action, Outcome, Since, Until
from chatkeep.web.services import Parts
from chatkeep.web.watched import Watched

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.db import Database

router = APIRouter(prefix="/api/admin", tags=["administration"])

_PAGE = 500


class LimitAnswer(BaseModel):
    """So many at once, refilled evenly over the period."""

    kind: str
    burst: int
    period_seconds: float
    #: Whether all processes count together where they share a Redis.
    shared: bool


class LimitsAnswer(BaseModel):
    """What may be done how often, and how much may go on at once."""

    enabled: bool
    limits: list[LimitAnswer]
    at_once: dict[str, int]


@router.get("/claims", response_model=None)
async def claims(_: Administrator, parts: Parts) -> Response:
    """Show how many session tokens of each version had to be upgraded, and when they end."""
    drain = await read_drain(parts.db, parts.session_tokens.versions)
    return Response(msgspec.json.encode(drain), media_type="application/json")


@router.get("/limits")
async def limits(_: Administrator, parts: Parts) -> LimitsAnswer:
    """Show the limits in force."""
    return LimitsAnswer(
        enabled=parts.settings.rate_limits,
        limits=[
            LimitAnswer(
                kind=kind, burst=rate.burst, period_seconds=rate.period_s, shared=rate.shared
            )
            for kind, rate in sorted(RATES.items())
        ],
        at_once=dict(AT_ONCE),
    )


@router.get(
    "/audit/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One JSON object a line, the newest entry first.",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        },
        **described(422),
    },
)
async def export_audit(
    _: Administrator,
    parts: Parts,
    user_id: About = None,
    action: Action = None,
    outcome: Outcome = None,
    since: Since = None,
    until: Until = None,
) -> StreamingResponse:
    """Return the audit log as a file of JSON lines, as far back as it goes."""
    wanted = {
        "user_id": user_id,
        "action": action,
        "outcome": outcome,
        "since": since,
        "until": until,
    }
    pages = _pages(parts.db, wanted)
    first = await anext(pages, b"")  # what is wrong is said while there can be an answer
    return Watched(
        _all(first, pages),
        media_type="application/x-ndjson",
        headers={"content-disposition": 'attachment; filename="audit.ndjson"'},
    )


async def _pages(db: Database, wanted: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    """Read page by page: no connection is held while somebody reads slowly."""
    before: int | None = None
    while page := await audit.listed(db, **wanted, before=before, limit=_PAGE):
        yield b"".join(msgspec.json.encode(one) + b"\n" for one in page)
        before = page[-1].number


async def _all(first: bytes, others: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for page in others:
        yield page
