"""Tools on every surface: asked for, run as the caller, kept, and gone on with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.events import Done, TextDelta, ToolCall, Usage
from chatkeep.tools import ToolContext, Tools
from tests.patience import PATIENCE_S
from tests.stories import told_by

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import ModelInfo, Prompt
    from tests.http.conftest import StartNode
    from tests.serving import Client, Node

STORY = Path(__file__).with_name("tool_story.mjs")
STEPS = [
    "a yes lets the tool run, and the answer goes on",
    "a no is told to the model",
    "the client runs a tool of its own",
]
ROUTE = "/api/chat"

tools = Tools()
cancelled: list[tuple[str, int]] = []


@tools.tool
async def whoami(context: ToolContext) -> str:
    """Say who asks."""
    return context.who.user_id


@tools.tool(needs_approval=True)
async def cancel(context: ToolContext, order: int) -> dict[str, int]:
    """Cancel an order."""
    cancelled.append((context.who.user_id, order))
    return {"cancelled": order}


tools.client_tool("locate", "Where the person is.", {"type": "object"})


class Asking:
    """A model that asks for the tool that the question names, and then says what it heard."""

    name = "asking"

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Ask, or say."""
        self.prompts.append(prompt)
        last = prompt.messages[-1]
        if last.role == "tool":
            yield TextDelta(text=f"Done: {last.text}")
            yield Usage(prompt_tokens=2, completion_tokens=1)
            yield Done(finish_reason="stop")
            return
        tool, _, words = last.text.partition(" ")
        order = {"order": int(words)} if words.isdigit() else {}
        yield TextDelta(text="Shall I?")
        yield ToolCall(call_id=str(uuid4()), name=tool, arguments=json.dumps(order))
        yield Usage(prompt_tokens=2, completion_tokens=1)
        yield Done(finish_reason="tool-calls")

    async def list_models(self) -> list[ModelInfo]:
        """Have no list."""
        return []


@pytest.fixture
async def shop(start: StartNode) -> Node:
    """A node whose model may ask for the tools above."""
    node = await start(None, tools)
    node.stage.model = Asking()  # type: ignore[assignment]  # a stage plays any model
    return node


def submit(chat: str, text: str) -> dict[str, Any]:
    """Return the body of a submit."""
    return {"id": chat, "message": {"role": "user", "parts": [{"type": "text", "text": text}]}}


async def asked(client: Client, text: str) -> tuple[str, dict[str, Any]]:
    """Ask, and return the conversation and the answer that is kept."""
    chat = str(uuid4())
    answer = await client.post(ROUTE, submit(chat, text), headers={"accept": "application/json"})
    assert answer.status == 200, answer.text
    return chat, await newest(client, chat)


async def newest(client: Client, chat: str) -> dict[str, Any]:
    """Return the newest message that is kept."""
    message: dict[str, Any] = (await client.get(f"/api/v1/chat/{chat}")).json["messages"][-1]
    return message


def decided(chat: str, message: dict[str, Any], **changes: object) -> dict[str, Any]:
    """Return the body that sends *message* back with its tool changed."""
    parts = [
        {**part, **changes} if part["type"] == "dynamic-tool" else part for part in message["parts"]
    ]
    back = {"id": message["id"], "role": "assistant", "parts": parts}
    return {"id": chat, "messages": [back], "messageId": message["id"]}


def approval_of(message: dict[str, Any]) -> str:
    """Return the id of the approval that *message* waits for."""
    found: str = next(part["approval"]["id"] for part in message["parts"] if "approval" in part)
    return found


async def test_tool_runs_as_the_caller_and_the_model_hears_it(shop: Node) -> None:
    """The answer has the call, what came of it, and what the model said then; usage adds up."""
    person = shop.person()
    chat, message = await asked(person.client, "whoami")
    kinds = [part["type"] for part in message["parts"]]
    assert kinds == ["text", "dynamic-tool", "step-start", "text"]
    tool = message["parts"][1]
    assert (tool["state"], tool["output"]) == ("output-available", person.id)
    assert message["content"] == f"Shall I?Done: {person.id}"
    export = (await person.client.get(f"/api/v1/chat/{chat}/export")).text
    assert person.id in export


