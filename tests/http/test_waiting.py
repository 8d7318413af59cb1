"""Questions that wait for their turn: in order, bounded, cancelled, on whichever node is there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from chatkeep import runs
from chatkeep.answering import waiting
from chatkeep.db import as_user
from tests.postgres_servers import MigratedDatabase
from tests.serving import said, types, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkeep.llm.model import Prompt
    from chatkeep.testing import Step
    from tests.http.conftest import StartNode
    from tests.postgres_servers import Server
    from tests.serving import Answer, Client, Node, Person

CHAT = "/api/v1/chat"
UI = "/api/chat"
STREAM = {"accept": "text/event-stream"}


@pytest.fixture
async def other(start: StartNode) -> Node:
    """A second node on the same database."""
    return await start()


def send(chat: str, text: str, **more: object) -> dict[str, Any]:
    """Return the body of a message that waits when it must."""
    return {"conversation_id": chat, "message": text, "when_busy": "queue", **more}


async def begin(person: Person) -> str:
    """Start a conversation and return its id."""
    return str((await person.client.post(f"{CHAT}/start", {})).json["conversation_id"])


@pytest.fixture
def own_database(postgres: Server) -> Iterator[MigratedDatabase]:
    """A database of one test: any node of the module might begin what waits in theirs."""
    made = MigratedDatabase(
        server=postgres, name=postgres.new_database(template=postgres.migrated_template())
    )
    yield made
    postgres.drop_database(made.name)


async def queue(client: Client, chat: str) -> list[str]:
    """Return the runs that wait, the next one first."""
    found = (await client.get(f"{CHAT}/{chat}/queue")).json
    return [one["run_id"] for one in found["waiting"]]


async def page(client: Client, chat: str) -> list[tuple[str, str]]:
    """Return what is shown, without the greeting: contents and states."""
    found = (await client.get(f"{CHAT}/{chat}?limit=100")).json["messages"][1:]
    return [(one["content"], one["status"]) for one in found]


def echo(gate: asyncio.Event, asked: list[str]) -> Callable[[Prompt], list[Step]]:
    """Answer each question with itself: the first only after *gate*."""

    def answer(prompt: Prompt) -> list[Step]:
        text = prompt.messages[-1].text
        asked.append(text)
        first: list[Step] = [gate] if len(asked) == 1 else []
        return [*first, f"You said {text}."]

    return answer


async def nothing(*_: object) -> None:
    """Stand for what a dead process would have done."""


async def waits(client: Client, chat: str, count: int) -> None:
    """Return when so many wait."""

    async def there() -> bool:
        return len(await queue(client, chat)) == count

    await until(there)


async def test_without_being_asked_to_nothing_waits(node: Node, ana: Person) -> None:
    """The refusal names the running answer, and nothing of the question is kept."""
    gate, asked = asyncio.Event(), list[str]()
    node.stage.play(answer=echo(gate, asked))
    chat = await begin(ana)
    async with ana.client.stream(f"{CHAT}/message", send(chat, "one"), **STREAM) as stream:
        started = await stream.next()
        assert started is not None
        refused = await ana.client.post(f"{CHAT}/message", send(chat, "two", when_busy="refuse"))
        assert (refused.status, refused.json["code"]) == (409, "run_in_progress")
        assert refused.json["run_id"] == started.data["run_id"]
        gate.set()
        await stream.rest()
    assert await page(ana.client, chat) == [("one", "done"), ("You said one.", "done")]


async def test_questions_wait_for_their_turn_in_order(node: Node, other: Node, ana: Person) -> None:
    """Asked on two nodes while one is answered, they are answered one after the other."""
    gate, asked = asyncio.Event(), list[str]()
    answers = echo(gate, asked)
    node.stage.play(answer=answers)
    other.stage.play(answer=answers)
    chat = await begin(ana)
    there = ana.client.but(url=other.url)
    texts = ["one", "two", "three", "four", "five"]
    tasks: list[asyncio.Task[Answer]] = []
    for number, text in enumerate(texts):
        client = there if number % 2 else ana.client
        tasks.append(asyncio.create_task(client.post(f"{CHAT}/message", send(chat, text))))
        if number == 0:
            await until(lambda: asked == ["one"])
        else:
            await waits(ana.client, chat, number)
    states = [state for _, state in await page(ana.client, chat)]
    assert states == ["done", "running", *["done", "queued"] * 4]
    refused = await there.post(f"{CHAT}/message", send(chat, "six", when_busy="refuse"))
    assert (refused.status, refused.json["code"]) == (409, "run_in_progress")
    gate.set()
    done = [await one for one in tasks]
    assert [one.json["message"] for one in done] == [f"You said {text}." for text in texts]
    assert asked == texts
    assert await queue(ana.client, chat) == []
    shown = [text for text, _ in await page(ana.client, chat)]
    assert shown == [line for text in texts for line in (text, f"You said {text}.")]


async def test_one_that_waits_is_asked_with_all_that_was_said_before(
    node: Node, ana: Person
) -> None:
    """Its model is given the answer before it, and asked as it was wished when it was sent."""
    gate = asyncio.Event()
    model = node.stage.play(["First", gate, " answer."], ["Second."])
    chat = await begin(ana)
    async with ana.client.stream(f"{CHAT}/message", send(chat, "one"), **STREAM) as first:
        await first.next()
        wishes = {"temperature": 0.5, "system_prompt": "Be short.", "max_tokens": 77}
        async with ana.client.stream(
            f"{CHAT}/message", send(chat, "two", **wishes), **STREAM
        ) as second:
            await second.next()
            gate.set()
            await second.rest()
            assert said(second.events) == "Second."
            assert second.events[-1].name == "done"
    prompt = model.prompts[1]
    assert [one.text for one in prompt.messages[-3:]] == ["one", "First answer.", "two"]
    assert prompt.messages[0].text == "Be short."
    settings = prompt.settings
    assert (settings.temperature, settings.max_tokens) == (0.5, 77)


async def test_ai_sdk_lets_a_question_wait_too(node: Node, ana: Person) -> None:
    """With `when_busy` in its body it does not stop what is being answered."""
    gate, asked = asyncio.Event(), list[str]()
    node.stage.play(answer=echo(gate, asked))
    chat = str(uuid4())

    def submit(text: str, message_id: str) -> dict[str, Any]:
        part = {"type": "text", "text": text}
        message = {"id": message_id, "role": "user", "parts": [part]}
        return {"id": chat, "message": message, "when_busy": "queue"}

    async with ana.client.stream(UI, submit("one", "m1")) as first:
        await first.next()
        await until(lambda: asked == ["one"])
        async with ana.client.stream(UI, submit("two", "m2")) as second:
            await waits(ana.client, chat, 1)
            gate.set()
            await second.rest()
            assert said(second.events) == "You said two."
            assert types(second.events)[-2:] == ["finish", "[DONE]"]
        await first.rest()
        assert said(first.events) == "You said one."


async def test_the_same_question_waits_once(node: Node, other: Node, ana: Person) -> None:
    """Ten copies on two nodes: one question, one place, one answer for all of them."""
    gate, asked = asyncio.Event(), list[str]()
    answers = echo(gate, asked)
    node.stage.play(answer=answers)
    other.stage.play(answer=answers)
    chat = await begin(ana)
    first = asyncio.create_task(ana.client.post(f"{CHAT}/message", send(chat, "one")))
    await until(lambda: asked == ["one"])
    clients = [ana.client, ana.client.but(url=other.url)] * 5
    body = send(chat, "two", client_message_id="mine")
    copies = [asyncio.create_task(one.post(f"{CHAT}/message", body)) for one in clients]
    await waits(ana.client, chat, 1)
    gate.set()
    answers_given = [await one for one in copies]
    assert [one.text for one in answers_given if one.status != 200] == []
    assert {one.json["message"] for one in answers_given} == {"You said two."}
    assert len({one.json["run_id"] for one in answers_given}) == 1
    assert asked == ["one", "two"]
    await first


async def test_no_more_wait_than_may(
    node: Node, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a conversation, and of a person in all: asked at once, exactly so many are let in."""
    monkeypatch.setattr(waiting, "PER_CONVERSATION_AT_MOST", 3)
    monkeypatch.setattr(waiting, "PER_USER_AT_MOST", 4)
    gate = asyncio.Event()
    node.stage.play([gate, "Yes."])
    talks = [await begin(ana) for _ in range(2)]
    tasks = [
        asyncio.create_task(ana.client.post(f"{CHAT}/message", send(chat, "first")))
        for chat in talks
    ]
    for chat in talks:

        async def runs_there(chat: str = chat) -> bool:
            return (await ana.client.get(f"{CHAT}/{chat}")).json["active_run"] is not None

        await until(runs_there)
    more = [
        asyncio.create_task(ana.client.post(f"{CHAT}/message", send(chat, f"{number}")))
        for number in range(8)
        for chat in talks
    ]

    async def refused() -> bool:
        return sum(one.done() for one in more) == 12

    await until(refused)
    answers = [one.result() for one in more if one.done()]
    assert {(one.status, one.json["code"]) for one in answers} == {(429, "queue_full")}
    sizes = [len(await queue(ana.client, chat)) for chat in talks]
    assert sum(sizes) == 4
    assert max(sizes) <= 3
    gate.set()
    assert {(await one).status for one in [*tasks, *more]} == {200, 429}


