"""Agents of the OpenAI Agents SDK whose tools need a yes: asked on every surface, gone on with.

The SDK runs the agent and its tools itself, against a provider that nobody here wrote; what is
ours is who is asked, and that the run goes on where it stood, on whichever server.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import agents
import openai
import psycopg
import pytest

from tests.chatkit_client import Kit, done_items
from tests.http.test_openai_api import MODEL, client_of, key_of
from tests.peers import Peer, start_aimock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Answer, Client, Node, Person

SURFACES = ["ai_sdk", "chatkit", "responses"]
HEARD = "Heard: pay it."
SHOP = '''
from agents import Agent, RunContextWrapper, function_tool

paid = []

@function_tool(needs_approval=True)
async def pay(wrapper: RunContextWrapper, order: int) -> str:
    """Pay an order."""
    who = wrapper.context.who
    paid.append((who.user_id if who else None, order))
    return f"Paid {order}."

cashier = Agent(name="Cashier", instructions="Canary of the cashier.", tools=[pay])
ask_cashier = cashier.as_tool(tool_name="ask_cashier", tool_description="Ask the cashier.")
agent = Agent(name="Shop", instructions="Canary of the shop.", tools=[pay, ask_cashier])
'''


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A mock provider that somebody else wrote."""
    with start_aimock(tmp_path_factory.mktemp("aimock")) as peer:
        yield peer


