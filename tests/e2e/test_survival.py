"""Answers survive: many at once through a real provider, and the death of the server."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web

from tests.free_ports import free_port
from tests.patience import PATIENCE_S
from tests.peers import Peer, numbered, start_aimock
from tests.server_process import ServerProcess, server_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

TURNS = 200
KILLED = 20
BEGUN_TOGETHER = 10
SENT_TOGETHER = 8
#: How many messages are being sent when the server is killed; `make kills` asks for more.
KILLS = int(os.environ.get("KILLS", "32"))
#: Sending takes about so long; the kills come at moments spread over it.
SENDING_S = 0.35
ANSWER = numbered("word", 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question on its way, and what came back of its answer."""

    conversation_id: str
    question: str
    text: str
    ended: bool
    last: str = ""
    error: str = ""


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Peer]:
    """A provider that says 300 words to whatever is called long, 60 in a second."""
    with start_aimock(tmp_path) as running:
        yield running


@pytest.fixture
async def server(upstream: Peer, settled: Path) -> AsyncIterator[ServerProcess]:
    """The server as a person starts it, answering from *upstream*."""
    settings = {
        "OPENAI_API_KEY": upstream.api_key,
        "OPENAI_BASE_URL": upstream.base_url,
        "RATE_LIMITS": "off",
    }
    async with server_process(settled / ".chatkeep", settings) as running:
        yield running


@pytest.fixture
async def endless() -> AsyncIterator[str]:
    """A provider whose answers never end by themselves: its address."""

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        with suppress(ConnectionError):
            for number in count():
                delta = {"choices": [{"index": 0, "delta": {"content": f"word{number} "}}]}
                await stream.write(b"data: " + json.dumps(delta).encode() + b"\n\n")
                await asyncio.sleep(0.5)  # how fast it speaks; nobody waits for that
        return stream

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    yield f"http://127.0.0.1:{port}/v1"
    await runner.cleanup()


def _question(number: int) -> str:
    return f"a long answer to question {number}, please"