async def test_one_that_waits_is_cancelled_and_no_model_is_asked_it(
    node: Node, ana: Person, bo: Person
) -> None:
    """It is kept as a branch that ends there; those behind it go up, and nobody else's hand can."""
    gate, asked = asyncio.Event(), list[str]()
    model = node.stage.play(answer=echo(gate, asked))
    chat = await begin(ana)
    tasks = []
    for number, text in enumerate(["one", "two", "three"]):
        tasks.append(asyncio.create_task(ana.client.post(f"{CHAT}/message", send(chat, text))))
        await (waits(ana.client, chat, number) if number else until(lambda: asked == ["one"]))
    two, three = await queue(ana.client, chat)
    for path in (f"{CHAT}/{chat}/queue/{two}", f"{CHAT}/{chat}/queue/nothing"):
        refused = await bo.client.delete(path)
        assert (refused.status, refused.json["code"]) == (403, "conversation_forbidden")
    assert (await bo.client.get(f"{CHAT}/{chat}/queue")).status == 403
    assert (await ana.client.delete(f"{CHAT}/{chat}/queue/{two}")).status == 204
    assert await queue(ana.client, chat) == [three]
    cancelled = await tasks[1]
    assert (cancelled.json["status"], cancelled.json["message"]) == ("stopped", "")
    again = await ana.client.delete(f"{CHAT}/{chat}/queue/{two}")
    assert (again.status, again.json["code"]) == (409, "not_waiting")
    gate.set()
    assert (await tasks[2]).json["message"] == "You said three."
    assert asked == ["one", "three"]
    texts = [one.text for one in model.prompts[-1].messages]
    assert texts[-3:] == ["one", "You said one.", "three"]
    shown = (await ana.client.get(f"{CHAT}/{chat}")).json["messages"]
    assert [one["content"] for one in shown[1:]] == [
        *("one", "You said one."),
        *("three", "You said three."),
    ]
    assert len(shown[-2]["siblings"]) == 2


