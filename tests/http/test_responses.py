"""`/v1/responses`, asked by OpenAI's own client: kept as conversations, like any other."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from chatkeep import files
from chatkeep.errors import ModelUnavailable
from chatkeep.events import Done, ReasoningDelta, TextDelta, ToolCall, Usage
from chatkeep.limits import RATES, Rate
from tests.http.test_ai_sdk import asked
from tests.http.test_openai_api import MODEL, client_of, key_of
from tests.patience import PATIENCE_S
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.testing import Step
    from tests.http.conftest import StartNode
    from tests.serving import Node, Person, Stage

ROUTE = "/v1/responses"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Say what the weather is.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
CALLS: list[Step] = [
    ToolCall(call_id="c1", name="weather", arguments='{"city":"Rome"}'),
    Done(finish_reason="tool-calls"),
]


@pytest.fixture
async def client(node: Node, ana: Person) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client of somebody new."""
    async with client_of(node, key_of(ana)) as opened:
        yield opened


def checked(response: Response) -> Response:
    """Return *response* after a strict look at its shape: the client itself looks at nothing."""
    Response.model_validate(response.model_dump(mode="json"))
    assert all(event_or_item is not None for event_or_item in response.output)
    return response


async def ended(client: openai.AsyncOpenAI, response_id: str) -> Response:
    """Poll a response until it has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await client.responses.retrieve(response_id)
            if found.status != "in_progress":
                return found
            await asyncio.sleep(0.02)


async def messages_of(person: Person, response: Response) -> list[dict[str, Any]]:
    """Return what REST shows of the conversation of *response*."""
    assert response.conversation is not None
    conversation = response.conversation.id.removeprefix("conv_")
    listed = (await person.client.get(f"/api/v1/chat/{conversation}")).json["messages"]
    return [{key: one[key] for key in ("role", "content", "parts")} for one in listed]


async def test_a_response_is_whole_and_kept(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person
) -> None:
    """Text, usage, ids; retrieved again it is the same; REST shows the conversation."""
    stage.play(
        [ReasoningDelta(text="Hm."), "Hel", "lo!", Usage(prompt_tokens=3, completion_tokens=2)]
    )
    made = checked(
        await client.responses.create(
            model=MODEL, input="Say hello.", metadata={"for": "a test"}, temperature=0.5
        )
    )
    assert made.output_text == "Hello!"
    assert made.status == "completed"
    assert [one.type for one in made.output] == ["reasoning", "message"]
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (3, 2)
    assert made.metadata == {"for": "a test"}
    assert made.temperature == 0.5
    assert made._request_id
    again = checked(await client.responses.retrieve(made.id))
    assert again.to_dict() | {"completed_at": 0} == made.to_dict() | {"completed_at": 0}
    said = await messages_of(ana, made)
    assert [(one["role"], one["content"]) for one in said] == [
        ("user", "Say hello."),
        ("assistant", "Hello!"),
    ]


async def test_items_may_be_named_by_their_ids(
    client: openai.AsyncOpenAI, node: Node, bo: Person, stage: Stage
) -> None:
    """As clients do that know what is kept; what the conversation has already is not said twice."""
    model = stage.play(answer=lambda _: ["Hello."])
    first = await client.responses.create(model=MODEL, input="I am Ana.")
    brought = await client.responses.input_items.list(first.id)
    named: Any = [
        {"type": "item_reference", "id": brought.data[0].id},
        {"id": first.output[0].id},  # the type may be left out
        {"role": "user", "content": "Who am I?"},
    ]
    for store in (True, False):
        checked(await client.responses.create(model=MODEL, input=named, store=store))
        said = [(one.role, one.text) for one in model.prompts[-1].messages]
        assert said == [("user", "I am Ana."), ("assistant", "Hello."), ("user", "Who am I?")]
    await client.responses.create(model=MODEL, input=named, previous_response_id=first.id)
    assert [one.text for one in model.prompts[-1].messages] == ["I am Ana.", "Hello.", "Who am I?"]
    async with client_of(node, key_of(bo)) as stranger:
        for ids in (named, [{"type": "item_reference", "id": "msg_nobody_0"}, named[-1]]):
            with pytest.raises(openai.NotFoundError):
                await stranger.responses.create(model=MODEL, input=ids)
    with pytest.raises(openai.BadRequestError):
        await client.conversations.create(items=named)
    many: Any = [{"type": "item_reference", "id": f"msg_m{number}_0"} for number in range(101)]
    with pytest.raises(openai.BadRequestError, match="more than 100"):
        await client.responses.create(model=MODEL, input=many)


async def test_what_is_named_is_no_longer_than_what_could_be_sent(
    client: openai.AsyncOpenAI, node: Node, stage: Stage
) -> None:
    """However short its id is: sent a thousand times, or of many long messages; nothing is kept."""
    model = stage.play(answer=lambda _: ["Hello."])
    most = node.services.settings.max_body_bytes
    said: Any = {"role": "user", "content": "w " * (most // 5)}
    made = await client.conversations.create(items=[said, said])
    one, other = [item.id async for item in client.conversations.items.list(made.id)]
    question = {"role": "user", "content": "Hi"}
    named: Any = [*[{"type": "item_reference", "id": one}] * 3, question]
    third = await client.conversations.items.create(made.id, items=[said])
    many: Any = [{"id": found} for found in (one, other, third.data[0].id)] + [question]
    for sent in (named, many):
        for store in (True, False):
            with pytest.raises(openai.BadRequestError, match=f"more than {most} bytes"):
                await client.responses.create(model=MODEL, input=sent, store=store)
    assert not model.prompts
    # What the conversation has already is not named again, however long it is.
    for sent in (named[-2:], many):
        await client.responses.create(model=MODEL, input=sent, conversation=made.id)


PDF = b"%PDF-1.7 not much of one"


def file_part(content: bytes = PDF, kind: str = "application/pdf", **more: str) -> dict[str, str]:
    """Return a file as OpenAI's clients send one."""
    data = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return {"type": "input_file", "filename": "a.pdf", "file_data": data, **more}


