"""Chat without signing in: nothing is read, nothing is kept, and little is allowed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from chatkeep.limits import RATES, Rate
from tests.serving import said, start_node, types, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node, Stage

ROUTE = "/api/chat"


@pytest.fixture(scope="module")
async def node(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node that lets everybody chat, with limits, behind a proxy on this machine."""
    started = await start_node(
        database.url,
        session,
        project,
        ANONYMOUS_CHAT="on",
        RATE_LIMITS="on",
        TRUSTED_PROXIES="127.0.0.1",
        SYSTEM_PROMPT="Be brief.",
        TEMPERATURE="0.4",
    )
    yield started
    await started.stop()


def asked(text: str, **more: object) -> dict[str, Any]:
    """Return the body of a submit."""
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": "chat-1", "messages": [message], **more}


def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let no question come back while the test runs; return how many there are at once."""
    burst = RATES["anonymous_chat"].burst
    monkeypatch.setitem(RATES, "anonymous_chat", Rate(burst, 36_000))
    return burst


def rows(database: MigratedDatabase) -> tuple[int, ...] | None:
    """Return how many rows there are of whatever a person leaves behind."""
    with psycopg.connect(database.admin_url) as connection:
        return connection.execute(
            "select (select count(*) from chat.conversations),"
            " (select count(*) from chat.messages), (select count(*) from chat.runs)"
        ).fetchone()


async def test_anonymous_answer_is_streamed_and_not_kept(
    node: Node, stage: Stage, database: MigratedDatabase
) -> None:
    """Without a token the operator's defaults answer, and no row is written."""
    model = stage.play(["Hello, stranger."])
    before = rows(database)
    async with node.nobody(x_forwarded_for="198.51.100.1").stream(ROUTE, asked("Hi")) as stream:
        assert stream.status == 200
        events = await stream.rest()
    assert said(events) == "Hello, stranger."
    assert types(events)[-2:] == ["finish", "[DONE]"]
    assert rows(database) == before
    prompt = model.prompts[0]
    assert [(one.role, one.text) for one in prompt.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
    ]
    assert prompt.settings.temperature == 0.4
    assert prompt.user_key is None


async def test_anonymous_history_is_the_clients(node: Node, stage: Stage) -> None:
    """Nothing is kept here, so the client brings what was said; system messages are ours."""
    model = stage.play()
    text = {"type": "text"}
    body = {
        "id": "c",
        "messages": [
            {"role": "system", "parts": [{**text, "text": "Obey"}]},
            {"role": "user", "parts": [{**text, "text": "One"}]},
            {"role": "assistant", "parts": [{**text, "text": "Two"}]},
            {"role": "user", "parts": [{**text, "text": "Three"}]},
        ],
        "temperature": 0.9,
    }
    answer = await node.nobody(x_forwarded_for="198.51.100.2").post(ROUTE, body)
    assert answer.status == 200
    assert [one.text for one in model.prompts[0].messages] == ["Be brief.", "One", "Two", "Three"]
    assert model.prompts[0].settings.temperature == 0.9


@pytest.mark.parametrize("bearer", ["Bearer garbage", "Bearer ", "Basic YTpi", "garbage"])
async def test_bad_credential_is_never_anonymous(node: Node, stage: Stage, bearer: str) -> None:
    """A token that is there and bad is a 401 on each route, also where none is needed."""
    model = stage.play()
    client = node.nobody(authorization=bearer)
    for answer in (await client.post(ROUTE, asked("Hi")), await client.get(f"{ROUTE}/c/stream")):
        assert (answer.status, answer.json["code"]) == (401, "token_invalid")
    assert model.prompts == []


async def test_nothing_is_resumed_without_signing_in(node: Node) -> None:
    """There is nothing to resume, and the client asks at each page load: 204; no stop either."""
    assert (await node.nobody().get(f"{ROUTE}/c/stream")).status == 204
    assert (await node.nobody().post(f"{ROUTE}/c/stop")).status == 401


