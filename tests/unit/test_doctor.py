"""What doctor says of the settings alone: an application's own code, and the proxy."""

from __future__ import annotations

import pytest

from chatkeep.config import Settings
from chatkeep.setup_checks.doctor import examine_encryption, examine_extensions, examine_proxy

PRODUCTION = {
    "ENVIRONMENT": "production",
    "PUBLIC_URL": "https://chat.example.com",
    "CHATKEEP_SECRET": "0123456789abcdef" * 2,
}


@pytest.mark.parametrize("setting", ["TOOLS", "RESPONDER", "CLAIMS", "ACCESS_TOKEN_HOOK"])
def test_extension_that_cannot_be_imported_is_named(setting: str) -> None:
    """Before a start fails with it, and by its setting."""
    found = examine_extensions(Settings.from_env({setting: "nowhere.at_all:it"}))
    (problem,) = found.problems
    assert problem.startswith(f"{setting}: nowhere.at_all:it cannot be imported")


def test_extensions_that_are_good_are_listed() -> None:
    """So that whoever set one sees that it was read; a function in PostgreSQL is no module."""
    environ = {"ACCESS_TOKEN_HOOK": "pg:hooks.customize", "CLAIMS": "chatkeep.claims:STANDARD"}
    found = examine_extensions(Settings.from_env(environ))
    assert found.is_good
    assert found.note == "CLAIMS=chatkeep.claims:STANDARD, ACCESS_TOKEN_HOOK=pg:hooks.customize"
    assert "TOOLS" in examine_extensions(Settings.from_env({})).note


def test_production_without_a_proxy_is_told() -> None:
    """Nobody could get in: plain HTTP is refused there."""
    without = examine_proxy(Settings.from_env(PRODUCTION))
    assert without is not None
    assert "TRUSTED_PROXIES" in without.problems[0]
    behind = examine_proxy(Settings.from_env({**PRODUCTION, "TRUSTED_PROXIES": "10.0.0.0/8"}))
    assert behind is not None
    assert behind.is_good
    assert "10.0.0.0/8" in behind.note


def test_development_needs_no_proxy() -> None:
    """Nothing is said about what nobody needs."""
    assert examine_proxy(Settings.from_env({})) is None


@pytest.mark.parametrize(
    ("host", "encrypted", "good"),
    [
        ("db.example.com", True, True),
        ("db.example.com", False, False),
        ("9.9.9.9", False, False),
        ("10.0.0.7", False, True),
        ("db.internal", False, True),
        ("/run/postgresql", False, True),
        ("::1", False, True),
        ("2a00:1450::1", False, False),
    ],
)
def test_database_that_others_can_listen_to_is_said(
    host: str, *, encrypted: bool, good: bool
) -> None:
    """Over a public network it is to be encrypted; within a private one that is a choice."""
    found = examine_encryption(host, encrypted=encrypted)
    assert found.is_good == good
    assert good or "sslmode" in found.problems[0]
