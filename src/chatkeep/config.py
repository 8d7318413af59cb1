"""Settings: the only reader of the environment.

`Settings.from_env` returns one frozen value or raises a `SetupError` that lists every
problem at once, naming settings and never their secret values. Each field has a heading
in `docs/reference/configuration.md`. Nothing reads the environment later.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Environment = Literal["development", "production"]

_FILE = ".env.local"
_TRUE = frozenset({"1", "on", "true", "yes"})
_FALSE = frozenset({"0", "off", "false", "no"})
_MINIMUM_SECRET_BYTES = 32
_MINIMUM_DISTINCT_CHARACTERS = 8


class Secret(str):
    """A string whose `repr` never shows it. Use it where the value is really needed."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide the value."""
        return "Secret('***')"


class _Refused(ValueError):
    """A value that a parser cannot take; the text says what would be right."""


def _flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise _Refused("must be on or off")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isascii() or not text.strip().isdigit():
            raise _Refused(f"must be a whole number from {low} to {high}")
        if not low <= int(text) <= high:
            raise _Refused(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise _Refused(f"must be a number from {low:g} to {high:g}")
        return value

    return parse


def _environment(text: str) -> Environment:
    match text:
        case "development" | "production":
            return text
        case _:
            raise _Refused("must be development or production")


def _text(text: str) -> str:
    if any(ord(character) < ord(" ") and character not in "\n\t" for character in text):
        raise _Refused("must not contain control characters")
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _folder(text: str) -> Path:
    return Path(_text(text))


def _networks(text: str) -> tuple[str, ...]:
    for word in _words(text):
        try:
            ip_network(word, strict=False)
        except ValueError:
            raise _Refused("must list addresses or networks like 10.0.0.0/8") from None
    return _words(text)


def _secret(text: str) -> Secret:
    if text != text.strip():
        raise _Refused("must not begin or end with white space")
    return Secret(text)


def _long_secret(text: str) -> Secret:
    if len(_secret(text).encode()) < _MINIMUM_SECRET_BYTES:
        raise _Refused(f"must have at least {_MINIMUM_SECRET_BYTES} bytes")
    if len(set(text)) < _MINIMUM_DISTINCT_CHARACTERS:
        raise _Refused("repeats a few characters: anybody can guess it")
    return Secret(text)


def _web_address(text: str) -> str:
    parts = urlsplit(_text(text))
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise _Refused("must be an address like https://example.com")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _Refused("must not contain a user name, password, query or fragment")
    return text.rstrip("/")


def _origins(text: str) -> tuple[str, ...]:
    for word in _words(text):
        if _web_address(word) != word or urlsplit(word).path:
            raise _Refused("must list origins like https://app.example.com, with commas between")
    return _words(text)


def _database_url(text: str) -> Secret:
    if urlsplit(text).scheme not in {"postgres", "postgresql"}:
        raise _Refused("must be an address like postgresql://user:password@host:5432/name")
    return Secret(text)


def _setting(name: str, parse: Callable[[str], Any], *aliases: str, default: Any = None) -> Any:  # noqa: ANN401 -- a dataclass field takes its type from its annotation
    """Declare a setting: its environment name, other names for it, and how it is read."""
    return field(default=default, metadata={"names": (name, *aliases), "parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator can choose. Empty values count as not set."""

    environment: Environment = _setting(
        "ENVIRONMENT", _environment, "NODE_ENV", default="development"
    )
    host: str = _setting("HOST", _text, default="127.0.0.1")
    port: int = _setting("PORT", _whole(1, 65535), default=8000)
    workers: int = _setting("WORKERS", _whole(1, 64), default=1)
    public_url: str | None = _setting("PUBLIC_URL", _web_address)
    data_folder: Path = _setting("CHATKEEP_DATA", _folder, default=Path(".chatkeep"))
    secret: Secret | None = _setting("CHATKEEP_SECRET", _long_secret)

    database_url: Secret | None = _setting("DATABASE_URL", _database_url, "SUPABASE_DB_URL")
    database_admin_url: Secret | None = _setting("DATABASE_ADMIN_URL", _database_url)
    database_listen_url: Secret | None = _setting("DATABASE_LISTEN_URL", _database_url)
    database_pool_size: int = _setting("DATABASE_POOL_SIZE", _whole(1, 200), default=10)
    database_pooler: bool = _setting("DATABASE_POOLER", _flag, default=False)

    supabase_project_url: str | None = _setting("SUPABASE_PROJECT_URL", _web_address)
    supabase_jwt_secret: Secret | None = _setting("SUPABASE_JWT_SECRET", _long_secret)
    supabase_audience: str = _setting("SUPABASE_AUTH_AUDIENCE", _text, default="authenticated")
    primary_issuer: str | None = _setting("PRIMARY_ISSUER", _text)
    sign_up: bool = _setting("SIGN_UP", _flag, default=True)
    access_token_expiry_s: int = _setting("ACCESS_TOKEN_EXPIRY", _whole(60, 86_400), default=3600)
    token_refresh_window_s: int = _setting("TOKEN_REFRESH_WINDOW", _whole(0, 86_400), default=300)
    development_user_header: bool = _setting("DEVELOPMENT_USER_HEADER", _flag, default=False)

    openrouter_api_key: Secret | None = _setting("OPENROUTER_API_KEY", _secret)
    openrouter_base_url: str = _setting(
        "OPENROUTER_BASE_URL", _web_address, default="https://openrouter.ai/api/v1"
    )
    openai_api_key: Secret | None = _setting("OPENAI_API_KEY", _secret)
    openai_base_url: str = _setting(
        "OPENAI_BASE_URL", _web_address, default="https://api.openai.com/v1"
    )
    default_model: str | None = _setting("OPENAI_CHAT_MODEL", _text, "DEFAULT_MODEL")
    model_connect_timeout_s: float = _setting(
        "MODEL_CONNECT_TIMEOUT", _number(0.1, 60), default=5.0
    )
    model_first_byte_timeout_s: float = _setting(
        "MODEL_FIRST_BYTE_TIMEOUT", _number(0.1, 600), default=60.0
    )
    model_between_chunks_timeout_s: float = _setting(
        "MODEL_CHUNK_TIMEOUT", _number(0.1, 600), default=60.0
    )
    model_total_timeout_s: float = _setting("MODEL_TIMEOUT", _number(1, 3600), default=600.0)

    models: tuple[str, ...] = _setting("MODELS", _words, default=())
    system_prompt: str | None = _setting("SYSTEM_PROMPT", _text)
    temperature: float | None = _setting("TEMPERATURE", _number(0, 2))
    top_p: float | None = _setting("TOP_P", _number(0.001, 1))
    max_tokens: int | None = _setting("MAX_TOKENS", _whole(1, 1_000_000))
    temperature_ceiling: float = _setting("TEMPERATURE_CEILING", _number(0, 2), default=2.0)
    max_tokens_ceiling: int = _setting("MAX_TOKENS_CEILING", _whole(1, 1_000_000), default=32_768)
    locked_settings: tuple[str, ...] = _setting("LOCKED_SETTINGS", _words, default=())
    greeting: str = _setting("CHAT_GREETING", _text, default="Hello! How can I help you today?")
    anonymous_chat: bool = _setting("ANONYMOUS_CHAT", _flag, default=False)

    rate_limits: bool = _setting("RATE_LIMITS", _flag, default=True)
    trusted_proxies: tuple[str, ...] = _setting("TRUSTED_PROXIES", _networks, default=())
    cors_origins: tuple[str, ...] = _setting("CORS_ORIGINS", _origins, default=())
    max_body_bytes: int = _setting("MAX_BODY_BYTES", _whole(1024, 64 << 20), default=1 << 20)
    log_level: str = _setting("LOG_LEVEL", str.upper, default="INFO")
    drain_s: int = _setting("DRAIN_SECONDS", _whole(0, 600), default=10)

    #: Whether somebody said which environment this is; the development header needs it.
    environment_is_explicit: bool = False

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
        values.update({name: value for name, value in overrides.items() if value is not None})
        if not problems:
            settings = cls(**values, environment_is_explicit=explicit)
            problems = _contradictions(settings)
        if problems:
            raise SetupError(*problems)
        return settings

    @property
    def production(self) -> bool:
        """Whether unsafe conveniences are refused."""
        return self.environment == "production"

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
    except _Refused as refused:
        problems.append(f"{first} {refused}.")
    except ValueError:  # whose text may quote the value, which may be a secret
        problems.append(f"{first} cannot be read.")


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
    }
)


def _contradictions(settings: Settings) -> list[str]:
    """What is wrong with the settings taken together."""
    found = [*_shape_problems(settings), *_header_problems(settings)]
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
    known = {"embedded"} | ({"supabase"} if _has_supabase(settings) else set())
    if settings.primary_issuer and settings.primary_issuer not in known:
        problems.append(f"PRIMARY_ISSUER must be one of {', '.join(sorted(known))}.")
    return problems


def _has_supabase(settings: Settings) -> bool:
    return bool(settings.supabase_project_url or settings.supabase_jwt_secret)


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
    return all(host in _LOOPBACK or host.startswith("/") for host in hosts)


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
    if settings.supabase_jwt_secret in PUBLISHED_SECRETS:
        problems.append("SUPABASE_JWT_SECRET is a published default: anybody can sign with it.")
    url = settings.supabase_project_url
    if url is not None and not url.startswith("https://"):
        problems.append("SUPABASE_PROJECT_URL must be https in production.")
    return problems
