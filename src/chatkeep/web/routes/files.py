"""`/api/files`: files of the caller, uploaded before the message that they are sent with.

Their bytes are given to their owner alone, through this server and by nothing else: there is
no address of the storage that could be passed on, and signing out ends reading at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import files
from chatkeep.web.auth import SignedIn
from chatkeep.web.file_bodies import file_answer, file_sent
from chatkeep.web.once import Once, OnceDoor
from chatkeep.web.problems import described
from chatkeep.web.services import Services, ServicesDep

if TYPE_CHECKING:
    from chatkeep.principal import Principal

router = APIRouter(prefix="/api/files", tags=["AI SDK"], responses=described(401))

AFile = Annotated[str, Path(max_length=200, description="A file of the caller.")]
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string"}}},
    }
}


class FileAnswer(BaseModel):
    """A file, shaped as the part of a message that names it."""

    id: str
    type: str = "file"
    mediaType: str  # noqa: N815 -- the AI SDK's spelling
    filename: str
    url: str
    size: int


@router.post(
    "",
    response_model=FileAnswer,
    responses=described(400, 409, 413, 415, 422, 429, 503),
    openapi_extra=_BODY,
)
async def upload_file(
    request: Request,
    who: SignedIn,
    services: ServicesDep,
    once: Once,
    name: Annotated[
        str | None, Query(max_length=500, description="What it is called; a form says it itself.")
    ] = None,
) -> FileAnswer | Response:
    """Upload a file, bare or as the one file of a form; the answer is a part for a message."""
    with services.limits.entered("uploads", who.user_id):
        return await _uploaded(request, who, services, once, name)


async def _uploaded(
    request: Request, who: Principal, services: Services, once: OnceDoor, name: str | None
) -> FileAnswer | Response:
    sent = await file_sent(request, at_most=services.files.limits.size)
    media_type = sent.media_type or "application/octet-stream"

    async def make(new_id: str) -> FileAnswer:
        await services.limits.spend("chat", who.user_id)
        called = sent.name or name or "file"
        row = await services.files.keep(
            who.user_id,
            f"atc_{new_id.replace('-', '')}",
            name=called,
            media_type=media_type,
            content=sent.content,
        )
        part = files.part_of(row.id, name=row.name, media_type=row.media_type)
        return FileAnswer(id=row.id, size=row.size, **part)

    return await once.answer(who, make, body=sent.content)


@router.get(
    "/{file_id}",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        },
        **described(404, 422, 503),
    },
)
async def read_file(file_id: AFile, who: SignedIn, services: ServicesDep) -> Response:
    """Return a file of the caller. What a browser could run in it, it is told to keep instead."""
    return file_answer(await services.files.read(who.user_id, file_id))


@router.delete("/{file_id}", status_code=204, responses=described(422))
async def erase_file(file_id: AFile, who: SignedIn, services: ServicesDep) -> None:
    """Erase a file of the caller, also from the messages that it was sent with."""
    await services.files.erase(who.user_id, file_id)
