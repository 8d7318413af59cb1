"""Browsers signed in by a cookie: how one gets it, keeps it, and loses it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import psycopg
import pytest

from chatkeep.db import AUTH
from chatkeep.ended_credentials import everything_of
from chatkeep.sessions.cookie_tokens import SessionOwner, SessionTokens, cookie_name
from tests.serving import Client, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.principal import Principal
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Node

PREFIXES = ["/auth", "/api/auth", ""]
COOKIE = cookie_name(production=False)
PASSWORD = "Correct-Horse-42"
PUBLIC = "https://chat.example"
DAY = 86_400.0


class Older(Protocol):
    """Gives a browser the token that its session had some time ago."""

    async def __call__(
        self, browser: Browser, ago: float, on: Node = ..., ends_in: float = ...
    ) -> None:
        """Issue it by a clock that is *ago* seconds late; the session ends in *ends_in*."""


class Browser:
    """A browser on a page of the server: it keeps the session cookie and sends its origin."""

    def __init__(self, node: Node, **headers: str) -> None:
        self.client = node.nobody(origin=node.url, **headers)
        self.cookie: str | None = None

    async def call(self, method: str, path: str, json: object = None, **headers: str) -> Answer:
        """Send a request, and do with the cookie what the answer says."""
        kept = {} if self.cookie is None else {"cookie": f"{COOKIE}={self.cookie}"}
        answer = await self.client.call(method, path, json=json, headers={**kept, **headers})
        line = answer.headers.get("set-cookie", "")
        if line.startswith(f"{COOKIE}="):
            self.cookie = line.partition(";")[0].partition("=")[2] or None
        return answer

    async def me(self) -> Answer:
        """Ask who is signed in."""
        return await self.call("GET", "/auth/me")


async def new_account(node: Node) -> dict[str, Any]:
    """Make an account; return its address and the tokens of its first session."""
    email = f"{uuid4()}@example.com"
    data = {"full_name": "Ana Example"}
    body = {"email": email, "password": PASSWORD, "data": data}
    grant: dict[str, Any] = (await node.nobody().post("/auth/v1/signup", body)).json
    return {**grant, "email": email}


async def signed_in(node: Node, prefix: str = "/auth", **headers: str) -> tuple[Browser, str]:
    """Return the browser of somebody new, and their address."""
    email = (await new_account(node))["email"]
    browser = Browser(node, **headers)
    body = {"email": email, "password": PASSWORD}
    answer = await browser.call("POST", f"{prefix}/sign-in", body)
    assert answer.status == 200, answer.text
    return browser, email


def set_cookie(answer: Answer) -> tuple[str, str, set[str]]:
    """Return name, value and attributes of the cookie that *answer* sets."""
    pair, *attributes = answer.headers["set-cookie"].split("; ")
    name, _, value = pair.partition("=")
    return name, value, set(attributes)


def rows(database: MigratedDatabase, **where: object) -> list[dict[str, Any]]:
    """Return the sessions with these values, as an operator sees them."""
    with psycopg.connect(database.admin_url, row_factory=psycopg.rows.dict_row) as connection:
        found = connection.execute("select * from public.user_sessions").fetchall()
    return [one for one in found if where.items() <= one.items()]


def age(database: MigratedDatabase, session_id: str, **by: float) -> None:
    """Make a session older, as if it had begun and been used *by* before."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "update public.user_sessions set created_at = created_at - %(by)s,"
            " expires_at = expires_at - %(by)s, last_activity_at = last_activity_at - %(by)s"
            " where id = %(id)s",
            {"by": timedelta(**by), "id": session_id},
        )


