"""What one streamed, signed-in, stored turn adds to calling the upstream directly."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import aiohttp

from benchmarks.stack import LOAD_CORE, aimock, chatkeep, pin, sign_up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_ANSWER = " ".join(f"word{number}" for number in range(60))


def measure(*, quick: bool) -> dict[str, float]:
    """Return medians in ms: the first token and the whole turn, directly and through us."""
    turns = 60 if quick else 300
    fixtures = [{"match": {}, "response": {"content": _ANSWER}}]
    with (
        aimock(fixtures) as upstream,
        chatkeep(OPENAI_API_KEY="bench", OPENAI_BASE_URL=upstream) as base,
    ):
        return asyncio.run(_compare(upstream, base, sign_up(base), turns))


async def _compare(upstream: str, base: str, token: str, turns: int) -> dict[str, float]:
    direct: list[tuple[float, float]] = []
    through: list[tuple[float, float]] = []
    async with aiohttp.ClientSession() as http:

        def ask_upstream() -> Awaitable[tuple[float, float]]:
            question = [{"role": "user", "content": "hello"}]
            body = {"model": "gpt-4o-mini", "stream": True, "messages": question}
            url = f"{upstream}/chat/completions"
            return _timed(http, url, "bench", body, lambda line: b'"content":"' in line)

        def ask_us() -> Awaitable[tuple[float, float]]:
            parts = [{"type": "text", "text": "hello"}]
            message = {"id": uuid4().hex, "role": "user", "parts": parts}
            body = {"id": str(uuid4()), "message": message, "trigger": "submit-message"}
            return _timed(http, f"{base}/api/chat", token, body, lambda line: b"-delta" in line)

        for number in range(turns + 10):
            pair = (await ask_upstream(), await ask_us())
            if number >= 10:  # the first ones warm up connections and plans
                direct.append(pair[0])
                through.append(pair[1])
    return _figures(direct, through)


async def _timed(
    http: aiohttp.ClientSession,
    url: str,
    token: str,
    body: object,
    is_first: Callable[[bytes], bool],
) -> tuple[float, float]:
    """Return the milliseconds to the first token and to the end."""
    began, first = time.perf_counter(), 0.0
    headers = {"authorization": f"Bearer {token}"}
    async with http.post(url, json=body, headers=headers) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not first and is_first(line):
                first = time.perf_counter() - began
    if not first:
        raise RuntimeError("a turn without a token")
    return first * 1000, (time.perf_counter() - began) * 1000


def _figures(
    direct: list[tuple[float, float]], through: list[tuple[float, float]]
) -> dict[str, float]:
    figures = {}
    for index, name in enumerate(("first_token", "turn")):
        theirs = statistics.median(one[index] for one in direct)
        ours = statistics.median(one[index] for one in through)
        figures[f"{name}_direct_ms"] = round(theirs, 2)
        figures[f"{name}_ms"] = round(ours, 2)
        figures[f"{name}_added_ms"] = round(ours - theirs, 2)
    return figures


if __name__ == "__main__":
    pin(LOAD_CORE)
    print(json.dumps(measure(quick="--quick" in sys.argv)))
