"""Several credentials at once, and names without proof: one rule on every route.

The routes are those of the OpenAPI document, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chatkeep.config import Settings
from chatkeep.errors import SetupError, TokenInvalid
from chatkeep.principal import Principal
from tests.api_document import DOCUMENT
from tests.serving import exchange, parsed, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.conftest import StartNode
    from tests.serving import Answer, Node, Person

COOKIE = "a_test_session"
HEADER_MODE = {"ENVIRONMENT": "development", "DEVELOPMENT_USER_HEADER": "on"}
ISSUER = "https://project.example"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "PUBLIC_URL": "https://chat.example",
    "RATE_LIMITS": "on",
    "SUPABASE_PROJECT_URL": ISSUER,
    "TRUSTED_PROXIES": "127.0.0.1",
}
SPELLINGS = ("X-User-Id", "x-user-id", "X-USER-ID", "X_User_Id", "X_USER_ID", "X-UserId", "User-Id")

_OPERATIONS = DOCUMENT["paths"]


def _routes(*, closed: bool) -> list[tuple[str, str]]:
    """List method and path of every operation that reads (or does not read) a credential."""
    found = []
    for path, operations in _OPERATIONS.items():
        for method, operation in operations.items():
            if bool(operation.get("security")) is closed:
                found.append((method.upper(), re.sub(r"\{\w+\}", "c-1", path)))
    return found


CLOSED = _routes(closed=True)
#: Also for people without an account, where an operator lets them chat.
OPTIONAL = {("POST", "/api/chat"), ("GET", "/api/chat/c-1/stream")}
OPEN = _routes(closed=False)
#: Where a page of ours trades a bearer for a cookie, instead of whatever cookie there is.
EXCHANGES = [one for one in CLOSED if one[1].endswith("/session")]
#: Where a cookie says who calls as well as a bearer does.
EITHER = [one for one in CLOSED if one not in EXCHANGES]


def request(method: str, path: str, *headers: str) -> bytes:
    """Return a request without a body, exactly as written, that ends its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers]
    return "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode()


async def asked(node: Node, method: str, path: str, *headers: str) -> Answer:
    """Send it and return the answer."""
    return parsed(await exchange(node.port, request(method, path, *headers)))


def code_of(answer: Answer) -> str:
    """Return the error's code, on whichever surface it was said."""
    body = answer.json
    if isinstance(body.get("error"), dict):
        return str(body["error"]["code"])
    return str(body.get("error_code") or body["code"])


async def _cookie_reader(value: str) -> Principal:
    if not value.startswith("session-of-"):
        raise TokenInvalid
    name = value.removeprefix("session-of-")
    return Principal(user_id=name, issuer="test", subject=name)


@pytest.fixture(scope="module")
async def with_cookies(node: Node) -> AsyncIterator[Node]:
    """The module's node, which also takes `session-of-<user>` in a cookie."""
    authenticator = node.services.authenticator
    node.app.state.services = replace(node.services, authenticator=authenticator)
    authenticator._cookies = {**authenticator._cookies, COOKIE: _cookie_reader}
    yield node
    authenticator._cookies = {
        name: read for name, read in authenticator._cookies.items() if name != COOKIE
    }


def bearer_of(person: Person) -> str:
    """Return the header line that names *person*."""
    return f"Authorization: {person.client.headers['authorization']}"


# --- more than one credential -------------------------------------------------------------------


def test_every_route_is_one_or_the_other() -> None:
    """The lists that these tests walk are not empty by accident."""
    assert len(CLOSED) > 15
    assert ("GET", "/api/v1/chat") in CLOSED
    assert ("GET", "/auth/v1/user") in CLOSED
    assert ("GET", "/healthz") in OPEN