@pytest.fixture
async def older(node: Node) -> AsyncIterator[Older]:
    """What was made for it is closed after the test."""
    made: list[SessionTokens] = []

    async def issue(
        browser: Browser, ago: float, on: Node = node, ends_in: float = 30 * DAY
    ) -> None:
        who = await on.services.session_tokens.read(browser.cookie or "")
        embedded = on.services.embedded
        late = SessionTokens(
            on.services.db,
            on.services.settings,
            on.services.session_tokens.versions,
            issuer=embedded.issuer,
            signing_keys=embedded.signing_keys,
            clock=lambda: time.time() - ago,
        )
        made.append(late)
        owner = SessionOwner(
            user_id=who.user_id,
            issuer=who.issuer,
            subject=who.subject,
            session_id=str(who.claims["sid"]),  # type: ignore[arg-type]  # as the token has it
            reference=who.claims.get("ref"),  # type: ignore[arg-type]  # a text, if any
            ends_at=datetime.now(UTC) + timedelta(seconds=ends_in),
            email=who.email,
        )
        browser.cookie = (await late.issue(owner)).token

    yield issue
    for one in made:
        await one.close()


# --- signing in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_password_signs_the_browser_in(node: Node, prefix: str) -> None:
    """The cookie is all it takes from then on; the body says who and until when."""
    email = (await new_account(node))["email"]
    browser = Browser(node)
    body = {"email": email.upper(), "password": PASSWORD}
    answer = await browser.call("POST", f"{prefix}/sign-in", body)
    assert answer.status == 200
    assert set(answer.json) == {"user", "session_id", "expires_at", "expires_in"}
    assert abs(answer.json["expires_in"] - 7 * DAY) < 10
    me = await browser.me()
    assert (me.status, me.json) == (200, answer.json["user"])
    assert (me.json["email"], me.json["name"]) == (email, "Ana Example")
    assert me.json["session_id"] == answer.json["session_id"]
    assert (await browser.call("GET", "/api/v1/chat")).status == 200
    assert (await browser.call("POST", "/api/v1/chat/start", {})).status == 200


async def test_cookie_is_as_safe_as_cookies_get(start: StartNode) -> None:
    """D01: `__Host-`, Secure, HttpOnly, the whole path, no domain, seven days, in no body."""
    node = await start(
        ENVIRONMENT="production",
        PUBLIC_URL=PUBLIC,
        TRUSTED_PROXIES="127.0.0.1",
        SUPABASE_PROJECT_URL="https://project.example",
        RATE_LIMITS="on",
    )
    https = {"host": "chat.example", "x_forwarded_proto": "https", "x_forwarded_for": "192.0.2.1"}
    client = node.nobody(**https, origin=PUBLIC)
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD}
    grant = (await client.post("/auth/v1/signup", body)).json
    bearer = {"authorization": f"Bearer {grant['access_token']}"}
    for answer in (
        await client.post("/auth/sign-in", body),
        await client.post("/auth/session", headers=bearer),
    ):
        assert answer.status == 200, answer.text
        name, value, attributes = set_cookie(answer)
        assert name == "__Host-chatkeep_session"
        assert attributes >= {"Path=/", "HttpOnly", "Secure", "SameSite=Lax"}
        assert not any(one.lower().startswith("domain") for one in attributes)
        (max_age,) = (one for one in attributes if one.startswith("Max-Age="))
        assert 7 * DAY - 10 < int(max_age.removeprefix("Max-Age=")) <= 7 * DAY
        assert len(answer.headers["set-cookie"]) < 4096
        assert value not in answer.text
        assert answer.headers["cache-control"] == "no-store"
        sent = {"cookie": f"{name}={value}"}
        assert (await client.get("/auth/me", headers=sent)).json["email"] == body["email"]
    plain = client.but(x_forwarded_proto="http")
    assert (await plain.post("/auth/sign-in", body)).json["code"] == "insecure_transport"