async def files_of(node: Node, person: Person) -> list[str]:
    """Return the names of a person's files."""
    found = await files.list_files(node.services.db, person.id, limit=100)
    return sorted(one.name for one in found)


@pytest.mark.parametrize("store", [True, False])
async def test_file_in_a_message_reaches_the_model(
    client: openai.AsyncOpenAI, node: Node, ana: Person, stage: Stage, store: bool
) -> None:
    """As a file, words as words; what is kept is its owner's file, and is there afterwards."""
    model = stage.play(answer=lambda _: ["Read."])
    said: Any = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Read both."},
                file_part(),
                file_part(b"a,b", "text/csv", filename="t.csv"),
            ],
        }
    ]
    first = checked(await client.responses.create(model=MODEL, input=said, store=store))
    asked = model.prompts[0].messages[-1]
    assert [(one.name, one.url) for one in asked.files] == [
        ("a.pdf", said[0]["content"][1]["file_data"])
    ]
    assert "a,b" in asked.text
    assert await files_of(node, ana) == (["a.pdf", "t.csv"] if store else [])
    if store:
        await client.responses.create(model=MODEL, input="More.", previous_response_id=first.id)
        assert model.prompts[1].messages[0].files == asked.files
        items = (await client.responses.input_items.list(first.id)).data
        assert [one.to_dict()["type"] for one in items] == ["message"]


async def test_file_that_was_uploaded_is_named(
    client: openai.AsyncOpenAI, ana: Person, bo: Person, stage: Stage
) -> None:
    """By its id, by its owner alone."""
    model = stage.play(answer=lambda _: ["Seen."])
    headers = {"content-type": "application/pdf"}
    made = await ana.client.call("POST", "/api/files?name=b.pdf", data=PDF, headers=headers)
    theirs = await bo.client.call("POST", "/api/files?name=b.pdf", data=PDF, headers=headers)
    part: Any = {"type": "input_file", "file_id": made.json["id"]}
    for store in (True, False):
        said: Any = [{"role": "user", "content": [part]}]
        await client.responses.create(model=MODEL, input=said, store=store)
        assert [one.name for one in model.prompts[-1].messages[-1].files] == ["b.pdf"]
    for file_id in (theirs.json["id"], "nothing"):
        said = [{"role": "user", "content": [{**part, "file_id": file_id}]}]
        with pytest.raises(openai.BadRequestError, match="not uploaded"):
            await client.responses.create(model=MODEL, input=said)


async def test_file_among_the_items_of_a_conversation_is_kept_with_it(
    client: openai.AsyncOpenAI, node: Node, ana: Person, stage: Stage
) -> None:
    """When it is made, and when more is added; the next answer has both."""
    model = stage.play(answer=lambda _: ["Read."])
    one: Any = {"type": "message", "role": "user", "content": [file_part()]}
    two: Any = {**one, "content": [file_part(b"%PDF-2", filename="b.pdf")]}
    made = await client.conversations.create(items=[one])
    added = await client.conversations.items.create(made.id, items=[two])
    assert added.data[0].to_dict()["content"][0]["filename"] == "b.pdf"  # type: ignore[index]  # JSON
    await client.responses.create(model=MODEL, input="Both?", conversation=made.id)
    told = [file.name for message in model.prompts[0].messages for file in message.files]
    assert told == ["a.pdf", "b.pdf"]
    assert await files_of(node, ana) == told


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_file"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_file", "file_data": "https://example.com/a.pdf"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,%%%"},
        {"type": "input_file", "file_data": "data:application/x-evil;base64,AAAA"},
        {"type": "input_file", "file_id": "../a"},
    ],
)
@pytest.mark.parametrize("store", [True, False])
async def test_what_is_no_file_is_refused(
    node: Node, ana: Person, stage: Stage, part: dict[str, str], store: bool
) -> None:
    """Nothing is fetched, nothing asked, nothing kept."""
    model = stage.play(["Never."])
    body = {"model": MODEL, "store": store, "input": [{"role": "user", "content": [part]}]}
    answer = await ana.client.post(ROUTE, body)
    assert answer.status == 400, answer.text
    assert model.prompts == []
    assert await files_of(node, ana) == []


