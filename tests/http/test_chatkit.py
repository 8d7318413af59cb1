"""The support chat: ChatKit's protocol, as its own types read it, over our conversations."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.chatkit import surface
from chatkeep.errors import ModelUnavailable
from chatkeep.events import Done, ReasoningDelta, ToolCall
from chatkeep.personal_data.erasure import erase_words
from chatkeep.tools import ToolContext, Tools
from tests.chatkit_client import ROUTE, Kit, done_items, request, said_by_user, text_of
from tests.serving import said, until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.serving import Event, Node, Person, Stage

DELTA = "assistant_message.content_part.text_delta"


@pytest.fixture
def kit(ana: Person, stage: Stage) -> Kit:
    """Ana's support chat."""
    return Kit(ana.client)


def is_delta(event: Event) -> bool:
    """Whether visible text comes with it."""
    return bool(event.data.get("update", {}).get("type") == DELTA)


def errors(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events that say what went wrong."""
    return [event for event in events if event["type"] == "error"]


# --- one conversation, whoever shows it ---------------------------------------------------------


async def test_chat_is_one_on_every_surface(kit: Kit, ana: Person, stage: Stage) -> None:
    """Begun in ChatKit, gone on with in useChat and over REST, and read everywhere."""
    model = stage.play(["One."], ["Two."], ["Three."], ["Four."])
    thread, _ = await kit.create("First")
    message = {"id": "m2", "role": "user", "parts": [{"type": "text", "text": "Second"}]}
    async with ana.client.stream("/api/chat", {"id": thread, "message": message}) as stream:
        assert said(await stream.rest()) == "Two."
    await ana.client.post("/api/v1/chat/message", {"conversation_id": thread, "message": "Third"})
    await kit.stream("threads.add_user_message", thread_id=thread, input=said_by_user("Fourth"))
    spoken = ["First", "One.", "Second", "Two.", "Third", "Three.", "Fourth", "Four."]
    assert [text_of(item) for item in await kit.items(thread)] == spoken
    page = (await ana.client.get(f"/api/v1/chat/{thread}")).json
    assert [one["content"] for one in page["messages"]] == spoken
    assert [one.text for one in model.prompts[-1].messages if one.role != "system"] == spoken[:-1]


async def test_conversation_of_another_surface_is_a_thread(
    kit: Kit, ana: Person, stage: Stage
) -> None:
    """It is listed, opened, renamed and continued, and its first greeting is there."""
    started = await ana.client.post("/api/v1/chat/start", {})
    thread = started.json["conversation_id"]
    listed = (await kit.call("threads.list")).json["data"]
    assert [one["id"] for one in listed] == [thread]
    renamed = await kit.call("threads.update", thread_id=thread, title="Renamed")
    assert renamed.json["title"] == "Renamed"
    page = (await ana.client.get(f"/api/v1/chat/{thread}")).json
    assert page["title"] == "Renamed"
    stage.play(["Hello."])
    await kit.stream("threads.add_user_message", thread_id=thread, input=said_by_user("Hi"))
    kinds = [item["type"] for item in await kit.items(thread)]
    assert kinds == ["assistant_message", "user_message", "assistant_message"]


async def test_title_is_made_and_told(kit: Kit, stage: Stage) -> None:
    """The thread gets its title from the question, and the client hears of it."""
    stage.play(["Blue."])
    _, events = await kit.create("Why is the sky blue?")
    titles = [event["thread"]["title"] for event in events if event["type"] == "thread.updated"]
    assert titles == ["Why is the sky blue?"]


async def test_reasoning_is_a_workflow_and_kept(kit: Kit, stage: Stage) -> None:
    """What streams as a workflow of thoughts is listed as the same item afterwards."""
    stage.play([ReasoningDelta(text="Let me "), ReasoningDelta(text="see."), "Yes."])
    thread, events = await kit.create()
    streamed = done_items(events)
    assert [item["type"] for item in streamed] == ["user_message", "workflow", "assistant_message"]
    assert streamed[1]["workflow"]["type"] == "reasoning"
    assert streamed[1]["workflow"]["tasks"][0]["content"] == "Let me see."
    listed = await kit.items(thread)
    assert [item["id"] for item in listed] == [item["id"] for item in streamed]
    assert listed[1]["workflow"] == streamed[1]["workflow"]


async def test_ids_have_128_bits_and_times_a_zone(kit: Kit) -> None:
    """No two threads or items meet, and no client takes our hours for its own."""
    thread, events = await kit.create()
    times = [events[0]["thread"]["created_at"]]
    for item in [*done_items(events), *await kit.items(thread)]:
        assert len(item["id"].partition("_")[2].partition(".")[0]) == 32
        times.append(item["created_at"])
    times.append((await kit.call("threads.get_by_id", thread_id=thread)).json["created_at"])
    assert len(thread) == len("thr_") + 32
    assert all(one.endswith("Z") or "+" in one for one in times)


async def test_language_and_model_of_the_turn_reach_the_model(
    start: StartNode, ana: Person
) -> None:
    """Accept-Language is the locale; the model is chosen within what is offered."""
    node = await start(MODELS="a/one,b/two", DEFAULT_MODEL="a/one")
    model = node.stage.play(["Cześć."])
    kit = Kit(node.person().client.but(accept_language="pl-PL,pl;q=0.9"))
    await kit.create(inference_options={"model": "b/two"})
    prompt = model.prompts[0]
    assert prompt.settings.model == "b/two"
    assert "pl-PL" in prompt.messages[0].text
    for options in ({"model": "c/three"}, {"model": "B/two"}, {"tool_choice": {"id": "none"}}):
        wish = said_by_user("Hi", inference_options=options)
        refused = await kit.call("threads.create", input=wish)
        assert refused.status in {400, 422}
        assert "stream" not in refused.headers["content-type"]
    assert len(model.prompts) == 1


# --- paging -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_have_every_item_once(kit: Kit, stage: Stage, order: str) -> None:
    """However small they are, and however large a page is asked for."""
    stage.play([ReasoningDelta(text="Hm."), "Yes."])
    thread, _ = await kit.create()
    for number in range(3):
        more = said_by_user(f"More {number}")
        await kit.stream("threads.add_user_message", thread_id=thread, input=more)
    whole = [item["id"] for item in await kit.items(thread, limit=10**9)]
    assert len(whole) == 12
    for limit in (1, 2, 5):
        seen: list[str] = []
        after = None
        while True:
            answer = await kit.call(
                "items.list", thread_id=thread, limit=limit, order=order, after=after
            )
            seen += [item["id"] for item in answer.json["data"]]
            after = answer.json.get("after")
            if not answer.json["has_more"]:
                break
        assert after is None
        assert seen == (whole if order == "asc" else whole[::-1])


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_page_of_long_messages_ends_early(kit: Kit, order: str) -> None:
    """With the one that fills it, whoever wrote them; each comes once."""
    made = (await kit.client.post("/v1/conversations", {})).json["id"]
    for number in range(5):
        text = f"{number} " + "w " * 400_000 * (number in {1, 2, 3})
        item = {"type": "message", "role": "user", "content": text}
        added = await kit.client.post(f"/v1/conversations/{made}/items", {"items": [item]})
        assert added.status == 200
    found, after, sizes = list[str](), None, list[int]()
    more = True
    while more:
        thread = made.removeprefix("conv_")
        page = await kit.call("items.list", thread_id=thread, limit=100, order=order, after=after)
        sizes.append(len(page.json["data"]))
        found += [text_of(one)[:1] for one in page.json["data"]]
        after, more = page.json.get("after"), page.json["has_more"]
    assert found == sorted("01234", reverse=order == "desc")
    assert sizes == [3, 1, 1]


async def test_threads_are_listed_newest_first_in_pages(kit: Kit) -> None:
    """Each once, by when they were made."""
    made = [(await kit.create(f"Thread {number}"))[0] for number in range(3)]
    seen, after = [], None
    for _ in made:
        page = (await kit.call("threads.list", limit=1, after=after)).json
        seen += [one["id"] for one in page["data"]]
        after = page.get("after")
    assert (seen, after) == (made[::-1], None)


# --- answering again ----------------------------------------------------------------------------


async def test_answer_given_again_is_a_branch(kit: Kit, ana: Person, stage: Stage) -> None:
    """The earlier answer, and what followed it, are still there for other surfaces."""
    stage.play(["Old."], ["Older still."], ["New."])
    thread, events = await kit.create("Question")
    question, old = done_items(events)
    await kit.stream("threads.add_user_message", thread_id=thread, input=said_by_user("More"))
    await kit.stream("threads.retry_after_item", thread_id=thread, item_id=question["id"])
    assert [text_of(item) for item in await kit.items(thread)] == ["Question", "New."]
    page = (await ana.client.get(f"/api/v1/chat/{thread}")).json["messages"]
    assert len(page[-1]["siblings"]) == 2
    assert old["id"].partition(".")[0] in page[-1]["siblings"]
    export = (await ana.client.get(f"/api/v1/chat/{thread}/export")).text
    assert "Old." in export
    assert "Older still." in export


async def test_failed_retry_leaves_the_answer_that_was_there(kit: Kit, stage: Stage) -> None:
    """A model that is down does not cost the person what they had."""
    stage.play(["Old."], [ModelUnavailable()])
    thread, events = await kit.create("Question")
    item_id = done_items(events)[0]["id"]
    failed = await kit.stream("threads.retry_after_item", thread_id=thread, item_id=item_id)
    assert errors(failed) == [
        {
            "type": "error",
            "code": "custom",
            "message": ModelUnavailable.default_detail,
            "allow_retry": True,
        }
    ]
    assert [text_of(item) for item in await kit.items(thread)] == ["Question", "Old."]


async def test_only_a_question_of_the_thread_is_answered_again(kit: Kit) -> None:
    """An answer, an unknown item and one of another thread are refused before any stream."""
    thread, events = await kit.create()
    other, _ = await kit.create()
    question, answer = done_items(events)
    for where, item_id, status in (
        (thread, answer["id"], 400),
        (thread, "msg_unknown", 404),
        (other, question["id"], 404),
    ):
        refused = await kit.call("threads.retry_after_item", thread_id=where, item_id=item_id)
        assert refused.status == status
        assert refused.json["status"] == status
    assert len(await kit.items(thread)) == 2


# --- hanging up ---------------------------------------------------------------------------------


async def test_hanging_up_stops_and_keeps_what_was_said(
    kit: Kit, ana: Person, node: Node, stage: Stage
) -> None:
    """The model is let go at once, its words stay, and the next question is answered."""
    model = stage.play(["Half", asyncio.Event(), " whole."], ["Next."])
    async with kit.open("threads.create", input=said_by_user("Tell me")) as stream:
        thread = (await stream.until(is_delta))[0].data["thread"]["id"]
    await until(lambda: model.abandoned == 1, within_s=2)
    events = await kit.stream(
        "threads.add_user_message", thread_id=thread, input=said_by_user("And?")
    )
    assert not errors(events)
    spoken = [text_of(item) for item in await kit.items(thread)]
    assert spoken == ["Tell me", "Half", "And?", "Next."]
    page = (await ana.client.get(f"/api/v1/chat/{thread}")).json["messages"]
    assert page[1]["status"] == "stopped"
    assert node.services.chatkit._surface is not None
    await until(lambda: not node.services.chatkit._surface._work)  # type: ignore[union-attr]  # it was just asked


async def test_hanging_up_before_the_first_word_leaves_one_question(kit: Kit, stage: Stage) -> None:
    """No half-made turn is in the way of the next."""
    stage.play(
        answer=lambda prompt: ["Next."] if prompt.messages[-1].text == "And?" else [asyncio.Event()]
    )
    async with kit.open("threads.create", input=said_by_user("Tell me")) as stream:
        events = await stream.until(lambda event: event.data["type"] == "thread.item.done")
        thread = events[0].data["thread"]["id"]
    await kit.stream("threads.add_user_message", thread_id=thread, input=said_by_user("And?"))
    spoken = [text_of(item) for item in await kit.items(thread)]
    assert spoken == ["Tell me", "And?", "Next."]


async def test_hanging_up_stops_an_answer_that_nobody_takes(
    kit: Kit, ana: Person, node: Node, stage: Stage
) -> None:
    """Also where more of it waits for the reader than is kept waiting."""
    gates = [asyncio.Event() for _ in range(surface._FRAMES_AT_MOST + 1)]
    model = stage.play([step for gate in gates for step in ("word ", gate)])
    asked, gone = asyncio.Event(), asyncio.Event()
    body = json.dumps(request("threads.create", input=said_by_user("Tell me"))).encode()

    async def receive() -> dict[str, Any]:
        if asked.is_set():
            await gone.wait()
            return {"type": "http.disconnect"}
        asked.set()
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:  # noqa: ANN401 -- ASGI's
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    sent = {**ana.client.headers, "host": "127.0.0.1", "content-type": "application/json"}
    headers = [(name.encode(), value.encode()) for name, value in sent.items()]
    scope = {"type": "http", "method": "POST", "path": ROUTE, "headers": headers}
    here = {"scheme": "http", "http_version": "1.1", "query_string": b"", "client": None}
    works = (await node.services.chatkit.surface())._work
    reading = asyncio.create_task(node.app({**scope, **here}, receive, send))
    await until(lambda: model.running == 1)
    (work,) = works.values()
    for gate in gates[:-1]:
        before = work.frames.qsize()
        gate.set()
        await until(lambda: work.frames.full() or work.frames.qsize() > before)  # noqa: B023 -- called here
    assert work.frames.full()
    gone.set()
    await until(lambda: model.abandoned == 1, within_s=2)
    await reading
    (thread,) = (await kit.call("threads.list")).json["data"]
    assert text_of((await kit.items(thread["id"]))[-1]).startswith("word word ")


async def test_answer_goes_on_where_that_is_wanted(start: StartNode) -> None:
    """With CHATKIT_ON_DISCONNECT=continue the reader finds it whole when they are back."""
    node = await start(CHATKIT_ON_DISCONNECT="continue")
    gate = asyncio.Event()
    node.stage.play(["Half", gate, " whole."])
    kit = Kit(node.person().client)
    async with kit.open("threads.create", input=said_by_user("Tell me")) as stream:
        thread = (await stream.until(is_delta))[0].data["thread"]["id"]
    gate.set()

    async def is_whole() -> bool:
        return text_of((await kit.items(thread))[-1]) == "Half whole."

    await until(is_whole)


async def test_thread_is_answered_once_at_a_time(
    kit: Kit, ana: Person, start: StartNode, stage: Stage
) -> None:
    """Here, on another node and on another surface, a second question is told to wait."""
    thread, _ = await kit.create()
    gate = asyncio.Event()
    model = stage.play(["Half", gate], ["Never."])
    other = Kit(ana.client.but(url=(await start()).url))
    more = {"thread_id": thread, "input": said_by_user("More")}
    async with kit.open("threads.add_user_message", **more) as stream:
        await stream.until(is_delta)
        for one in (kit, other):
            refused = await one.call("threads.add_user_message", **more)
            assert (refused.status, refused.json["code"]) == (409, "run_in_progress")
        gate.set()
        await stream.rest()
    assert len(model.prompts) == 1
    assert [text_of(item) for item in await kit.items(thread)] == ["Hi", "Hello.", "More", "Half"]


async def test_two_questions_at_once_are_one_answer(kit: Kit, stage: Stage) -> None:
    """They do not interleave: one is kept and answered, the others leave nothing behind."""
    thread, _ = await kit.create()
    gate = asyncio.Event()
    model = stage.play(["Yes.", gate])

    async def ask(number: int) -> int:
        more = said_by_user(f"Question {number}")
        body = {"thread_id": thread, "input": more}
        async with kit.open("threads.add_user_message", **body) as stream:
            if stream.status == 200:
                await stream.until(is_delta)
                await until(lambda: len(refused) == 4)
                gate.set()
                await stream.rest()
            else:
                refused.append(number)
            return stream.status

    refused: list[int] = []
    statuses = await asyncio.gather(*(ask(number) for number in range(5)))
    assert sorted(statuses) == [200, 409, 409, 409, 409]
    assert len(model.prompts) == 1
    assert len(await kit.items(thread)) == 4


# --- tools --------------------------------------------------------------------------------------

tools = Tools()
cancelled: list[str] = []


@tools.tool
async def whoami(context: ToolContext) -> str:
    """Say who asks."""
    return context.who.user_id


@tools.tool(needs_approval=True)
async def cancel(context: ToolContext, order: int) -> str:
    """Cancel an order."""
    cancelled.append(f"{context.who.user_id}:{order}")
    return "cancelled"


tools.client_tool("locate", "Where the person is.", {"type": "object"})


def call(name: str, **arguments: object) -> list[Any]:
    """Return a script that asks for a tool."""
    asked = ToolCall(call_id="c1", name=name, arguments=json.dumps(arguments))
    return [asked, Done(finish_reason="tool-calls")]


async def test_tools_run_as_the_caller_and_are_shown(start: StartNode) -> None:
    """A tool of the server is a task of a workflow; the words around it are messages."""
    node = await start(None, tools)
    node.stage.play(call("whoami"), ["You."])
    person = node.person()
    thread, events = await Kit(person.client).create()
    assert [event["text"] for event in events if event["type"] == "progress_update"] == ["whoami"]
    shown = await Kit(person.client).items(thread)
    assert [item["type"] for item in shown] == ["user_message", "workflow", "assistant_message"]
    assert shown[1]["workflow"]["tasks"][0]["content"] == person.id
    assert [item["id"] for item in done_items(events)] == [item["id"] for item in shown]


async def test_tool_of_the_client_is_run_by_it(start: StartNode) -> None:
    """It waits as a client tool call, and its output goes on with the same answer."""
    node = await start(None, tools)
    model = node.stage.play(call("locate"), ["There."])
    kit = Kit(node.person().client)
    thread, events = await kit.create()
    pending = done_items(events)[-1]
    assert (pending["type"], pending["status"]) == ("client_tool_call", "pending")
    more = await kit.stream("threads.add_client_tool_output", thread_id=thread, result={"at": 1})
    assert text_of(done_items(more)[-1]) == "There."
    answers = [one.text for one in model.prompts[-1].messages if one.role == "tool"]
    assert answers == ['{"at":1}']
    kinds = [item["type"] for item in await kit.items(thread)]
    assert kinds == ["user_message", "client_tool_call", "assistant_message"]
    again = await kit.call("threads.add_client_tool_output", thread_id=thread, result={})
    assert again.status == 409


ODD_RESULTS = {
    "no number": "NaN",
    "infinity": "[-Infinity]",
    "more than all": '{"a": 1e999}',
    "the character NUL": r'"\u0000"',
    "a NUL in a name": r'{"\u0000": 1}',
    "half a pair": r'"\ud800"',
    "digits": "9" * 4000,
    "depth": '{"a":' * 150 + "1" + "}" * 150,
}


@pytest.mark.parametrize("name", ODD_RESULTS)
async def test_odd_output_of_a_clients_tool_breaks_no_thread(start: StartNode, name: str) -> None:
    """Refused, or said to the model as well as it can be; the thread can be read and answered."""
    node = await start(None, tools)
    node.stage.play(call("locate"), ["There."])
    kit = Kit(node.person().client)
    thread, _ = await kit.create()
    body = request("threads.add_client_tool_output", thread_id=thread, result="HERE")
    raw = json.dumps(body).replace('"HERE"', ODD_RESULTS[name]).encode()
    headers = {"host": "127.0.0.1", "content-type": "application/json"}
    answer = await kit.client.call("POST", ROUTE, data=raw, headers=headers)
    assert answer.status in {200, 400, 422}, answer.text
    kinds = [item["type"] for item in await kit.items(thread)]
    assert "client_tool_call" in kinds
    if answer.status != 200:
        more = await kit.stream("threads.add_client_tool_output", thread_id=thread, result=1)
        assert text_of(done_items(more)[-1]) == "There."
    else:
        assert '"error"' not in answer.text
        assert kinds[-1] == "assistant_message"


async def test_what_waits_for_a_yes_reads_as_what_is_run(start: StartNode) -> None:
    """Characters that hide, or turn others round, are shown by their numbers; nothing is cut."""
    node = await start(None, tools)
    node.stage.play(call("cancel", order="\u202e7\u2066\U000e0061", why="王 " * 2000 + "pay Eve"))
    _, events = await Kit(node.person().client).create()
    question = done_items(events)[-1]["inputs"][0]["question"]
    assert r'"order":"\u{202e}7\u{2066}\u{e0061}"' in question
    assert question.endswith('王 王 pay Eve"}')


@pytest.mark.parametrize(("choice", "runs"), [("Allow", 1), ("Do not allow", 0), ("allow", 0)])
async def test_tool_that_needs_a_yes_asks_for_it(start: StartNode, choice: str, runs: int) -> None:
    """Exactly the offered yes lets it run; the answer goes on with either."""
    node = await start(None, tools)
    node.stage.play(call("cancel", order=7), ["So be it."])
    person = node.person()
    kit = Kit(person.client)
    thread, events = await kit.create()
    asked = done_items(events)[-1]
    assert (asked["type"], asked["status"]) == ("structured_input", "pending")
    answer = {asked["inputs"][0]["id"]: {"values": [choice]}}
    more = await kit.stream(
        "threads.add_structured_input",
        thread_id=thread,
        item_id=asked["id"],
        input={"answers": answer},
    )
    assert not errors(more)
    assert cancelled.count(f"{person.id}:7") == runs
    assert text_of((await kit.items(thread))[-1]) == "So be it."
    again = await kit.call(
        "threads.add_structured_input",
        thread_id=thread,
        item_id=asked["id"],
        input={"answers": answer},
    )
    assert again.status == 409


# --- what is refused ----------------------------------------------------------------------------


async def every_request(kit: Kit) -> list[dict[str, Any]]:
    """Return a request of each type, about a new thread of *kit*'s person."""
    thread, events = await kit.create("Secret")
    question = done_items(events)[0]["id"]
    made = await kit.call("attachments.create", name="a.txt", size=1, mime_type="text/plain")
    mine = {"thread_id": thread}
    item = {**mine, "item_id": question}
    action = {"action": {"type": "x", "payload": {}}}
    return [
        request("threads.get_by_id", **mine),
        request("items.list", **mine),
        request("threads.add_user_message", **mine, input=said_by_user("Stranger")),
        request("threads.add_client_tool_output", **mine, result=1),
        request("threads.add_structured_input", **item, input={}),
        request("threads.retry_after_item", **item),
        request("threads.custom_action", **mine, **action),
        request("threads.sync_custom_action", **item, **action),
        request("items.feedback", **mine, item_ids=[question], kind="negative"),
        request("threads.update", **mine, title="Stolen"),
        request("attachments.delete", attachment_id=made.json["id"]),
        request("threads.create", input=said_by_user("With a file of yours", made.json["id"])),
        request("threads.delete", **mine),
    ]


async def test_stranger_reaches_nothing_by_any_request(kit: Kit, bo: Person) -> None:
    """Each is a 404 as JSON, and the thread is as it was."""
    requests = await every_request(kit)
    thread = requests[0]["params"]["thread_id"]
    before = await kit.items(thread)
    for one in requests:
        answer = await bo.client.post(ROUTE, one)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), one["type"]
        assert "Secret" not in answer.text
    assert await kit.items(thread) == before
    assert (await kit.call("threads.get_by_id", thread_id=thread)).json["title"] != "Stolen"
    mine = (await Kit(bo.client).call("threads.list")).json["data"]
    assert mine == []


