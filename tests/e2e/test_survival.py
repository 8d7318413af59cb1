"""Answers survive: many at once through a real provider, and the death of the server."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import pytest

from tests.peers import Peer, numbered, start_aimock
from tests.server_process import ServerProcess, server_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

TURNS = 200
KILLED = 20
ANSWER = numbered("word", 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question on its way, and what came back of its answer."""

    conversation_id: str
    question: str
    text: str
    ended: bool


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Peer]:
    """A provider that says 300 words to whatever is called long, 60 in a second."""
    with start_aimock(tmp_path) as running:
        yield running


@pytest.fixture
async def server(upstream: Peer, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """The server as a person starts it, answering from *upstream*."""
    settings = {
        "OPENAI_API_KEY": upstream.api_key,
        "OPENAI_BASE_URL": upstream.base_url,
        "RATE_LIMITS": "off",
    }
    async with server_process(tmp_path / "data", settings) as running:
        yield running


def _question(number: int) -> str:
    return f"a long answer to question {number}, please"


async def _ask(
    http: aiohttp.ClientSession, server: ServerProcess, token: str, question: str
) -> Turn:
    """Ask in a new conversation and read the stream for as long as it comes."""
    conversation_id, text, ended = str(uuid4()), "", False
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
                    ended = ended or chunk["type"] == "finish"
    return Turn(conversation_id=conversation_id, question=question, text=text, ended=ended)


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
        turns = await asyncio.gather(
            *(_ask(http, server, people[n % 5], _question(n)) for n in range(TURNS))
        )
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
