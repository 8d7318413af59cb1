"""The token service: the same verdicts under three prefixes, for every issuer's tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.serving import token

if TYPE_CHECKING:
    from tests.serving import Node

PREFIXES = ["/auth", "/api/auth", ""]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
async def test_good_token_is_valid_and_says_when_it_ends(
    node: Node, prefix: str, algorithm: str
) -> None:
    """Every member that was promised, from the body or as a bearer, without signing in."""
    sub, now = str(uuid4()), int(time.time())
    text = token(node.project, sub, algorithm)
    in_body = await node.nobody().post(f"{prefix}/token/validate", {"token": text})
    as_bearer = await node.nobody(authorization=f"Bearer {text}").post(f"{prefix}/token/validate")
    assert in_body.status == as_bearer.status == 200
    for found in (in_body.json, as_bearer.json):
        assert (found["valid"], found["expired"], found["needs_refresh"]) == (True, False, False)
        assert (found["user_id"], found["issuer"]) == (sub, "supabase")
        assert found["expires_at"] - found["issued_at"] == 3600
        assert abs(found["expires_in"] - 3600) <= 5
        assert abs(found["issued_at"] - now) <= 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 1_700_000_000, "iat": 1_699_999_000}, "expired"),
        ({"nbf": 4_000_000_000}, "not_active"),
        ({"aud": "somebody-else"}, "wrong_audience"),
        ({"exp": ...}, "no_expiry"),
        ({"cnf": {"jkt": "x"}}, "invalid"),
        ({"iss": "https://elsewhere.example/auth/v1"}, "invalid"),
    ],
)
async def test_bad_token_says_which_kind_of_bad(
    node: Node, changes: dict[str, Any], reason: str
) -> None:
    """The category, and nothing of what the token claims."""
    text = token(node.project, "ana", "ES256", **changes)
    found = (await node.nobody().post("/auth/token/validate", {"token": text})).json
    assert found["valid"] is False
    assert found["reason"] == reason
    assert found["user_id"] is None
    if reason == "expired":
        assert (found["expired"], found["needs_refresh"]) == (True, True)
        assert (found["expires_at"], found["issued_at"]) == (1_700_000_000, 1_699_999_000)
        assert found["expires_in"] < 0


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_token_about_to_end_should_be_refreshed_and_marks_every_answer(
    node: Node, prefix: str
) -> None:
    """Within the window: `needs_refresh`, and `X-Token-Expiring` where it is used."""
    now = int(time.time())
    text = token(node.project, "ana", iat=now - 3500, exp=now + 100)
    found = (await node.nobody().post(f"{prefix}/token/check-expiry", {"token": text})).json
    assert (found["expired"], found["needs_refresh"]) == (False, True)
    assert set(found) == {"expired", "expires_at", "expires_in", "needs_refresh"}
    used = await node.nobody(authorization=f"Bearer {text}").get("/api/v1/chat")
    assert used.headers["x-token-expiring"] == "true"
    fresh = await node.person().client.get("/api/v1/chat")
    assert "x-token-expiring" not in fresh.headers


@pytest.mark.parametrize("body", [{}, {"token": ""}, None])
async def test_request_without_a_token_is_malformed(node: Node, body: object) -> None:
    """Nothing to judge is a 400, not a verdict."""
    answer = await node.nobody().post("/auth/token/validate", body)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "text", ["x", "a.b.c", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "." * 5000]
)
async def test_no_text_breaks_the_verdict(node: Node, text: str) -> None:
    """Garbage is an invalid token and never a failure."""
    found = await node.nobody().post("/auth/token/validate", {"token": text})
    assert (found.status, found.json["reason"]) == (200, "invalid")


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_me_says_who_calls(node: Node, prefix: str) -> None:
    """The members that were promised, and a 401 for nobody."""
    metadata = {"full_name": "Ana Example", "avatar_url": "https://pictures.example/ana"}
    ana = node.person(email="ana@example.com", user_metadata=metadata)
    found = (await ana.client.get(f"{prefix}/me")).json
    assert found.pop("session_id")
    assert found == {
        "id": ana.id,
        "email": "ana@example.com",
        "name": "Ana Example",
        "picture": "https://pictures.example/ana",
        "email_verified": False,
        "issuer": "supabase",
    }
    assert (await node.nobody().get(f"{prefix}/me")).status == 401