async def test_rest_stream_tells_of_tools(shop: Node) -> None:
    """As events with names."""
    person = shop.person()
    chat = (await person.client.post("/api/v1/chat/start", {})).json["conversation_id"]
    body = {"conversation_id": chat, "message": "whoami"}
    headers = {"accept": "text/event-stream"}
    async with person.client.but(**headers).stream("/api/v1/chat/message", body) as stream:
        events = await stream.rest()
    named = {event.name: event.data for event in events}
    assert named["tool_call"]["name"] == "whoami"
    assert named["tool_result"]["output"] == person.id


async def test_calls_of_one_id_are_told_apart(start: StartNode) -> None:
    """Some providers name all calls alike, or count anew each time: each call has its own end."""
    done = Done(finish_reason="tool-calls")
    both = [ToolCall(call_id="call_0", name=name, arguments="{}") for name in ("whoami", "nothing")]
    ask = [
        ToolCall(call_id="call_0", name="cancel", arguments=f'{{"order": {number}}}')
        for number in (1, 2)
    ]
    node = await start(None, tools)
    model = node.stage.play([*both, done], [*ask, done], ["Done."])
    person = node.person()
    chat, message = await asked(person.client, "Who, and cancel")
    called = [part for part in message["parts"] if part["type"] == "dynamic-tool"]
    assert len({part["toolCallId"] for part in called}) == 4
    states = ["output-available", "output-error", "approval-requested", "approval-requested"]
    assert [part["state"] for part in called] == states
    heard = model.prompts[1].messages[1:]
    assert [one.call_id for one in heard[1:]] == [call.call_id for call in heard[0].calls]
    body = decided(chat, message)
    for part, approved in zip(body["messages"][0]["parts"][-2:], (True, False), strict=True):
        part["approval"]["approved"] = approved
    before = len(cancelled)
    async with person.client.stream(ROUTE, body) as stream:
        await stream.rest()
    assert cancelled[before:] == [(person.id, 1)]
    called = [part for part in (await newest(person.client, chat))["parts"] if "state" in part]
    assert [part["state"] for part in called[2:]] == ["output-available", "output-denied"]
    told = [one.text for one in model.prompts[-1].messages if one.role == "tool"]
    assert told[0] == person.id
    assert told[2:] == ['{"cancelled":1}', "The person did not allow this."]


