"""What is wrong with settings taken together: said at start, all of it at once."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import combinations
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from chatkeep.config.extensions import extension_problems
from chatkeep.config.factors import factor_problems
from chatkeep.config.files import file_problems
from chatkeep.config.mail import mail_problems
from chatkeep.config.mcp import mcp_problems
from chatkeep.config.metrics import metrics_problems
from chatkeep.config.providers import openid_settings
from chatkeep.config.sign_in import sign_in_problems
from chatkeep.config.sign_in_providers import sign_in_provider_problems
from chatkeep.config.upstream_problems import upstream_problems
from chatkeep.config.upstreams import PRESETS, upstreams_of
from chatkeep.config.values import THIS_MACHINE
from chatkeep.config.webhooks import webhook_problems

if TYPE_CHECKING:
    from chatkeep.config.providers import OpenIdProvider
    from chatkeep.config.settings import Settings

LOCKABLE = frozenset(
    {"temperature", "top_p", "max_tokens", "system_prompt", "default_model", "custom_instructions"}
)
#: RFC 6762, RFC 8375, ICANN 2024; "svc" is a cluster's own.
_PRIVATE_DOMAINS = (".local", ".home.arpa", ".internal", ".svc")
#: An address of a database without a host leads to a socket of this machine.
_HERE = THIS_MACHINE | {""}
LOG_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR"})
#: Shared secrets that anybody can look up.
PUBLISHED_SECRETS = frozenset(
    {
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "your-super-secret-jwt-token-with-at-least-32-characters-long",
        "a-string-secret-at-least-256-bits-long",
        "reallyreallyreallyreallyverysafe",
        "better-auth-secret-12345678901234567890",
    }
)


def contradictions(settings: Settings) -> list[str]:
    """What is wrong with the settings taken together."""
    found = [
        *_shape_problems(settings),
        *_issuer_problems(settings),
        *_header_problems(settings),
        *factor_problems(settings),
        *file_problems(settings, production=settings.production),
        *mail_problems(settings, production=settings.production),
        *extension_problems(settings, title_model=settings.title_model),
        *mcp_problems(settings, production=settings.production),
        *webhook_problems(settings, production=settings.production),
        *metrics_problems(
            settings,
            port=settings.port,
            workers=settings.workers,
            production=settings.production,
        ),
        *sign_in_problems(settings, mail_enabled=settings.mail_enabled),
        *sign_in_provider_problems(settings, production=settings.production),
        *upstream_problems(settings),
    ]
    return found + (_production_problems(settings) if settings.production else [])


def _shape_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.log_level not in LOG_LEVELS:
        problems.append(f"LOG_LEVEL must be one of {', '.join(sorted(LOG_LEVELS))}.")
    if unknown := sorted(set(settings.locked_settings) - LOCKABLE):
        problems.append(
            f"LOCKED_SETTINGS names {', '.join(unknown)}: choose from"
            f" {', '.join(sorted(LOCKABLE))}."
        )
    if settings.models and settings.default_model and settings.default_model not in settings.models:
        problems.append("OPENAI_CHAT_MODEL must be one of MODELS.")
    return problems


def _issuer_problems(settings: Settings) -> list[str]:
    """What is wrong with who may sign tokens."""
    problems = []
    known = settings.issuer_names
    if settings.primary_issuer and settings.primary_issuer not in known:
        problems.append(f"PRIMARY_ISSUER must be one of {', '.join(sorted(known))}.")
    for provider in settings.openid_providers:
        problems += _provider_problems(provider)
    if settings.oidc_issuer is None:
        own = openid_settings(type(settings))
        lonely = [one for one in own if getattr(settings, one.name) != one.default]
        problems += [f"{one.metadata['names'][0]} needs OIDC_ISSUER." for one in lonely]
    problems += _supabase_problems(settings)
    return problems + _better_auth_problems(settings) + _shared_secrets(settings)


def _supabase_problems(settings: Settings) -> list[str]:
    if settings.supabase_project_url:
        return []
    said = {
        "SUPABASE_AUTH_CLIENT_ID": settings.supabase_client_id,
        "SUPABASE_AUTH_CLIENT_SECRET": settings.supabase_client_secret,
        "SUPABASE_SESSIONS": settings.supabase_sessions,
    }
    return [f"{name} needs SUPABASE_PROJECT_URL." for name, value in said.items() if value]


def _provider_problems(provider: OpenIdProvider) -> list[str]:
    """What is missing in the settings of one OpenID provider, by their names."""
    own, problems = provider.prefix, []
    if not provider.issuer:
        problems.append(f"{own}_ISSUER must be set, because OIDC_ISSUERS names {provider.name}.")
    if not provider.audience:
        problems.append(
            f"{own}_AUDIENCE must be set: what the provider's access tokens say they are for."
        )
    elif provider.audience == provider.client_id:
        problems.append(
            f"{own}_AUDIENCE must not be {own}_CLIENT_ID: ID tokens are for the client,"
            " and are no access tokens."
        )
    if provider.client_secret and not provider.client_id:
        problems.append(f"{own}_CLIENT_SECRET needs {own}_CLIENT_ID.")
    return problems


def _better_auth_problems(settings: Settings) -> list[str]:
    if settings.better_auth_url:
        return []
    if settings.better_auth_issuer:
        if settings.better_auth_secret:
            return []
        return ["BETTER_AUTH_ISSUER needs BETTER_AUTH_URL, for the keys, or BETTER_AUTH_SECRET."]
    said = {
        "BETTER_AUTH_SECRET": settings.better_auth_secret,
        "BETTER_AUTH_AUDIENCE": settings.better_auth_audience,
        "BETTER_AUTH_DATABASE_URL": settings.better_auth_database_url,
    }
    return [f"{name} needs BETTER_AUTH_URL." for name, value in said.items() if value]


def _shared_secrets(settings: Settings) -> list[str]:
    """Whoever knows a secret can sign with it, so no two issuers may share one."""
    secrets = {
        "CHATKEEP_SECRET": settings.secret,
        "SUPABASE_JWT_SECRET": settings.supabase_jwt_secret,
        "BETTER_AUTH_SECRET": settings.better_auth_secret,
    }
    return [
        f"{one} and {other} must not be the same."
        for one, other in combinations(secrets, 2)
        if secrets[one] and secrets[one] == secrets[other]
    ]


def _header_problems(settings: Settings) -> list[str]:
    """X-User-Id is for a developer's own machine, said twice, and nothing else."""
    if not settings.development_user_header:
        return []
    problems = []
    if not settings.environment_is_explicit or settings.production:
        problems.append("DEVELOPMENT_USER_HEADER needs ENVIRONMENT=development said explicitly.")
    if settings.host not in THIS_MACHINE:
        problems.append("DEVELOPMENT_USER_HEADER needs HOST to be a loopback address.")
    if settings.database_url and not _is_local(settings.database_url):
        problems.append("DEVELOPMENT_USER_HEADER needs a database on this machine.")
    return problems


