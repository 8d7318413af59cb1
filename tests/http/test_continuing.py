"""An answer that was cut off goes on: one message, charged once, and nothing else does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep import conversations, runs
from chatkeep.db import WORKER, as_user
from chatkeep.events import Done, ReasoningDelta, TextDelta, ToolCall, Usage
from chatkeep.tools import ToolContext, Tools
from tests.serving import said, types, until

if TYPE_CHECKING:
    from chatkeep.testing import FakeModel, Step
    from tests.http.conftest import StartNode
    from tests.serving import Client, Node, Person, Stage

CHAT = "/api/v1/chat"
UI = "/api/chat"
STREAM = {"accept": "text/event-stream"}


def submit(chat: str, text: str, message_id: str = "m1") -> dict[str, Any]:
    """Return the body of a submit."""
    message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat, "messages": [message]}


async def newest(client: Client, chat: str) -> dict[str, Any]:
    """Return the newest message that is kept."""
    message: dict[str, Any] = (await client.get(f"{CHAT}/{chat}")).json["messages"][-1]
    return message


async def cut_off(node: Node, person: Person, *said_first: Step) -> tuple[str, FakeModel]:
    """Let an answer be stopped after *said_first*; return its conversation, and who answers on."""
    gate = asyncio.Event()
    model = node.stage.play([*said_first, gate], ["wer, and more."])
    chat = str(uuid4())
    async with person.client.stream(UI, submit(chat, "Tell")) as stream:
        await stream.until(lambda _: bool(stream.raw.count(b"-delta") or stream.raw.count(b"tool")))
        await until(lambda: model.running == 1)
        assert (await person.client.post(f"{UI}/{chat}/stop")).json["stopped"]
    return chat, model


async def let_die(node: Node, person: Person, chat: str) -> None:
    """Make the last answer one that its server did not live to end."""
    await node.services.db.execute(
        as_user(person.id),
        "update chat.runs set state = 'running', lease_until = now() - interval '1 s'"
        " where user_id = %s and conversation_id = %s",
        [person.id, chat],
    )
    await runs.sweep(node.services.db)  # unless a node has found it by itself


@pytest.mark.parametrize("how", ["stopped", "interrupted"])
async def test_answer_that_was_cut_off_reads_as_one(node: Node, ana: Person, how: str) -> None:
    """The same message goes on in the middle of a word; the model is shown what it had said."""
    chat, model = await cut_off(node, ana, "Half an ans")
    if how == "interrupted":
        await let_die(node, ana, chat)
    before = await newest(ana.client, chat)
    assert before["status"] == how
    answer = await ana.client.post(f"{CHAT}/{chat}/continue")
    assert (answer.status, answer.json["message"]) == (200, "Half an answer, and more.")
    assert answer.json["message_id"] == before["id"]
    assert answer.json["run_id"] != before["run_id"]
    kept = await newest(ana.client, chat)
    assert (kept["id"], kept["status"]) == (before["id"], "done")
    assert kept["content"] == "Half an answer, and more."
    assert kept["parts"] == [{"type": "text", "text": "Half an answer, and more."}]
    assert kept["siblings"] == [before["id"]]
    asked = model.prompts[-1].messages
    assert [one.role for one in asked] == ["user", "assistant", "user"]
    assert asked[1].text == "Half an ans"
    assert "cut off" in asked[2].text
    found = await ana.client.get(f"{CHAT}/{chat}")
    assert len(found.json["messages"]) == 2


async def test_events_of_a_continued_answer_begin_at_its_start(node: Node, ana: Person) -> None:
    """Whoever follows gets the message as it will be kept: what was there, then what comes."""
    chat, _ = await cut_off(node, ana, "Half an ans")
    async with ana.client.stream(f"{CHAT}/{chat}/continue", **STREAM) as stream:
        await stream.rest()
    assert said(stream.events) == "Half an answer, and more."
    assert stream.events[-1].name == "done"
    assert stream.events[-1].data["message"] == "Half an answer, and more."


async def ended_by_its_length(node: Node, person: Person) -> str:
    """Let an answer end in the middle of a word; return its conversation."""
    length: list[Step] = [TextDelta(text="Half an ans"), Done(finish_reason="length")]
    node.stage.play(length, ["wer, and more."])
    chat = str(uuid4())
    async with person.client.stream(UI, submit(chat, "Tell")) as stream:
        await stream.rest()
    return chat


@pytest.mark.parametrize("how", ["stopped", "length"])
async def test_ai_sdk_goes_on_with_the_answer_it_has(node: Node, ana: Person, how: str) -> None:
    """Sent back as it is (`sendMessage()`), the answer grows by what is new and nothing else."""
    if how == "length":
        chat = await ended_by_its_length(node, ana)
    else:
        chat, _ = await cut_off(node, ana, "Half an ans")
    before = await newest(ana.client, chat)
    body = {
        "id": chat,
        "messages": [{"id": before["id"], "role": "assistant", "parts": before["parts"]}],
        "messageId": before["id"],
    }
    async with ana.client.stream(UI, body) as stream:
        events = await stream.rest()
    assert events[0].data["messageId"] == before["id"]
    assert said(events) == "wer, and more."
    assert types(events).count("text-start") == types(events).count("text-end") == 1
    assert (await newest(ana.client, chat))["content"] == "Half an answer, and more."


THOUGHT = (ReasoningDelta(text="Hm"), 'Half "an"\n\x01😀 ans')


@pytest.mark.parametrize("said_first", [("Half an ans",), THOUGHT], ids=["text", "thoughts"])
async def test_ai_sdk_goes_on_on_another_node_too(
    node: Node, start: StartNode, ana: Person, said_first: tuple[Step, ...]
) -> None:
    """Sent once more, to another node, it joins: what is new comes there as well, and no more."""
    other, rest = await start(), asyncio.Event()
    chat, _ = await cut_off(node, ana, *said_first)
    model = node.stage.play(["wer", rest, "."])
    before = await newest(ana.client, chat)
    message = {"id": before["id"], "role": "assistant", "parts": before["parts"]}
    body = {"id": chat, "message": message}
    async with ana.client.stream(UI, body) as here:
        await here.until(lambda event: types([event]) == ["text-delta"])

        async def stored() -> bool:
            return bool((await newest(ana.client, chat))["content"] == f"{before['content']}wer")

        await until(stored)
        async with ana.client.but(url=other.url).stream(UI, body) as there:
            assert there.status == 200
            await there.until(lambda event: types([event]) == ["text-delta"])
            rest.set()
            await there.rest()
            assert said(there.events) == "wer."
        await here.rest()
        assert said(here.events) == "wer."
    assert len(model.prompts) == 1


@pytest.mark.parametrize("said_first", [("Half an ans",), THOUGHT], ids=["text", "thoughts"])
@pytest.mark.parametrize("more", [["wer 😀."], ['wer "', ReasoningDelta(text="So"), "."]])
async def test_what_is_continued_may_be_read_again_when_it_has_ended(
    node: Node, ana: Person, said_first: tuple[Step, ...], more: list[Step]
) -> None:
    """By whom the first stream has not reached: it is given all that is new, and no more."""
    chat, _ = await cut_off(node, ana, *said_first)
    node.stage.play(more)
    before = await newest(ana.client, chat)
    body = {
        "id": chat,
        "message": {"id": before["id"], "role": "assistant", "parts": before["parts"]},
    }
    told = []
    for _ in range(2):
        async with ana.client.stream(UI, body, idempotency_key=chat) as stream:
            told.append(types(await stream.rest()))
        kept = await newest(ana.client, chat)
        assert before["content"] + said(stream.events) == kept["content"]
    assert told[0] == told[1]


async def test_ai_sdk_is_given_all_of_an_answer_that_it_took_away(node: Node, ana: Person) -> None:
    """`regenerate({body: {continue: true}})` shows the message anew, as one text."""
    chat, _ = await cut_off(node, ana, "Half an ans")
    before = await newest(ana.client, chat)
    body = {
        **submit(chat, "Tell"),
        "trigger": "regenerate-message",
        "messageId": before["id"],
        "continue": True,
    }
    async with ana.client.stream(UI, body) as stream:
        events = await stream.rest()
    assert events[0].data["messageId"] == before["id"]
    assert said(events) == "Half an answer, and more."
    assert types(events).count("text-start") == 1


async def test_nothing_but_the_last_answer_is_continued_and_only_if_cut_off(
    node: Node, ana: Person, bo: Person
) -> None:
    """A whole answer, a failed one, an older one, none at all, another's: each is refused."""
    chat, _ = await cut_off(node, ana, "Half an ans")
    first = (await newest(ana.client, chat))["id"]
    node.stage.play(["Whole."])
    body = {"conversation_id": chat, "message": "Go on"}
    assert (await ana.client.post(f"{CHAT}/message", body)).status == 200
    for sent in ({}, {"message_id": first}):
        refused = await ana.client.post(f"{CHAT}/{chat}/continue", sent)
        assert (refused.status, refused.json["code"]) == (409, "answer_not_interrupted")
    greeted = (await ana.client.post(f"{CHAT}/start", {})).json["conversation_id"]
    refused = await ana.client.post(f"{CHAT}/{greeted}/continue")
    assert (refused.status, refused.json["code"]) == (409, "answer_not_interrupted")
    for stranger in (
        bo.client.post(f"{CHAT}/{chat}/continue"),
        ana.client.post(f"{CHAT}/x/continue"),
    ):
        answer = await stranger
        assert (answer.status, answer.json["code"]) == (403, "conversation_forbidden")


