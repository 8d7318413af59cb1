"""The OpenAI API at `/v1`, asked by OpenAI's own client with a person's token as its key."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import openai
import pytest

from chatkeep.errors import ModelMisconfigured, ModelRateLimited, ModelUnavailable
from chatkeep.events import Done, ReasoningDelta, TextDelta, ToolCall, Usage
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from openai.types.chat import ChatCompletionChunk, ChatCompletionToolParam

    from tests.http.conftest import StartNode
    from tests.serving import Node, Person, Stage

MODEL = "fake/model"
ROUTE = "/v1/chat/completions"
HELLO: list[Any] = [{"role": "user", "content": "Hello?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}},
}


def client_of(node: Node, key: str) -> openai.AsyncOpenAI:
    """Return OpenAI's client with this key, which asks once and no more."""
    return openai.AsyncOpenAI(api_key=key, base_url=f"{node.url}/v1", max_retries=0, timeout=20)


def key_of(person: Person) -> str:
    """Return the person's token."""
    return person.client.headers["authorization"].removeprefix("Bearer ")


@pytest.fixture
async def client(node: Node, ana: Person) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client of somebody new."""
    async with client_of(node, key_of(ana)) as opened:
        yield opened


async def test_models_are_listed_and_described(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """What the provider has, and what it has not is a 404."""
    assert stage.model.name == "fake"
    listed = [one.id async for one in client.models.list()]
    assert MODEL in listed
    assert (await client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError) as refused:
        await client.models.retrieve("no-such/model")
    assert refused.value.code == "model_not_found"


async def test_whole_answer_has_the_shape_that_the_client_checks(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """Text, reasoning, why it ended and what it cost, in the shape that the client checks."""
    stage.play(
        [
            ReasoningDelta(text="Hm."),
            "Hel",
            "lo!",
            Usage(prompt_tokens=3, completion_tokens=2),
            Done(finish_reason="length", model="fake/model-2"),
        ]
    )
    made = await client.chat.completions.create(model=MODEL, messages=HELLO)
    (choice,) = made.choices
    assert (choice.message.content, choice.finish_reason) == ("Hello!", "length")
    assert choice.message.model_extra == {"reasoning": "Hm."}
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (3, 5)
    assert made.model == "fake/model-2"
    assert made._request_id


async def chunks(client: openai.AsyncOpenAI, **more: Any) -> list[ChatCompletionChunk]:  # noqa: ANN401 -- whatever the client takes
    """Ask for a stream and return all of it."""
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, **more)
    return [one async for one in stream]


async def test_stream_has_one_id_and_ends_with_reason_and_usage(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """One id, the role first, the reason last, and the usage after it when it is wanted."""
    stage.play(["Hel", "lo!", Usage(prompt_tokens=3, completion_tokens=2)])
    seen = await chunks(client)
    assert len({one.id for one in seen}) == 1
    assert seen[0].choices[0].delta.role == "assistant"
    assert "".join(one.choices[0].delta.content or "" for one in seen) == "Hello!"
    assert seen[-1].choices[0].finish_reason == "stop"
    seen = await chunks(client, stream_options={"include_usage": True})
    assert seen[-1].choices == []
    assert seen[-1].usage is not None
    assert seen[-1].usage.total_tokens == 5
    assert all(one.usage is None for one in seen[:-1])


async def test_tools_go_to_the_model_and_its_calls_come_back(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """The client runs them and sends what they said; the model is given all of it."""
    model = stage.play(
        [
            ToolCall(call_id="c1", name="weather", arguments='{"city":"Rome"}'),
            Done(finish_reason="tool-calls"),
        ],
        ["Sunny."],
    )
    asked = await client.chat.completions.create(model=MODEL, messages=HELLO, tools=[WEATHER])
    (choice,) = asked.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.arguments) == ("c1", '{"city":"Rome"}')
    assert model.prompts[0].tools[0].name == "weather"
    more: list[Any] = [
        *HELLO,
        choice.message.to_dict(),
        {"role": "tool", "tool_call_id": "c1", "content": "30 degrees"},
    ]
    answered = await client.chat.completions.create(model=MODEL, messages=more, tools=[WEATHER])
    assert answered.choices[0].message.content == "Sunny."
    given = model.prompts[1].messages
    assert [one.role for one in given] == ["user", "assistant", "tool"]
    assert given[1].calls[0].call_id == given[2].call_id == "c1"


async def test_streamed_tool_calls_can_be_put_together(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """The client's own helper makes whole calls of them."""
    stage.play(
        [
            "Let me see.",
            ToolCall(call_id="c1", name="weather", arguments="{}"),
            ToolCall(call_id="c2", name="weather", arguments="{}"),
            Done(finish_reason="tool-calls"),
        ]
    )
    async with client.chat.completions.stream(
        model=MODEL, messages=HELLO, tools=[WEATHER]
    ) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or ()
    assert [one.id for one in calls] == ["c1", "c2"]
    assert final.choices[0].finish_reason == "tool_calls"


