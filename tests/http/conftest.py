"""A serving node for each module, and the people who call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import aiohttp
import pytest

import chatkeep.chatkit.surface  # noqa: F401 -- which the first request of ChatKit loads, for seconds on a full machine
from tests.gotrue_people import nobody
from tests.serving import Client, Node, Person, Stage, publishing_keys, start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.tools import Tools
    from tests.postgres_servers import MigratedDatabase


class StartNode(Protocol):
    """Starts one more node; it ends with the test or module."""

    async def __call__(
        self, database_url: str | None = None, tools: Tools | None = None, /, **environment: str
    ) -> Node:
        """Start a node on the module's database, or on another one, with *environment* set."""


@pytest.fixture(scope="session")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """What sends the requests of all tests."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar()
    ) as opened:
        yield opened


@pytest.fixture(scope="session")
async def project() -> AsyncIterator[str]:
    """The address of a Supabase project that publishes its keys."""
    async with publishing_keys() as address:
        yield address


@pytest.fixture(scope="module")
async def node(
    request: pytest.FixtureRequest,
    database: MigratedDatabase,
    session: aiohttp.ClientSession,
    project: str,
) -> AsyncIterator[Node]:
    """A node on the module's database, with the module's own `NODE_SETTINGS` if it has any."""
    own: dict[str, str] = getattr(request.module, "NODE_SETTINGS", {})
    started = await start_node(database.url, session, project, **own)
    yield started
    await started.stop()


@pytest.fixture
def caller(node: Node) -> Client:
    """A Supabase client of the module's node that is not signed in."""
    return nobody(node)


@pytest.fixture
async def start(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[StartNode]:
    """Start further nodes for one test."""
    started: list[Node] = []

    async def begin(
        database_url: str | None = None, tools: Tools | None = None, /, **environment: str
    ) -> Node:
        url = database_url or database.url
        started.append(await start_node(url, session, project, tools, **environment))
        return started[-1]

    yield begin
    for one in started:
        if not one.task.done():
            await one.stop()


@pytest.fixture
def stage(node: Node) -> Stage:
    """The model of the module's node, with nothing put on."""
    node.stage.play()
    return node.stage


@pytest.fixture
def ana(node: Node) -> Person:
    """Somebody new."""
    return node.person()


@pytest.fixture
def bo(node: Node) -> Person:
    """Somebody else, whose token is signed with a published key."""
    return node.person("ES256")
