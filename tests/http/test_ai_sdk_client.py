"""The `Chat` of unmodified `ai` packages, versions 5, 6 and 7, against a node."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chatkeep.errors import ModelTimeout
from chatkeep.events import Done, ReasoningDelta, TextDelta, ToolCall, Usage
from tests.stories import told_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import Prompt
    from tests.serving import Node

STORY = Path(__file__).with_name("ai_sdk_story.mjs")
#: The names that the versions have among the clients.
VERSIONS = ["ai5", "ai6", "ai"]
STEPS = [
    "submit",
    "overrides of the request",
    "only the last message is sent",
    "regenerate",
    "edit, and edit back",
    "stop",
    "resume after a lost connection",
    "two readers",
    "ten duplicates",
    "reasoning and tool calls",
    "a file is shown to the model, and is there after loading",
    "history is made of messages that the SDK takes",
    "a failure",
    "a bad token",
    "a chat begun over REST",
]


class Echo:
    """A model that does with a text what the story says."""

    name = "echo"

    def __init__(self) -> None:
        self._numbers = count(1)

    async def stream(self, prompt: Prompt) -> AsyncIterator[ModelEvent]:
        """Answer the last message."""
        text = prompt.messages[-1].text
        if "fail" in text:
            yield TextDelta(text="Half")
            raise ModelTimeout
        if "think" in text:
            yield ReasoningDelta(text="Hm.")
        for piece in self._pieces(text, prompt):
            yield TextDelta(text=piece)
            if "slow" in text:
                await asyncio.sleep(0.02)  # as models do
        if "think" in text:
            yield ToolCall(call_id="c1", name="look", arguments='{"at":"sky"}')
        yield Usage(prompt_tokens=4, completion_tokens=3)
        yield Done(finish_reason="stop")

    def _pieces(self, text: str, prompt: Prompt) -> list[str]:
        if "picture" in text:
            return ["".join(prompt.messages[-1].images)]
        if "settings" in text:
            return [f"{prompt.settings.temperature} {prompt.settings.max_tokens}"]
        number = f" {next(self._numbers)}" if "count" in text else ""
        return [f"re: {text}{number}", *([" and so on"] * 25 if "slow" in text else [])]


@pytest.fixture(scope="module", params=VERSIONS)
async def told(node: Node, request: pytest.FixtureRequest) -> dict[str, str | None]:
    """What happened at each step: None, or what went wrong."""
    node.stage.model = Echo()  # type: ignore[assignment]  # a stage plays any model
    token = node.person().client.headers["authorization"].removeprefix("Bearer ")
    return await told_by(STORY, node.url, token, request.param)


@pytest.mark.parametrize("step", STEPS)
async def test_step_of_the_story(told: dict[str, str | None], step: str) -> None:
    """The client behaves as with the SDK's own server, and what is kept agrees with it."""
    assert told[step] is None


async def test_every_step_is_looked_at(told: dict[str, str | None]) -> None:
    """The story and the list of its steps are the same."""
    assert list(told) == STEPS
