"""Many answers at once are taken in larger pieces, and few are not."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from chatkeep.events import Done, TextDelta
from chatkeep.llm.crowds import Crowd
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from tests.raw_upstream import Wire, raw_upstream

PROMPT = Prompt(
    messages=[PromptMessage(role="user", text="Hi")],
    settings=ModelSettings(model="vendor/model"),
)


def test_few_do_not_rest() -> None:
    """Nothing is held back where nothing is gained by it."""
    crowd = Crowd()
    for _ in range(100):
        crowd.enter()
    assert crowd.rest_s == 0


def test_rests_grow_with_the_crowd_and_end() -> None:
    """However many there are, nobody waits for longer than a reader would notice."""
    crowd, rests = Crowd(), []
    for _ in range(3000):
        crowd.enter()
        rests.append(crowd.rest_s)
    assert all(one <= other for one, other in itertools.pairwise(rests))
    assert 0 < rests[499] <= max(rests) <= 0.05
    for _ in range(3000):
        crowd.leave()
    assert crowd.rest_s == 0


@pytest.fixture
def _crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatkeep.llm.crowds._FEW", 1)
    monkeypatch.setattr("chatkeep.llm.crowds._EACH_S", 0.04)


@pytest.mark.usefixtures("_crowded")
async def test_pieces_that_come_during_a_rest_are_one() -> None:
    """Nothing is lost; the first piece was there before the provider said the next."""
    heard, said = asyncio.Event(), []

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("a")
        await heard.wait()
        for text in "bcdef":
            await wire.say(text)
        await wire.finish()

    async with raw_upstream(answer) as upstream:
        model = OpenAICompatibleModel(base_url=upstream.base_url, api_key="key")
        try:
            async for event in model.stream(PROMPT):
                said.append(event)
                heard.set()
        finally:
            await model.aclose()
    assert said[:2] == [TextDelta(text="a"), TextDelta(text="bcdef")]
    assert isinstance(said[-1], Done)


@pytest.mark.usefixtures("_crowded")
async def test_ended_answers_leave_the_crowd() -> None:
    """Also those that are broken off, and each once."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("a")
        await wire.finish()

    async with raw_upstream(answer) as upstream:
        model = OpenAICompatibleModel(base_url=upstream.base_url, api_key="key")
        crowd = model._upstream._crowd
        try:
            async for _ in model.stream(PROMPT):
                assert crowd._count == 1
            broken_off = model.stream(PROMPT)
            await anext(broken_off)
            assert crowd._count == 1
            await broken_off.aclose()
        finally:
            await model.aclose()
    assert crowd._count == 0
