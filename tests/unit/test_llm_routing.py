"""Several providers as one model, over real sockets: who is asked, and who when one cannot."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from chatkeep.config import Settings
from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelMisconfigured,
    ModelNotOffered,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from chatkeep.events import Answering, Done, ModelEvent, TextDelta
from chatkeep.llm.choice import choose_model
from chatkeep.llm.eliza import Eliza
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.llm.routing import RoutedModel
from tests.free_ports import free_port
from tests.patience import PATIENCE_S
from tests.raw_upstream import RawUpstream, Wire, failing, provider_of, raw_upstream
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.raw_upstream import Answer

KEY = "sk-nobody-may-see-this"


def prompt(model: str) -> Prompt:
    """Return a prompt for *model*."""
    return Prompt(
        messages=[PromptMessage(role="user", text="Hi")], settings=ModelSettings(model=model)
    )


async def collect(model: RoutedModel, name: str) -> list[ModelEvent]:
    """Take a whole answer."""
    return [event async for event in model.stream(prompt(name))]


def text_of(events: list[ModelEvent]) -> str:
    """Join what was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def nothing(wire: Wire) -> None:
    """Take the request and say nothing."""
    await wire.hung_up()


async def head_only(wire: Wire) -> None:
    """Promise a stream, and say nothing."""
    await wire.begin()
    await wire.hung_up()


async def half(wire: Wire) -> None:
    """Begin, and hang up."""
    await wire.begin()
    await wire.say("half")
    wire.writer.close()


@asynccontextmanager
async def serving(
    one: Answer, other: Answer, **environment: str
) -> AsyncIterator[tuple[RoutedModel, RawUpstream, RawUpstream]]:
    """Give the model in front of two providers, "one" and "two", and these."""
    async with raw_upstream(one) as first, raw_upstream(other) as second:
        environ = {
            "UPSTREAMS": "one,two",
            "UPSTREAM_ONE_URL": first.base_url,
            "UPSTREAM_ONE_API_KEY": f"{KEY}-1",
            "UPSTREAM_TWO_URL": second.base_url,
            "UPSTREAM_TWO_API_KEY": f"{KEY}-2",
            "DEFAULT_MODEL": "a",
            **environment,
        }
        model = choose_model(Settings.from_env(environ))
        assert isinstance(model, RoutedModel)
        try:
            yield model, first, second
        finally:
            await model.aclose()


# --- who serves what ----------------------------------------------------------------------------


async def test_without_any_provider_the_built_in_model_answers() -> None:
    """As ever."""
    assert isinstance(choose_model(Settings.from_env({})), Eliza)


async def test_each_model_is_asked_where_it_is_listed_and_with_that_ones_key() -> None:
    """Where both list it, the first of UPSTREAMS; no key goes to the other."""
    async with serving(provider_of("a", "both"), provider_of("b", "both")) as (model, one, two):
        for name in ("a", "b", "both"):
            events = await collect(model, name)
            assert (text_of(events), events[-1]) == (
                name,
                Done(finish_reason="stop", model="vendor/model"),
            )
        assert (one.asked, two.asked) == (["a", "both"], ["b"])
        assert {one.headers["authorization"] for one in one.requests} == {f"Bearer {KEY}-1"}
        assert {one.headers["authorization"] for one in two.requests} == {f"Bearer {KEY}-2"}


async def test_model_that_nobody_lists_is_asked_at_the_first_that_may_have_it() -> None:
    """Providers serve more than they list."""
    async with serving(provider_of("a"), provider_of("b")) as (model, one, two):
        assert text_of(await collect(model, "a:online")) == "a:online"
        assert (one.asked, two.asked) == (["a:online"], [])


async def test_provider_that_names_its_models_serves_these_and_is_asked_for_no_list() -> None:
    """What it does not name is never asked of it, also when nobody else has it."""
    both = {"UPSTREAM_ONE_MODELS": "a,both", "UPSTREAM_TWO_MODELS": "b"}
    async with serving(provider_of("never"), provider_of("never"), **both) as (model, one, two):
        assert text_of(await collect(model, "b")) == "b"
        assert text_of(await collect(model, "both")) == "both"
        with pytest.raises(ModelNotOffered):
            await collect(model, "never")
        assert [found.id for found in await model.list_models()] == ["a", "both", "b"]
        assert (one.asked, two.asked) == (["both"], ["b"])
        assert all(one.line.startswith("POST") for one in (*one.requests, *two.requests))


async def test_caller_cannot_choose_the_provider() -> None:
    """`@two` means something in the operator's settings only."""
    async with serving(provider_of("a"), provider_of("a")) as (model, one, two):
        assert text_of(await collect(model, "a@two")) == "a@two"
        assert (one.asked, two.asked) == (["a@two"], [])