async def test_owner_is_served_by_every_request_that_fits(kit: Kit) -> None:
    """What does not fit the thread is a 4xx too, and nothing is a 5xx."""
    expected = {
        "threads.add_client_tool_output": 409,
        "threads.add_structured_input": 400,
        "threads.custom_action": 400,
        "threads.sync_custom_action": 400,
        "threads.create": 404,  # with a file that was deleted just before
    }
    for one in await every_request(kit):
        answer = await kit.client.post(ROUTE, one)
        assert answer.status == expected.get(one["type"], 200), (one["type"], answer.text)
    speech = await kit.call("input.transcribe", audio_base64="AAAA", mime_type="audio/webm")
    assert speech.status == 400


@pytest.mark.parametrize("bearer", [None, "garbage", "a.b.c"])
async def test_nobody_is_told_before_anything_is_looked_at(
    node: Node, kit: Kit, bearer: str | None
) -> None:
    """Exactly the body that was promised, with every request and without a sound one."""
    headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
    nobody = node.nobody(origin="https://shop.example", **headers)
    for one in [*await every_request(kit), {"type": "nonsense"}]:
        answer = await nobody.post(ROUTE, one)
        assert answer.json["error"] == "Invalid or expired JWT token"
        assert (answer.status, answer.json["status"]) == (401, 401)
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_signed_out_is_out(node: Node, kit: Kit) -> None:
    """A token whose session has ended reaches nothing by any request."""
    address = f"{uuid4()}@example.com"
    body = {"email": address, "password": "Correct-Horse-42-battery"}
    signed_up = await node.nobody().post("/auth/v1/signup", body)
    client = node.nobody(authorization=f"Bearer {signed_up.json['access_token']}")
    requests = await every_request(Kit(client))
    assert (await client.post("/auth/v1/logout")).status == 204
    for one in requests:
        assert (await client.post(ROUTE, one)).status == 401


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":',
        b"[]",
        b"null",
        b'{"type": "threads.explode", "params": {}}',
        b'{"type": "threads.create"}',
        b'{"type": "threads.list", "params": {"order": "sideways"}}',
        b'{"type": "threads.get_by_id", "params": {"thread_id": "a\\u0000b"}}',
        (
            b'{"type": "threads.create", "params": {"input": {"content": [{"type": "input_text",'
            b' "text": "\\u0000"}], "attachments": [], "inference_options": {}}}}'
        ),
        (
            b'{"type": "threads.create", "params": {"input": {"content": [],'
            b' "attachments": [], "inference_options": {}}}}'
        ),
    ],
)
async def test_no_request_is_a_400(kit: Kit, body: bytes) -> None:
    """With the fields that are wrong, and nothing of what they said."""
    headers = {"host": "127.0.0.1", "content-type": "application/json"}
    answer = await kit.client.call("POST", ROUTE, data=body, headers=headers)
    assert answer.status == 400
    assert "sideways" not in answer.text


