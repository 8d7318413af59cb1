"""The adapter against providers that nobody here wrote: aimock always, LiteLLM when installed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from chatkeep.config import Settings
from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from chatkeep.events import Answering, Done, ModelEvent, ReasoningDelta, TextDelta, ToolCall, Usage
from chatkeep.llm.choice import choose_model
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.llm.openai_compatible import OpenAICompatibleModel
from tests.free_ports import free_port
from tests.peers import (
    LITELLM,
    SHORT,
    UNICODE,
    Peer,
    numbered,
    start_aimock,
    start_litellm,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from chatkeep.llm.chat_requests import Kind


def ask(text: str, model: str = "gpt-4o-mini") -> Prompt:
    """Return a prompt of one question."""
    return Prompt(
        messages=[PromptMessage(role="user", text=text)],
        settings=ModelSettings(model=model, temperature=0.5, max_tokens=500),
        user_key="person-1",
        conversation_id="conversation-1",
    )


async def collect(model: OpenAICompatibleModel, prompt: Prompt) -> list[ModelEvent]:
    """Take a whole answer."""
    return [event async for event in model.stream(prompt)]


def text_of(events: list[ModelEvent]) -> str:
    """Join what was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


# --- aimock -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """One for all tests of this module."""
    with start_aimock(tmp_path_factory.mktemp("aimock"), latency_ms=1) as peer:
        yield peer


@pytest.fixture(params=["openrouter", "openai", "compatible"])
async def model(
    request: pytest.FixtureRequest, aimock: Peer
) -> AsyncIterator[OpenAICompatibleModel]:
    """The adapter in each of its kinds."""
    kind: Kind = request.param
    adapter = OpenAICompatibleModel(
        base_url=aimock.base_url, api_key=aimock.api_key, kind=kind, app_title="Chatkeep"
    )
    yield adapter
    await adapter.aclose()


async def test_good_answer_arrives_in_pieces_with_usage(model: OpenAICompatibleModel) -> None:
    """In pieces, with usage, to the end."""
    events = await collect(model, ask("Hello"))
    assert text_of(events) == SHORT
    usage, done = events[-2:]
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
    assert done == Done(finish_reason="stop", model="gpt-4o-mini")


async def test_reasoning_comes_before_the_answer(model: OpenAICompatibleModel) -> None:
    """As events of its own."""
    events = await collect(model, ask("think first"))
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert (thought, text_of(events)) == ("Let me see.", "Seen.")


async def test_tool_call_comes_whole(model: OpenAICompatibleModel) -> None:
    """Its arguments were streamed in pieces."""
    events = await collect(model, ask("weather tool"))
    [call] = [event for event in events if isinstance(event, ToolCall)]
    assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')
    assert events[-1] == Done(finish_reason="tool-calls", model="gpt-4o-mini")


async def test_every_character_survives(model: OpenAICompatibleModel) -> None:
    """Also those that the provider cuts in two."""
    assert text_of(await collect(model, ask("unicode please"))) == UNICODE


@pytest.mark.parametrize(
    ("question", "error", "says_something"),
    [
        ("error 429", ModelRateLimited, False),
        ("error 500", ModelUnavailable, False),
        ("cut stream", ModelBroken, True),
        ("disconnect", ModelBroken, True),
    ],
)
async def test_failure_is_named(
    model: OpenAICompatibleModel, question: str, error: type[ChatkeepError], says_something: bool
) -> None:
    """Before or in the middle of the answer, and what was said is kept."""
    events: list[ModelEvent] = []
    stream = model.stream(ask(question))
    try:
        async for event in stream:
            events.append(event)  # noqa: PERF401 -- kept although the loop raises
    except ChatkeepError as caught:
        assert type(caught) is error  # noqa: PT017 -- what came before matters too
    else:
        pytest.fail("no error")
    assert bool(text_of(events)) == says_something


async def test_wrong_key_is_our_fault_and_not_the_callers(aimock: Peer) -> None:
    """The provider's 401 becomes 502."""
    model = OpenAICompatibleModel(base_url=aimock.base_url, api_key="wrong")
    with pytest.raises(ModelMisconfigured) as caught:
        await collect(model, ask("Hello"))
    assert caught.value.status == 502
    await model.aclose()


