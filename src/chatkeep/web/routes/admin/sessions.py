"""`/api/admin`: where people are signed in, and ending it there, for administrators among people.

Tokens are nowhere.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from starlette.responses import Response

from chatkeep.errors import NotFound
from chatkeep.sessions import administration
from chatkeep.web import schemas
from chatkeep.web.administrators import Administrator, FreshAdministrator
from chatkeep.web.persons import UserId
from chatkeep.web.problems import described
from chatkeep.web.services import ServicesDep

router = APIRouter(prefix="/api/admin", tags=["administration"])

SessionId = Annotated[UUID, Path(description="A session of theirs.")]
AlsoEnded = Annotated[bool, Query(description="Also what has ended.")]


class SessionOfSomebodyAnswer(BaseModel):
    """A session of a person. Nothing in it is a token, or could be used as one."""

    id: UUID
    user_id: str
    issuer: str
    aal: str
    device: str | None
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    is_active: bool
    ended_at: datetime | None
    reason: str | None


class SessionsOfSomebodyAnswer(BaseModel):
    """Where a person is signed in, last used first."""

    sessions: list[SessionOfSomebodyAnswer]


@router.post("/users/{user_id:path}/sign-out", responses=described(404, 422))
async def force_out(
    body: schemas.ReasonRequest, who: FreshAdministrator, user_id: UserId, services: ServicesDep
) -> schemas.EndedAnswer:
    """End everything of a person of any issuer, at once and everywhere; they may come back."""
    await services.sightings.write()
    ended = await administration.force_out(
        services.db,
        services.embedded.revocations,
        user_id,
        actor=who.user_id,
        reason=body.reason or "forced_out",
    )
    return schemas.EndedAnswer(revoked=ended)


@router.get("/users/{user_id:path}/sessions", responses=described(404))
async def list_sessions(
    _: Administrator, user_id: UserId, services: ServicesDep, *, ended: AlsoEnded = False
) -> SessionsOfSomebodyAnswer:
    """List where a person of any issuer is signed in; with `ended=true` also what has ended."""
    await services.sightings.write()
    found = await administration.list_sessions_of(services.db, user_id, ended=ended)
    return SessionsOfSomebodyAnswer(
        sessions=[
            SessionOfSomebodyAnswer.model_validate(one, from_attributes=True) for one in found
        ]
    )


@router.delete(
    "/users/{user_id:path}/sessions/{session_id}", status_code=204, responses=described(404)
)
async def end_session(
    who: FreshAdministrator, user_id: UserId, session_id: SessionId, services: ServicesDep
) -> Response:
    """End one session of a person, at once and everywhere."""
    await services.sightings.write()
    ended = await administration.end_session_of(services.db, user_id, session_id, actor=who.user_id)
    if not ended:
        raise NotFound
    await services.embedded.revocations.catch_up()
    return Response(status_code=204)


@router.post("/sign-out-everybody", responses=described(422))
async def force_everybody_out(
    body: schemas.ReasonRequest, who: FreshAdministrator, services: ServicesDep
) -> schemas.EndedAnswer:
    """End every session of everybody at every issuer, that of the caller too."""
    await services.sightings.write()
    ended = await administration.force_everybody_out(
        services.db,
        services.embedded.revocations,
        services.settings.issuer_names,
        actor=who.user_id,
        reason=body.reason or "everybody_out",
    )
    return schemas.EndedAnswer(revoked=ended)