async def test_limits_are_within_bounds(kit: Kit) -> None:
    """Nothing and less is one, and everything is a hundred."""
    thread, _ = await kit.create()
    for limit in (-5, 0, 10**12):
        assert (await kit.call("threads.list", limit=limit)).status == 200
        listed = await kit.call("items.list", thread_id=thread, limit=limit)
        assert len(listed.json["data"]) in {1, 2}


async def test_feedback_is_kept_for_items_of_the_thread_alone(kit: Kit) -> None:
    """An item of another thread, or of nobody, is refused."""
    thread, events = await kit.create()
    other, _ = await kit.create()
    item_id = done_items(events)[1]["id"]
    kept = await kit.call("items.feedback", thread_id=thread, item_ids=[item_id], kind="positive")
    assert (kept.status, kept.json) == (200, {})
    for where, item in ((other, item_id), (thread, "msg_none")):
        refused = await kit.call(
            "items.feedback", thread_id=where, item_ids=[item], kind="positive"
        )
        assert refused.status == 404


async def test_deleted_thread_is_gone_and_can_be_restored(kit: Kit, ana: Person) -> None:
    """Like every conversation, for a day and by its owner."""
    thread, _ = await kit.create()
    assert (await kit.call("threads.delete", thread_id=thread)).json == {}
    for kind in ("threads.get_by_id", "items.list", "threads.delete"):
        assert (await kit.call(kind, thread_id=thread)).status == 404
    assert (await ana.client.post(f"/api/v1/chat/{thread}/restore")).status == 200
    assert len(await kit.items(thread)) == 2