async def test_lists_are_joined_with_the_names_first_and_one_may_be_away() -> None:
    """A provider that is away hides nobody else's models."""
    routes = {"MODEL_ROUTES": "fast=b@two"}
    async with serving(provider_of("a", "both"), provider_of("b", "both"), **routes) as (
        model,
        _,
        _two,
    ):
        assert [one.id for one in await model.list_models()] == ["fast", "a", "both", "b"]
    async with serving(failing(500), provider_of("b"), **routes) as (model, _, _two):
        assert [one.id for one in await model.list_models()] == ["fast", "b"]


# --- names, and who answers instead -------------------------------------------------------------

CHAIN = {"MODEL_ROUTES": "fast=a@one|b@two"}


async def test_name_stands_for_a_model_and_the_answer_says_which() -> None:
    """The provider is asked for the model, never for the name."""
    async with serving(provider_of("a"), provider_of("b"), **CHAIN) as (model, one, two):
        events = await collect(model, "fast")
        assert events[0] == Answering(model="a", upstream="one")
        assert (text_of(events), one.asked, two.asked) == ("a", ["a"], [])


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 500, 502, 503, 529])
async def test_next_one_answers_when_the_first_says_it_cannot(status: int) -> None:
    """Once each, and what the first said about our key is not shown."""
    async with serving(provider_of("a", a=failing(status, KEY)), provider_of("b"), **CHAIN) as (
        model,
        one,
        two,
    ):
        events = await collect(model, "fast")
        assert events[0] == Answering(model="b", upstream="two")
        assert (text_of(events), one.asked, two.asked) == ("b", ["a"], ["b"])


async def test_next_one_answers_when_the_first_cannot_be_reached() -> None:
    """Nobody is at work there."""
    away = {**CHAIN, "UPSTREAM_ONE_URL": f"http://127.0.0.1:{free_port()}/v1"}
    async with serving(provider_of(), provider_of("b"), **away) as (model, _, two):
        assert text_of(await collect(model, "fast")) == "b"
        assert two.asked == ["b"]


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (failing(400), ModelRefused),
        (failing(413), ModelRefused),
        (failing(422), ModelRefused),
        (failing(408), ModelTimeout),
        (failing(504), ModelTimeout),
        (nothing, ModelTimeout),
        (head_only, ModelTimeout),
        (half, ModelBroken),
    ],
    ids=["400", "413", "422", "408", "504", "silence", "head only", "half an answer"],
)
async def test_nobody_else_is_asked_when_there_could_be_two_bills(
    first: Answer, error: type[ChatkeepError]
) -> None:
    """Nor when the fault is in the question, which would be the same one elsewhere."""
    quick = {**CHAIN, "UPSTREAM_ONE_FIRST_BYTE_TIMEOUT": "1.5"}
    async with serving(provider_of("a", a=first), provider_of("b"), **quick) as (model, one, two):
        with pytest.raises(error):
            await collect(model, "fast")
        assert (one.asked, two.asked) == (["a"], [])


async def test_who_wishes_not_to_be_asked_for_a_while_is_not() -> None:
    """The next one answers meanwhile, at once."""
    one = provider_of("a", a=failing(429, Retry_After="30"))
    async with serving(one, provider_of("b"), **CHAIN) as (model, first, second):
        for _ in range(3):
            assert text_of(await collect(model, "fast")) == "b"
        assert (first.asked, second.asked) == (["a"], ["b", "b", "b"])


async def test_when_nobody_can_the_shortest_wait_is_told() -> None:
    """Who comes back then is answered."""
    one, two = (
        provider_of("a", a=failing(429, Retry_After="50")),
        provider_of("b", b=failing(503, Retry_After="20")),
    )
    async with serving(one, two, **CHAIN) as (model, _, _two):
        with pytest.raises(ModelUnavailable) as refused:
            await collect(model, "fast")
        assert refused.value.retry_after_s == 20


async def test_when_nobody_can_and_none_says_when_the_first_reason_is_told() -> None:
    """It is about the model that was wanted."""
    one, two = provider_of("a", a=failing(401, KEY)), provider_of("b", b=failing(404))
    async with serving(one, two, **CHAIN) as (model, _, _two):
        with pytest.raises(ModelMisconfigured):
            await collect(model, "fast")


