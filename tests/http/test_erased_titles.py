"""What is erased of a conversation is gone from its title, too, unless somebody typed that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.http.test_openai_api import MODEL
from tests.http.test_titles_by_a_model import ask, asked_to_name, named_nothing_more, playing
from tests.serving import until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.serving import Client, Person, Stage

CHAT = "/api/v1/chat"
ITEMS = "/v1/conversations/{}/items"


async def title_of(client: Client, conversation: str) -> str | None:
    """Return what the list of conversations calls one."""
    listed = (await client.get(CHAT)).json["conversations"]
    (title,) = [one["title"] for one in listed if one["id"] == conversation.removeprefix("conv_")]
    return str(title) if title is not None else None


async def asked(client: Client, text: str, **more: Any) -> str:  # noqa: ANN401 -- any member
    """Ask as a client of the OpenAI API; return the id of the conversation."""
    made = await client.post("/v1/responses", {"model": MODEL, "input": text, **more})
    assert made.status == 200, made.text
    return str(made.json["conversation"]["id"])


async def erase(client: Client, conversation: str, number: int) -> None:
    """Erase an item by its place in the conversation."""
    path = ITEMS.format(conversation)
    items = (await client.get(f"{path}?order=asc")).json["data"]
    erased = await client.delete(f"{path}/{items[number]['id']}")
    assert erased.status == 200, erased.text


@pytest.mark.parametrize(
    ("question", "answer", "title", "number"),
    [
        ("Quixotic zebras danced.", "Fine.", "Quixotic zebras danced", 0),
        ("Hi", "Quixotic zebras danced.", "Quixotic zebras danced", 1),
        ("Quixotic zebras danced.", "Fine.", "Quixotic zebras danced", 1),
    ],
)
async def test_title_goes_with_the_exchange_that_it_was_made_of(
    ana: Person, stage: Stage, question: str, answer: str, title: str, number: int
) -> None:
    """With its question or its answer; what is asked next gives another."""
    stage.play([answer], ["Good."])
    chat = await asked(ana.client, question)
    assert await title_of(ana.client, chat) == title
    await erase(ana.client, chat, number)
    assert await title_of(ana.client, chat) is None
    await asked(ana.client, "Where do lions sleep?", conversation=chat)
    assert await title_of(ana.client, chat) == "Where do lions sleep?"


async def test_title_of_a_later_message_goes_with_that(ana: Person, stage: Stage) -> None:
    """The first ones named no subject; erasing another message leaves it as it is."""
    stage.play(["👋"], ["Good."], ["Better."])
    chat = await asked(ana.client, "Hi")
    for text in ("Quixotic zebras danced.", "And lions?"):
        await asked(ana.client, text, conversation=chat)
    assert await title_of(ana.client, chat) == "Quixotic zebras danced"
    await erase(ana.client, chat, 4)
    assert await title_of(ana.client, chat) == "Quixotic zebras danced"
    await erase(ana.client, chat, 2)
    assert await title_of(ana.client, chat) is None


async def test_title_that_somebody_typed_stays(ana: Person, stage: Stage) -> None:
    """It says what they wanted it to say."""
    stage.play(["Fine."])
    chat = await asked(ana.client, "Quixotic zebras danced.")
    own_id = chat.removeprefix("conv_")
    await ana.client.call("PATCH", f"{CHAT}/{own_id}", json={"title": "Zebras"})
    await erase(ana.client, chat, 0)
    assert await title_of(ana.client, chat) == "Zebras"


async def test_nothing_is_untitled_that_is_not_erased(ana: Person, stage: Stage) -> None:
    """As while it is answered."""
    gate = asyncio.Event()
    stage.play(["Fine."], ["Half", gate])
    chat = await asked(ana.client, "Quixotic zebras danced.")
    await asked(ana.client, "And lions?", conversation=chat, background=True)
    path = ITEMS.format(chat)
    items = (await ana.client.get(f"{path}?order=asc")).json["data"]
    assert (await ana.client.delete(f"{path}/{items[0]['id']}")).status == 409
    assert await title_of(ana.client, chat) == "Quixotic zebras danced"
    gate.set()


async def test_title_that_a_model_is_making_of_it_is_not_given(start: StartNode) -> None:
    """It has the words before it, and comes too late."""
    naming = await start(TITLE_MODEL="cheap/namer")
    ana, gate = naming.person(), asyncio.Event()
    model = playing(naming, ["Quixotic", gate, " zebras"])
    chat = await ask(ana.client, "Quixotic zebras danced.", str(uuid4()))
    await until(lambda: len(asked_to_name(model)) == 1)
    await erase(ana.client, f"conv_{chat}", 0)
    gate.set()
    await named_nothing_more(naming)
    assert await title_of(ana.client, chat) is None
