"""`/v1/conversations`, kept chat completions and tools that run here, by OpenAI's own client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.conversations import ConversationItem
from openai.types.responses import Response
from pydantic import TypeAdapter

from chatkeep import runs
from chatkeep.events import Done, Source, ToolCall
from tests.http.test_openai_api import MODEL, ROUTE, WEATHER, client_of, key_of
from tests.http.test_tools import Asking, cancelled, tools
from tests.patience import PATIENCE_S
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from openai.types.conversations import Conversation

    from chatkeep.db import Database
    from chatkeep.testing import Step
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node, Person, Stage

CALLS: list[Step] = [
    ToolCall(call_id="c1", name="weather", arguments='{"city":"Rome"}'),
    Done(finish_reason="tool-calls"),
]
_item: TypeAdapter[ConversationItem] = TypeAdapter(ConversationItem)


@pytest.fixture
async def client(node: Node, ana: Person) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client of somebody new."""
    async with client_of(node, key_of(ana)) as opened:
        yield opened


def said(text: str, role: str = "user") -> Any:  # noqa: ANN401 -- as the client types it
    """Return a message."""
    return {"type": "message", "role": role, "content": text}


async def texts(
    client: openai.AsyncOpenAI,
    conversation_id: str,
    **how: Any,  # noqa: ANN401 -- of the list
) -> list[str]:
    """Return what the items of a conversation say, each strictly of its shape."""
    found = []
    async for item in client.conversations.items.list(conversation_id, **how):
        sent = item.to_dict()
        _item.validate_python(sent)
        content: Any = sent.get("content") or [{"text": sent["type"]}]
        found.append("".join(one["text"] for one in content))
    return found


async def rest_of(person: Person, conversation_id: str) -> list[dict[str, Any]]:
    """Return the messages of the conversation as REST shows them."""
    path = f"/api/v1/chat/{conversation_id.removeprefix('conv_')}"
    listed: list[dict[str, Any]] = (await person.client.get(path)).json["messages"]
    return listed


# --- conversations ------------------------------------------------------------------------------


async def test_a_conversation_is_made_changed_and_deleted(
    client: openai.AsyncOpenAI, ana: Person
) -> None:
    """With what was said so far and notes of the client's; REST lists it meanwhile."""
    made = await client.conversations.create(
        items=[said("Where is Rome?"), said("In Italy.", "assistant")], metadata={"topic": "x"}
    )
    assert made.metadata == {"topic": "x"}
    assert (await client.conversations.retrieve(made.id)).to_dict() == made.to_dict()
    changed = await client.conversations.update(made.id, metadata={"topic": "y"})
    assert changed.metadata == {"topic": "y"}
    listed = (await ana.client.get("/api/v1/chat")).json["conversations"]
    assert [(f"conv_{one['id']}", one["title"]) for one in listed] == [(made.id, "Where is Rome?")]
    assert [one["content"] for one in await rest_of(ana, made.id)] == [
        "Where is Rome?",
        "In Italy.",
    ]
    gone = await client.conversations.delete(made.id)
    assert gone.deleted
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)
    assert (await ana.client.get("/api/v1/chat")).json["conversations"] == []


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_page_of_long_items_ends_early(
    client: openai.AsyncOpenAI, ana: Person, order: str
) -> None:
    """With the one that fills it: a hundred of a megabyte are no page; each comes once."""
    made = await client.conversations.create()
    long = "w " * 400_000
    for number in range(5):
        text = f"{number} {long}" if number in {1, 2, 3} else str(number)
        await client.conversations.items.create(made.id, items=[said(text)])
    found, after, sizes = list[str](), "", list[int]()
    more = True
    while more:
        path = f"/v1/conversations/{made.id}/items?limit=100&order={order}{after}"
        page = await ana.client.get(path)
        sizes.append(len(page.json["data"]))
        found += [one["content"][0]["text"][:1] for one in page.json["data"]]
        after, more = f"&after={page.json['last_id']}", page.json["has_more"]
    assert found == sorted("01234", reverse=order == "desc")
    assert sizes == [3, 1, 1]


