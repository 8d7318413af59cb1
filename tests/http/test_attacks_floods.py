"""Too much of everything: bodies, nesting, digits, connections, requests, ranges, silence."""

from __future__ import annotations

import asyncio
import gc
import gzip
import re
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chatkeep.limits import AT_ONCE, RATES, Rate
from chatkeep.server import _protocol
from chatkeep.web.connections import GuardedProtocol
from chatkeep.web.routes import pages
from tests.api_document import DOCUMENT
from tests.machine_time import quick
from tests.patience import PATIENCE_S
from tests.serving import exchange, parsed, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.serving import Answer, Node, Person

    Open = Callable[[bytes], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

LIST = "/api/v1/chat"
JSON = {"content-type": "application/json"}
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

_PATHS = DOCUMENT["paths"]
BODIES = [
    (method.upper(), re.sub(r"\{\w+\}", "c-1", path))
    for path, operations in _PATHS.items()
    for method, operation in operations.items()
    if "requestBody" in operation
]
#: What takes files, which may be larger than other bodies.
LARGE = ("/upload", "/api/files")


@pytest.fixture
async def opened(node: Node) -> AsyncIterator[Open]:
    """Open connections that send what they are told; all are closed at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def connect(first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writers.append(writer)
        writer.write(first)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()


async def everything(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes the connection."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


# --- bodies -------------------------------------------------------------------------------------

BOMBS: dict[str, bytes] = {
    "depth of lists": b"[" * 100_000,
    "depth of objects": b'{"a":' * 100_000,
    "closed depth": b"[" * 100_000 + b"]" * 100_000,
    "depth in a member": b'{"conversation_id":"x","message":'
    + b"[" * 90_000
    + b"]" * 90_000
    + b"}",
    "digits": b'{"max_tokens":' + b"9" * 5_000 + b"}",
    "many digits": b'{"max_tokens":' + b"9" * 900_000 + b"}",
    "exponent": b'{"temperature":1e999999999}',
    "long fraction": b'{"temperature":0.' + b"1" * 900_000 + b"}",
    "no number": b'{"temperature":NaN}',
    "infinity": b'{"temperature":-Infinity}',
    "members": b"{" + b",".join(b'"a%d":1' % n for n in range(80_000)) + b"}",
    "equal members": b"{" + b",".join([b'"message":"x"'] * 60_000) + b"}",
    "elements": b'{"messages":[' + b",".join([b"{}"] * 300_000) + b"]}",
    "escapes": b'{"message":"' + b"\\u0000" * 100_000 + b'"}',
    "half pairs": b'{"message":"' + b"\\ud800" * 100_000 + b'"}',
    "packed": gzip.compress(b'{"message":"' + b"x" * 50_000_000 + b'"}', 1),
    "nothing": b" " * 1_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bomb_is_refused_at_once_on_every_route(node: Node, ana: Person, name: str) -> None:
    """Depth, digits, members by the ten thousand: refused without a 5xx, and without a wait."""
    headers = {**JSON, **({"content-encoding": "gzip"} if name == "packed" else {})}
    await ana.client.post("/support/chatkit", {})  # its library is loaded by the first request
    for method, path in BODIES:
        began = time.process_time()
        answer = await ana.client.call(method, path, data=BOMBS[name], headers=headers)
        # A long fraction is a number like another; it is only not allowed to cost anything.
        least = 200 if name == "long fraction" else 400
        assert least <= answer.status < 500, (path, answer.status, answer.text[:200])
        assert time.process_time() - began < 0.8, path
        assert len(answer.body) < 8_000
        said = answer.body.replace(answer.headers["x-request-id"].encode(), b"")
        assert b"9999" not in said
        assert b"1" * 50 not in said


@pytest.mark.parametrize("name", ["depth of lists", "closed depth", "digits", "escapes"])
async def test_bomb_with_an_idempotency_key_is_refused_on_every_route(
    node: Node, ana: Person, name: str
) -> None:
    """Telling two requests apart looks into them too, before any route has read them."""
    await ana.client.post("/support/chatkit", {})  # its library is loaded by the first request
    for number, (method, path) in enumerate(BODIES):
        headers = {**JSON, "idempotency-key": f"{name} {number}"}
        answer = await ana.client.call(method, path, data=BOMBS[name], headers=headers)
        assert 400 <= answer.status < 500, (path, answer.status, answer.text[:200])


@pytest.mark.parametrize(("method", "path"), BODIES)
async def test_body_over_the_cap_is_refused_on_every_route(
    node: Node, ana: Person, opened: Open, method: str, path: str
) -> None:
    """A 413 before reading on: for a length that says so, and for chunks that add up."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    if path.endswith(LARGE):  # how large a file may be is said to who may upload one
        head += f"Authorization: {ana.client.headers['authorization']}\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for raw, statuses in (
        (f"{head}Content-Length: {1 << 40}\r\n\r\n".encode(), {413}),
        # Who may not write here, or asks for nothing that there is, or sends what is not read
        # here, may be told so before.
        (
            f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 17,
            {400, 401, 404, 413, 415},
        ),
    ):
        if path.endswith(LARGE) and b"chunked" in raw:
            continue  # so much is no large file; the chunks of one are counted in its own tests
        reader, _ = await opened(raw)
        async with asyncio.timeout(PATIENCE_S):
            assert parsed(await reader.read(65_536)).status in statuses