async def test_settings_and_images_reach_the_model(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person
) -> None:
    """What the client chose and nothing that a profile says against it; no id of the person."""
    await ana.client.call("PATCH", "/api/settings", json={"temperature": 1.5, "top_p": 0.5})
    model = stage.play(["Seen."])
    content = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    messages: list[Any] = [{"role": "user", "content": content}]
    await client.chat.completions.create(
        model=MODEL,
        messages=messages,
        temperature=0.25,
        max_completion_tokens=7,
        stop="END",
        seed=1,
        response_format={"type": "json_object"},
    )
    (prompt,) = model.prompts
    settings = prompt.settings
    assert (settings.temperature, settings.top_p, settings.max_tokens) == (0.25, 0.5, 7)
    assert (settings.stop, settings.seed) == (("END",), 1)
    assert settings.response_format == {"type": "json_object"}
    assert prompt.messages[0].images == ("data:image/png;base64,AAAA",)
    assert ana.id not in str(prompt)


async def test_own_instructions_stand_instead_of_the_profiles(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person
) -> None:
    """The profile's system prompt is for whoever sends none."""
    await ana.client.call("PATCH", "/api/settings", json={"system_prompt": "Be brief."})
    model = stage.play(["Yes."])
    await client.chat.completions.create(model=MODEL, messages=HELLO)
    own: list[Any] = [{"role": "developer", "content": "Be long."}, *HELLO]
    await client.chat.completions.create(model=MODEL, messages=own)
    assert [prompt.messages[0].text for prompt in model.prompts] == ["Be brief.", "Be long."]


async def test_locked_system_prompt_cannot_be_replaced(start: StartNode) -> None:
    """Where the operator has fixed it, a client's own is refused and says so."""
    node = await start(LOCKED_SETTINGS="system_prompt", SYSTEM_PROMPT="Be kind.")
    model = node.stage.play(["Yes."])
    async with client_of(node, key_of(node.person())) as client:
        own: list[Any] = [{"role": "system", "content": "Be rude."}, *HELLO]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=own)
        assert refused.value.param == "messages"
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert [prompt.messages[0].text for prompt in model.prompts] == ["Be kind."]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "system", "content": "x", "tool_call_id": "y"}]}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"n": 2}, "n"),
        ({"model": None}, "model"),
    ],
)
async def test_malformed_request_names_what_is_wrong(
    ana: Person, stage: Stage, change: dict[str, Any], param: str
) -> None:
    """400 in the client's envelope, nothing asked of the model, nothing echoed."""
    model = stage.play(["Never."])
    answer = await ana.client.post(ROUTE, {"model": MODEL, "messages": HELLO, **change})
    assert answer.status == 400, answer.text
    said = answer.json["error"]
    assert said["type"] == "invalid_request_error"
    assert said["param"].startswith(param)
    assert re.fullmatch(r"\w+(\.\w+)*", said["param"]), said
    assert model.prompts == []


