"""`/api/admin/audit`: the audit log, page by page or as a file, for administrators among people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel
from starlette.responses import StreamingResponse

from chatkeep import audit
from chatkeep.web.administrators import Administrator
from chatkeep.web.persons import LONGEST_USER_ID
from chatkeep.web.problems import described
from chatkeep.web.revocable_stream import RevocableStream
from chatkeep.web.services import ServicesDep

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.db import Database

router = APIRouter(prefix="/api/admin", tags=["administration"])

_PAGE: Final = 500


def _placed(moment: datetime | None) -> datetime | None:
    """Take a moment that names no zone for UTC, wherever the database is."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


Many = Annotated[int, Query(ge=1, le=audit.AT_MOST, description="How many on a page.")]
About = Annotated[str | None, Query(max_length=LONGEST_USER_ID, description="Whom it is about.")]
Action = Annotated[str | None, Query(max_length=255, description="One of the audit log's.")]
Outcome = Annotated[str | None, Query(max_length=255, description="`succeeded` or `refused`.")]
Since = Annotated[
    datetime | None, AfterValidator(_placed), Query(description="Not before then: ISO 8601.")
]
Until = Annotated[
    datetime | None, AfterValidator(_placed), Query(description="Before then: ISO 8601.")
]
Before = Annotated[int | None, Query(ge=1, lt=2**63, description="`next_before` of a page.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries; without a word, all."""

    user_id: About = None
    action: Action = None
    outcome: Outcome = None
    since: Since = None
    until: Until = None


class EntryAnswer(BaseModel):
    """One entry of the audit log."""

    number: int
    at: datetime
    action: str
    outcome: str
    reason: str | None
    user_id: str | None
    actor: str | None
    issuer: str | None
    session_id: str | None
    request_id: str | None
    address: str | None
    device: str | None
    details: dict[str, Any]


class EntriesAnswer(BaseModel):
    """A page of the audit log, the newest first."""

    entries: list[EntryAnswer]
    next_before: int | None


@router.get("/audit", responses=described(422))
async def list_audit(
    _: Administrator,
    services: ServicesDep,
    wanted: Annotated[Wanted, Depends()],
    before: Before = None,
    limit: Many = 100,
) -> EntriesAnswer:
    """List what happened, the newest first."""
    found = await audit.listed(services.db, **asdict(wanted), before=before, limit=limit)
    return EntriesAnswer(
        entries=[EntryAnswer.model_validate(one, from_attributes=True) for one in found],
        next_before=found[-1].number if len(found) == limit else None,
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
    _: Administrator, services: ServicesDep, wanted: Annotated[Wanted, Depends()]
) -> StreamingResponse:
    """Return the audit log as a file of JSON lines, as far back as it goes."""
    pages = _pages(services.db, wanted)
    first = await anext(pages, b"")  # what is wrong is said while there can be an answer
    return RevocableStream(
        _all(first, pages),
        media_type="application/x-ndjson",
        headers={"content-disposition": 'attachment; filename="audit.ndjson"'},
    )


async def _pages(db: Database, wanted: Wanted) -> AsyncGenerator[bytes, None]:
    """Read page by page: no connection is held while somebody reads slowly."""
    before: int | None = None
    while page := await audit.listed(db, **asdict(wanted), before=before, limit=_PAGE):
        yield b"".join(msgspec.json.encode(one) + b"\n" for one in page)
        before = page[-1].number


async def _all(first: bytes, others: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield first
    async for page in others:
        yield page
