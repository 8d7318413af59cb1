"""Rate limits as callers meet them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from chatkeep.limits import RATES, Rate
from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

LIST = "/api/v1/chat"


@pytest.fixture(scope="module")
async def node(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that limits."""
    started = await start_node(database.url, session, project, RATE_LIMITS="on")
    yield started
    await started.stop()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates that a test can reach, and that do not refill while it runs."""
    monkeypatch.setitem(RATES, "api", Rate(10, 600))
    monkeypatch.setitem(RATES, "chat", Rate(3, 600))


async def ask(client: Client) -> Answer:
    """Ask something."""
    message = {"role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    return await client.post("/api/chat", {"id": "chat", "message": message})


async def test_caller_is_limited_exactly(node: Node) -> None:
    """Of fifty requests at once ten are served; the rest are told when to come back."""
    client = node.person().client
    answers = await asyncio.gather(*(client.get(LIST) for _ in range(50)))
    assert sorted(one.status for one in answers) == [200] * 10 + [429] * 40
    for refused in (one for one in answers if one.status == 429):
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 61


async def test_limit_is_of_a_person_not_of_a_token(node: Node) -> None:
    """Another token of the same person shares the count; another person does not."""
    person = node.person()
    for _ in range(10):
        assert (await person.client.get(LIST)).status == 200
    again = node.person("ES256", sub=person.id)
    assert (await again.client.get(LIST)).status == 429
    assert (await node.person().client.get(LIST)).status == 200


@pytest.mark.parametrize("path", ["/api/settings", "/api/models", "/api/chat/x/stream", LIST])
async def test_every_route_counts(node: Node, path: str) -> None:
    """Whichever route is called, it is the same allowance."""
    client = node.person().client
    assert [(await client.get(path)).status for _ in range(11)][-1] == 429


async def test_questions_have_an_allowance_of_their_own(node: Node) -> None:
    """Answers are dearer: so many questions a while, over both surfaces together."""
    model = node.stage.play()
    client = node.person().client
    assert [(await ask(client)).status for _ in range(3)] == [200] * 3
    refused = await ask(client)
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    body = {"conversation_id": "chat", "message": "Hi"}
    assert (await client.post(f"{LIST}/message", body)).status == 429
    assert (await client.get(LIST)).status == 200
    assert len(model.prompts) == 3


async def test_what_is_written_without_a_question_counts_too(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beginning, adding, copying, sharing: else the disk would be anybody's to fill."""
    monkeypatch.setitem(RATES, "api", Rate(100, 600))
    monkeypatch.setitem(RATES, "import", Rate(2, 3600))
    item = {"type": "message", "role": "user", "content": "Hi"}
    for path, body in ((f"{LIST}/start", {}), ("/v1/conversations", {"items": [item]})):
        client = node.person().client
        assert [(await client.post(path, body)).status for _ in range(4)] == [200] * 3 + [429]
    client = node.person().client
    begun = (await client.post("/v1/conversations", {"items": [item]})).json["id"]
    path = f"/v1/conversations/{begun}/items"
    statuses = [(await client.post(path, {"items": [item]})).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    copies = f"{LIST}/{begun.removeprefix('conv_')}/fork"
    assert [(await client.post(copies, {})).status for _ in range(3)] == [200, 200, 429]
    client = node.person().client
    begun = (await client.post(f"{LIST}/start", {})).json["conversation_id"]
    links = f"{LIST}/{begun}/shares"
    assert [(await client.post(links, {})).status for _ in range(3)] == [200, 200, 429]


async def test_bad_token_uses_up_nobodys_allowance(node: Node) -> None:
    """Whoever guesses tokens does not lock out whose they pretend to be."""
    person = node.person()
    forged = person.client.but(authorization=person.client.headers["authorization"] + "x")
    assert {(await forged.get(LIST)).status for _ in range(20)} == {401}
    assert (await person.client.get(LIST)).status == 200


async def test_limits_can_be_switched_off(start: StartNode) -> None:
    """`RATE_LIMITS=off`, for development."""
    node = await start(RATE_LIMITS="off")
    client = node.person().client
    assert {(await client.get(LIST)).status for _ in range(30)} == {200}
