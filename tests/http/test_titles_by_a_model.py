"""Titles by a model: after the first answer, charged, cleaned, told, and never over a typed one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from chatkeep.answering import titling
from chatkeep.answering.titles import cleaned
from chatkeep.budgets.overview import UsedOfModel
from chatkeep.db import as_user
from chatkeep.errors import ModelUnavailable
from chatkeep.events import TextDelta, Usage
from tests.serving import types, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.llm.model import Prompt
    from chatkeep.testing import FakeModel, Step
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Client, Node, Person

CHAT = "/api/v1/chat"
UI = "/api/chat"
NAMER = "cheap/namer"


@pytest.fixture
async def naming(start: StartNode) -> Node:
    """A node where a model names conversations."""
    return await start(TITLE_MODEL=NAMER)


def playing(node: Node, title: list[Step], answer: str = "Fine.") -> FakeModel:
    """Let *node* answer with *answer*, and name conversations with *title*."""

    def script(prompt: Prompt) -> list[Step]:
        return title if prompt.settings.model == NAMER else [answer]

    return node.stage.play(answer=script)


def asked_to_name(model: FakeModel) -> list[Prompt]:
    """Return what the naming model was given."""
    return [one for one in model.prompts if one.settings.model == NAMER]


async def ask(client: Client, text: str, chat: str | None = None) -> str:
    """Ask in a new conversation, or in *chat*; return its id."""
    chat = chat or str(uuid4())
    message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": text}]}
    async with client.stream(UI, {"id": chat, "message": message}) as stream:
        assert types(await stream.rest())[-1] == "[DONE]"
    return chat


async def title_of(client: Client, chat: str) -> str | None:
    """Return what a conversation is called."""
    title: str | None = (await client.get(f"{CHAT}/{chat}")).json["title"]
    return title


def called(client: Client, chat: str, title: str) -> Callable[[], Any]:
    """Whether a conversation is called *title*."""

    async def is_called() -> bool:
        return await title_of(client, chat) == title

    return is_called


async def named_nothing_more(node: Node) -> None:
    """Return when nothing is being named."""
    await until(lambda: not node.services.titling._tasks)


async def test_without_the_setting_no_model_is_asked(node: Node, ana: Person) -> None:
    """The title is the question's beginning."""
    model = playing(node, ["Never"])
    chat = await ask(ana.client, "How do I bake bread? It should be dark.")
    await named_nothing_more(node)
    assert await title_of(ana.client, chat) == "How do I bake bread?"
    assert len(model.prompts) == 1


async def test_first_answer_is_named_without_waiting_for_the_name(naming: Node) -> None:
    """The answer ends while the model still thinks of a title; later answers are not named."""
    ana, gate = naming.person(), asyncio.Event()
    model = playing(naming, ["Dark", gate, " bread"])
    chat = await ask(ana.client, "How do I bake bread?")
    assert await title_of(ana.client, chat) == "How do I bake bread?"
    await until(lambda: len(asked_to_name(model)) == 1)
    prompt = asked_to_name(model)[0]
    assert "How do I bake bread?" in prompt.messages[-1].text
    assert "Fine." in prompt.messages[-1].text
    assert prompt.settings.max_tokens is not None
    assert ana.id not in str(prompt)
    gate.set()
    await until(called(ana.client, chat, "Dark bread"))
    await ask(ana.client, "And then?", chat)
    await ask(ana.client, "And now?", chat)
    await named_nothing_more(naming)
    assert len(asked_to_name(model)) == 1


async def test_typed_title_is_never_written_over(naming: Node) -> None:
    """Typed while the model thinks, even with the very words that were there: it stays."""
    for typed in ("Mine", "How do I bake bread?"):
        ana, gate = naming.person(), asyncio.Event()
        model = playing(naming, [gate, "Theirs"])
        chat = await ask(ana.client, "How do I bake bread?")
        await until(lambda model=model: bool(asked_to_name(model)))  # type: ignore[misc]  # bound at once
        assert (await ana.client.patch(f"{CHAT}/{chat}", {"title": typed})).status == 200
        gate.set()
        await named_nothing_more(naming)
        assert await title_of(ana.client, chat) == typed


