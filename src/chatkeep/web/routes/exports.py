"""Everything a person has here: taken away, and erased."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from chatkeep.administration.administrators import require_fresh
from chatkeep.personal_data import erasure, exports
from chatkeep.web import rest_exports
from chatkeep.web.auth import StrictlySignedIn
from chatkeep.web.problems import described
from chatkeep.web.second_factor import require_second_factor
from chatkeep.web.services import ServicesDep

router = APIRouter(prefix="/api/account", tags=["settings"], responses=described(401))

_JSON: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}}
}


class ErasedAnswer(BaseModel):
    """What was erased; what is left is out of reach, and goes when it is asked for again."""

    conversations: int
    left: int


@router.get("/data", responses=_JSON)
async def export_everything(who: StrictlySignedIn, services: ServicesDep) -> StreamingResponse:
    """Export everything the caller has: settings, sessions, links, usage, conversations."""
    await services.limits.spend("export", who.user_id)
    found = await exports.belongings(services.db, who.user_id)
    await exports.note_export(services.db, who.user_id, by=who, actor=who.user_id)
    return rest_exports.Export(
        services.limits,
        who.user_id,
        rest_exports.account(services.files, who.user_id, found),
        headers={
            "content-disposition": 'attachment; filename="chatkeep-account.json"',
            "x-total-count": str(found.conversations),
        },
    )


@router.delete("/data", responses=described(422))
async def erase_everything(
    who: StrictlySignedIn,
    services: ServicesDep,
    confirm: Annotated[Literal["erase"], Query(description="It cannot be undone.")],
    at_most: Annotated[
        int | None,
        Query(ge=1, le=1000, description="Conversations to erase now, to show how far it is."),
    ] = None,
) -> ErasedAnswer:
    """Erase everything the caller said, was told and chose, at once and for good.

    It takes a fresh sign-in, and the second factor of whoever has one.
    """
    del confirm  # whoever does not say it is refused
    await require_second_factor(who, services)
    max_age = timedelta(seconds=services.settings.admin_sign_in_age_s)
    await require_fresh(services.db, who, max_age)
    me = who.user_id
    erased = await erasure.erase(
        services.db, me, by=who, actor=me, stored=services.files, at_most=at_most
    )
    services.preferences.tell_of_change(who.user_id)
    await services.embedded.revocations.catch_up()
    return ErasedAnswer(conversations=erased.conversations, left=erased.left)