async def test_stopping_leaves_nothing_that_waits(node: Node, other: Node, ana: Person) -> None:
    """Whoever stops on any node is not answered on by what stood behind."""
    gate, asked = asyncio.Event(), list[str]()
    node.stage.play(answer=echo(gate, asked))
    chat = await begin(ana)
    tasks = []
    for number, text in enumerate(["one", "two", "three"]):
        tasks.append(asyncio.create_task(ana.client.post(f"{CHAT}/message", send(chat, text))))
        await (waits(ana.client, chat, number) if number else until(lambda: asked == ["one"]))
    stopped = await ana.client.but(url=other.url).post(f"{UI}/{chat}/stop")
    assert stopped.json["stopped"]
    assert {(await one).json["status"] for one in tasks} == {"stopped"}
    assert await queue(ana.client, chat) == []
    assert asked == ["one"]
    assert (await ana.client.get(f"{CHAT}/{chat}")).json["active_run"] is None


async def test_budget_is_asked_when_its_turn_comes(
    start: StartNode, own_database: MigratedDatabase
) -> None:
    """One that nothing is left for fails in plain words, and the next one has its turn."""
    node = await start(own_database.url, BUDGET_TOKENS_PER_DAY="3000")
    ana = node.person()
    gate, asked = asyncio.Event(), list[str]()
    node.stage.play(answer=echo(gate, asked))
    chat = await begin(ana)
    first = asyncio.create_task(
        ana.client.post(f"{CHAT}/message", send(chat, "one", max_tokens=1000))
    )
    await until(lambda: asked == ["one"])
    large = asyncio.create_task(
        ana.client.post(f"{CHAT}/message", send(chat, "two", max_tokens=5000))
    )
    await waits(ana.client, chat, 1)
    small = asyncio.create_task(
        ana.client.post(f"{CHAT}/message", send(chat, "three", max_tokens=100))
    )
    await waits(ana.client, chat, 2)
    gate.set()
    refused = await large
    assert (refused.status, refused.json["code"]) == (429, "budget_exhausted")
    assert (await small).json["message"] == "You said three."
    assert (await first).status == 200
    assert asked == ["one", "three"]


