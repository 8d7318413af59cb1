"""`/support`: the support chat, which speaks ChatKit's server protocol.

One address takes every request of ChatKit; beside it files are uploaded and read. Who calls
is known before anything of ChatKit is looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.chatkit.context import ChatKitContext
from chatkeep.idempotency import Kept
from chatkeep.web.auth import Anybody, SignedInOnSupport
from chatkeep.web.file_bodies import file_answer, file_sent
from chatkeep.web.once import Once, StreamRecording, kept, kept_or_given_up, replayed
from chatkeep.web.problems import described
from chatkeep.web.schemas import HealthAnswer
from chatkeep.web.services import ServicesDep
from chatkeep.web.sse import EventStream

if TYPE_CHECKING:
    from starlette.types import Message

    from chatkeep.chatkit.surface import Recording
    from chatkeep.principal import Principal
    from chatkeep.web.services import Services

router = APIRouter(prefix="/support", tags=["ChatKit"])

AnyFile = Annotated[str, Path(max_length=200, description="A file that was announced.")]

_LOCALE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
_UPLOAD: Final = "/attachments/{attachment_id}/upload"
_OF_AN_UPLOAD: Final[dict[str, Any]] = {
    "status_code": 204,
    "response_model": None,
    "responses": described(400, 401, 404, 413, 415, 429, 503),
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        }
    },
}


@router.get("/health", response_model_exclude_none=True)
async def health(_: Anybody) -> HealthAnswer:
    """Say that the support chat is served. Public."""
    return HealthAnswer(status="ok")


@router.post(
    "/chatkit",
    response_model=None,
    responses={
        200: {
            "description": "The answer, or for what is answered a stream of events.",
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/event-stream": {"schema": {"type": "string"}},
            },
        },
        **described(400, 401, 404, 409, 413, 422, 429, 503),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["type"],
                        "properties": {
                            "type": {"type": "string"},
                            "params": {"type": "object"},
                            "metadata": {"type": "object"},
                        },
                    }
                }
            },
        }
    },
)
async def chatkit(
    request: Request, who: SignedInOnSupport, services: ServicesDep, once: Once
) -> Response:
    """Take any request of ChatKit's server protocol."""
    if once.key is None:
        return await _answered(request, who, services)
    held = await once.take(who)
    if isinstance(held, Kept):
        return replayed(held)
    async with kept_or_given_up(held):
        answer = await _answered(request, who, services, StreamRecording(held))
    if not isinstance(answer, EventStream):
        await kept(answer, held)
    return answer


async def _answered(
    request: Request, who: Principal, services: Services, recording: Recording | None = None
) -> Response:
    body = await request.body()
    context = ChatKitContext(who=who, request=_kept(request, body), locale=_locale(request))
    surface = await services.chatkit.surface()
    await services.limits.spend("chat", who.user_id)
    answer = await surface.process(body, context, recording=recording)
    if isinstance(answer, bytes):
        return Response(answer, media_type="application/json")
    return EventStream(answer, farewell=surface.farewell)


# Two routes: one with both methods would have one operation id for the two.
@router.post(_UPLOAD, **_OF_AN_UPLOAD)
@router.put(_UPLOAD, **_OF_AN_UPLOAD)
async def upload(
    request: Request, attachment_id: AnyFile, who: SignedInOnSupport, services: ServicesDep
) -> Response:
    """Take the bytes of a file that was announced with `attachments.create`, once."""
    with services.limits.entered("uploads", who.user_id):
        sent = await file_sent(request, at_most=services.files.limits.size)
        await services.files.upload(who.user_id, attachment_id, sent.content)
    return Response(status_code=204)


@router.get(
    "/attachments/{attachment_id}/content",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        },
        **described(401, 404, 503),
    },
)
async def content(
    attachment_id: AnyFile, who: SignedInOnSupport, services: ServicesDep
) -> Response:
    """Return a file of the caller. What a browser could run in it, it is told to keep instead."""
    return file_answer(await services.files.read(who.user_id, attachment_id))


def _kept(request: Request, body: bytes) -> Request:
    """Return *request* as applications may still read it when its stream has let go of it."""

    async def again() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({**request.scope, "headers": [*request.scope["headers"]]}, again)


def _locale(request: Request) -> str | None:
    """The first language of Accept-Language (RFC 9110 section 12.5.4), where it is one."""
    first = request.headers.get("accept-language", "").partition(",")[0].partition(";")[0]
    return first.strip() if _LOCALE.fullmatch(first.strip()) else None
