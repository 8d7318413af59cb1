"""Answers written for something else: an agent of the OpenAI Agents SDK, a `ChatKitServer`.

The agent is run by the SDK's own `Runner` against a provider that nobody here wrote.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import agents
import openai
import pytest

from tests.chatkit_client import Kit, said_by_user
from tests.page_packages import package_of
from tests.peers import SHORT, Peer, start_aimock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.http.conftest import StartNode
    from tests.serving import Answer, Client

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "answer-yourself.md"
SURFACES = ["rest", "ai_sdk", "openai", "chatkit"]
MODEL = "fake/model"


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A mock provider that somebody else wrote."""
    with start_aimock(tmp_path_factory.mktemp("aimock"), latency_ms=5) as peer:
        yield peer


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that has the modules of the page; its name."""
    modules = {name: module_of_the_page(name) for name in ("agent", "with_context", "support")}
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return package_of(tmp_path, modules)


def module_of_the_page(name: str) -> str:
    """Return the module that the page calls so."""
    shown = re.compile(rf"^ *```python\n *# shop/{name}.py\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
    found = shown.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return textwrap.dedent(found[1])


@pytest.fixture
async def provided(aimock: Peer) -> AsyncIterator[Peer]:
    """Let the SDK's agents speak to the mock provider, as OPENAI_BASE_URL would."""
    async with openai.AsyncOpenAI(
        base_url=f"{aimock.base_url}", api_key=aimock.api_key, max_retries=0
    ) as client:
        agents.set_default_openai_client(client, use_for_tracing=False)
        agents.set_default_openai_api("chat_completions")
        yield aimock
        agents.set_default_openai_api("responses")


async def ask(client: Client, surface: str, text: str, chat: str = "") -> tuple[str, Answer]:
    """Ask on *surface*; return the conversation and the answer."""
    chat = chat or str(uuid4())
    message = {"role": "user", "parts": [{"type": "text", "text": text}]}
    match surface:
        case "rest":
            chat = (await client.post("/api/v1/chat/start", {})).json["conversation_id"]
            body: dict[str, Any] = {"conversation_id": chat, "message": text}
            return chat, await client.post("/api/v1/chat/message", body)
        case "ai_sdk":
            return chat, await client.post("/api/chat", {"id": chat, "message": message})
        case "openai":
            messages = [{"role": "user", "content": text}]
            body = {"model": MODEL, "messages": messages}
            return "", await client.post("/v1/chat/completions", body)
    answer = await Kit(client).call("threads.create", input=said_by_user(text))
    return answer.text.partition('"id":"')[2].partition('"')[0], answer


async def newest(client: Client, chat: str) -> dict[str, Any]:
    """Return the newest message of a conversation."""
    found: dict[str, Any] = (await client.get(f"/api/v1/chat/{chat}")).json["messages"][-1]
    return found


@pytest.mark.parametrize("surface", SURFACES)
async def test_agent_of_the_page_answers_everywhere(
    start: StartNode, shop: str, provided: Peer, surface: str
) -> None:
    """Nothing of it is changed; what it says is streamed, kept and counted."""
    node = await start(RESPONDER=f"{shop}.agent:agent")
    ana = node.person()
    chat, answer = await ask(ana.client, surface, "Say something short")
    assert answer.status == 200, answer.text
    if surface in {"rest", "openai"}:  # the others have it in pieces
        assert SHORT in answer.text
    if chat:
        message = await newest(ana.client, chat)
        assert message["content"] == SHORT
    month = (await ana.client.get("/api/usage")).json["this_month"]
    assert int(month["completion_tokens"]) > 0
    sent = provided.received()[-1]
    assert sent["messages"][0] == {"role": "system", "content": "Help with orders."}


@pytest.mark.parametrize("name", ["agent:agent", "with_context:responder"])
async def test_agent_is_given_the_conversation_as_it_is_stored(
    start: StartNode, shop: str, provided: Peer, name: str
) -> None:
    """The second question comes with the first and its answer."""
    node = await start(RESPONDER=f"{shop}.{name}")
    ana = node.person().client
    chat, _ = await ask(ana, "ai_sdk", "First")
    await ask(ana, "ai_sdk", "Second", chat)
    said = [one["content"] for one in provided.received()[-1]["messages"][1:]]
    assert said == ["First", SHORT, "Second"]