@pytest.fixture
async def shop(aimock: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The name of a module with the agent, which speaks to the mock provider."""
    name = f"shop_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    async with openai.AsyncOpenAI(
        base_url=aimock.base_url, api_key=aimock.api_key, max_retries=0
    ) as client:
        agents.set_default_openai_client(client, use_for_tracing=False)
        agents.set_default_openai_api("chat_completions")
        yield name
        agents.set_default_openai_api("responses")


@pytest.fixture
async def node(start: StartNode, shop: str) -> Node:
    """A node that is answered for by the agent."""
    return await start(RESPONDER=f"{shop}:agent")


def paid(shop: str) -> list[tuple[str | None, int]]:
    """Return for whom the tool was run."""
    found: list[tuple[str | None, int]] = sys.modules[shop].paid
    return found


async def ask(client: Client, text: str = "pay it") -> tuple[str, dict[str, Any]]:
    """Ask by the AI SDK's route; return the conversation and the answer that is kept."""
    chat = str(uuid4())
    message = {"role": "user", "parts": [{"type": "text", "text": text}]}
    answer = await client.post("/api/chat", {"id": chat, "message": message})
    assert answer.status == 200, answer.text
    return chat, await newest(client, chat)


async def newest(client: Client, chat: str) -> dict[str, Any]:
    """Return the newest message of a conversation."""
    found: dict[str, Any] = (await client.get(f"/api/v1/chat/{chat}")).json["messages"][-1]
    return found


def tools_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of *message* that are tools."""
    return [part for part in message["parts"] if part["type"] == "dynamic-tool"]


async def decide(
    client: Client, chat: str, message: dict[str, Any], *, approved: bool, **more: object
) -> Answer:
    """Send *message* back with a yes or no to every tool that waits for one."""
    parts = [
        {**part, "approval": {**part["approval"], "approved": approved}, **more}
        if part.get("state") == "approval-requested"
        else part
        for part in message["parts"]
    ]
    back = {"id": message["id"], "role": "assistant", "parts": parts}
    return await client.post("/api/chat", {"id": chat, "messages": [back]})


async def by_ai_sdk(node: Node, person: Person, *, approved: bool) -> str:
    """Ask, decide, and return everything that was shown then."""
    chat, message = await ask(person.client)
    assert tools_of(message)[0]["state"] == "approval-requested"
    assert paid_nothing_yet(node, person)
    answer = await decide(person.client, chat, message, approved=approved)
    assert (await newest(person.client, chat))["status"] == "done"
    return answer.text


async def by_chatkit(node: Node, person: Person, *, approved: bool) -> str:
    """Ask, decide, and return everything that was shown then."""
    kit = Kit(person.client)
    thread, events = await kit.create("pay it")
    asked = done_items(events)[-1]
    assert (asked["type"], asked["status"]) == ("structured_input", "pending")
    assert paid_nothing_yet(node, person)
    values = ["Allow" if approved else "Do not allow"]
    return str(
        await kit.stream(
            "threads.add_structured_input",
            thread_id=thread,
            item_id=asked["id"],
            input={"answers": {asked["inputs"][0]["id"]: {"values": values}}},
        )
    )


async def by_responses(node: Node, person: Person, *, approved: bool) -> str:
    """Ask, decide, and return everything that was shown then."""
    async with client_of(node, key_of(person)) as client:
        first = await client.responses.create(model=MODEL, input="pay it")
        asked = first.output[-1]
        assert asked.type == "mcp_approval_request"
        assert paid_nothing_yet(node, person)
        said: Any = {
            "type": "mcp_approval_response",
            "approval_request_id": asked.id,
            "approve": approved,
        }
        second = await client.responses.create(
            model=MODEL, input=[said], previous_response_id=first.id
        )
    return str(second.to_dict())


def paid_nothing_yet(node: Node, person: Person) -> bool:
    """Whether nothing was run for *person*."""
    name = str(node.services.settings.responder).partition(":")[0]
    return person.id not in dict(paid(name))


BY = {"ai_sdk": by_ai_sdk, "chatkit": by_chatkit, "responses": by_responses}


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("surface", SURFACES)
async def test_tool_of_an_agent_waits_for_the_persons_yes(
    node: Node, shop: str, aimock: Peer, surface: str, approved: bool
) -> None:
    """Nothing runs before, a no is told to the agent's model, and the answer goes on."""
    ana = node.person()
    shown = await BY[surface](node, ana, approved=approved)
    assert HEARD in shown or all(word in shown for word in HEARD.split())
    assert paid(shop) == ([(ana.id, 7)] if approved else [])
    heard = aimock.received()[-1]["messages"][-1]
    assert heard["role"] == "tool"
    assert heard["content"] == ("Paid 7." if approved else "Tool execution was not approved.")


async def test_answer_of_an_agent_says_what_became_of_its_tools(node: Node) -> None:
    """As the client was told; and nothing of where the agent stands is shown to anybody."""
    ana = node.person()
    for approved, state in ((True, "output-available"), (False, "output-denied")):
        chat, message = await ask(ana.client)
        await decide(ana.client, chat, message, approved=approved)
        message = await newest(ana.client, chat)
        (tool,) = tools_of(message)
        assert (tool["state"], tool["input"]) == (state, {"order": 7})
        assert (tool.get("output") == "Paid 7.") == approved
        assert [one["type"] for one in message["parts"]][-2:] == ["step-start", "text"]
        assert message["content"] == HEARD
        export = (await ana.client.get(f"/api/v1/chat/{chat}/export")).text
        assert "schemaVersion" not in export
        assert "Canary" not in export
        month = (await ana.client.get("/api/usage")).json["this_month"]
        assert int(month["completion_tokens"]) > 0


async def test_arguments_are_those_that_the_person_was_shown(node: Node, shop: str) -> None:
    """What a client sends as input is not looked at, and a forged output runs nothing."""
    ana = node.person().client
    chat, message = await ask(ana)
    (tool,) = tools_of(message)
    forged = {**message, "parts": [{**tool, "state": "output-available", "output": "Paid 7."}]}
    refused = await ana.post("/api/chat", {"id": chat, "messages": [forged]})
    assert refused.status == 422
    await decide(ana, chat, message, approved=True, input={"order": 999})
    assert [order for _, order in paid(shop)] == [7]


async def test_yes_that_ten_say_at_once_runs_it_once(node: Node, shop: str) -> None:
    """On every device, and with a no among them."""
    ana = node.person()
    chat, message = await ask(ana.client)
    answers = await asyncio.gather(
        *(decide(ana.client, chat, message, approved=number < 9) for number in range(10))
    )
    assert {one.status for one in answers} <= {200, 409, 422}
    assert len(paid(shop)) <= 1
    (tool,) = tools_of(await newest(ana.client, chat))
    assert (tool["state"] == "output-available") == (len(paid(shop)) == 1)


async def test_other_node_goes_on_where_the_agent_stood(
    node: Node, start: StartNode, shop: str
) -> None:
    """It is in the database, so it outlives the server that asked."""
    other = await start(RESPONDER=f"{shop}:agent")
    ana = node.person()
    chat, message = await ask(ana.client)
    there = other.nobody(**ana.client.headers)
    assert HEARD in (await newest_after(there, chat, message))["content"]
    assert paid(shop) == [(ana.id, 7)]


async def newest_after(client: Client, chat: str, message: dict[str, Any]) -> dict[str, Any]:
    """Say yes, and return the answer then."""
    await decide(client, chat, message, approved=True)
    return await newest(client, chat)


async def test_agent_that_is_a_tool_asks_too(node: Node, shop: str) -> None:
    """The person sees what it wants to do, and only then it is done."""
    ana = node.person()
    chat, message = await ask(ana.client, "hand it on")
    outer, inner = tools_of(message)
    assert (outer["toolName"], outer["state"]) == ("ask_cashier", "output-available")
    assert (inner["toolName"], inner["input"]) == ("pay", {"order": 7})
    assert inner["state"] == "approval-requested"
    assert paid(shop) == []
    after = await newest_after(ana.client, chat, message)
    assert paid(shop) == [(ana.id, 7)]
    assert "Heard: hand it on." in after["content"]
    outer, inner = tools_of(after)
    assert HEARD in outer["output"]
    assert inner["state"] == "output-available"


@pytest.mark.parametrize("lost", ["null", "'{}'", "'no JSON'", "'{\"original_input\": null}'"])
async def test_agent_that_is_not_where_it_stood_is_told_so(
    node: Node, shop: str, aimock: Peer, database: MigratedDatabase, lost: str
) -> None:
    """Another version of the SDK, or a copy of the conversation: nothing runs, and it goes on."""
    ana = node.person()
    chat, message = await ask(ana.client)
    with psycopg.connect(database.admin_url) as connection:
        connection.execute(
            f"update chat.runs set paused = {lost} where conversation_id = %s",  # noqa: S608 -- of this list
            [chat],
        )
    after = await newest_after(ana.client, chat, message)
    assert (after["status"], after["content"]) == ("done", HEARD)
    assert paid(shop) == []
    assert tools_of(after)[0]["state"] == "output-error"
    assert "not run" in aimock.received()[-1]["messages"][-1]["content"]


async def test_where_an_agent_stood_is_kept_until_it_goes_on(
    node: Node, database: MigratedDatabase
) -> None:
    """And without the conversation, which is kept already."""
    ana = node.person()
    chat, message = await ask(ana.client)
    stands = "select paused from chat.runs where conversation_id = %s and paused is not null"
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        ((paused,),) = connection.execute(stands, [chat]).fetchall()
        assert "pay it" not in paused
        assert "Canary" not in paused
        await decide(ana.client, chat, message, approved=True)
        assert connection.execute(stands, [chat]).fetchall() == []


async def test_where_nothing_is_kept_nobody_is_asked(node: Node, shop: str) -> None:
    """The tool is denied, and the answer goes on without it."""
    ana = node.person()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "pay it"}]}
    answer = await ana.client.post("/v1/chat/completions", body)
    assert answer.json["choices"][0]["message"]["content"] == HEARD
    assert paid(shop) == []


async def test_state_that_is_too_large_is_not_kept(
    node: Node, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer fails, and says so."""
    monkeypatch.setattr("chatkeep.adapters.agent_pauses._AT_MOST", 100)
    _, message = await ask(node.person().client)
    assert (message["status"], message["error"]["code"]) == ("failed", "model_broken")
    assert "approval" not in tools_of(message)[0]
    assert paid(shop) == []
