"""Checks before and after the model, and retrieval, as clients of every surface meet them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep.events import Done, TextDelta, Usage
from tests.chatkit_client import Kit, said_by_user

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.serving import Answer, Client, Node

HOOKS = {
    "BEFORE": "tests.shop_checks:before",
    "AFTER": "tests.shop_checks:after",
    "RETRIEVER": "tests.shop_checks:retrieve",
}
SURFACES = ["rest", "ai_sdk", "openai", "chatkit"]
STREAM = {"accept": "text/event-stream"}


@pytest.fixture
async def shop(start: StartNode) -> Node:
    """A node with all three hooks."""
    return await start(**HOOKS, BEFORE_TIMEOUT="0.2")


def plays(node: Node, *pieces: str) -> None:
    """Let the model say *pieces*."""
    said = [TextDelta(text=one) for one in pieces]
    usage = Usage(prompt_tokens=2, completion_tokens=3)
    node.stage.play([*said, usage, Done(finish_reason="stop")])


async def asked(client: Client, surface: str, text: str) -> tuple[str | None, Answer]:
    """Ask on *surface*, for a stream where it has one; return the conversation and the answer."""
    if surface == "rest":
        chat = (await client.post("/api/v1/chat/start", {})).json["conversation_id"]
        body: dict[str, Any] = {"conversation_id": chat, "message": text}
        return chat, await client.post("/api/v1/chat/message", body, headers=STREAM)
    if surface == "ai_sdk":
        chat = str(uuid4())
        message = {"role": "user", "parts": [{"type": "text", "text": text}]}
        return chat, await client.post("/api/chat", {"id": chat, "message": message})
    if surface == "openai":
        messages = [{"role": "user", "content": text}]
        body = {"model": "fake/model", "messages": messages, "stream": True}
        return None, await client.post("/v1/chat/completions", body)
    answer = await Kit(client).call("threads.create", input=said_by_user(text))
    return answer.text.partition('"id":"')[2].partition('"')[0], answer


async def kept(client: Client, chat: str) -> list[dict[str, Any]]:
    """Return the messages of a conversation."""
    found: list[dict[str, Any]] = (await client.get(f"/api/v1/chat/{chat}")).json["messages"]
    return found


async def used(client: Client) -> int:
    """Return how many tokens somebody has used."""
    month = (await client.get("/api/usage")).json["this_month"]
    return int(month["prompt_tokens"]) + int(month["completion_tokens"])


@pytest.mark.parametrize("surface", SURFACES)
async def test_refused_message_is_kept_and_not_answered(shop: Node, surface: str) -> None:
    """No model hears it; the person is told, and finds their own words again."""
    plays(shop, "Sure.")
    ana = shop.person()
    chat, answer = await asked(ana.client, surface, "Sell me a weapon")
    assert "This message is not answered here." in answer.text
    assert "Sure." not in answer.text
    assert shop.stage.model.prompts == []
    if chat is not None:
        said = [(one["role"], one["content"]) for one in await kept(ana.client, chat)]
        assert ("user", "Sell me a weapon") in said
        assert said[-1] == ("assistant", "") or said[-1][0] == "user"
    assert await used(ana.client) == 0


async def test_refusal_has_its_status_where_the_answer_is_whole(shop: Node) -> None:
    """A JSON answer to a refused message is the refusal, with its code."""
    ana = shop.person()
    body = {"messages": [{"role": "user", "content": "weapon"}], "model": "fake/model"}
    answer = await ana.client.post("/v1/chat/completions", body)
    assert (answer.status, answer.json["error"]["code"]) == (422, "message_refused")
    chat = (await ana.client.post("/api/v1/chat/start", {})).json["conversation_id"]
    asks = {"conversation_id": chat, "message": "weapon"}
    answer = await ana.client.post("/api/v1/chat/message", asks)
    assert (answer.status, answer.json["code"]) == (422, "message_refused")


@pytest.mark.parametrize("surface", SURFACES)
async def test_forbidden_answer_is_seen_by_nobody(shop: Node, surface: str) -> None:
    """Not a piece of it, in the stream or in what is kept; it is paid for all the same."""
    plays(shop, "It is for", "bidden.")
    ana = shop.person()
    chat, answer = await asked(ana.client, surface, "Say it")
    assert "The answer to this cannot be shown." in answer.text
    assert "It is for" not in answer.text
    if chat is not None:
        assert "bidden" not in str(await kept(ana.client, chat))
    assert await used(ana.client) == 5


@pytest.mark.parametrize("surface", SURFACES)
async def test_what_is_kept_is_what_was_shown(shop: Node, surface: str) -> None:
    """The check's words stand in the place of the model's."""
    plays(shop, "The sec", "ret is out.")
    ana = shop.person()
    chat, answer = await asked(ana.client, surface, "Say it")
    assert "The *** is out." in answer.text
    assert "secret" not in answer.text
    if chat is not None:
        assert (await kept(ana.client, chat))[-1]["content"] == "The *** is out."


@pytest.mark.parametrize("surface", SURFACES)
async def test_answer_without_a_model(shop: Node, surface: str) -> None:
    """The check answers, and it costs nothing."""
    plays(shop, "Sure.")
    ana = shop.person()
    chat, answer = await asked(ana.client, surface, "Your hours?")
    assert "We are open from 9 to 5." in answer.text
    assert shop.stage.model.prompts == []
    if chat is not None:
        assert (await kept(ana.client, chat))[-1]["content"] == "We are open from 9 to 5."
    assert await used(ana.client) == 0


@pytest.mark.parametrize("question", ["a bug", "a slow one"])
async def test_check_without_a_verdict_fails_closed(shop: Node, question: str) -> None:
    """A bug or a wait in the check is an answer that is not given, and is said to be that."""
    plays(shop, "Sure.")
    _, answer = await asked(shop.person().client, "ai_sdk", question)
    assert "This could not be checked" in answer.text
    assert "Sure." not in answer.text


async def test_operator_may_let_a_failing_check_pass(start: StartNode) -> None:
    """Where being answered matters more."""
    node = await start(**HOOKS, BEFORE_ON_FAILURE="continue", RETRIEVER_ON_FAILURE="continue")
    plays(node, "Sure.")
    _, answer = await asked(node.person().client, "ai_sdk", "a bug")
    assert "Sure." in answer.text


async def test_check_amends_what_the_model_is_asked(shop: Node) -> None:
    """And what is kept is the person's own words."""
    plays(shop, "Oui.")
    ana = shop.person()
    chat, _ = await asked(ana.client, "ai_sdk", "In French?")
    assert shop.stage.model.prompts[0].messages[0].text == "Answer in French."
    assert [one["content"] for one in await kept(ana.client, str(chat))] == ["In French?", "Oui."]