async def test_hanging_up_stops_the_model(node: Node, stage: Stage) -> None:
    """Nobody could come back to the answer, so leaving ends it within two seconds."""
    model = stage.play(["Word", asyncio.Event()])
    client = node.nobody(x_forwarded_for="198.51.100.3")
    async with client.stream(ROUTE, asked("Hi")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        assert model.running == 1
    await until(lambda: model.running == 0, within_s=2)
    assert model.abandoned == 1


async def test_hanging_up_stops_a_model_that_floods(node: Node, stage: Stage) -> None:
    """A reader who stopped reading, and then leaves, ends the answer as well."""
    gate = asyncio.Event()
    model = stage.play([*(["x" * 65536] * 200), gate])
    client = node.nobody(x_forwarded_for="198.51.100.4")
    async with client.stream(ROUTE, asked("Hi")):
        await until(lambda: model.running == 1)
    await until(lambda: model.running == 0, within_s=2)
    assert model.abandoned == 1


async def test_anonymous_chat_ends_with_the_server(start: StartNode) -> None:
    """On shutdown the answer ends with an `error` chunk, and new ones are refused."""
    node = await start(ANONYMOUS_CHAT="on")
    model = node.stage.play(["Word", asyncio.Event()])
    async with node.nobody().stream(ROUTE, asked("Hi")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        node.app.state.begin_shutdown()
        refused = await node.nobody().post(ROUTE, asked("Hi"))
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        assert types(await stream.rest())[-2:] == ["error", "[DONE]"]
    assert model.running == 0


@pytest.mark.parametrize("beyond", [{"temperature": 2.5}, {"model": "a b"}, {"max_tokens": 10**6}])
async def test_anonymous_wishes_stay_within_the_policy(
    node: Node, stage: Stage, beyond: dict[str, object]
) -> None:
    """Beyond the policy: 422, as for everybody."""
    client = node.nobody(x_forwarded_for="198.51.100.5")
    assert (await client.post(ROUTE, asked("Hi", **beyond))).status == 422


async def test_anonymous_chat_is_limited_by_address(
    node: Node, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many a while for one address: then 429 with the wait; others are not concerned."""
    burst = few(monkeypatch)
    client = node.nobody(x_forwarded_for="203.0.113.9")
    answers = await asyncio.gather(*(client.post(ROUTE, asked("Hi")) for _ in range(burst + 5)))
    assert sorted(one.status for one in answers) == [200] * burst + [429] * 5
    refused = next(one for one in answers if one.status == 429)
    assert refused.json["code"] == "rate_limited"
    assert int(refused.headers["retry-after"]) >= 1
    assert (
        await node.nobody(x_forwarded_for="203.0.113.10").post(ROUTE, asked("Hi"))
    ).status == 200
    signed_in = node.person().client.but(x_forwarded_for="203.0.113.9")
    assert (await signed_in.post(ROUTE, asked("Hi"))).status == 200


async def test_one_network_of_ipv6_is_one_address(
    node: Node, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All addresses of a /64, however they are spelled, count together; the next /64 does not."""
    burst = few(monkeypatch)
    spellings = ["2001:db8:0:7::{:x}", "2001:0DB8:0000:0007:0:0:1:{:x}", "[2001:db8:0:7::{:x}]:80"]
    for number in range(burst):
        address = spellings[number % len(spellings)].format(number + 1)
        answer = await node.nobody(x_forwarded_for=address).post(ROUTE, asked("Hi"))
        assert answer.status == 200
    for address, status in (("2001:db8:0:7:ffff::1", 429), ("2001:db8:0:8::1", 200)):
        answer = await node.nobody(x_forwarded_for=address).post(ROUTE, asked("Hi"))
        assert answer.status == status


async def test_forwarded_address_of_a_stranger_counts_for_nothing(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a trusted proxy nobody chooses the address that counts."""
    node = await start(ANONYMOUS_CHAT="on", RATE_LIMITS="on")
    burst = few(monkeypatch)
    answers = [
        await node.nobody(x_forwarded_for=f"203.0.113.{n}").post(ROUTE, asked("Hi"))
        for n in range(burst + 1)
    ]
    assert [one.status for one in answers] == [200] * burst + [429]


async def test_answer_whose_booking_the_database_refuses_has_an_end(
    node: Node, stage: Stage, database: MigratedDatabase
) -> None:
    """For a reason that nobody foresaw, as a broken page: the reader is told the end."""
    database.operate(
        """
        create function refuse() returns trigger language plpgsql as
          $$ begin raise exception using errcode = 'XX001'; end $$;
        create trigger refuse before update on chat.charges for each row execute function refuse()
        """
    )
    stage.play(["Hello."])
    try:
        async with node.nobody().stream(ROUTE, asked("Hello?")) as stream:
            assert types(await stream.rest())[-2:] == ["finish", "[DONE]"]
    finally:
        database.operate("drop function refuse() cascade")
