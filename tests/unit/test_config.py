"""Settings: read once, checked together, and silent about secrets."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from chatkeep.config import PUBLISHED_SECRETS, Secret, Settings
from tests.settings import PRODUCTION, SECRET, problems_of


def test_nothing_set_is_a_good_setting() -> None:
    """Without any setting there is a server on this machine, for development."""
    settings = Settings.from_env({})
    assert (settings.environment, settings.base_url) == ("development", "http://127.0.0.1:8000")
    assert settings.data_folder == Path(".chatkeep")
    assert not settings.production
    assert not settings.environment_is_explicit


def test_empty_values_count_as_not_set() -> None:
    """A line `NAME=` in a file changes nothing."""
    assert Settings.from_env({"PORT": "", "OPENAI_API_KEY": ""}) == Settings.from_env({})


def test_all_problems_are_told_at_once() -> None:
    """One start shows everything that is wrong, each with the setting's name."""
    found = problems_of({"PORT": "eighty", "RATE_LIMITS": "perhaps", "TEMPERATURE": "3"})
    assert [problem.split()[0] for problem in found] == ["PORT", "RATE_LIMITS", "TEMPERATURE"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "staging"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "\uff18\uff10"),
        ("PORT", "-1"),
        ("WORKERS", "1.5"),
        ("TEMPERATURE", "nan"),
        ("TOP_P", "inf"),
        ("TOP_P", "0"),
        ("PUBLIC_URL", "chat.example"),
        ("PUBLIC_URL", "ftp://chat.example"),
        ("PUBLIC_URL", "https://ana:pw@chat.example"),
        ("PUBLIC_URL", "https://chat.example/?a=b"),
        ("PUBLIC_URL", "https://[::1"),
        ("PUBLIC_URL", "https://chat.example:99999"),
        ("CORS_ORIGINS", "https://a.example/path"),
        ("CORS_ORIGINS", "*"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("DATABASE_URL", "mysql://db.example/chat"),
        ("DATABASE_URL", "postgresql://[db.example/chat"),
        ("DATABASE_URL", "postgresql://ana:a#b@db.example/chat"),
        ("DATABASE_URL", "postgresql://ana:a/b@db.example/chat"),
        ("DATABASE_URL", "postgresql://ana:a?b@db.example/chat"),
        ("DATABASE_URL", "postgresql://ana:a@b@db.example/chat"),
        ("CHATKEEP_SECRET", "short"),
        ("CHATKEEP_SECRET", "ab" * 32),
        ("CHATKEEP_SECRET", SECRET + "\n"),
        ("CHATKEEP_DATA", "a\0b"),
        ("SUPABASE_JWT_SECRET", "too-short-for-hs256"),
        ("LOG_LEVEL", "loud"),
        ("LOCKED_SETTINGS", "temperature,colour"),
        ("PRIMARY_ISSUER", "supabase"),
        ("CHAT_GREETING", "Hello\x1b[2J"),
    ],
)
def test_bad_value_is_refused_by_name(name: str, value: str) -> None:
    """A value that cannot be meant is one sentence that begins with the setting's name."""
    (problem,) = problems_of({name: value})
    assert problem.startswith(name)
    assert problem.endswith(".")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHATKEEP_SECRET", "hunter2"),
        ("SUPABASE_JWT_SECRET", "hunter2"),
        ("DATABASE_URL", "mysql://ana:hunter2@db.example/chat"),
        ("DATABASE_URL", "postgresql://ana:hunter2@[db.example/chat"),
        ("DATABASE_URL", "postgresql://ana:hunter2#b@db.example/chat"),
        ("OPENAI_API_KEY", " hunter2"),
    ],
)
def test_complaints_never_quote_a_secret(name: str, value: str) -> None:
    """Problems end up in logs; the values of secrets must not."""
    assert "hunter2" not in " ".join(problems_of({name: value}))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ana:a%23b%2Fc%40d@db.example/chat",
        "postgres://ana@db.example:5432/chat?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem",
        "postgresql://db-1.example:5432,db-2.example/chat?target_session_attrs=read-write",
        "postgresql://ana@[::1]:5432/chat",
        "postgresql://ana@%2Frun%2Fpostgresql/chat",
        "postgresql:///chat?host=/run/postgresql",
    ],
)
def test_addresses_of_databases(url: str) -> None:
    """Whatever libpq understands: several hosts, sockets, and signs that were encoded."""
    assert Settings.from_env({"DATABASE_URL": url}).database_url == url


