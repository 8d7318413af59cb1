"""Models as people meet them: which there are for whom, who answers, and what is too much."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.tools import Tools
from tests.chatkit_client import said_by_user
from tests.patience import PATIENCE_S
from tests.raw_upstream import RawUpstream, Wire, delta, failing, provider_of, raw_upstream
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.http.conftest import StartNode
    from tests.raw_upstream import Answer as Upstream
    from tests.serving import Answer, Client, Node

    Ask = Callable[[Client, Any], Awaitable[Answer]]

Claims = dict[str, Any]

CHAT = "/api/v1/chat"
HELLO = [{"role": "user", "content": "Hello"}]


@asynccontextmanager
async def two_providers(
    one: Upstream, two: Upstream
) -> AsyncIterator[tuple[RawUpstream, RawUpstream, dict[str, str]]]:
    """Give two providers, and the settings that name them "one" and "two"."""
    async with raw_upstream(one) as first, raw_upstream(two) as second:
        environ = {
            "UPSTREAMS": "one,two",
            "UPSTREAM_ONE_URL": first.base_url,
            "UPSTREAM_ONE_API_KEY": "sk-one",
            "UPSTREAM_TWO_URL": second.base_url,
            "UPSTREAM_TWO_API_KEY": "sk-two",
            "DEFAULT_MODEL": "a",
        }
        yield first, second, environ


# --- every surface that answers -----------------------------------------------------------------


async def ask_rest(client: Client, model: object) -> Answer:
    """Ask on the REST surface."""
    chat = (await client.post(f"{CHAT}/start")).json["conversation_id"]
    body = {"conversation_id": chat, "message": "Hello", "model": model}
    return await client.post(f"{CHAT}/message", body)


async def ask_ai_sdk(client: Client, model: object, **more: str) -> Answer:
    """Ask as `useChat` does, but for the whole answer."""
    message = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    body = {"id": str(uuid4()), "message": message, "model": model}
    headers = {"accept": "application/json", **more}
    return await client.call("POST", "/api/chat", json=body, headers=headers)


async def ask_chatkit(client: Client, model: object) -> Answer:
    """Ask in the support chat."""
    wish = said_by_user("Hello", inference_options={"model": model})
    body = {"type": "threads.create", "params": {"input": wish}}
    return await client.post("/support/chatkit", body)


async def ask_completions(client: Client, model: object) -> Answer:
    """Ask as the OpenAI package does."""
    return await client.post("/v1/chat/completions", {"model": model, "messages": HELLO})


async def ask_responses(client: Client, model: object) -> Answer:
    """Ask as the OpenAI package's newer half does."""
    return await client.post("/v1/responses", {"model": model, "input": "Hello"})


SURFACES: list[Ask] = [ask_rest, ask_ai_sdk, ask_chatkit, ask_completions, ask_responses]
every_surface = pytest.mark.parametrize("ask", SURFACES, ids=lambda one: one.__name__)


# --- lists --------------------------------------------------------------------------------------


async def listed(client: Client) -> tuple[list[str], list[str]]:
    """Return the ids of both lists."""
    ours = (await client.get("/api/models")).json["models"]
    openai = (await client.get("/v1/models")).json["data"]
    return [one["id"] for one in ours], [one["id"] for one in openai]


async def test_lists_show_what_the_providers_have_and_outlive_one_that_is_away(
    start: StartNode,
) -> None:
    """The names first; no provider is asked twice within minutes."""
    names = ["fast", "a", "both", "b"]
    async with two_providers(provider_of("a", "both"), provider_of("b", "both")) as found:
        one, two, environ = found
        node = await start(**environ, MODEL_ROUTES="fast=b@two|a")
        client = node.person().client
        assert await listed(client) == (names, names)
        assert (await client.get("/api/models")).json["default"] == "a"
        assert (await client.get("/v1/models/fast")).status == 200
        assert (await client.get("/v1/models/none")).status == 404
        assert len(one.requests) == len(two.requests) == 1
    async with two_providers(failing(500), provider_of("b", "both")) as (_, _two, environ):
        client = (await start(**environ)).person().client
        assert await listed(client) == (["a", "b", "both"],) * 2


