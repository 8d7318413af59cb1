"""Links to one branch: made, listed and revoked by their owner, opened by whoever has one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from chatkeep.answering.titles import title_from
from chatkeep.conversations import Role, sharing
from chatkeep.errors import LinkEnded
from chatkeep.web.auth import Anybody, SignedIn, SignedInOnRest
from chatkeep.web.once import Once
from chatkeep.web.problems import described
from chatkeep.web.schemas import MessageId
from chatkeep.web.schemas import Request as Body
from chatkeep.web.services import ServicesDep, services_of
from chatkeep.web.shared_page import UNSEEN, ended_page, shown_page

if TYPE_CHECKING:
    from chatkeep.conversations.sharing import Share, Shown

router = APIRouter(tags=["conversations"])

AConversation = Annotated[str, Path(max_length=200, description="A conversation of the caller.")]
AShare = Annotated[str, Path(max_length=200, description="A link of the caller, by its id.")]
AToken = Annotated[str, Path(max_length=200, description="The last part of the link.")]


class ShareRequest(Body):
    """Which branch, and for how long."""

    head_id: MessageId | None = None
    expires_in_days: Annotated[int, Field(ge=1, le=365)] = 30


class ShareAnswer(BaseModel):
    """A link, without what opens it."""

    id: str
    conversation_id: str
    head_id: str
    created_at: datetime
    expires_at: datetime


class NewShareAnswer(ShareAnswer):
    """A new link. *url* is shown this once."""

    url: str


class SharesAnswer(BaseModel):
    """The caller's links, newest first."""

    shares: list[ShareAnswer]


class SaidAnswer(BaseModel):
    """A message as strangers see it."""

    role: Role
    text: str
    sources: list[str]


class SharedAnswer(BaseModel):
    """What a link shows."""

    title: str | None
    messages: list[SaidAnswer]
    expires_at: datetime
    cut: bool


@router.post(
    "/api/v1/chat/{conversation_id}/shares",
    response_model=NewShareAnswer,
    responses=described(403, 409, 422),
)
async def share(
    conversation_id: AConversation,
    request: Request,
    who: SignedInOnRest,
    services: ServicesDep,
    once: Once,
    body: ShareRequest | None = None,
) -> NewShareAnswer | Response:
    """Make a link that shows a branch of the conversation to whoever has it."""
    wanted = body or ShareRequest()
    home = (services.settings.public_url or str(request.base_url)).rstrip("/")

    async def make(share_id: str) -> NewShareAnswer:
        await services.limits.spend("chat", who.user_id)
        made, token = await sharing.share(
            services.db,
            who.user_id,
            conversation_id,
            head_id=wanted.head_id,
            lasts=timedelta(days=wanted.expires_in_days),
            share_id=share_id,
        )
        return NewShareAnswer(**asdict(made), url=f"{home}/s/{token}")

    return await once.answer(who, make)


@router.get("/api/v1/shares", responses=described(401))
async def list_shares(who: SignedIn, services: ServicesDep) -> SharesAnswer:
    """List the caller's links that have not ended."""
    found = await sharing.list_shares(services.db, who.user_id)
    return SharesAnswer(shares=[_answer(one) for one in found])


@router.delete("/api/v1/shares/{share_id}", status_code=204, responses=described(401, 422))
async def revoke(share_id: AShare, who: SignedIn, services: ServicesDep) -> None:
    """End a link at once. One that has ended already stays so."""
    await sharing.revoke(services.db, who.user_id, share_id)


@router.get(
    "/api/v1/shared/{token}", response_model=SharedAnswer, responses=described(404, 422, 429)
)
async def shared(token: AToken, request: Request, response: Response, _: Anybody) -> SharedAnswer:
    """Read what a link shows; nobody needs to sign in."""
    shown = await _opened(request, token)
    response.headers.update(UNSEEN)
    return SharedAnswer(
        title=shown.title,
        messages=[SaidAnswer(**asdict(one)) for one in shown.messages],
        expires_at=shown.expires_at,
        cut=shown.cut,
    )


@router.get("/s/{token}", include_in_schema=False)
async def shared_page(token: AToken, request: Request, _: Anybody) -> HTMLResponse:
    """Show the same as a page."""
    try:
        return shown_page(await _opened(request, token))
    except LinkEnded as ended:
        return ended_page(ended)


async def _opened(request: Request, token: str) -> Shown:
    services = services_of(request)
    await services.limits.spend("shared", request.scope["state"]["chatkeep_client"].bucket)
    people = services.embedded.issuer.user_id("")
    return await sharing.open_link(services.db, token, people=people, titled=title_from)


def _answer(one: Share) -> ShareAnswer:
    return ShareAnswer(**asdict(one))