async def test_tools_of_an_agent_know_who_asks(start: StartNode, shop: str, provided: Peer) -> None:
    """They run inside of the SDK, as the caller, and what they say is kept."""
    module = sys.modules
    node = await start(RESPONDER=f"{shop}.agent:agent")
    agent = module[f"{shop}.agent"].agent

    @agents.function_tool(name_override="get_weather")
    async def weather(wrapper: agents.RunContextWrapper[Any], city: str) -> str:
        """Say how the weather is."""
        return f"{city} for {wrapper.context.who.user_id}"

    agent.tools = [weather]
    agent.tool_use_behavior = "stop_on_first_tool"
    ana = node.person()
    chat, _ = await ask(ana.client, "ai_sdk", "weather tool")
    message = await newest(ana.client, chat)
    (tool,) = [part for part in message["parts"] if part["type"] == "dynamic-tool"]
    assert (tool["toolName"], tool["input"]) == ("get_weather", {"city": "Paris"})
    assert tool["output"].startswith("Paris for ")
    assert tool["output"].endswith(ana.id)


async def test_stopped_agent_stops(start: StartNode, shop: str, provided: Peer) -> None:
    """The run is cancelled, and what it had said is kept."""
    node = await start(RESPONDER=f"{shop}.agent:agent")
    ana = node.person().client
    chat = str(uuid4())
    message = {"role": "user", "parts": [{"type": "text", "text": "a long one"}]}
    async with ana.stream("/api/chat", {"id": chat, "message": message}) as stream:
        await stream.until(lambda event: "text-delta" in str(event.data))
        assert (await ana.post(f"/api/chat/{chat}/stop")).status == 200
    kept = await newest(ana, chat)
    assert kept.get("status") == "stopped", kept
    assert 0 < len(kept["content"]) < 1000
    assert provided


@pytest.mark.parametrize(
    ("words", "code"),
    [("error 429", "model_rate_limited"), ("error 500", "model_unavailable")],
)
async def test_failure_of_the_agents_provider_has_our_words(
    start: StartNode, shop: str, provided: Peer, words: str, code: str
) -> None:
    """And never the provider's."""
    node = await start(RESPONDER=f"{shop}.agent:agent")
    _, answer = await ask(node.person().client, "openai", words)
    assert answer.json["error"]["code"] == code
    assert provided


async def test_guardrail_of_an_agent_is_a_refusal(
    start: StartNode, shop: str, provided: Peer
) -> None:
    """With the code that our own check would have."""
    node = await start(RESPONDER=f"{shop}.agent:agent")

    @agents.input_guardrail
    async def no_weapons(*_: Any) -> agents.GuardrailFunctionOutput:  # noqa: ANN401 -- the SDK's signature
        return agents.GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    sys.modules[f"{shop}.agent"].agent.input_guardrails = [no_weapons]
    _, answer = await ask(node.person().client, "openai", "Hello")
    assert answer.json["error"]["code"] == "message_refused"
    assert provided


@pytest.mark.parametrize("surface", SURFACES)
async def test_chatkit_server_of_the_page_answers_everywhere(
    start: StartNode, shop: str, surface: str
) -> None:
    """With the conversation as its store, and who asks in its context."""
    node = await start(RESPONDER=f"{shop}.support:Support")
    ana = node.person()
    chat, answer = await ask(ana.client, surface, "Hello")
    assert f"{ana.id} said as number" in answer.text
    assert ": Hello" in answer.text
    if chat:
        assert (await newest(ana.client, chat))["content"].endswith(": Hello")


async def test_chatkit_servers_of_two_people_see_their_own_conversations(
    start: StartNode, shop: str
) -> None:
    """The one server answers both, at the same time."""
    node = await start(RESPONDER=f"{shop}.support:Support")
    ana, bo = node.person(), node.person("ES256")
    chat, _ = await ask(ana.client, "ai_sdk", "One")
    for count, words in ((3, "Two"), (5, "Three")):
        _, answer = await ask(ana.client, "ai_sdk", words, chat)
        assert f"number {count}: {words}" in json.dumps(answer.text)
    _, answer = await ask(bo.client, "ai_sdk", "Mine")
    assert "number 1: Mine" in answer.text
    assert "Two" not in answer.text