async def test_provider_without_a_list_may_have_any_model(start: StartNode) -> None:
    """Names of our own are no list of a provider's; with a list of the other's, that counts."""

    async def no_list(wire: Wire) -> None:
        if wire.request.line.startswith("GET"):
            await wire.answer(404, {})
        else:
            await provider_of()(wire)

    async with two_providers(no_list, no_list) as (one, _, environ):
        client = (await start(**environ, MODEL_ROUTES="fast=b@two")).person().client
        assert await listed(client) == (["a", "fast"], ["a", "fast"])
        assert (await ask_rest(client, "other")).status == 200
        assert one.asked == ["other"]
    async with two_providers(no_list, provider_of("b")) as (one, _, environ):
        client = (await start(**environ)).person().client
        assert (await ask_rest(client, "other")).status == 422
        assert one.asked == []


ROLES = {"MODELS": "a,fast", "MODELS_FOR_ROLES": "pro=b, a; staff=*; anon=both"}


@pytest.fixture
async def divided(start: StartNode) -> AsyncIterator[tuple[Node, RawUpstream, RawUpstream]]:
    """A node where what may be asked depends on one's role."""
    async with two_providers(provider_of("a", "both"), provider_of("b")) as (one, two, environ):
        routes = {"MODEL_ROUTES": "fast=b", "ANONYMOUS_CHAT": "on"}
        yield await start(**environ, **ROLES, **routes), one, two


async def test_each_role_has_its_own_list(divided: tuple[Node, RawUpstream, RawUpstream]) -> None:
    """Several roles add up; what a person may write about themselves opens nothing."""
    node, _, _ = divided
    for claims, names, default in (
        ({}, ["a", "fast"], "a"),
        ({"app_metadata": {"roles": ["pro"]}}, ["b", "a"], "a"),
        ({"app_metadata": {"role": "pro"}}, ["b", "a"], "a"),
        ({"app_metadata": {"roles": ["other"]}}, ["a", "fast"], "a"),
        ({"app_metadata": {"roles": ["staff", "pro"]}}, ["fast", "a", "both", "b"], "a"),
        (
            {"user_metadata": {"roles": ["staff"], "role": "pro"}, "roles": ["staff"]},
            ["a", "fast"],
            "a",
        ),
    ):
        client = node.person(**claims).client
        assert await listed(client) == (names, names), claims
        assert (await client.get("/api/models")).json["default"] == default
        policy = (await client.get("/api/settings")).json["policy"]
        assert policy["models"] == ([] if "both" in names else names)


@every_surface
async def test_role_is_enforced_wherever_somebody_asks(
    divided: tuple[Node, RawUpstream, RawUpstream], ask: Ask
) -> None:
    """One's list, and not one more; no provider hears of what is refused."""
    node, one, two = divided
    pro: Claims = {"app_metadata": {"roles": ["pro"]}}
    liar: Claims = {"user_metadata": {"roles": ["pro"]}}
    for claims in (Claims(), liar):
        refused = await ask(node.person(**claims).client, "b")
        assert refused.status in {400, 404, 422}, refused.text
    refused = await ask(node.person(**pro).client, "fast")
    assert refused.status in {400, 404, 422}, refused.text
    assert (one.asked, two.asked) == ([], [])
    assert (await ask(node.person(**pro).client, "b")).status == 200
    assert (await ask(node.person().client, "fast")).status == 200
    assert (one.asked, two.asked) == ([], ["b", "b"])


async def test_who_is_not_signed_in_has_the_models_of_anon(
    divided: tuple[Node, RawUpstream, RawUpstream],
) -> None:
    """And the first of them by default."""
    node, one, _ = divided
    assert (await ask_ai_sdk(node.nobody(), "a")).status == 422
    answer = await ask_ai_sdk(node.nobody(), None, accept="text/event-stream")
    assert answer.status == 200, answer.text
    assert one.asked == ["both"]


async def test_saved_model_gives_way_when_its_role_is_lost(
    divided: tuple[Node, RawUpstream, RawUpstream],
) -> None:
    """To the default, without an error; with the role it is there again."""
    node, one, two = divided
    pro: Claims = {"app_metadata": {"roles": ["pro"]}}
    ana = node.person(**pro)
    assert (await ana.client.patch("/api/settings", {"default_model": "b"})).status == 200
    again = node.person(sub=ana.id)
    assert (await again.client.patch("/api/settings", {"default_model": "b"})).status == 422
    for ask in SURFACES[:3]:
        assert (await ask(again.client, None)).status == 200
    assert (one.asked, two.asked) == (["a", "a", "a"], [])
    shown = (await again.client.get("/api/settings")).json
    assert (shown["default_model"], shown["effective"]["model"]) == ("b", "a")
    assert (await ask_rest(ana.client, None)).status == 200
    assert two.asked == ["b"]


