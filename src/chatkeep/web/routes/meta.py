"""What a client must know before anybody signs in, and what an operator's probes ask."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request

import chatkeep
from chatkeep.db import WORKER
from chatkeep.errors import DatabaseUnavailable, Unavailable
from chatkeep.factors.ceremonies import RelyingParty
from chatkeep.web.auth import Anybody, SignedIn
from chatkeep.web.in_time import in_time
from chatkeep.web.schemas import HealthAnswer
from chatkeep.web.services import ServicesDep

#: Less than probes wait, as a rule: they hear why, and leave no connection behind.
_READY_WITHIN_S: Final = 4.0

router = APIRouter(tags=["meta"])


class ProviderAnswer(BaseModel):
    """A provider to sign in with: what it is called, and what people are shown."""

    id: str
    title: str


class ConfigAnswer(BaseModel):
    """What a client needs before anybody signs in."""

    name: str
    version: str
    publishable_key: str
    signup: bool
    providers: list[ProviderAnswer]
    mail: bool
    passkeys: bool
    anonymous_chat: bool
    built_in_model: bool
    environment: Literal["development", "production"]


class ModelAnswer(BaseModel):
    """A model that can be chosen."""

    id: str
    name: str


class ModelsAnswer(BaseModel):
    """The models that can be chosen."""

    default: str
    models: list[ModelAnswer]


@router.get("/api/config")
async def config(services: ServicesDep, _: Anybody) -> ConfigAnswer:
    """Say what a client needs to sign somebody in. Public."""
    settings = services.settings
    return ConfigAnswer(
        name="Chatkeep",
        version=chatkeep.__version__,
        publishable_key=services.embedded.supabase_keys.publishable,
        signup=settings.sign_up,
        providers=[ProviderAnswer(id=one.name, title=one.title) for one in services.providers],
        mail=settings.mail_enabled,
        passkeys=settings.passkeys and RelyingParty.of(settings) is not None,
        anonymous_chat=settings.anonymous_chat,
        built_in_model=services.answered_by_built_in,
        environment=settings.environment,
    )


@router.get("/api/models")
async def models(who: SignedIn, services: ServicesDep) -> ModelsAnswer:
    """List the models that the caller can choose."""
    return ModelsAnswer(
        default=services.offered_models.policy_for(who).default_model,
        models=[
            ModelAnswer(id=one.id, name=one.name)
            for one in await services.offered_models.listed(who)
        ],
    )


@router.get("/healthz", response_model_exclude_none=True)
async def healthz(_: Anybody) -> HealthAnswer:
    """Say that the process answers. Public."""
    return HealthAnswer(status="ok")


@router.get("/readyz", response_model_exclude_none=True)
async def readyz(request: Request, services: ServicesDep, _: Anybody) -> HealthAnswer:
    """Say that requests can be served: the database takes writes, no shutdown has begun. Public.

    A provider of models that is down is told, and is no reason to send people elsewhere.
    """
    if request.app.state.shutting_down:
        raise Unavailable("The server is shutting down.")
    # Locks nothing, and is refused where nothing can be written: by a primary that was replaced.
    asking = services.db.execute(WORKER, "select from chat.runs where false for update", [])
    try:
        await in_time(asking, _READY_WITHIN_S)
    except TimeoutError as error:
        raise DatabaseUnavailable("The database cannot be reached right now.") from error
    return HealthAnswer(status="ok", upstreams=services.offered_models.states())
