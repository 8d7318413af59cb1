"""Every service of a server, opened in the order in which they need each other.

Nothing here knows a route; `chatkeep.web.app` puts the services behind them.
"""

from __future__ import annotations

import hmac
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from chatkeep.administration.overview import Overviews
from chatkeep.answering.admission import Admission
from chatkeep.answering.charges import Budgets
from chatkeep.answering.nobodys_turn import nobodys_turn
from chatkeep.answering.replies import Replies
from chatkeep.answering.shown_files import ShowsFiles
from chatkeep.answering.tails import Tails
from chatkeep.answering.titling import Titling
from chatkeep.back_channel_logout import BackChannelLogout
from chatkeep.budgets.amounts import Limits as BudgetLimits
from chatkeep.budgets.prices import prices_of
from chatkeep.chatkit.opening import open_chatkit
from chatkeep.extensions import Extensions, answered_by_built_in, build_responder, tools_of
from chatkeep.files import FileLimits
from chatkeep.files.buckets import bucket_of
from chatkeep.files.stored import StoredFiles
from chatkeep.idempotency import IdempotencyKeys
from chatkeep.job_queue import JobQueue
from chatkeep.limits import Attempts, Limits, SharedCounts
from chatkeep.limits.known_networks import signed_in_from
from chatkeep.llm.choice import choose_model, default_model_id
from chatkeep.mail.delivery import open_delivery
from chatkeep.mail.templates import load_templates
from chatkeep.offered_models import OfferedModels
from chatkeep.opening import open_database, open_own_gate
from chatkeep.policies import Policy
from chatkeep.preferences import Preferences
from chatkeep.providers import Providers, open_providers
from chatkeep.rehearsals import rehearsing
from chatkeep.server_secrets import derived_key
from chatkeep.sessions.foreign import ForeignSessions
from chatkeep.sessions.refresh_cookies import RefreshCookies
from chatkeep.sessions.sightings import Sightings
from chatkeep.setup_checks.isolation import require_isolation
from chatkeep.sign_in.browser_sessions import BrowserSessions
from chatkeep.upstream_tokens import UpstreamTokens
from chatkeep.web.background import start_background
from chatkeep.web.services import Services
from chatkeep.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.chatkit.opening import ChatKit
    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.llm.model import Model
    from chatkeep.mail.templates import Templates
    from chatkeep.opening import OwnGate
    from chatkeep.tools import Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """What answers are made with, whoever asks for them."""

    model: Model
    offered_models: OfferedModels
    preferences: Preferences
    tools: Tools
    files: StoredFiles


async def open_services(
    stack: AsyncExitStack, settings: Settings, extensions: Extensions
) -> Services:
    """Open every service in the order they need each other; *stack* closes them."""
    db = await open_database(stack, settings, rehearse=rehearsing(nobodys_turn))
    await require_isolation(db.url)
    gate = await open_own_gate(stack, settings, db, claims=extensions.claims, with_keys=True)
    templates = load_templates(settings.mail_templates)
    limits = Limits(enabled=settings.rate_limits, shared=_shared_counts(gate, settings))
    sightings, providers = Sightings(db), _providers(stack, settings)
    means = await _means(stack, settings, extensions, db, gate)
    budgets = _budgets(db, settings, means.offered_models)
    titling = _titling(stack, settings, db, means.model, budgets)
    replies = _replies(settings, extensions, db, gate, means, limits, budgets, titling)
    services = Services(
        settings=settings,
        db=db,
        issuers=gate.issuers,
        authenticator=gate.authenticator,
        embedded=gate.embedded,
        session_tokens=gate.session_tokens,
        personal_keys=gate.personal_keys,
        browser_sessions=_browser_sessions(gate, db, settings),
        foreign_sessions=_foreign_sessions(stack, gate, settings),
        back_channel_logout=_back_channel_logout(gate, db, providers, sightings),
        refresh_cookies=RefreshCookies(str(settings.secret).encode()),
        proofs=gate.proofs,
        sightings=sightings,
        offered_models=means.offered_models,
        preferences=means.preferences,
        replies=replies,
        titling=titling,
        answered_by_built_in=answered_by_built_in(extensions, settings, model=means.model),
        tools=means.tools,
        chatkit=await _chatkit(settings, db, means, replies),
        files=means.files,
        idempotency=IdempotencyKeys(db, str(settings.secret).encode()),
        limits=limits,
        attempts=_attempts(gate, db, limits),
        jobs=_jobs(settings, db, gate, templates),
        webhooks=_webhooks(db, settings, gate, replies),
        providers=providers,
        mail_templates=templates,
        overviews=Overviews(db),
    )
    start_background(stack, services)
    await services.webhooks.start()
    return services


async def _means(
    stack: AsyncExitStack, settings: Settings, extensions: Extensions, db: Database, gate: OwnGate
) -> _Means:
    model, offered_models = _models(stack, settings, extensions)
    return _Means(
        model=model,
        offered_models=offered_models,
        preferences=_preferences(gate, db),
        tools=await _tools(stack, settings, extensions, gate),
        files=StoredFiles(db, _file_limits(settings), bucket_of(settings)),
    )


def _file_limits(settings: Settings) -> FileLimits:
    return FileLimits(
        size=settings.chatkit_attachment_bytes,
        types=settings.chatkit_attachment_types,
        total=settings.files_bytes_per_user,
    )


