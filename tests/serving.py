"""Chatkeep serving a test: real sockets, a real database, and a model that the test directs.

A node runs in the test's own loop, so a test can look into it, hold an answer at a gate, and
never has to wait by the clock. The people are those of a Supabase project that moves from a
shared secret to published keys: both kinds of token are good at once.
"""

from __future__ import annotations

import asyncio
import io
import json as json_module
import socket
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import aiohttp
import uvicorn
from aiohttp import web
from yarl import URL

from chatkeep.config import Settings
from chatkeep.config.upstreams import upstreams_of
from chatkeep.testing import FakeModel
from chatkeep.web.app import create_app
from chatkeep.web.connections import GuardedProtocol
from tests import forge
from tests.listeners import accept_no_more
from tests.machine_time import counted
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Mapping,
        Sequence,
    )

    from fastapi import FastAPI

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import ModelInfo, Prompt
    from chatkeep.testing import Step
    from chatkeep.tools import Tools
    from chatkeep.web.services import Services

SERVER_SECRET = "a secret of test servers: 0123456789abcdef"
KEY_SECRET = forge.SECRET
_names = count(1)


async def until(
    holds: Callable[[], bool | Awaitable[bool]], *, within_s: float = PATIENCE_S
) -> None:
    """Return as soon as *holds* does; fail when that takes longer than *within_s*.

    What the machine stands still meanwhile is no part of that.
    """

    async def does_hold() -> bool:
        found = holds()
        return found if isinstance(found, bool) else await found

    with counted() as passed_s:
        while not await does_hold():
            assert passed_s() < within_s, f"did not come true within {within_s:g} s"
            await asyncio.sleep(0.01)


# --- what a client sees -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer; *headers* by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 -- JSON can be anything
        """The body, which must be JSON."""
        return json_module.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One server-sent event; *data* is parsed where it is JSON."""

    name: str | None
    data: Any


class Stream:
    """An answer that is still coming."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.raw = b""
        self.events: list[Event] = []
        self._response = response
        self._taken = 0

    async def next(self) -> Event | None:
        """Return the next event, None at the end of the stream. Comments are passed over."""
        while True:
            end = self.raw.find(b"\n\n", self._taken)
            if end < 0:
                async with asyncio.timeout(PATIENCE_S):
                    more = await self._response.content.readany()
                if not more:
                    return None
                self.raw += more
                continue
            block, self._taken = self.raw[self._taken : end].decode(), end + 2
            if (event := _event(block)) is not None:
                self.events.append(event)
                return event

    async def until(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """Return the events up to the first one that is *wanted*, it included."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
            if wanted(event):
                return events
        raise AssertionError(f"the stream ended before that: {events}")

    async def rest(self) -> list[Event]:
        """Return all further events."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


def _event(block: str) -> Event | None:
    lines = [line for line in block.split("\n") if line and not line.startswith(":")]
    if not lines:
        return None
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines), f"a field twice in one event: {block!r}"
    data = fields.get("data", "")
    return Event(
        name=fields.get("event"),
        data=json_module.loads(data)
        if data.startswith(("{", "[", '"')) and data != "[DONE]"
        else data,
    )


def types(events: Sequence[Event]) -> list[str]:
    """Return the chunk types of an AI SDK stream."""
    return [event.data["type"] if isinstance(event.data, dict) else event.data for event in events]


def said(events: Sequence[Event]) -> str:
    """Return the visible text of a stream of either surface."""
    chunks = [event.data for event in events if isinstance(event.data, dict)]
    return "".join(
        chunk["delta"] if chunk.get("type") == "text-delta" else chunk["text"]
        for event, chunk in zip(
            (e for e in events if isinstance(e.data, dict)), chunks, strict=True
        )
        if chunk.get("type") == "text-delta" or event.name == "delta"
    )


