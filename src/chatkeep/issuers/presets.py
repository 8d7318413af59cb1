"""The issuers we know how to set up: a Supabase project, and this server itself."""

from __future__ import annotations

from typing import Final

from chatkeep.config import PUBLISHED_SECRETS
from chatkeep.errors import SetupError
from chatkeep.issuers.issuer import ClaimNames, Issuer, StaticKeys
from chatkeep.jwks import JwksClient
from chatkeep.tokens import KeySet, Rules

#: Roles of API keys and servers in Supabase Auth. Never a person, however well signed.
_GOTRUE_SYSTEM_ROLES: Final = frozenset({"anon", "service_role", "supabase_admin"})
_SUPABASE_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "Ed25519")
_FOREIGN_CLOCK_LEEWAY_S: Final = 5
_MIN_SECRET_BYTES: Final = 32
_MIN_DISTINCT_CHARACTERS: Final = 8
_GOTRUE_CLAIMS: Final = ClaimNames(
    name=(("user_metadata", "full_name"), ("user_metadata", "name")),
    picture=(("user_metadata", "avatar_url"), ("user_metadata", "picture")),
    roles=(("app_metadata", "roles"), ("app_metadata", "role")),
)


def supabase_issuer(
    *,
    project_url: str | None,
    jwt_secret: str | None,
    audience: str = "authenticated",
    production: bool,
    primary: bool = False,
) -> Issuer:
    """Return the issuer that a Supabase project is.

    The shared secret and the project's published keys work side by side, as they must
    while a project moves from one to the other. Without *project_url* its `iss` is not
    known: it is then whoever is none of the other issuers.

    Raises:
        SetupError: neither is given, or one of them cannot be used.
    """
    base = project_url and f"{project_url.rstrip('/')}/auth/v1"
    if problems := _supabase_problems(base, jwt_secret, production=production):
        raise SetupError(*problems)
    return Issuer(
        name="supabase",
        preset="supabase",
        rules=Rules(
            iss=base,
            audiences=frozenset({audience}),
            algorithms=frozenset({*_SUPABASE_ALGORITHMS, "HS256"}),
            refused_roles=_GOTRUE_SYSTEM_ROLES,
            leeway_s=_FOREIGN_CLOCK_LEEWAY_S,
        ),
        secret=None if jwt_secret is None else StaticKeys(KeySet.of_secret(jwt_secret.encode())),
        keys=None if base is None else _gotrue_keys(base, public_only=production),
        claim_names=_GOTRUE_CLAIMS,
        primary=primary,
    )


def _supabase_problems(base: str | None, jwt_secret: str | None, *, production: bool) -> list[str]:
    if base is None and jwt_secret is None:
        return ["A Supabase issuer needs SUPABASE_PROJECT_URL, SUPABASE_JWT_SECRET or both."]
    found = []
    if base and production and not base.startswith("https://"):
        found.append("SUPABASE_PROJECT_URL must be https in production.")
    if jwt_secret is not None:
        weak = check_shared_secret(jwt_secret, production=production)
        found += [f"SUPABASE_JWT_SECRET: {problem}" for problem in weak]
    return found


def _gotrue_keys(base: str, *, public_only: bool) -> JwksClient:
    address = f"{base}/.well-known/jwks.json"
    return JwksClient(address, algorithms=_SUPABASE_ALGORITHMS, public_only=public_only)


def embedded_issuer(
    *, base_url: str, keys: StaticKeys, audience: str = "authenticated", primary: bool = False
) -> Issuer:
    """Return the issuer that this server is itself; *keys* are its public ES256 keys.

    No leeway: the clock that signs is the clock that checks.
    """
    return Issuer(
        name="embedded",
        preset="embedded",
        rules=Rules(
            iss=f"{base_url.rstrip('/')}/auth/v1",
            audiences=frozenset({audience}),
            algorithms=frozenset({"ES256"}),
            types=frozenset({"jwt"}),
            refused_roles=_GOTRUE_SYSTEM_ROLES,
        ),
        keys=keys,
        claim_names=_GOTRUE_CLAIMS,
        primary=primary,
    )


def check_shared_secret(secret: str, *, production: bool) -> list[str]:
    """Return what is wrong with *secret*, a sentence each, never quoting it."""
    problems = []
    if len(secret.encode()) < _MIN_SECRET_BYTES:
        problems.append(f"The shared secret must have at least {_MIN_SECRET_BYTES} bytes.")
    if secret != secret.strip():
        problems.append("The shared secret must not begin or end with white space.")
    if len(set(secret)) < _MIN_DISTINCT_CHARACTERS:
        problems.append("The shared secret repeats a few characters: anybody can guess it.")
    if production and secret in PUBLISHED_SECRETS:
        problems.append("The shared secret is a published default: anybody can sign with it.")
    return problems
