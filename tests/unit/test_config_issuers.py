"""Settings of issuers: what belongs together, what contradicts, and what each one becomes."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from chatkeep.config import OpenIdProvider, Settings
from chatkeep.discovery import Discovery
from chatkeep.errors import SetupError
from chatkeep.issuers import Issuer, better_auth_issuer, openid_issuer, supabase_issuer
from chatkeep.jwks import JwksClient
from chatkeep.opening import open_gate
from tests.settings import PRODUCTION, SECRET, problems_of

OTHER_SECRET = SECRET[::-1]
OIDC = {"OIDC_ISSUER": "https://login.example", "OIDC_AUDIENCE": "chat"}
OKTA = {
    "OIDC_ISSUERS": "okta",
    "OIDC_OKTA_ISSUER": "https://o.example",
    "OIDC_OKTA_AUDIENCE": "chat",
}


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"BETTER_AUTH_SECRET": SECRET}, "BETTER_AUTH_SECRET needs BETTER_AUTH_URL."),
        ({"BETTER_AUTH_AUDIENCE": "x"}, "BETTER_AUTH_AUDIENCE needs BETTER_AUTH_URL."),
        (
            {"BETTER_AUTH_DATABASE_URL": "postgres://db.example/x"},
            "BETTER_AUTH_DATABASE_URL needs BETTER_AUTH_URL.",
        ),
        ({"BETTER_AUTH_ISSUER": "x"}, "BETTER_AUTH_ISSUER needs BETTER_AUTH_URL, for the keys"),
        (
            {"BETTER_AUTH_URL": "https://a.example", "BETTER_AUTH_SECRET": "short"},
            "BETTER_AUTH_SECRET must have at least 32 bytes.",
        ),
        ({"BETTER_AUTH_URL": "auth.example"}, "BETTER_AUTH_URL must be an address"),
        ({"BETTER_AUTH_URL": "https://a.example/?x=1"}, "BETTER_AUTH_URL must not contain"),
        ({"OIDC_ISSUER": "https://login.example"}, "OIDC_AUDIENCE must be set"),
        ({"OIDC_AUDIENCE": "chat"}, "OIDC_AUDIENCE needs OIDC_ISSUER."),
        ({"OIDC_ROLES_CLAIM": "groups"}, "OIDC_ROLES_CLAIM needs OIDC_ISSUER."),
        ({**OIDC, "OIDC_CLIENT_ID": "chat"}, "OIDC_AUDIENCE must not be OIDC_CLIENT_ID"),
        ({**OIDC, "OIDC_CLIENT_SECRET": "x"}, "OIDC_CLIENT_SECRET needs OIDC_CLIENT_ID."),
        ({**OIDC, "OIDC_ISSUER": "login.example"}, "OIDC_ISSUER must be an address"),
        ({"OIDC_ISSUERS": "Okta"}, "OIDC_ISSUERS must list different names"),
        ({"OIDC_ISSUERS": "okta,okta"}, "OIDC_ISSUERS must list different names"),
        ({"OIDC_ISSUERS": "1st"}, "OIDC_ISSUERS must list different names"),
        ({"OIDC_ISSUERS": "okta"}, "OIDC_OKTA_ISSUER must be set, because"),
        ({"OIDC_OKTA_ISSUER": "https://x.example"}, "OIDC_OKTA_ISSUER belongs to no name"),
        (
            {**OKTA, "OIDC_OKTA_ROLE_CLAIM": "groups"},
            "OIDC_OKTA_ROLE_CLAIM is no setting of a name in OIDC_ISSUERS: there are ISSUER,",
        ),
        ({"PRIMARY_ISSUER": "oidc"}, "PRIMARY_ISSUER must be one of embedded."),
        ({**OIDC, "PRIMARY_ISSUER": "okta"}, "PRIMARY_ISSUER must be one of embedded, oidc."),
        (
            {
                "BETTER_AUTH_URL": "https://a.example",
                "BETTER_AUTH_SECRET": SECRET,
                "SUPABASE_JWT_SECRET": SECRET,
            },
            "SUPABASE_JWT_SECRET and BETTER_AUTH_SECRET must not be the same.",
        ),
        (
            {"CHATKEEP_SECRET": SECRET, "SUPABASE_JWT_SECRET": SECRET},
            "CHATKEEP_SECRET and SUPABASE_JWT_SECRET must not be the same.",
        ),
    ],
)
def test_what_is_wrong_with_an_issuer_is_named(environ: dict[str, str], problem: str) -> None:
    """At the start, by the setting's name, without its value where that is a secret."""
    found = problems_of(environ)
    assert any(one.startswith(problem) for one in found), found
    assert SECRET not in "".join(found)