async def test_usage_says_what_was_cached_and_what_was_thought(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """As the provider told it, in a response, in the same retrieved, and in a chat completion."""
    used = Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=4, reasoning_tokens=5)
    stage.play(answer=lambda _: ["Hi.", used, Done(finish_reason="stop")])
    made = checked(await client.responses.create(model=MODEL, input="Hello"))
    unkept = checked(await client.responses.create(model=MODEL, input="Hello", store=False))
    for one in (made, unkept, await client.responses.retrieve(made.id)):
        assert one.usage is not None
        assert one.usage.input_tokens_details.cached_tokens == 4
        assert one.usage.output_tokens_details.reasoning_tokens == 5
    for store in (True, False):
        chat = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], store=store
        )
        assert chat.usage is not None
        assert chat.usage.prompt_tokens_details is not None
        assert chat.usage.prompt_tokens_details.cached_tokens == 4
        assert chat.usage.completion_tokens_details is not None
        assert chat.usage.completion_tokens_details.reasoning_tokens == 5


async def test_events_are_those_that_the_client_puts_together(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """In order, with rising numbers, each of its shape; together they are what is kept."""
    stage.play(
        [
            ReasoningDelta(text="Hm."),
            "Let ",
            "me see.",
            ToolCall(call_id="c1", name="weather", arguments='{"city":"Rome"}'),
            Usage(prompt_tokens=3, completion_tokens=2),
            Done(finish_reason="tool-calls"),
        ]
    )
    async with client.responses.stream(model=MODEL, input="Rome?", tools=[WEATHER]) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    types = [event.type for event in events]
    assert [one for one in types if not one.endswith(".delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    assert final.output_text == "Let me see."
    kept = checked(await client.responses.retrieve(final.id))
    ids = [one.to_dict()["id"] for one in final.output]
    assert ids == [one.to_dict()["id"] for one in kept.output]
    assert kept.output[2].to_dict()["arguments"] == '{"city":"Rome"}'


async def test_every_event_has_the_shape_that_the_package_describes(
    ana: Person, stage: Stage
) -> None:
    """Checked strictly, as the client itself takes anything."""
    stage.play([ReasoningDelta(text="Hm."), "Yes.", *CALLS])
    body = {"model": MODEL, "input": "Rome?", "tools": [WEATHER], "stream": True}
    async with ana.client.stream(ROUTE, body) as stream:
        events = await stream.rest()
    known: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in events:
        assert known.validate_python(event.data, strict=True).type == event.name
        assert event.data["type"] == event.name


async def test_a_function_of_the_client_is_run_there(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person
) -> None:
    """Its output goes on with the same answer, and each response shows its own part of it."""
    model = stage.play(["Let me see.", *CALLS], ["Sunny."])
    first = await client.responses.create(model=MODEL, input="Rome?", tools=[WEATHER])
    call = first.output[-1]
    assert call.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "30 degrees"}
    second = checked(
        await client.responses.create(
            model=MODEL, input=[output], tools=[WEATHER], previous_response_id=first.id
        )
    )
    assert second.output_text == "Sunny."
    assert second.previous_response_id == first.id
    given = model.prompts[1].messages
    assert [one.role for one in given] == ["user", "assistant", "tool"]
    assert given[2].text == "30 degrees"
    again = await client.responses.retrieve(first.id)
    assert [one.to_dict() for one in again.output] == [one.to_dict() for one in first.output]
    assert (await client.responses.retrieve(second.id)).output_text == "Sunny."
    listed = await client.responses.input_items.list(second.id)
    assert [one.type for one in listed.data] == ["function_call_output"]
    (question, answer) = await messages_of(ana, second)
    assert question["content"] == "Rome?"
    kinds = [part["type"] for part in answer["parts"]]
    assert kinds == ["text", "dynamic-tool", "step-start", "text"]


async def test_an_output_can_be_given_again_differently(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """The answer that went on stays; another one stands beside it."""
    model = stage.play(CALLS, ["Sunny."], ["Rainy."])
    first = await client.responses.create(model=MODEL, input="Rome?", tools=[WEATHER])

    async def answered(output: str) -> Response:
        item: Any = {"type": "function_call_output", "call_id": "c1", "output": output}
        return await client.responses.create(
            model=MODEL, input=[item], tools=[WEATHER], previous_response_id=first.id
        )

    sunny, rainy = await answered("30 degrees"), await answered("3 degrees")
    assert [one.text for one in model.prompts[2].messages] == ["Rome?", "", "3 degrees"]
    assert (await client.responses.retrieve(sunny.id)).output_text == "Sunny."
    assert (await client.responses.retrieve(rainy.id)).output_text == "Rainy."
    assert sunny.conversation == rainy.conversation


async def test_everything_can_be_sent_back_each_time(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person
) -> None:
    """As OpenAI's own guide does it: input, output, and the function's output after that."""
    model = stage.play([ReasoningDelta(text="Hm."), *CALLS], ["Sunny."])
    items: list[Any] = [{"role": "user", "content": "Rome?"}]
    first = await client.responses.create(model=MODEL, input=items, tools=[WEATHER])
    items += first.output
    items.append({"type": "function_call_output", "call_id": "c1", "output": "30 degrees"})
    second = checked(await client.responses.create(model=MODEL, input=items, tools=[WEATHER]))
    assert second.output_text == "Sunny."
    assert [one.type for one in second.output] == ["message"]
    assert [one.role for one in model.prompts[1].messages] == ["user", "assistant", "tool"]
    items += second.output
    items.append({"role": "user", "content": "And tomorrow?"})
    third = await client.responses.create(model=MODEL, input=items, tools=[WEATHER])
    given = model.prompts[2].messages
    assert [one.role for one in given] == ["user", "assistant", "tool", "assistant", "user"]
    assert [one["content"] for one in await messages_of(ana, third)] == [
        "Rome?",
        "Sunny.",
        "And tomorrow?",
        "Sunny.",
    ]


async def test_responses_follow_one_another(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """By the id of the one before; from an earlier one a branch begins; instructions end."""
    model = stage.play(["One."], ["Two."], ["Other."])
    first = await client.responses.create(model=MODEL, input="1", instructions="Be brief.")
    second = await client.responses.create(model=MODEL, input="2", previous_response_id=first.id)
    other = await client.responses.create(model=MODEL, input="3", previous_response_id=first.id)
    assert [one.text for one in model.prompts[1].messages] == ["1", "One.", "2"]
    assert [one.text for one in model.prompts[2].messages] == ["1", "One.", "3"]
    assert model.prompts[0].messages[0].text == "Be brief."
    assert first.conversation == second.conversation == other.conversation
    assert first.instructions == "Be brief."
    assert other.instructions is None


async def test_a_conversation_is_gone_on_with(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """Made first with what was said, answered, asked again; the last word is the newest."""
    model = stage.play(["Blue."], ["Because."])
    conversation = await client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "What colour is the sky?"}]
    )
    first = await client.responses.create(model=MODEL, conversation=conversation.id)
    assert first.output_text == "Blue."
    second = await client.responses.create(
        model=MODEL, conversation={"id": conversation.id}, input="Why?"
    )
    assert second.conversation is not None
    assert second.conversation.id == conversation.id
    assert [one.text for one in model.prompts[1].messages] == [
        "What colour is the sky?",
        "Blue.",
        "Why?",
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_not_stored_is_nowhere(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person, stream: bool
) -> None:
    """No conversation, and nothing to retrieve; earlier responses can still be gone on from."""
    model = stage.play(["One."], ["Two."])
    kept = await client.responses.create(model=MODEL, input="1")
    made: Any = await client.responses.create(
        model=MODEL, input="2", previous_response_id=kept.id, store=False, stream=stream
    )
    if stream:
        made = [event async for event in made][-1].response
    checked(made)
    assert (made.output_text, made.store) == ("Two.", False)
    assert [one.text for one in model.prompts[1].messages] == ["1", "One.", "2"]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    assert len((await ana.client.get("/api/v1/chat")).json["conversations"]) == 1
    assert len(await messages_of(ana, kept)) == 2


async def test_functions_work_where_nothing_is_stored(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """The client sends all of it back."""
    model = stage.play(CALLS, ["Sunny."])
    items: list[Any] = [{"role": "user", "content": "Rome?"}]
    first = await client.responses.create(model=MODEL, input=items, tools=[WEATHER], store=False)
    items += first.output
    items.append({"type": "function_call_output", "call_id": "c1", "output": "30 degrees"})
    second = await client.responses.create(model=MODEL, input=items, tools=[WEATHER], store=False)
    assert second.output_text == "Sunny."
    assert [one.role for one in model.prompts[1].messages] == ["user", "assistant", "tool"]


async def test_in_the_background_nobody_waits(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """It is polled until it is done; its events can be played from any number on."""
    gate = asyncio.Event()
    stage.play(["Hel", gate, "lo!"])
    begun = checked(await client.responses.create(model=MODEL, input="Hi.", background=True))
    assert (begun.status, begun.background) == ("in_progress", True)
    stream = await client.responses.retrieve(begun.id, stream=True)
    seen = []
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    gate.set()

    done = checked(await ended(client, begun.id))
    assert (done.status, done.output_text) == ("completed", "Hello!")
    rest = await client.responses.retrieve(
        begun.id, stream=True, starting_after=seen[-1].sequence_number
    )
    more = [event async for event in rest]
    deltas = [one.delta for one in [*seen, *more] if one.type == "response.output_text.delta"]
    assert "".join(deltas) == "Hello!"
    assert more[-1].type == "response.completed"


async def test_a_response_can_be_cancelled(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """What was said is kept; a second time nothing happens."""
    model = stage.play(["Half", asyncio.Event()])
    begun = await client.responses.create(model=MODEL, input="Hi.", background=True)
    await until(lambda: model.running == 1)
    stopped = checked(await client.responses.cancel(begun.id))
    assert (stopped.status, stopped.output_text) == ("cancelled", "Half")
    assert model.running == 0
    assert (await client.responses.cancel(begun.id)).status == "cancelled"


async def test_a_deleted_response_is_gone_with_its_conversation(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person
) -> None:
    """Unless there is more in it than that response."""
    stage.play(["Yes."])
    alone = await client.responses.create(model=MODEL, input="1")
    await client.responses.delete(alone.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(alone.id)
    assert (await ana.client.get("/api/v1/chat")).json["conversations"] == []
    first = await client.responses.create(model=MODEL, input="2")
    second = await client.responses.create(model=MODEL, input="3", previous_response_id=first.id)
    await client.responses.delete(second.id)
    assert len(await messages_of(ana, first)) == 4
    with pytest.raises(openai.NotFoundError):
        await client.responses.delete(second.id)


@pytest.mark.parametrize("more", ["answer below", "words below", "answer beside"])
async def test_what_was_made_for_a_deleted_response_stays_with_what_came_since(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person, more: str
) -> None:
    """Whoever went on in it, on whichever surface, did not say that it was to go."""
    stage.play(["Yes."], ["No."])
    alone = await client.responses.create(model=MODEL, input="1")
    assert alone.conversation is not None
    match more:
        case "answer below":
            await client.responses.create(model=MODEL, input="2", previous_response_id=alone.id)
        case "words below":
            said: Any = {"role": "user", "content": "2"}
            await client.conversations.items.create(alone.conversation.id, items=[said])
        case _:
            talk = alone.conversation.id.removeprefix("conv_")
            again = {"id": talk, "messages": [asked("1")], "trigger": "regenerate-message"}
            assert (await ana.client.post("/api/chat", again)).status == 200
    before = await messages_of(ana, alone)
    await client.responses.delete(alone.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(alone.id)
    assert await messages_of(ana, alone) == before


async def test_a_deleted_response_leaves_the_conversation_that_it_was_asked_in(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person
) -> None:
    """It was made by somebody, not for the response; also where there is nothing else in it."""
    stage.play(["Yes."])
    talk = await client.conversations.create()
    made = await client.responses.create(model=MODEL, input="1", conversation=talk.id)
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    assert [one["content"] for one in await messages_of(ana, made)] == ["1", "Yes."]


async def test_input_items_are_listed_in_pages(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """The newest first, or as they were sent; images are there."""
    stage.play(["Seen."])
    image = "data:image/png;base64,AAAA"
    items: list[Any] = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Look:"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "This."},
                {"type": "input_image", "image_url": image, "detail": "auto"},
            ],
        },
    ]
    made = await client.responses.create(model=MODEL, input=items)
    pages = client.responses.input_items.list(made.id, order="asc", limit=2)
    listed = [one.to_dict() async for one in pages]
    assert [one["role"] for one in listed] == ["system", "user", "user"]
    assert [part["type"] for part in listed[2]["content"]] == ["input_text", "input_image"]  # type: ignore[attr-defined]  # JSON
    newest = await client.responses.input_items.list(made.id, limit=1)
    assert newest.data[0].id == listed[2]["id"]
    assert newest.has_more


class Answer(BaseModel):
    """What is wanted."""

    city: str


async def test_structured_answer_is_what_the_clients_own_parser_reads(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """The client's own parser makes an object of the answer; the model was told the schema."""
    model = stage.play(['{"city":', '"Rome"}'])
    made = await client.responses.parse(model=MODEL, input="Which?", text_format=Answer)
    assert made.output_parsed == Answer(city="Rome")
    wanted = model.prompts[0].settings.response_format
    assert wanted is not None
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["schema"]["properties"]["city"]["type"] == "string"
    async with client.responses.stream(model=MODEL, input="Which?", text_format=Answer) as stream:
        final = await stream.get_final_response()
    assert final.output_parsed == Answer(city="Rome")


async def test_an_answer_that_is_cut_says_why(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """Incomplete, for its length."""
    stage.play([TextDelta(text="Half"), Done(finish_reason="length")])
    made = checked(await client.responses.create(model=MODEL, input="Hi.", max_output_tokens=16))
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"
    stream = await client.responses.create(model=MODEL, input="Hi.", stream=True)
    assert [event.type async for event in stream][-1] == "response.incomplete"


async def test_functions_called_under_one_id_again_and_again(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """As by providers that name no call, or count anew with each question: each gets its answer."""
    model = stage.play(CALLS, CALLS, CALLS, ["It is hot."])
    made = await client.responses.create(model=MODEL, input="Weather?", tools=[WEATHER])
    given: list[str] = []
    while made.output[-1].type == "function_call":
        given.append(f"{30 + len(given)} degrees")
        item: Any = {
            "type": "function_call_output",
            "call_id": made.output[-1].call_id,
            "output": given[-1],
        }
        made = await client.responses.create(
            model=MODEL, input=[item], previous_response_id=made.id, tools=[WEATHER]
        )
    assert (made.output_text, len(given)) == ("It is hot.", 3)
    heard = [one.text for one in model.prompts[-1].messages if one.role == "tool"]
    assert heard == given


@pytest.mark.parametrize("stream", [False, True])
async def test_failure_before_the_first_word_is_an_error(
    client: openai.AsyncOpenAI, stage: Stage, stream: bool
) -> None:
    """With its status and whether to ask again."""
    stage.play([ModelUnavailable(retry_after_s=7)])
    with pytest.raises(openai.InternalServerError) as failed:
        await client.responses.create(model=MODEL, input="Hi.", stream=stream)
    assert int(failed.value.response.headers["retry-after"]) > 0
    assert failed.value.response.headers["x-should-retry"] == "true"


async def test_failure_in_the_middle_ends_the_stream(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """As a response that failed, with what was said; so it is kept."""
    stage.play([TextDelta(text="Half"), ModelUnavailable()])
    stream = await client.responses.create(model=MODEL, input="Hi.", stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"
    kept = checked(await client.responses.retrieve(last.response.id))
    assert (kept.status, kept.output_text) == ("failed", "Half")


@pytest.mark.parametrize("stream", [False, True])
async def test_hanging_up_stops_the_answer(
    client: openai.AsyncOpenAI, stage: Stage, stream: bool
) -> None:
    """Unless it was asked for in the background."""
    model = stage.play(["Hel", asyncio.Event()])

    async def ask() -> None:
        made = await client.responses.create(model=MODEL, input="Hi.", stream=stream)
        if isinstance(made, openai.AsyncStream):
            async for _ in made:
                pass

    asking = asyncio.create_task(ask())
    await until(lambda: model.running == 1)
    asking.cancel()
    await asyncio.wait((asking,))
    await until(lambda: model.running == 0, within_s=2)


async def test_in_the_background_hanging_up_stops_nothing(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """The run belongs to the server."""
    gate = asyncio.Event()
    model = stage.play(["Hel", gate, "lo!"])
    stream = await client.responses.create(model=MODEL, input="Hi.", stream=True, background=True)
    first = await anext(aiter(stream))
    assert first.type == "response.created"
    await until(lambda: model.running == 1)
    await stream.close()
    gate.set()
    await until(lambda: model.running == 0)
    made = await ended(client, first.response.id)
    assert made.output_text == "Hello!"
    assert model.abandoned == 0


async def test_one_answer_at_a_time(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """409 while the conversation is being answered, wherever one would go on."""
    gate = asyncio.Event()
    stage.play(["One."], ["Two", gate])
    first = await client.responses.create(model=MODEL, input="1")
    begun = await client.responses.create(
        model=MODEL, input="2", previous_response_id=first.id, background=True
    )
    for more in (
        {"previous_response_id": first.id},
        {"previous_response_id": begun.id},
        {"conversation": begun.conversation.id if begun.conversation else ""},
    ):
        with pytest.raises(openai.ConflictError):
            await client.responses.create(model=MODEL, input="3", **more)  # type: ignore[call-overload]  # either
    gate.set()
    await client.responses.cancel(begun.id)


async def test_ten_copies_of_a_request_are_one(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person
) -> None:
    """With a key: one question, one run, one call of the model; also for what goes on."""
    gate = asyncio.Event()
    model = stage.play(CALLS, ["Sunny", gate, "."])
    first = await client.responses.create(model=MODEL, input="Rome?", tools=[WEATHER])
    item: Any = {"type": "function_call_output", "call_id": "c1", "output": "30 degrees"}

    async def ask() -> Response:
        return await client.responses.create(
            model=MODEL,
            input=[item],
            tools=[WEATHER],
            previous_response_id=first.id,
            extra_headers={"Idempotency-Key": "again and again"},
        )

    asking = [asyncio.create_task(ask()) for _ in range(10)]
    await until(lambda: len(model.prompts) == 2)
    gate.set()
    made = await asyncio.gather(*asking)
    assert len({one.id for one in made}) == 1
    assert {one.output_text for one in made} == {"Sunny."}
    assert len(model.prompts) == 2
    assert (await ask()).id == made[0].id
    assert len(await messages_of(ana, first)) == 2
    with pytest.raises(openai.APIStatusError) as reused:
        await client.responses.create(
            model=MODEL, input="x", extra_headers={"Idempotency-Key": "again and again"}
        )
    assert reused.value.code == "idempotency_key_reused"


async def test_whoever_has_nothing_left_has_nothing_looked_up(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a request names is not read, and what it brings not kept, before it is counted."""
    monkeypatch.setitem(RATES, "chat", Rate(1, 36_000))
    node = await start(RATE_LIMITS="on")
    person = node.person()
    message = {"role": "user", "content": [file_part()]}
    asking = {"model": MODEL, "input": [message]}
    body = {**asking, "previous_response_id": "resp_nobodys"}
    counted = await person.client.post(ROUTE, body)
    assert counted.status == 404  # and its file was not kept either
    metadata = {"conversation_id": "conv_nobodys"}
    chat = {"model": MODEL, "store": True, "messages": [{"role": "user", "content": "Hi"}]}
    for path, wanted in [
        (ROUTE, body),
        (ROUTE, asking),
        (ROUTE, {"model": MODEL, "input": "Hi", "conversation": "conv_nobodys"}),
        (ROUTE, {"model": MODEL, "input": [{"type": "item_reference", "id": "msg_nobodys"}]}),
        ("/v1/chat/completions", {**chat, "metadata": metadata}),
        ("/v1/conversations", {"items": [message]}),
    ]:
        refused = await person.client.post(path, wanted)
        assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limited"), path
    assert await files.list_files(node.services.db, person.id, limit=1) == []


async def test_copies_of_a_response_count_against_no_limit(
    start: StartNode, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten at once are counted as one, and found again when nothing is left."""
    monkeypatch.setitem(RATES, "chat", Rate(2, 36_000))
    node = await start(RATE_LIMITS="on")
    person = node.person()
    stage.play(["One"], ["Two"])
    first = await person.client.post(ROUTE, {"model": MODEL, "input": "1"})
    body = {"model": MODEL, "input": "2", "previous_response_id": first.json["id"]}
    again = {"idempotency-key": "k"}

    async def ask() -> str:
        answer = await person.client.post(ROUTE, body, headers=again)
        assert answer.status == 200, answer.text
        return str(answer.json["id"])

    made = await asyncio.gather(*(ask() for _ in range(10)))
    assert len({*made, await ask()}) == 1
    other = await person.client.post(ROUTE, {"model": MODEL, "input": "3"})
    assert other.status == 429


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"context_management": []}, "context_management"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"truncation": "auto"}, "truncation"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "mcp", "server_label": "x", "server_url": "http://x"}]}, "tools"),
        ({"api_base": "http://evil.example"}, "api_base"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 10**7}, "max_output_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"input": [{"type": "computer_call", "id": "cu_1"}]}, "input"),
        ({"input": [{"role": "king", "content": "x"}]}, "input"),
        ({"input": []}, "input"),
        ({"input": "\x00"}, "input"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c9", "output": "x"}]}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": "x"},
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                ]
            },
            "input",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "http:"}]}
                ]
            },
            "input.0.content.0",
        ),
        ({"metadata": {"a": "x" * 600}}, "metadata.a"),
        ({"store": False, "background": True}, "background"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
    ],
)
async def test_what_cannot_be_had_is_refused_by_its_name(
    ana: Person, stage: Stage, change: dict[str, Any], param: str
) -> None:
    """400 in the client's envelope; no model is asked, nothing is kept or echoed."""
    model = stage.play(["Never."])
    answer = await ana.client.post(ROUTE, {"model": MODEL, "input": "Hi.", **change})
    assert answer.status == 400, answer.text
    said = answer.json["error"]
    assert said["type"] == "invalid_request_error"
    assert said["param"].startswith(param), said
    assert re.fullmatch(r"\w+(\.\w+)*", said["param"]), said
    assert "evil" not in said["message"]
    assert model.prompts == []
    assert (await ana.client.get("/api/v1/chat")).json["conversations"] == []


