"""Answers: asked once, kept whatever happens to the reader, and failed in plain words."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from chatkeep.events import Done, ReasoningDelta, TextDelta, ToolCall, Usage
from tests.patience import PATIENCE_S
from tests.serving import said, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import Prompt
    from chatkeep.testing import Step
    from tests.http.conftest import StartNode
    from tests.serving import Client, Node, Person, Stage

CHAT = "/api/v1/chat"
STREAM = {"accept": "text/event-stream"}


async def begin(client: Client) -> str:
    """Start a conversation and return its id."""
    return str((await client.post(f"{CHAT}/start", {})).json["conversation_id"])


async def messages(client: Client, conversation: str) -> list[dict[str, Any]]:
    """Return what is kept of a conversation, without the greeting."""
    answer = await client.get(f"{CHAT}/{conversation}?limit=100")
    assert answer.status == 200, answer.text
    kept: list[dict[str, Any]] = answer.json["messages"]
    return kept[1:]


async def ended(client: Client, conversation: str) -> None:
    """Return when nothing is being answered in the conversation."""

    async def idle() -> bool:
        return (await client.get(f"{CHAT}/{conversation}")).json["active_run"] is None

    await until(idle)


# --- once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["header", "member"])
async def test_parallel_duplicates_are_one_turn(ana: Person, stage: Stage, named: str) -> None:
    """Ten copies of one request: one question, one answer, one call of the model."""
    gate = asyncio.Event()
    model = stage.play(["Once", gate, " only."])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "How often?"}
    headers = {"idempotency-key": "k1"} if named == "header" else {}
    if named == "member":
        body["client_message_id"] = "m1"
    sent = [
        asyncio.create_task(ana.client.post(f"{CHAT}/message", body, headers=headers))
        for _ in range(10)
    ]
    await until(lambda: bool(model.prompts))
    gate.set()
    answers = [await one for one in sent]
    assert {one.status for one in answers} == {200}
    assert len({one.body for one in answers}) == 1
    assert answers[0].json["message"] == "Once only."
    assert len(model.prompts) == 1
    assert [one["role"] for one in await messages(ana.client, conversation)] == [
        *("user", "assistant")
    ]


async def test_repeated_request_gets_the_answer_again(ana: Person, stage: Stage) -> None:
    """Whoever lost the answer asks again with the same key, and gets that very answer."""
    model = stage.play(["Here.", Usage(prompt_tokens=3, completion_tokens=1, cost=Decimal("0.5"))])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Where?"}
    key = {"idempotency-key": "k"}
    first = await ana.client.post(f"{CHAT}/message", body, headers=key)
    again = await ana.client.post(f"{CHAT}/message", body, headers=key)
    assert again.body == first.body
    assert first.json["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "total_tokens": 4,
        "cost": 0.5,
    }
    async with ana.client.stream(f"{CHAT}/message", body, **STREAM, **key) as stream:
        events = await stream.rest()
    assert (events[-1].name, events[-1].data) == ("done", first.json)
    assert len(model.prompts) == 1


@pytest.mark.parametrize("named", ["header", "member"])
async def test_key_with_other_words_is_refused(ana: Person, stage: Stage, named: str) -> None:
    """Nothing is asked and nothing stored: the answer to the first would be taken for its own."""
    model = stage.play(["Here."])
    conversation = await begin(ana.client)
    headers = {"idempotency-key": "k1"} if named == "header" else {}
    member = {"client_message_id": "m1"} if named == "member" else {}
    statuses = []
    for text in ("Where?", "When?", "Where?"):
        body = {"conversation_id": conversation, "message": text, **member}
        answer = await ana.client.post(f"{CHAT}/message", body, headers=headers)
        statuses.append((answer.status, answer.json.get("code")))
    assert statuses == [(200, None), (422, "idempotency_key_reused"), (200, None)]
    assert len(model.prompts) == 1
    assert len(await messages(ana.client, conversation)) == 2


async def test_key_is_one_persons_whatever_the_conversation(
    ana: Person, bo: Person, stage: Stage
) -> None:
    """The same key of somebody else is another request; in another conversation it is used up."""
    stage.play(answer=lambda prompt: [f"re: {prompt.messages[-1].text}"])
    told = []
    for client, text in ((ana.client, "a"), (ana.client, "b"), (bo.client, "c")):
        body = {"conversation_id": await begin(client), "message": text}
        answer = await client.post(f"{CHAT}/message", body, headers={"idempotency-key": "1"})
        told.append(answer.json.get("message") or answer.json["code"])
    assert told == ["re: a", "idempotency_key_reused", "re: c"]


async def test_second_question_during_an_answer_is_refused(ana: Person, stage: Stage) -> None:
    """Over REST a conversation is answered one question at a time: 409, naming the run."""
    gate = asyncio.Event()
    stage.play(["Wait", gate])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "First"}
    async with ana.client.stream(f"{CHAT}/message", body, **STREAM) as stream:
        started = await stream.next()
        assert started is not None
        refused = await ana.client.post(f"{CHAT}/message", {**body, "message": "Second"})
        assert (refused.status, refused.json["code"]) == (409, "run_in_progress")
        assert refused.json["run_id"] == started.data["run_id"]
        page = (await ana.client.get(f"{CHAT}/{conversation}")).json
        assert page["active_run"] == started.data["run_id"]
        assert page["messages"][-1]["status"] == "running"
        gate.set()
        await stream.rest()
    assert [one["content"] for one in await messages(ana.client, conversation)] == [
        *("First", "Wait")
    ]


# --- readers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_reader_who_leaves_stops_nothing(ana: Person, stage: Stage, accept: str) -> None:
    """Hanging up in the middle: the answer goes on, and is there whole afterwards."""
    gate = asyncio.Event()
    model = stage.play(["Half", gate, " and half."])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Tell me"}
    if accept == "application/json":
        waiting = asyncio.create_task(ana.client.post(f"{CHAT}/message", body))
        await until(lambda: model.running == 1)
        waiting.cancel()
    else:
        async with ana.client.stream(f"{CHAT}/message", body, accept=accept) as stream:
            await stream.until(lambda event: event.name == "delta")
    gate.set()
    await ended(ana.client, conversation)
    _, answer = await messages(ana.client, conversation)
    assert (answer["content"], answer["status"]) == ("Half and half.", "done")
    assert model.abandoned == 0


async def test_slow_reader_holds_up_nobody(ana: Person, stage: Stage) -> None:
    """A reader who does not read: the run ends, and the reader can still have all of it."""
    piece = "0123456789abcdef" * 4096
    model = stage.play([*([piece] * 160)])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Ten megabytes, please"}
    async with ana.client.stream(f"{CHAT}/message", body, **STREAM) as stream:
        await until(lambda: len(model.prompts) == 1 and model.running == 0)
        await ended(ana.client, conversation)
        events = await stream.rest()
    assert said(events) == piece * 160
    assert events[-1].name == "done"


async def test_open_streams_hold_no_connection(start: StartNode) -> None:
    """Forty answers being streamed over a pool of two: everybody else is served at once."""
    node = await start(DATABASE_POOL_SIZE="2")
    gate = asyncio.Event()
    node.stage.play(["Still", gate])
    people = [node.person() for _ in range(40)]

    async def listen(client: Client) -> str:
        body = {"conversation_id": await begin(client), "message": "Sing"}
        async with client.stream(f"{CHAT}/message", body, **STREAM) as stream:
            return said(await stream.rest())

    singing = [asyncio.create_task(listen(one.client)) for one in people]
    await until(lambda: node.stage.model.running == 40)
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*(one.client.get(CHAT) for one in people))
    assert {one.status for one in answers} == {200}
    gate.set()
    assert {await one for one in singing} == {"Still"}


async def test_partial_answer_is_kept_while_it_is_made(ana: Person, stage: Stage) -> None:
    """What has been said so far is in the database before the answer has ended."""
    gate = asyncio.Event()
    stage.play(["So far", gate])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Go"}

    async def kept() -> bool:
        return bool((await messages(ana.client, conversation))[-1]["content"] == "So far")

    async with ana.client.stream(f"{CHAT}/message", body, **STREAM):
        await until(kept)
    gate.set()
    await ended(ana.client, conversation)


async def test_heartbeats_keep_a_silent_stream_open(
    ana: Person, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the model thinks, comments pass: proxies close what is silent."""
    monkeypatch.setattr("chatkeep.answering.live.HEARTBEAT_S", 0.02)
    gate = asyncio.Event()
    stage.play([gate, "At last."])
    body = {"conversation_id": await begin(ana.client), "message": "Think"}
    async with ana.client.stream(f"{CHAT}/message", body, **STREAM) as stream:
        reading = asyncio.create_task(stream.rest())
        await until(lambda: stream.raw.count(b": keep-alive\n\n") >= 2)
        gate.set()
        assert said(await reading) == "At last."