@pytest.mark.parametrize(("method", "path"), EITHER)
async def test_disagreeing_credentials_are_refused_everywhere(
    with_cookies: Node, ana: Person, bo: Person, method: str, path: str
) -> None:
    """Two bearers, or a bearer beside another user's cookie, are a 400 on every route."""
    conflict = {"credentials_conflict", "validation_failed"}
    for headers in (
        (bearer_of(ana), bearer_of(bo)),
        (bearer_of(ana), bearer_of(ana)),
        (bearer_of(ana), f"Cookie: {COOKIE}=session-of-bo"),
        (bearer_of(ana), "X-User-Id: bo", "x-api-key: bo", f"Cookie: {COOKIE}=session-of-bo"),
        (f"Cookie: {COOKIE}=session-of-bo", bearer_of(ana), "apikey: whatever"),
    ):
        answer = await asked(with_cookies, method, path, *headers)
        assert answer.status == 400, (headers, answer.text)
        assert code_of(answer) in conflict


@pytest.mark.parametrize(("method", "path"), EXCHANGES)
async def test_exchange_takes_one_bearer_from_a_page_of_ours(
    with_cookies: Node, ana: Person, bo: Person, method: str, path: str
) -> None:
    """Two are a 400, a bad one a 401, and none is traded for another site beside a cookie."""
    cookie = f"Cookie: {COOKIE}=session-of-bo"
    for headers, status in (
        ((bearer_of(ana), bearer_of(bo)), 400),
        ((bearer_of(ana), bearer_of(ana)), 400),
        (("Authorization: Bearer a.b.c", cookie), 401),
        ((cookie,), 401),
        ((bearer_of(ana), cookie), 403),
        ((bearer_of(ana), cookie, "Origin: https://evil.example"), 403),
    ):
        answer = await asked(with_cookies, method, path, *headers)
        assert answer.status == status, (headers, answer.text)
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(("method", "path"), EITHER)
async def test_bad_credential_is_not_made_good_by_another(
    with_cookies: Node, ana: Person, method: str, path: str
) -> None:
    """Beside a good credential a bad one stays bad: 401 (403 in Supabase Auth's words)."""
    good_cookie = f"Cookie: {COOKIE}=session-of-{ana.id}"
    for headers in (
        ("Authorization: Bearer a.b.c", good_cookie),
        (bearer_of(ana), f"Cookie: {COOKIE}=forged"),
        (bearer_of(ana), f"Cookie: {COOKIE}=session-of-{ana.id}; {COOKIE}=session-of-{ana.id}"),
        (bearer_of(ana), f"Cookie: {COOKIE}=session-of-{ana.id}", f"Cookie: {COOKIE}=x"),
    ):
        answer = await asked(with_cookies, method, path, *headers)
        expected = 403 if path.startswith("/auth/v1") else 401
        assert answer.status == expected, (headers, answer.text)


@pytest.mark.parametrize("scheme", ["Basic YTpi", "Bearer", "Bearer ", "Token x", "bearer\tx", ""])
async def test_other_scheme_is_no_anonymous_caller(
    with_cookies: Node, ana: Person, scheme: str
) -> None:
    """An Authorization header that is no bearer is refused, also beside a good cookie."""
    cookie = f"Cookie: {COOKIE}=session-of-{ana.id}"
    for path in ("/api/v1/chat", "/api/chat/c-1/stream", "/auth/me"):
        answer = await asked(with_cookies, "GET", path, f"Authorization: {scheme}", cookie)
        assert answer.status == 401, path


async def test_headers_of_other_products_name_nobody(node: Node, ana: Person) -> None:
    """`x-api-key` and its kin neither sign in nor change who is signed in."""
    strange = {
        "x-api-key": "bo",
        "x-auth-token": "bo",
        "x-forwarded-user": "bo",
        "x-remote-user": "bo",
        "remote-user": "bo",
        "x-amzn-oidc-identity": "bo",
        "x-goog-authenticated-user-id": "bo",
        "x-forwarded-access-token": "bo",
        "cf-access-authenticated-user-email": "bo@example.com",
        "proxy-authorization": ana.client.headers["authorization"],
    }
    assert (await node.nobody().get("/auth/me", headers=strange)).status == 401
    assert (await ana.client.get("/auth/me", headers=strange)).json["id"] == ana.id