async def test_title_that_is_typed_at_the_same_moment_stays(
    naming: Node, database: MigratedDatabase
) -> None:
    """The model's title waits for the lock that the person's change holds, and then is dropped."""
    ana = naming.person()
    playing(naming, ["Never"], "Fine.")
    chat = await ask(ana.client, "How do I bake bread?")
    await named_nothing_more(naming)
    await naming.services.db.execute(
        as_user(ana.id), "update chat.conversations set title = 'Auto' where id = %s", [chat]
    )
    async with await psycopg.AsyncConnection.connect(database.admin_url) as person:
        await person.execute(
            "update chat.conversations set title = 'Auto', title_typed = true where id = %s", [chat]
        )
        racing = asyncio.create_task(
            titling.give_title(naming.services.db, ana.id, chat, "Theirs", seen="Auto")
        )
        await until(lambda: database.waiting_for_locks() > 0)
        await person.commit()
    assert await racing is False
    assert await title_of(ana.client, chat) == "Auto"


async def test_title_is_charged_to_whose_conversation_it_is(start: StartNode) -> None:
    """It stands in their usage under its model; who has nothing left keeps the plain title."""
    naming = await start(TITLE_MODEL=NAMER, BUDGET_TOKENS_PER_DAY="3000")
    ana = naming.person()
    playing(naming, [TextDelta(text="Dark bread"), Usage(prompt_tokens=70, completion_tokens=3)])
    chat = await ask(ana.client, "How do I bake bread?")
    await until(called(ana.client, chat, "Dark bread"))
    used = await naming.services.db.fetch(
        as_user(ana.id),
        "select model, answers, prompt_tokens, completion_tokens, cost from chat.usage"
        " where model = %s",
        [NAMER],
        row=UsedOfModel,
    )
    assert [(one.prompt_tokens, one.completion_tokens) for one in used] == [(70, 3)]
    poor = await start(TITLE_MODEL=NAMER, BUDGET_TOKENS_PER_DAY="200")
    bo = poor.person()
    model = playing(poor, ["Never"], "word " * 60)
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Why is it so?"}]}
    chat = str(uuid4())
    async with bo.client.stream(UI, {"id": chat, "message": message, "max_tokens": 90}) as stream:
        await stream.rest()
    await named_nothing_more(poor)
    assert asked_to_name(model) == []
    assert await title_of(bo.client, chat) == "Why is it so?"


@pytest.mark.parametrize("fault", ["fails", "says nothing", "never ends"])
async def test_model_that_fails_leaves_the_title_as_it_was(
    naming: Node, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is waited for longer than it may take, and nothing is heard of it."""
    monkeypatch.setattr(titling, "_WITHIN_S", 0.3)
    steps: dict[str, list[Step]] = {
        "fails": [ModelUnavailable()],
        "says nothing": ["\n \n"],
        "never ends": ["Dark", asyncio.Event()],
    }
    ana = naming.person()
    model = playing(naming, steps[fault])
    chat = await ask(ana.client, "How do I bake bread?")
    await until(lambda: bool(asked_to_name(model)))
    await named_nothing_more(naming)
    assert await title_of(ana.client, chat) == "How do I bake bread?"
    assert model.running == 0


async def test_whoever_watches_on_any_node_hears_of_the_title(
    naming: Node, start: StartNode
) -> None:
    """An event with the conversation's id, and nothing to anybody else."""
    other = await start(TITLE_MODEL=NAMER)
    ana, bo = naming.person(), naming.person()
    playing(naming, ["Dark bread"])
    watch = "/api/sessions/watch"
    async with (
        ana.client.but(url=other.url).stream(watch, method="GET") as hers,
        bo.client.but(url=other.url).stream(watch, method="GET") as his,
    ):
        await until(lambda: len(other.services.titling._watchers) == 2)
        chat = await ask(ana.client, "How do I bake bread?")
        event = await hers.next()
        assert event is not None
        assert (event.name, event.data) == ("titled", {"conversation_id": chat})
        assert await title_of(ana.client, chat) == "Dark bread"
        assert b"titled" not in his.raw
        other.services.titling.told("no json")
        other.services.titling.told('["x"]')
    await until(lambda: not other.services.titling._watchers)


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("Dark bread", "Dark bread"),
        ("\n\n  “Dark bread.”  \nand more", "Dark bread"),
        ("**Title:** Dark *bread*", "Dark bread"),
        ("# Title: `Dark bread`", "Dark bread"),
        ("<b>Dark</b> <script>bread</script>", "Dark bread"),
        ("[Dark bread](javascript:alert(1))", "Dark bread"),
        ("Dark\x00\x1b[31m br\u202eead\u200b", "Dark[31m bread"),
        ("Titles: how to choose them", "Titles: how to choose them"),
        ("…", None),
        ("", None),
        ("word " * 40, " ".join(["word"] * 12) + "…"),
        ("<" * 100_000, None),
    ],
)
def test_title_is_one_plain_line(said: str, title: str | None) -> None:
    """No markup, no control characters, no quotation marks, and 60 characters at most."""
    assert cleaned(said) == title
    assert title is None or len(title) <= 61