async def test_items_are_added_listed_and_erased(client: openai.AsyncOpenAI, ana: Person) -> None:
    """In pages, either way; what is erased is gone everywhere, and what follows stays."""
    made = await client.conversations.create()
    numbers = [str(number) for number in range(7)]
    for number in numbers:
        added = await client.conversations.items.create(made.id, items=[said(number)])
        assert len(added.data) == 1
    assert await texts(client, made.id, order="asc", limit=3) == numbers
    assert await texts(client, made.id, limit=3) == numbers[::-1]
    page = await client.conversations.items.list(made.id, order="asc", limit=2)
    third = await client.conversations.items.retrieve(
        page.data[1].model_dump()["id"],
        conversation_id=made.id,
    )
    assert third.to_dict() == page.data[1].to_dict()
    erased: Conversation = await client.conversations.items.delete(
        page.data[1].model_dump()["id"],
        conversation_id=made.id,
    )
    assert erased.id == made.id
    assert await texts(client, made.id, order="asc") == [*numbers[:1], *numbers[2:]]
    after: Any = page.data[1].model_dump()["id"]
    assert await texts(client, made.id, order="asc", after=after) == numbers[2:]
    assert "1" not in [one["content"] for one in await rest_of(ana, made.id)]
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.retrieve(after, conversation_id=made.id)
    with pytest.raises(openai.BadRequestError):
        await client.conversations.items.list(made.id, after="msg_none_0")


async def test_what_was_erased_is_found_no_more(
    client: openai.AsyncOpenAI, ana: Person, database: MigratedDatabase
) -> None:
    """Nor are its words kept where the search looks, with their places in the text."""
    made = await client.conversations.create()
    for text in ("The quixotic zebra danced", "The zebra slept"):
        added = await client.conversations.items.create(made.id, items=[said(text)])
    slept = added.data[0].model_dump()["id"]
    page = await client.conversations.items.list(made.id, order="asc", limit=1)
    danced = page.data[0].model_dump()["id"]

    async def finds(word: str) -> int:
        found = await ana.client.get(f"/api/v1/search?q={word}")
        return len(found.json["found"])

    assert [await finds("quixotic"), await finds("zebra")] == [1, 2]
    await client.conversations.items.delete(danced, conversation_id=made.id)
    assert [await finds("quixotic"), await finds("zebra"), await finds("slept")] == [0, 1, 1]
    await client.conversations.items.delete(slept, conversation_id=made.id)
    assert await finds("slept") == 0
    kept = database.operate(
        "select length(words) from chat.message_words where user_id = %s", ana.id
    )
    assert kept == [(1,), (1,)]


