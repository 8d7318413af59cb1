"""The unmodified `openai` package of npm against a node."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chatkeep.errors import ModelTimeout
from chatkeep.events import Done, TextDelta, ToolCall, Usage
from chatkeep.llm.model import ModelInfo
from tests.http.test_openai_api import key_of
from tests.serving import start_node
from tests.stories import told_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import Prompt
    from tests.postgres_servers import MigratedDatabase

STORY = Path(__file__).with_name("openai_story.mjs")
STEPS = [
    "models",
    "chat, whole and streamed",
    "chat with a function",
    "chat that is kept",
    "bad keys",
    "bad requests",
    "aborted",
    "response, whole and streamed",
    "response with a function",
    "response in the background",
    "response that fails midway",
    "response that is deleted",
    "conversation",
    "sent twice",
]


class Echo:
    """A model that does with a text what the story says."""

    name = "echo"

    def __init__(self) -> None:
        self._numbers = count(1)

    async def stream(self, prompt: Prompt) -> AsyncIterator[ModelEvent]:
        """Answer the last message."""
        last = prompt.messages[-1]
        text = last.text
        if text.startswith("fail"):
            yield TextDelta(text="Half")
            raise ModelTimeout
        if text.startswith("tool") and last.role == "user":
            arguments = json.dumps({"at": text.removeprefix("tool ")}, separators=(",", ":"))
            yield ToolCall(call_id="c1", name="look", arguments=arguments)
            yield Done(finish_reason="tool-calls")
            return
        number = f" {next(self._numbers)}" if "count" in text else ""
        for piece in (f"re: {text}{number}", *([" and so on"] * 15 if "slow" in text else ())):
            yield TextDelta(text=piece)
            if "slow" in text:
                await asyncio.sleep(0.02)  # as models do
        yield Usage(prompt_tokens=4, completion_tokens=3)
        yield Done(finish_reason="stop")

    async def list_models(self) -> list[ModelInfo]:
        """Have one."""
        return [ModelInfo(id="echo/model", name="Echo")]


@pytest.fixture(scope="module")
async def told(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> dict[str, str | None]:
    """What happened at each step: None, or what went wrong."""
    node = await start_node(database.url, session, project, DEFAULT_MODEL="echo/model")
    node.stage.model = Echo()  # type: ignore[assignment]  # a stage plays any model
    told = await told_by(STORY, node.url, key_of(node.person()))
    await node.stop()
    return told


@pytest.mark.parametrize("step", STEPS)
async def test_step_of_the_story(told: dict[str, str | None], step: str) -> None:
    """The client behaves as with OpenAI's own server, and what is kept agrees with it."""
    assert told[step] is None


async def test_every_step_is_looked_at(told: dict[str, str | None]) -> None:
    """The story and the list of its steps are the same."""
    assert list(told) == STEPS
