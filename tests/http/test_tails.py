"""Following an answer on another node: through Redis where there is one, and when it dies."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.answering import checkpoints
from tests.redis_servers import needs_redis, running_redis
from tests.serving import said, types, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import StartNode
    from tests.redis_servers import RedisServer
    from tests.serving import Node, Person, Stream

UI = "/api/chat"
WORDS = [f"word{number} " for number in range(60)]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis that may be killed."""
    with running_redis() as server:
        yield server


def submit(chat: str, text: str) -> dict[str, Any]:
    """Return the body of a submit."""
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat, "messages": [message]}


def through(redis: RedisServer) -> dict[str, str]:
    """Return the settings of nodes that wait for it, however busy the machine is."""
    return {"REDIS_URL": redis.url, "REDIS_TIMEOUT": "1"}


class Looks:
    """Counts how often, and for how much, readers look into the database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.characters = 0
        real = checkpoints.get_news

        async def counting(*args: Any, **named: Any) -> checkpoints.News:  # noqa: ANN401 -- handed on
            news = await real(*args, **named)
            self.count += 1
            self.characters += len(news.more)
            return news

        monkeypatch.setattr(checkpoints, "get_news", counting)


async def grown(stream: Stream, text: str) -> None:
    """Read until *text* was said."""
    await stream.until(lambda _: text in said(stream.events))


async def pair(start: StartNode, **settings: str) -> tuple[Node, Node, Person]:
    """Start two nodes; return them and somebody."""
    node, other = await start(**settings), await start(**settings)
    return node, other, node.person()


@needs_redis
async def test_pieces_reach_the_other_node_through_redis(
    start: StartNode,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All of them, once, with hardly a look into the database, sealed, and gone after a minute."""
    caplog.set_level(logging.DEBUG)
    node, other, ana = await pair(start, **through(redis))
    gates = [asyncio.Event() for _ in WORDS]
    node.stage.play([step for pair_ in zip(gates, WORDS, strict=True) for step in pair_])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(UI, submit(chat, "Tell")) as here:
        gates[0].set()
        await here.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{UI}/{chat}/stream", method="GET") as stream:
            await grown(stream, WORDS[0])
            # From the first piece that came by the stream on:
            await until(lambda: bool(node.services.replies.tails._by_stream))
            gates[1].set()
            await grown(stream, WORDS[1])
            looks = Looks(monkeypatch)
            for gate, word in zip(gates[2:-1], WORDS[2:-1], strict=True):
                gate.set()
                await grown(stream, word)
            with redis.client() as client:
                (key,) = client.keys("chatkeep:tail:*")
                assert 0 < client.pttl(key) <= 60_000
                assert 0 < client.xlen(key) <= 500
                kept = b"".join(fields[b"d"] for _, fields in client.xrange(key))
                assert b"word" not in kept
                assert ana.id.encode() not in key
            assert looks.count <= 6
            gates[-1].set()
            await stream.rest()
            assert said(stream.events) == "".join(WORDS)
            assert types(stream.events)[-2:] == ["finish", "[DONE]"]
    assert "word1 " not in caplog.text


@needs_redis
@pytest.mark.parametrize("fault", ["killed", "flushed", "held up", "wrong type"])
async def test_redis_that_fails_in_the_middle_loses_nothing_and_repeats_nothing(
    start: StartNode, redis: RedisServer, fault: str
) -> None:
    """The reader goes on through the database, and through Redis again when it is back."""
    node, other, ana = await pair(start, **through(redis))
    gates = [asyncio.Event() for _ in WORDS]
    node.stage.play([step for pair_ in zip(gates, WORDS, strict=True) for step in pair_])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(UI, submit(chat, "Tell")) as here:
        gates[0].set()
        await here.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{UI}/{chat}/stream", method="GET") as stream:
            for number, (gate, word) in enumerate(zip(gates, WORDS, strict=True)):
                if number == 20:
                    _break(redis, fault)
                if number == 40:
                    _mend(redis, fault)
                gate.set()
                if number % 5 == 0:
                    await grown(stream, word)
            await stream.rest()
            assert said(stream.events) == "".join(WORDS)
            assert types(stream.events).count("text-start") == 1
            assert types(stream.events)[-2:] == ["finish", "[DONE]"]
        await here.rest()
        assert said(here.events) == "".join(WORDS)


def _break(redis: RedisServer, fault: str) -> None:
    if fault == "killed":
        redis.kill()
    elif fault == "held up":
        redis.hold_up()
    else:
        with redis.client() as client:
            names = client.keys("chatkeep:tail:*")
            client.flushall()
            if fault == "wrong type":
                for name in names:
                    client.set(name, "a trap")


def _mend(redis: RedisServer, fault: str) -> None:
    if fault == "killed":
        redis.start()
    elif fault == "held up":
        redis.let_go()


@needs_redis
async def test_forged_pieces_are_not_shown(start: StartNode, redis: RedisServer) -> None:
    """Whoever writes to the Redis puts no word into anybody's answer."""
    node, other, ana = await pair(start, **through(redis))
    gate = asyncio.Event()
    node.stage.play(["True", gate, " words."])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(UI, submit(chat, "Tell")) as here:
        await here.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{UI}/{chat}/stream", method="GET") as stream:
            started = await stream.next()
            assert started is not None
            run = started.data["messageMetadata"]["run_id"]
            await grown(stream, "True")
            with redis.client() as client:
                forged = b'[[0,4,{"type":"text","text":" lies."}]]'
                client.xadd(f"chatkeep:tail:{run}", {"d": forged})
                client.xadd(f"chatkeep:tail:{run}", {"d": b"end"})
                client.xadd(f"chatkeep:tail:{run}", {"x": b"y"})
                client.publish("chatkeep_tails", f"?{run}")
            gate.set()
            await stream.rest()
            assert said(stream.events) == "True words."


async def test_without_redis_only_what_is_new_is_read(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told of each checkpoint, a reader looks once for each, and reads every character once."""
    node, other, ana = await pair(start)
    gates = [asyncio.Event() for _ in WORDS]
    node.stage.play([step for pair_ in zip(gates, WORDS, strict=True) for step in pair_])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(UI, submit(chat, "Tell")) as here:
        gates[0].set()
        await here.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{UI}/{chat}/stream", method="GET") as stream:
            await grown(stream, WORDS[0])
            looks = Looks(monkeypatch)
            for gate, word in list(zip(gates, WORDS, strict=True))[1:8]:
                gate.set()
                await grown(stream, word)
            assert looks.characters == sum(len(word) for word in WORDS[1:8])
            assert looks.count <= 7 * 4
            for gate in gates:
                gate.set()
            await stream.rest()
            assert said(stream.events) == "".join(WORDS)


async def test_who_waits_for_a_silent_model_hardly_looks(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is said, nobody asks four times a second whether something was."""
    node, other, ana = await pair(start)
    gate = asyncio.Event()
    node.stage.play(["Hm", gate, "."])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(UI, submit(chat, "Tell")) as here:
        await here.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{UI}/{chat}/stream", method="GET") as stream:
            await grown(stream, "Hm")
            looks, began = Looks(monkeypatch), time.monotonic()
            await until(lambda: looks.count >= 5)
            assert time.monotonic() - began > 2  # at four times a second it would be 1.25
            gate.set()
            await stream.rest()
            assert said(stream.events) == "Hm."
