"""Where somebody is signed in, and ending it there.

A session of somebody else and one that never was get the same answer. Tokens are nowhere.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.errors import NotFound
from chatkeep.sessions import own as own_sessions
from chatkeep.web.auth import SignedIn, StrictlySignedIn
from chatkeep.web.problems import described
from chatkeep.web.schemas import EndedAnswer
from chatkeep.web.services import ServicesDep
from chatkeep.web.sse import HEARTBEAT, EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.answering.titling import Titling

#: Proxies close what is silent for a minute.
_HEARTBEAT_S: Final = 20.0
_SIGNED_OUT: Final = b"event: signed_out\ndata: {}\n\n"

router = APIRouter(prefix="/api/sessions", tags=["sessions"])


class SessionAnswer(BaseModel):
    """One device on which the caller is signed in."""

    id: UUID
    issuer: str
    device: str | None
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    current: bool


class SessionsAnswer(BaseModel):
    """Where the caller is signed in, last used first."""

    sessions: list[SessionAnswer]


@router.get("")
async def list_sessions(who: SignedIn, services: ServicesDep) -> SessionsAnswer:
    """List where the caller is signed in, the 200 last used."""
    await services.sightings.write()
    found = await own_sessions.list_sessions(services.db, who.user_id)
    return SessionsAnswer(
        sessions=[
            SessionAnswer(
                id=one.id,
                issuer=one.issuer,
                device=one.device,
                address=one.address,
                created_at=one.created_at,
                last_seen_at=one.last_activity_at,
                expires_at=one.expires_at,
                current=one.is_of(who),
            )
            for one in found
        ]
    )


@router.get(
    "/watch",
    response_class=Response,
    responses={
        200: {
            "description": "Silence until the session ends, but for new titles.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **described(429),
    },
)
async def watch_session(request: Request, who: SignedIn, services: ServicesDep) -> Response:
    """Say nothing until the caller's session ends: then an event, `signed_out`.

    Meanwhile an event `titled` names each conversation of theirs that was given a title.
    """
    frames = _silence(request.app.state.stopping, services.titling, who.user_id)
    return EventStream(frames, farewell=_SIGNED_OUT)


async def _silence(
    stopping: asyncio.Event, titling: Titling, user_id: str
) -> AsyncGenerator[bytes, None]:
    """Yield signs of life until the server stops, which ends nobody's session."""
    with titling.watching(user_id) as titled:
        stopped = asyncio.ensure_future(stopping.wait())
        named = asyncio.ensure_future(titled.get())
        try:
            yield HEARTBEAT
            while not stopping.is_set():
                tasks = (stopped, named)
                await asyncio.wait(tasks, timeout=_HEARTBEAT_S, return_when="FIRST_COMPLETED")
                if not named.done():
                    yield HEARTBEAT
                    continue
                data = msgspec.json.encode({"conversation_id": named.result()})
                yield b"event: titled\ndata: %s\n\n" % data
                named = asyncio.ensure_future(titled.get())
        finally:
            stopped.cancel()
            named.cancel()


@router.delete("/{session_id}", status_code=204, responses=described(404, 422))
async def end_session(
    session_id: Annotated[UUID, Path(description="A session of the caller.")],
    who: StrictlySignedIn,
    services: ServicesDep,
) -> Response:
    """End one session of the caller, at once and everywhere."""
    if not await own_sessions.end_own(services.db, who.user_id, session_id, reason="revoked"):
        raise NotFound
    await services.embedded.revocations.catch_up()
    return Response(status_code=204)


@router.post("/revoke-others")
async def end_others(who: StrictlySignedIn, services: ServicesDep) -> EndedAnswer:
    """End every session of the caller but this one."""
    await services.sightings.write()
    ended = await own_sessions.end_all_but(services.db, who, reason="revoked")
    await services.embedded.revocations.catch_up()
    return EndedAnswer(revoked=len(ended))


@router.post("/revoke-all")
async def end_all(who: StrictlySignedIn, services: ServicesDep) -> EndedAnswer:
    """End every session of the caller, this one too, and every token issued before now."""
    await services.sightings.write()
    ended = await own_sessions.end_everything(services.db, who.user_id, reason="revoked")
    await services.embedded.revocations.catch_up()
    return EndedAnswer(revoked=len(ended))