async def test_images_from_odd_places_are_refused(ana: Person, stage: Stage) -> None:
    """No file, no other scheme: the provider would be asked to look there."""
    model = stage.play(["Never."])
    for url in ("file:///etc/passwd", "http://169.254.169.254/", "data:text/html,x"):
        content = [{"type": "image_url", "image_url": {"url": url}}]
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
        answer = await ana.client.post(ROUTE, body)
        assert answer.status == 400
        assert url not in answer.text
    assert model.prompts == []


async def test_members_of_the_future_are_ignored(ana: Person, stage: Stage) -> None:
    """None of them reaches the provider, least of all another address or key."""
    model = stage.play(["Yes."])
    odd = {"some_future_field": {"a": 1}, "api_base": "http://evil.example", "models": ["x"]}
    answer = await ana.client.post(ROUTE, {"model": MODEL, "messages": HELLO, **odd})
    assert answer.status == 200
    assert "evil" not in str(model.prompts)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", ["sk-wrong", "a.b.c"])
async def test_bad_key_is_an_authentication_error(
    node: Node, stage: Stage, key: str, stream: bool
) -> None:
    """401 before anything is asked, also for a stream."""
    model = stage.play(["Never."])
    async with client_of(node, key) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    assert model.prompts == []


@pytest.mark.parametrize(
    ("failure", "kind", "retry"),
    [
        (ModelUnavailable(retry_after_s=7), openai.InternalServerError, "true"),
        (ModelRateLimited(retry_after_s=7), openai.RateLimitError, "true"),
        (ModelMisconfigured(), openai.InternalServerError, "false"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failure_before_the_first_word_has_its_own_status(
    client: openai.AsyncOpenAI,
    stage: Stage,
    failure: Exception,
    kind: type[openai.APIStatusError],
    retry: str,
    stream: bool,
) -> None:
    """And says whether it is safe to ask again, so that nothing is paid for twice."""
    stage.play([failure])  # type: ignore[list-item]  # the parameters are errors of ours
    with pytest.raises(kind) as failed:
        await client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
    assert failed.value.response.headers["x-should-retry"] == retry
    expected = "rate_limit_error" if kind is openai.RateLimitError else "server_error"
    assert failed.value.type == expected


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(
    "half",
    [TextDelta(text="Half"), ToolCall(call_id="c1", name="do", arguments="{}")],
    ids=["a word", "a tool"],
)
async def test_answer_that_breaks_off_is_not_asked_for_again(
    client: openai.AsyncOpenAI, stage: Stage, half: TextDelta | ToolCall, api: str, store: bool
) -> None:
    """By a client that waits for the whole: what it does not see has been paid for, and done."""
    model = stage.play([half, ModelRateLimited(retry_after_s=1)])
    client = client.with_options(max_retries=2)
    asking = (
        client.chat.completions.create(model=MODEL, messages=HELLO, store=store)
        if api == "chat"
        else client.responses.create(model=MODEL, input="Hi.", store=store)
    )
    with pytest.raises(openai.RateLimitError) as failed:
        await asking
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(model.prompts) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_answer_that_a_restart_ends_is_not_asked_for_again(
    start: StartNode, stream: bool
) -> None:
    """Not even before its first word: its model was asked already."""
    node = await start()
    model = node.stage.play([asyncio.Event()])
    async with client_of(node, key_of(node.person())) as client:
        asking = asyncio.create_task(
            client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
        )
        await until(lambda: model.running == 1)
        await node.stop()
        with pytest.raises(openai.InternalServerError) as failed:
            await asking
    assert failed.value.code == "answer_interrupted"
    assert failed.value.response.headers["x-should-retry"] == "false"


async def test_failure_in_the_middle_is_told_in_the_stream(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """What was said arrives, then the client raises."""
    stage.play([TextDelta(text="Half"), ModelUnavailable()])
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    said: list[str] = []

    async def read() -> None:
        async for one in stream:
            said.append(one.choices[0].delta.content or "")  # noqa: PERF401 -- the loop raises, and what came before counts

    with pytest.raises(openai.APIError):
        await read()
    assert "".join(said) == "Half"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", [(), ("Hel",)])
async def test_hanging_up_stops_the_model(
    client: openai.AsyncOpenAI, stage: Stage, said: tuple[str, ...], stream: bool
) -> None:
    """Before the first word and after it, whole or streamed: nobody pays for what none reads."""
    model = stage.play([*said, asyncio.Event()])

    async def ask() -> None:
        made = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream)
        if isinstance(made, openai.AsyncStream):
            async for _ in made:
                pass

    asking = asyncio.create_task(ask())
    await until(lambda: model.running == 1)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait((asking,))
    await until(lambda: model.running == 0, within_s=2)
    assert model.abandoned == 1


async def test_unknown_route_is_worded_for_the_client(client: openai.AsyncOpenAI) -> None:
    """404 and 405 in the same envelope."""
    with pytest.raises(openai.NotFoundError) as missing:
        await client.get("/no-such-thing", cast_to=object)
    assert isinstance(missing.value.body, dict)
    assert missing.value.body["message"]
    with pytest.raises(openai.APIStatusError) as wrong:
        await client.post("/models", cast_to=object)
    assert wrong.value.status_code == 405


async def test_malformed_json_is_worded_for_the_client(ana: Person) -> None:
    """400, not a page of the framework's."""
    answer = await ana.client.call(
        "POST", ROUTE, data=b'{"model":', headers={"content-type": "application/json"}
    )
    assert answer.status == 400
    assert answer.json["error"]["message"]


@pytest.mark.parametrize("depth", [50, 70, 900])
async def test_form_that_nobody_can_follow_is_refused(
    ana: Person, stage: Stage, depth: int
) -> None:
    """Schemas go to the model as they are, but for those that only nest; said by the field."""
    model = stage.play(answer=lambda _: ["Yes."])
    deep: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        deep = {"a": deep}
    function = {"name": "f", "parameters": deep}
    named = {"name": "n", "schema": deep}
    forms = {"type": "json_schema", "json_schema": named}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        (ROUTE, "tools", {"tools": [{"type": "function", "function": function}]}),
        (ROUTE, "response_format", {"response_format": forms}),
        (ROUTE, "tool_choice", {"tool_choice": {"type": "function", "function": deep}}),
        ("/v1/responses", "tools", {"tools": [{"type": "function", **function}]}),
        ("/v1/responses", "text", {"text": {"format": {"type": "json_schema", **named}}}),
    ]
    for route, field, more in asked:
        body = {"messages": HELLO} if route == ROUTE else {"input": "Hi", "store": False}
        answer = await ana.client.post(route, {"model": MODEL, **body, **more})
        if depth < 60:
            assert answer.status == 200, (field, answer.text)
        else:
            assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
            assert field in answer.json["error"]["message"]
    assert len(model.prompts) == (len(asked) if depth < 60 else 0)


async def test_model_outside_the_list_is_not_asked(start: StartNode) -> None:
    """Neither by another spelling nor by a suffix that would cost more."""
    node = await start(MODELS="fake/model")
    model = node.stage.play(["Yes."])
    person = node.person()
    for name in ("fake/Model", "fake/model:online", "fake/model ", "openrouter/auto"):
        answer = await person.client.post(ROUTE, {"model": name, "messages": HELLO})
        assert answer.status in {400, 404}, name
    answer = await person.client.post(ROUTE, {"model": MODEL, "messages": HELLO})
    assert answer.status == 200
    assert len(model.prompts) == 1


async def test_nothing_is_kept(ana: Person, stage: Stage) -> None:
    """The client keeps its conversation; there is none of it here."""
    stage.play(["Yes."])
    await ana.client.post(ROUTE, {"model": MODEL, "messages": HELLO})
    assert (await ana.client.get("/api/v1/chat")).json["conversations"] == []
