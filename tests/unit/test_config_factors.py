"""Settings of second factors and passkeys, and which domain keys belong to."""

from __future__ import annotations

import pytest

from chatkeep.config import Settings
from chatkeep.factors.ceremonies import RelyingParty
from tests.settings import PRODUCTION, problems_of


@pytest.mark.parametrize(
    ("environ", "domain", "origins"),
    [
        ({}, "localhost", ("http://localhost:8000",)),
        ({"HOST": "::1", "PORT": "9000"}, "localhost", ("http://localhost:9000",)),
        (
            {"PUBLIC_URL": "https://chat.example.com"},
            "chat.example.com",
            ("https://chat.example.com",),
        ),
        (
            {"PUBLIC_URL": "https://chat.example.com", "WEBAUTHN_RP_ID": "example.com"},
            "example.com",
            ("https://chat.example.com",),
        ),
        (
            {
                "PUBLIC_URL": "https://auth.example.net",
                "WEBAUTHN_RP_ID": "example.com",
                "WEBAUTHN_ORIGINS": "https://app.example.com,https://example.com",
            },
            "example.com",
            ("https://app.example.com", "https://example.com"),
        ),
    ],
    ids=str,
)
def test_keys_belong_to_the_domain_people_use(
    environ: dict[str, str], domain: str, origins: tuple[str, ...]
) -> None:
    """Unless it is set, it is that of `PUBLIC_URL`, or of the developer's machine."""
    party = RelyingParty.of(Settings.from_env(environ))
    assert party == RelyingParty(id=domain, origins=origins)


def test_address_is_no_domain() -> None:
    """A server that is known by its address has no keys."""
    settings = Settings.from_env({"PUBLIC_URL": "https://192.0.2.1"})
    assert RelyingParty.of(settings) is None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"MFA_REQUIRED": "some"}, "MFA_REQUIRED"),
        ({"PASSKEYS": "perhaps"}, "PASSKEYS"),
        ({"WEBAUTHN_RP_ID": "https://example.com"}, "WEBAUTHN_RP_ID"),
        ({"WEBAUTHN_RP_ID": "Example.com"}, "WEBAUTHN_RP_ID"),
        ({"WEBAUTHN_RP_ID": "192.0.2.1"}, "WEBAUTHN_RP_ID"),
        ({"WEBAUTHN_RP_ID": "example.com"}, "WEBAUTHN_RP_ID"),
        ({"WEBAUTHN_ORIGINS": "https://example.com/path"}, "WEBAUTHN_ORIGINS"),
        ({"WEBAUTHN_ORIGINS": "https://example.com"}, "WEBAUTHN_ORIGINS"),
        (
            {
                "PUBLIC_URL": "https://example.com",
                "WEBAUTHN_ORIGINS": "https://example.com.evil.example",
            },
            "WEBAUTHN_ORIGINS",
        ),
        (
            {"PUBLIC_URL": "https://example.com", "WEBAUTHN_ORIGINS": "https://evilexample.com"},
            "WEBAUTHN_ORIGINS",
        ),
        ({**PRODUCTION, "WEBAUTHN_ORIGINS": "http://chat.example"}, "WEBAUTHN_ORIGINS"),
    ],
    ids=str,
)
def test_what_no_browser_would_take_is_refused(environ: dict[str, str], named: str) -> None:
    """Origins outside the domain of the keys would never work, so the start says it."""
    assert [one.split()[0] for one in problems_of(environ)] == [named]
