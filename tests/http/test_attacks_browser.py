"""What another site can make a browser do: plant cookies, send forms, read answers, run scripts.

A cookie of this test (`a_test_session`) signs in here, so that every rule about cookies is
tried on the real routes, however sessions are made.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from chatkeep.errors import TokenInvalid
from chatkeep.principal import Principal
from chatkeep.web.cookies import read_cookies
from tests.api_document import DOCUMENT
from tests.serving import exchange, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import StartNode
    from tests.serving import Answer, Node, Person

COOKIE = "__Host-a_test_session"
SETTINGS = "/api/settings"
LIST = "/api/v1/chat"
JSON = "Content-Type: application/json"
PUBLIC = "https://chat.example"
APP = "https://app.example"

_PATHS = DOCUMENT["paths"]
WRITES = [
    (method.upper(), re.sub(r"\{\w+\}", "c-1", path))
    for path, operations in _PATHS.items()
    for method, operation in operations.items()
    if method != "get" and operation.get("security") and not path.startswith("/auth/v1")
]


async def _read(value: str) -> Principal:
    if not value.startswith("session-of-"):
        raise TokenInvalid
    name = value.removeprefix("session-of-")
    return Principal(user_id=name, issuer="test", subject=name)


def take_cookies(node: Node) -> None:
    """Let the cookie sign in at *node*."""
    authenticator = node.services.authenticator
    authenticator._cookies = {**authenticator._cookies, COOKIE: _read}


@pytest.fixture(autouse=True)
def _cookies(node: Node) -> Iterator[None]:
    before = node.services.authenticator._cookies
    take_cookies(node)
    yield
    node.services.authenticator._cookies = before


async def send(
    node: Node, line: str, *headers: str, body: bytes = b"", host: str = "127.0.0.1"
) -> Answer:
    """Send a request as it is written and return its answer."""
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{line} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, *length, "", ""]
    return parsed(await exchange(node.port, "\r\n".join(lines).encode("latin-1") + body))


def cookie_of(person: Person) -> str:
    """Return the header line by which a browser signs *person* in."""
    return f"Cookie: {COOKIE}=session-of-{person.id}"


async def theme(node: Node, person: Person) -> object:
    """Return what is kept of a setting, as the person sees it by cookie."""
    answer = await send(node, f"GET {SETTINGS}", cookie_of(person))
    assert answer.status == 200, answer.text
    return answer.json["theme"]


# --- reading cookies ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cookies",
    [
        "{name}=session-of-bo; {name}=session-of-{ana}",
        "{name}=session-of-{ana}; {name}=session-of-bo",
        "{name}=session-of-{ana}; {name}=session-of-{ana}",
        "{name}=session-of-{ana}; {name}=",
        "{name}=",
        "{name}=forged",
        "{name}=session-of-{ana}\r\nCookie: {name}=session-of-bo",
    ],
)
async def test_tossed_cookie_is_refused(node: Node, ana: Person, cookies: str) -> None:
    """Two of a name are a 401, however they came: nobody decides which one is first."""
    line = cookies.replace("{name}", COOKIE).replace("{ana}", ana.id)
    answer = await send(node, "GET /auth/me", f"Cookie: {line}")
    assert (answer.status, answer.json["code"]) == (401, "token_invalid")


@pytest.mark.parametrize(
    "cookies",
    [
        "={name}=session-of-bo",
        "; ={name}=session-of-bo",
        '{name}="session-of-bo"',
        "{lower}=session-of-bo",
        "{name} =session-of-bo",
        "{name}\t=session-of-bo",
        " \x0b{name}=session-of-bo",
        "{name}\xa0=session-of-bo",
        "{name}%3dsession-of-bo",
        "x={name}=session-of-bo",
        "x, {name}=session-of-bo",
        'x="; {name}=session-of-bo;"'.replace(";", ","),
        "{encoded}=session-of-bo",
        "$Version=1, {name}=session-of-bo",
        "{bare}=session-of-bo",
        "__Secure-{bare}=session-of-bo",
    ],
)
async def test_cookie_that_only_looks_like_it_signs_nobody_in(
    node: Node, ana: Person, cookies: str
) -> None:
    """Nameless, quoted, oddly spelled: no such cookie is taken for ours, nor hides a good one."""
    bare = COOKIE.removeprefix("__Host-")
    names = {"{name}": COOKIE, "{bare}": bare, "{lower}": COOKIE.lower()}
    names["{encoded}"] = COOKIE.replace("_", "%5F")
    for said, name in names.items():
        cookies = cookies.replace(said, name)
    alone = await send(node, "GET /auth/me", f"Cookie: {cookies}")
    assert alone.status == (400 if "\x0b" in cookies else 401)
    beside = await send(node, "GET /auth/me", f"{cookie_of(ana)}; {cookies}")
    assert beside.status in {200, alone.status}
    assert beside.status != 200 or beside.json["id"] == ana.id


def test_no_number_of_cookies_costs_much() -> None:
    """A head full of cookies is read in so many steps, and no further."""
    found = read_cookies(["; ".join(f"a{n}=b" for n in range(10_000))])
    assert len(found) <= 200
    assert read_cookies(["a=1; b=2", "a=3"]) == {"a": ("1", "3"), "b": ("2",)}


# --- forms of other sites -----------------------------------------------------------------------

SAME_SITE = f"Origin: {PUBLIC}"
FOREIGN = {
    "nobody says": [],
    "null": ["Origin: null"],
    "empty": ["Origin: "],
    "another site": ["Origin: https://evil.example"],
    "suffix": ["Origin: https://chat.example.evil.example"],
    "prefix": ["Origin: https://evilchat.example"],
    "sub-domain": ["Origin: https://sub.chat.example"],
    "parent": ["Origin: https://example"],
    "http": ["Origin: http://chat.example"],
    "other port": ["Origin: https://chat.example:8443"],
    "with a path": ["Origin: https://chat.example/x"],
    "with a user": ["Origin: https://chat.example@evil.example"],
    "other case": ["Origin: https://CHAT.example"],
    "two": ["Origin: https://chat.example", "Origin: https://evil.example"],
    "list": ["Origin: https://chat.example, https://evil.example"],
    "cross-site": ["Sec-Fetch-Site: cross-site"],
    "same-site": ["Sec-Fetch-Site: same-site"],
    "by hand": ["Sec-Fetch-Site: none"],
    "both": ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"],
    "origin beside metadata": ["Origin: https://evil.example", "Sec-Fetch-Site: same-origin"],
    "referer only": ["Referer: https://chat.example/"],
    "forwarded": ["Origin: https://evil.example", "X-Forwarded-Host: evil.example"],
}


@pytest.fixture
async def published(start: StartNode) -> Node:
    """A node that has a public address, and another origin that may write."""
    node = await start(PUBLIC_URL=PUBLIC, CORS_ORIGINS=APP)
    take_cookies(node)
    return node


async def test_write_with_a_cookie_needs_our_own_page(published: Node, ana: Person) -> None:
    """With only a cookie, whatever does not come from our own origin is a 403 without effect."""
    body = b'{"theme":"dark"}'
    for name, headers in FOREIGN.items():
        answer = await send(
            published, f"PATCH {SETTINGS}", cookie_of(ana), JSON, *headers, body=body
        )
        assert (answer.status, answer.json["code"]) == (403, "cross_site_request"), name
    assert await theme(published, ana) is None
    for headers in ([SAME_SITE], [f"Origin: {APP}"], ["Sec-Fetch-Site: same-origin"]):
        answer = await send(
            published, f"PATCH {SETTINGS}", cookie_of(ana), JSON, *headers, body=body
        )
        assert answer.status == 200, headers
    assert await theme(published, ana) == "dark"


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_every_write_is_guarded(node: Node, ana: Person, method: str, path: str) -> None:
    """No route that changes something takes a cookie from another site."""
    for headers in (
        ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"],
        ["Origin: http://127.0.0.1:1"],
        [],
    ):
        # An empty body of the right type gets as far as the guard on every route.
        body = b'{"id":"c-1","message":{"role":"user","parts":[{"type":"text","text":"x"}]}}'
        answer = await send(node, f"{method} {path}", cookie_of(ana), JSON, *headers, body=body)
        if path.endswith("/session"):  # a cookie says nothing there: it takes a bearer alone
            assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
            continue
        assert answer.status == 403, (answer.status, answer.text)
        said = answer.json["error"] if path.startswith("/v1/") else answer.json
        assert said["code"] == "cross_site_request"
    assert (await ana.client.get(LIST)).json["conversations"] == []


async def test_bearer_needs_no_origin(published: Node) -> None:
    """No browser adds a bearer by itself, so programs and other origins may write with one."""
    ana = published.person()
    for headers in ({}, {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}):
        answer = await ana.client.patch(SETTINGS, {"theme": "dark"}, headers=headers)
        assert answer.status == 200


async def test_cookie_is_nothing_to_the_issuer(node: Node, ana: Person) -> None:
    """Sign-in routes for programs take no cookie, so no other site can use or end a session."""
    for line in ("GET /auth/v1/user", "PUT /auth/v1/user", "POST /auth/v1/logout"):
        answer = await send(node, line, cookie_of(ana), "Origin: http://127.0.0.1")
        assert answer.status == 401


FORMS = [
    ("application/x-www-form-urlencoded", b"theme=dark&email=a@example.com&password=passwords"),
    ("text/plain", b'{"theme":"dark","email":"a@example.com","password":"passwords"}'),
    ("text/plain;application/json", b'{"theme":"dark","email":"a@b.cd","password":"passwords"}'),
    ("application/x+json", b'{"theme":"dark","email":"a@example.com","password":"passwords"}'),
    ("application/json; charset=utf-16", '{"theme":"dark"}'.encode("utf-16")),
    ("application/json, text/plain", b'{"theme":"dark"}'),
    ("text/plain, application/json", b'{"theme":"dark"}'),
    (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="theme"\r\n\r\ndark\r\n--b--\r\n',
    ),
    ("", b'{"theme":"dark","email":"a@example.com","password":"passwords"}'),
]


@pytest.mark.parametrize(("media_type", "body"), FORMS, ids=lambda value: str(value)[:36])
async def test_form_of_another_site_changes_nothing(
    node: Node, ana: Person, media_type: str, body: bytes
) -> None:
    """What a page can send without asking first is a 415 everywhere, even from our own origin."""
    said = [f"Content-Type: {media_type}"] if media_type else []
    here = "Origin: http://127.0.0.1"
    for line in (
        *(f"PATCH {SETTINGS}", f"POST {LIST}/start", f"POST {LIST}/message", "POST /api/chat"),
        *("POST /auth/v1/signup", "POST /auth/v1/token?grant_type=password"),
        *("POST /auth/token/validate", "POST /token/check-expiry"),
    ):
        answer = await send(node, line, cookie_of(ana), here, *said, body=body)
        assert answer.status in ({400, 415} if "/auth/v1" in line else {415}), line
    assert await theme(node, ana) is None


@pytest.mark.parametrize(
    "body",
    [
        '{"theme":"dark"}'.encode("utf-16"),
        '{"theme":"dark"}'.encode("utf-16-be"),
        '{"theme":"dark"}'.encode("utf-32"),
        b'\xef\xbb\xbf{"theme":"dark"}',
        b'{"theme":"d\xffark"}',
    ],
    ids=["utf-16", "utf-16-be", "utf-32", "byte order mark", "not UTF-8"],
)
async def test_json_is_utf8_and_nothing_else(node: Node, ana: Person, body: bytes) -> None:
    """Other encodings under the right type are refused, and change nothing."""
    answer = await ana.client.call(
        "PATCH", SETTINGS, data=body, headers={"content-type": "application/json"}
    )
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert (await ana.client.get(SETTINGS)).json["theme"] is None


# --- reading across origins ---------------------------------------------------------------------


@pytest.mark.parametrize("environment", [{}, {"CORS_ORIGINS": APP}], ids=["open", "listed"])
async def test_no_answer_is_readable_with_cookies(
    start: StartNode, environment: dict[str, str]
) -> None:
    """No origin is ever allowed to read what a cookie opens, and `*` is never reflected."""
    node = await start(**environment)
    take_cookies(node)
    asking = ("Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: x")
    for origin in (APP, "https://evil.example", "null", "https://app.example.evil.example"):
        for line, more in ((f"GET {SETTINGS}", ()), (f"OPTIONS {SETTINGS}", asking)):
            cookie = f"Cookie: {COOKIE}=session-of-ana"
            answer = await send(node, line, cookie, f"Origin: {origin}", *more)
            named = answer.headers.get("access-control-allow-origin")
            assert "access-control-allow-credentials" not in answer.headers
            if environment:
                assert named == (APP if origin == APP else None)
                assert "origin" in answer.headers["vary"].lower()
            else:
                assert named == "*"


# --- what people wrote --------------------------------------------------------------------------

SCRIPTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</title><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}}",
    "\u2028<script>alert(1)</script>",
]


@pytest.mark.parametrize("script", SCRIPTS)
async def test_stored_script_is_inert(node: Node, ana: Person, script: str) -> None:
    """What people write comes back as data of a type that no browser runs, and no other."""
    chat = (await ana.client.post(f"{LIST}/start", {})).json["conversation_id"]
    said = {"conversation_id": chat, "message": script}
    assert (await ana.client.post(f"{LIST}/message", said)).status == 200
    renamed = await ana.client.patch(f"{LIST}/{chat}", {"title": script})
    kept = await ana.client.patch(SETTINGS, {"display_name": script, "system_prompt": script})
    assert {renamed.status, kept.status} <= {200, 422}
    found = []
    for path in (
        *(LIST, f"{LIST}/{chat}", f"{LIST}/{chat}/export", f"{LIST}/export", SETTINGS),
        *(f"{LIST}/{chat}/export?format=markdown", f"{LIST}?q=<script>", "/auth/me"),
    ):
        answer = await ana.client.get(path, headers={"accept": "text/html", "user-agent": script})
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in {"application/json", "text/markdown"}, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        found.append(answer.text)
    assert json.dumps(script, ensure_ascii=False)[1:-1] in "".join(found)


@pytest.mark.parametrize("path", ["/<script>alert(1)</script>", "/api/v1/chat/<script>", "/c/<b>"])
async def test_error_echoes_nothing(node: Node, path: str) -> None:
    """What was asked for is not in the answer, so that nothing of it can run."""
    quoted = path.replace("<", "%3C").replace(">", "%3E")
    answer = await node.nobody(accept="text/html").get(f"{quoted}?q={quoted}")
    assert "script>" not in answer.text.partition("<html")[0]
    assert "<b>" not in answer.text
