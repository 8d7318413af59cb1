"""How often a hot request waits for the database. A number that grows is a slower product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import aiohttp

    from tests.round_trips import RoundTripCounter
    from tests.serving import Answer, Client, Node

CHAT = "/api/v1/chat"


@pytest.fixture(scope="module")
async def counted(
    counter: RoundTripCounter, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node whose every word with the database is counted."""
    node = await start_node(counter.url, session, project, SIGN_UP="on")
    yield node
    await node.stop()


@pytest.fixture
async def client(counted: Node) -> Client:
    """Somebody who has been here before, so that their token and session are known."""
    found = counted.person().client
    assert (await found.get(CHAT)).status == 200
    return found


async def fewest(counter: RoundTripCounter, request: Callable[[], Awaitable[object]]) -> int:
    """Return the round trips of *request*: the fewest of several, as the node has chores too."""
    counts = []
    for _ in range(15):
        with counter.round_trips() as trips:
            await request()
        counts.append(trips.count)
    return min(counts)


async def test_list_takes_one(counter: RoundTripCounter, client: Client) -> None:
    """A page of the list of conversations, and a search in it."""
    assert await fewest(counter, lambda: client.get(CHAT)) == 1
    assert await fewest(counter, lambda: client.get(f"{CHAT}?q=cabbage")) == 1


async def test_history_takes_one(counter: RoundTripCounter, client: Client) -> None:
    """A page of a conversation."""
    conversation = (await client.post(f"{CHAT}/start", {})).json["conversation_id"]
    assert await fewest(counter, lambda: client.get(f"{CHAT}/{conversation}")) == 1


async def test_settings_take_none_when_known(counter: RoundTripCounter, counted: Node) -> None:
    """One the first time, then none until they change."""
    first = []
    for _ in range(3):
        client = counted.person().client
        await client.get(CHAT)
        with counter.round_trips() as trips:
            assert (await client.get("/api/settings")).status == 200
        first.append(trips.count)
        assert await fewest(counter, lambda: client.get("/api/settings")) == 0  # noqa: B023 -- at once
    assert min(first) == 1


async def test_a_turn_takes_two(counter: RoundTripCounter, client: Client) -> None:
    """One to keep the question, one to keep the answer; the model speaks in between."""
    conversation = (await client.post(f"{CHAT}/start", {})).json["conversation_id"]
    message = {"conversation_id": conversation, "message": "Hello"}
    assert await fewest(counter, lambda: client.post(f"{CHAT}/message", message)) == 2


async def test_a_sign_in_takes_two_and_a_refresh_one(
    counter: RoundTripCounter, counted: Node
) -> None:
    """One to find what the password is checked against, one to begin the session."""
    nobody = counted.nobody()
    body = {"email": "counted@example.com", "password": "Correct-Horse-42-battery"}
    assert (await nobody.post("/auth/v1/signup", body)).status == 200
    last: list[Answer] = []

    async def ask(path: str, body: object) -> None:
        last[:] = [await nobody.post(path, body)]
        assert last[0].status == 200

    path = "/auth/v1/token?grant_type="
    assert await fewest(counter, lambda: ask(f"{path}password", body)) == 2

    def refresh() -> Awaitable[None]:
        return ask(f"{path}refresh_token", {"refresh_token": last[0].json["refresh_token"]})

    assert await fewest(counter, refresh) == 1


async def test_ai_sdk_takes_no_more(counter: RoundTripCounter, client: Client) -> None:
    """Two for a turn on `/api/chat`, one for the question at each page load: is there an answer?"""
    message = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    body = {"id": "chat", "message": message}
    assert await fewest(counter, lambda: client.post("/api/chat", body)) == 2
    assert await fewest(counter, lambda: client.get("/api/chat/chat/stream")) == 1
