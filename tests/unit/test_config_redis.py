"""Where Redis may be, and that what goes there stays inside or is encrypted."""

from __future__ import annotations

import pytest

from chatkeep.config import Settings
from chatkeep.errors import SetupError

PRODUCTION = {
    "ENVIRONMENT": "production",
    "PUBLIC_URL": "https://chat.example.com",
    "CHATKEEP_SECRET": "0123456789abcdef0123456789abcdef",
}


def problems(url: str, **environ: str) -> str:
    """Return what is said against *url*."""
    try:
        Settings.from_env({"REDIS_URL": url, **environ})
    except SetupError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:hunter2@[::1]:6379/3",
        "rediss://user:hunter2@cache.example.com:6380/0?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock",
    ],
)
def test_address_of_redis_is_taken_and_shown_nowhere(url: str) -> None:
    """They are taken as they are, and shown nowhere."""
    settings = Settings.from_env({"REDIS_URL": url})
    assert settings.redis_url == url
    assert url not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://:hunter2@host:port",
        "redis://[::1",
        "unix://",
        "redis://host:0",
        "redis://host?retry_on_timeout=1",
        "rediss://host?ssl_unknown=1",
        "rediss://host?ssl_cert_reqs=perhaps",
    ],
)
def test_what_is_no_address_of_redis(url: str) -> None:
    """It is refused at the start, by name."""
    said = problems(url)
    assert "REDIS_URL must" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("redis://:hunter2@cache.example.com:6379", False),
        ("redis://203.0.114.7", False),
        ("redis://8.8.8.8", False),
        ("redis://notlocal", True),
        ("redis://evil.internal.example.com", False),
        ("redis://10.0.0.5", True),
        ("redis://[fd00::5]", True),
        ("redis://localhost", True),
        ("redis://redis.cache.svc", True),
        ("redis://cache.internal", True),
        ("rediss://cache.example.com", True),
        ("unix:///run/redis.sock", True),
    ],
)
def test_production_wants_it_encrypted_or_inside(url: str, *, fine: bool) -> None:
    """In the clear only where no stranger listens."""
    assert (problems(url, **PRODUCTION) == "") is fine