ODD = [
    *("A", "a ", " a", "a:online", "a:free", "\u0430", "a\u200b", "a@two", "b@two", "a|b", "a,b"),
    *("auto", "openrouter/auto", "a\r\nX-Evil: 1", "a\x00", "", "*", ["a"], {"id": "a"}, 5, True),
]


@every_surface
@pytest.mark.parametrize("is_listed", [True, False], ids=["allow-list", "provider's list"])
async def test_models_are_taken_letter_by_letter_on_every_surface(
    start: StartNode, ask: Ask, *, is_listed: bool
) -> None:
    """Nothing but an id that is listed goes to a provider, with or without a list of ours."""
    async with two_providers(provider_of("a", "both"), provider_of("b")) as (one, two, environ):
        node = await start(**environ, **({"MODELS": "a"} if is_listed else {}))
        client = node.person().client
        for model in ODD:
            refused = await ask(client, model)
            assert refused.status in {400, 404, 422}, (model, refused.text)
        assert (one.asked, two.asked) == ([], [])


async def test_lists_of_models_in_a_request_do_not_reach_the_provider(start: StartNode) -> None:
    """Nor do the other words by which OpenRouter is told to take another model."""
    async with two_providers(provider_of("a", "both"), provider_of("b")) as (one, two, environ):
        node = await start(**environ, MODELS="a")
        client = node.person().client
        smuggled = {
            "models": ["b"],
            "route": "fallback",
            "provider": {"order": ["x"]},
            "plugins": [],
        }
        for path, body in (
            ("/v1/chat/completions", {"model": "a", "messages": HELLO}),
            ("/v1/responses", {"model": "a", "input": "Hello"}),
        ):
            answer = await client.post(path, {**body, **smuggled})
            assert answer.status in {200, 400}
        message = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
        chat: Claims = {"id": str(uuid4()), "message": message, **smuggled}
        assert (await client.post("/api/chat", chat)).status in {200, 422}
        posts = [found for found in one.requests if found.line.startswith("POST")]
        assert all(not smuggled.keys() & found.body.keys() for found in posts)
        assert two.asked == []


# --- names and stand-ins ------------------------------------------------------------------------


def counted(prompt: int, output: int) -> Upstream:
    """Answer with so many tokens."""

    async def answer(wire: Wire) -> None:
        await wire.begin()
        await wire.say("Hi")
        usage = {"prompt_tokens": prompt, "completion_tokens": output}
        await wire.event({"choices": [], "usage": usage})
        await wire.finish()

    return answer


PRICED = {"MODEL_PRICES": "a=100/100, b=1/10", "MODEL_ROUTES": "fast=a@one|b@two"}


@pytest.mark.parametrize(
    ("first", "model", "cost"),
    [(counted(1000, 100), "a", "0.11"), (failing(503), "b", "0.002")],
    ids=["the first answers", "the second answers"],
)
async def test_whoever_answers_is_named_and_paid(
    start: StartNode, first: Upstream, model: str, cost: str
) -> None:
    """Once: the charge, the answer and the day's use are of the model that answered."""
    two = provider_of("b", b=counted(1000, 100))
    async with two_providers(provider_of("a", a=first), two) as (one, other, environ):
        node = await start(**environ, **PRICED, BUDGET_COST_PER_DAY="1")
        await until(lambda: bool(node.services.offered_models.find("b@two")))
        for ask in (ask_rest, ask_completions):
            client = node.person().client
            answer = await ask(client, "fast")
            assert (answer.status, answer.json["model"]) == (200, "vendor/model")
            month = (await client.get("/api/usage")).json["this_month"]
            assert (Decimal(month["cost"]), month["answers"]) == (Decimal(cost), 1)
        assert len(one.asked) == 2
        assert other.asked == ([] if model == "a" else ["b", "b"])


