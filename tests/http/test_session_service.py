"""Renewing, logging out and ending by id, the same under three prefixes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

PREFIXES = ["/auth", "/api/auth", ""]
COOKIE = "chatkeep_refresh"


async def signed_up(node: Node) -> tuple[Client, dict[str, Any]]:
    """Return somebody new with a session of ours, and the tokens of it."""
    body = {"email": f"{uuid4()}@example.com", "password": "Correct-Horse-42"}
    grant: dict[str, Any] = (await node.nobody().post("/auth/v1/signup", body)).json
    return node.nobody(authorization=f"Bearer {grant['access_token']}"), grant


def bearer(node: Node, answer: Answer) -> Client:
    """Return whoever was given the tokens of *answer*."""
    return node.nobody(authorization=f"Bearer {answer.json['access_token']}")


def cookie_of(answer: Answer) -> str:
    """Return the value of the refresh cookie that *answer* sets."""
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    assert name == COOKIE
    return value


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_refresh_token_in_the_body_is_exchanged(node: Node, prefix: str) -> None:
    """Every member that was promised, the same person and session, and no cookie."""
    client, grant = await signed_up(node)
    body = {"refresh_token": grant["refresh_token"]}
    answer = await node.nobody().post(f"{prefix}/token/refresh", body)
    assert answer.status == 200
    assert set(answer.json) == {
        *("access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"),
    }
    assert answer.json["token_type"] == "bearer"
    assert answer.json["refresh_token"] != grant["refresh_token"]
    assert answer.json["user"] == (await client.get("/auth/me")).json
    assert (await bearer(node, answer).get("/auth/me")).json == answer.json["user"]
    assert "set-cookie" not in answer.headers


async def test_refresh_cookie_is_rotated_and_its_value_is_in_no_body(node: Node) -> None:
    """Asked for once, it works by itself from then on."""
    _, grant = await signed_up(node)
    browser, route = node.nobody(origin=node.url), "/auth/token/refresh"
    first = await browser.post(route, {"refresh_token": grant["refresh_token"], "cookie": True})
    second = await browser.but(cookie=f"{COOKIE}={cookie_of(first)}").post(route)
    assert (first.status, second.status) == (200, 200)
    assert cookie_of(second) != cookie_of(first)
    for answer in (first, second):
        assert answer.json["refresh_token"] is None
        assert cookie_of(answer) not in answer.text
        attributes = answer.headers["set-cookie"].lower().split("; ")[1:]
        assert {"httponly", "samesite=strict", "path=/", "max-age=604800"} <= set(attributes)
        assert not any(one.startswith("domain") for one in attributes)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
        ({"origin": "its own"}, 200),
    ],
)
async def test_refresh_cookie_of_another_sites_request_is_refused(
    node: Node, headers: dict[str, str], status: int
) -> None:
    """And the session stays as it was."""
    _, grant = await signed_up(node)
    client = node.nobody(cookie=f"{COOKIE}={grant['refresh_token']}")
    sent = {**headers, "origin": node.url} if status == 200 else headers
    answer = await client.call("POST", "/auth/token/refresh", headers=sent)
    assert answer.status == status


async def test_what_is_no_refresh_token_is_malformed(node: Node) -> None:
    """400; two cookies of the name, or a cookie and a body that differ, are refused too."""
    _, grant = await signed_up(node)
    nobody, route, mine = node.nobody(), "/auth/token/refresh", grant["refresh_token"]
    for body in ({}, {"refresh_token": ""}, {"refresh_token": "x"}, {"refresh_token": "ü" * 300}):
        assert (await nobody.post(route, body)).status == 400, body
    twice = nobody.but(cookie=f"{COOKIE}={mine}; {COOKIE}=x", origin=node.url)
    assert (await twice.post(route)).status == 401
    differing = nobody.but(cookie=f"{COOKIE}={mine}", origin=node.url)
    another = mine[:-5] + ("A" if mine[-5] != "A" else "B") + mine[-4:]
    answer = await differing.post(route, {"refresh_token": another})
    assert (answer.status, answer.json["code"]) == (400, "credentials_conflict")
    assert (await nobody.post(route, {"refresh_token": mine})).status == 200


async def test_hundred_parallel_refreshes_leave_one_session(node: Node) -> None:
    """All get the same successor, and it works."""
    _, grant = await signed_up(node)
    body = {"refresh_token": grant["refresh_token"]}
    answers = await asyncio.gather(
        *(node.nobody().post("/auth/token/refresh", body) for _ in range(100))
    )
    granted = [one for one in answers if one.status == 200]
    assert {one.status for one in answers} <= {200, 503}
    assert len({one.json["refresh_token"] for one in granted}) == 1
    assert all("retry-after" in one.headers for one in answers if one.status == 503)
    body = {"refresh_token": granted[0].json["refresh_token"]}
    assert (await node.nobody().post("/auth/token/refresh", body)).status == 200


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_log_out_ends_the_session_and_clears_the_browser(node: Node, prefix: str) -> None:
    """Neither token works any more, the cookies are taken back, and so is what was kept."""
    client, grant = await signed_up(node)
    answer = await client.post(f"{prefix}/logout")
    assert (answer.status, answer.json) == (200, {"success": True, "revoked": True})
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert "storage" in answer.headers["clear-site-data"]
    assert (await client.get("/auth/me")).status == 401
    body = {"refresh_token": grant["refresh_token"]}
    assert (await node.nobody().post("/auth/token/refresh", body)).status == 401
    assert (await client.post(f"{prefix}/logout")).status == 401


@pytest.mark.parametrize("names", [{}, {"session_id": ...}, {"session_id": ..., "jti": "one"}])
async def test_foreign_issuers_session_is_logged_out_here(
    node: Node, names: dict[str, Any]
) -> None:
    """Known by its session, by its token's id, or by a hash of what was signed."""
    client = node.person(**names).client
    assert (await client.post("/auth/logout")).json == {"success": True, "revoked": True}
    assert (await client.get("/auth/me")).status == 401


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_session_is_ended_by_its_id(node: Node, prefix: str) -> None:
    """One's own, by the id that `/auth/me` says; nobody else's, whoever asks."""
    mine, _ = await signed_up(node)
    theirs, _ = await signed_up(node)
    session_id = (await theirs.get("/auth/me")).json["session_id"]
    route = f"{prefix}/session/revoke"
    foreign = await mine.post(route, {"session_id": session_id})
    unknown = await mine.post(route, {"session_id": str(uuid4())})
    assert (foreign.status, foreign.json["detail"]) == (404, unknown.json["detail"])
    assert (await theirs.get("/auth/me")).status == 200
    own = await theirs.post(route, {"session_id": session_id})
    assert own.json == {"success": True, "revoked": True}
    assert (await theirs.get("/auth/me")).status == 401