@pytest.mark.parametrize("name", ["supabase", "better-auth", "embedded", "oidc", "development"])
def test_provider_cannot_have_the_name_of_another_issuer(name: str) -> None:
    """Its people would be taken for that one's."""
    own = f"OIDC_{name.upper().replace('-', '_')}"
    environ = {
        "OIDC_ISSUERS": name,
        f"{own}_ISSUER": "https://x.example",
        f"{own}_AUDIENCE": "chat",
    }
    assert f"OIDC_ISSUERS must not use the name {name}." in problems_of(environ)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"BETTER_AUTH_URL": "http://a.example"}, "BETTER_AUTH_URL must be https in production."),
        ({**OIDC, "OIDC_ISSUER": "http://l.example"}, "OIDC_ISSUER must be https in production."),
        (
            {**OIDC, "OIDC_JWKS_URL": "http://l.example/k"},
            "OIDC_JWKS_URL must be https in production.",
        ),
        (
            {
                "OIDC_ISSUERS": "okta",
                "OIDC_OKTA_ISSUER": "http://o.example",
                "OIDC_OKTA_AUDIENCE": "chat",
            },
            "OIDC_OKTA_ISSUER must be https in production.",
        ),
        (
            {
                "BETTER_AUTH_URL": "https://a.example",
                "BETTER_AUTH_SECRET": "better-auth-secret-12345678901234567890",
            },
            "BETTER_AUTH_SECRET is a published default: anybody can sign with it.",
        ),
    ],
)
def test_unsafe_issuer_is_refused_in_production(environ: dict[str, str], problem: str) -> None:
    """Refused, not warned about; in development it is let be."""
    assert problem in problems_of({**PRODUCTION, **environ})
    Settings.from_env(environ)


def test_providers_have_settings_of_their_own_each() -> None:
    """A dash in a name is an underscore in its settings; what is not said has its default."""
    environ = {
        **OIDC,
        "OIDC_ISSUERS": "okta, partner-login",
        "OIDC_OKTA_ISSUER": "https://example.okta.com/oauth2/default",
        "OIDC_OKTA_AUDIENCE": "api://chat",
        "OIDC_OKTA_ROLES_CLAIM": "realm_access roles",
        "OIDC_PARTNER_LOGIN_ISSUER": "https://login.partner.example/",
        "OIDC_PARTNER_LOGIN_AUDIENCE": "chat",
        "OIDC_PARTNER_LOGIN_CLIENT_ID": "web",
        "OIDC_PARTNER_LOGIN_CLIENT_SECRET": "hunter2",
        "OIDC_PARTNER_LOGIN_JWKS_URL": "",
    }
    settings = Settings.from_env(environ)
    plain, okta, partner = settings.openid_providers
    assert plain == OpenIdProvider(name="oidc", issuer="https://login.example", audience="chat")
    assert okta.roles_claim == ("realm_access", "roles")
    assert (partner.name, partner.issuer) == ("partner-login", "https://login.partner.example/")
    assert partner.client_secret == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(openid_issuer(partner, production=False))
    assert settings.issuer_names == ("oidc", "okta", "partner-login", "embedded")


def test_provider_may_have_a_name_with_which_another_setting_begins() -> None:
    """OIDC_CLIENT_ID is that of the provider without a name, also beside one called client."""
    environ = {
        **OIDC,
        "OIDC_CLIENT_ID": "web",
        "OIDC_ISSUERS": "client",
        "OIDC_CLIENT_ISSUER": "https://c.example",
        "OIDC_CLIENT_AUDIENCE": "shop",
        "OIDC_CLIENT_CLIENT_ID": "app",
    }
    plain, client = Settings.from_env(environ).openid_providers
    assert (plain.client_id, client.client_id) == ("web", "app")


def test_every_configured_issuer_can_be_the_primary_one() -> None:
    """And the first of them is, unless said otherwise."""
    environ = {
        **OIDC,
        "SUPABASE_JWT_SECRET": SECRET,
        "BETTER_AUTH_URL": "https://auth.example",
        "OIDC_ISSUERS": "okta",
        "OIDC_OKTA_ISSUER": "https://o.example",
        "OIDC_OKTA_AUDIENCE": "chat",
    }
    names = Settings.from_env(environ).issuer_names
    assert names == ("supabase", "better-auth", "oidc", "okta", "embedded")
    for name in names:
        assert Settings.from_env({**environ, "PRIMARY_ISSUER": name}).primary_issuer == name


