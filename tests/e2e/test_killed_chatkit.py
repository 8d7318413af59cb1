"""The support chat and a server that is killed while it answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp

from tests.chatkit_client import ROUTE, request, said_by_user, text_of
from tests.server_process import server_process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Settle

STORY = "Write a long story of at least 400 words."


async def test_killed_server_keeps_what_it_had_said(tmp_path: Path, settle: Settle) -> None:
    """The thread has its question once and part of the answer, and opens as ever."""
    settle(tmp_path / "data")
    async with (
        server_process(tmp_path / "data", {"RATE_LIMITS": "off"}) as server,
        aiohttp.ClientSession() as http,
    ):
        headers = {"authorization": f"Bearer {await server.sign_up(http)}"}
        address, thread, deltas = f"{server.base}{ROUTE}", "", 0
        body = request("threads.create", input=said_by_user(STORY))
        async with http.post(address, json=body, headers=headers) as answer:
            async for line in answer.content:
                event = json.loads(line.removeprefix(b"data: ")) if b"{" in line else {}
                thread = thread or event.get("thread", {}).get("id", "")
                deltas += event.get("update", {}).get("type", "").endswith("text_delta")
                if deltas == 3:
                    break
            await server.until_every_answer_grew(http, headers["authorization"][7:], 1)
            await server.kill()
        await server.start()
        listing = request("items.list", thread_id=thread, order="asc")
        async with http.post(address, json=listing, headers=headers) as answer:
            items = (await answer.json())["data"]
    assert [item["type"] for item in items] == ["user_message", "assistant_message"]
    assert text_of(items[0]) == STORY
    assert text_of(items[1])