class Client:
    """Somebody who calls a node; *headers* go with every request."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, headers: Mapping[str, str] | None = None
    ) -> None:
        self.url = url
        self.headers = dict(headers or {})
        self._session = session

    def but(self, *, url: str | None = None, **headers: str | None) -> Client:
        """Return the same caller with other *headers* (None takes one out), or elsewhere."""
        changes = {name.replace("_", "-"): value for name, value in headers.items()}
        merged = {**self.headers, **changes}
        kept = {name: value for name, value in merged.items() if value is not None}
        return Client(url or self.url, self._session, kept)

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return the whole answer. *path* is sent as it is written."""
        async with (
            asyncio.timeout(PATIENCE_S),
            self._session.request(
                method,
                URL(self.url + path, encoded=True),
                json=json,
                data=None if data is None else io.BytesIO(data),
                headers={**self.headers, **(headers or {})},
                allow_redirects=False,
            ) as response,
        ):
            body = await response.read()
            lowered = {name.lower(): value for name, value in response.headers.items()}
            return Answer(status=response.status, headers=lowered, body=body)

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET."""
        return await self.call("GET", path, headers=headers)

    async def post(
        self, path: str, json: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a POST."""
        return await self.call("POST", path, json=json, headers=headers)

    async def patch(
        self, path: str, json: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a PATCH."""
        return await self.call("PATCH", path, json=json, headers=headers)

    async def delete(self, path: str) -> Answer:
        """Send a DELETE."""
        return await self.call("DELETE", path)

    @asynccontextmanager
    async def stream(
        self, path: str, json: object = None, *, method: str = "POST", **headers: str
    ) -> AsyncIterator[Stream]:
        """Send a request and read the answer while it comes; leaving the block hangs up."""
        response = await self._session.request(
            method,
            URL(self.url + path, encoded=True),
            json=json,
            headers={**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}},
        )
        try:
            yield Stream(response)
        finally:
            response.close()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account at the Supabase project."""

    id: str
    client: Client


# --- the model ----------------------------------------------------------------------------------


class Stage:
    """A `Model` that plays what the test at hand has put on; until then, "Hello."."""

    def __init__(self) -> None:
        self.model = FakeModel()

    def play(
        self, *scripts: Sequence[Step], answer: Callable[[Prompt], Sequence[Step]] | None = None
    ) -> FakeModel:
        """Answer with *scripts* from now on (see `FakeModel`); return who counts the prompts."""
        self.model = FakeModel(*scripts, answer=answer)
        return self.model

    @property
    def name(self) -> str:
        """A name nobody mistakes for a provider's."""
        return "stage"

    def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Let whoever is on now answer."""
        return self.model.stream(prompt)

    async def list_models(self) -> Sequence[ModelInfo]:
        """List what whoever is on now offers."""
        return await self.model.list_models()

    async def aclose(self) -> None:
        """Hold nothing."""


# --- the server ---------------------------------------------------------------------------------


_SOON_S: Final = 0.1
_SOON: Final = 50


class _Server(uvicorn.Server):
    """uvicorn's, leaving the signals to pytest, and ending without a pause.

    uvicorn looks ten times a second whether it should end and whether it is done, and waits a
    tenth of a second in between: thousands of nodes of tests would pay for each.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    def end(self) -> None:
        """Let it end, at once."""
        self.should_exit = True
        self._told.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        ticking = asyncio.create_task(super().main_loop())
        told = asyncio.create_task(self._told.wait())
        try:
            await asyncio.wait((ticking, told), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ticking, told):
                task.cancel()
            await asyncio.gather(ticking, told, return_exceptions=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in self.servers:
            await accept_no_more(listener)
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_SOON):
            if not (self.server_state.connections or self.server_state.tasks):
                break
            await asyncio.sleep(_SOON_S / _SOON)
        else:
            await super().shutdown(sockets)  # which ends what does not end by itself
            return
        for opened in sockets or []:
            opened.close()
        for listener in self.servers:
            await listener.wait_closed()
        await self.lifespan.shutdown()


def quiet_server(config: uvicorn.Config) -> uvicorn.Server:
    """Return a server of *config* that leaves the signals to pytest."""
    return _Server(config)


@dataclass(slots=True, kw_only=True)
class Node:
    """One serving process, but for being in ours."""

    app: FastAPI
    url: str
    stage: Stage
    session: aiohttp.ClientSession
    project: str
    server: _Server
    task: asyncio.Task[None]

    @property
    def services(self) -> Services:
        """What its routes work with."""
        found: Services = self.app.state.services
        return found

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def nobody(self, **headers: str) -> Client:
        """Return a caller without a credential."""
        return Client(self.url, self.session).but(**headers)

    def person(
        self, algorithm: str = "HS256", *, sub: str | None = None, **claims: object
    ) -> Person:
        """Return somebody (new, unless *sub* says who) with a token signed for *algorithm*."""
        sub = sub or str(uuid4())
        bearer = token(self.project, sub, algorithm, **claims)
        headers = {"authorization": f"Bearer {bearer}"}
        return Person(sub, Client(self.url, self.session, headers))

    async def stop(self) -> None:
        """End it as SIGTERM does."""
        self.app.state.begin_shutdown()
        self.server.end()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self.task)