async def test_log_out_is_known_on_another_node_after_a_refresh(
    node: Node, start: StartNode
) -> None:
    """Tokens of every generation of the session end with it."""
    other = await start()
    client, grant = await signed_up(node)
    body = {"refresh_token": grant["refresh_token"]}
    renewed = bearer(node, await node.nobody().post("/auth/token/refresh", body))
    assert (await client.post("/auth/logout")).status == 200
    await other.services.embedded.revocations.catch_up()
    for one in (client, renewed):
        assert (await one.but(url=other.url).get("/auth/me")).status == 401


async def test_one_session_logs_out_once_however_often_it_is_sent_at_once(
    node: Node, database: MigratedDatabase
) -> None:
    """Refresh tokens that were logged out are remembered for over a year: one for a session."""
    remembered = "select count(*) from chatkeep.revocations where subject like 'refresh:%%'"
    (before,) = database.operate(remembered)[0]
    eve = node.person().client
    await eve.get("/auth/me")
    answers = await asyncio.gather(
        *[eve.post("/auth/logout", {"refresh_token": f"made-up-{n}"}) for n in range(20)]
    )
    assert {one.status for one in answers} <= {200, 401}
    assert all(one.json["revoked"] for one in answers if one.status == 200)
    (after,) = database.operate(remembered)[0]
    assert after - before == 1
    assert (await eve.get("/auth/me")).status == 401
