"""The edges of the server: what every answer carries, and what is refused before any work."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.web.routes import pages
from tests.patience import PATIENCE_S
from tests.serving import exchange, parsed, token, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http.conftest import StartNode
    from tests.serving import Answer, Node, Person

LIST = "/api/v1/chat"
ORIGIN = "https://app.example"
JSON = {"content-type": "application/json"}
PRODUCTION = {
    "ENVIRONMENT": "production",
    "PUBLIC_URL": "https://chat.example",
    "RATE_LIMITS": "on",
    # A Supabase project of production has https; its shared secret is enough here.
    "SUPABASE_PROJECT_URL": "https://project.example",
}
MEMBERS = {"type", "title", "status", "detail", "code", "error", "request_id"}


def assert_problem(answer: Answer, status: int, code: str | None = None) -> None:
    """Fail unless *answer* is a problem as every error is."""
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert set(problem) >= MEMBERS
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert code in {None, problem["code"]}
    assert "no-store" in answer.headers["cache-control"]


# --- every answer -------------------------------------------------------------------------------

BIG = b'"' + b"x" * (1 << 20) + b'"'
ERRORS: dict[str, tuple[int, str, str, str, dict[str, Any]]] = {
    "no token": (401, "unauthenticated", "GET", LIST, {"headers": {"authorization": ""}}),
    "not yours": (403, "conversation_forbidden", "GET", f"{LIST}/x", {}),
    "no such path": (404, "not_found", "GET", "/api/nothing/here", {}),
    "no such page": (404, "not_found", "GET", "/nothing.txt", {}),
    "no such issuer path": (404, "not_found", "GET", "/api/auth/v2", {}),
    "wrong method": (405, "method_not_allowed", "DELETE", LIST, {}),
    "unknown method": (405, "method_not_allowed", "PROPFIND", LIST, {}),
    "no JSON": (400, "bad_request", "POST", f"{LIST}/message", {"data": b"{", "headers": JSON}),
    "wrong type": (415, "unsupported_media_type", "POST", f"{LIST}/message", {"data": b"a=b"}),
    "bad field": (422, "validation_failed", "POST", f"{LIST}/message", {"json": {}}),
    "bad query": (422, "validation_failed", "GET", f"{LIST}?limit=x", {}),
    "too large": (413, "payload_too_large", "POST", LIST, {"data": BIG, "headers": JSON}),
    "bug": (500, "internal", "GET", LIST, {}),
}


@pytest.fixture
def bug(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the list of conversations, where the test wants one."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("canary of a bug")

    if "bug" in request.node.name:
        monkeypatch.setattr("chatkeep.conversations.list_conversations", broken)


@pytest.mark.parametrize("name", ERRORS)
async def test_every_error_is_a_problem(node: Node, ana: Person, bug: None, name: str) -> None:
    """Whatever goes wrong: one shape of body, a request id, security headers, CORS headers."""
    status, code, method, path, sent = ERRORS[name]
    headers = {"origin": ORIGIN, **sent.get("headers", {})}
    client = ana.client
    if headers.get("authorization") == "":
        client, headers = node.nobody(), {"origin": ORIGIN}
    answer = await client.call(method, path, **{**sent, "headers": headers})
    assert_problem(answer, status, code)
    assert b"canary" not in answer.body
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    if status == 405:
        assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", [LIST, "/healthz", "/readyz", "/v1/models", "/", "/nope", "/c/1"])
async def test_head_is_answered_as_get_without_its_body(node: Node, ana: Person, path: str) -> None:
    """Load balancers and link checkers ask so: status and headers are those of GET."""
    for client in (ana.client, node.nobody()):
        whole, head = await client.get(path), await client.call("HEAD", path)
        assert (head.status, head.body) == (whole.status, b"")
        for name in ("content-type", "content-length", "cache-control"):
            assert head.headers.get(name) == whole.headers.get(name)


async def test_head_of_a_stream_ends_at_once(ana: Person) -> None:
    """Nothing of it is read; more than a person may have open are asked for."""
    for _ in range(110):
        head = await ana.client.call("HEAD", "/api/sessions/watch")
        assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    "path", ["/verify?token=x&type=signup", "/authorize", "/callback", "/user"]
)
async def test_head_uses_up_nothing_of_the_issuer(ana: Person, path: str) -> None:
    """What reads a mail before its reader asks for the heads of its links."""
    assert (await ana.client.call("HEAD", f"/auth/v1{path}")).status == 405


@pytest.mark.parametrize("path", [LIST, "/healthz", "/api/config", "/openapi.json", "/", "/nope"])
async def test_every_answer_is_marked_and_guarded(ana: Person, path: str) -> None:
    """Each answer has an id of its own and the headers that keep browsers in line."""
    answers = [await ana.client.get(path) for _ in range(2)]
    assert len({one.headers["x-request-id"] for one in answers}) == 2
    for header in (
        *("content-security-policy", "x-content-type-options", "referrer-policy"),
        *("cross-origin-opener-policy", "permissions-policy", "cache-control"),
    ):
        assert answers[0].headers[header]
    assert "server" not in answers[0].headers
    assert "unsafe-inline" not in answers[0].headers["content-security-policy"]
    if path.startswith("/api/v1"):
        assert answers[0].headers["cache-control"] == "no-store"


async def test_request_id_is_ours(ana: Person) -> None:
    """Nobody chooses the id under which a request is logged."""
    answer = await ana.client.get(LIST, headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] != "mine"


# --- other origins ------------------------------------------------------------------------------

ASKING = {"access-control-request-method": "PATCH", "access-control-request-headers": "if-match"}


async def test_preflight_in_development_lets_everybody_ask(node: Node) -> None:
    """While developing any origin may call, without credentials of its own."""
    answer = await node.nobody().call("OPTIONS", LIST, headers={"origin": ORIGIN, **ASKING})
    assert answer.status in {200, 204}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert "if-match" in answer.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (ORIGIN, True),
        ("https://other.example", True),
        ("https://evil.example", False),
        ("null", False),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://sub.app.example", False),
        ("https://app.example.evil.example", False),
        ("https://APP.example", False),
        ("", False),
    ],
)
async def test_only_listed_origins_may_read(start: StartNode, origin: str, allowed: bool) -> None:
    """With `CORS_ORIGINS` the very origins of the list are named, errors and preflights too."""
    node = await start(CORS_ORIGINS=f"{ORIGIN},https://other.example")
    nobody = node.nobody(origin=origin)
    for answer in (
        await nobody.get(LIST),
        await nobody.get("/healthz"),
        await nobody.call("OPTIONS", LIST, headers=ASKING),
    ):
        named = answer.headers.get("access-control-allow-origin")
        assert named == (origin if allowed else None)
        assert "origin" in answer.headers["vary"].lower()
        assert answer.headers.get("access-control-allow-credentials") is None


async def test_production_lets_no_other_origin_read(start: StartNode) -> None:
    """In production, without `CORS_ORIGINS`, no answer has a CORS header."""
    node = await start(**PRODUCTION, TRUSTED_PROXIES="127.0.0.1")
    nobody = node.nobody(origin=ORIGIN, x_forwarded_proto="https")
    for answer in (
        await nobody.get(LIST),
        await nobody.get("/healthz"),
        await nobody.call("OPTIONS", LIST, headers=ASKING),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert (await nobody.get("/healthz")).headers["strict-transport-security"]


# --- bodies -------------------------------------------------------------------------------------


async def test_body_over_the_cap_is_refused_unread(node: Node, ana: Person) -> None:
    """A length over the cap is refused at once, before any of the body is there."""
    head = (
        f"POST {LIST}/message HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {ana.client.headers['authorization']}\r\n"
        f"Content-Length: {200 << 20}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head.encode())
    async with asyncio.timeout(PATIENCE_S):
        assert_problem(parsed(await reader.read(8192)), 413, "payload_too_large")
    writer.close()


async def test_body_of_unknown_length_is_counted(node: Node, ana: Person) -> None:
    """A chunked body is refused as soon as it is over the cap."""
    head = (
        f"POST {LIST}/message HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {ana.client.headers['authorization']}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head.encode())
    for _ in range(17):
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert_problem(parsed(await reader.read(8192)), 413, "payload_too_large")
    writer.close()


async def test_cap_is_the_operators(start: StartNode) -> None:
    """`MAX_BODY_BYTES` is the last length that is taken."""
    node = await start(MAX_BODY_BYTES="2000")
    client = node.person().client
    for length, status in ((2000, 403), (2001, 413)):
        body = json.dumps({"conversation_id": "x", "message": ""}).encode()
        padded = body.replace(b'""', b'"' + b"m" * (length - len(body)) + b'"')
        assert len(padded) == length
        answer = await client.call("POST", f"{LIST}/message", data=padded, headers=JSON)
        assert answer.status == status


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        ("application/json; charset=utf-16", 415),
        ("application/x+json", 415),
        ("application/merge-patch+json", 415),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        (None, 415),
    ],
)
async def test_bodies_are_json(
    node: Node, ana: Person, media_type: str | None, status: int
) -> None:
    """What a form of another site can send is no JSON, and has no effect."""
    lines = [
        "PATCH /api/settings HTTP/1.1",
        "Host: x",
        "Connection: close",
        f"Authorization: {ana.client.headers['authorization']}",
        "Content-Length: 16",
        *([f"Content-Type: {media_type}"] if media_type else []),
    ]
    raw = "\r\n".join([*lines, "", ""]).encode() + b'{"theme":"dark"}'
    answer = parsed(await exchange(node.port, raw))
    assert answer.status == status
    if status == 415:
        assert_problem(answer, 415, "unsupported_media_type")
    kept = (await ana.client.get("/api/settings")).json["theme"]
    assert kept == ("dark" if status == 200 else None)


# --- heads --------------------------------------------------------------------------------------


def request(*lines: str, body: bytes = b"") -> bytes:
    """Return a request of *lines*, after which the connection is closed."""
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body


async def test_head_over_the_cap_is_refused(node: Node) -> None:
    """More than 32 KiB of head is a 431, in one header or in many."""
    for headers in ([f"X: {'x' * 40_000}"], [f"X-{n}: {'x' * 100}" for n in range(400)]):
        raw = request("GET /healthz HTTP/1.1", "Host: x", *headers)
        assert_problem(parsed(await exchange(node.port, raw)), 431, "headers_too_large")
    long_path = request(f"GET /{'x' * 40_000} HTTP/1.1", "Host: x")
    assert_problem(parsed(await exchange(node.port, long_path)), 431)


async def test_two_credentials_are_refused(node: Node, ana: Person, bo: Person) -> None:
    """Two Authorization headers are refused, whoever they name and wherever they are sent."""
    for path in (LIST, "/api/settings", "/api/chat/x/stream", f"{LIST}/{uuid4()}"):
        for second in (ana.client.headers["authorization"], bo.client.headers["authorization"]):
            raw = request(
                f"GET {path} HTTP/1.1",
                "Host: x",
                f"Authorization: {ana.client.headers['authorization']}",
                f"Authorization: {second}",
            )
            assert_problem(parsed(await exchange(node.port, raw)), 400, "credentials_conflict")


@pytest.mark.parametrize(
    "lines",
    [
        ["Host: a", "Host: b"],
        ["Host: a", "host: a"],
        [],
        ["Host: x", "Content-Length: 0", "Content-Length: 5"],
        ["Host: x", "Content-Length: 0", "Transfer-Encoding: chunked"],
        ["Host: x", "Content-Length: -1"],
        ["Host: x", "Transfer-Encoding: xchunked"],
        ["Host : x"],
        ["Host: x", "X\x00: y"],
    ],
    ids=ascii,
)
async def test_ambiguous_head_is_refused(node: Node, lines: list[str]) -> None:
    """What two servers could read in two ways is a 400."""
    raw = request("GET /healthz HTTP/1.1", *lines)
    answer = parsed(await exchange(node.port, raw))
    assert answer.status == 400


@pytest.mark.parametrize("host", ["x/h?a=", "evil.example", "127.0.0.1:1", "[::1]", "a@b"])
async def test_host_decides_nothing(node: Node, host: str) -> None:
    """Whatever a request names as its host, the path decides, and nobody is redirected."""
    for path, status in ((LIST, 401), ("/healthz", 200), (f"{LIST}/", 404), ("/nope/", 404)):
        raw = request(f"GET {path} HTTP/1.1", f"Host: {host}")
        answer = parsed(await exchange(node.port, raw))
        assert answer.status in {status, 400, 401}
        assert "location" not in answer.headers
        assert b"evil" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        *("/api/v1/chat/", "//api/v1/chat", "/api//v1/chat", "/api/v1/chat;x", "/api%2fv1/chat"),
        *("/./api/v1/chat", "/x/../api/v1/chat", "/API/V1/CHAT", "/%61pi/v1/chat", "/api/v1/chat?"),
        *("/api/v1/chat%00", "/api/v1/chat%20", "/api/v1/chat#x", "/api/settings/x.css"),
        *("/api/v1\\chat", "/api/v1/chat/../../settings", "http://evil.example/api/v1/chat"),
    ],
)
async def test_odd_spelling_of_a_path_opens_nothing(node: Node, path: str) -> None:
    """However a path is spelled, without a token nothing but refusals come back."""
    raw = request(f"GET {path} HTTP/1.1", "Host: x")
    answer = parsed(await exchange(node.port, raw))
    assert answer.status in {400, 401, 404, 405}
    assert "location" not in answer.headers


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get", "GET\t", "X" * 100])
async def test_odd_method_is_refused(node: Node, method: str) -> None:
    """A method that is not offered is a 405, nonsense a 400; nothing is reflected."""
    raw = request(f"{method} /healthz HTTP/1.1", "Host: x", "X-Canary: canary")
    answer = parsed(await exchange(node.port, raw))
    assert answer.status in {400, 405}
    assert b"canary" not in answer.body


# --- behind a proxy, and not --------------------------------------------------------------------

FORWARDED = [
    {"x-forwarded-proto": "https"},
    {"x-forwarded-proto": "https", "x-forwarded-for": "127.0.0.1"},
    {"forwarded": "proto=https;for=127.0.0.1"},
    {"x-forwarded-ssl": "on", "front-end-https": "on", "x-url-scheme": "https"},
    {"x-forwarded-host": "chat.example", "x-original-url": "/healthz", "x-rewrite-url": "/healthz"},
    {},
]


@pytest.mark.parametrize("headers", FORWARDED, ids=str)
async def test_production_refuses_plain_http(
    start: StartNode, headers: dict[str, str], project: str
) -> None:
    """Over plain HTTP every route is a 403 and no redirect, whatever a stranger forwards."""
    node = await start(**PRODUCTION)
    bearer = {"authorization": f"Bearer {token('https://project.example', 'ana')}"}
    nobody = node.nobody(**{name.replace("-", "_"): value for name, value in headers.items()})
    for method, path in (
        *(("GET", LIST), ("POST", "/api/chat"), ("GET", "/api/settings"), ("GET", "/")),
        *(("GET", "/api/config"), ("GET", "/openapi.json"), ("GET", "/nope")),
    ):
        answer = await nobody.call(method, path, headers=bearer)
        assert_problem(answer, 403, "insecure_transport")
        assert "location" not in answer.headers
    assert (await nobody.post("/auth/v1/token?grant_type=password")).status == 403
    assert (await nobody.get("/healthz")).status == 200
    assert (await nobody.get("/readyz")).status == 200


async def test_production_behind_its_proxy(start: StartNode) -> None:
    """The trusted proxy says that it was https; the last word counts where there are several."""
    node = await start(**PRODUCTION, TRUSTED_PROXIES="127.0.0.1")
    bearer = f"Bearer {token('https://project.example', 'ana')}"
    for scheme, status in (
        *(("https", 200), ("http, https", 200), ("HTTPS", 200)),
        *(("http", 403), ("https, http", 403), ("", 403), ("ftp", 403)),
    ):
        client = node.nobody(authorization=bearer, x_forwarded_proto=scheme)
        assert (await client.get(LIST)).status == status


# --- the development header ---------------------------------------------------------------------


async def test_development_header_names_the_caller(start: StartNode) -> None:
    """With both switches `X-User-Id` is who calls, on every surface."""
    node = await start(ENVIRONMENT="development", DEVELOPMENT_USER_HEADER="on")
    ana = node.nobody(x_user_id="ana")
    assert (await ana.get(LIST)).json["user_id"] == "ana"
    started = await ana.post(f"{LIST}/start", {})
    path = f"{LIST}/{started.json['conversation_id']}"
    assert (await ana.get(path)).status == 200
    assert (await node.nobody(x_user_id="bo").get(path)).status == 403
    assert (await ana.get("/api/settings")).status == 200
    assert (await node.nobody().get(LIST)).status == 401


async def test_development_header_beside_a_token(start: StartNode) -> None:
    """With a token it must say the same; a bad token stays bad."""
    node = await start(ENVIRONMENT="development", DEVELOPMENT_USER_HEADER="on")
    ana = node.person()
    assert (await ana.client.but(x_user_id=ana.id).get(LIST)).status == 200
    assert_problem(await ana.client.but(x_user_id="bo").get(LIST), 400, "credentials_conflict")
    garbage = node.nobody(x_user_id="ana", authorization="Bearer garbage")
    assert (await garbage.get(LIST)).status == 401


@pytest.mark.parametrize("value", ["", " ", "a\x07b", "x" * 256])
async def test_development_header_must_be_a_name(start: StartNode, value: str) -> None:
    """An empty, unprintable or endless name is no caller; nor are two."""
    node = await start(ENVIRONMENT="development", DEVELOPMENT_USER_HEADER="on")
    raw = request(f"GET {LIST} HTTP/1.1", "Host: x", f"X-User-Id: {value}")
    assert parsed(await exchange(node.port, raw)).status in {400, 401}
    two = request(f"GET {LIST} HTTP/1.1", "Host: x", "X-User-Id: a", "X-User-Id: b")
    assert parsed(await exchange(node.port, two)).status == 400


@pytest.mark.parametrize(
    "environment",
    [{}, {"ENVIRONMENT": "development"}, {**PRODUCTION, "TRUSTED_PROXIES": "127.0.0.1"}],
    ids=["unset", "development", "production"],
)
async def test_development_header_is_dead_without_its_switch(
    start: StartNode, environment: dict[str, str]
) -> None:
    """Without its own switch it is nobody's name on any route, in whatever spelling."""
    node = await start(**environment)
    secure = {"x-forwarded-proto": "https"}
    for name in ("X-User-Id", "x-user-id", "X_User_Id", "X-User-ID", "x-userid"):
        for method, path in (
            *(("GET", LIST), ("POST", "/api/chat"), ("GET", "/api/settings")),
            *(("GET", f"{LIST}/export"), ("POST", "/api/chat/x/stop"), ("GET", "/api/models")),
        ):
            headers = {name: "ana", **secure, **JSON}
            body = {
                "id": "c",
                "message": {"role": "user", "parts": [{"type": "text", "text": "x"}]},
            }
            sent = body if method == "POST" else None
            answer = await node.nobody().call(method, path, json=sent, headers=headers)
            assert answer.status == 401
    assert (await node.nobody(x_forwarded_proto="https").get(f"{LIST}?x-user-id=a")).status == 401


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built web chat, and a secret beside it."""
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "docs").mkdir()
    (folder / "index.html").write_text("<!doctype html>chat")
    (folder / "docs" / "index.html").write_text("<!doctype html>docs")
    (folder / "docs" / "docs.js").write_text("docs()")
    (folder / "assets" / "app-1a2b.js").write_text("chat()")
    (folder / "favicon.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("canary")
    (folder / "assets" / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(pages, "_STATIC", folder)
    return folder


async def test_web_chat_and_its_files_are_served(node: Node, static: Path) -> None:
    """The page answers for each path it owns; files keep for as long as their names tell."""
    nobody = node.nobody()
    for path in ("/", "/c/abc", "/c/a/b", "/settings", "/sign-in", "/sign-up"):
        answer = await nobody.get(path)
        assert (answer.status, answer.text) == (200, "<!doctype html>chat")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-type"].startswith("text/html")
    script = await nobody.get("/assets/app-1a2b.js")
    assert "immutable" in script.headers["cache-control"]
    assert "javascript" in script.headers["content-type"]
    assert (await nobody.get("/favicon.svg")).headers["content-type"] == "image/svg+xml"
    for path in ("/docs", "/docs/"):
        assert (await nobody.get(path)).text == "<!doctype html>docs"
    assert (await nobody.get("/docs/docs.js")).text == "docs()"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/assets/../../secret.txt",
            "/assets/..%2f..%2fsecret.txt",
            "/assets/%2e%2e/%2e%2e/secret.txt",
        ),
        *(
            "/..%2fsecret.txt",
            "/%2e%2e%2fsecret.txt",
            "/docs/..%2f..%2fsecret.txt",
            "/assets/link.txt",
        ),
        *("/assets//etc/passwd", "/assets/%2fetc%2fpasswd", "/docs//etc/passwd", "/assets/"),
        *("/assets/..%5c..%5csecret.txt", "/assets/app-1a2b.js%00.txt", f"/assets/{'x' * 5000}"),
        *(f"/assets/{'a/' * 2000}x", "/assets/%ff", "/assets/app-1a2b.js/", "/index.html/x"),
    ],
)
async def test_nothing_outside_the_folder_is_served(node: Node, static: Path, path: str) -> None:
    """No spelling of a path leaves the folder of static files."""
    answer = parsed(await exchange(node.port, request(f"GET {path} HTTP/1.1", "Host: x")))
    assert answer.status == 404
    assert b"canary" not in answer.body
    assert b"root:" not in answer.body


async def test_hostile_ranges_cost_nothing(node: Node, static: Path) -> None:
    """Thousands of ranges are answered or refused at once."""
    ranges = ",".join(f"{n}-{n}" for n in range(2500))
    began = time.process_time()
    answer = await node.nobody().get("/assets/app-1a2b.js", headers={"range": f"bytes={ranges}"})
    assert answer.status in {200, 206, 400, 416}
    assert time.process_time() - began < 1


async def test_unbuilt_web_chat_says_how_to_build_it(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source folder without its build explains itself."""
    monkeypatch.setattr(pages, "_STATIC", tmp_path)
    answer = await node.nobody().get("/")
    assert "make install" in answer.text
    assert (await node.nobody().get("/docs")).status == 404