async def test_answer_can_be_stopped(aimock: Peer) -> None:
    """And the next one is whole."""
    model = OpenAICompatibleModel(base_url=aimock.base_url, api_key=aimock.api_key)
    async with aclosing(model.stream(ask("a long answer"))) as events:
        said = text_of([await anext(events), await anext(events)])
    assert numbered("word", 300).startswith(said)
    assert text_of(await collect(model, ask("Hello"))) == SHORT
    await model.aclose()


async def test_fifty_at_once(aimock: Peer) -> None:
    """None lost, none mixed."""
    model = OpenAICompatibleModel(base_url=aimock.base_url, api_key=aimock.api_key)
    questions = ["Hello", "unicode please"] * 25
    answers = await asyncio.gather(*(collect(model, ask(question)) for question in questions))
    assert [text_of(answer) for answer in answers] == [SHORT, UNICODE] * 25
    await model.aclose()


async def test_models_are_listed(model: OpenAICompatibleModel) -> None:
    """Those that aimock says it has."""
    assert "gpt-4o" in {one.id for one in await model.list_models()}


async def test_stand_in_is_asked_once_and_no_longer_than_somebody_listens(aimock: Peer) -> None:
    """By the provider's own journal: nothing is asked twice, also of answers that are left."""
    settings = Settings.from_env(
        {
            "UPSTREAMS": "away,mock",
            "UPSTREAM_AWAY_URL": f"http://127.0.0.1:{free_port()}/v1",
            "UPSTREAM_MOCK_URL": aimock.base_url,
            "UPSTREAM_MOCK_API_KEY": aimock.api_key,
            "UPSTREAM_MOCK_MODELS": "gpt-4o-mini",
            "MODEL_ROUTES": "fast=gpt-4o@away|gpt-4o-mini@mock",
            "DEFAULT_MODEL": "fast",
        }
    )
    model = choose_model(settings)
    events = [one async for one in model.stream(ask("Hello, stand-in", "fast"))]
    assert events[0] == Answering(model="gpt-4o-mini", upstream="mock")
    assert text_of(events) == SHORT
    async with aclosing(model.stream(ask("a long answer of a stand-in", "fast"))) as left:
        async for event in left:
            if isinstance(event, TextDelta):
                break
    await model.aclose()
    for words in ("Hello, stand-in", "a long answer of a stand-in"):
        assert len([one for one in aimock.received() if words in str(one)]) == 1


async def test_request_is_what_the_provider_expects(aimock: Peer) -> None:
    """As the provider itself noted it down."""
    model = OpenAICompatibleModel(
        base_url=aimock.base_url, api_key=aimock.api_key, kind="openrouter"
    )
    await collect(model, ask("Hello, what do you get?"))
    await model.aclose()
    [body] = [one for one in aimock.received() if "what do you get" in str(one)]
    del body["_endpointType"]  # aimock's own
    assert body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hello, what do you get?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "usage": {"include": True},
        "temperature": 0.5,
        "max_tokens": 500,
        "user": "person-1",
        "session_id": "conversation-1",
    }


# --- LiteLLM ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """One for all tests of this module."""
    with start_litellm(tmp_path_factory.mktemp("litellm")) as peer:
        yield peer


needs_litellm = pytest.mark.skipif(
    not LITELLM.exists(), reason="LiteLLM is not installed: run scripts/litellm-peer"
)


@pytest.mark.peers
@needs_litellm
async def test_litellm_good_answers(litellm: Peer) -> None:
    """Short and long, with usage, and its list of models."""
    model = OpenAICompatibleModel(base_url=litellm.base_url, api_key=litellm.api_key)
    for name, said in (("mock-fast", SHORT), ("mock-long", numbered("word", 600))):
        events = await collect(model, ask("Hello", name))
        assert text_of(events) == said
        assert isinstance(events[-2], Usage)
        assert events[-1] == Done(finish_reason="stop", model=name)
    assert {"mock-fast", "mock-timeout"} <= {one.id for one in await model.list_models()}
    await model.aclose()


@pytest.mark.peers
@needs_litellm
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("mock-rate-limited", ModelRateLimited),
        ("mock-internal-error", ModelUnavailable),
        ("mock-context-window", ModelRefused),
        ("mock-timeout", ModelTimeout),
    ],
)
async def test_litellm_failures_are_named(
    litellm: Peer, name: str, error: type[ChatkeepError]
) -> None:
    """LiteLLM words them in its own way."""
    model = OpenAICompatibleModel(base_url=litellm.base_url, api_key=litellm.api_key)
    with pytest.raises(error) as caught:
        await collect(model, ask("Hello", name))
    assert type(caught.value) is error
    await model.aclose()