async def test_session_is_a_row_like_every_other(node: Node, database: MigratedDatabase) -> None:
    """Listed with its device and address, the token as a hash, and ended by its id."""
    browser, _ = await signed_in(
        node, **{"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
    )
    listed = (await browser.call("GET", "/api/sessions")).json["sessions"]
    (here,) = [one for one in listed if one["current"]]
    assert (here["device"], here["address"]) == ("Firefox on Linux", "127.0.0.1")
    (row,) = rows(database, issuer="embedded", device="Firefox on Linux")
    assert str(row["id"]) == here["id"]
    assert len(row["session_token"]) == 64
    assert row["session_token"] not in (browser.cookie or "")
    assert (await browser.call("DELETE", f"/api/sessions/{here['id']}")).status == 204
    assert (await browser.me()).json["code"] == "token_revoked"


async def test_operators_plain_update_ends_it(node: Node, database: MigratedDatabase) -> None:
    """And the browser is told to forget a cookie that has ended for good."""
    browser, _ = await signed_in(node)
    session_id = (await browser.me()).json["session_id"]
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("update user_sessions set is_active = false where id = %s", [session_id])
    await node.services.embedded.revocations.catch_up()
    answer = await browser.me()
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert browser.cookie is None
    assert (await browser.me()).json["code"] == "unauthenticated"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"password": "wrong horse"}, 400),
        ({"email": "nobody@example.com"}, 400),
        ({"email": ""}, 422),
        ({"password": ""}, 422),
        ({"role": "admin"}, 422),
    ],
    ids=str,
)
async def test_who_does_not_prove_it_is_not_signed_in(
    node: Node, body: dict[str, str], status: int
) -> None:
    """The same answer for a wrong password and for nobody, and no cookie."""
    email = (await new_account(node))["email"]
    browser = Browser(node)
    answer = await browser.call(
        "POST", "/auth/sign-in", {"email": email, "password": PASSWORD, **body}
    )
    assert answer.status == status
    assert "set-cookie" not in answer.headers
    if status == 400:
        assert answer.json["code"] == "invalid_credentials"


# --- in exchange for a bearer -------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
async def test_bearer_of_another_issuer_is_exchanged(
    node: Node, prefix: str, algorithm: str
) -> None:
    """The same person, the same session, by cookie from then on; no name is in a cookie."""
    ana = node.person(algorithm)
    browser = Browser(node)
    answer = await browser.call("POST", f"{prefix}/session", **ana.client.headers)
    assert answer.status == 200, answer.text
    by_cookie, by_bearer = (await browser.me()).json, (await ana.client.get("/auth/me")).json
    assert by_cookie == {**by_bearer, "name": None, "picture": None}
    assert (by_cookie["id"], by_cookie["issuer"]) == (ana.id, "supabase")


@pytest.mark.parametrize("by", ["cookie", "bearer", "list"])
@pytest.mark.parametrize("names", [{}, {"session_id": ...}, {"session_id": ..., "jti": "one"}])
async def test_ending_either_ends_both(node: Node, by: str, names: dict[str, Any]) -> None:
    """A foreign session and the cookie made of it are one: logged out once, gone twice."""
    ana = node.person(**(names | ({"jti": str(uuid4())} if "jti" in names else {})))
    browser = Browser(node)
    assert (await browser.call("POST", "/auth/session", **ana.client.headers)).status == 200
    kept = browser.cookie
    match by:
        case "cookie":
            assert (await browser.call("POST", "/auth/logout")).status == 200
        case "bearer":
            assert (await ana.client.post("/auth/logout")).status == 200
        case _:
            (listed,) = (await ana.client.get("/api/sessions")).json["sessions"]
            assert listed["current"]
            assert (await ana.client.delete(f"/api/sessions/{listed['id']}")).status == 204
    browser.cookie = kept
    assert (await browser.me()).json["code"] == "token_revoked"
    assert (await ana.client.get("/auth/me")).json["code"] == "token_revoked"
    again = await browser.call("POST", "/auth/session", **ana.client.headers)
    assert (again.status, again.json["code"]) == (401, "token_revoked")