# --- what is public -----------------------------------------------------------------------------


async def test_config_tells_what_a_client_needs(node: Node) -> None:
    """What a browser must know before anybody signs in, and not a member more."""
    config = (await node.nobody().get("/api/config")).json
    assert set(config) == {
        *("name", "version", "publishable_key", "signup", "anonymous_chat", "environment"),
        *("providers", "mail", "passkeys", "built_in_model"),
    }
    assert (config["name"], config["environment"]) == ("Chatkeep", "development")
    assert config["publishable_key"]
    assert config["built_in_model"] is False
    assert (await node.nobody().get("/healthz")).json == {"status": "ok"}
    assert (await node.nobody().get("/readyz")).json == {"status": "ok"}


# --- the log ------------------------------------------------------------------------------------


async def test_secrets_are_in_no_log(
    start: StartNode, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens, keys, passwords and what people said are in no record, at any level."""
    caplog.set_level(logging.DEBUG)
    node = await start(OPENROUTER_API_KEY="sk-canary-openrouter")
    node.stage.play(["canary-of-an-answer"])
    ana = node.person()
    bearer = ana.client.headers["authorization"]
    await ana.client.post(
        "/api/chat",
        {
            "id": "c",
            "message": {"role": "user", "parts": [{"type": "text", "text": "canary-said"}]},
        },
    )
    await ana.client.get(f"{LIST}?q=canary-query&cursor=canary-cursor")
    await ana.client.get(LIST, headers={"cookie": "session=canary-cookie"})
    await node.nobody(authorization="Bearer canary.bad.token").get(LIST)
    await node.nobody(authorization="Basic canary-basic").get(LIST)
    await node.nobody(apikey="canary-apikey", x_user_id="canary-user").get(LIST)
    await ana.client.patch("/api/settings", {"system_prompt": "canary-prompt", "theme": "canary"})
    sign_in = {"email": "canary@example.com", "password": "canary-password"}
    await node.nobody().post("/auth/v1/signup", sign_in)
    await node.nobody().post("/auth/v1/token?grant_type=password&token=canary-query", sign_in)
    await node.nobody().post(
        "/auth/v1/token?grant_type=refresh_token", {"refresh_token": "canary-refresh"}
    )

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("chatkeep.conversations.list_conversations", broken)
    assert (await ana.client.get(LIST)).status == 500
    assert [one for one in caplog.records if one.name == "chatkeep.access"]
    logged = "\n".join(
        f"{caplog.handler.format(one)} {vars(one)}"
        for one in caplog.records
        # The tests' own client, and uvicorn's lines, which only pytest listens to.
        if one.name.split(".")[0] not in {"asyncio", "aiohttp"} and one.name != "uvicorn.access"
    )
    assert bearer.removeprefix("Bearer ") not in logged
    assert bearer.rpartition(".")[2] not in logged
    for secret in (node.services.settings.secret, node.services.settings.supabase_jwt_secret):
        assert str(secret) not in logged
    assert "canary" not in logged


async def test_access_log_has_one_line_a_request(
    node: Node, ana: Person, caplog: pytest.LogCaptureFixture
) -> None:
    """Each request is one record: id, method, path without its query, status, time, who."""
    caplog.set_level(logging.INFO)
    answer = await ana.client.get("/api/v1/chat/%0d%0aX%1b[31m?token=secret")
    request_id = answer.headers["x-request-id"]
    (said,) = [one for one in map(vars, caplog.records) if one.get("request_id") == request_id]
    assert said["name"] == "chatkeep.access"
    assert (said["method"], said["status"], said["user_id"]) == ("GET", 403, ana.id)
    assert said["path"] == "/api/v1/chat/\r\nX\x1b[31m"
    assert said["client"] == "127.0.0.1"
    assert 0 <= said["ms"] < 10_000


@pytest.mark.parametrize("path", ["/auth/v1/otp", "/api/v1/chat/start"])
async def test_client_that_hangs_up_is_no_fault_of_the_server(
    node: Node, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """In the middle of its body: a 400 that nobody hears, and no error in the log."""
    caplog.set_level(logging.INFO)
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    bearer = f"Authorization: {node.person().client.headers['authorization']}\r\n"
    writer.write(f'{head}{bearer}Content-Length: 50\r\n\r\n{{"email":'.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    def told() -> list[dict[str, Any]]:
        return [one for one in map(vars, caplog.records) if one.get("path") == path]

    await until(lambda: bool(told()))
    assert [one["status"] for one in told()] == [400]
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []
