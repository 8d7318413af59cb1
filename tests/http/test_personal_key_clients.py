"""Unmodified clients with a personal API key: OpenAI's in Python and Node.js, `ai`, ChatKit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.chatkit_client import Kit, said_by_user
from tests.http.test_ai_sdk_client import STEPS, Echo
from tests.http.test_conversations import CHAT
from tests.http.test_openai_api import HELLO, MODEL, client_of
from tests.http.test_personal_keys import KEYS, make, with_key
from tests.stories import lines_of, told_by

if TYPE_CHECKING:
    from tests.serving import Node, Person, Stage

HERE = Path(__file__).parent
STORY = HERE / "personal_key_story.mjs"


async def said_in(url: str, key: str) -> dict[str, Any]:
    """Return what the client in Node.js said at each step with this *key*."""
    return {line["step"]: line["said"] for line in await lines_of(STORY, url, key)}


async def test_openai_for_python_chats_with_a_key_until_it_is_revoked(
    node: Node, ana: Person, stage: Stage
) -> None:
    """Models, a whole answer and a stream; then the error that its callers know."""
    stage.play(["Hel", "lo!"], ["Hel", "lo!"])
    made = await make(ana.client, "chat", "models:read")
    async with client_of(node, made["key"]) as client:
        assert MODEL in [one.id async for one in client.models.list()]
        whole = await client.chat.completions.create(model=MODEL, messages=HELLO)
        assert whole.choices[0].message.content == "Hello!"
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        pieces = [one.choices[0].delta.content or "" async for one in stream if one.choices]
        assert "".join(pieces) == "Hello!"
        await ana.client.delete(f"{KEYS}/{made['id']}")
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()
        assert refused.value.code == "invalid_api_key"


async def test_openai_for_python_is_told_which_scope_is_missing(node: Node, ana: Person) -> None:
    """A 403 of the kind it knows, whose message names the scope; nothing is tried again."""
    made = await make(ana.client, "models:read")
    async with client_of(node, made["key"]) as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert refused.value.code == "insufficient_scope"
    assert "chat" in refused.value.message
    assert refused.value.response.headers["x-should-retry"] == "false"


async def test_openai_for_node_chats_with_a_key(node: Node, ana: Person, stage: Stage) -> None:
    """The same in Node.js; a key for other things and a mistyped one are told apart."""
    stage.play(["Hel", "lo!"], ["Hel", "lo!"])
    made = await make(ana.client, "chat", "models:read")
    good = await said_in(node.url, made["key"])
    assert good == {"models": True, "whole": "Hello!", "streamed": "Hello!"}
    other = await make(ana.client, "usage:read")
    refused = await said_in(node.url, other["key"])
    assert set(map(tuple, refused.values())) == {
        ("PermissionDeniedError", 403, "insufficient_scope")
    }
    mistyped = await said_in(node.url, made["key"][:-1])
    assert set(map(tuple, mistyped.values())) == {("AuthenticationError", 401, "invalid_api_key")}


async def test_the_whole_story_of_the_ai_sdk_works_with_a_key(node: Node, ana: Person) -> None:
    """Submitting, regenerating, editing, stopping and resuming, as with a token."""
    node.stage.model = Echo()  # type: ignore[assignment]  # a stage plays any model
    made = await make(ana.client, "chat", "conversations:read", "conversations:write")
    steps = await told_by(HERE / "ai_sdk_story.mjs", node.url, made["key"], "ai")
    assert steps == dict.fromkeys(STEPS)


async def test_chatkit_works_with_a_key_that_may_read_and_write(
    node: Node, ana: Person, stage: Stage
) -> None:
    """A thread is begun and listed; a key that may only ask is refused before anything begins."""
    stage.play(["Hel", "lo!"])
    made = await make(ana.client, "chat", "conversations:read", "conversations:write")
    kit = Kit(with_key(node, made))
    events = await kit.stream("threads.create", input=said_by_user("Hello?"))
    assert events[0]["type"] == "thread.created"
    listed = await kit.call("threads.list")
    assert listed.status == 200
    assert len(listed.json["data"]) == 1
    asking = Kit(with_key(node, await make(ana.client, "chat")))
    refused = await asking.call("threads.list")
    assert (refused.status, refused.json["code"]) == (403, "insufficient_scope")
    assert refused.json["scope"] == "conversations:read conversations:write"


async def test_what_a_key_said_is_in_its_owners_chats(
    node: Node, ana: Person, stage: Stage
) -> None:
    """Over every surface it is one person's list."""
    stage.play(["Hello."])
    made = await make(ana.client, "chat")
    client = with_key(node, made)
    begun = await client.post(f"{CHAT}/start", {})
    said = await client.post(
        f"{CHAT}/message",
        {"conversation_id": begun.json["conversation_id"], "message": "Hello"},
    )
    assert said.status == 200, said.text
    found = await ana.client.get(f"{CHAT}/{begun.json['conversation_id']}")
    assert [one["role"] for one in found.json["messages"]][-2:] == ["user", "assistant"]