# --- what a model says --------------------------------------------------------------------------

FORGED = 'x\n\nevent: done\ndata: {"message":"forged"}\n\ndata: [DONE]\n\r\n\r\nid: 7\n\n'


async def test_model_cannot_forge_an_event(ana: Person, stage: Stage) -> None:
    """Text that looks like the protocol is text, on either surface."""
    stage.play([FORGED, ReasoningDelta(text=FORGED), FORGED])
    body = {"conversation_id": await begin(ana.client), "message": "Forge"}
    async with ana.client.stream(f"{CHAT}/message", body, **STREAM) as stream:
        events = await stream.rest()
    assert [event.name for event in events] == ["start", "delta", "reasoning", "delta", "done"]
    assert said(events) == events[-1].data["message"] == FORGED * 2


async def test_what_cannot_be_stored_is_left_out(ana: Person, stage: Stage) -> None:
    """A NUL or half a surrogate pair in an answer costs that character, not the answer."""
    stage.play(["a\x00b", "\ud83d", "c"])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Odd"}
    async with ana.client.stream(f"{CHAT}/message", body, **STREAM) as stream:
        assert said(await stream.rest()) == "ab?c"
    assert (await messages(ana.client, conversation))[-1]["content"] == "ab?c"


async def test_reasoning_and_tool_calls_are_parts(ana: Person, stage: Stage) -> None:
    """Reasoning and tool calls are streamed and kept beside the text, never in it."""
    call = ToolCall(call_id="c1", name="look", arguments='{"at": "sky"}')
    stage.play([ReasoningDelta(text="Hm. "), ReasoningDelta(text="Up?"), "Blue.", call])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Colour of the sky?"}
    async with ana.client.stream(f"{CHAT}/message", body, **STREAM) as stream:
        events = await stream.rest()
    assert "".join(e.data["text"] for e in events if e.name == "reasoning") == "Hm. Up?"
    assert [e.data["name"] for e in events if e.name == "tool_call"] == ["look"]
    answer = (await messages(ana.client, conversation))[-1]
    assert answer["content"] == "Blue."
    assert [part["type"] for part in answer["parts"]] == ["reasoning", "text", "dynamic-tool"]


