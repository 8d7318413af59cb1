"""Open what decides who calls, from settings: the issuers and the authenticator on them.

Used by the server, and by other people's applications that only want to know who calls.
With a database and the server's secret there is also our own issuer, and sessions that
were ended are known.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from chatkeep.authentication import Authenticator
from chatkeep.better_auth import COOKIE, SECURE_COOKIE, BetterAuth
from chatkeep.claims import declared_versions
from chatkeep.db import Database
from chatkeep.errors import SetupError
from chatkeep.going_on import go_on
from chatkeep.issuance import open_issuer
from chatkeep.issuers import Issuers, better_auth_issuer, openid_issuer, supabase_issuer
from chatkeep.issuers.primary import settle_primary
from chatkeep.notifications import Listener
from chatkeep.personal_keys.reading import PersonalKeys
from chatkeep.server_secrets import derived_key
from chatkeep.sessions.cookie_tokens import SessionTokens
from chatkeep.sessions.supabase import SupabaseSessions
from chatkeep.shared_proofs import SharedProofs
from chatkeep.token_binding import Proofs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AsyncExitStack

    from chatkeep.authentication import Admission, Reader
    from chatkeep.claims import ClaimVersions
    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.issuers import Issuer
    from chatkeep.pipelines import PipelinedConnection
    from chatkeep.principal import Principal
    from chatkeep.redis_link import RedisLink
    from chatkeep.revocations import Revocations

_CONNECTIONS_TO_BETTER_AUTH: Final = 4
_WAIT_FOR_BETTER_AUTH_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Everything that decides who calls. *embedded* is our own issuer, with a database."""

    issuers: Issuers
    authenticator: Authenticator
    embedded: EmbeddedIssuer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnGate(Gate):
    """A gate that has our own issuer and session cookies, as a server's has."""

    embedded: EmbeddedIssuer
    session_tokens: SessionTokens
    personal_keys: PersonalKeys
    proofs: Proofs
    redis: RedisLink | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Others:
    """The issuers of others, and what reads and looks up their credentials.

    Of the readers and look-ups see `Authenticator`; *barred* is for `PersonalKeys`.
    """

    issuers: list[Issuer]
    opaque: Reader | None = None
    cookies: Mapping[str, Reader] = field(default_factory=dict)
    admissions: Mapping[str, Admission] = field(default_factory=dict)
    barred: Mapping[str, Callable[[str], Awaitable[bool]]] = field(default_factory=dict)


async def open_database(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    rehearse: Callable[[PipelinedConnection], Awaitable[None]] | None = None,
) -> Database:
    """Connect to the database of *settings*; *stack* disconnects. *rehearse* as `Database`."""
    if settings.database_url is None:
        raise SetupError("Set DATABASE_URL, or start with `chatkeep serve`.")
    db = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        behind_pooler=settings.database_pooler,
        rehearse=rehearse,
    )
    await db.open()
    stack.push_async_callback(db.close)
    return db


async def open_own_gate(
    stack: AsyncExitStack,
    settings: Settings,
    db: Database,
    *,
    claims: ClaimVersions | None = None,
    with_keys: bool = False,
) -> OwnGate:
    """Open the gate of a server: every configured issuer and our own.

    *with_keys* takes people's API keys: for whoever goes by their scopes. *claims* are the
    versions of the session token's claims, instead of those of *settings*.

    Raises:
        SetupError: no secret, or the database was used with another one; or the claims
            cannot be used.
    """
    versions = claims or declared_versions(settings)
    embedded, primary = await open_embedded(stack, settings, db)
    redis = await _start_issuer(stack, settings, embedded)
    others = await _open_others(stack, settings, primary, ours=db)
    proofs = _proofs(settings, redis)
    issuers = Issuers([embedded.issuer, *others.issuers], proofs=proofs)
    stack.push_async_callback(issuers.close)
    session_tokens = SessionTokens(
        db, settings, versions, issuer=embedded.issuer, signing_keys=embedded.signing_keys
    )
    stack.push_async_callback(session_tokens.close)
    personal_keys = PersonalKeys(db, settings.issuer_names, barred=others.barred)
    own_cookie = {session_tokens.cookie: _session_cookies(session_tokens, others.admissions)}
    return OwnGate(
        proofs=proofs,
        issuers=issuers,
        authenticator=Authenticator(
            issuers,
            keys=personal_keys.read if with_keys else None,
            revocations=embedded.revocations,
            notices=embedded.notices,
            opaque=others.opaque,
            admissions=others.admissions,
            cookies={**own_cookie, **others.cookies},
            development_header=settings.development_user_header,
            proofs=proofs,
        ),
        embedded=embedded,
        session_tokens=session_tokens,
        personal_keys=personal_keys,
        redis=redis,
    )