def test_two_names_for_one_setting_must_agree() -> None:
    """`DATABASE_URL` and `SUPABASE_DB_URL` mean the same; saying two things is refused."""
    one, other = "postgresql://a@db/x", "postgresql://b@db/x"
    agreed = Settings.from_env({"DATABASE_URL": one, "SUPABASE_DB_URL": one})
    assert agreed.database_url == one
    (problem,) = problems_of({"DATABASE_URL": one, "SUPABASE_DB_URL": other})
    assert "DATABASE_URL and SUPABASE_DB_URL" in problem


def test_options_of_the_command_line_win() -> None:
    """An option that is given wins over the environment, one that is not changes nothing."""
    settings = Settings.from_env({"PORT": "9000", "HOST": "::1"}, port=9001, host=None)
    assert settings.base_url == "http://[::1]:9001"


def test_listening_everywhere_is_not_an_address_to_open() -> None:
    """What people are told to open leads somewhere."""
    assert Settings.from_env({"HOST": "0.0.0.0"}).base_url == "http://127.0.0.1:8000"


def test_secrets_do_not_show() -> None:
    """Neither a secret nor the settings that hold it print its value."""
    settings = Settings.from_env({**PRODUCTION, "OPENROUTER_API_KEY": "sk-or-hunter2"})
    for text in (repr(settings), f"{settings!s}", repr(Secret("hunter2"))):
        assert "hunter2" not in text
        assert SECRET not in text


def test_settings_reach_worker_processes_whole() -> None:
    """Settings survive the way to another process, secrets included."""
    settings = Settings.from_env(PRODUCTION)
    copy = pickle.loads(pickle.dumps(settings))  # noqa: S301 -- made in the line itself
    assert copy == settings
    assert repr(copy.secret) == repr(settings.secret)


def test_production_starts_when_everything_is_safe() -> None:
    """A complete set of settings is accepted, and NODE_ENV is understood."""
    assert Settings.from_env(PRODUCTION).production
    renamed = {**PRODUCTION, "NODE_ENV": "production"}
    del renamed["ENVIRONMENT"]
    assert Settings.from_env(renamed).production


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PUBLIC_URL", "", "PUBLIC_URL"),
        ("PUBLIC_URL", "http://chat.example", "PUBLIC_URL"),
        ("CHATKEEP_SECRET", "", "CHATKEEP_SECRET"),
        ("RATE_LIMITS", "off", "RATE_LIMITS"),
        ("SUPABASE_JWT_SECRET", min(PUBLISHED_SECRETS), "SUPABASE_JWT_SECRET"),
        ("SUPABASE_PROJECT_URL", "http://supabase.example", "SUPABASE_PROJECT_URL"),
        ("DEVELOPMENT_USER_HEADER", "on", "DEVELOPMENT_USER_HEADER"),
    ],
)
def test_production_refuses_what_is_unsafe(name: str, value: str, says: str) -> None:
    """What is convenient in development keeps a production server from starting."""
    assert any(says in problem for problem in problems_of({**PRODUCTION, name: value}))


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"ENVIRONMENT": "development", "HOST": "0.0.0.0"},
        {"ENVIRONMENT": "development", "DATABASE_URL": "postgresql://a@db.example/x"},
        {"ENVIRONMENT": "development", "DATABASE_URL": "postgresql:///x?host=db.example"},
        {"ENVIRONMENT": "development", "DATABASE_URL": "postgresql:///x?hostaddr=192.0.2.1"},
        {"ENVIRONMENT": "development", "DATABASE_URL": "postgresql://localhost,db.example/x"},
    ],
)
def test_development_header_needs_a_machine_of_ones_own(environ: dict[str, str]) -> None:
    """Who may call without a token is said twice, and only where nobody else can reach it."""
    assert problems_of({**environ, "DEVELOPMENT_USER_HEADER": "on"})


@pytest.mark.parametrize("url", ["", "postgresql://a@localhost/x", "postgresql:///x?host=/run/pg"])
def test_development_header_on_ones_own_machine(url: str) -> None:
    """On loopback, with a database here, and said explicitly, it is there."""
    environ = {"ENVIRONMENT": "development", "DATABASE_URL": url, "DEVELOPMENT_USER_HEADER": "on"}
    assert Settings.from_env(environ).development_user_header
