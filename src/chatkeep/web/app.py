"""An application: the services of a server behind its routes and middleware."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

import chatkeep
from chatkeep.errors import ChatkeepError
from chatkeep.extensions import Extensions
from chatkeep.web import problems
from chatkeep.web.afterwards import Application
from chatkeep.web.api_document import TAGS, ApiDocument, completed
from chatkeep.web.background import drained, start_metrics
from chatkeep.web.budget_headers import BUDGET_HEADERS
from chatkeep.web.clients import TrustedProxies
from chatkeep.web.composition import open_services
from chatkeep.web.hosts import KnownHosts
from chatkeep.web.middleware import CrossOrigin, Heads, Refuse, RequestRecord, Unforeseen
from chatkeep.web.routes import (
    admin,
    ai_sdk,
    back_channel_logout,
    browser_sessions,
    chatkit,
    exports,
    files,
    forks,
    gotrue,
    imports,
    keys,
    meta,
    openai,
    openai_conversations,
    openai_responses,
    outbox,
    pages,
    preferences,
    refreshing,
    running,
    search,
    session_service,
    sessions,
    shares,
    token_service,
    usage,
)
from chatkeep.web.routes import conversations as conversation_routes
from chatkeep.web.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.answering.responders import Responder, Responding
    from chatkeep.claims import ClaimVersions
    from chatkeep.config import Settings
    from chatkeep.llm.model import Model
    from chatkeep.tools import Tools

#: Tried one after the other until one fits: what is asked most comes first, and last what
#: takes every path that nobody else has.
_ROUTES = (
    ai_sdk.router,
    meta.router,
    preferences.router,
    openai.router,
    chatkit.router,
    conversation_routes.router,
    *gotrue.ROUTERS,
    sessions.router,
    search.router,
    shares.router,
    imports.router,
    forks.router,
    running.router,
    exports.router,
    openai_responses.router,
    openai_conversations.router,
    files.router,
    usage.router,
    keys.router,
    keys.of_anybody,
    browser_sessions.router,
    refreshing.router,
    session_service.router,
    token_service.router,
    back_channel_logout.router,
    *admin.ROUTERS,
    outbox.router,
    pages.router,
)
_ALLOWED_HEADERS = (
    "authorization",
    "apikey",
    "content-type",
    "dpop",
    "accept",
    "accept-language",
    "idempotency-key",
    "if-match",
    "x-client-info",
    "x-supabase-api-version",
    "x-user-id",
    "x-stainless-arch",
    "x-stainless-helper-method",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
)
_EXPOSED_HEADERS = (
    "etag",
    "idempotency-replayed",
    "link",
    "retry-after",
    *BUDGET_HEADERS,
    "x-request-id",
    "x-should-retry",
    "x-token-expiring",
    "x-total-count",
    "x-supabase-api-version",
    "x-sb-error-code",
    "x-vercel-ai-ui-message-stream",
)


def create_app(
    settings: Settings,
    *,
    model: Model | None = None,
    claims: ClaimVersions | None = None,
    tools: Tools | None = None,
    responder: Responder | Responding | None = None,
) -> FastAPI:
    """Return the whole server for *settings*; what else is given replaces the configured.

    `settings.database_url` and `settings.secret` must be set, and the database migrated.
    The services are opened when the application starts and closed when it ends.
    """
    extensions = Extensions(model=model, claims=claims, tools=tools, responder=responder)
    app = Application(
        title="Chatkeep",
        version=chatkeep.__version__,
        summary="The signed-in back end of a chat application.",
        openapi_tags=TAGS,
        lifespan=partial(_lifespan, settings=settings, extensions=extensions),
        middleware=_middleware(settings),
        openapi_url=None,  # FastAPI makes it in the event loop: `pages` hands it out
        docs_url=None,
        redoc_url=None,
        # Its own spans hold paths and queries, in which links of mails and shares stand.
        telemetry={"tracing": False, "logs": False},
        redirect_slashes=False,  # behind a proxy it would name the wrong scheme and host
    )
    app.state.shutting_down = False
    app.state.stopping = asyncio.Event()  # for streams that end with nothing else
    app.state.begin_shutdown = partial(_begin_shutdown, app)
    app.add_exception_handler(ChatkeepError, problems.on_chatkeep_error)
    app.add_exception_handler(HTTPException, problems.on_http_error)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_request)
    # Not as routers within a router: those are gone through twice for each request.
    app.router.routes.extend(route for one in _ROUTES for route in one.routes)
    app.openapi = cache(partial(completed, app.openapi))  # type: ignore[method-assign]  # FastAPI's documented way
    app.state.api_document = ApiDocument(app.openapi)
    app.state.missing_page = pages.missing_page
    app.state.documented_methods = problems.methods_in(app.router.routes)
    return app


# RFC 6761 section 6.3: these names are never looked up elsewhere.
_PAGES_OF_THIS_MACHINE = (
    r"https?://([a-z0-9-]+\.)*localhost(:\d+)?|https?://(127\.0\.0\.1|\[::1\])(:\d+)?"
)


def _middleware(settings: Settings) -> list[Middleware]:
    return [
        Middleware(
            RequestRecord,
            proxies=TrustedProxies(settings.trusted_proxies),
            https=settings.production,
        ),
        Middleware(Heads),
        *_cross_origin(settings),
        Middleware(Unforeseen),
        Middleware(
            Refuse,
            hosts=KnownHosts(settings.public_url if settings.production else None),
            max_body_bytes=settings.max_body_bytes,
            https_only=settings.production,
        ),
    ]


def _cross_origin(settings: Settings) -> list[Middleware]:
    """Say which other origins' pages may read answers: in production only those that are named."""
    if settings.cors_origins:
        allowed: dict[str, Any] = {"allow_origins": list(settings.cors_origins)}
    elif settings.production:
        return []
    elif settings.development_user_header:
        # A page of any other site could be whoever it likes.
        allowed = {"allow_origin_regex": _PAGES_OF_THIS_MACHINE}
    else:
        allowed = {"allow_origins": ["*"]}
    return [
        Middleware(
            CrossOrigin,
            **allowed,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=list(_ALLOWED_HEADERS),
            expose_headers=list(_EXPOSED_HEADERS),
            max_age=600,
        )
    ]


@asynccontextmanager
async def _lifespan(
    app: FastAPI, *, settings: Settings, extensions: Extensions
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        app.state.services = services = await open_services(stack, settings, extensions)
        await start_metrics(stack, services)
        yield


def _begin_shutdown(app: FastAPI) -> None:
    """Take no new turns and let the streams end, while connections are still served."""
    if app.state.shutting_down:
        return
    app.state.shutting_down = True
    app.state.stopping.set()
    services: Services | None = getattr(app.state, "services", None)
    if services is not None:
        app.state.closing = asyncio.ensure_future(drained(services))