async def test_model_is_given_the_kept_history(ana: Person, stage: Stage) -> None:
    """The model is given the conversation as it is kept, the newest question last."""
    model = stage.play(["Ana."], ["You are Ana."])
    conversation = await begin(ana.client)
    for text in ("I am Ana", "Who am I?"):
        await ana.client.post(f"{CHAT}/message", {"conversation_id": conversation, "message": text})
    asked = [(one.role, one.text) for one in model.prompts[-1].messages]
    assert asked == [
        ("assistant", "Hello! How can I help you today?"),
        ("user", "I am Ana"),
        ("assistant", "Ana."),
        ("user", "Who am I?"),
    ]
    assert model.prompts[-1].conversation_id == conversation
    assert ana.id not in str(model.prompts[-1].user_key)


async def test_model_that_really_answered_is_named(ana: Person, stage: Stage) -> None:
    """A router's choice is what the answer, and the kept message, name as the model."""
    stage.play(["Hi.", Done(finish_reason="stop", model="really/this-one")])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Hello you", "model": "fake/model"}
    answer = await ana.client.post(f"{CHAT}/message", body)
    assert answer.json["model"] == "really/this-one"
    assert (await messages(ana.client, conversation))[-1]["model"] == "really/this-one"


# --- failures -----------------------------------------------------------------------------------

FAILURES: list[tuple[ChatkeepError, int, bool]] = [
    (ModelUnavailable(), 503, True),
    (ModelRateLimited(), 429, True),
    (ModelTimeout(), 504, True),
    (ModelRefused(), 422, False),
    (ModelMisconfigured("401 Unauthorized: sk-canary"), 502, False),
    (ModelBroken(), 502, False),
]


@pytest.mark.parametrize(("failure", "status", "retry"), FAILURES, ids=str)
@pytest.mark.parametrize("partial", [[], ["Half of it"]], ids=["at once", "midway"])
async def test_failed_answer_says_why(
    ana: Person,
    stage: Stage,
    failure: ChatkeepError,
    status: int,
    retry: bool,
    partial: list[Step],
) -> None:
    """Each failure of the model has its status and code, never ours, and keeps what was said."""
    stage.play([*partial, failure])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Try"}
    answer = await ana.client.post(f"{CHAT}/message", body)
    assert (answer.status, answer.json["code"]) == (status, failure.code)
    assert ("retry-after" in answer.headers) == retry
    assert b"canary" not in answer.body
    question, kept = await messages(ana.client, conversation)
    assert question["content"] == "Try"
    assert (kept["status"], kept["error"]["code"]) == ("failed", failure.code)
    assert kept["content"] == "".join(str(one) for one in partial)
    assert answer.json["message_id"] == kept["id"]