async def test_refused_body_is_not_listened_to_for_ever(node: Node, opened: Open) -> None:
    """After its 413 a client may send a little more, then the connection ends without a word."""
    head = f"POST {LIST}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    reader, writer = await opened(f"{head}Content-Length: {1 << 40}\r\n\r\n".encode())
    reading = asyncio.create_task(everything(reader))
    sent = 0
    try:
        while not reading.done():
            assert sent < 64 << 20
            writer.write(b" " * (1 << 16))
            sent += 1 << 16
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    found = await reading
    assert len(re.findall(rb"HTTP/1\.1 ", found)) <= 1


# --- silence ------------------------------------------------------------------------------------


def test_patience_is_short() -> None:
    """What the server waits for a request is fifteen seconds, in every way it is started."""
    assert GuardedProtocol.receive_s <= 15
    assert _protocol().receive_s == GuardedProtocol.receive_s
    assert 50 <= _protocol().max_connections <= GuardedProtocol.max_connections


async def test_slow_clients_are_given_up_while_others_are_served(
    node: Node, ana: Person, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence, dripped headers and a body that never ends are closed; nobody else waits."""
    monkeypatch.setattr(GuardedProtocol, "receive_s", 0.5)
    bearer = f"Authorization: {ana.client.headers['authorization']}\r\n"
    head = f"POST {LIST}/start HTTP/1.1\r\nHost: x\r\n{bearer}Content-Type: application/json\r\n"
    starts = {
        "silent": b"",
        "head": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ",
        "body": f"{head}Content-Length: 900\r\n\r\n".encode(),
        "chunks": f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(),
    }
    slow = [(kind, *(await opened(first))) for kind, first in starts.items() for _ in range(10)]
    ended = asyncio.gather(*(everything(reader) for _, reader, _ in slow))

    async def drip() -> None:
        while not ended.done():
            for kind, _, writer in slow:
                if kind != "silent" and not writer.is_closing():
                    writer.write(b"1\r\n \r\n" if kind == "chunks" else b"a")
            await asyncio.wait([ended], timeout=0.05)

    dripping = asyncio.create_task(drip())
    with quick(5):
        while not ended.done():
            answer = await ana.client.get(LIST)
            assert answer.status == 200
            await asyncio.wait([ended], timeout=0.05)
        await dripping
    assert all(b" 408 " in found[:20] or found == b"" for found in await ended)
    assert (await ana.client.get(LIST)).json["conversations"] == []


# --- numbers ------------------------------------------------------------------------------------


async def test_flood_of_connections_is_503_and_passes(
    node: Node, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections over the limit are told to come back, at once; who is in is served."""
    before = len(node.server.server_state.connections)
    monkeypatch.setattr(GuardedProtocol, "max_connections", before + 30)
    crowd = [await opened(HEALTH) for _ in range(30)]
    for reader, _ in crowd:
        async with asyncio.timeout(PATIENCE_S):
            assert b" 200 " in await reader.readuntil(b"\r\n")
    with quick(3):
        late = [
            await opened(HEALTH.replace(b"x\r\n\r", b"x\r\nConnection: close\r\n\r"))
            for _ in range(100)
        ]
        refused = await asyncio.gather(*(everything(reader) for reader, _ in late))
    told = [parsed(one) for one in refused if one]
    refusals = [one for one in told if one.status == 503]
    # Connections that others had left open end meanwhile, and make room for a few.
    assert len(told) - len(refusals) <= before
    assert len(refusals) > 50
    assert all(int(one.headers["retry-after"]) > 0 for one in refusals)
    assert {one.json["code"] for one in refusals} == {"unavailable"}
    for _, writer in (*crowd, *late):
        writer.transport.abort()
    await until(lambda: len(node.server.server_state.connections) <= before)
    assert (await node.nobody().get("/healthz")).status == 200


def _resident_kib() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _storm(node: Node, ana: Person, times: int) -> None:
    """Send a bit of everything that is refused, ten at a time."""
    nobody = node.nobody()
    unique = f"{time.monotonic_ns()}"

    async def some(n: int) -> list[Answer]:
        client = node.nobody(authorization=f"Bearer {n}.{unique}.x", cookie=f"a{n}={unique}")
        return [
            await client.get(LIST),
            await nobody.get(f"/{unique}/{n}"),
            await nobody.post("/auth/token/validate", {"token": f"{n}{unique}"}),
            await ana.client.get(f"{LIST}/{n}-{unique}"),
            await ana.client.call("POST", "/api/chat", data=b"[" * 1000, headers=JSON),
        ]

    for start in range(0, times, 10):
        for answers in await asyncio.gather(*(some(start + n) for n in range(10))):
            assert all(answer.status < 500 for answer in answers)


async def test_flood_of_requests_leaves_nothing_behind(node: Node, ana: Person) -> None:
    """Memory, open files, tasks and connections are after thousands of refusals as before."""
    await _storm(node, ana, 100)
    gc.collect()
    memory, files, tasks = _resident_kib(), _files(), len(asyncio.all_tasks())
    await _storm(node, ana, 400)
    gc.collect()
    assert _resident_kib() - memory < 16 * 1024
    assert _files() - files <= 12
    assert len(asyncio.all_tasks()) - tasks <= 12
    assert (await node.nobody().get("/readyz")).status == 200


# --- heads and files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/healthz?" + "&".join(["a=1"] * 7_000), []),
        (f"{LIST}?" + "&".join(["limit=1"] * 3_000), []),
        (f"/{'a/' * 10_000}", []),
        (f"/c/{'%2e%2e%2f' * 2_000}", []),
        (f"{LIST}/{'a' * 20_000}", []),
        ("/healthz", [f"X-{n}: a" for n in range(3_000)]),
        ("/healthz", ["Accept: " + ",".join(["text/html;q=0.1"] * 1_500)]),
        ("/healthz", ["Cookie: " + "; ".join(["a=b"] * 6_000)]),
        ("/healthz", ["Authorization: Bearer " + "." * 20_000]),
        ("/auth/me", ["Authorization: Bearer " + "." * 20_000]),
        ("/auth/me", ["Authorization: " + " " * 20_000 + "x"]),
        ("/auth/me", ["If-None-Match: " + '"a",' * 5_000]),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_full_head_is_read_in_no_time(node: Node, path: str, headers: list[str]) -> None:
    """What fits into a head costs next to nothing, however it is made up."""
    raw = "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""])
    began = time.process_time()
    answer = parsed(await exchange(node.port, raw.encode()))
    assert answer.status in {200, 400, 401, 404, 422, 431}
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "ranges",
    [
        ",".join(["0-"] * 8_000),
        ",".join(f"{n}-" for n in range(4_000)),
        ",".join(f"{n * 2}-{n * 2}" for n in range(2_500)),
        ",".join(f"-{n}" for n in range(1, 4_000)),
        "0-99999999999999999999",
        "5-1",
        "-",
    ],
    ids=lambda value: value[:12],
)
async def test_ranges_of_a_file_cost_no_more_than_the_file(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: str
) -> None:
    """Thousands of ranges do not multiply what is sent, nor the time it takes."""
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / "a.js").write_bytes(b"x" * 500_000)
    monkeypatch.setattr(pages, "_STATIC", folder)
    began = time.process_time()
    answer = await node.nobody().get("/assets/a.js", headers={"range": f"bytes={ranges}"})
    assert answer.status in {200, 206, 400, 416}
    assert len(answer.body) <= 1_000_000
    assert time.process_time() - began < 1


