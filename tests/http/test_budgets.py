"""Budgets as people meet them: refused before anything happens, counted whatever happens."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import openai
import pytest

from chatkeep.events import TextDelta, ToolCall, Usage
from chatkeep.tools import Tools
from tests.serving import until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node

CHAT = "/api/v1/chat"
USED = Usage(prompt_tokens=40, completion_tokens=60, cost=Decimal("0.25"))


async def ask(client: Client, text: str = "Hello", **more: Any) -> Answer:  # noqa: ANN401 -- JSON
    """Ask on the AI SDK's route and return the whole answer."""
    message = {"role": "user", "parts": [{"type": "text", "text": text}]}
    body = {"id": str(uuid4()), "message": message, **more}
    return await client.call("POST", "/api/chat", json=body, headers={"accept": "application/json"})


async def used(client: Client) -> dict[str, Any]:
    """Return what `/api/usage` says."""
    found: dict[str, Any] = (await client.get("/api/usage")).json
    return found


@pytest.fixture
async def limited(start: StartNode) -> Node:
    """A node where everybody has 1,200 tokens a day."""
    node = await start(BUDGET_TOKENS_PER_DAY="1200", MAX_TOKENS="500")
    node.stage.play(["Hi", USED])
    return node


async def test_refusal_names_the_budget_and_when_it_begins_anew(start: StartNode) -> None:
    """On every surface in its own words, with nothing kept and no model asked."""
    node = await start(BUDGET_TOKENS_PER_DAY="100", MAX_TOKENS="500")
    model = node.stage.play()
    who = node.person()
    refused = await ask(who.client)
    assert refused.status == 429
    said = refused.json
    assert (said["code"], said["budget"]) == ("budget_exhausted", "tokens-per-day")
    assert said["resets_at"].endswith("T00:00:00Z")
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert (await who.client.get(CHAT)).json["conversations"] == []
    key = who.client.headers["authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(api_key=key, base_url=f"{node.url}/v1", max_retries=3) as client:
        with pytest.raises(openai.RateLimitError) as quota:
            await client.chat.completions.create(
                model="fake/model", messages=[{"role": "user", "content": "Hi"}]
            )
    assert (quota.value.code, quota.value.type) == ("insufficient_quota", "insufficient_quota")
    assert quota.value.response.headers["x-should-retry"] == "false"
    assert model.prompts == []


async def test_what_is_left_is_said_with_the_answer_and_set_right_after_it(limited: Node) -> None:
    """Headers tell what is left with all that is reserved; afterwards what was used counts."""
    client = limited.person().client
    answer = await ask(client)
    assert answer.status == 200
    assert 600 < int(answer.headers["x-budget-remaining-tokens-day"]) < 700
    assert "x-budget-remaining-cost-day" not in answer.headers
    found = await used(client)
    (budget,) = found["budgets"]
    assert (budget["name"], budget["limit"], budget["used"]) == ("tokens-per-day", "1200", "100")
    assert (budget["left"], budget["unit"]) == ("1100", "tokens")
    assert found["this_month"] == {
        "answers": 1,
        "prompt_tokens": 40,
        "completion_tokens": 60,
        "cost": "0.25",
    }
    assert [one["cost"] for one in found["by_day"]] == ["0.25"]
    assert [one["answers"] for one in found["by_model"]] == [1]
    assert (await used(limited.person().client))["by_model"] == []


async def test_ten_copies_of_a_question_are_charged_once(limited: Node) -> None:
    """Also when only one would fit: the others join its answer, before anything is counted."""
    client = limited.person().client
    keyed = client.but(idempotency_key="one")
    message = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    body = {"id": "the-same-chat", "message": message}
    answers = await asyncio.gather(
        *(
            keyed.call("POST", "/api/chat", json=body, headers={"accept": "application/json"})
            for _ in range(10)
        )
    )
    assert {answer.status for answer in answers} == {200}
    assert (await used(client))["this_month"]["answers"] == 1


async def test_answer_is_booked_when_its_reader_has_left(limited: Node) -> None:
    """Kept ones go on and cost what they cost; what is not kept costs what was said."""
    client = limited.person().client
    gate = asyncio.Event()
    limited.stage.play(["Hel", gate, "lo", USED])
    message = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    async with client.stream("/api/chat", {"id": "left", "message": message}) as stream:
        await stream.until(lambda event: event.data["type"] == "text-delta")
    gate.set()
    await until_answers(client, 1)
    assert (await used(client))["this_month"]["completion_tokens"] == 60

    limited.stage.play(["x" * 300, asyncio.Event()])
    asked = {"model": "fake/model", "stream": True, "messages": [message_of("Hi")]}
    async with client.stream("/v1/chat/completions", asked) as stream:
        await stream.until(lambda event: event.data["choices"][0]["delta"].get("content"))
    await until_answers(client, 2)
    assert (await used(client))["this_month"]["completion_tokens"] == 160


async def test_loop_of_tools_ends_between_two_steps(
    database: MigratedDatabase, start: StartNode
) -> None:
    """What was said is kept, the error names the budget, and the model is asked no more."""
    tools = Tools()

    @tools.tool
    async def weather() -> str:
        """Say how it is."""
        return "sunny"

    node = await start(database.url, tools, BUDGET_TOKENS_PER_RUN="700", MAX_TOKENS="100")
    call = ToolCall(call_id="c", name="weather", arguments="{}")
    usage = Usage(prompt_tokens=150, completion_tokens=50)
    model = node.stage.play([TextDelta(text="Let me see."), call, usage])
    client = node.person().client
    refused = await ask(client)
    assert (refused.status, refused.json["code"]) == (429, "budget_exhausted")
    assert len(model.prompts) == 3
    kept = await client.get(f"{CHAT}/{refused.json['conversation_id']}")
    assert kept.json["messages"][-1]["content"].startswith("Let me see.")
    assert (await used(client))["this_month"]["prompt_tokens"] == 450


async def test_first_question_gets_no_more_room_than_one_answer_may_use(start: StartNode) -> None:
    """`max_tokens` is what the answer's own budget leaves of it."""
    node = await start(BUDGET_TOKENS_PER_RUN="300")
    model = node.stage.play(["Hi"])
    assert (await ask(node.person().client)).status == 200
    (prompt,) = model.prompts
    assert prompt.settings.max_tokens is not None
    assert 250 < prompt.settings.max_tokens < 300


async def test_total_stops_people_who_are_not_signed_in_too(start: StartNode) -> None:
    """Before a model is asked, with a status of its own."""
    node = await start(
        BUDGET_COST_PER_DAY_TOTAL="0.0001",
        MODEL_PRICES="any=10/10",
        MODELS="any",
        ANONYMOUS_CHAT="on",
    )
    model = node.stage.play()
    for client in (node.nobody(), node.person().client):
        refused = await ask(client)
        assert (refused.status, refused.json["budget"]) == (429, "cost-per-day-total")
    assert model.prompts == []


def message_of(text: str) -> dict[str, str]:
    """Return what a user said, as the OpenAI API has it."""
    return {"role": "user", "content": text}


async def until_answers(client: Client, count: int) -> None:
    """Wait until so many answers are booked."""

    async def booked() -> bool:
        return bool((await used(client))["this_month"]["answers"] == count)

    await until(booked)


@pytest.mark.parametrize(
    ("media_type", "size", "status"),
    [
        ("text/plain", 300, 200),
        ("text/plain", 12_000, 429),
        ("text/csv", 12_000, 429),
        ("application/pdf", 120_000, 429),
        ("image/png", 120_000, 200),
    ],
)
async def test_words_are_no_cheaper_in_a_file(
    start: StartNode, media_type: str, size: int, status: int
) -> None:
    """A file that the model is given as words is charged as words, in each question about it."""
    node = await start(BUDGET_TOKENS_PER_RUN="3500", MAX_TOKENS="500")
    model, client = node.stage.play(), node.person().client
    told = {"content-type": media_type}
    made = await client.call("POST", "/api/files?name=a", data=b"x" * size, headers=told)
    assert made.status == 200, made.text
    message = {"role": "user", "parts": [made.json, {"type": "text", "text": "What is this?"}]}
    for _ in range(2):
        body = {"id": str(uuid4()), "message": message}
        answer = await client.call(
            "POST", "/api/chat", json=body, headers={"accept": "application/json"}
        )
        assert answer.status == status, answer.text
    assert len(model.prompts) == (2 if status == 200 else 0)


@pytest.mark.parametrize("kept", [True, False])
async def test_form_of_the_answer_is_charged_too(start: StartNode, *, kept: bool) -> None:
    """It is sent to the provider with the question, and paid for like it."""
    node = await start(BUDGET_TOKENS_PER_RUN="3500", MAX_TOKENS="500")
    model, client = node.stage.play(), node.person().client
    for size, status in ((30, 200), (12_000, 429)):
        schema = {"type": "object", "description": "x" * size}
        body = {
            "model": "fake/model",
            "messages": [{"role": "user", "content": "Hi"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": schema},
            },
            "store": kept,
        }
        answer = await client.post("/v1/chat/completions", body)
        assert answer.status == status, answer.text
    assert len(model.prompts) == 1
