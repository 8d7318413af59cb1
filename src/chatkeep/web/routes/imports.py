"""Bringing conversations here from the export of another chat."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.conversations import imports
from chatkeep.web.auth import SignedInOnRest
from chatkeep.web.once import Once
from chatkeep.web.problems import described
from chatkeep.web.services import ServicesDep

router = APIRouter(prefix="/api/v1/chat", tags=["conversations"], responses=described(422))

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": ["array", "object"]}}},
    }
}


class ImportedAnswer(BaseModel):
    """How many conversations came, and how many had come before."""

    imported: int
    known: int


@router.post(
    "/import", openapi_extra=_BODY, response_model=ImportedAnswer, responses=described(409)
)
async def import_conversations(
    request: Request, who: SignedInOnRest, services: ServicesDep, once: Once
) -> ImportedAnswer | Response:
    """Import the conversations of an export of ChatGPT or Open WebUI."""

    async def make(_: str) -> ImportedAnswer:
        await services.limits.spend("import", who.user_id)
        arrivals = await asyncio.to_thread(imports.read, await request.body())
        imported = 0
        for arrival in arrivals:
            imported += await imports.store(services.db, who.user_id, arrival)
        return ImportedAnswer(imported=imported, known=len(arrivals) - imported)

    return await once.answer(who, make)