def token(project: str, sub: str, algorithm: str = "HS256", **changes: object) -> str:
    """Return an access token of *project* for *sub*, good for an hour."""
    now = int(time.time())
    payload = forge.claims(
        iss=f"{project}/auth/v1",
        sub=sub,
        iat=now,
        exp=now + 3600,
        email=f"person-{next(_names)}@example.com",
        session_id=str(uuid4()),
    )
    said = {name: value for name, value in {**payload, **changes}.items() if value is not ...}
    return forge.forge(payload=said, algorithm=algorithm)


async def start_node(
    database_url: str,
    session: aiohttp.ClientSession,
    project: str,
    tools: Tools | None = None,
    /,
    **environment: str,
) -> Node:
    """Start a node on *database_url*; *environment* are further settings by their names.

    It listens at a free port, or at `PORT` of *environment*. With a provider of models in
    *environment* that one answers, not the stage.
    """
    environ = {
        "DATABASE_URL": database_url,
        "CHATKEEP_SECRET": SERVER_SECRET,
        "SUPABASE_PROJECT_URL": project,
        "SUPABASE_JWT_SECRET": KEY_SECRET.decode(),
        "RATE_LIMITS": "off",
        "DRAIN_SECONDS": "0",
        "DATABASE_POOL_SIZE": "5",
        **environment,
    }
    stage = Stage()
    settings = Settings.from_env(environ)
    model = None if upstreams_of(settings) else stage
    app = create_app(settings, model=model, tools=tools)
    listening = listening_socket(int(environment.get("PORT", "0")))
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=65,  # as `chatkeep serve`: a loaded machine pauses for longer than 5 s
        timeout_graceful_shutdown=5,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listening]))
    await until(lambda: server.started or task.done())
    if task.done():
        task.result()
        raise AssertionError("the server did not start")
    return Node(
        app=app,
        url=f"http://127.0.0.1:{listening.getsockname()[1]}",
        stage=stage,
        session=session,
        project=project,
        server=server,
        task=task,
    )


def listening_socket(port: int = 0) -> socket.socket:
    """Return a socket that listens at *port*, or at a free one."""
    # asyncio switches Nagle's algorithm off only for sockets that say TCP (uvloop: always);
    # with it, each answer waits 40 ms for an acknowledgement.
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.bind(("127.0.0.1", port))
    opened.listen(512)
    return opened


@asynccontextmanager
async def serving(*routes: web.RouteDef) -> AsyncIterator[str]:
    """Serve *routes* of somebody else on a free port; lend the address."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    opened = listening_socket()
    await web.SockSite(runner, opened).start()
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def publishing_keys() -> AsyncIterator[str]:
    """Serve the published keys of a Supabase project; lend its address."""
    keys = forge.document(*(forge.jwk(one) for one in ("RS256", "ES256", "EdDSA")))

    async def jwks(_: web.Request) -> web.Response:
        return web.Response(body=keys, content_type="application/json")

    async with serving(web.get("/auth/v1/.well-known/jwks.json", jwks)) as address:
        yield address


# --- below HTTP ---------------------------------------------------------------------------------


async def exchange(port: int, request: bytes) -> bytes:
    """Send *request* as it is and return everything until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            await writer.drain()
            return await reader.read()
    finally:
        writer.close()


def parsed(response: bytes) -> Answer:
    """Return the first answer in *response*."""
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Answer(status=int(status.split(" ")[1]), headers=headers, body=body)
