"""The composition root: settings in, an application out."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

import chatkeep
from chatkeep import conversations, primary_issuer
from chatkeep.authentication import Authenticator
from chatkeep.db import Database
from chatkeep.errors import ChatkeepError, SetupError
from chatkeep.issuance import open_issuer
from chatkeep.issuers import Issuers, supabase_issuer
from chatkeep.llm.choice import choose_model, default_model_id
from chatkeep.notifications import Listener
from chatkeep.policies import Policy
from chatkeep.preferences import Preferences
from chatkeep.replies import Replies
from chatkeep.server_secrets import derived_key
from chatkeep.web import problems
from chatkeep.web.api_document import completed
from chatkeep.web.clients import TrustedProxies
from chatkeep.web.limits import Limits
from chatkeep.web.middleware import CrossOrigin, Refuse, RequestRecord, Unforeseen
from chatkeep.web.routes import (
    ai_sdk,
    gotrue,
    gotrue_absent,
    meta,
    pages,
    preferences,
    token_service,
)
from chatkeep.web.routes import conversations as conversation_routes
from chatkeep.web.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from chatkeep.config import Settings
    from chatkeep.issuers import Issuer
    from chatkeep.llm.model import Model

#: In this order; the last takes every path that nobody else has.
_ROUTES = (
    meta,
    gotrue,
    gotrue_absent,
    conversation_routes,
    ai_sdk,
    preferences,
    token_service,
    pages,
)
_SWEEP_EVERY_S = 5.0
_PURGE_EVERY_SWEEPS = 120
_ALLOWED_HEADERS = (
    "authorization",
    "apikey",
    "content-type",
    "accept",
    "accept-language",
    "idempotency-key",
    "if-match",
    "x-client-info",
    "x-supabase-api-version",
    "x-user-id",
)
_EXPOSED_HEADERS = (
    "etag",
    "retry-after",
    "x-request-id",
    "x-token-expiring",
    "x-supabase-api-version",
    "x-sb-error-code",
    "x-vercel-ai-ui-message-stream",
)


def create_app(settings: Settings, *, model: Model | None = None) -> FastAPI:
    """Return the whole server for *settings*; *model* replaces the configured one.

    `settings.database_url` and `settings.secret` must be set, and the database migrated.
    The parts are opened when the application starts and closed when it ends.
    """
    app = FastAPI(
        title="Chatkeep",
        version=chatkeep.__version__,
        summary="The signed-in back end of a chat application.",
        lifespan=partial(_lifespan, settings=settings, model=model),
        middleware=_middleware(settings),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy it would name the wrong scheme and host
    )
    app.state.shutting_down = False
    app.state.begin_shutdown = partial(_begin_shutdown, app)
    app.add_exception_handler(ChatkeepError, problems.on_chatkeep_error)
    app.add_exception_handler(HTTPException, problems.on_http_error)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_request)
    routers = (
        meta,
        gotrue,
        gotrue_absent,
        conversation_routes,
        ai_sdk,
        preferences,
        token_service,
        pages,
    )
    for routes in routers:
        app.include_router(routes.router)
    app.openapi = partial(completed, app.openapi)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _middleware(settings: Settings) -> list[Middleware]:
    origins = list(settings.cors_origins) or ([] if settings.production else ["*"])
    cors = Middleware(
        CrossOrigin,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=list(_ALLOWED_HEADERS),
        expose_headers=list(_EXPOSED_HEADERS),
        max_age=600,
    )
    return [
        Middleware(
            RequestRecord,
            proxies=TrustedProxies(settings.trusted_proxies),
            https=settings.production,
        ),
        *([cors] if origins else []),
        Middleware(Unforeseen),
        Middleware(Refuse, max_body_bytes=settings.max_body_bytes, https_only=settings.production),
    ]


@asynccontextmanager
async def _lifespan(
    app: FastAPI, *, settings: Settings, model: Model | None
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        app.state.services = await _open(stack, settings, model)
        yield


async def _open(stack: AsyncExitStack, settings: Settings, model: Model | None) -> Services:
    """Open every part in the order they need each other; *stack* closes them."""
    if settings.database_url is None or settings.secret is None:
        raise SetupError("Set DATABASE_URL and CHATKEEP_SECRET, or start with `chatkeep serve`.")
    secret = settings.secret.encode()
    db = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        behind_pooler=settings.database_pooler,
    )
    await db.open()
    stack.push_async_callback(db.close)
    if model is None:
        model = choose_model(settings)
        stack.push_async_callback(model.aclose)
    primary = await primary_issuer.settle(db, _wanted_primary(settings))
    embedded = await open_issuer(db, settings, secret, primary=primary == "embedded")
    stack.callback(embedded.close)
    supabase = _supabase(settings, primary=primary == "supabase")
    issuers = Issuers([embedded.issuer, *([supabase] if supabase else [])])
    stack.push_async_callback(issuers.close)
    parts = Services(
        settings=settings,
        db=db,
        issuers=issuers,
        authenticator=Authenticator(
            issuers,
            revocations=embedded.revocations,
            development_header=settings.development_user_header,
        ),
        embedded=embedded,
        model=model,
        policy=Policy.of(settings, default_model=default_model_id(settings)),
        preferences=Preferences(db),
        replies=Replies(db, model, pseudonym=_pseudonyms(secret)),
        limits=Limits(enabled=settings.rate_limits),
    )
    await _start_background(stack, parts)
    return parts


def _wanted_primary(settings: Settings) -> str:
    return settings.primary_issuer or ("supabase" if _has_supabase(settings) else "embedded")


def _has_supabase(settings: Settings) -> bool:
    return bool(settings.supabase_project_url or settings.supabase_jwt_secret)


def _supabase(settings: Settings, *, primary: bool) -> Issuer | None:
    if not _has_supabase(settings):
        return None
    return supabase_issuer(
        project_url=settings.supabase_project_url,
        jwt_secret=settings.supabase_jwt_secret,
        audience=settings.supabase_audience,
        production=settings.production,
        primary=primary,
    )


async def _start_background(stack: AsyncExitStack, parts: Services) -> None:
    """Start what works beside the requests; on the way out, answers end before it does."""
    settings = parts.settings
    work: list[Coroutine[Any, Any, None]] = [
        parts.replies.keep_checkpoints(),
        _keep_swept(parts),
        parts.embedded.revocations.run(),
    ]
    if settings.database_listen_url or not settings.database_pooler:
        work.append(_listener(parts).run())
    tasks = [asyncio.create_task(one) for one in work]
    stack.push_async_callback(_end, tasks)
    stack.push_async_callback(parts.replies.close, drain_s=float(settings.drain_s))


def _listener(parts: Services) -> Listener:
    settings, revocations = parts.settings, parts.embedded.revocations
    listener = Listener(settings.database_listen_url or parts.db.url)
    listener.subscribe(
        "chatkeep_profiles", parts.preferences.forget, missed=parts.preferences.forget_all
    )
    listener.subscribe("chatkeep_sessions", revocations.told, missed=revocations.missed)
    listener.subscribe("chatkeep_runs", parts.replies.told_to_stop, missed=_nothing)
    return listener


def _nothing() -> None:
    """A lost wish to stop is found again by the next checkpoint."""


async def _keep_swept(parts: Services) -> None:
    """Find runs whose process died, and conversations whose day of grace is over."""
    sweeps = 0
    while True:
        with suppress(ChatkeepError):  # the database is away: the next sweep finds the same
            await parts.replies.sweep()
            if sweeps % _PURGE_EVERY_SWEEPS == 0:
                await conversations.purge_deleted(parts.db)
        sweeps += 1
        await asyncio.sleep(_SWEEP_EVERY_S)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _begin_shutdown(app: FastAPI) -> None:
    """Take no new turns and let the streams end, while connections are still served."""
    if app.state.shutting_down:
        return
    app.state.shutting_down = True
    parts: Services | None = getattr(app.state, "services", None)
    if parts is not None:
        closing = parts.replies.close(drain_s=float(parts.settings.drain_s))
        app.state.closing = asyncio.ensure_future(closing)


def _pseudonyms(secret: bytes) -> Callable[[str], str]:
    key = derived_key(secret, "user pseudonyms for model providers")

    def pseudonym(user_id: str) -> str:
        return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()[:32]

    return pseudonym
