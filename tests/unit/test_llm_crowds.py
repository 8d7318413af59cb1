"""Many answers at once are taken in larger pieces, and few are not."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

import pytest

from chatkeep.events import Done, TextDelta
from chatkeep.llm.crowds import Crowd, _wanted_s
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from tests.raw_upstream import Wire, raw_upstream

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = Prompt(
    messages=[PromptMessage(role="user", text="Hi")],
    settings=ModelSettings(model="vendor/model"),
)


class _Loop:
    """An event loop that has work for a part of the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wanted = 0.0

    def crowd(self, count: int) -> Crowd:
        crowd = Crowd(clock=lambda: self.now, wanted=lambda: self.wanted)
        for _ in range(count):
            crowd.enter()
        return crowd

    def rests(self, crowd: Crowd, *, busy: float, looks: int = 1) -> list[float]:
        """Let time pass in which it is so *busy*; return how long each rested after each look."""
        found = []
        for _ in range(looks):
            self.now, self.wanted = self.now + 0.2, self.wanted + 0.2 * busy
            found.append(crowd.rest_s)
        return found


def test_few_do_not_rest() -> None:
    """Nothing is held back where nothing is gained by it."""
    loop = _Loop()
    assert loop.rests(loop.crowd(100), busy=1, looks=50) == [0] * 50


def test_many_do_not_rest_while_there_is_time_for_each_piece() -> None:
    """Half a core that nobody uses is no reason to be late."""
    loop = _Loop()
    assert loop.rests(loop.crowd(1000), busy=0.45, looks=50) == [0] * 50


def test_rests_grow_while_the_loop_is_busy_and_end_when_it_is_not() -> None:
    """However long it is: a tenth of a second would be noticed, and sending takes some of it."""
    loop = _Loop()
    crowd = loop.crowd(1000)
    rests = loop.rests(crowd, busy=0.95, looks=100)
    assert all(one <= other for one, other in itertools.pairwise(rests))
    assert 0 < max(rests) <= 0.06
    assert rests[-1] == rests[-2], "the longest"
    assert loop.rests(crowd, busy=0.3, looks=100)[-1] == 0


def test_waiting_for_a_core_counts_as_work() -> None:
    """What has no core to run on looks idle, and is not."""
    loop = _Loop()
    more, less = (loop.rests(loop.crowd(1000), busy=busy)[0] for busy in (0.8, 0.6))
    assert more > less > 0


@pytest.mark.parametrize("said", [None, "gone", "", "0 0 0\n", "-\n"])
def test_what_a_thread_has_run_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    """Also on a busy machine, where what it has waited for a core counts beside it.

    And on systems that do not tell.
    """
    if said is not None:
        told = tmp_path / "schedstat"
        monkeypatch.setattr("chatkeep.llm.crowds._SCHEDULED", told)
        if said != "gone":
            told.write_text(said)
    wanted, ran = _wanted_s(), time.thread_time()
    while time.thread_time() < ran + 0.05:
        pass
    assert _wanted_s() - wanted > 0.04


@pytest.fixture
def _crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crowd, "rest_s", 0.04)


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
