"""The issuers we know how to set up: Supabase, Better Auth, OpenID providers, ourselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from chatkeep.config import PUBLISHED_SECRETS
from chatkeep.discovery import Discovery
from chatkeep.errors import SetupError
from chatkeep.issuers.issuer import ClaimNames, Endpoints, Issuer, StaticKeys
from chatkeep.issuers.kinds import openid_access_token
from chatkeep.jwks import JwksClient
from chatkeep.tokens import ASYMMETRIC_ALGORITHMS, KeySet, Rules

if TYPE_CHECKING:
    from chatkeep.config import OpenIdProvider
    from chatkeep.issuers.issuer import KeySource

#: Roles of API keys and servers in Supabase Auth. Never a person, however well signed.
ROLES_OF_SERVERS: Final = frozenset({"anon", "service_role", "supabase_admin"})
SUPABASE_ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "Ed25519")
#: What the server's own keys may be made for.
_OWN_ALGORITHMS: Final = ("ES256", "RS256", "EdDSA", "Ed25519")
_FOREIGN_CLOCK_LEEWAY_S: Final = 5
_OWN_CLOCKS_DIFFER_S: Final = 5
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
    client_id: str | None = None,
    client_secret: str | None = None,
    production: bool,
    primary: bool = False,
) -> Issuer:
    """Return the issuer that a Supabase project is.

    *client_id* and *client_secret* are its publishable and its secret key, for asking it.

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
            algorithms=frozenset({*SUPABASE_ALGORITHMS, "HS256"}),
            refused_roles=ROLES_OF_SERVERS,
            leeway_s=_FOREIGN_CLOCK_LEEWAY_S,
            may_be_bound=True,
        ),
        secret=None if jwt_secret is None else StaticKeys(KeySet.of_secret(jwt_secret.encode())),
        keys=None if base is None else _gotrue_keys(base, public_only=production),
        claim_names=_GOTRUE_CLAIMS,
        endpoints=Endpoints(
            refresh_url=base and f"{base}/token?grant_type=refresh_token",
            revoke_url=base and f"{base}/logout",
            client_id=client_id,
            client_secret=client_secret,
        ),
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
    return JwksClient(address, algorithms=SUPABASE_ALGORITHMS, public_only=public_only)


def better_auth_issuer(
    *,
    url: str | None,
    secret: str | None,
    issuer: str | None = None,
    audience: str | None = None,
    production: bool,
    primary: bool = False,
) -> Issuer:
    """Return the issuer that a Better Auth server is, with its JWT plugin.

    *url* is the server's own `BETTER_AUTH_URL`; *issuer* and *audience* are set where that
    plugin was given others than the origin of it. A verified token alone proves too little,
    see `chatkeep.better_auth`.

    Raises:
        SetupError: it cannot be known by what is given.
    """
    iss = issuer or (url and _origin(url))
    if not iss or (url is None and secret is None):
        raise SetupError("Better Auth needs BETTER_AUTH_URL, or BETTER_AUTH_ISSUER and a secret.")
    api = url and better_auth_api(url)
    ours = {audience} if audience else {iss, *([_origin(url)] if url else [])}
    return Issuer(
        name="better-auth",
        preset="better-auth",
        rules=Rules(
            iss=iss,
            audiences=frozenset(ours),
            algorithms=frozenset({*ASYMMETRIC_ALGORITHMS, "HS256"}),
            types=frozenset({None, "jwt"}),
            leeway_s=_FOREIGN_CLOCK_LEEWAY_S,
        ),
        secret=None if secret is None else StaticKeys(KeySet.of_secret(secret.encode())),
        keys=None if api is None else _better_auth_keys(api, public_only=production),
        claim_names=ClaimNames(session_id=None),
        endpoints=Endpoints(revoke_url=api and f"{api}/sign-out"),
        primary=primary,
    )


def _better_auth_keys(api: str, *, public_only: bool) -> JwksClient:
    return JwksClient(f"{api}/jwks", algorithms=ASYMMETRIC_ALGORITHMS, public_only=public_only)


def better_auth_api(url: str) -> str:
    """Return the address under which Better Auth serves, by its own rule for `BETTER_AUTH_URL`."""
    return url if urlsplit(url).path else f"{url}/api/auth"


def _origin(url: str) -> str:
    """Return the origin of *url* as browsers and JavaScript write it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{shown}{port}"


def openid_issuer(provider: OpenIdProvider, *, production: bool, primary: bool = False) -> Issuer:
    """Return the issuer that an OpenID provider is. Nothing is fetched yet."""
    discovery = Discovery(provider.issuer, public_only=production, jwks_url=provider.jwks_url)
    return Issuer(
        name=provider.name,
        preset="oidc",
        rules=Rules(
            iss=provider.issuer,
            audiences=frozenset({provider.audience}),
            algorithms=frozenset(ASYMMETRIC_ALGORITHMS),
            leeway_s=_FOREIGN_CLOCK_LEEWAY_S,
            may_be_bound=True,
        ),
        keys=JwksClient(
            provider.issuer,
            algorithms=ASYMMETRIC_ALGORITHMS,
            public_only=production,
            locate=discovery.keys,
        ),
        claim_names=ClaimNames(session_id="sid", roles=(provider.roles_claim,)),
        is_access_token=openid_access_token(provider.client_id),
        endpoints=Endpoints(
            client_id=provider.client_id,
            client_secret=provider.client_secret,
            discovery=discovery,
        ),
        primary=primary,
    )


def embedded_issuer(
    *,
    base_url: str,
    keys: KeySource,
    shared: KeySource | None = None,
    audience: str = "authenticated",
    primary: bool = False,
) -> Issuer:
    """Return the issuer that this server is itself; *keys* are its public keys.

    *shared* has the secret with which a former issuer signed, if one was imported.
    A token may come to a server whose clock is a little behind that of the one which has signed
    it just now; none is good for longer than it says.
    """
    return Issuer(
        name="embedded",
        preset="embedded",
        rules=Rules(
            iss=f"{base_url.rstrip('/')}/auth/v1",
            audiences=frozenset({audience}),
            algorithms=frozenset(
                _OWN_ALGORITHMS if shared is None else (*_OWN_ALGORITHMS, "HS256")
            ),
            types=frozenset({"jwt"}),
            refused_roles=ROLES_OF_SERVERS,
            may_be_bound=True,
            early_s=_OWN_CLOCKS_DIFFER_S,
        ),
        secret=shared,
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
