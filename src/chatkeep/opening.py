"""Open what decides who calls, from settings: the issuers and the authenticator on them.

Used by the server, and by other people's applications that only want to know who calls.
With a database and the server's secret there is also our own issuer, and sessions that
were ended are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep import primary_issuer
from chatkeep.authentication import Authenticator
from chatkeep.claims import declared_versions
from chatkeep.db import Database
from chatkeep.errors import SetupError
from chatkeep.issuance import open_issuer
from chatkeep.issuers import Issuers, supabase_issuer
from chatkeep.session_tokens import SessionTokens

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from chatkeep.claims import ClaimVersions
    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.issuers import Issuer


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


async def open_database(stack: AsyncExitStack, settings: Settings) -> Database:
    """Connect to the database of *settings*; *stack* disconnects."""
    if settings.database_url is None:
        raise SetupError("Set DATABASE_URL, or start with `chatkeep serve`.")
    db = Database(
        settings.database_url,
        pool_size=settings.database_pool_size,
        behind_pooler=settings.database_pooler,
    )
    await db.open()
    stack.push_async_callback(db.close)
    return db


async def open_own_gate(
    stack: AsyncExitStack, settings: Settings, db: Database, *, claims: ClaimVersions | None = None
) -> OwnGate:
    """Open the gate of a server: every configured issuer and our own.

    *claims* are the versions of the session token's claims, instead of those of *settings*.

    Raises:
        SetupError: no secret, or the database was used with another one; or the claims
            cannot be used.
    """
    versions = claims or declared_versions(settings)
    if settings.secret is None:
        raise SetupError("Set CHATKEEP_SECRET, or start with `chatkeep serve`.")
    primary = await primary_issuer.settle(db, _wanted_primary(settings))
    embedded = await open_issuer(
        db, settings, settings.secret.encode(), primary=primary == "embedded"
    )
    stack.callback(embedded.close)
    issuers = Issuers([embedded.issuer, *_foreign_issuers(settings, primary)])
    stack.push_async_callback(issuers.close)
    session_tokens = SessionTokens(
        db, settings, versions, issuer=embedded.issuer, signing_keys=embedded.signing_keys
    )
    stack.push_async_callback(session_tokens.close)
    authenticator = Authenticator(
        issuers,
        revocations=embedded.revocations,
        cookies={session_tokens.cookie: session_tokens.read},
        development_header=settings.development_user_header,
    )
    return OwnGate(
        issuers=issuers,
        authenticator=authenticator,
        embedded=embedded,
        session_tokens=session_tokens,
    )


async def open_gate(stack: AsyncExitStack, settings: Settings) -> Gate:
    """Open the gate of an application that has nothing but settings.

    Raises:
        SetupError: no issuer is configured.
    """
    if settings.database_url is not None and settings.secret is not None:
        return await open_own_gate(stack, settings, await open_database(stack, settings))
    foreign = _foreign_issuers(settings, _wanted_primary(settings))
    if not foreign:
        raise SetupError(
            "No issuer is configured: set SUPABASE_PROJECT_URL or SUPABASE_JWT_SECRET, or"
            " DATABASE_URL and CHATKEEP_SECRET of a Chatkeep server."
        )
    issuers = Issuers(foreign)
    stack.push_async_callback(issuers.close)
    authenticator = Authenticator(issuers, development_header=settings.development_user_header)
    return Gate(issuers=issuers, authenticator=authenticator, embedded=None)


def _wanted_primary(settings: Settings) -> str:
    return settings.primary_issuer or ("supabase" if _has_supabase(settings) else "embedded")


def _has_supabase(settings: Settings) -> bool:
    return bool(settings.supabase_project_url or settings.supabase_jwt_secret)


def _foreign_issuers(settings: Settings, primary: str) -> list[Issuer]:
    """Everybody else whose tokens are taken."""
    if not _has_supabase(settings):
        return []
    return [
        supabase_issuer(
            project_url=settings.supabase_project_url,
            jwt_secret=settings.supabase_jwt_secret,
            audience=settings.supabase_audience,
            production=settings.production,
            primary=primary == "supabase",
        )
    ]