def _is_local(url: str) -> bool:
    """Whether the database at *url* is on this machine; libpq also takes hosts as parameters."""
    parts = urlsplit(url)
    said = parse_qs(parts.query)
    hosts = [parts.hostname or "", *said.get("host", ()), *said.get("hostaddr", ())]
    return "service" not in said and all(host in _HERE or host.startswith("/") for host in hosts)


def stays_inside(url: str) -> bool:
    """Whether what is said to the server at *url* is encrypted, or leaves no network of ours.

    A name without a dot, or under a domain that is never public, is one of a private network.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in {"rediss", "unix"} or host in _HERE:
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_DOMAINS)


def _production_problems(settings: Settings) -> list[str]:
    """What is refused, not warned about, in production."""
    problems = []
    if settings.public_url is None or not settings.public_url.startswith("https://"):
        problems.append("PUBLIC_URL must be the https address people use, in production.")
    if settings.database_url and settings.secret is None:
        problems.append(
            "CHATKEEP_SECRET must be set in production when DATABASE_URL is:"
            " make one with `openssl rand -hex 32`, the same on every node."
        )
    if not settings.rate_limits:
        problems.append("RATE_LIMITS must be on in production.")
    if settings.redis_url and not stays_inside(settings.redis_url):
        problems.append(
            "REDIS_URL must be rediss in production, but for a server on this machine or in a"
            " private network."
        )
    return [
        *problems,
        *_providers_in_the_clear(settings),
        *_published_secrets(settings),
        *_issuers_in_the_clear(settings),
    ]


def _providers_in_the_clear(settings: Settings) -> list[str]:
    return [
        f"{one.prefix}_URL must be https in production, but for a provider on this machine or in"
        " a private network."
        for one in upstreams_of(settings)
        if one.name not in PRESETS and one.url.startswith("http://") and not stays_inside(one.url)
    ]


def _published_secrets(settings: Settings) -> list[str]:
    secrets = {
        "SUPABASE_JWT_SECRET": settings.supabase_jwt_secret,
        "BETTER_AUTH_SECRET": settings.better_auth_secret,
    }
    return [
        f"{name} is a published default: anybody can sign with it."
        for name, secret in secrets.items()
        if secret in PUBLISHED_SECRETS
    ]


def _issuers_in_the_clear(settings: Settings) -> list[str]:
    """Whoever stands between could put keys of their own in place of an issuer's."""
    addresses = {
        "SUPABASE_PROJECT_URL": settings.supabase_project_url,
        "BETTER_AUTH_URL": settings.better_auth_url,
    }
    for one in settings.openid_providers:
        addresses |= {f"{one.prefix}_ISSUER": one.issuer, f"{one.prefix}_JWKS_URL": one.jwks_url}
    return [
        f"{name} must be https in production."
        for name, address in addresses.items()
        if address and not address.startswith("https://")
    ]
