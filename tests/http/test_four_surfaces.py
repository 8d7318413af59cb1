"""One conversation, four surfaces, each with its real client: all of them see all of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from chatkeep.testing import FakeModel
from tests.chatkit_client import Kit, said_by_user, text_of
from tests.http.test_openai_api import MODEL, client_of, key_of
from tests.stories import lines_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import openai

    from chatkeep.llm.model import Prompt
    from chatkeep.testing import Step
    from tests.serving import Node, Person

STORY = Path(__file__).with_name("four_surfaces.mjs")


def echo(prompt: Prompt) -> Sequence[Step]:
    """Say again what was asked, and how much was said before."""
    return [f"{len(prompt.messages)}: ", prompt.messages[-1].text]


async def use_chat(node: Node, person: Person, chat: str, words: str) -> list[str]:
    """Send *words* as `useChat` does; return the texts of all messages that it has then."""
    (texts,) = await lines_of(STORY, node.url, key_of(person), chat, words)
    return list(texts)


async def texts_of(client: openai.AsyncOpenAI, conversation: str) -> list[str]:
    """Return what OpenAI's client sees."""
    items: Any = client.conversations.items.list(conversation, order="asc", limit=3)
    return [item.content[0].text async for item in items]


async def test_a_conversation_goes_round_all_surfaces(node: Node, ana: Person) -> None:
    """Begun in `useChat`, gone on with in ChatKit, over REST and by OpenAI's client, and back."""
    node.stage.model = FakeModel(answer=echo)
    chat = str(uuid4())
    kit = Kit(ana.client)

    spoken = ["One", "1: One"]
    assert await use_chat(node, ana, chat, "One") == spoken

    await kit.stream("threads.add_user_message", thread_id=chat, input=said_by_user("Two"))
    spoken += ["Two", "3: Two"]
    assert [text_of(item) for item in await kit.items(chat)] == spoken

    sent = await ana.client.post(
        "/api/v1/chat/message", {"conversation_id": chat, "message": "Three"}
    )
    spoken += ["Three", sent.json["message"]]
    assert sent.json["message"] == "5: Three"

    async with client_of(node, key_of(ana)) as client:
        conversation = f"conv_{chat}"
        assert await texts_of(client, conversation) == spoken
        made = await client.responses.create(model=MODEL, conversation=conversation, input="Four")
        spoken += ["Four", made.output_text]
        assert made.output_text == "7: Four"
        completed = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Five"}],
            store=True,
            metadata={"conversation_id": conversation},
        )
        spoken += ["Five", completed.choices[0].message.content or ""]
        assert spoken[-1] == "9: Five"

        spoken += ["Six", "11: Six"]
        assert await use_chat(node, ana, chat, "Six") == spoken
        assert await texts_of(client, conversation) == spoken

    assert [text_of(item) for item in await kit.items(chat)] == spoken
    page = (await ana.client.get(f"/api/v1/chat/{chat}")).json
    assert [one["content"] for one in page["messages"]] == spoken
    assert [one["role"] for one in page["messages"]] == ["user", "assistant"] * 6
    listed = (await ana.client.get("/api/v1/chat")).json["conversations"]
    assert [(one["id"], one["title"]) for one in listed] == [(chat, "One")]