async def open_embedded(
    stack: AsyncExitStack, settings: Settings, db: Database
) -> tuple[EmbeddedIssuer, str]:
    """Open our own issuer; return it, and the name of the primary one. *stack* closes it.

    Nothing of it runs beside what it is asked to do.

    Raises:
        SetupError: no secret, or the database was used with another one.
    """
    if settings.secret is None:
        raise SetupError("Set CHATKEEP_SECRET, or start with `chatkeep serve`.")
    primary = await settle_primary(db, _wanted_primary(settings))
    embedded = await open_issuer(
        db, settings, settings.secret.encode(), primary=primary == "embedded"
    )
    stack.callback(embedded.close)
    return embedded, primary


async def _start_issuer(
    stack: AsyncExitStack, settings: Settings, embedded: EmbeddedIssuer
) -> RedisLink | None:
    """Set what runs beside requests going, and return the link by which servers tell each other."""
    embedded.notices.start()
    stack.push_async_callback(embedded.notices.close)
    redis = await open_redis(stack, settings, embedded.revocations)
    embedded.signing_keys.start()
    stack.push_async_callback(embedded.signing_keys.close)
    embedded.revocations.start()
    stack.push_async_callback(embedded.revocations.close)
    return redis


async def open_redis(
    stack: AsyncExitStack, settings: Settings, revocations: Revocations
) -> RedisLink | None:
    """Reach for the server of *settings*, if there is one to be used; *stack* lets go of it.

    It carries nothing but that something ended; what that was, the database says.
    """
    if settings.redis_url is None:
        return None
    from chatkeep.redis_link import RedisLink  # noqa: PLC0415 -- slow, and for few

    link = RedisLink(settings.redis_url, patience_s=settings.redis_timeout_s)
    link.subscribe("chatkeep_revocations", revocations.told)
    revocations.announce_by(partial(link.tell, "chatkeep_revocations"))
    await link.open()
    stack.push_async_callback(link.close)
    return link


async def open_gate(stack: AsyncExitStack, settings: Settings) -> Gate:
    """Open the gate of an application that has nothing but settings.

    Raises:
        SetupError: no issuer is configured.
    """
    if settings.database_url is not None and settings.secret is not None:
        gate = await open_own_gate(stack, settings, await open_database(stack, settings))
        _hear(stack, settings, gate.embedded)
        return gate
    others = await _open_others(stack, settings, _wanted_primary(settings), ours=None)
    if not others.issuers:
        raise SetupError(
            "No issuer is configured: set SUPABASE_PROJECT_URL, SUPABASE_JWT_SECRET,"
            " BETTER_AUTH_URL or OIDC_ISSUER, or DATABASE_URL, CHATKEEP_SECRET and PUBLIC_URL"
            " of a Chatkeep server."
        )
    proofs = _proofs(settings, None)
    issuers = Issuers(others.issuers, proofs=proofs)
    stack.push_async_callback(issuers.close)
    authenticator = Authenticator(
        issuers,
        opaque=others.opaque,
        admissions=others.admissions,
        cookies=others.cookies,
        development_header=settings.development_user_header,
        proofs=proofs,
    )
    return Gate(issuers=issuers, authenticator=authenticator, embedded=None)


def _hear(stack: AsyncExitStack, settings: Settings, embedded: EmbeddedIssuer) -> None:
    """Learn at once, as servers do, what has ended and which keys sign; *stack* ends it."""
    url = settings.database_listen_url or settings.database_url
    if url is None or (settings.database_pooler and not settings.database_listen_url):
        return
    listener = Listener(url)
    revocations, ring = embedded.revocations, embedded.signing_keys
    listener.subscribe("chatkeep_revocations", revocations.told, missed=revocations.told)
    listener.subscribe("chatkeep_signing_keys", ring.told, missed=ring.told)
    hearing = asyncio.create_task(go_on(listener.run, "listening for notifications"))

    async def end() -> None:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)

    stack.push_async_callback(end)


def _proofs(settings: Settings, redis: RedisLink | None) -> Proofs:
    """Return what takes proofs of keys, each once on all servers that share *redis*."""
    if redis is None or settings.secret is None:
        return Proofs(public_url=settings.public_url)
    shared = SharedProofs(redis, derived_key(settings.secret.encode(), "shown proofs"))
    return Proofs(public_url=settings.public_url, elsewhere=shared.is_first)