async def test_steps_that_different_models_made_are_each_paid_as_theirs(start: StartNode) -> None:
    """What one provider says a step cost, and the price of the other for what it did."""
    tools = Tools()

    @tools.tool
    async def clock() -> str:
        """Tell the time."""
        return "noon"

    asked: list[str] = []

    async def first(wire: Wire) -> None:
        asked.append("a")
        if len(asked) > 1:
            await wire.answer(503, {})
            return
        call = {"index": 0, "id": "c1", "function": {"name": "clock", "arguments": "{}"}}
        await wire.begin()
        await wire.event(delta(tool_calls=[call]))
        stop = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
        await wire.event({"choices": [stop]})
        usage = {"prompt_tokens": 10, "completion_tokens": 1, "cost": 0.5}
        await wire.event({"choices": [], "usage": usage})
        await wire.send(b"data: [DONE]\n\n")
        await wire.end()

    one, two = provider_of("a", a=first), provider_of("b", b=counted(1000, 100))
    async with two_providers(one, two) as (_, other, environ):
        node = await start(None, tools, **environ, **PRICED, BUDGET_COST_PER_DAY="1")
        client = node.person().client
        answer = await ask_rest(client, "fast")
        assert (answer.status, answer.json["message"]) == (200, "Hi")
        assert (asked, other.asked) == (["a", "a"], ["b"])
        month = (await client.get("/api/usage")).json["this_month"]
        assert (month["prompt_tokens"], month["completion_tokens"]) == (1010, 101)
        assert Decimal(month["cost"]) == Decimal("0.502")


async def test_stream_says_who_answered(start: StartNode) -> None:
    """At its end at the latest, on the surfaces that name a model at all."""
    one, two = provider_of("a", a=failing(503)), provider_of("b")
    async with two_providers(one, two) as (_, _two, environ):
        client = (await start(**environ, MODEL_ROUTES="fast=a@one|b@two")).person().client
        body: Claims = {"model": "fast", "messages": HELLO, "stream": True}
        async with client.stream("/v1/chat/completions", body) as stream:
            chunks = [event.data for event in await stream.rest()]
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert (chunks[0]["model"], chunks[-2]["model"]) == ("fast", "vendor/model")
        message = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
        body = {"id": str(uuid4()), "message": message, "model": "fast"}
        async with client.stream("/api/chat", body) as stream:
            chunks = [event.data for event in await stream.rest()]
        (finish,) = [one for one in chunks if isinstance(one, dict) and one["type"] == "finish"]
        assert finish["messageMetadata"]["model"] == "vendor/model"


async def test_stopped_answer_of_a_stand_in_is_its_own(start: StartNode) -> None:
    """Also where the provider had no time to count: the name of who spoke, at its price."""
    gone = asyncio.Event()

    async def endless(wire: Wire) -> None:
        await wire.begin()
        await wire.event({"choices": [{"index": 0, "delta": {"content": "x" * 3000}}]})
        await wire.hung_up()
        gone.set()

    one, two = provider_of("a", a=failing(503)), provider_of("b", b=endless)
    async with two_providers(one, two) as (_, _two, environ):
        node = await start(**environ, **PRICED, BUDGET_COST_PER_DAY="1")
        client = node.person().client
        chat = (await client.post(f"{CHAT}/start")).json["conversation_id"]
        body = {"conversation_id": chat, "message": "Hello", "model": "fast"}
        async with client.stream(f"{CHAT}/message", body, accept="text/event-stream") as stream:
            await stream.until(lambda event: event.name == "delta")
            assert (await client.post(f"/api/chat/{chat}/stop")).status == 200
            end = (await stream.rest())[-1]
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
        assert (end.data["status"], end.data["model"]) == ("stopped", "b")
        (booked,) = (await client.get("/api/usage")).json["by_model"]
        assert booked["model"] == "b"
        # 1,000 tokens of b, and its prompt.
        assert Decimal("0.01") <= Decimal(booked["cost"]) < Decimal("0.011")


# --- limits of single models --------------------------------------------------------------------


@every_surface
async def test_model_has_limits_by_the_minute(start: StartNode, ask: Ask) -> None:
    """For one person and for all; what is refused says when to come back, and is not counted."""
    limits = {"MODEL_LIMITS": "a=per_user:2 total:3", "RATE_LIMITS": "on"}
    async with two_providers(provider_of("a", "both"), provider_of("b")) as (one, _, environ):
        node = await start(**environ, **limits)
        ana, bo, cleo = (node.person().client for _ in range(3))
        for client, model, status in (
            *((ana, "a", 200), (ana, "a", 200), (ana, "a", 429), (ana, "both", 200)),
            *((bo, "a", 200), (bo, "a", 429), (cleo, "a", 429)),
        ):
            answer = await ask(client, model)
            if status == 429 and ask is ask_chatkit:  # its stream has begun by then
                assert "in a minute" in answer.text
                continue
            assert answer.status == status, answer.text
            if status == 429:
                assert 0 < int(answer.headers["retry-after"]) <= 60
                assert "in a minute" in answer.text
        assert one.asked == ["a", "a", "both", "a"]