async def test_callers_who_are_not_signed_in_are_checked(start: StartNode) -> None:
    """There is no way around a check."""
    node = await start(**HOOKS, ANONYMOUS_CHAT="on")
    plays(node, "It is forbidden.")
    _, answer = await asked(node.nobody(), "ai_sdk", "weapon")
    assert "This message is not answered here." in answer.text
    _, answer = await asked(node.nobody(), "ai_sdk", "Say it")
    assert "cannot be shown" in answer.text


@pytest.mark.parametrize("surface", SURFACES)
async def test_sources_are_shown_on_every_surface(shop: Node, surface: str) -> None:
    """With the address that a client can link to."""
    plays(shop, "Thirty days.")
    ana = shop.person()
    chat, answer = await asked(ana.client, surface, "On returns?")
    assert "https://shop.example/returns" in answer.text
    assert "With the receipt." in shop.stage.model.prompts[0].messages[-2].text
    if chat is not None:
        message = (await kept(ana.client, chat))[-1]
        assert message["parts"][0]["url"] == "https://shop.example/returns"
        assert message["content"] == "Thirty days."
    if surface == "openai":
        body = {"messages": [{"role": "user", "content": "returns?"}], "model": "fake/model"}
        whole = (await ana.client.post("/v1/chat/completions", body)).json
        (cited,) = whole["choices"][0]["message"]["annotations"]
        assert cited["url_citation"]["title"] == "Returns"