def _wanted_primary(settings: Settings) -> str:
    return settings.primary_issuer or settings.issuer_names[0]


async def _open_others(
    stack: AsyncExitStack, settings: Settings, primary: str, *, ours: Database | None
) -> _Others:
    """Open everybody else whose tokens are taken; *ours* is our own database, if there is one."""
    issuers = _foreign_issuers(settings, primary)
    admissions: dict[str, Admission] = {}
    if settings.supabase_sessions and ours is not None:
        admissions["supabase"] = (await _open_supabase_sessions(stack, ours)).admit
    better_auth = await _open_better_auth(stack, settings, issuers, ours=ours)
    if better_auth is None:
        return _Others(issuers=issuers, admissions=admissions)
    return _Others(
        issuers=issuers,
        opaque=better_auth.by_token,
        cookies=_better_auth_cookies(better_auth, settings),
        admissions=admissions | {"better-auth": better_auth.admit},
        barred={"better-auth": better_auth.is_barred},
    )


def _foreign_issuers(settings: Settings, primary: str) -> list[Issuer]:
    production = settings.production
    found = [
        openid_issuer(one, production=production, primary=primary == one.name)
        for one in settings.openid_providers
    ]
    if "better-auth" in settings.issuer_names:
        better_auth = better_auth_issuer(
            url=settings.better_auth_url,
            secret=settings.better_auth_secret,
            issuer=settings.better_auth_issuer,
            audience=settings.better_auth_audience,
            production=production,
            primary=primary == "better-auth",
        )
        found.insert(0, better_auth)
    if "supabase" in settings.issuer_names:
        supabase = supabase_issuer(
            project_url=settings.supabase_project_url,
            jwt_secret=settings.supabase_jwt_secret,
            audience=settings.supabase_audience,
            client_id=settings.supabase_client_id,
            client_secret=settings.supabase_client_secret,
            production=production,
            primary=primary == "supabase",
        )
        found.insert(0, supabase)
    return found


async def _open_better_auth(
    stack: AsyncExitStack, settings: Settings, issuers: list[Issuer], *, ours: Database | None
) -> BetterAuth | None:
    """Open what looks people up at Better Auth, if that is one of *issuers*.

    Its tables are where a setting says, else in *ours*, our own database; an application
    that has none reads them where its own address leads, as its own login.
    """
    issuer = next((one for one in issuers if one.preset == "better-auth"), None)
    if issuer is None:
        return None
    secret, elsewhere = settings.better_auth_secret, settings.better_auth_database_url
    if elsewhere is None and ours is not None:
        return BetterAuth(ours, issuer, is_ours=True, secret=secret)
    address = elsewhere or settings.database_url
    if address is None:
        raise SetupError("Better Auth needs BETTER_AUTH_DATABASE_URL: where its tables are.")
    # Whether that database is reached through a pooler nobody says, so as if it were.
    db = Database(
        address,
        pool_size=_CONNECTIONS_TO_BETTER_AUTH,
        behind_pooler=True,
        borrow_timeout_s=_WAIT_FOR_BETTER_AUTH_S,
    )
    # Whoever signs in elsewhere need not wait for it, now or when it is away.
    await db.open(wait=False)
    stack.push_async_callback(db.close)
    return BetterAuth(db, issuer, is_ours=False, secret=secret)


async def _open_supabase_sessions(stack: AsyncExitStack, db: Database) -> SupabaseSessions:
    """Open the look-up of sessions of a Supabase project whose database *db* is."""
    sessions = SupabaseSessions(db)
    await sessions.require_readable()
    stack.push_async_callback(sessions.close)
    return sessions


def _session_cookies(tokens: SessionTokens, admissions: Mapping[str, Admission]) -> Reader:
    """Read our own cookie; whose session another issuer began is looked up there as ever."""

    async def read(value: str) -> Principal:
        principal = await tokens.read(value)
        admit = admissions.get(principal.issuer)
        return principal if admit is None else await admit(principal)

    return read


def _better_auth_cookies(better_auth: BetterAuth, settings: Settings) -> dict[str, Reader]:
    """The session cookie, by the one of its two names that Better Auth uses there."""
    if settings.better_auth_secret is None:
        return {}
    address = settings.better_auth_url or settings.better_auth_issuer or ""
    is_secure = settings.production or address.startswith("https://")
    return {SECURE_COOKIE if is_secure else COOKIE: better_auth.by_cookie}