@pytest.mark.parametrize("way", ["ban", "sign-out"])
async def test_what_waits_is_not_answered_to_whom_everything_ended(
    start: StartNode, own_database: MigratedDatabase, way: str
) -> None:
    """Whoever took a token away has no model asked and no tool run; what is asked later is."""
    node = await start(own_database.url)
    admin = node.person(app_metadata={"roles": ["admin"]}).client
    eve, ana = node.person(), node.person()
    gate, asked = asyncio.Event(), list[str]()
    node.stage.play(answer=echo(gate, asked))
    chat, hers = await begin(eve), await begin(ana)
    sent = [asyncio.create_task(eve.client.post(f"{CHAT}/message", send(chat, "one")))]
    await until(lambda: asked == ["one"])
    for count, text in enumerate(("two", "three"), start=1):
        sent.append(asyncio.create_task(eve.client.post(f"{CHAT}/message", send(chat, text))))
        await waits(eve.client, chat, count)
    assert (await admin.post(f"/api/admin/users/{eve.id}/{way}", {})).status == 200
    gate.set()
    states = own_database.operate
    ended = "select count(*) from chat.runs where user_id = %s and error_code = 'token_revoked'"
    await until(lambda: states(ended, eve.id) == [(2,)])
    assert asked == ["one"]
    assert (await ana.client.post(f"{CHAT}/message", send(hers, "hers"))).status == 200
    assert asked == ["one", "hers"]
    await asyncio.gather(*sent, return_exceptions=True)


