"""Requests that two programs would read differently, spellings of paths, odd methods."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.api_document import DOCUMENT
from tests.patience import PATIENCE_S
from tests.serving import exchange, parsed

if TYPE_CHECKING:
    from tests.serving import Answer, Node, Person

_PATHS = DOCUMENT["paths"]
ROUTES = sorted({re.sub(r"\{\w+\}", "c-1", path) for path in _PATHS})
LIST = "/api/v1/chat"
SECOND = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def post(*headers: str, body: bytes = b"") -> bytes:
    """Return a POST that nobody need sign in for, with exactly these headers."""
    lines = ["POST /auth/token/validate HTTP/1.1", "Host: x", "Content-Type: application/json"]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def answers_in(sent: bytes) -> list[int]:
    """Return the status of every answer in *sent*."""
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", sent)]


async def asked(node: Node, line: str, *headers: str) -> Answer:
    """Send a request of one line and *headers* and return the answer."""
    lines = [line, "Host: x", "Connection: close", *headers, "", ""]
    return parsed(await exchange(node.port, "\r\n".join(lines).encode("latin-1")))


# --- where one request ends ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: chunked", "Content-Length: 0"],
        ["Transfer-Encoding: xchunked", "Content-Length: 5"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: \x0bchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 50"],
        ["Content-Length: 5, 5"],
        ["Content-Length: -5"],
        ["Content-Length: +5"],
        ["Content-Length: 0x5"],
        ["Content-Length: 5_0"],
        ["Content-Length: \xb2"],
        ["Content-Length:"],
        ["Content-Length: 99999999999999999999999"],
        ["Content-Length: 5", "Connection: Upgrade", "Upgrade: h2c"],
        ["Transfer-Encoding: chunked", "Connection: Upgrade", "Upgrade: websocket"],
    ],
    ids=str,
)
async def test_second_request_in_an_ambiguous_body_is_not_answered(
    node: Node, headers: list[str]
) -> None:
    """The first is a 400, the connection ends, and nothing after it is taken for a request."""
    found = await exchange(node.port, post(*headers, body=b"0\r\n\r\n" + SECOND))
    assert answers_in(found) == [400]


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
async def test_body_that_comes_later_is_no_request(node: Node, ana: Person, upgrade: str) -> None:
    """Asking for another protocol neither drops a body nor makes a second request of it."""
    head = (
        f"POST {LIST}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {ana.client.headers['authorization']}\r\n"
        f"Content-Length: {len(SECOND)}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head)
    async with asyncio.timeout(PATIENCE_S):
        found = await reader.readuntil(b"\r\n\r\n")
        try:
            writer.write(SECOND)
            found += await reader.read()
        except ConnectionError:
            pass
    writer.close()
    assert answers_in(found) == [400]


async def test_other_protocol_is_answered_once_in_ours(node: Node) -> None:
    """A request that offers h2c gets its answer, after which the connection ends."""
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP"
    raw = f"GET /healthz HTTP/1.1\r\nHost: x\r\n{offer}\r\n\r\n".encode() + SECOND
    found = await exchange(node.port, raw)
    assert answers_in(found) == [200]
    assert b"\r\nconnection: close\r\n" in found


@pytest.mark.parametrize(
    "body",
    [
        b"3\r\nabcXX0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        b"3 ;x\r\nabc\r\n0\r\n\r\n",
        b'3;x="\n"\r\nabc\r\n0\r\n\r\n',
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"g\r\nabc\r\n0\r\n\r\n",
        b"\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
async def test_bad_chunk_is_the_end(node: Node, body: bytes) -> None:
    """A chunk whose size or end is not as it must be ends the connection with a 400."""
    found = await exchange(node.port, post("Transfer-Encoding: chunked", body=body + SECOND))
    assert answers_in(found) == [400]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\rb\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\n\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n folded: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: a\x7fb\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-\xe9: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/0.9\r\n\r\n",
        b"GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health\xffz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_head_that_is_no_head_is_refused(node: Node, raw: bytes) -> None:
    """Bare line feeds, control characters, old and new versions: 400 and the end."""
    assert answers_in(await exchange(node.port, raw + SECOND)) == [400]


# --- names of this server -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("x/h?a=", "x#", "a@b", "user:word@x", "x:port", "x:999999", "x y", "x\\y", "[::1", "::1"),
        *("x, y", "x;y", "<script>", "x%2fy", "", ":80", "http://x"),
    ],
)
async def test_host_that_is_no_name_is_refused(node: Node, host: str) -> None:
    """A Host header that could be read as a path, a user or a list is a 400 on every route."""
    for path in ("/api/config", LIST, "/auth/v1/settings", "/nowhere"):
        raw = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        answer = parsed(await exchange(node.port, raw.encode()))
        assert answer.status == 400
        assert "location" not in answer.headers


async def test_old_request_without_host_is_refused(node: Node) -> None:
    """HTTP/1.0 may leave the Host out; only the probes of a balancer may."""
    for path, status in (("/api/config", 400), (LIST, 400), ("/healthz", 200)):
        raw = f"GET {path} HTTP/1.0\r\n\r\n"
        assert parsed(await exchange(node.port, raw.encode())).status == status


# --- paths --------------------------------------------------------------------------------------


def spellings(path: str) -> list[str]:
    """Return what somebody may write to get past a rule for *path*."""
    first, _, rest = path[1:].partition("/")
    return [
        f"/{path}",
        f"{path}/",
        f"{path}//",
        f"{path};x=1",
        f"{path}%00",
        f"{path}%20",
        f"{path}.json",
        f"{path}/x.css",
        f"/.{path}",
        f"/x/..{path}",
        f"/%2e%2e{path}",
        f"/{first.upper()}/{rest}",
        f"/%{ord(first[0]):x}{first[1:]}/{rest}",
        f"/{first}%2f{rest}",
        f"/{first}%252f{rest}",
        f"/{first}\\{rest}",
        f"http://evil.example{path}",
    ]


@pytest.mark.parametrize(
    "path",
    [one for one in ROUTES if "get" in _PATHS.get(one.replace("c-1", "{conversation_id}"), {})],
)
async def test_spelling_of_a_path_never_says_more(node: Node, path: str) -> None:
    """Whichever way a route is reached, nobody gets more than by its own name."""
    plain = await asked(node, f"GET {path} HTTP/1.1")
    for spelled in spellings(path):
        answer = await asked(node, f"GET {spelled} HTTP/1.1")
        assert answer.status in {plain.status, 400, 401, 404, 405}, spelled
        assert answer.headers.get("location") in {None, plain.headers.get("location")}, spelled
        if plain.status == 401:
            assert answer.status != 200, spelled


async def test_answer_for_one_user_is_never_a_file(node: Node, ana: Person) -> None:
    """`/api/settings/x.css` is not found, and what is personal is kept by no cache."""
    paths = ("/api/settings", LIST, "/auth/me", "/api/models", f"{LIST}/export")
    for path in paths:
        answer = await ana.client.get(path)
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        for file in ("/x.css", "/x.js", ";x.css", "%2fx.css", "%0ax.css", ".css", "/..%2fx.css"):
            other = await ana.client.get(f"{path}{file}")
            assert other.status in {403, 404}, file
            assert ana.id not in other.text
            assert other.headers["cache-control"] == "no-store"


async def test_headers_that_name_another_path_change_nothing(node: Node, ana: Person) -> None:
    """Which route answers is decided by the path alone."""
    for name in (
        *("x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-path"),
        *("x-http-method-override", "x-method-override", "x-http-method", "x-forwarded-uri"),
    ):
        for value in ("/healthz", "/api/config", "DELETE"):
            headers = {name: value}
            assert (await node.nobody().get(LIST, headers=headers)).status == 401
            assert (await ana.client.get(LIST, headers=headers)).json["user_id"] == ana.id
    assert (await node.nobody().get("/docs", headers={"x-forwarded-prefix": "//evil"})).text.count(
        "evil"
    ) == 0


# --- methods ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "PROPFIND", "SEARCH", "LINK"])
async def test_unknown_method_is_refused_on_every_route(node: Node, method: str) -> None:
    """405 with what is offered, or 400; nothing of the request comes back."""
    for path in ROUTES:
        answer = await asked(
            node, f"{method} {path} HTTP/1.1", "X-Canary: canary", "Cookie: canary"
        )
        assert answer.status in {400, 405}, path
        assert b"canary" not in answer.body
        if answer.status == 405:
            assert re.search(r"GET|POST|PUT|PATCH|DELETE", answer.headers["allow"])


async def test_options_of_everything_is_no_route(node: Node) -> None:
    """`OPTIONS *` gets an error that tells nothing."""
    assert (await asked(node, "OPTIONS * HTTP/1.1")).status in {400, 404, 405}


# --- values that could become headers -----------------------------------------------------------

SPLITTERS = [
    "%0d%0aX-Injected:%20yes",
    "%0aX-Injected:%20yes",
    "%E5%98%8D%E5%98%8AX-Injected:%20yes",
]


@pytest.mark.parametrize("splitter", SPLITTERS)
async def test_line_end_in_a_value_begins_no_header(node: Node, ana: Person, splitter: str) -> None:
    """In paths, queries, titles and file names, what would end a line ends none."""
    started = (await ana.client.post(f"{LIST}/start", {})).json["conversation_id"]
    title = "a\r\nX-Injected: yes\r\n\r\n<script>"
    assert (await ana.client.patch(f"{LIST}/{started}", {"title": title})).status in {200, 422}
    for path in (
        *(f"/{splitter}", f"/c/{splitter}", f"/assets/{splitter}", f"/docs/{splitter}"),
        *(f"{LIST}/{splitter}", f"{LIST}?q={splitter}", f"{LIST}?cursor={splitter}"),
        *(f"{LIST}/{started}/export?format=markdown", f"{LIST}/export"),
        *(f"{LIST}/{started}/export?format={splitter}", f"/api/chat/{splitter}/stream"),
        *(f"/auth/v1/authorize?redirect_to={splitter}", f"/auth/v1/{splitter}"),
        f"/auth/v1/verify?redirect_to=https://evil.example/{splitter}",
    ):
        bearer = f"Authorization: {ana.client.headers['authorization']}"
        answer = await asked(node, f"GET {path} HTTP/1.1", bearer)
        assert "x-injected" not in answer.headers, path
        assert answer.status < 500


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "%2f%2fevil.example"]
)
async def test_nobody_is_led_away(node: Node, target: str) -> None:
    """No address or parameter makes this server send a browser to another site."""
    for path in (
        *(f"/{target}", f"/{target}/..", f"/?next={target}", f"/sign-in?next={target}"),
        *(f"/docs/{target}", f"/c/{target}", f"{LIST}/?redirect={target}"),
        *(f"/auth/v1/authorize?provider=google&redirect_to={target}",),
        *(
            f"/auth/v1/verify?token=x&type=signup&redirect_to={target}",
            f"/auth/v1/callback?{target}",
        ),
    ):
        answer = await asked(node, f"GET {path} HTTP/1.1")
        assert "evil" not in answer.headers.get("location", ""), path
        assert "evil" not in answer.headers.get("refresh", "")