async def test_same_request_again_counts_once_and_joins_its_answer(start: StartNode) -> None:
    """A limit never keeps anybody from an answer that they have begun."""
    limits = {"MODEL_LIMITS": "a=per_user:1", "RATE_LIMITS": "on"}
    async with two_providers(provider_of("a"), provider_of("b")) as (one, _, environ):
        client = (await start(**environ, **limits)).person().client
        chat = (await client.post(f"{CHAT}/start")).json["conversation_id"]
        body = {"conversation_id": chat, "message": "Hello", "client_message_id": "m1"}
        first = await client.post(f"{CHAT}/message", body)
        again = await client.post(f"{CHAT}/message", body)
        assert (first.status, again.status) == (200, 200)
        assert first.json["run_id"] == again.json["run_id"]
        other = await client.post(f"{CHAT}/message", {**body, "client_message_id": "m2"})
        assert (other.status, one.asked) == (429, ["a"])


async def test_answer_that_was_not_begun_is_not_counted(start: StartNode) -> None:
    """One that another answer was in the way of, for one."""
    limits = {"MODEL_LIMITS": "a=per_user:2", "RATE_LIMITS": "on"}
    go_on = asyncio.Event()

    async def slow(wire: Wire) -> None:
        await wire.begin()
        await go_on.wait()
        await wire.say("Hi")
        await wire.finish()

    async with two_providers(provider_of("a", a=slow), provider_of("b")) as (one, _, environ):
        client = (await start(**environ, **limits)).person().client
        chat = (await client.post(f"{CHAT}/start")).json["conversation_id"]
        body = {"conversation_id": chat, "message": "Hello"}
        async with client.stream(f"{CHAT}/message", body, accept="text/event-stream") as stream:
            await until(lambda: one.asked == ["a"])
            for _ in range(3):
                assert (await client.post(f"{CHAT}/message", body)).status == 409
            go_on.set()
            await stream.rest()
        assert (await client.post(f"{CHAT}/message", body)).status == 200
        assert (await client.post(f"{CHAT}/message", body)).status == 429


@every_surface
async def test_model_has_a_longest_answer(start: StartNode, ask: Ask) -> None:
    """It is asked for no more than that, also where nobody said how much."""
    async with two_providers(provider_of("a"), provider_of("b")) as (one, _, environ):
        node = await start(**environ, MODEL_LIMITS="a=max_tokens:50", MAX_TOKENS="80")
        client = node.person().client
        assert (await ask(client, "a")).status == 200
        (post,) = [found for found in one.requests if found.line.startswith("POST")]
        assert post.body["max_tokens"] == 50


async def test_longer_answer_than_a_model_may_give_is_refused(start: StartNode) -> None:
    """Naming the field; another model may."""
    async with two_providers(provider_of("a"), provider_of("b")) as (_, _two, environ):
        client = (await start(**environ, MODEL_LIMITS="a=max_tokens:50")).person().client
        chat = (await client.post(f"{CHAT}/start")).json["conversation_id"]
        body = {"conversation_id": chat, "message": "Hello", "max_tokens": 51}
        refused = await client.post(f"{CHAT}/message", {**body, "model": "a"})
        assert (refused.status, refused.json["errors"][0]["field"]) == (422, "max_tokens")
        assert (await client.post(f"{CHAT}/message", {**body, "model": "b"})).status == 200


# --- providers that are down --------------------------------------------------------------------


@every_surface
async def test_question_that_nobody_can_answer_is_refused_and_not_kept(
    start: StartNode, ask: Ask
) -> None:
    """With 503 and when to come back; who is down is told to whoever watches."""
    async with two_providers(provider_of("a", a=failing(500)), provider_of("b")) as found:
        one, _, environ = found
        node = await start(**environ, MODEL_FAILURES="1", MODEL_PAUSE="40")
        nobody = node.nobody()
        ready = {"status": "ok", "upstreams": {"one": "up", "two": "up"}}
        assert (await nobody.get("/readyz")).json == ready
        await ask(node.person().client, "a")
        ready["upstreams"] = {"one": "down", "two": "up"}
        assert (await nobody.get("/readyz")).json == ready
        client = node.person().client
        refused = await ask(client, "a")
        assert refused.status == 503, refused.text
        assert 30 < int(refused.headers["retry-after"]) <= 40
        kept = (await client.get(CHAT)).json["conversations"]
        said = [(await client.get(f"{CHAT}/{one['id']}")).json["messages"] for one in kept]
        assert all(message["role"] == "assistant" for one in said for message in one)
        assert one.asked == ["a"]
        assert (await ask(client, "b")).status == 200