async def test_bearer_of_our_own_keeps_its_session(node: Node) -> None:
    """No second session, and log-out of the one is log-out of the other."""
    grant = await new_account(node)
    bearer = {"authorization": f"Bearer {grant['access_token']}"}
    browser = Browser(node)
    assert (await browser.call("POST", "/auth/session", **bearer)).status == 200
    client = node.nobody(**bearer)
    assert len((await client.get("/api/sessions")).json["sessions"]) == 1
    assert (await client.post("/auth/v1/logout?scope=local")).status == 204
    assert (await browser.me()).json["code"] == "token_revoked"


async def test_exchange_never_outlives_the_longest_session(
    node: Node, database: MigratedDatabase
) -> None:
    """However often a foreign bearer of one session is exchanged (SESSION_LIFETIME)."""
    sub, session_id = str(uuid4()), str(uuid4())
    headers = {"authorization": f"Bearer {token(node.project, sub, session_id=session_id)}"}
    browser = Browser(node)
    assert (await browser.call("POST", "/auth/session", **headers)).status == 200
    (row,) = rows(database, reference=session_id)
    age(database, row["id"], days=29)
    answer = await browser.call("POST", "/auth/session", **headers)
    assert abs(answer.json["expires_in"] - DAY) < 60
    age(database, row["id"], days=1)
    again = await browser.call("POST", "/auth/session", **headers)
    assert (again.status, again.json["code"]) == (401, "token_revoked")


