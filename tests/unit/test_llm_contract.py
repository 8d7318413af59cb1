"""What every `Model` keeps to: the adapter, ELIZA, and the fake that stands for them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from chatkeep.errors import ModelTimeout, ModelUnavailable
from chatkeep.events import Done, ReasoningDelta, TextDelta, ToolCall, Usage
from chatkeep.llm.eliza import Eliza
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from chatkeep.testing import FakeModel
from tests.raw_upstream import Wire, raw_upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Contender = OpenAICompatibleModel | Eliza | FakeModel

PROMPT = Prompt(
    messages=[PromptMessage(role="user", text="Hello")],
    settings=ModelSettings(model="some/model"),
)


async def _provide(wire: Wire) -> None:
    """A provider, as far as the contract needs one."""
    if wire.request.line.startswith("GET"):
        await wire.answer(200, {"data": [{"id": "some/model"}]})
        return
    await wire.begin()
    for word in ("Good ", "day ", "to ", "you."):
        await wire.say(word)
        await asyncio.sleep(0)
    await wire.event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 4}})
    await wire.finish()


@pytest.fixture(params=["adapter", "eliza", "fake"])
async def model(request: pytest.FixtureRequest) -> AsyncIterator[Contender]:
    """Each of them in turn."""
    if request.param == "eliza":
        yield Eliza(pause_s=0)
    elif request.param == "fake":
        yield FakeModel(["Good ", "day.", Usage(completion_tokens=2)])
    else:
        async with raw_upstream(_provide) as upstream:
            adapter = OpenAICompatibleModel(base_url=upstream.base_url, api_key="k")
            yield adapter
            await adapter.aclose()


async def test_deltas_then_usage_then_exactly_one_done(model: Contender) -> None:
    """In this order, nothing after the end, no empty delta, no NUL."""
    events = [event async for event in model.stream(PROMPT)]
    kinds = [type(event) for event in events]
    assert kinds[-2:] == [Usage, Done]
    assert set(kinds[:-2]) == {TextDelta}
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert all(texts)
    assert "\0" not in "".join(texts)


async def test_answers_do_not_depend_on_each_other(model: Contender) -> None:
    """Several at once are as good as one."""
    answers = await asyncio.gather(*(_text(model) for _ in range(5)))
    assert len(set(answers)) == 1


async def _text(model: Contender) -> str:
    events = [event async for event in model.stream(PROMPT)]
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_answer_can_be_left_in_the_middle(model: Contender) -> None:
    """And the next one is whole."""
    async with aclosing(model.stream(PROMPT)) as events:
        assert isinstance(await anext(events), TextDelta)
    assert await _text(model)


async def test_answer_can_be_cancelled(model: Contender) -> None:
    """Cancellation passes through."""
    task = asyncio.create_task(_text(model))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _text(model)


async def test_models_have_ids_and_names(model: Contender) -> None:
    """For the list to choose from."""
    listed = await model.list_models()
    assert listed
    assert all(one.id and one.name for one in listed)
    assert model.name


async def test_closing_is_harmless(model: Contender) -> None:
    """Twice, and before any use."""
    await model.aclose()
    await model.aclose()


# --- what only the fake can do ----------------------------------------------------------


async def test_fake_plays_its_scripts_in_turn() -> None:
    """The last one for ever; every kind of event can be said; prompts are kept."""
    thought, call = ReasoningDelta(text="hm"), ToolCall(call_id="c", name="f", arguments="{}")
    fake = FakeModel([thought, "a", call], ["b", Done(finish_reason="length")])
    answers = [[event async for event in fake.stream(PROMPT)] for _ in range(3)]
    assert answers[0] == [thought, TextDelta(text="a"), call, Done(finish_reason="stop")]
    assert answers[1] == answers[2] == [TextDelta(text="b"), Done(finish_reason="length")]
    assert fake.prompts == [PROMPT] * 3
    assert (fake.running, fake.abandoned) == (0, 0)


async def test_fake_fails_when_the_script_says_so() -> None:
    """Before or after it said something."""
    fake = FakeModel([ModelUnavailable()], ["so far", ModelTimeout()])
    with pytest.raises(ModelUnavailable):
        await anext(fake.stream(PROMPT))
    stream = fake.stream(PROMPT)
    assert await anext(stream) == TextDelta(text="so far")
    with pytest.raises(ModelTimeout):
        await anext(stream)
    assert (fake.running, fake.abandoned) == (0, 0)


async def test_fake_waits_at_its_gates() -> None:
    """So that a test decides what happens in between."""
    gate = asyncio.Event()
    fake = FakeModel(["a", gate, "b"])
    stream = fake.stream(PROMPT)
    assert await anext(stream) == TextDelta(text="a")
    rest = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not rest.done()
    assert fake.running == 1
    gate.set()
    assert await rest == TextDelta(text="b")
    await stream.aclose()
    assert (fake.running, fake.abandoned) == (0, 1)


async def test_fake_can_answer_by_function() -> None:
    """For canaries: each prompt its own answer."""
    fake = FakeModel(answer=lambda prompt: [prompt.messages[-1].text, "!"])
    assert await _text(fake) == "Hello!"
    await fake.aclose()
    assert fake.closed
