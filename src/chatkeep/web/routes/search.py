"""Search in the caller's own messages."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from chatkeep.conversations import Role, search
from chatkeep.conversations.search import Found, Position
from chatkeep.errors import Invalid
from chatkeep.web.auth import SignedIn
from chatkeep.web.cursors import find_cursor, read_find_cursor
from chatkeep.web.problems import described
from chatkeep.web.services import ServicesDep

router = APIRouter(prefix="/api/v1", tags=["conversations"], responses=described(401, 422))

_PAGE_AT_MOST = 50


class PieceAnswer(BaseModel):
    """Plain text of a passage; *match* is what was looked for."""

    text: str
    match: bool


class FoundAnswer(BaseModel):
    """A message that matches."""

    conversation_id: str
    message_id: str
    title: str | None
    role: Role
    created_at: datetime
    passage: list[PieceAnswer]


class SearchAnswer(BaseModel):
    """A page of what was found."""

    order: Literal["best", "newest"]
    found: list[FoundAnswer]
    next_cursor: str | None


@router.get("/search", responses=described(429))
async def search_messages(
    who: SignedIn,
    services: ServicesDep,
    q: Annotated[str, Query(min_length=1, max_length=200, description="What to look for.")],
    limit: Annotated[int, Query(ge=1, description="More than 50 counts as 50.")] = 20,
    cursor: Annotated[
        str | None, Query(max_length=500, description="`next_cursor` of the page before.")
    ] = None,
) -> SearchAnswer:
    """Find the caller's messages that have all of the words."""
    if "\x00" in q:
        raise Invalid.of("q", "must not contain the character NUL")
    await services.limits.spend("search", who.user_id)
    profile = await services.preferences.get_profile(who.user_id)
    after = None if cursor is None else Position(**read_find_cursor(cursor))
    limit = min(limit, _PAGE_AT_MOST)
    with services.limits.entered("searches", who.user_id):
        found = await search.search(
            services.db, who.user_id, q, locale=profile.locale, limit=limit + 1, after=after
        )
    page = found[:limit]
    return SearchAnswer(
        order="newest" if page and page[0].rank is None else "best",
        found=[_answer(one) for one in page],
        next_cursor=find_cursor(page[-1]) if len(found) > limit else None,
    )


def _answer(one: Found) -> FoundAnswer:
    return FoundAnswer(
        conversation_id=one.conversation_id,
        message_id=one.message_id,
        title=one.title,
        role=one.role,
        created_at=one.said_at,
        passage=[PieceAnswer(**asdict(piece)) for piece in search.passage(one.marked)],
    )
