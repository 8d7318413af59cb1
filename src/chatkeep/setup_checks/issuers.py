"""What is wrong with the issuers that were set, found by asking each of them.

Nothing is changed. What they publish is read as the server would read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from chatkeep.db import Database
from chatkeep.discovery import Discovery
from chatkeep.errors import ChatkeepError
from chatkeep.fetching import FetchFailed, fetch
from chatkeep.issuers import SUPABASE_ALGORITHMS, better_auth_api
from chatkeep.jwks import KeyPlace
from chatkeep.setup_checks.findings import Finding
from chatkeep.signing_keys import ALGORITHM, load_signing_keys
from chatkeep.sql import better_auth as better_auth_tables
from chatkeep.tokens import ASYMMETRIC_ALGORITHMS, read_key_set

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from chatkeep.config import OpenIdProvider, Settings, SignInProvider

#: A token that was just issued is taken up to this much too early.
_LARGEST_SKEW_S: Final = 5.0
_WAIT_S: Final = 3.0


@dataclass(slots=True)
class _Looked:
    """What has been found out about one issuer so far."""

    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_finding(self, name: str) -> Finding:
        return Finding(name=name, note=", ".join(self.notes), problems=tuple(self.problems))


async def examine_issuers(settings: Settings) -> AsyncIterator[Finding]:
    """Look at every issuer of *settings* but this server itself, one finding each."""
    if settings.supabase_project_url or settings.supabase_jwt_secret:
        yield await _supabase(settings)
    if settings.better_auth_url or settings.better_auth_issuer:
        yield await _better_auth(settings)
    for provider in settings.openid_providers:
        yield await _openid(provider, public_only=settings.production)
    async for finding in examine_sign_in_providers(settings):
        yield finding


async def examine_sign_in_providers(settings: Settings) -> AsyncIterator[Finding]:
    """Look at every provider that people may sign in with, one finding each."""
    for provider in settings.sign_in_providers:
        looked = _Looked(notes=["sign-in"])
        if provider.kind != "github":  # which publishes nothing to look at
            await _look_at_provider(looked, provider, public_only=settings.production)
        looked.notes.append(f"comes back to {settings.base_url}/auth/v1/callback")
        yield looked.as_finding(provider.name)


async def examine_embedded(settings: Settings) -> Finding:
    """Look at this server as an issuer, in the database of prepared *settings*."""
    if settings.database_url is None or settings.secret is None:
        return Finding(name="embedded", note="its keys will be made at the first start")
    db = Database(settings.database_url, pool_size=1, behind_pooler=settings.database_pooler)
    try:
        await db.open()
        keys = await load_signing_keys(db, settings.secret.encode())
    except ChatkeepError as error:
        return Finding(name="embedded", problems=(error.detail,))
    finally:
        await db.close()
    note = f"{settings.base_url}/auth/v1, {_counted(len(keys.verifying), {ALGORITHM})}"
    return Finding(name="embedded", note=note)


async def _supabase(settings: Settings) -> Finding:
    looked = _Looked()
    if settings.supabase_jwt_secret:
        looked.notes.append("the shared secret (HS256)")
    if settings.supabase_project_url:
        url = f"{settings.supabase_project_url}/auth/v1/.well-known/jwks.json"
        place = KeyPlace(url=url, algorithms=SUPABASE_ALGORITHMS)
        await _look_at_keys(
            looked,
            place,
            cure="check SUPABASE_PROJECT_URL, or set SUPABASE_JWT_SECRET.",
            public_only=settings.production,
            optional=settings.supabase_jwt_secret is not None,
        )
    return looked.as_finding("supabase")


async def _better_auth(settings: Settings) -> Finding:
    looked = _Looked()
    if settings.better_auth_secret:
        looked.notes.append("the secret (HS256, signed session tokens, cookies)")
    if settings.better_auth_url:
        url = f"{better_auth_api(settings.better_auth_url)}/jwks"
        place = KeyPlace(url=url, algorithms=ASYMMETRIC_ALGORITHMS)
        await _look_at_keys(
            looked,
            place,
            cure="check BETTER_AUTH_URL, and that Better Auth has its JWT plugin.",
            public_only=settings.production,
            optional=settings.better_auth_secret is not None,
        )
    await _look_at_tables(looked, settings)
    return looked.as_finding("better-auth")


async def _look_at_tables(looked: _Looked, settings: Settings) -> None:
    is_ours = settings.better_auth_database_url is None
    address = settings.better_auth_database_url or settings.database_url
    if address is None:
        looked.problems.append("There is no database yet: set BETTER_AUTH_DATABASE_URL.")
        return
    db = Database(address, pool_size=1, behind_pooler=True, borrow_timeout_s=_WAIT_S)
    try:
        await db.open(wait=False)
        problems = await better_auth_tables.find_problems(db, is_ours=is_ours)
    except ChatkeepError as error:
        where = "DATABASE_URL" if is_ours else "BETTER_AUTH_DATABASE_URL"
        problems = [f"{error.detail} Check {where}."]
    finally:
        await db.close()
    looked.problems += problems
    if not problems:
        looked.notes.append("its tables can be read")


async def _openid(provider: OpenIdProvider, *, public_only: bool) -> Finding:
    looked = _Looked()
    discovery = Discovery(provider.issuer, public_only=public_only, jwks_url=provider.jwks_url)
    try:
        found = await discovery.provider()
    except (FetchFailed, ValueError) as error:
        cure = f"check {provider.prefix}_ISSUER, which must be exactly its name."
        looked.problems.append(f"No discovery at {provider.issuer}: {error}; {cure}")
        return looked.as_finding(provider.name)
    cure = f"check {provider.prefix}_JWKS_URL."
    await _look_at_keys(looked, found.keys, cure=cure, public_only=public_only)
    looked.notes.append("refreshes tokens" if found.token_url else "no token endpoint of its own")
    if found.revocation_url:
        looked.notes.append("revokes tokens")
    return looked.as_finding(provider.name)


async def _look_at_provider(
    looked: _Looked, provider: SignInProvider, *, public_only: bool
) -> None:
    own = provider.prefix
    discovery = Discovery(provider.issuer, public_only=public_only, hosts=provider.hosts)
    try:
        found = await discovery.provider()
    except (FetchFailed, ValueError) as error:
        cure = f"check {own}_ISSUER, which must be exactly its name"
        if provider.kind == "openid":
            cure += f", and {own}_HOSTS"
        looked.problems.append(f"No discovery at {provider.issuer}: {error}; {cure}.")
        return
    endpoints = {
        "authorization_endpoint": found.authorization_url,
        "token_endpoint": found.token_url,
    }
    looked.problems += [
        f"Its {name} is missing or on another host: if that is right, name it in {own}_HOSTS."
        for name, url in endpoints.items()
        if url is None
    ]
    await _look_at_keys(looked, found.keys, cure=f"check {own}_ISSUER.", public_only=public_only)


async def _look_at_keys(
    looked: _Looked,
    place: KeyPlace,
    *,
    cure: str,
    public_only: bool,
    optional: bool = False,
) -> None:
    """Fetch the keys at *place*. Where there is a secret too, they are *optional*."""
    try:
        document = await fetch(place.url, public_only=public_only)
        published = read_key_set(document.body, algorithms=place.algorithms)
    except (FetchFailed, ValueError) as error:
        if optional:
            looked.notes.append(f"no keys at {place.url}")
        else:
            looked.problems.append(f"No keys at {place.url} ({error}): {cure}")
        return
    looked.notes.append(_counted(len(published.keys), published.keys.algorithms))
    looked.notes += [f"a key left out: {reason}" for reason in published.left_out]
    skew_s = 0.0 if document.date is None else _skew_s(document.date)
    if skew_s > _LARGEST_SKEW_S:
        looked.problems.append(
            f"Its clock is {skew_s:.0f} s away from this machine's: set both by NTP."
        )


def _counted(keys: int, algorithms: Iterable[str]) -> str:
    return f"{keys} {'key' if keys == 1 else 'keys'} ({', '.join(sorted(algorithms))})"


def _skew_s(date: datetime) -> float:
    """How far *date*, which has whole seconds, is from now at least."""
    now = datetime.now(UTC)
    return max((date - now).total_seconds(), (now - date).total_seconds() - 1, 0.0)