async def test_agreeing_credentials_are_one_caller(with_cookies: Node, ana: Person) -> None:
    """A bearer and a cookie of the same user are that user."""
    cookie = f"Cookie: {COOKIE}=session-of-{ana.id}"
    answer = await asked(with_cookies, "GET", "/auth/me", bearer_of(ana), cookie)
    assert (answer.status, answer.json["id"]) == (200, ana.id)


async def test_credential_in_a_query_is_none(node: Node, ana: Person) -> None:
    """Addresses end up in logs and histories, so nothing in one signs anybody in."""
    bearer = ana.client.headers["authorization"].partition(" ")[2]
    for name in ("access_token", "token", "authorization", "apikey", "x-user-id", "user_id"):
        assert (await node.nobody().get(f"/auth/me?{name}={bearer}")).status == 401


# --- the development header ---------------------------------------------------------------------


@pytest.fixture(scope="module")
async def production(
    database: Any,  # noqa: ANN401 -- handed on to start a node
    session: Any,  # noqa: ANN401 -- as above
    project: str,
) -> AsyncIterator[Node]:
    """A node as in production, behind a proxy on the same host."""
    from tests.serving import start_node  # noqa: PLC0415 -- as the fixture of the module's node does

    node = await start_node(database.url, session, project, **PRODUCTION)
    yield node
    await node.stop()


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_name_without_proof_is_dead_in_production(
    production: Node, method: str, path: str
) -> None:
    """`X-User-Id` in any spelling, number or place signs nobody in, on any route."""
    https = "X-Forwarded-Proto: https"
    nobody = await asked(production, method, path, https)
    assert nobody.status == 401 or (method, path) in OPTIONAL
    refused = (nobody.status, nobody.body and code_of(nobody))
    for headers in (
        *((f"{name}: ana",) for name in SPELLINGS),
        ("X-User-Id: ana", "X-User-Id: ana"),
        ("X-User-Id: ana", "X-Forwarded-For: 127.0.0.1"),
        ("X-User-Id: ana", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"),
    ):
        answer = await asked(production, method, path, https, *headers)
        assert (answer.status, answer.body and code_of(answer)) == refused, headers
    spelled = await asked(production, method, f"{path}?X-User-Id=ana&user_id=ana", https)
    assert spelled.status == nobody.status


async def test_name_in_a_trailer_is_dead(production: Node, start: StartNode) -> None:
    """What follows a chunked body is no header, in no mode."""
    developing = await start(**HEADER_MODE)
    for node in (production, developing):
        raw = (
            b"POST /api/v1/chat/start HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            b"X-Forwarded-Proto: https\r\nContent-Type: application/json\r\nTrailer: X-User-Id\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-User-Id: ana\r\n\r\n"
        )
        assert parsed(await exchange(node.port, raw)).status == 401


@pytest.mark.parametrize(("method", "path"), OPEN)
async def test_name_without_proof_changes_no_public_answer(
    production: Node, method: str, path: str
) -> None:
    """What everybody may see is the same with the header."""
    https = "X-Forwarded-Proto: https"
    without = await asked(production, method, path, https)
    with_name = await asked(production, method, path, https, "X-User-Id: ana")
    assert with_name.status == without.status


async def test_name_beside_a_token_is_not_looked_at_in_production(production: Node) -> None:
    """The token's user is who calls."""
    who = f"Authorization: Bearer {token(ISSUER, 'ana')}"
    answer = await asked(
        production, "GET", "/auth/me", "X-Forwarded-Proto: https", who, "X-User-Id: bo"
    )
    assert (answer.status, answer.json["id"]) == (200, "ana")


@pytest.mark.parametrize(
    "environment",
    [
        {"DEVELOPMENT_USER_HEADER": "on"},
        {"DEVELOPMENT_USER_HEADER": "on", "ENVIRONMENT": ""},
        {"DEVELOPMENT_USER_HEADER": "on", "ENVIRONMENT": "PROD"},
        {"DEVELOPMENT_USER_HEADER": "on", "ENVIRONMENT": "developement"},
        {"DEVELOPMENT_USER_HEADER": "on", "ENVIRONMENT": "test"},
        {**PRODUCTION, "DEVELOPMENT_USER_HEADER": "on"},
        {**PRODUCTION, "ENVIRONMENT": "production ", "DEVELOPMENT_USER_HEADER": "on"},
        {**HEADER_MODE, "NODE_ENV": "production"},
        {**HEADER_MODE, "HOST": "0.0.0.0"},
        {**HEADER_MODE, "HOST": "::"},
        {**HEADER_MODE, "HOST": "192.168.1.5"},
        {**HEADER_MODE, "HOST": "chat.example"},
        {**HEADER_MODE, "DATABASE_URL": "postgresql://a@db.internal/x"},
        {**HEADER_MODE, "DATABASE_URL": "postgresql://a@localhost,db.internal/x"},
        {**HEADER_MODE, "DATABASE_URL": "postgresql:///x?host=db.internal"},
        {**HEADER_MODE, "DATABASE_URL": "postgresql://localhost/x?hostaddr=10.0.0.5"},
        {**HEADER_MODE, "DATABASE_URL": "postgresql://localhost/x?service=shared"},
        {"ENVIRONMENT": "development", "DEVELOPMENT_USER_HEADER": "maybe"},
    ],
    ids=str,
)
def test_unsafe_start_is_refused(environment: dict[str, str]) -> None:
    """Unless both switches are said and all is on this machine, nothing starts."""
    with pytest.raises(SetupError):
        Settings.from_env({"CHATKEEP_SECRET": "0123456789abcdef" * 2, **environment})


def test_command_line_cannot_open_it_to_others() -> None:
    """`--host` is held to the same rule as the environment."""
    assert Settings.from_env(HEADER_MODE, host="127.0.0.1").development_user_header
    with pytest.raises(SetupError, match="loopback"):
        Settings.from_env(HEADER_MODE, host="0.0.0.0")


@pytest.mark.parametrize(
    "headers",
    [
        ("Host: evil.example",),
        ("Host: evil.example:8000",),
        ("Host: 192.168.1.5",),
        ("Host: localhost.evil.example",),
        ("Host: 127.0.0.1", "X-Forwarded-For: 203.0.113.9"),
        ("Host: 127.0.0.1", "X-Forwarded-For: 127.0.0.1, 203.0.113.9"),
        ("Host: 127.0.0.1", "X-Forwarded-For: unknown"),
        ("Host: 127.0.0.1", "X-Forwarded-Host: chat.example"),
        ("Host: 127.0.0.1", "Forwarded: for=203.0.113.9"),
    ],
    ids=str,
)
async def test_name_from_elsewhere_is_refused_while_developing(
    start: StartNode, headers: tuple[str, ...]
) -> None:
    """A page whose name points here, a proxy or a tunnel: the connection's end proves nothing."""
    node = await start(**HEADER_MODE)
    raw = "\r\n".join(
        ["GET /auth/me HTTP/1.1", *headers, "X-User-Id: ana", "Connection: close", "", ""]
    )
    assert parsed(await exchange(node.port, raw.encode())).status == 401
    here = await node.nobody(x_user_id="ana", x_forwarded_for="127.0.0.1, ::1").get("/auth/me")
    assert here.json["id"] == "ana"


async def test_other_sites_may_not_name_the_caller(start: StartNode) -> None:
    """While a header names the caller, only pages of this machine may call across origins."""
    node = await start(**HEADER_MODE)
    asking = {
        "access-control-request-method": "GET",
        "access-control-request-headers": "x-user-id",
    }
    for origin, allowed in (
        *(("http://localhost:5173", True), ("http://127.0.0.1:3000", True)),
        *(("http://app.localhost:3000", True), ("http://[::1]:3000", True)),
        *(("https://evil.example", False), ("http://localhost.evil.example", False)),
        *(("http://evil-localhost", False), ("null", False), ("http://127.0.0.1.evil", False)),
    ):
        nobody = node.nobody(origin=origin)
        for answer in (
            await nobody.call("OPTIONS", "/auth/me", headers=asking),
            await nobody.get("/auth/me", headers={"x-user-id": "ana"}),
        ):
            named = answer.headers.get("access-control-allow-origin")
            assert named == (origin if allowed else None)