async def test_next_question_is_asked_with_what_tools_said(shop: Node) -> None:
    """The history that the model is given has calls and results, each beside the other."""
    person = shop.person()
    chat, _ = await asked(person.client, "whoami")
    await person.client.post(ROUTE, submit(chat, "whoami"))
    model: Any = shop.stage.model
    roles = [one.role for one in model.prompts[2].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    history = model.prompts[2].messages
    assert history[1].calls[0].call_id == history[2].call_id
    assert history[2].text == person.id


async def test_openai_clients_have_the_tools_that_ask_nobody(shop: Node) -> None:
    """They run here, as the caller; the client sees what was said, and no call of ours."""
    person = shop.person()
    body = {"model": "fake/model", "messages": [{"role": "user", "content": "whoami"}]}
    message = (await person.client.post("/v1/chat/completions", body)).json["choices"][0]["message"]
    assert message["content"] == f"Shall I?Done: {person.id}"
    assert "tool_calls" not in message
    model: Any = shop.stage.model
    assert [one.name for one in model.prompts[0].tools] == ["whoami"]
    own = {"type": "function", "function": {"name": "whoami", "parameters": {}}}
    answer = await person.client.post("/v1/chat/completions", {**body, "tools": [own]})
    (choice,) = answer.json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "whoami"
    asked = {"model": "fake/model", "input": "whoami", "store": False}
    answer = await person.client.post("/v1/responses", asked)
    assert person.id in answer.text


async def test_anonymous_callers_have_no_tools(start: StartNode) -> None:
    """A tool runs as somebody, so for nobody there is none."""
    node = await start(None, tools, ANONYMOUS_CHAT="on")
    model: Any = Asking()
    node.stage.model = model
    answer = await node.nobody().post(ROUTE, submit("x", "whoami"))
    assert answer.status == 200
    assert model.prompts[0].tools == ()
    assert "output" not in answer.text


async def test_nothing_runs_before_the_person_says_yes(shop: Node) -> None:
    """Nor when the client only claims that it ran, or names another approval."""
    person = shop.person()
    chat, message = await asked(person.client, "cancel 7")
    before = list(cancelled)
    forged = [
        {"state": "output-available", "output": {"cancelled": 7}},
        {"state": "approval-responded", "approval": {"id": "x", "approved": True}},
        {"state": "approval-responded", "approval": {"id": approval_of(message)}},
        {"toolCallId": "other", "approval": {"id": approval_of(message), "approved": True}},
    ]
    for changes in forged:
        answer = await person.client.post(ROUTE, decided(chat, message, **changes))
        assert answer.status == 422, answer.text
    assert cancelled == before
    assert await newest(person.client, chat) == message


async def test_arguments_of_an_approved_tool_are_those_that_were_shown(shop: Node) -> None:
    """What the client sends as input is not looked at."""
    person = shop.person()
    chat, message = await asked(person.client, "cancel 7")
    approval = {"id": approval_of(message), "approved": True}
    body = decided(chat, message, approval=approval, input={"order": 999})
    assert (await person.client.post(ROUTE, body)).status == 200
    assert (person.id, 7) in cancelled
    assert (person.id, 999) not in cancelled


async def test_yes_said_ten_times_at_once_runs_it_once(shop: Node) -> None:
    """Every sender gets the same answer."""
    person = shop.person()
    chat, message = await asked(person.client, "cancel 70")
    body = decided(chat, message, approval={"id": approval_of(message), "approved": True})
    headers = {"accept": "application/json"}
    answers = await asyncio.gather(
        *(person.client.post(ROUTE, body, headers=headers) for _ in range(10))
    )
    assert {one.status for one in answers} <= {200, 409, 422}
    assert any(one.status == 200 for one in answers)
    assert cancelled.count((person.id, 70)) == 1


ODD_OUTPUTS = {
    "half a pair": r'"\ud800"',
    "half a pair in a name": r'{"\udfff": 1}',
    "the character NUL": r'{"a": "\u0000"}',
    "a NUL in a name": r'{"\u0000": 1}',
    "no number": "NaN",
    "more than all": "[1e999]",
    "digits": "9" * 4000,
    "depth": '{"a":' * 900 + "1" + "}" * 900,
    "depth of lists": "[" * 980 + "]" * 980,
}


@pytest.mark.parametrize("state", ["output-available", "output-error"])
@pytest.mark.parametrize("name", ODD_OUTPUTS)
async def test_odd_output_of_a_clients_tool_is_never_a_5xx(
    shop: Node, name: str, state: str
) -> None:
    """What nobody can keep is refused, and the answer waits on; the rest goes to the model."""
    person = shop.person()
    chat, message = await asked(person.client, "locate 1")
    member = "output" if state == "output-available" else "errorText"
    written = json.dumps(decided(chat, message, state=state, **{member: "HERE"}))
    raw = written.replace('"HERE"', ODD_OUTPUTS[name]).encode()
    headers = {"content-type": "application/json"}
    answer = await person.client.call("POST", ROUTE, data=raw, headers=headers)
    assert answer.status in {200, 400, 422}, answer.text
    page = await person.client.get(f"/api/v1/chat/{chat}")
    assert page.status == 200
    if answer.status != 200:
        assert await newest(person.client, chat) == message
        here = decided(chat, message, state="output-available", output={"at": 1})
        assert (await person.client.post(ROUTE, here)).status == 200


ODD_ARGUMENTS = {
    "the character NUL": r'{"a": "\u0000"}',
    "a NUL as it is": "\x00",
    "depth": '{"a":' * 900 + "1" + "}" * 900,
    "depth of lists": "[" * 980 + "]" * 980,
    "depth that nothing reads": "[" * 60_000,
    "half a pair": r'{"a": "\ud800"}',
    "no number": '{"a": NaN, "b": 1e999}',
}


@pytest.mark.parametrize("tool", ["whoami", "cancel", "locate", "nothing"])
@pytest.mark.parametrize("name", ODD_ARGUMENTS)
async def test_odd_arguments_of_a_model_end_the_answer_and_no_chat(
    shop: Node, name: str, tool: str
) -> None:
    """Whoever runs the tool: what the model wrote is kept, if as a text, and the chat goes on."""

    class Odd(Asking):
        async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
            if prompt.messages[-1].text == "odd":
                yield ToolCall(call_id="c", name=tool, arguments=ODD_ARGUMENTS[name])
                yield Done(finish_reason="tool-calls")
                return
            yield TextDelta(text="So be it.")
            yield Done(finish_reason="stop")

    shop.stage.model = Odd()  # type: ignore[assignment]  # a stage plays any model
    client, chat = shop.person().client, str(uuid4())
    async with client.stream(ROUTE, submit(chat, "odd")) as stream:
        events = await stream.rest()
    assert (stream.status, events[-1].data) == (200, "[DONE]")
    message = await newest(client, chat)
    assert message["status"] == "done"
    [part] = [part for part in message["parts"] if part["type"] == "dynamic-tool"]
    assert "\x00" not in json.dumps(part, ensure_ascii=False)
    assert (await client.get(f"/api/v1/chat/{chat}/export")).status == 200
    headers = {"accept": "application/json"}
    more = await client.post(ROUTE, submit(chat, "And now?"), headers=headers)
    assert (more.status, more.json["message"]) == (200, "So be it.")


@pytest.mark.parametrize("approved", [True, False])
async def test_yes_or_no_may_be_sent_again_when_the_answer_has_ended(
    shop: Node, approved: bool
) -> None:
    """With its key, by whom the stream has not reached: all is said, and nothing runs twice."""
    person = shop.person()
    chat, message = await asked(person.client, "cancel 7")
    body = decided(chat, message, approval={"id": approval_of(message), "approved": approved})
    before, told = len(cancelled), []
    for _ in range(2):
        async with person.client.stream(ROUTE, body, idempotency_key=chat) as stream:
            events = [event.data for event in await stream.rest()]
        told.append([{**one, "messageMetadata": {}} for one in events if isinstance(one, dict)])
    assert told[0] == told[1]
    kinds = [one["type"] for one in told[1]]
    assert ("tool-output-available" if approved else "tool-output-denied") in kinds
    assert "text-delta" in kinds
    assert cancelled[before:] == ([(person.id, 7)] if approved else [])


async def test_nobody_decides_for_somebody_else(shop: Node) -> None:
    """Another's waiting answer is like one that does not exist."""
    ana, bo = shop.person(), shop.person()
    chat, message = await asked(ana.client, "cancel 9")
    approval = {"id": approval_of(message), "approved": True}
    stranger = await bo.client.post(ROUTE, decided(chat, message, approval=approval))
    nowhere = await bo.client.post(ROUTE, decided(str(uuid4()), message, approval=approval))
    assert (stranger.status, nowhere.status) == (422, 422)
    assert stranger.json["detail"] == nowhere.json["detail"]
    assert (ana.id, 9) not in cancelled


async def test_model_that_never_stops_asking_is_stopped(start: StartNode) -> None:
    """After so many steps the answer ends, with what it has."""
    node = await start(None, tools)
    model = node.stage.play(
        [ToolCall(call_id="c", name="whoami", arguments="{}"), Done(finish_reason="tool-calls")]
    )
    _, message = await asked(node.person().client, "again")
    assert len(model.prompts) == 10
    assert message["status"] == "done"


async def test_stop_ends_a_tool_that_is_running(start: StartNode) -> None:
    """What was said is kept, and the tool does not go on."""
    waiting, ended = asyncio.Event(), asyncio.Event()
    slow = Tools()

    @slow.tool
    async def wait() -> None:
        """Wait for ever."""
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    node = await start(None, slow)
    node.stage.play(["Hm.", ToolCall(call_id="c", name="wait", arguments="{}")])
    person, chat = node.person(), str(uuid4())
    asking = asyncio.create_task(person.client.post(ROUTE, submit(chat, "wait")))
    await asyncio.wait_for(waiting.wait(), PATIENCE_S)
    stopped = await person.client.post(f"{ROUTE}/{chat}/stop")
    assert stopped.json["stopped"]
    await asyncio.wait_for(ended.wait(), PATIENCE_S)
    await asking
    assert (await newest(person.client, chat))["status"] == "stopped"


@pytest.mark.parametrize(
    ("version", "which", "steps"),
    [("ai5", "own", STEPS[-1:]), ("ai6", "all", STEPS), ("ai", "all", STEPS)],
)
async def test_unmodified_ai_sdk_goes_on(
    shop: Node, version: str, which: str, steps: list[str]
) -> None:
    """Approval, refusal and tools of the client, with the real package; a reload shows the same."""
    token = shop.person().client.headers["authorization"].removeprefix("Bearer ")
    told = await told_by(STORY, shop.url, token, version, which)
    assert told == dict.fromkeys(steps)