async def test_gate_has_every_configured_issuer_and_one_primary() -> None:
    """In an application that has nothing but settings."""
    environ = {
        **OIDC,
        "SUPABASE_JWT_SECRET": SECRET,
        "BETTER_AUTH_URL": "https://auth.example",
        "BETTER_AUTH_DATABASE_URL": "postgresql://127.0.0.1:1/x",
    }
    for wanted in ("", "better-auth", "oidc"):
        async with AsyncExitStack() as stack:
            settings = Settings.from_env({**environ, "PRIMARY_ISSUER": wanted})
            gate = await open_gate(stack, settings)
            assert [one.name for one in gate.issuers] == ["supabase", "better-auth", "oidc"]
            primary = [one.name for one in gate.issuers if one.primary]
            assert primary == [wanted or "supabase"]


async def test_two_issuers_of_one_name_are_refused() -> None:
    """Whose a token is could not be told."""
    environ = {
        **OIDC,
        "OIDC_ISSUERS": "twin",
        "OIDC_TWIN_ISSUER": OIDC["OIDC_ISSUER"],
        "OIDC_TWIN_AUDIENCE": "x",
    }
    async with AsyncExitStack() as stack:
        with pytest.raises(SetupError, match="the same iss"):
            await open_gate(stack, Settings.from_env(environ))
        with pytest.raises(SetupError, match="No issuer is configured"):
            await open_gate(stack, Settings.from_env({}))


def key_address(issuer: Issuer) -> str:
    """Return where the keys of *issuer* are fetched."""
    assert isinstance(issuer.keys, JwksClient)
    return issuer.keys.url


@pytest.mark.parametrize(
    ("url", "iss", "keys"),
    [
        (
            "https://auth.example",
            "https://auth.example",
            "https://auth.example/api/auth/jwks",
        ),
        (
            "https://auth.example/api/auth",
            "https://auth.example",
            "https://auth.example/api/auth/jwks",
        ),
        (
            "https://Auth.example:443/login",
            "https://auth.example",
            "https://Auth.example:443/login/jwks",
        ),
        ("http://[::1]:3000", "http://[::1]:3000", "http://[::1]:3000/api/auth/jwks"),
    ],
)
def test_address_of_better_auth_is_read_as_better_auth_reads_it(
    url: str, iss: str, keys: str
) -> None:
    """With or without the path under which it serves; its tokens name the origin."""
    issuer = better_auth_issuer(url=url, secret=None, production=False)
    assert (issuer.rules.iss, *issuer.rules.audiences) == (iss, iss)
    assert key_address(issuer) == keys
    assert issuer.endpoints.revoke_url == keys.replace("/jwks", "/sign-out")
    assert issuer.secret is None


def test_issuer_and_audience_of_better_auth_can_be_its_own() -> None:
    """As its JWT plugin was told; with only a secret there are no keys to fetch."""
    own = better_auth_issuer(
        url="https://auth.example", secret=SECRET, issuer="people", production=True
    )
    assert own.rules.iss == "people"
    assert own.rules.audiences == {"people", "https://auth.example"}
    chat = better_auth_issuer(
        url=None, secret=SECRET, issuer="people", audience="chat", production=True
    )
    assert chat.rules.audiences == {"chat"}
    assert chat.keys is None
    for secret in (None, SECRET):
        with pytest.raises(SetupError, match="Better Auth needs BETTER_AUTH_URL"):
            better_auth_issuer(url=None, secret=secret, production=True)


def test_where_an_issuer_renews_and_revokes_is_known() -> None:
    """By its preset; an OpenID provider says it itself."""
    project = "https://abc.supabase.example"
    supabase = supabase_issuer(project_url=project, jwt_secret=None, production=True)
    assert supabase.endpoints.refresh_url == f"{project}/auth/v1/token?grant_type=refresh_token"
    assert supabase.endpoints.revoke_url == f"{project}/auth/v1/logout"
    said = OpenIdProvider(name="okta", issuer="https://o.example/", audience="x", client_id="web")
    okta = openid_issuer(said, production=True)
    assert okta.endpoints.client_id == "web"
    assert isinstance(okta.endpoints.discovery, Discovery)
    assert (okta.rules.iss, key_address(okta)) == ("https://o.example/", "https://o.example/")
    with pytest.raises(ValueError, match="https"):
        openid_issuer(
            OpenIdProvider(name="okta", issuer="http://o.example", audience="x"), production=True
        )