async def test_limits_say_when_to_come_back(
    start: Any,  # noqa: ANN401 -- the fixture's own protocol
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood by one user is a 429 with the seconds to wait, and nobody else's."""
    # As seldom refilled as no machine is slow: how many a minute, the other tests say.
    monkeypatch.setitem(RATES, "chat", Rate(RATES["chat"].burst, 60.0 * RATES["chat"].burst))
    limited = await start(RATE_LIMITS="on")
    ana, bo = limited.person(), limited.person()
    body = {"conversation_id": "x", "message": "x"}
    for _ in range(400):
        answer = await ana.client.post(f"{LIST}/message", body)
        if answer.status == 429:
            break
    assert answer.status == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert (await bo.client.post(f"{LIST}/message", body)).status == 403
    assert (await limited.nobody().get("/healthz")).status == 200


async def test_readers_of_one_person_are_counted(start: Any) -> None:  # noqa: ANN401 -- the fixture's own protocol
    """Whoever opens too many streams is told so; others read on, and a closed one is a place."""
    limited = await start(RATE_LIMITS="on")
    ana, bo = limited.person(), limited.person()
    answering = asyncio.Event()
    limited.stage.play([answering, "done"])
    chat = {"id": "a", "message": {"role": "user", "parts": [{"type": "text", "text": "x"}]}}
    async with AsyncExitStack() as readers:
        await readers.enter_async_context(ana.client.stream("/api/chat", chat))
        for _ in range(AT_ONCE["streams"] - 1):
            await readers.enter_async_context(ana.client.stream("/api/chat/a/stream", method="GET"))
        refused = await ana.client.get("/api/chat/a/stream")
        assert (refused.status, int(refused.headers["retry-after"])) == (429, 5)
        await readers.enter_async_context(bo.client.stream("/api/chat", chat))
        answering.set()
    await until(lambda: not limited.services.limits._held)