async def test_continuing_twice_is_continuing_once(
    node: Node, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten copies at a time, with a key or without: one call of the model, one answer for all."""
    looked, find_answer = list[Any](), conversations.find_answer

    async def counted(*where: Any) -> Any:  # noqa: ANN401 -- handed on
        looked.append(await find_answer(*where))
        return looked[-1]

    monkeypatch.setattr(conversations, "find_answer", counted)
    for key in ("the-key", None):
        chat, model = await cut_off(node, ana, "Half an ans")
        asked, gate = len(model.prompts), asyncio.Event()
        looked.clear()
        model = node.stage.play([gate, "wer."])
        client = ana.client.but(idempotency_key=key and f"{key}-{chat}")
        copies = [asyncio.create_task(client.post(f"{CHAT}/{chat}/continue")) for _ in range(10)]
        await until(lambda model=model: model.running == 1)  # type: ignore[misc]  # bound at once
        if key is None:  # whoever looks when it is whole is told that there is nothing to continue
            await until(lambda: len(looked) == 10)
        gate.set()
        answers = [await one for one in copies]
        assert {one.status for one in answers} == {200}
        assert {one.json["message"] for one in answers} == {"Half an answer."}
        assert len({one.json["run_id"] for one in answers}) == 1
        assert (asked, len(model.prompts)) == (1, 1)
        again = await client.post(f"{CHAT}/{chat}/continue")
        assert again.status == (200 if key else 409)


async def test_what_was_said_before_is_charged_once(start: StartNode) -> None:
    """Stopped, continued and done: the second charge is for the second part of the answer."""
    node = await start(BUDGET_TOKENS_PER_DAY="100000")
    ana = node.person()
    first, second = "a" * 3000, "b" * 300
    gate = asyncio.Event()
    node.stage.play([first, gate], [second])
    chat = str(uuid4())
    async with ana.client.stream(UI, submit(chat, "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        await ana.client.post(f"{UI}/{chat}/stop")
    charged = await _charges(node, ana)
    assert [one.output for one in charged] == [1000]
    assert (await ana.client.post(f"{CHAT}/{chat}/continue")).json["message"] == first + second
    charged = await _charges(node, ana)
    assert [one.output for one in charged] == [1000, 100]
    # Its beginning was sent to the model, and is charged as what was sent.
    assert charged[1].prompt > charged[0].prompt + 1000 - 1


async def test_a_continued_answer_whose_server_dies_is_charged_for_what_it_said(
    start: StartNode,
) -> None:
    """What the run before had said is not charged once more by the sweeper."""
    node = await start(BUDGET_TOKENS_PER_DAY="100000")
    ana = node.person()
    gate, hold = asyncio.Event(), asyncio.Event()
    model = node.stage.play(["a" * 3000, gate], ["b" * 300, hold])
    chat = str(uuid4())
    async with ana.client.stream(UI, submit(chat, "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        await ana.client.post(f"{UI}/{chat}/stop")
    async with ana.client.stream(f"{CHAT}/{chat}/continue", **STREAM) as stream:
        await until(lambda: len(model.prompts) == 2)

        async def stored() -> bool:
            return bool((await newest(ana.client, chat))["content"].endswith("b"))

        await until(stored)
        await node.services.db.execute(
            as_user(ana.id),
            "update chat.runs set state = 'interrupted' where user_id = %s and state = 'running'",
            [ana.id],
        )
        await node.services.replies.budgets.sweep()  # unless a node has found it by itself
        charged = await _charges(node, ana)
        assert [one.output for one in charged] == [1000, 100]
        hold.set()
        await stream.rest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charge:
    prompt: int
    output: int


async def _charges(node: Node, person: Person) -> list[_Charge]:
    return await node.services.db.fetch(
        as_user(person.id),
        "select c.prompt_tokens::int as prompt, c.output_tokens::int as output"
        " from chat.charges c join chat.runs r on r.user_id = c.user_id and r.id = c.id"
        " where c.user_id = %s order by r.started_at",
        [person.id],
        row=_Charge,
    )


async def test_budget_is_asked_anew(start: StartNode) -> None:
    """Who has too little left is refused as for a question, and can continue when there is more."""
    node = await start(BUDGET_TOKENS_PER_DAY="2500")
    ana = node.person()
    model = node.stage.play(["a" * 3000, asyncio.Event()], ["more"])
    chat = str(uuid4())
    async with ana.client.stream(UI, {**submit(chat, "Tell"), "max_tokens": 1500}) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        await ana.client.post(f"{UI}/{chat}/stop")
    refused = await ana.client.post(f"{CHAT}/{chat}/continue", {"max_tokens": 1500})
    assert (refused.status, refused.json["code"]) == (429, "budget_exhausted")
    assert (await newest(ana.client, chat))["status"] == "stopped"
    answer = await ana.client.post(f"{CHAT}/{chat}/continue", {"max_tokens": 20})
    assert (answer.status, answer.json["message"]) == (200, "a" * 3000 + "more")
    assert len(model.prompts) == 2


async def test_thoughts_and_tools_before_the_cut_stay_as_they_were(start: StartNode) -> None:
    """What was thought is not joined to; a tool that had not answered is not run again."""
    tools, ran = Tools(), []
    hold = asyncio.Event()

    @tools.tool
    async def lookup(_context: ToolContext, order: int) -> str:
        """Say where an order is."""
        ran.append(order)
        await hold.wait()
        return "never"

    node = await start(None, tools)
    ana = node.person()
    call = ToolCall(call_id="c1", name="lookup", arguments='{"order": 7}')
    thought, said_so = ReasoningDelta(text="Hm"), TextDelta(text="Let me see.")
    asking: list[Step] = [thought, said_so, call, Done(finish_reason="tool-calls")]
    model = node.stage.play(asking, ["It is on its way."])
    chat = str(uuid4())
    async with ana.client.stream(UI, submit(chat, "Where?")) as stream:
        await stream.until(lambda event: types([event]) == ["tool-input-available"])
        await until(lambda: ran == [7])
        await ana.client.post(f"{UI}/{chat}/stop")
        await stream.rest()
    before = await newest(ana.client, chat)
    body = {
        "id": chat,
        "message": {"id": before["id"], "role": "assistant", "parts": before["parts"]},
    }
    for _ in range(2):  # and whoever asks again is told the same
        async with ana.client.stream(UI, body, idempotency_key=chat) as stream:
            events = await stream.rest()
        assert "tool-output-error" in types(events)
        assert said(events) == "It is on its way."
    assert ran == [7]
    kept = await newest(ana.client, chat)
    assert [part["type"] for part in kept["parts"]] == ["reasoning", "text", "dynamic-tool", "text"]
    assert kept["parts"][2]["state"] == "output-error"
    assert model.prompts[1].messages[-1].role == "tool"
    assert "cut off" in model.prompts[1].messages[-1].text


async def test_server_that_comes_back_does_not_write_over_the_continued_answer(
    node: Node, ana: Person
) -> None:
    """A run that was given up, and whose answer was continued elsewhere, ends without a trace."""
    gate = asyncio.Event()
    node.stage.play(["Half an ans", gate, " - too late"], ["wer."])
    chat = str(uuid4())
    async with ana.client.stream(UI, submit(chat, "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])

        async def stored() -> bool:
            return bool((await newest(ana.client, chat))["content"])

        await until(stored)
        await node.services.db.execute(
            WORKER,
            "update chat.runs set state = 'interrupted', error_code = 'answer_interrupted'"
            " where user_id = %s and conversation_id = %s",
            [ana.id, chat],
        )
        continued = await ana.client.post(f"{CHAT}/{chat}/continue")
        assert continued.json["message"] == "Half an answer."
        gate.set()
        await stream.rest()
    kept = await newest(ana.client, chat)
    assert (kept["content"], kept["status"]) == ("Half an answer.", "done")


async def test_an_answer_that_had_not_begun_is_begun(node: Node, ana: Person, stage: Stage) -> None:
    """Cut off before its first word, it is asked for as a new one; nothing speaks of a cut."""
    hold = asyncio.Event()
    model = stage.play(
        [hold], [TextDelta(text="Here."), Usage(prompt_tokens=3, completion_tokens=1)]
    )
    chat = str(uuid4())
    async with ana.client.stream(UI, submit(chat, "Tell")) as stream:
        await until(lambda: model.running == 1)
        await ana.client.post(f"{UI}/{chat}/stop")
        await stream.rest()
    answer = await ana.client.post(f"{CHAT}/{chat}/continue")
    assert (answer.json["message"], answer.json["usage"]["prompt_tokens"]) == ("Here.", 3)
    assert [one.role for one in model.prompts[1].messages] == ["user"]


async def test_answer_that_its_length_limit_ended_goes_on(node: Node, ana: Person) -> None:
    """It is told why it ended, live and later; it goes on as one message, and is whole then."""
    length: list[Step] = [TextDelta(text="Half an ans"), Done(finish_reason="length")]
    node.stage.play(length, ["wer, and more."])
    chat = (await ana.client.post(f"{CHAT}/start", {})).json["conversation_id"]
    question = {"conversation_id": chat, "message": "Tell"}
    answer = (await ana.client.post(f"{CHAT}/message", question)).json
    assert (answer["status"], answer["finish_reason"]) == ("done", "length")
    kept = await newest(ana.client, chat)
    assert (kept["id"], kept["status"]) == (answer["message_id"], "done")
    assert kept["finish_reason"] == "length"
    exported = (await ana.client.get(f"{CHAT}/{chat}/export?format=json")).json["messages"]
    assert [one["finish_reason"] for one in exported] == [None, None, "length"]
    more = await ana.client.post(f"{CHAT}/{chat}/continue")
    assert (more.status, more.json["message"]) == (200, "Half an answer, and more.")
    whole = await newest(ana.client, chat)
    assert (whole["id"], whole["finish_reason"]) == (kept["id"], "stop")
    again = await ana.client.post(f"{CHAT}/{chat}/continue")
    assert (again.status, again.json["code"]) == (409, "answer_not_interrupted")