async def test_no_key_and_no_words_of_a_provider_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only names that the operator gave, and our own codes."""
    caplog.set_level(logging.DEBUG)
    async with serving(
        provider_of("a", a=failing(401, KEY)), provider_of("b", b=failing(500)), **CHAIN
    ) as (model, _, _two):
        with pytest.raises(ChatkeepError):
            await collect(model, "fast")
    assert "a at one: model_misconfigured" in caplog.text
    assert KEY not in caplog.text


# --- the breaker --------------------------------------------------------------------------------


async def test_provider_that_fails_is_left_alone_and_comes_back() -> None:
    """Two failures open it; while it is open nobody is sent there; one request finds it back."""
    is_down = True

    async def flaky(wire: Wire) -> None:
        await (failing(500) if is_down else provider_of())(wire)

    quick = {"MODEL_FAILURES": "2", "MODEL_PAUSE": "1", "UPSTREAM_TWO_MODELS": "b"}
    async with serving(provider_of("a", a=flaky), provider_of(), **quick) as (model, one, _):
        for _try in range(2):
            with pytest.raises(ModelUnavailable):
                await collect(model, "a")
        assert model.states() == {"one": "down", "two": "up"}
        with pytest.raises(ModelUnavailable) as refused:
            await collect(model, "a")
        assert (refused.value.retry_after_s, len(one.asked)) == (1, 2)
        problem = model.refusal("a")
        assert isinstance(problem, ModelUnavailable)
        assert (problem.status, problem.retry_after_s) == (503, 1)
        assert model.refusal("b") is None
        is_down = False
        await until(lambda: model.states()["one"] == "trying")
        assert model.refusal("a") is None
        assert text_of(await collect(model, "a")) == "a"
        assert model.states()["one"] == "up"


@pytest.mark.parametrize("fails", [nothing, head_only], ids=["silence", "head only"])
async def test_provider_that_says_nothing_in_time_counts_as_failing(fails: Answer) -> None:
    """Also when it has promised an answer."""
    quick = {"MODEL_FAILURES": "1", "UPSTREAM_ONE_FIRST_BYTE_TIMEOUT": "0.2"}
    async with serving(provider_of("a", a=fails), provider_of(), **quick) as (model, _, _two):
        with pytest.raises(ModelTimeout):
            await collect(model, "a")
        assert model.states()["one"] == "down"


async def test_open_breaker_sends_a_name_to_the_next_at_once() -> None:
    """The first is not asked at all."""
    quick = {**CHAIN, "MODEL_FAILURES": "1"}
    async with serving(provider_of("a", a=failing(500)), provider_of("b"), **quick) as (
        model,
        one,
        two,
    ):
        for _ in range(3):
            assert text_of(await collect(model, "fast")) == "b"
        assert (one.asked, two.asked) == (["a"], ["b", "b", "b"])
        assert model.refusal("fast") is None


async def test_answers_that_are_left_early_do_not_count() -> None:
    """Somebody who goes away says nothing about the provider."""
    quick = {"MODEL_FAILURES": "1"}
    async with serving(provider_of("a", a=nothing), provider_of(), **quick) as (model, one, _):
        await model.list_models()
        task = asyncio.create_task(collect(model, "a"))
        await until(lambda: one.asked == ["a"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert model.states()["one"] == "up"


async def test_a_broken_answer_that_had_begun_is_no_outage() -> None:
    """The breaker is about who can be asked."""
    async with serving(provider_of("a", a=half), provider_of(), MODEL_FAILURES="1") as (
        model,
        _,
        _two,
    ):
        with pytest.raises(ModelBroken):
            await collect(model, "a")
        assert model.states()["one"] == "up"


async def test_leaving_an_answer_hangs_up_on_whoever_gives_it() -> None:
    """The second of a chain too."""
    gone = asyncio.Event()

    async def endless(wire: Wire) -> None:
        await wire.begin()
        await wire.say("word")
        await wire.hung_up()
        gone.set()

    async with serving(provider_of("a", a=failing(500)), provider_of("b", b=endless), **CHAIN) as (
        model,
        _,
        _two,
    ):
        async with aclosing(model.stream(prompt("fast"))) as events:
            assert await anext(events) == Answering(model="b", upstream="two")
            assert await anext(events) == TextDelta(text="word")
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()


async def test_one_provider_alone_is_asked_three_times_and_has_a_breaker_too() -> None:
    """As with a single key, which is all that many have."""
    async with raw_upstream(provider_of("a", a=failing(503))) as upstream:
        environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": upstream.base_url}
        model = choose_model(Settings.from_env({**environ, "MODEL_FAILURES": "1"}))
        with pytest.raises(ModelUnavailable):
            await collect(model, "a")  # type: ignore[arg-type]  # it is one
        assert upstream.asked == ["a", "a", "a"]
        with pytest.raises(ModelUnavailable):
            await collect(model, "a")  # type: ignore[arg-type]  # as above
        assert len(upstream.asked) == 3
        await model.aclose()