async def test_bearer_whose_everything_ends_while_it_is_exchanged_leaves_no_session(
    node: Node, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends it does not see the session yet that the exchange has just recorded."""
    ana = node.person(session_id=(session_id := str(uuid4())))
    revocations = node.services.embedded.revocations
    confirm = revocations.confirm

    async def later(who: Principal) -> None:
        await node.services.db.fetch_all(AUTH, everything_of(who.user_id))
        await confirm(who)

    monkeypatch.setattr(revocations, "confirm", later)
    answer = await Browser(node).call("POST", "/auth/session", **ana.client.headers)
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert "set-cookie" not in answer.headers
    assert [one["is_active"] for one in rows(database, reference=session_id)] == [False]


@pytest.mark.parametrize("bearer", [None, "garbage", "a.b.c"], ids=str)
async def test_nothing_but_a_good_bearer_is_exchanged(node: Node, bearer: str | None) -> None:
    """Neither nobody, nor a cookie, nor what does not verify."""
    browser, _ = await signed_in(node)
    headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
    answer = await browser.call("POST", "/auth/session", **headers)
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


# --- what the browser had before ----------------------------------------------------------------


@pytest.mark.parametrize("way", ["password", "bearer"])
async def test_planted_session_is_replaced_and_ended(node: Node, way: str) -> None:
    """C01: the victim gets a session of their own; the one that was fixed on them is a 401."""
    attacker, _ = await signed_in(node)
    planted = attacker.cookie
    victim = Browser(node)
    victim.cookie = planted
    grant = await new_account(node)
    if way == "password":
        body = {"email": grant["email"], "password": PASSWORD}
        answer = await victim.call("POST", "/auth/sign-in", body)
    else:
        bearer = f"Bearer {grant['access_token']}"
        answer = await victim.call("POST", "/auth/session", authorization=bearer)
    assert answer.status == 200
    assert victim.cookie != planted
    assert (await victim.me()).json["email"] == grant["email"]
    assert (await attacker.me()).json["code"] == "token_revoked"


async def test_sign_in_again_ends_the_session_before(node: Node) -> None:
    """C02: whoever was signed in here is not any more, also if it was the same person."""
    browser, email = await signed_in(node)
    first = browser.cookie
    await browser.call("POST", "/auth/sign-in", {"email": email, "password": PASSWORD})
    assert (await browser.me()).status == 200
    old = Browser(node)
    old.cookie = first
    assert (await old.me()).json["code"] == "token_revoked"


async def test_refresh_cookie_of_who_was_here_before_is_ended(node: Node) -> None:
    """C02: the other way in which somebody may have been signed in here ends as well."""
    before, mine = await new_account(node), await new_account(node)
    page = node.nobody(origin=node.url)
    asked = {"refresh_token": before["refresh_token"], "cookie": True}
    kept = (await page.post("/auth/token/refresh", asked)).headers["set-cookie"]
    browser = page.but(cookie=kept.partition(";")[0])
    body = {"email": mine["email"], "password": PASSWORD}
    assert (await browser.post("/auth/sign-in", body)).status == 200
    assert (await browser.post("/auth/token/refresh")).status == 401
    bearer = node.nobody(authorization=f"Bearer {before['access_token']}")
    assert (await bearer.get("/auth/me")).json["code"] == "token_revoked"


async def test_refresh_cookie_of_the_same_session_stays(node: Node) -> None:
    """A bearer that is exchanged beside its own refresh cookie keeps both."""
    mine = await new_account(node)
    page = node.nobody(origin=node.url)
    asked = {"refresh_token": mine["refresh_token"], "cookie": True}
    kept = (await page.post("/auth/token/refresh", asked)).headers["set-cookie"]
    browser = page.but(cookie=kept.partition(";")[0])
    bearer = {"authorization": f"Bearer {mine['access_token']}"}
    assert (await browser.post("/auth/session", headers=bearer)).status == 200
    assert (await browser.post("/auth/token/refresh")).status == 200


async def test_cookies_tossed_before_sign_in_are_all_ended(node: Node) -> None:
    """Two of the name at once: neither goes on, whichever the browser would have sent first."""
    one, _ = await signed_in(node)
    other, _ = await signed_in(node)
    email = (await new_account(node))["email"]
    answer = await node.nobody(
        origin=node.url, cookie=f"{COOKIE}={one.cookie}; {COOKIE}={other.cookie}"
    ).post("/auth/sign-in", {"email": email, "password": PASSWORD})
    assert answer.status == 200
    assert {(await each.me()).json["code"] for each in (one, other)} == {"token_revoked"}


# --- other sites --------------------------------------------------------------------------------

FOREIGN = [
    {},
    {"origin": "null"},
    {"origin": "https://evil.example"},
    {"origin": "https://chat.example.evil.example"},
    {"origin": "http://chat.example"},
    {"origin": "https://chat.example:8443"},
    {"origin": "https://sub.chat.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_login_csrf_is_refused(start: StartNode, headers: dict[str, str]) -> None:
    """D08: no other site signs a person in as somebody else, by password or by bearer."""
    node = await start(PUBLIC_URL=PUBLIC)
    grant = await new_account(node)
    body = {"email": grant["email"], "password": PASSWORD}
    bearer = {"authorization": f"Bearer {grant['access_token']}"}
    for answer in (
        await node.nobody().post("/auth/sign-in", body, headers=headers),
        await node.nobody().post("/auth/session", headers={**headers, **bearer}),
    ):
        assert (answer.status, answer.json["code"]) == (403, "cross_site_request")
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_logout_csrf_and_forged_writes_are_refused(
    start: StartNode, headers: dict[str, str]
) -> None:
    """D05, D08: a cookie alone ends no session and changes nothing when another site sends it."""
    node = await start(PUBLIC_URL=PUBLIC)
    ours = {"origin": PUBLIC}
    email = (await new_account(node))["email"]
    body = {"email": email, "password": PASSWORD}
    answer = await node.nobody().post("/auth/sign-in", body, headers=ours)
    name, value, _ = set_cookie(answer)
    victim = node.nobody(cookie=f"{name}={value}")
    for method, path, json in (
        ("POST", "/auth/logout", None),
        ("POST", "/auth/session/revoke", {"session_id": answer.json["session_id"]}),
        ("POST", "/api/sessions/revoke-all", None),
        ("DELETE", f"/api/sessions/{answer.json['session_id']}", None),
        ("PATCH", "/api/settings", {"theme": "dark"}),
    ):
        refused = await victim.call(method, path, json=json, headers=headers)
        assert (refused.status, refused.json["code"]) == (403, "cross_site_request"), path
        assert "set-cookie" not in refused.headers
    assert (await victim.get("/auth/me")).status == 200
    assert (await victim.get("/api/settings")).json["theme"] is None


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/x-www-form-urlencoded", "email={email}&password={password}"),
        ("text/plain", '{"email":"{email}","password":"{password}"}'),
        ("application/x+json", '{"email":"{email}","password":"{password}"}'),
        ("multipart/form-data; boundary=b", "--b\r\n\r\n--b--"),
        ("", '{"email":"{email}","password":"{password}"}'),
    ],
)
async def test_form_signs_nobody_in(node: Node, media_type: str, body: str) -> None:
    """D03, D04: what a form can send is a 415, from our own page too."""
    email = (await new_account(node))["email"]
    sent = body.replace("{email}", email).replace("{password}", PASSWORD).encode()
    headers = {"origin": node.url, "content-type": media_type}
    answer = await node.nobody().call("POST", "/auth/sign-in", data=sent, headers=headers)
    assert answer.status == 415
    assert "set-cookie" not in answer.headers


async def test_no_other_origin_reads_what_the_cookie_opens(start: StartNode) -> None:
    """D07: no answer to a cookie allows credentials, and none reflects an origin."""
    for listed in ("", "https://app.example"):
        node = await start(CORS_ORIGINS=listed)
        browser, _ = await signed_in(node)
        for origin in ("https://evil.example", "https://app.example", "null"):
            answer = await browser.call("GET", "/auth/me", origin=origin)
            assert "access-control-allow-credentials" not in answer.headers
            named = answer.headers.get("access-control-allow-origin")
            assert named in ({None, "https://app.example"} if listed else {"*"})


@pytest.mark.parametrize("path", ["/api/me/x.css", "/auth/me/x.css", "/auth/me.css"])
async def test_disguised_path_shows_nothing_and_nothing_is_cached(node: Node, path: str) -> None:
    """D10: a path dressed up as a style sheet is a 404, and no personal answer may be kept."""
    browser, email = await signed_in(node)
    disguised = await browser.call("GET", path)
    assert disguised.status == 404
    assert email not in disguised.text
    for real in ("/auth/me", "/api/v1/chat", "/api/settings", "/api/sessions"):
        assert (await browser.call("GET", real)).headers["cache-control"] == "no-store"


# --- how it ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_sign_out_clears_the_browser_and_ends_the_session(node: Node, prefix: str) -> None:
    """D11: the cookie is taken back, the browser forgets what it kept, a copy is worth nothing."""
    browser, _ = await signed_in(node, prefix)
    copy = Browser(node)
    copy.cookie = browser.cookie
    answer = await browser.call("POST", f"{prefix}/logout")
    assert (answer.status, answer.json) == (200, {"success": True, "revoked": True})
    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    assert (await copy.me()).json["code"] == "token_revoked"


async def test_after_seven_days_one_signs_in_again(node: Node, older: Older) -> None:
    """A 401 that says so, the cookie is taken back, and the password works as ever."""
    browser, email = await signed_in(node)
    await older(browser, 7 * DAY)
    answer = await browser.me()
    assert (answer.status, answer.json["code"]) == (401, "token_expired")
    assert browser.cookie is None
    body = {"email": email, "password": PASSWORD}
    assert (await browser.call("POST", "/auth/sign-in", body)).status == 200
    assert (await browser.me()).status == 200


async def test_use_renews_a_sliding_cookie_and_not_before_its_day(
    node: Node, older: Older, database: MigratedDatabase
) -> None:
    """Seven days from now, in the same session; a page's parallel requests renew it once."""
    browser, _ = await signed_in(node)
    session_id = (await browser.me()).json["session_id"]
    await older(browser, DAY - 60)
    assert "set-cookie" not in (await browser.me()).headers
    await older(browser, DAY + 60)
    age(database, session_id, seconds=DAY + 60)
    before = browser.cookie
    answer = await browser.me()
    assert (answer.status, browser.cookie != before) == (200, True)
    who = await node.services.session_tokens.read(browser.cookie or "")
    assert who.expires_at is not None
    assert abs((who.expires_at - datetime.now(UTC)).total_seconds() - 7 * DAY) < 10
    assert (await browser.me()).json["session_id"] == session_id
    again = Browser(node)
    again.cookie = before
    assert "set-cookie" not in (await again.me()).headers


async def test_absolute_cookie_is_never_renewed(start: StartNode, older: Older) -> None:
    """SESSION_COOKIE=absolute: seven days after sign-in it is over, however much it is used."""
    node = await start(SESSION_COOKIE="absolute")
    browser, _ = await signed_in(node)
    await older(browser, 6 * DAY, node)
    assert "set-cookie" not in (await browser.me()).headers


async def test_use_keeps_no_session_alive_for_ever(
    node: Node, older: Older, database: MigratedDatabase
) -> None:
    """C20: thirty days after sign-in (SESSION_LIFETIME) it ends, used every day or not."""
    browser, _ = await signed_in(node)
    session_id = (await browser.me()).json["session_id"]
    for day in range(1, 30):
        age(database, session_id, days=1)
        await older(browser, DAY + 120, ends_in=(30 - day) * DAY)
        node.services.browser_sessions._tried.clear()
        before = browser.cookie
        assert (await browser.me()).status == 200
        who = await node.services.session_tokens.read(browser.cookie or "")
        assert who.expires_at is not None
        left = (who.expires_at - datetime.now(UTC)).total_seconds()
        assert left <= min(7, 30 - day) * DAY + 60
        assert (browser.cookie != before) == (day < 25)
    age(database, session_id, days=1)
    with psycopg.connect(database.admin_url) as connection:
        row = connection.execute(
            "select expires_at <= now() from public.user_sessions where id = %s", [session_id]
        ).fetchone()
    assert row == (True,)


async def test_cookie_nobody_used_for_seven_days_is_not_renewed(
    node: Node, older: Older, database: MigratedDatabase
) -> None:
    """C20: the idle end, by the token and by the row, whichever of the two somebody bent."""
    browser, _ = await signed_in(node)
    session_id = (await browser.me()).json["session_id"]
    await older(browser, 3 * DAY)
    age(database, session_id, days=8)
    assert "set-cookie" not in (await browser.me()).headers


async def test_banned_person_gets_no_next_cookie(
    node: Node, older: Older, database: MigratedDatabase
) -> None:
    """What was given out is for revocation to end; nothing new is given."""
    browser, email = await signed_in(node)
    await older(browser, 2 * DAY)
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "update chatkeep.users set banned_until = 'infinity' where email = %s", [email]
        )
    assert "set-cookie" not in (await browser.me()).headers
    body = {"email": email, "password": PASSWORD}
    answer = await browser.call("POST", "/auth/sign-in", body)
    assert (answer.status, answer.json["code"]) == (400, "user_banned")


async def test_session_ended_while_it_was_to_be_renewed_stays_ended(
    node: Node, older: Older, database: MigratedDatabase
) -> None:
    """A node that has not heard of it yet gives out no next cookie."""
    browser, _ = await signed_in(node)
    who = await node.services.session_tokens.read(browser.cookie or "")
    await older(browser, 2 * DAY)
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "update user_sessions set is_active = false where id = %s", [who.claims["sid"]]
        )
    late = replace(who, issued_at=datetime.now(UTC) - timedelta(days=2))
    assert await node.services.browser_sessions.renewed(late) is None


async def test_bearer_alone_is_never_answered_with_a_cookie(node: Node) -> None:
    """Programs get none that they did not ask for."""
    grant = await new_account(node)
    client: Client = node.nobody(authorization=f"Bearer {grant['access_token']}")
    assert "set-cookie" not in (await client.get("/auth/me")).headers