async def test_words_of_the_model_forge_no_event(kit: Kit, stage: Stage) -> None:
    """A line break within them is a line break."""
    forged = '\n\nevent: x\ndata: {"type":"error","message":"forged"}\n\n'
    stage.play([forged])
    _, events = await kit.create()
    assert not errors(events)
    assert text_of(done_items(events)[-1]) == forged


async def test_health_is_public(node: Node) -> None:
    """A probe needs no token."""
    answer = await node.nobody().get("/support/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


# --- files --------------------------------------------------------------------------------------


async def announced(kit: Kit, name: str, content: bytes, media_type: str) -> dict[str, Any]:
    """Announce a file."""
    answer = await kit.call(
        "attachments.create", name=name, size=len(content), mime_type=media_type
    )
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


def path_of(attachment: dict[str, Any], what: str) -> str:
    """Return where its bytes are sent, or read."""
    return f"/support/attachments/{attachment['id']}/{what}"


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("form", [False, True])
async def test_image_is_uploaded_sent_and_seen_by_the_model(
    kit: Kit, stage: Stage, method: str, form: bool
) -> None:
    """In two phases, with bytes that are no text; what the SDK keeps for itself stays here."""
    content = b"\x89PNG\r\n\x1a\n\x00\xff--not-the-boundary\r\n"
    made = await announced(kit, "../../Rechnung <1>.png", content, "image/png")
    assert made["name"] == "Rechnung _1_.png"
    assert made["upload_descriptor"]["url"].endswith(path_of(made, "upload"))
    assert "metadata" not in made
    body, said_type = content, "image/png"
    if form:
        body = (
            b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
            b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--xyz--\r\n"
        )
        said_type = "multipart/form-data; boundary=xyz"
    uploaded = await kit.client.call(
        method, path_of(made, "upload"), data=body, headers={"content-type": said_type}
    )
    assert uploaded.status == 204, uploaded.text
    read = await kit.client.get(path_of(made, "content"))
    assert (read.body, read.headers["content-type"]) == (content, "image/png")
    model = stage.play(["Nice."])
    thread, events = await kit.create("Look", attachments=[made["id"]])
    kept = done_items(events)[0]["attachments"][0]
    assert (kept["id"], kept["thread_id"]) == (made["id"], thread)
    assert "upload_descriptor" not in kept
    (image,) = model.prompts[0].messages[-1].images
    assert image.startswith("data:image/png;base64,iVBOR")
    assert (await kit.items(thread))[0]["attachments"][0]["name"] == "Rechnung _1_.png"


async def test_file_is_its_owners_alone(kit: Kit, bo: Person, node: Node) -> None:
    """Nobody else uploads, reads, sends or deletes it."""
    made = await announced(kit, "a.txt", b"abc", "text/plain")
    raw = {"content-type": "text/plain"}
    for client, status in ((bo.client, 404), (node.nobody(), 401)):
        up = await client.call("POST", path_of(made, "upload"), data=b"abc", headers=raw)
        assert up.status == status
        assert (await client.get(path_of(made, "content"))).status == status
    await kit.client.call("POST", path_of(made, "upload"), data=b"abc", headers=raw)
    assert (await bo.client.get(path_of(made, "content"))).status == 404
    deleted = await Kit(bo.client).call("attachments.delete", attachment_id=made["id"])
    assert deleted.status == 404
    assert (await kit.client.get(path_of(made, "content"))).body == b"abc"
    assert (await kit.call("attachments.delete", attachment_id=made["id"])).json == {}
    assert (await kit.client.get(path_of(made, "content"))).status == 404


async def test_file_is_as_it_was_announced(kit: Kit) -> None:
    """Not longer, shorter or another one later; and only of sizes and types that are taken."""
    made = await announced(kit, "a.txt", b"abc", "text/plain")
    raw = {"content-type": "application/octet-stream"}
    statuses = [
        (await kit.client.call("PUT", path_of(made, "upload"), data=body, headers=raw)).status
        for body in (b"abcd", b"ab", b"abc", b"abd")
    ]
    assert statuses == [413, 400, 204, 400]
    for size, media_type, status in (
        (0, "text/plain", 400),
        (-1, "text/plain", 400),
        (10**9, "text/plain", 413),
        (1, "text/html", 400),
        (1, "image/svg+xml", 400),
        (1, "text/plain\r\nx: y", 400),
    ):
        refused = await kit.call("attachments.create", name="a", size=size, mime_type=media_type)
        assert refused.status == status
    large = b"x" * (6 << 20)
    refused = await kit.client.call("PUT", path_of(made, "upload"), data=large, headers=raw)
    assert refused.status == 413


async def test_file_runs_nothing_in_a_browser(start: StartNode) -> None:
    """Whatever may be uploaded: a page is downloaded, under a name that is one."""
    node = await start(CHATKIT_ATTACHMENT_TYPES="text/html,image/*")
    kit = Kit(node.person().client)
    page = b"<script>alert(1)</script>"
    made = await announced(kit, 'a".html\u202e;x=\r\n', page, "text/html")
    raw = {"content-type": "text/html"}
    await kit.client.call("POST", path_of(made, "upload"), data=page, headers=raw)
    read = await kit.client.get(path_of(made, "content"))
    assert read.headers["content-type"] == "application/octet-stream"
    assert read.headers["content-disposition"].startswith("attachment; filename*=UTF-8''a_.html")
    assert read.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in read.headers["content-security-policy"]


async def test_erased_person_leaves_no_file(kit: Kit, ana: Person, node: Node) -> None:
    """Neither what was sent nor what was only uploaded."""
    raw = {"content-type": "text/plain"}
    made = [await announced(kit, "a.txt", b"abc", "text/plain") for _ in range(2)]
    for one in made:
        await kit.client.call("POST", path_of(one, "upload"), data=b"abc", headers=raw)
    await kit.create("Look", attachments=[made[0]["id"]])
    assert await erase_words(node.services.db, ana.id) == 1
    for one in made:
        assert (await kit.client.get(path_of(one, "content"))).status == 404
