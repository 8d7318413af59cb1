"""An unmodified `@supabase/supabase-js` signs up, in, refreshes and out against a node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.gotrue_people import OURS_ALONE
from tests.serving import start_node
from tests.stories import told_by

if TYPE_CHECKING:
    from tests.postgres_servers import MigratedDatabase

STORY = Path(__file__).with_name("supabase_js_story.mjs")
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
    async with aiohttp.ClientSession() as session:
        node = await start_node(database.url, session, "", **OURS_ALONE)
        told = await told_by(STORY, node.url, node.services.embedded.supabase_keys.publishable)
        await node.stop()
    return told


@pytest.mark.parametrize("step", STEPS)
async def test_step_of_the_story(told: dict[str, str | None], step: str) -> None:
    """The client sees what Supabase Auth would have shown it."""
    assert told[step] is None


async def test_every_step_is_looked_at(told: dict[str, str | None]) -> None:
    """The story and the list of its steps are the same."""
    assert list(told) == STEPS