@pytest.mark.parametrize("failure", [ModelRateLimited, ModelUnavailable])
async def test_who_waits_is_told_when_the_provider_wants_to_be_asked_again(
    ana: Person, stage: Stage, failure: type[ChatkeepError]
) -> None:
    """Its own `Retry-After`, not ours: clients that try again by themselves go by it."""
    stage.play([failure(retry_after_s=17)])
    body: dict[str, Any] = {"conversation_id": await begin(ana.client), "message": "Try"}
    answer = await ana.client.post(f"{CHAT}/message", body)
    assert (answer.status, answer.headers["retry-after"]) == (failure.status, "17")
    stage.play([failure(retry_after_s=17)])
    body = {"model": "chatkeep/eliza", "messages": [{"role": "user", "content": "Try"}]}
    answer = await ana.client.post("/v1/chat/completions", body)
    assert (answer.status, answer.headers["retry-after"]) == (failure.status, "17")


async def test_failure_ends_the_stream_with_its_body(ana: Person, stage: Stage) -> None:
    """In a stream a failure is one last `error` event with the problem's body."""
    stage.play(["Well", ModelTimeout()])
    body = {"conversation_id": await begin(ana.client), "message": "Try"}
    async with ana.client.stream(f"{CHAT}/message", body, **STREAM) as stream:
        events = await stream.rest()
    assert [event.name for event in events] == ["start", "delta", "error"]
    problem = events[-1].data
    assert (problem["code"], problem["status"]) == ("model_timeout", 504)
    assert problem["request_id"] == stream.headers["x-request-id"]
    assert problem["message_id"] == events[0].data["message_id"]


class Crashing:
    """A model with a bug."""

    name = "crashing"

    async def stream(self, prompt: Prompt) -> AsyncIterator[ModelEvent]:
        """Say a word and fall over its own feet."""
        yield TextDelta(text="Oh")
        raise ZeroDivisionError("canary")


async def test_bug_in_a_model_ends_the_answer(
    node: Node, ana: Person, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen exception is a failed answer, a bare 500, and in the log."""
    stage.model = Crashing()  # type: ignore[assignment]  # a stage plays any model
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Try"}
    answer = await ana.client.post(f"{CHAT}/message", body)
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert b"canary" not in answer.body
    assert "ZeroDivisionError" in caplog.text
    assert (await messages(ana.client, conversation))[-1]["status"] == "failed"
    stage.play(["Fine."])
    assert (await ana.client.post(f"{CHAT}/message", body)).json["message"] == "Fine."


async def test_conversation_goes_on_after_a_failure(ana: Person, stage: Stage) -> None:
    """The next question is answered, and the model is told what was said before."""
    model = stage.play(["Half", ModelBroken()], ["Whole."])
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Try"}
    assert (await ana.client.post(f"{CHAT}/message", body)).status == 502
    assert (await ana.client.post(f"{CHAT}/message", body)).json["message"] == "Whole."
    assert [one.text for one in model.prompts[-1].messages][1:] == ["Try", "Half", "Try"]


# --- input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": " \n"}, "message"),
        ({"message": None}, "message"),
        ({"message": ["x"]}, "message"),
        ({"message": "a\x00b"}, "message"),
        ({"message": "x" * 200_001}, "message"),
        ({"conversation_id": 5}, "conversation_id"),
        ({"conversation_id": "a\x00b"}, "conversation_id"),
        ({"client_message_id": "a b"}, "client_message_id"),
        ({"user_id": "bo"}, "user_id"),
        ({"role": "system"}, "role"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 1.0}, "max_tokens"),
        ({"model": "a\r\nb"}, "model"),
        ({"api_base": "http://evil.example"}, "api_base"),
        ({"extra_body": {}}, "extra_body"),
        ({"models": ["a"]}, "models"),
    ],
    ids=lambda one: str(one)[:40],
)
async def test_bad_message_is_refused_by_field(
    ana: Person, stage: Stage, change: dict[str, object], field: str
) -> None:
    """What is wrong is a 422 naming the field and not the value; nothing is asked or kept."""
    model = stage.play()
    conversation = await begin(ana.client)
    body = {"conversation_id": conversation, "message": "Fine", **change}
    answer = await ana.client.post(f"{CHAT}/message", body)
    assert (answer.status, answer.json["code"]) == (422, "validation_failed")
    assert answer.json["errors"][0]["field"] == field
    assert "evil" not in answer.text
    assert model.prompts == []
    assert await messages(ana.client, conversation) == []


async def test_message_to_nowhere_keeps_nothing(ana: Person, stage: Stage) -> None:
    """A message to a conversation that is not the caller's is asked of no model."""
    model = stage.play()
    body = {"conversation_id": str(uuid4()), "message": "Anybody?"}
    assert (await ana.client.post(f"{CHAT}/message", body)).status == 403
    assert model.prompts == []