async def _ask(
    http: aiohttp.ClientSession,
    server: ServerProcess,
    token: str,
    question: str,
    began: asyncio.Event | None = None,
) -> Turn:
    """Ask in a new conversation and read the stream for as long as it comes.

    *began* is set when something was said.
    """
    conversation_id, text, ended, last, error = str(uuid4()), "", False, "", ""
    message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": question}]}
    body = {"id": conversation_id, "messages": [message], "trigger": "submit-message"}
    headers = {"authorization": f"Bearer {token}"}
    with suppress(aiohttp.ClientError):
        async with http.post(f"{server.base}/api/chat", json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    chunk = json.loads(line[6:])
                    text += chunk.get("delta", "")
                    last = chunk["type"]
                    error = chunk.get("errorText", "")
                    ended = ended or last == "finish"
                    if began is not None and text:
                        began.set()
    return Turn(
        conversation_id=conversation_id,
        question=question,
        text=text,
        ended=ended,
        last=last,
        error=error,
    )


async def _all_begun(
    http: aiohttp.ClientSession, server: ServerProcess, people: list[str]
) -> list[asyncio.Task[Turn]]:
    """Ask all questions and return when each is being answered.

    A few at a time: a crowd that waits for the database for longer than 5 s is sent away.
    """
    asking: list[asyncio.Task[Turn]] = []
    for first in range(0, TURNS, BEGUN_TOGETHER):
        began = [asyncio.Event() for _ in range(BEGUN_TOGETHER)]
        asking += [
            asyncio.create_task(_ask(http, server, people[n % len(people)], _question(n), one))
            for n, one in enumerate(began, first)
        ]
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(
                *(_begun(one, asked) for one, asked in zip(began, asking[first:], strict=True))
            )
    return asking


async def _begun(began: asyncio.Event, asked: asyncio.Task[Turn]) -> None:
    """Wait until an answer has begun; fail with what *asked* was told, where it never does."""
    waiting = asyncio.create_task(began.wait())
    await asyncio.wait({waiting, asked}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not began.is_set():
        turn = asked.result()
        pytest.fail(f"the answer to {turn.question!r} never began: {turn.last} {turn.error}")


async def _read(
    http: aiohttp.ClientSession, server: ServerProcess, token: str, conversation_id: str
) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}"}
    url = f"{server.base}/api/v1/chat/{conversation_id}"
    async with http.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        page: dict[str, Any] = await answer.json()
        return page


async def test_two_hundred_answers_at_once_are_all_whole_kept_and_apart(
    server: ServerProcess, upstream: Peer
) -> None:
    """None is lost, none is mixed with another, each is stored and asked for once."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        people = [await server.sign_up(http) for _ in range(5)]
        turns = await asyncio.gather(*await _all_begun(http, server, people))
        assert all(turn.ended and turn.text == ANSWER for turn in turns)
        for number, turn in enumerate(turns):
            page = await _read(http, server, people[number % 5], turn.conversation_id)
            question, answer = page["messages"]
            assert question["content"] == turn.question == _question(number)
            assert (answer["content"], answer["status"]) == (turn.text, "done")
        asked = [call["messages"][-1]["content"] for call in upstream.received()]
        assert sorted(asked) == sorted(turn.question for turn in turns)


async def test_what_was_said_before_the_server_was_killed_is_there_and_marked(
    server: ServerProcess, upstream: Peer
) -> None:
    """After kill -9: every question, every partial answer, nothing stuck, nothing asked twice."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        token = await server.sign_up(http)
        asking = [
            asyncio.create_task(_ask(http, server, token, _question(n))) for n in range(KILLED)
        ]
        await server.until_every_answer_grew(http, token, KILLED)
        await server.kill()
        turns = await asyncio.gather(*asking)
    assert not any(turn.ended for turn in turns)
    async with aiohttp.ClientSession() as http:
        await server.start()
        for turn in turns:
            page = await _read(http, server, token, turn.conversation_id)
            question, answer = page["messages"]
            assert question["content"] == turn.question
            assert answer["status"] == "interrupted"
            assert page["active_run"] is None
            assert answer["content"]
            assert ANSWER.startswith(answer["content"])
        after = await _ask(http, server, token, "afterwards")
        assert after.ended
        assert len(upstream.received()) == KILLED + 1
        await _goes_on(http, server, token, turns[0].conversation_id)
        assert len(upstream.received()) == KILLED + 2


async def _goes_on(
    http: aiohttp.ClientSession, server: ServerProcess, token: str, conversation_id: str
) -> None:
    """Continue what the kill cut off: the message is the same, and begins as it did."""
    before = (await _read(http, server, token, conversation_id))["messages"][-1]
    headers = {"authorization": f"Bearer {token}"}
    url = f"{server.base}/api/v1/chat/{conversation_id}/continue"
    async with http.post(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    page = await _read(http, server, token, conversation_id)
    after = page["messages"][-1]
    assert (after["id"], after["status"]) == (before["id"], "done")
    assert after["content"].startswith(before["content"])
    assert len(after["content"]) > len(before["content"])
    assert len(page["messages"]) == 2


async def test_two_hundred_streams_are_told_when_the_server_is_told_to_end(
    endless: str, settled: Path
) -> None:
    """On SIGTERM each ends with an error, and what it has been told is kept to the letter."""
    settings = {
        "OPENAI_API_KEY": "any",
        "OPENAI_BASE_URL": endless,
        "RATE_LIMITS": "off",
        "DRAIN_SECONDS": "0",
    }
    async with (
        server_process(settled / ".chatkeep", settings) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        people = [await server.sign_up(http) for _ in range(5)]
        asking = await _all_begun(http, server, people)
        await server.stop()
        turns = await asyncio.gather(*asking)
        assert {(turn.ended, turn.last) for turn in turns} == {(False, "error")}
        await server.start()
        for number, turn in enumerate(turns):
            page = await _read(http, server, people[number % 5], turn.conversation_id)
            answer = page["messages"][-1]
            assert (answer["status"], page["active_run"]) == ("interrupted", None)
            assert answer["content"] == turn.text != ""


async def test_killed_at_any_point_of_sending_nothing_is_lost_or_doubled(
    server: ServerProcess, upstream: Peer
) -> None:
    """After kill -9 a repeated message is there once, answered or marked, and was asked once."""
    rounds = max(KILLS // SENT_TOGETHER, 1)
    for number in range(rounds):
        pause_s = SENDING_S * number / rounds
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            token = await server.sign_up(http)
            talks = [await _start(http, server, token) for _ in range(SENT_TOGETHER)]
            sending = [asyncio.create_task(_send(http, server, token, one)) for one in talks]
            await asyncio.sleep(pause_s)
            await server.kill()
            first = await asyncio.gather(*sending)
            await server.start()
            again = await asyncio.gather(*(_send(http, server, token, one) for one in talks))
            for talk, told, retold in zip(talks, first, again, strict=True):
                assert retold.get("run_id")
                assert told.get("run_id") in {None, retold["run_id"]}
                page = await _read(http, server, token, talk)
                assert [one["role"] for one in page["messages"]] == [
                    *("assistant", "user", "assistant"),
                ]
                question, answer = page["messages"][1:]
                assert question["content"] == f"a short answer in {talk}, please"
                assert answer["status"] in {"done", "interrupted"}
                assert page["active_run"] is None
            asked = [call["messages"][-1]["content"] for call in upstream.received()]
            assert max(Counter(asked).values(), default=1) == 1


async def _start(http: aiohttp.ClientSession, server: ServerProcess, token: str) -> str:
    """Start a conversation; return its id."""
    headers = {"authorization": f"Bearer {token}"}
    async with http.post(f"{server.base}/api/v1/chat/start", headers=headers) as answer:
        conversation_id: str = (await answer.json())["conversation_id"]
        return conversation_id


async def _send(
    http: aiohttp.ClientSession, server: ServerProcess, token: str, talk: str
) -> dict[str, Any]:
    """Send one message under the key of its conversation; return what is answered, if anything."""
    headers = {"authorization": f"Bearer {token}", "idempotency-key": f"the one of {talk}"}
    body = {"conversation_id": talk, "message": f"a short answer in {talk}, please"}
    with suppress(aiohttp.ClientError):
        async with http.post(
            f"{server.base}/api/v1/chat/message", json=body, headers=headers
        ) as answer:
            found: dict[str, Any] = await answer.json()
            return found
    return {}
