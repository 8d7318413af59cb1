"""Settings of providers to sign in with: what belongs together, and what contradicts."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chatkeep.config import Settings
from tests.settings import PRODUCTION, problems_of

GOOGLE = {"SIGN_IN_GOOGLE_CLIENT_ID": "web,ios", "SIGN_IN_GOOGLE_CLIENT_SECRET": "hunter2"}
ACME = {
    "SIGN_IN_PROVIDERS": "acme",
    "SIGN_IN_ACME_ISSUER": "https://login.acme.example/",
    "SIGN_IN_ACME_CLIENT_ID": "chat",
    "SIGN_IN_ACME_CLIENT_SECRET": "hunter2",
}


def pem(curve: SECP256R1 | SECP384R1) -> str:
    """Return a new private key as a file holds it."""
    key = generate_private_key(curve)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


APPLE = {
    "SIGN_IN_APPLE_CLIENT_ID": "com.example.web",
    "SIGN_IN_APPLE_TEAM_ID": "TEAM",
    "SIGN_IN_APPLE_KEY_ID": "KEY",
    "SIGN_IN_APPLE_PRIVATE_KEY": pem(SECP256R1()).replace("\n", "\\n"),
}


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"SIGN_IN_GOOGLE_CLIENT_SECRET": "x"}, "SIGN_IN_GOOGLE_CLIENT_SECRET needs SIGN_IN_GOOG"),
        ({"SIGN_IN_GOOGLE_CLIENT_ID": "x"}, "SIGN_IN_GOOGLE_CLIENT_SECRET must be set, because"),
        ({"SIGN_IN_GITHUB_CLIENT_ID": "x"}, "SIGN_IN_GITHUB_CLIENT_SECRET must be set, because"),
        ({"SIGN_IN_APPLE_KEY_ID": "x"}, "SIGN_IN_APPLE_KEY_ID needs SIGN_IN_APPLE_CLIENT_ID."),
        ({**APPLE, "SIGN_IN_APPLE_TEAM_ID": ""}, "SIGN_IN_APPLE_TEAM_ID must be set, because"),
        ({**APPLE, "SIGN_IN_APPLE_PRIVATE_KEY": "x"}, "SIGN_IN_APPLE_PRIVATE_KEY must be the tex"),
        (
            {**APPLE, "SIGN_IN_APPLE_PRIVATE_KEY": pem(SECP384R1())},
            "SIGN_IN_APPLE_PRIVATE_KEY must be the text of the .p8 file",
        ),
        ({"SIGN_IN_PROVIDERS": "acme"}, "SIGN_IN_ACME_ISSUER must be set, because acme is named."),
        ({"SIGN_IN_PROVIDERS": "google"}, "SIGN_IN_PROVIDERS must not use the name google."),
        ({"SIGN_IN_PROVIDERS": "email"}, "SIGN_IN_PROVIDERS must not use the name email."),
        ({"SIGN_IN_PROVIDERS": "Acme"}, "SIGN_IN_PROVIDERS must list different names"),
        ({"SIGN_IN_SHOP_ISSUER": "https://x.example"}, "SIGN_IN_SHOP_ISSUER belongs to no name"),
        ({**ACME, "SIGN_IN_ACME_SCOPE": "x"}, "SIGN_IN_ACME_SCOPE is no setting of a name in SIG"),
        (
            {**GOOGLE, "SIGN_IN_GOOGLE_CLIENT_IDS": "x"},
            "SIGN_IN_GOOGLE_CLIENT_IDS is no setting: there are SIGN_IN_GOOGLE_CLIENT_ID, SIGN_IN",
        ),
        ({"SIGN_IN_GITHUB_SCOPES": "x"}, "SIGN_IN_GITHUB_SCOPES is no setting: there are SIGN_IN_"),
        ({**ACME, "SIGN_IN_ACME_SCOPES": "email"}, "SIGN_IN_ACME_SCOPES must contain openid."),
        ({**ACME, "SIGN_IN_ACME_ISSUER": "x"}, "SIGN_IN_ACME_ISSUER must be an address"),
        (
            {**ACME, **GOOGLE, "SIGN_IN_ACME_ISSUER": "https://accounts.google.com"},
            "Two providers to sign in with have the same issuer",
        ),
        (
            {**PRODUCTION, **ACME, "SIGN_IN_ACME_ISSUER": "http://login.acme.example"},
            "SIGN_IN_ACME_ISSUER must be https in production.",
        ),
    ],
)
def test_contradictions_are_told_at_start(environ: dict[str, str], problem: str) -> None:
    """By the settings' names, and no secret among it."""
    found = problems_of(environ)
    assert any(one.startswith(problem) for one in found), found
    assert "hunter2" not in str(found)


def test_providers_are_what_the_settings_say() -> None:
    """The presets first, each with what is its own."""
    settings = Settings.from_env({**ACME, **APPLE, **GOOGLE, "SIGN_IN_ACME_TITLE": "ACME Inc."})
    google, apple, acme = settings.sign_in_providers
    assert (google.name, google.issuer) == ("google", "https://accounts.google.com")
    assert google.client_ids == ("web", "ios")
    assert "www.googleapis.com" in google.hosts
    assert (apple.kind, apple.team_id) == ("apple", "TEAM")
    assert str(apple.client_secret).startswith("-----BEGIN PRIVATE KEY-----\n")
    assert (acme.title, acme.issuer) == ("ACME Inc.", "https://login.acme.example/")
    assert acme.scopes == ("openid", "email", "profile")
    assert "hunter2" not in repr(settings)


def test_provider_may_be_called_like_a_preset_and_more() -> None:
    """GitHub and a GitHub at work have settings of their own each, and so has what is misspelt."""
    environ = {
        "SIGN_IN_GITHUB_CLIENT_ID": "web",
        "SIGN_IN_GITHUB_CLIENT_SECRET": "hunter2",
        "SIGN_IN_PROVIDERS": "github-at-work",
        "SIGN_IN_GITHUB_AT_WORK_ISSUER": "https://git.example",
        "SIGN_IN_GITHUB_AT_WORK_CLIENT_ID": "chat",
        "SIGN_IN_GITHUB_AT_WORK_CLIENT_SECRET": "hunter3",
    }
    names = [one.name for one in Settings.from_env(environ).sign_in_providers]
    assert names == ["github", "github-at-work"]
    (problem,) = problems_of({**environ, "SIGN_IN_GITHUB_AT_WORK_SCOPE": "x"})
    assert problem.startswith("SIGN_IN_GITHUB_AT_WORK_SCOPE is no setting of a name in SIGN_IN_P")


def test_google_elsewhere_is_trusted_on_its_own_host_alone() -> None:
    """A stand-in has no right to Google's hosts."""
    settings = Settings.from_env({**GOOGLE, "SIGN_IN_GOOGLE_ISSUER": "http://127.0.0.1:9"})
    (google,) = settings.sign_in_providers
    assert google.hosts == ()
