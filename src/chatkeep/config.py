"""Settings: the only reader of the environment.

`Settings.from_env` returns one frozen value or raises a `SetupError` that lists every
problem at once, naming settings and never their secret values. Each field has a heading
in `docs/reference/configuration.md`. Nothing reads the environment later.
"""

from __future__ import annotations

import os
import re
from dataclasses import Field, dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from chatkeep import setting_values as read
from chatkeep.errors import SetupError
from chatkeep.setting_values import Environment, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "LOCKABLE",
    "LOG_LEVELS",
    "PUBLISHED_SECRETS",
    "OpenIdProvider",
    "Secret",
    "Settings",
    "read_environment",
]

_FILE = ".env.local"


def _setting(name: str, parse: Callable[[str], Any], *aliases: str, default: Any = None) -> Any:  # noqa: ANN401 -- a dataclass field takes its type from its annotation
    """Declare a setting: its environment name, other names for it, and how it is read."""
    return field(default=default, metadata={"names": (name, *aliases), "parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdProvider:
    """An OpenID provider whose access tokens are taken.

    *issuer* is its exact name; *audience* what its tokens for us say they are for.
    *roles_claim* is the path to the claim that has a person's roles.
    """

    name: str
    issuer: str = ""
    audience: str = ""
    client_id: str | None = None
    client_secret: Secret | None = None
    jwks_url: str | None = None
    roles_claim: tuple[str, ...] = ("roles",)

    @property
    def prefix(self) -> str:
        """How the names of its settings begin."""
        own = "" if self.name == "oidc" else f"_{self.name.upper().replace('-', '_')}"
        return f"OIDC{own}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator can choose. Empty values count as not set."""

    environment: Environment = _setting(
        "ENVIRONMENT", read.environment, "NODE_ENV", default="development"
    )
    host: str = _setting("HOST", read.plain_text, default="127.0.0.1")
    port: int = _setting("PORT", read.whole(1, 65535), default=8000)
    workers: int = _setting("WORKERS", read.whole(1, 64), default=1)
    public_url: str | None = _setting("PUBLIC_URL", read.web_address)
    data_folder: Path = _setting("CHATKEEP_DATA", read.folder, default=Path(".chatkeep"))
    secret: Secret | None = _setting("CHATKEEP_SECRET", read.long_secret)

    database_url: Secret | None = _setting("DATABASE_URL", read.database_url, "SUPABASE_DB_URL")
    database_admin_url: Secret | None = _setting("DATABASE_ADMIN_URL", read.database_url)
    database_listen_url: Secret | None = _setting("DATABASE_LISTEN_URL", read.database_url)
    database_pool_size: int = _setting("DATABASE_POOL_SIZE", read.whole(1, 200), default=10)
    database_pooler: bool = _setting("DATABASE_POOLER", read.flag, default=False)

    supabase_project_url: str | None = _setting("SUPABASE_PROJECT_URL", read.web_address)
    supabase_jwt_secret: Secret | None = _setting("SUPABASE_JWT_SECRET", read.long_secret)
    supabase_audience: str = _setting(
        "SUPABASE_AUTH_AUDIENCE", read.plain_text, default="authenticated"
    )
    better_auth_url: str | None = _setting("BETTER_AUTH_URL", read.web_address)
    better_auth_secret: Secret | None = _setting("BETTER_AUTH_SECRET", read.long_secret)
    better_auth_issuer: str | None = _setting("BETTER_AUTH_ISSUER", read.plain_text)
    better_auth_audience: str | None = _setting("BETTER_AUTH_AUDIENCE", read.plain_text)
    better_auth_database_url: Secret | None = _setting(
        "BETTER_AUTH_DATABASE_URL", read.database_url
    )
    oidc_issuer: str | None = _setting("OIDC_ISSUER", read.exact_web_address)
    oidc_audience: str | None = _setting("OIDC_AUDIENCE", read.plain_text)
    oidc_client_id: str | None = _setting("OIDC_CLIENT_ID", read.plain_text)
    oidc_client_secret: Secret | None = _setting("OIDC_CLIENT_SECRET", read.secret)
    oidc_jwks_url: str | None = _setting("OIDC_JWKS_URL", read.exact_web_address)
    oidc_roles_claim: tuple[str, ...] = _setting("OIDC_ROLES_CLAIM", read.path, default=("roles",))
    oidc_issuers: tuple[str, ...] = _setting("OIDC_ISSUERS", read.names, default=())
    primary_issuer: str | None = _setting("PRIMARY_ISSUER", read.plain_text)
    sign_up: bool = _setting("SIGN_UP", read.flag, default=True)
    access_token_expiry_s: int = _setting(
        "ACCESS_TOKEN_EXPIRY", read.whole(60, 86_400), default=3600
    )
    token_refresh_window_s: int = _setting(
        "TOKEN_REFRESH_WINDOW", read.whole(0, 86_400), default=300
    )
    refresh_token_expiry_ms: int = _setting(
        "REFRESH_TOKEN_EXPIRY", read.whole(60_000, 34_560_000_000), default=604_800_000
    )
    session_lifetime_s: int = _setting(
        "SESSION_LIFETIME", read.whole(60, 34_560_000), default=2_592_000
    )
    sessions_per_user: int = _setting("SESSIONS_PER_USER", read.whole(1, 10_000), default=100)
    claims: str | None = _setting("CLAIMS", read.import_path)
    claims_issue: int | None = _setting("CLAIMS_ISSUE", read.whole(1, 9999))
    development_user_header: bool = _setting("DEVELOPMENT_USER_HEADER", read.flag, default=False)

    openrouter_api_key: Secret | None = _setting("OPENROUTER_API_KEY", read.secret)
    openrouter_base_url: str = _setting(
        "OPENROUTER_BASE_URL", read.web_address, default="https://openrouter.ai/api/v1"
    )
    openai_api_key: Secret | None = _setting("OPENAI_API_KEY", read.secret)
    openai_base_url: str = _setting(
        "OPENAI_BASE_URL", read.web_address, default="https://api.openai.com/v1"
    )
    default_model: str | None = _setting("OPENAI_CHAT_MODEL", read.plain_text, "DEFAULT_MODEL")
    model_connect_timeout_s: float = _setting(
        "MODEL_CONNECT_TIMEOUT", read.number(0.1, 60), default=5.0
    )
    model_first_byte_timeout_s: float = _setting(
        "MODEL_FIRST_BYTE_TIMEOUT", read.number(0.1, 600), default=60.0
    )
    model_between_chunks_timeout_s: float = _setting(
        "MODEL_CHUNK_TIMEOUT", read.number(0.1, 600), default=60.0
    )
    model_total_timeout_s: float = _setting("MODEL_TIMEOUT", read.number(1, 3600), default=600.0)

    models: tuple[str, ...] = _setting("MODELS", read.words, default=())
    system_prompt: str | None = _setting("SYSTEM_PROMPT", read.plain_text)
    temperature: float | None = _setting("TEMPERATURE", read.number(0, 2))
    top_p: float | None = _setting("TOP_P", read.number(0.001, 1))
    max_tokens: int | None = _setting("MAX_TOKENS", read.whole(1, 1_000_000))
    temperature_ceiling: float = _setting("TEMPERATURE_CEILING", read.number(0, 2), default=2.0)
    max_tokens_ceiling: int = _setting(
        "MAX_TOKENS_CEILING", read.whole(1, 1_000_000), default=32_768
    )
    locked_settings: tuple[str, ...] = _setting("LOCKED_SETTINGS", read.words, default=())
    greeting: str = _setting(
        "CHAT_GREETING", read.plain_text, default="Hello! How can I help you today?"
    )
    anonymous_chat: bool = _setting("ANONYMOUS_CHAT", read.flag, default=False)

    rate_limits: bool = _setting("RATE_LIMITS", read.flag, default=True)
    trusted_proxies: tuple[str, ...] = _setting("TRUSTED_PROXIES", read.networks, default=())
    cors_origins: tuple[str, ...] = _setting("CORS_ORIGINS", read.origins, default=())
    max_body_bytes: int = _setting("MAX_BODY_BYTES", read.whole(1024, 64 << 20), default=1 << 20)
    log_level: str = _setting("LOG_LEVEL", str.upper, default="INFO")
    drain_s: int = _setting("DRAIN_SECONDS", read.whole(0, 600), default=10)

    #: Whether somebody said which environment this is; the development header needs it.
    environment_is_explicit: bool = False
    #: Those that OIDC_ISSUERS names.
    named_providers: tuple[OpenIdProvider, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: object) -> Settings:
        """Read and check every setting of *environ*; *overrides* (command line) win.

        Raises:
            SetupError: with one sentence per problem.
        """
        problems: list[str] = []
        values: dict[str, Any] = {}
        for one in fields(cls):
            if one.metadata:
                _read(one.name, one.metadata, environ, values, problems)
        explicit = "environment" in values
        named = _named_providers(values.get("oidc_issuers", ()), environ, problems)
        values.update({name: value for name, value in overrides.items() if value is not None})
        if not problems:
            settings = cls(**values, environment_is_explicit=explicit, named_providers=named)
            problems = _contradictions(settings)
        if problems:
            raise SetupError(*problems)
        return settings

    @property
    def production(self) -> bool:
        """Whether unsafe conveniences are refused."""
        return self.environment == "production"

    @property
    def openid_providers(self) -> tuple[OpenIdProvider, ...]:
        """Every OpenID provider: the one without a name of its own first."""
        if self.oidc_issuer is None:
            return self.named_providers
        said = {
            one.name.removeprefix(_OPENID): getattr(self, one.name)
            for one in _openid_settings()
            if getattr(self, one.name) is not None
        }
        return (OpenIdProvider(name="oidc", **said), *self.named_providers)

    @property
    def issuer_names(self) -> tuple[str, ...]:
        """Every issuer whose tokens are taken; the first is the primary one unless said."""
        supabase = bool(self.supabase_project_url or self.supabase_jwt_secret)
        better_auth = bool(self.better_auth_url or self.better_auth_issuer)
        return (
            *(["supabase"] if supabase else []),
            *(["better-auth"] if better_auth else []),
            *(one.name for one in self.openid_providers),
            "embedded",
        )

    @property
    def base_url(self) -> str:
        """The address people use, without a slash at the end."""
        if self.public_url:
            return self.public_url
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 -- a comparison, not a bind
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def read_environment() -> dict[str, str]:
    """Return the environment, and beneath it `.env.local` of the current folder.

    Raises:
        SetupError: the file is there and cannot be read.
    """
    file = Path(_FILE)
    if not file.is_file():
        return dict(os.environ)
    from dotenv import dotenv_values  # noqa: PLC0415 -- only when there is a file

    try:
        found = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{_FILE} cannot be read: {error}.") from error
    return {name: value for name, value in found.items() if value is not None} | dict(os.environ)


def _read(
    name: str,
    metadata: Mapping[str, Any],
    environ: Mapping[str, str],
    values: dict[str, Any],
    problems: list[str],
) -> None:
    found = {alias: environ[alias] for alias in metadata["names"] if environ.get(alias)}
    if not found:
        return
    first = next(iter(found))
    if len(set(found.values())) > 1:
        problems.append(f"{' and '.join(found)} mean the same and disagree: set only one of them.")
        return
    try:
        values[name] = metadata["parse"](found[first])
    except read.Refused as refused:
        problems.append(f"{first} {refused}.")
    except ValueError:  # whose text may quote the value, which may be a secret
        problems.append(f"{first} cannot be read.")


_OPENID = "oidc_"
_TAKEN_NAMES = frozenset({"supabase", "better-auth", "embedded", "oidc", "development"})


def _openid_settings() -> list[Field[Any]]:
    """Return the settings that each OpenID provider has of its own."""
    found = [one for one in fields(Settings) if one.name.startswith(_OPENID)]
    return [one for one in found if one.name != "oidc_issuers"]


def _named_providers(
    names: tuple[str, ...], environ: Mapping[str, str], problems: list[str]
) -> tuple[OpenIdProvider, ...]:
    """Read OIDC_<NAME>_ISSUER and so on for each of *names*."""
    if taken := sorted(_TAKEN_NAMES.intersection(names)):
        problems.append(f"OIDC_ISSUERS must not use the name {', '.join(taken)}.")
        return ()
    settings = {one.metadata["names"][0].removeprefix("OIDC"): one for one in _openid_settings()}
    strays = {
        name
        for name, value in environ.items()
        if value and re.fullmatch(rf"OIDC_.+({'|'.join(settings)})", name)
    }
    found = []
    for name in names:
        said: dict[str, Any] = {}
        for ending, one in settings.items():
            own = f"{OpenIdProvider(name=name).prefix}{ending}"
            metadata = {**one.metadata, "names": [own]}
            _read(one.name.removeprefix(_OPENID), metadata, environ, said, problems)
            strays.discard(own)
        found.append(OpenIdProvider(name=name, **said))
    problems += [f"{name} belongs to no name in OIDC_ISSUERS." for name in sorted(strays)]
    return tuple(found)


LOCKABLE = frozenset(
    {"temperature", "top_p", "max_tokens", "system_prompt", "default_model", "custom_instructions"}
)
_LOOPBACK = frozenset({"", "localhost", "127.0.0.1", "::1"})
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


def _contradictions(settings: Settings) -> list[str]:
    """What is wrong with the settings taken together."""
    found = [
        *_shape_problems(settings),
        *_issuer_problems(settings),
        *_header_problems(settings),
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
        lonely = [one for one in _openid_settings() if getattr(settings, one.name) != one.default]
        problems += [f"{one.metadata['names'][0]} needs OIDC_ISSUER." for one in lonely]
    return problems + _better_auth_problems(settings) + _shared_secrets(settings)


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
    if settings.host not in _LOOPBACK - {""}:
        problems.append("DEVELOPMENT_USER_HEADER needs HOST to be a loopback address.")
    if settings.database_url and not _is_local(settings.database_url):
        problems.append("DEVELOPMENT_USER_HEADER needs a database on this machine.")
    return problems


def _is_local(url: str) -> bool:
    """Whether the database at *url* is on this machine; libpq also takes hosts as parameters."""
    parts = urlsplit(url)
    said = parse_qs(parts.query)
    hosts = [parts.hostname or "", *said.get("host", ()), *said.get("hostaddr", ())]
    return "service" not in said and all(
        host in _LOOPBACK or host.startswith("/") for host in hosts
    )


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
    secrets = {
        "SUPABASE_JWT_SECRET": settings.supabase_jwt_secret,
        "BETTER_AUTH_SECRET": settings.better_auth_secret,
    }
    problems += [
        f"{name} is a published default: anybody can sign with it."
        for name, secret in secrets.items()
        if secret in PUBLISHED_SECRETS
    ]
    addresses = {
        "SUPABASE_PROJECT_URL": settings.supabase_project_url,
        "BETTER_AUTH_URL": settings.better_auth_url,
    }
    for one in settings.openid_providers:
        addresses |= {f"{one.prefix}_ISSUER": one.issuer, f"{one.prefix}_JWKS_URL": one.jwks_url}
    return problems + [
        f"{name} must be https in production."
        for name, address in addresses.items()
        if address and not address.startswith("https://")
    ]