async def test_hints_that_mean_nothing_here_are_taken(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """Frameworks send them with every request."""
    model = stage.play(["Yes."])
    made = await client.responses.create(
        model=MODEL,
        input="Hi.",
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        service_tier="auto",
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low", "summary": "auto"},
        parallel_tool_calls=False,
        truncation="disabled",
        top_p=0.5,
    )
    assert made.output_text == "Yes."
    settings = model.prompts[0].settings
    assert (settings.reasoning_effort, settings.top_p) == ("low", 0.5)
    assert settings.parallel_tool_calls is False


async def test_locked_instructions_cannot_be_replaced(start: StartNode) -> None:
    """Neither by `instructions`, nor by a message, nor by one that was there before."""
    node = await start()
    person = node.person()
    async with client_of(node, key_of(person)) as client:
        node.stage.play(["Yes."])
        items: list[Any] = [{"role": "developer", "content": "Be rude."}]
        items.append({"role": "user", "content": "Hi."})
        before = await client.responses.create(model=MODEL, input=items)
    locked = await start(LOCKED_SETTINGS="system_prompt", SYSTEM_PROMPT="Be kind.")
    model = locked.stage.play(["Yes."])
    async with client_of(locked, key_of(person)) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model=MODEL, input="Hi.", instructions="Be rude.")
        assert refused.value.param == "instructions"
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model=MODEL, input=items)
        assert refused.value.param == "input"
        await client.responses.create(model=MODEL, input="So?", previous_response_id=before.id)
    assert [one.text for one in model.prompts[0].messages] == ["Be kind.", "Hi.", "Yes.", "So?"]