async def test_another_node_begins_what_waits_behind_a_dead_one(
    start: StartNode, node: Node, ana: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the node that answers dies, its answer is interrupted, and the next begins elsewhere."""
    dying = await start()
    dying.stage.play(["Half", asyncio.Event()])
    model = node.stage.play(["You said it."])
    chat = await begin(ana)
    there = ana.client.but(url=dying.url)
    async with there.stream(f"{CHAT}/message", send(chat, "one"), **STREAM) as first:
        await first.until(lambda event: event.name == "delta")
        async with ana.client.stream(f"{CHAT}/message", send(chat, "two"), **STREAM) as second:
            await waits(ana.client, chat, 1)
            assert model.prompts == []
            # As after kill -9: it looks for nothing, its checkpoints cease, the lease runs out.
            monkeypatch.setattr(dying.services.replies, "begin_next", nothing)
            for work in dying.services.replies._work.values():
                work.asking = False
            await node.services.db.execute(
                as_user(ana.id),
                "update chat.runs set lease_until = now() - interval '1 s'"
                " where user_id = %s and state = 'running'",
                [ana.id],
            )
            await node.services.replies.sweep()
            await second.rest()
            assert said(second.events) == "You said it."
    assert [one.messages[-1].text for one in model.prompts] == ["two"]
    states = [state for _, state in await page(ana.client, chat)]
    assert states == ["done", "interrupted", "done", "done"]


async def test_what_waited_when_all_servers_ended_is_answered_by_the_next(
    start: StartNode, own_database: MigratedDatabase
) -> None:
    """A restart costs the answer that was being made, and none that waited."""
    leaving = await start(own_database.url)
    ana = leaving.person()
    leaving.stage.play(["Half", asyncio.Event()])
    chat = await begin(ana)
    async with (
        ana.client.stream(f"{CHAT}/message", send(chat, "one"), **STREAM) as first,
        ana.client.stream(f"{CHAT}/message", send(chat, "two"), **STREAM) as second,
    ):
        await first.until(lambda event: event.name == "delta")
        await waits(ana.client, chat, 1)
        await leaving.stop()
        assert (await second.rest())[-1].name == "error"
    # On a database that a starting server has for itself:
    arrived = await start(own_database.url)
    there = ana.client.but(url=arrived.url)
    await runs.interrupt_all(arrived.services.db)
    await arrived.services.replies.sweep()

    async def answered() -> bool:
        return (await page(there, chat))[-1] == ("Hello.", "done")

    await until(answered)
    assert [one.messages[-1].text for one in arrived.stage.model.prompts] == ["two"]


async def test_nobody_waits_for_ever(node: Node, ana: Person) -> None:
    """What nobody could begin for an hour is given up, and says so."""
    gate, asked = asyncio.Event(), list[str]()
    node.stage.play(answer=echo(gate, asked))
    chat = await begin(ana)
    first = asyncio.create_task(ana.client.post(f"{CHAT}/message", send(chat, "one")))
    await until(lambda: asked == ["one"])
    second = asyncio.create_task(ana.client.post(f"{CHAT}/message", send(chat, "two")))
    await waits(ana.client, chat, 1)
    await node.services.db.execute(
        as_user(ana.id),
        "update chat.runs set lease_until = now() - interval '1 s'"
        " where user_id = %s and state = 'queued'",
        [ana.id],
    )
    await runs.sweep(node.services.db)  # unless a node has found it by itself
    answer = await second
    assert (answer.status, answer.json["code"]) == (503, "answer_interrupted")
    gate.set()
    assert (await first).status == 200
    assert asked == ["one"]


async def test_whoever_deletes_the_conversation_takes_what_waits_with_it(
    node: Node, ana: Person
) -> None:
    """No model is asked what waited in a conversation that is gone."""
    gate, asked = asyncio.Event(), list[str]()
    node.stage.play(answer=echo(gate, asked))
    chat = await begin(ana)
    tasks = []
    for number, text in enumerate(["one", "two"]):
        tasks.append(asyncio.create_task(ana.client.post(f"{CHAT}/message", send(chat, text))))
        await (waits(ana.client, chat, number) if number else until(lambda: asked == ["one"]))
    assert (await ana.client.delete(f"{CHAT}/{chat}")).status == 204
    await asyncio.gather(*tasks)
    await node.services.replies.sweep()
    assert asked == ["one"]
    held = await waiting.find_held(node.services.db)
    assert chat not in {one.conversation_id for one in held}
