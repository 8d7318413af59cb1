"""An unmodified `@supabase/supabase-js` signs up, in, refreshes and out against a node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.serving import start_node

if TYPE_CHECKING:
    from tests.postgres_servers import MigratedDatabase

STORY = Path(__file__).with_name("supabase_js_story.mjs")
CLIENT = STORY.parents[1] / "clients" / "node_modules" / "@supabase" / "supabase-js"
STEPS = [
    "sign up",
    "a taken address is refused",
    "a weak password is refused with its reasons",
    "sign in",
    "come back tomorrow with the same browser",
    "an expired session in the browser is refreshed by itself",
    "a session that runs out soon is refreshed by itself",
    "the token is verified in the client",
    "the server is asked who that is",
    "change oneself",
    "many tabs refresh at once",
    "a lost answer is given again",
    "a stolen token ends the session",
    "a session is carried over",
    "sign out in three scopes",
    "a session that ended elsewhere is noticed",
    "listeners hear what happens",
    "what is not offered is refused in words it knows",
]


@pytest.fixture(scope="module")
async def told(database: MigratedDatabase) -> dict[str, str | None]:
    """What happened at each step: None, or what went wrong."""
    if not CLIENT.exists():
        pytest.skip("the npm packages of tests/clients are not installed: run `make test`")
    async with aiohttp.ClientSession() as session:
        alone = {"SUPABASE_PROJECT_URL": "", "SUPABASE_JWT_SECRET": ""}
        node = await start_node(database.url, session, "", **alone)
        key = node.parts.embedded.api_keys.publishable
        process = await asyncio.create_subprocess_exec(
            *("node", STORY, node.url, key),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, complaints = await process.communicate()
        await node.stop()
    assert process.returncode == 0, complaints.decode()
    lines = [json.loads(line) for line in output.splitlines()]
    return {line["step"]: line.get("error") for line in lines}


@pytest.mark.parametrize("step", STEPS)
async def test_step_of_the_story(told: dict[str, str | None], step: str) -> None:
    """The client sees what Supabase Auth would have shown it."""
    assert told[step] is None


async def test_every_step_is_looked_at(told: dict[str, str | None]) -> None:
    """The story and the list of its steps are the same."""
    assert list(told) == STEPS
