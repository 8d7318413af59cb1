"""What stands around signing in: envelopes, bodies, public documents, and what is not offered."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from chatkeep.sign_in import password_accounts
from tests.gotrue_people import OURS_ALONE, PASSWORD, code_of, sign_up, signed_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.conftest import StartNode
    from tests.serving import Client, Node

NODE_SETTINGS = OURS_ALONE
VERSION = "x-supabase-api-version"
SIGN_IN = "/auth/v1/token?grant_type=password"
JSON = {"content-type": "application/json"}


async def test_clients_that_name_no_version_get_the_older_envelope(caller: Client) -> None:
    """A number, a code and a message, under their older names."""
    answer = await caller.post(SIGN_IN, {"email": "nobody@example.com", "password": "x"})
    assert answer.json == {
        "code": 400,
        "error_code": "invalid_credentials",
        "msg": "Invalid login credentials",
    }
    assert answer.headers["x-sb-error-code"] == "invalid_credentials"
    assert VERSION not in answer.headers


async def test_clients_that_name_a_version_get_the_dated_envelope(caller: Client) -> None:
    """Code and message, and the version said back, without which clients ignore the code."""
    for version in ("2024-01-01", "2025-06-30"):
        answer = await caller.but(**{VERSION: version}).post(
            SIGN_IN, {"email": "nobody@example.com", "password": "x"}
        )
        assert answer.json == {
            "code": "invalid_credentials",
            "message": "Invalid login credentials",
        }
        assert answer.headers[VERSION] == "2024-01-01"


@pytest.mark.parametrize("version", ["2023-12-31", "tomorrow", "", "2024-1-1", "9"])
async def test_strange_versions_get_the_older_envelope(caller: Client, version: str) -> None:
    """What is no date, or one before the first version, names none."""
    answer = await caller.but(**{VERSION: version}).get("/auth/v1/user")
    assert answer.json["error_code"] == "no_authorization"


async def test_weak_password_says_why_in_both_envelopes(caller: Client) -> None:
    """The reasons stand beside the code."""
    body = {"email": "ana@example.com", "password": "123"}
    older = (await caller.post("/auth/v1/signup", body)).json
    dated = (await caller.but(**{VERSION: "2024-01-01"}).post("/auth/v1/signup", body)).json
    assert older["weak_password"] == dated["weak_password"] == {"reasons": ["length"]}
    assert (older["error_code"], dated["code"]) == ("weak_password", "weak_password")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"email":',
        b"nonsense",
        b'{"email": NaN}',
        b"\xef\xbb\xbf{}",
        '{"email": "x"}'.encode("utf-16"),
        b'{"email": "\\ud800"}',
    ],
)
async def test_what_is_no_json_is_bad_json(caller: Client, body: bytes) -> None:
    """Unparsable bodies are refused on every route that reads one."""
    session = await sign_up(caller)
    for method, path in (
        ("POST", "/auth/v1/signup"),
        ("POST", SIGN_IN),
        ("POST", "/auth/v1/token?grant_type=refresh_token"),
        ("PUT", "/auth/v1/user"),
    ):
        answer = await signed_in(caller, session).call(method, path, data=body, headers=JSON)
        assert code_of(answer) == (400, "bad_json")


@pytest.mark.parametrize(
    "body",
    [
        b'{"email": "\xff"}',
        b'{"data":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"data":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    ],
)
async def test_what_no_reader_follows_is_bad_json(caller: Client, body: bytes) -> None:
    """Bytes that are no text, and nesting without end, are refused where they would be read."""
    answer = await caller.call("POST", "/auth/v1/signup", data=body, headers=JSON)
    assert code_of(answer) == (400, "bad_json")


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null", b'{"email": 1e400}'])
async def test_json_of_another_shape_is_invalid(caller: Client, body: bytes) -> None:
    """JSON that is no such object is refused."""
    answer = await caller.call("POST", "/auth/v1/signup", data=body, headers=JSON)
    assert code_of(answer) == (400, "validation_failed")


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/x+json",
        "",
    ],
)
async def test_forms_are_not_taken(caller: Client, media_type: str) -> None:
    """What a page of somebody else could send by itself is refused."""
    body = json.dumps({"email": "ana@example.com", "password": PASSWORD}).encode()
    answer = await caller.call(
        "POST", "/auth/v1/signup", data=body, headers={"content-type": media_type}
    )
    assert code_of(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies_are_refused(caller: Client, node: Node, chunked: bool) -> None:
    """Whether the length is announced or not, and the server is well after."""
    body = json.dumps({"email": "a", "data": {"x": "y" * (2 << 20)}}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1 << 16):
            yield body[start : start + (1 << 16)]

    async with node.session.post(
        f"{node.url}/auth/v1/signup", data=pieces() if chunked else BytesIO(body), headers=JSON
    ) as answer:
        assert answer.status == 413
        assert (await answer.json())["error_code"] == "request_entity_too_large"
    assert (await caller.get("/auth/v1/health")).status == 200


async def test_plain_http_is_refused_in_production(start: StartNode) -> None:
    """In the words of this surface, before anything is read."""
    strict = await start(
        ENVIRONMENT="production", PUBLIC_URL="https://chat.example", RATE_LIMITS="on", **OURS_ALONE
    )
    answer = await strict.nobody().post(SIGN_IN, {"email": "a", "password": "b"})
    assert code_of(answer) == (403, "insecure_transport")


async def test_published_keys_are_public_members_only(caller: Client) -> None:
    """Public members only, and ten minutes in caches."""
    answer = await caller.but(authorization=None).get("/auth/v1/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=600"
    (key,) = answer.json["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use", "key_ops"}


async def test_health_and_settings_answer_everybody(caller: Client) -> None:
    """Both answer everybody, and say what is really offered."""
    health = (await caller.get("/auth/v1/health")).json
    assert set(health) == {"version", "name", "description"}
    settings = (await caller.get("/auth/v1/settings")).json
    assert [name for name, offered in settings["external"].items() if offered] == ["email"]
    assert (settings["disable_signup"], settings["mailer_autoconfirm"]) == (False, True)
    assert {"phone_autoconfirm", "sms_provider", "saml_enabled"} < set(settings)


async def test_browsers_may_call_from_elsewhere(caller: Client) -> None:
    """The preflight allows what Supabase clients send, and errors are readable across origins."""
    wanted = "apikey,authorization,content-type,x-client-info,x-supabase-api-version"
    origin = {"origin": "http://app.example"}
    allowed = await caller.call(
        "OPTIONS",
        SIGN_IN,
        headers={
            **origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": wanted,
        },
    )
    assert allowed.status == 200
    names = {
        one.strip().lower() for one in allowed.headers["access-control-allow-headers"].split(",")
    }
    assert set(wanted.split(",")) <= names
    refused = await caller.call("GET", "/auth/v1/user", headers=origin)
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] in {"*", "http://app.example"}
    assert VERSION in refused.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "authorize?provider=google", (400, "validation_failed")),
        ("POST", "sso", (404, "sso_provider_disabled")),
        ("GET", "sso/saml/metadata", (404, "saml_provider_disabled")),
        ("POST", "sso/saml/acs", (404, "saml_provider_disabled")),
        ("GET", "reauthenticate", (401, "no_authorization")),
        ("POST", "factors", (401, "no_authorization")),
        ("GET", "user/identities/authorize?provider=google", (401, "no_authorization")),
        ("GET", "admin/users", (401, "no_authorization")),
        ("POST", "invite", (401, "no_authorization")),
        ("GET", "nowhere", (404, "not_found")),
        ("GET", ".well-known/nowhere", (404, "not_found")),
        ("DELETE", "user", (405, "method_not_allowed")),
        ("GET", "token", (405, "method_not_allowed")),
    ],
)
async def test_what_is_not_offered_says_so(
    caller: Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    """Routes of Supabase Auth that are not here refuse everybody alike, in its own codes."""
    body = {"email": "ana@example.com"} if method == "POST" else None
    assert code_of(await caller.call(method, f"/auth/v1/{path}", json=body)) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "user/oauth/grants", (404, "feature_disabled")),
        ("GET", "admin/users", (403, "not_admin")),
        ("POST", "admin/generate_link", (403, "not_admin")),
        ("POST", "invite", (403, "not_admin")),
    ],
)
async def test_what_is_not_offered_to_people(
    caller: Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    """Who is signed in learns what is missing, and may not administer."""
    here = signed_in(caller, await sign_up(caller))
    assert code_of(await here.call(method, f"/auth/v1/{path}")) == expected


async def test_secret_key_learns_what_is_not_offered_to_it(caller: Client, node: Node) -> None:
    """Only the right secret key gets that far."""
    secret = node.services.embedded.supabase_keys.secret
    answer = await caller.but(authorization=f"Bearer {secret}").get("/auth/v1/admin/sso/providers")
    assert code_of(answer) == (404, "feature_disabled")
    answer = await caller.but(authorization=f"Bearer {secret}x").get("/auth/v1/admin/users")
    assert code_of(answer) == (403, "bad_jwt")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "otp", (422, "otp_disabled")),
        ("POST", "magiclink", (422, "otp_disabled")),
        ("POST", "recover", (404, "feature_disabled")),
        ("POST", "resend", (404, "feature_disabled")),
        ("GET", "reauthenticate", (404, "feature_disabled")),
    ],
)
async def test_server_without_mail_does_not_pretend(
    start: StartNode, method: str, path: str, expected: tuple[int, str]
) -> None:
    """In production without a mail server nothing answers as if a mail were on its way."""
    mute = await start(
        ENVIRONMENT="production",
        PUBLIC_URL="https://chat.example.com",
        TRUSTED_PROXIES="127.0.0.1",
        RATE_LIMITS="on",
        **OURS_ALONE,
    )
    caller = mute.nobody(**{"x-forwarded-proto": "https"})
    here = signed_in(caller, await sign_up(caller, f"{path}@mute.example.com"))
    body = {"email": "ana@example.com", "type": "signup"} if method == "POST" else None
    assert code_of(await here.call(method, f"/auth/v1/{path}", json=body)) == expected


async def test_wrong_method_says_which_are_right(caller: Client) -> None:
    """The answer lists the methods (RFC 9110 section 15.5.6)."""
    answer = await caller.delete("/auth/v1/user")
    assert answer.headers["allow"] == "GET, PUT"


async def test_document_describes_every_body(caller: Client) -> None:
    """The OpenAPI document has the bodies of the routes that read one."""
    paths = (await caller.get("/openapi.json")).json["paths"]
    for path, method in (("signup", "post"), ("token", "post"), ("user", "put")):
        described = paths[f"/auth/v1/{path}"][method]
        assert "application/json" in described["requestBody"]["content"]
        assert "400" in described["responses"]
    assert "/auth/v1/{rest}" not in paths


async def test_failure_of_ours_is_worded_here_too(
    caller: Client, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unforeseen failure is a bare 500 that clients retry, and says nothing of its cause."""
    monkeypatch.delattr(password_accounts, "sign_in")
    answer = await caller.post(SIGN_IN, {"email": "ana@example.com", "password": "x"})
    assert code_of(answer) == (500, "unexpected_failure")
    assert "sign_in" not in answer.text
