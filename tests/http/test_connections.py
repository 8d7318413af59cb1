"""The connection's own limits, before any application code: slow, oversized, ambiguous."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from chatkeep.web.connections import MAX_HEAD_BYTES, GuardedProtocol
from chatkeep.web.room import Room
from tests.patience import PATIENCE_S
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    Connect = Callable[[], Awaitable["Wire"]]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Little(GuardedProtocol):
    """The same connection with less room; a machine that stands still is no slow client."""

    receive_s = PATIENCE_S
    max_connections = 20
    take_s = PATIENCE_S


class Impatient(Little):
    """The same, for those who have no time to lose."""

    receive_s = 0.3
    take_s = 0.3


in_a_hurry = pytest.mark.parametrize("protocol", [Impatient])


class Echo:
    """An application that tells what it was sent, and can be made to wait."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.heads: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await self.go_on.wait()
        self.heads.append(list(scope["headers"]))
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(app: Echo | Large, protocol: type[GuardedProtocol]) -> AsyncIterator[int]:
    """Serve *app* and lend the port."""
    config = uvicorn.Config(
        app,
        port=0,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        timeout_keep_alive=int(PATIENCE_S),
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        for connection in list(server.server_state.connections):
            assert isinstance(connection, GuardedProtocol)
            connection.transport.abort()
        await server.shutdown()


@pytest.fixture
def app() -> Echo:
    """The application behind the connections."""
    return Echo()


@pytest.fixture
def protocol() -> type[GuardedProtocol]:
    """How it is served; tests of what takes too long are `in_a_hurry`."""
    return Little


@pytest.fixture
async def port(app: Echo, protocol: type[GuardedProtocol]) -> AsyncIterator[int]:
    """Where it is served."""
    async with serving(app, protocol) as found:
        yield found


class Wire:
    """A client that sends what it likes, in pieces of its own choice."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> Wire:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        """Send *data*, as far as the other side still takes it."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Return status and body of the next answer."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")
            (length,) = [line.split(":")[1] for line in lines if line.startswith("content-length")]
            return int(lines[0].split()[1]), await self._reader.readexactly(int(length))

    async def refusal(self) -> tuple[int, str]:
        """Return status and code of a refusal, after which the connection must be closed."""
        status, body = await self.answer()
        await self.ended()
        problem = json.loads(body)
        assert problem["status"] == status
        assert problem["error"] == problem["detail"]
        return status, problem["code"]

    async def ended(self) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                assert await self._reader.read() == b""
            except ConnectionResetError:
                return

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@pytest.fixture
async def connect(port: int) -> AsyncIterator[Connect]:
    """Make connections, which are closed at the end."""
    made: list[Wire] = []

    async def one() -> Wire:
        made.append(await Wire.to(port))
        return made[-1]

    yield one
    for wire in made:
        wire.close()


@pytest.fixture
async def wire(connect: Connect) -> Wire:
    """One connection."""
    return await connect()


async def test_ordinary_requests_pass(wire: Wire) -> None:
    """Several requests on one connection, with a body and without, in one piece or in two."""
    await wire.send(GET)
    assert await wire.answer() == (200, b"")
    await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    await wire.send(b"cd")
    assert await wire.answer() == (200, b"abcd")
    await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await wire.send(b"3\r\nabc\r\n0\r\n\r\n")
    assert await wire.answer() == (200, b"abc")
    await wire.send(GET * 3)
    assert [await wire.answer() for _ in range(3)] == [(200, b"")] * 3


async def test_answered_request_is_no_garbage(wire: Wire) -> None:
    """It goes by itself: the collector looks through all streams for what is left in rings."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await wire.send(GET)
            assert await wire.answer() == (200, b"")
        left = sum(type(one) is RequestResponseCycle for one in gc.get_objects())
    finally:
        gc.enable()
    assert left <= 2


@in_a_hurry
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
    ],
)
async def test_request_that_does_not_arrive_is_given_up(wire: Wire, sent: bytes) -> None:
    """Silence in any place, from the first byte on, ends the connection in time."""
    if sent:
        await wire.send(sent)
    assert await wire.refusal() == (408, "request_timeout")


@in_a_hurry
async def test_stray_line_ends_do_not_keep_a_connection(wire: Wire) -> None:
    """Between two requests, too, whoever says nothing that is one is given up."""
    await wire.send(GET)
    assert await wire.answer() == (200, b"")
    await wire.send(b"\r\n")
    assert await wire.refusal() == (408, "request_timeout")


@in_a_hurry
async def test_dribbling_buys_no_time(connect: Connect) -> None:
    """A byte now and then, of a head or a body, does not keep the connection."""
    for start in (
        b"GET / HTTP/1.1\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n",
    ):
        wire = await connect()
        await wire.send(start)
        refusal = asyncio.create_task(wire.refusal())
        async with asyncio.timeout(PATIENCE_S):
            while not refusal.done():
                try:
                    await wire.send(b"a")
                except ConnectionError:
                    break
                await asyncio.wait([refusal], timeout=0.05)
        assert await refusal == (408, "request_timeout")


@in_a_hurry
async def test_slow_answer_is_no_slow_request(app: Echo, wire: Wire) -> None:
    """A client that has sent everything may wait for its answer as long as it takes."""
    app.go_on.clear()
    await wire.send(GET + b"\r\n")
    loop = asyncio.get_running_loop()
    loop.call_later(3 * Impatient.receive_s, app.go_on.set)
    assert await wire.answer() == (200, b"")


class Large:
    """An application whose every answer is larger than what the kernel holds of it."""

    SIZE = 16 << 20

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        last = (b"connection", b"close") if scope["path"] == "/last" else (b"x-a", b"a")
        headers = [(b"content-length", str(self.SIZE).encode()), last]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"a" * self.SIZE})


@pytest.mark.parametrize("path", ["/", "/last"])
async def test_answer_that_nobody_takes_is_not_kept(path: str) -> None:
    """Whoever asks and does not read, or hardly reads, is cut off; nothing of it stays."""
    lost = asyncio.Event()

    class Watched(Impatient):
        """Tells when it is over."""

        def connection_lost(self, exc: Exception | None) -> None:
            """Tell."""
            super().connection_lost(exc)
            lost.set()

    async with serving(Large(), Watched) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        async with asyncio.timeout(PATIENCE_S):
            while not lost.is_set():
                await reader.read(1024)
                await asyncio.sleep(0.05)
        writer.close()


async def test_large_answer_reaches_a_slow_reader_whole() -> None:
    """Whoever takes some in time gets all, however many times that time it needs."""

    class Brisk(GuardedProtocol):
        """Wants progress often."""

        take_s = 0.2
        taken_bytes = 1024

    async with serving(Large(), Brisk) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        taken = 0
        async with asyncio.timeout(PATIENCE_S):
            while piece := await reader.read(1 << 20):
                taken += len(piece)
                await asyncio.sleep(0.01)
        assert taken > Large.SIZE
        writer.close()


async def test_readers_share_the_memory_that_their_answers_wait_in() -> None:
    """Of those who do not read the first ones end; who came last, and reads, gets it all."""

    class Small(GuardedProtocol):
        """Has room for one answer; the kernel holds some of each."""

        unsent = Room(Large.SIZE, little_bytes=1)

    async with serving(Large(), Small) as port:
        opened = []
        for _ in range(4):
            opened.append(await asyncio.open_connection("127.0.0.1", port, limit=1024))
            opened[-1][1].write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await opened[-1][0].readuntil(b"\r\n\r\n")
        taken = []
        async with asyncio.timeout(PATIENCE_S):
            for reader, writer in opened:
                taken.append(await _taken(reader))
                writer.close()
            assert [size == Large.SIZE for size in taken] == [False, False, False, True]
            wire = await Wire.to(port)  # all the room is there again
            await wire.send(GET)
            assert (await wire.answer())[0] == 200
            wire.close()


async def test_bodies_share_the_memory_that_they_arrive_in(app: Echo) -> None:
    """Of those that do not become whole the first ones end; who came last, and goes on, does."""

    class Small(GuardedProtocol):
        """Has room for two and a half."""

        arriving = Room(250_000, little_bytes=1)

    def held(size: int) -> Callable[[], bool]:
        return lambda: Small.arriving.taken == size

    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n"
    async with serving(app, Small) as port:
        wires = [await Wire.to(port) for _ in range(4)]
        for count, wire in enumerate(wires[:2], start=1):
            await wire.send(head + b"x" * 100_000)
            await until(held(count * 100_000))
        await wires[2].send(head + b"x" * 100_000)
        assert await wires[0].refusal() == (503, "unavailable")
        await until(held(200_000))
        await wires[3].send(head + b"x" * 100_001)
        assert await wires[1].refusal() == (503, "unavailable")
        assert await wires[3].answer() == (200, b"x" * 100_001)
        await wires[2].send(b"x")
        assert await wires[2].answer() == (200, b"x" * 100_001)
        assert Small.arriving.taken == 0
        for wire in wires:
            wire.close()


async def _taken(reader: asyncio.StreamReader) -> int:
    size = 0
    with suppress(ConnectionResetError):
        while piece := await reader.read(1 << 20):
            size += len(piece)
    return size


@pytest.mark.parametrize("ending", [b"\r\n\r\n", b""])
async def test_head_over_the_cap_is_431(wire: Wire, ending: bytes) -> None:
    """Headers, or one that never ends, are refused at 32 KiB; just below passes."""
    fits = b"a" * (MAX_HEAD_BYTES - 200)
    await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + fits + b"\r\n\r\n")
    assert await wire.answer() == (200, b"")
    await wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + fits + b"a" * 200 + ending)
    if not ending:
        await wire.send(b"a" * 100_000)
        await wire.send(b"a" * 100_000)
    assert await wire.refusal() == (431, "headers_too_large")


async def test_endless_trailers_are_refused(wire: Wire) -> None:
    """What follows the last chunk is no way to fill the memory."""
    await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
    for _ in range(4):
        await wire.send(b"a" * 50_000)
    assert (await wire.refusal())[0] == 431


async def test_trailers_are_no_headers(app: Echo, wire: Wire) -> None:
    """A trailer cannot add to what the application believes was in the head."""
    await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await wire.send(b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert await wire.answer() == (200, b"a")
    assert [name for name, _ in app.heads[0]] == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize(
    "head",
    [
        b"Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        b"Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        b"Host: a\r\nContent-Length: 3\r\nContent-Length: 4",
        b"Host: a\r\nContent-Length: 3\r\nContent-Length: 3",
        b"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Host: a\r\nTransfer-Encoding: gzip, identity",
        b"Host: a\r\nContent-Length: +3",
        b"Host: a\r\nHost: b",
        b"X: no host",
        b"Host: a\r\nX : space before the colon",
        b"Host: a\r\n folded: line",
        b"Host: a\r\nX: a\0b",
    ],
)
async def test_request_that_can_be_read_in_two_ways_is_400(
    app: Echo, wire: Wire, head: bytes
) -> None:
    """What a proxy in front might understand differently never reaches the application."""
    await wire.send(b"POST / HTTP/1.1\r\n" + head + b"\r\n\r\n0\r\n\r\n")
    assert await wire.refusal() == (400, "bad_request")
    assert app.heads == []


async def test_old_protocol_cannot_be_chunked(wire: Wire) -> None:
    """HTTP/1.0 knows no chunks; a proxy that speaks it would end the request elsewhere."""
    await wire.send(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert await wire.refusal() == (400, "bad_request")


async def test_nonsense_is_400(wire: Wire) -> None:
    """Bytes that are no HTTP get an answer in our form, and are not kept."""
    await wire.send(b"\x16\x03\x01 hello\r\n\r\n")
    assert await wire.refusal() == (400, "bad_request")


async def test_flood_of_connections_is_503_and_passes(connect: Connect) -> None:
    """One connection too many is told so at once; when others leave, there is room again."""
    crowd = [await connect() for _ in range(Little.max_connections)]
    for wire in crowd:
        await wire.send(GET)
        assert await wire.answer() == (200, b"")
    late = await connect()
    assert await late.refusal() == (503, "unavailable")
    for wire in crowd:
        wire.close()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            wire = await connect()
            await wire.send(GET)
            status, _ = await wire.answer()
            if status == 200:
                break