async def test_what_a_function_answered_can_be_added(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """Its answer is then there for whoever asks next."""
    model = stage.play(CALLS, ["Sunny."])
    tool: Any = {"type": "function", "name": "weather", "parameters": {}, "strict": False}
    first = await client.responses.create(model=MODEL, input="Rome?", tools=[tool])
    assert first.conversation is not None
    output: Any = {"type": "function_call_output", "call_id": "c1", "output": "30 degrees"}
    added = await client.conversations.items.create(first.conversation.id, items=[output])
    assert [one.type for one in added.data] == ["function_call_output"]
    second = await client.responses.create(
        model=MODEL, input="So?", conversation=first.conversation.id, tools=[tool]
    )
    assert second.output_text == "Sunny."
    roles = [(one.role, one.text) for one in model.prompts[1].messages]
    assert roles == [("user", "Rome?"), ("assistant", ""), ("tool", "30 degrees"), ("user", "So?")]


async def test_nothing_is_added_while_an_answer_is_made(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """409, for what is added and what is erased."""
    gate = asyncio.Event()
    model = stage.play(["Half", gate])
    begun = await client.responses.create(model=MODEL, input="Hi.", background=True)
    assert begun.conversation is not None
    await until(lambda: model.running == 1)
    with pytest.raises(openai.ConflictError):
        await client.conversations.items.create(begun.conversation.id, items=[said("x")])
    (question,) = (await client.responses.input_items.list(begun.id)).data
    with pytest.raises(openai.ConflictError):
        await client.conversations.items.delete(
            question.model_dump()["id"],
            conversation_id=begun.conversation.id,
        )
    await client.responses.cancel(begun.id)
    assert await texts(client, begun.conversation.id, order="asc") == ["Hi.", "Half"]


async def test_answer_that_ends_meanwhile_was_in_the_way_all_the_same(
    client: openai.AsyncOpenAI, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not as if the conversation were not there, and whoever asks again gets on."""
    gate = asyncio.Event()
    model = stage.play(answer=lambda _: ["Half", gate])
    begun = await client.responses.create(model=MODEL, input="Hi.", background=True)
    assert begun.conversation is not None
    await until(lambda: model.running == 1)
    chat = begun.conversation.id
    (question,) = (await client.responses.input_items.list(begun.id)).data
    find = runs.find_active

    async def ended_before(db: Database, user_id: str, conversation_id: str) -> str | None:
        await client.responses.cancel(begun.id)
        return await find(db, user_id, conversation_id)

    monkeypatch.setattr(runs, "find_active", ended_before)
    changing: list[Callable[[], Awaitable[object]]] = [
        lambda: client.conversations.items.create(chat, items=[said("x")]),
        lambda: client.conversations.items.delete(
            question.model_dump()["id"], conversation_id=chat
        ),
    ]
    for change in changing:
        with pytest.raises(openai.ConflictError):
            await change()
        await change()
        begun = await client.responses.create(
            model=MODEL, input="Ho.", conversation=chat, background=True
        )
        await until(lambda: model.running == 1)
    await client.responses.cancel(begun.id)


async def test_the_same_key_makes_one_conversation(client: openai.AsyncOpenAI, ana: Person) -> None:
    """However often it is sent."""
    headers = {"Idempotency-Key": "once"}
    made = [await client.conversations.create(extra_headers=headers) for _ in range(3)]
    assert len({one.id for one in made}) == 1
    assert len((await ana.client.get("/api/v1/chat")).json["conversations"]) == 1


async def test_sources_are_annotations_of_the_text(
    client: openai.AsyncOpenAI, stage: Stage
) -> None:
    """The same streamed as kept."""
    source = Source(source_id="s1", url="https://example.com/", title="Example")
    stage.play(["See.", source])  # type: ignore[list-item]  # responders may yield it
    stream = await client.responses.create(model=MODEL, input="Where?", stream=True)
    events = [event async for event in stream]
    assert "response.output_text.annotation.added" in [one.type for one in events]
    last = events[-1]
    assert last.type == "response.completed"
    kept = await client.responses.retrieve(last.response.id)
    assert [one.to_dict() for one in kept.output] == [one.to_dict() for one in last.response.output]
    assert "https://example.com/" in str(kept.to_dict())


async def test_locked_instructions_hold_for_what_waits_its_turn(start: StartNode) -> None:
    """A system message that was there before is left out, also when the question had to wait."""
    before = await start()
    person = before.person()
    async with client_of(before, key_of(person)) as client:
        made = await client.conversations.create(items=[said("Be rude.", "system"), said("Hi.")])
    node = await start(LOCKED_SETTINGS="system_prompt", SYSTEM_PROMPT="Be kind.")
    gate = asyncio.Event()
    model = node.stage.play(["Hello", gate], ["Well."])
    locked = person.client.but(url=node.url)
    body = {"conversation_id": made.id.removeprefix("conv_"), "message": "One"}
    first = asyncio.create_task(locked.post("/api/v1/chat/message", body))
    await until(lambda: model.running == 1)
    second = asyncio.create_task(
        locked.post("/api/v1/chat/message", {**body, "message": "Two", "when_busy": "queue"})
    )
    queue = f"/api/v1/chat/{body['conversation_id']}/queue"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (await locked.get(queue)).json["waiting"]:
                break
            await asyncio.sleep(0.02)
    gate.set()
    assert [one.status for one in await asyncio.gather(first, second)] == [200, 200]
    for prompt in model.prompts:
        system = [one.text for one in prompt.messages if one.role == "system"]
        assert system == ["Be kind."]


# --- chat completions that are kept -------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_kept_chat_goes_on_where_it_was(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person, stream: bool
) -> None:
    """Its client sends everything again, and only what is new is taken."""
    model = stage.play(["One."], ["Two."])
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Zero"},
        {"role": "assistant", "content": "Nought."},
        {"role": "user", "content": "First"},
    ]

    async def ask(**more: Any) -> tuple[str, str]:  # noqa: ANN401 -- whatever the client takes
        made = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=messages, store=True, stream=stream, **more
        )
        parsed: Any = made.parse()
        text = ""
        if stream:
            async for chunk in parsed:
                text += chunk.choices[0].delta.content or ""
        else:
            text = parsed.choices[0].message.content
            assert parsed.conversation["id"] == made.headers["x-conversation-id"]
        return text, made.headers["x-conversation-id"]

    text, conversation = await ask(metadata={"topic": "numbers"})
    assert text == "One."
    forged: Any = {"role": "assistant", "content": "I never said this."}
    messages += [forged, {"role": "user", "content": "Second"}]
    text, again = await ask(metadata={"conversation_id": conversation})
    assert (text, again) == ("Two.", conversation)
    given = [(one.role, one.text) for one in model.prompts[1].messages]
    assert given == [
        ("system", "Be brief."),
        ("user", "Zero"),
        ("assistant", "Nought."),
        ("user", "First"),
        ("assistant", "One."),
        ("user", "Second"),
    ]
    kept = [one["content"] for one in await rest_of(ana, conversation)]
    assert kept == ["Zero", "Nought.", "First", "One.", "Second", "Two."]


async def test_tools_of_a_kept_chat(client: openai.AsyncOpenAI, stage: Stage, ana: Person) -> None:
    """The client runs them; what they answered goes on with the same answer."""
    model = stage.play(CALLS, ["Sunny."])
    messages: list[Any] = [{"role": "user", "content": "Rome?"}]
    first: Any = await client.chat.completions.create(
        model=MODEL, messages=messages, tools=[WEATHER], store=True
    )
    assert first.choices[0].finish_reason == "tool_calls"
    messages += [
        first.choices[0].message.to_dict(),
        {"role": "tool", "tool_call_id": "c1", "content": "30 degrees"},
    ]
    second: Any = await client.chat.completions.create(
        model=MODEL,
        messages=messages,
        tools=[WEATHER],
        store=True,
        metadata={"conversation_id": first.conversation["id"]},
    )
    assert second.choices[0].message.content == "Sunny."
    assert [one.role for one in model.prompts[1].messages] == ["user", "assistant", "tool"]
    assert len(await rest_of(ana, first.conversation["id"])) == 2


async def test_a_kept_chat_is_asked_once(client: openai.AsyncOpenAI, stage: Stage) -> None:
    """Ten copies with one key: one question, one call of the model."""
    gate = asyncio.Event()
    model = stage.play(["Yes", gate, "."])

    async def ask() -> Any:  # noqa: ANN401 -- with members of ours
        return await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Once?"}],
            store=True,
            extra_headers={"Idempotency-Key": "one"},
        )

    asking = [asyncio.create_task(ask()) for _ in range(10)]
    await until(lambda: len(model.prompts) == 1)
    gate.set()
    made = await asyncio.gather(*asking)
    assert len({one.id for one in made}) == len({one.conversation["id"] for one in made}) == 1
    assert len(model.prompts) == 1


@pytest.mark.parametrize(
    "member",
    [
        *("audio", "function_call", "functions", "moderation", "prediction"),
        *("top_logprobs", "web_search_options"),
    ],
)
async def test_what_a_chat_cannot_have_is_refused_by_name(
    ana: Person, stage: Stage, member: str
) -> None:
    """None of it is taken for done."""
    model = stage.play(["Never."])
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], member: {"a": 1}}
    answer = await ana.client.post(ROUTE, body)
    assert (answer.status, answer.json["error"]["param"]) == (400, member)
    assert model.prompts == []


async def test_a_strangers_conversation_cannot_be_chatted_in(
    client: openai.AsyncOpenAI, stage: Stage, ana: Person, bo: Person
) -> None:
    """The id in the body is looked up as whoever calls (CVE-2026-45349)."""
    model = stage.play(["Secret."], ["Never."])
    messages: Any = [{"role": "user", "content": "Secret?"}]
    made: Any = await client.chat.completions.create(model=MODEL, messages=messages, store=True)
    hers = made.conversation["id"]
    nobodys = hers[:-1] + ("0" if hers[-1] != "0" else "1")
    answers = []
    for conversation in (hers, nobodys):
        metadata = {"conversation_id": conversation}
        body = {"model": MODEL, "messages": messages, "store": True, "metadata": metadata}
        answer = await bo.client.post(ROUTE, body)
        answers.append((answer.status, answer.body))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert len(model.prompts) == 1
    assert len(await rest_of(ana, hers)) == 2


async def test_a_conversation_is_named_only_where_it_is_kept(ana: Person) -> None:
    """Without `store` nothing would go on, so that is said."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "x"}],
        "metadata": {"conversation_id": "conv_x"},
    }
    answer = await ana.client.post(ROUTE, body)
    assert (answer.status, answer.json["error"]["param"]) == (400, "store")


# --- tools that run here ------------------------------------------------------------------------


@pytest.fixture
async def shop(start: StartNode) -> Node:
    """A node whose model may ask for tools that run there."""
    node = await start(None, tools)
    node.stage.model = Asking()  # type: ignore[assignment]  # a stage plays any model
    return node


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_of_the_server_run_there(shop: Node, stream: bool) -> None:
    """As the caller; a client is shown what they did, and has nothing to run."""
    person = shop.person()
    async with client_of(shop, key_of(person)) as client:
        made: Any = await client.responses.create(model=MODEL, input="whoami", stream=stream)
        if stream:
            made = [event async for event in made][-1].response
        kept = await client.responses.retrieve(made.id)
        chat: Any = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "whoami"}], store=True
        )
    Response.model_validate(kept.model_dump(mode="json"))
    assert [one.to_dict() for one in kept.output] == [one.to_dict() for one in made.output]
    assert [one.type for one in kept.output] == ["message", "mcp_call", "message"]
    assert kept.output[1].to_dict()["output"] == person.id
    assert kept.output_text.endswith(f"Done: {person.id}")
    assert chat.choices[0].finish_reason == "stop"
    assert chat.choices[0].message.tool_calls is None
    assert person.id in chat.choices[0].message.content