async def test_model_outside_the_list_is_not_asked(start: StartNode) -> None:
    """Not for a response either."""
    node = await start(MODELS="fake/model")
    model = node.stage.play(["Yes."])
    person = node.person()
    for name in ("fake/Model", "fake/model:online", "openrouter/auto"):
        answer = await person.client.post(ROUTE, {"model": name, "input": "Hi."})
        assert answer.status in {400, 404}, name
    assert model.prompts == []


async def test_a_strangers_response_is_not_there(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person, bo: Person
) -> None:
    """The same bytes for hers as for one that never was, by every way to name it."""
    stage.play(["Secret."])
    made = await client.responses.create(model=MODEL, input="Secret?")
    assert made.conversation is not None
    never = made.id[:-1] + ("0" if made.id[-1] != "0" else "1")
    nowhere = made.conversation.id[:-1] + ("0" if made.conversation.id[-1] != "0" else "1")

    async def both(method: str, path: str, body: Any = None) -> None:  # noqa: ANN401 -- JSON
        answers = []
        for response, conversation in ((made.id, made.conversation.id), (never, nowhere)):  # type: ignore[union-attr]  # it is there
            sent = body and {
                name: value.format(response=response, conversation=conversation)
                for name, value in body.items()
            }
            there = path.format(response=response, conversation=conversation)
            answer = await bo.client.call(method, there, json=sent)
            skipped = {"x-request-id", "date"}
            headers = {k: v for k, v in answer.headers.items() if k not in skipped}
            answers.append((answer.status, headers, answer.body))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404, answers[0]

    await both("GET", "/v1/responses/{response}")
    await both("GET", "/v1/responses/{response}?stream=true")
    await both("DELETE", "/v1/responses/{response}")
    await both("POST", "/v1/responses/{response}/cancel")
    await both("GET", "/v1/responses/{response}/input_items")
    question = {"model": MODEL, "input": "x"}
    await both("POST", "/v1/responses", {**question, "previous_response_id": "{response}"})
    await both("POST", "/v1/responses", {**question, "conversation": "{conversation}"})
    await both("GET", "/v1/conversations/{conversation}")
    await both("DELETE", "/v1/conversations/{conversation}")
    await both("GET", "/v1/conversations/{conversation}/items")
    assert (await client.responses.retrieve(made.id)).output_text == "Secret."
    assert len(await messages_of(ana, made)) == 2


async def test_budget_left_is_said(start: StartNode) -> None:
    """In headers, and when too little is left nothing begins."""
    node = await start(BUDGET_TOKENS_PER_DAY="2000")
    node.stage.play(["Yes.", Usage(prompt_tokens=900, completion_tokens=900)])
    async with client_of(node, key_of(node.person())) as client:
        made = await client.responses.with_raw_response.create(
            model=MODEL, input="Hi.", max_output_tokens=100
        )
        assert int(made.headers["x-budget-remaining-tokens-day"]) < 2000
        with pytest.raises(openai.RateLimitError) as refused:
            await client.responses.create(model=MODEL, input="Hi.", max_output_tokens=1000)
        assert refused.value.code == "insufficient_quota"
        assert refused.value.response.headers["x-should-retry"] == "false"