async def _tools(
    stack: AsyncExitStack, settings: Settings, extensions: Extensions, gate: OwnGate
) -> Tools:
    """Return the application's tools, and those of MCP servers as they come."""
    tools = tools_of(extensions, settings)
    if not settings.mcp_servers:
        return tools
    # It takes a second to import, for those who have no such server.
    from chatkeep.mcp_servers import open_mcp_servers  # noqa: PLC0415

    return await open_mcp_servers(stack, settings, tools, gate.embedded)


def _attempts(gate: OwnGate, db: Database, limits: Limits) -> Attempts:
    own_prefix = gate.embedded.issuer.user_id("")
    return Attempts(limits, is_known=partial(signed_in_from, db, own_prefix))


def _jobs(settings: Settings, db: Database, gate: OwnGate, templates: Templates) -> JobQueue:
    jobs = JobQueue(db, drain_s=float(settings.drain_s))
    if delivery := open_delivery(settings, db, gate.embedded.outgoing, templates):
        delivery.add_to(jobs)
    return jobs


def _models(
    stack: AsyncExitStack, settings: Settings, extensions: Extensions
) -> tuple[Model, OfferedModels]:
    model = extensions.model
    if model is None:
        model = choose_model(settings)
        stack.push_async_callback(model.aclose)
    policy = Policy.of(settings, default_model=default_model_id(settings))
    offered_models = OfferedModels(model, policy)
    stack.push_async_callback(offered_models.aclose)
    return model, offered_models


def _webhooks(db: Database, settings: Settings, gate: OwnGate, replies: Replies) -> Webhooks:
    webhooks = Webhooks(db, settings, gate.embedded.issuer.user_id)
    replies.budgets.told = webhooks.budget_exhausted
    return webhooks


def _replies(
    settings: Settings,
    extensions: Extensions,
    db: Database,
    gate: OwnGate,
    means: _Means,
    limits: Limits,
    budgets: Budgets,
    titling: Titling,
) -> Replies:
    responder = build_responder(
        extensions,
        settings,
        model=means.model,
        tools=means.tools,
        still_stands=gate.embedded.revocations.require_standing,
    )
    secret = str(settings.secret).encode()
    return Replies(
        db,
        ShowsFiles(responder, means.files),
        pseudonym=_pseudonyms(secret),
        budgets=budgets,
        admission=Admission(
            limits, dict(settings.model_limits), refusal=means.offered_models.refusal
        ),
        tails=Tails(gate.redis, secret=secret),
        titling=titling,
    )


async def _chatkit(settings: Settings, db: Database, means: _Means, replies: Replies) -> ChatKit:
    return await open_chatkit(
        settings,
        db,
        replies,
        stored=means.files,
        preferences=means.preferences,
        offered_models=means.offered_models,
        tools=means.tools,
    )


def _titling(
    stack: AsyncExitStack, settings: Settings, db: Database, model: Model, budgets: Budgets
) -> Titling:
    titling = Titling(
        db,
        model,
        budgets,
        model_id=settings.title_model,
        pseudonym=_pseudonyms(str(settings.secret).encode()),
    )
    stack.push_async_callback(titling.close)
    return titling


def _budgets(db: Database, settings: Settings, offered: OfferedModels) -> Budgets:
    return Budgets(
        db,
        BudgetLimits.of(settings),
        total=settings.budget_cost_per_day_total,
        price_of=prices_of(settings, offered),
    )


def _providers(stack: AsyncExitStack, settings: Settings) -> Providers:
    providers = open_providers(settings)
    stack.push_async_callback(providers.close)
    return providers


def _browser_sessions(gate: OwnGate, db: Database, settings: Settings) -> BrowserSessions:
    sliding = settings.session_cookie == "sliding"
    return BrowserSessions(
        db, gate.session_tokens, gate.embedded, sliding=sliding, clock=time.monotonic
    )


def _preferences(gate: OwnGate, db: Database) -> Preferences:
    if gate.redis is None:
        return Preferences(db)
    preferences = Preferences(db, tell_others=partial(gate.redis.tell, "chatkeep_profiles"))

    def forget(user_id: str) -> None:
        if user_id:
            preferences.forget(user_id)
        else:  # some messages may be lost
            preferences.forget_all()

    gate.redis.subscribe("chatkeep_profiles", forget)
    return preferences


def _shared_counts(gate: OwnGate, settings: Settings) -> SharedCounts | None:
    if gate.redis is None:
        return None
    return SharedCounts(gate.redis, derived_key(str(settings.secret).encode(), "shared counts"))


def _foreign_sessions(stack: AsyncExitStack, gate: OwnGate, settings: Settings) -> ForeignSessions:
    upstream = UpstreamTokens(gate.issuers, public_only=settings.production)
    stack.push_async_callback(upstream.close)
    return ForeignSessions(gate.issuers, upstream, gate.authenticator, gate.embedded.revocations)


def _back_channel_logout(
    gate: OwnGate, db: Database, providers: Providers, sightings: Sightings
) -> BackChannelLogout:
    return BackChannelLogout(
        db,
        gate.issuers,
        providers,
        people=gate.embedded.issuer.user_id(""),
        revocations=gate.embedded.revocations,
        sightings=sightings,
        notices=gate.embedded.notices,
    )


def _pseudonyms(secret: bytes) -> Callable[[str], str]:
    key = derived_key(secret, "user pseudonyms for model providers")

    def pseudonym(user_id: str) -> str:
        return hmac.digest(key, user_id.encode(), "sha256").hex()[:32]

    return pseudonym