async def test_output_is_taken_back_as_it_was_given(shop: Node) -> None:
    """The examples of the API send all of it with the next question; tools that ran are told."""
    person = shop.person()
    async with client_of(shop, key_of(person)) as client:
        said: list[Any] = [{"role": "user", "content": "whoami"}]
        first = await client.responses.create(model=MODEL, input=said, store=False)
        assert "mcp_call" in [one.type for one in first.output]
        said += [one.to_dict() for one in first.output]
        said.append({"role": "user", "content": "whoami"})
        await client.responses.create(model=MODEL, input=said, store=False)
        kept = await client.responses.create(model=MODEL, input=said)
        asked = await client.responses.create(model=MODEL, input="cancel 7")
        back: list[Any] = [one.to_dict() for one in asked.output]
        back.append(
            {
                "type": "mcp_approval_response",
                "approval_request_id": asked.output[-1].model_dump()["id"],
                "approve": False,
            }
        )
        await client.responses.create(model=MODEL, input=back[-2:], previous_response_id=asked.id)
    model: Any = shop.stage.model
    history = next(one for one in model.prompts if len(one.messages) > 4).messages
    assert [one.role for one in history[:5]] == ["user", "assistant", "tool", "assistant", "user"]
    assert history[2].text == person.id
    assert history[1].calls[0].call_id == history[2].call_id
    assert kept.output_text.endswith(f"Done: {person.id}")


@pytest.mark.parametrize("approve", [True, False])
async def test_a_tool_waits_for_the_persons_yes(shop: Node, approve: bool) -> None:
    """Asked as an approval request; the answer goes on with what the person said."""
    person = shop.person()
    async with client_of(shop, key_of(person)) as client:
        first = await client.responses.create(model=MODEL, input="cancel 7")
        asked = first.output[-1]
        assert asked.type == "mcp_approval_request"
        assert (person.id, 7) not in cancelled
        said_so: Any = {
            "type": "mcp_approval_response",
            "approval_request_id": asked.id,
            "approve": approve,
        }
        second = await client.responses.create(
            model=MODEL, input=[said_so], previous_response_id=first.id
        )
        kept = await client.responses.retrieve(second.id)
        before = await client.responses.retrieve(first.id)
    assert ((person.id, 7) in cancelled) == approve
    kinds = ["mcp_call", "message"] if approve else ["message"]
    assert [one.type for one in kept.output] == kinds
    assert [one.to_dict() for one in kept.output] == [one.to_dict() for one in second.output]
    ids = [one.model_dump()["id"] for one in first.output]
    assert [one.model_dump()["id"] for one in before.output] == ids
