"""Answers on several nodes, and when a node or the database goes away."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from chatkeep import runs
from chatkeep.db import Database, as_user
from tests.machine_time import quick
from tests.postgres_servers import MigratedDatabase, Server, new_server, throw_away
from tests.serving import said, types, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.conftest import StartNode
    from tests.serving import Client, Node, Person

ROUTE = "/api/chat"


@pytest.fixture
async def other(start: StartNode) -> Node:
    """A second node on the same database."""
    return await start()


def submit(chat: str, text: str, message_id: str = "m1") -> dict[str, Any]:
    """Return the body of a submit."""
    message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat, "messages": [message]}


async def newest(client: Client, chat: str) -> dict[str, Any]:
    """Return the newest message that is kept."""
    answer = await client.get(f"/api/v1/chat/{chat}")
    message: dict[str, Any] = answer.json["messages"][-1]
    return message


async def settled(client: Client, chat: str) -> dict[str, Any]:
    """Return the newest message, once nothing is being answered."""

    async def idle() -> bool:
        return (await client.get(f"/api/v1/chat/{chat}")).json["active_run"] is None

    await until(idle)
    return await newest(client, chat)


# --- two nodes ----------------------------------------------------------------------------------


async def test_answer_is_followed_from_another_node(node: Node, other: Node, ana: Person) -> None:
    """Whoever resumes on the other node gets everything from the start, and then the rest live."""
    gates = [asyncio.Event() for _ in range(2)]
    node.stage.play(["One", ", two", gates[0], ", three", gates[1], "."])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(ROUTE, submit(chat, "Count")) as here:
        await here.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{ROUTE}/{chat}/stream", method="GET") as stream:
            assert stream.status == 200
            await stream.until(lambda _: "One, two" in said(stream.events))
            assert stream.events[0] == here.events[0]
            gates[0].set()
            await stream.until(lambda _: "three" in said(stream.events))
            gates[1].set()
            await stream.rest()
            assert said(stream.events) == "One, two, three."
            assert types(stream.events)[-3:] == ["finish-step", "finish", "[DONE]"]
    assert (await settled(ana.client, chat))["content"] == "One, two, three."


async def test_answer_is_stopped_from_another_node(node: Node, other: Node, ana: Person) -> None:
    """Stopping on the other node closes the model's connection within two seconds."""
    model = node.stage.play(["Once upon", asyncio.Event()])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(ROUTE, submit(chat, "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        with quick(2):
            stopped = await there.post(f"{ROUTE}/{chat}/stop")
        assert stopped.json["stopped"] == stream.events[0].data["messageMetadata"]["run_id"]
        assert (model.running, model.abandoned) == (0, 1)
        assert types(await stream.rest())[-2:] == ["finish", "[DONE]"]
    kept = await newest(there, chat)
    assert (kept["status"], kept["content"]) == ("stopped", "Once upon")


async def test_stop_is_found_when_nobody_was_told(node: Node, ana: Person) -> None:
    """A wish to stop whose notification was lost is found at the next checkpoint."""
    model = node.stage.play(["Once upon", asyncio.Event()])
    chat = str(uuid4())
    async with ana.client.stream(ROUTE, submit(chat, "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        await node.services.db.execute(
            as_user(ana.id),
            "update chat.runs set stop_requested = true where user_id = %s",
            [ana.id],
        )
        await until(lambda: model.abandoned == 1)
        await stream.rest()
    assert (await newest(ana.client, chat))["status"] == "stopped"


async def test_duplicates_on_two_nodes_are_one_turn(node: Node, other: Node, ana: Person) -> None:
    """Ten copies, half of them on each node: one question, one answer, one call of a model."""
    gate = asyncio.Event()
    models = [one.stage.play(["Once", gate, "."]) for one in (node, other)]
    chat = str(uuid4())
    clients = [ana.client, ana.client.but(url=other.url)] * 5

    async def answer(client: Client) -> str:
        async with client.stream(ROUTE, submit(chat, "Hi")) as stream:
            assert stream.status == 200
            return said(await stream.rest())

    answers = [asyncio.create_task(answer(one)) for one in clients]
    await until(lambda: any(model.prompts for model in models))
    gate.set()
    assert {await one for one in answers} == {"Once."}
    assert sum(len(model.prompts) for model in models) == 1
    assert len((await ana.client.get(f"/api/v1/chat/{chat}")).json["messages"]) == 2


async def test_new_question_stops_the_answer_on_another_node(
    node: Node, other: Node, ana: Person
) -> None:
    """Whoever goes on chatting on another node is answered there."""
    model = node.stage.play(["Once upon", asyncio.Event()])
    other.stage.play(["Short."])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(ROUTE, submit(chat, "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(ROUTE, submit(chat, "Shorter", "m2")) as second:
            assert said(await second.rest()) == "Short."
        await stream.rest()
    assert model.abandoned == 1


async def test_answer_of_a_dead_node_is_marked_and_kept(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """A run without a sign of life is `interrupted`: nothing is lost, nothing runs again."""
    model = node.stage.play(["Fine."])
    chat = (await ana.client.post("/api/v1/chat/start", {})).json["conversation_id"]
    with psycopg.connect(database.admin_url) as connection:
        ids = {"user": ana.id, "chat": chat, "id": str(uuid4())}
        connection.execute(
            """
            with said as (
              insert into chat.messages (user_id, conversation_id, id, role, content, run_id)
              values (%(user)s, %(chat)s, %(id)s, 'assistant', 'Half an ans', %(id)s)
            ), shown as (
              update chat.conversations set head_id = %(id)s where id = %(chat)s
            )
            insert into chat.runs
              (user_id, id, conversation_id, message_id, state, model, lease_until)
            values (%(user)s, %(id)s, %(chat)s, %(id)s, 'running', 'm', now() + interval '1 h')
            """,
            ids,
        )
    async with ana.client.stream(f"{ROUTE}/{chat}/stream", method="GET") as stream:
        assert said([await stream.next() or stream.events[0] for _ in range(4)]) == "Half an ans"
        await node.services.db.execute(
            as_user(ana.id),
            "update chat.runs set lease_until = now() - interval '1 s' where user_id = %s",
            [ana.id],
        )
        await runs.sweep(node.services.db)  # unless a node has found it by itself
        assert types(await stream.rest())[-2:] == ["error", "[DONE]"]
    kept = await settled(ana.client, chat)
    assert (kept["status"], kept["content"]) == ("interrupted", "Half an ans")
    assert kept["error"]["code"] == "answer_interrupted"
    assert model.prompts == []
    body = {"conversation_id": chat, "message": "Again, please"}
    assert (await ana.client.post("/api/v1/chat/message", body)).json["message"] == "Fine."


@pytest.mark.parametrize("seconds", [300, -300])
async def test_clock_that_jumps_ends_no_answer(
    node: Node, other: Node, ana: Person, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Leases are the database's time, and what is waited for here is no time of day."""
    gate = asyncio.Event()
    node.stage.play(["Half", gate, " and half."])
    chat = str(uuid4())
    there = ana.client.but(url=other.url)
    async with ana.client.stream(ROUTE, submit(chat, "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + seconds)
        async with there.stream(f"{ROUTE}/{chat}/stream", method="GET") as remote:
            await remote.until(lambda _: "Half" in said(remote.events))
            await runs.sweep(other.services.db)
            gate.set()
            await remote.rest()
            assert said(remote.events) == "Half and half."
        await stream.rest()
    assert (await newest(ana.client, chat))["status"] == "done"


# --- going away ---------------------------------------------------------------------------------


async def test_shutdown_keeps_what_was_said(start: StartNode, node: Node) -> None:
    """On SIGTERM open streams end with a retryable error, and the partial answers are kept."""
    leaving = await start()
    leaving.stage.play(["Half an ans", asyncio.Event()])
    person = leaving.person()
    chat = str(uuid4())
    async with person.client.stream(ROUTE, submit(chat, "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        leaving.app.state.begin_shutdown()
        refused = await person.client.post(ROUTE, submit(str(uuid4()), "More"))
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        assert (await person.client.get("/readyz")).status == 503
        assert (await person.client.get("/healthz")).status == 200
        assert types(await stream.rest())[-2:] == ["error", "[DONE]"]
        assert "kept" in stream.events[-2].data["errorText"]
    await leaving.stop()
    kept = await newest(person.client.but(url=node.url), chat)
    assert (kept["status"], kept["content"]) == ("interrupted", "Half an ans")


async def test_shutdown_lets_answers_end(start: StartNode, node: Node) -> None:
    """Within the time to drain, an answer that ends by itself ends well."""
    leaving = await start(DRAIN_SECONDS="10")
    gate = asyncio.Event()
    leaving.stage.play(["Almost", gate, " done."])
    person = leaving.person()
    async with person.client.stream(ROUTE, submit(chat := str(uuid4()), "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        stopping = asyncio.create_task(leaving.stop())
        await until(lambda: leaving.app.state.shutting_down)
        gate.set()
        assert types(await stream.rest())[-2:] == ["finish", "[DONE]"]
        await stopping
    assert (await newest(person.client.but(url=node.url), chat))["status"] == "done"


async def test_reader_of_another_nodes_answer_is_let_go(start: StartNode, node: Node) -> None:
    """A node that stops lets go whoever follows an answer that is made elsewhere; that goes on."""
    leaving = await start()
    gate = asyncio.Event()
    node.stage.play(["One", gate, ", two."])
    person = node.person()
    there = person.client.but(url=leaving.url)
    async with person.client.stream(ROUTE, submit(chat := str(uuid4()), "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{ROUTE}/{chat}/stream", method="GET") as remote:
            await remote.next()
            await leaving.stop()
            assert types(await remote.rest())[-2:] == ["error", "[DONE]"]
        gate.set()
        assert said([*stream.events, *await stream.rest()]) == "One, two."


@pytest.fixture(scope="module")
def mortal_server() -> Iterator[Server]:
    """A server that may be stopped."""
    server = new_server("18")
    yield server
    throw_away(server)


@pytest.fixture
def mortal(mortal_server: Server, monkeypatch: pytest.MonkeyPatch) -> MigratedDatabase:
    """A database on it, for whom nobody waits very long."""
    monkeypatch.setattr("chatkeep.db._BORROW_TIMEOUT_S", 1.5)
    defaults = Database.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "borrow_timeout_s", 1.5)
    if not (mortal_server.folder / "postmaster.pid").exists():
        mortal_server.start()
    name = mortal_server.new_database(template=mortal_server.migrated_template())
    return MigratedDatabase(server=mortal_server, name=name)


async def test_database_that_goes_away_costs_no_answer(
    mortal: MigratedDatabase, start: StartNode
) -> None:
    """Gone in the middle and at the end of an answer: everybody is told, and the end is kept."""
    node = await start(mortal.url)
    gate = asyncio.Event()
    node.stage.play(["Half", gate, " and half."])
    person = node.person()
    async with person.client.stream(ROUTE, submit(chat := str(uuid4()), "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        await asyncio.to_thread(mortal.server.stop, "fast")
        gate.set()
        await stream.until(lambda event: types([event]) == ["text-delta"])
        refused = await person.client.get("/api/v1/chat")
        assert (refused.status, refused.json["code"]) == (503, "database_unavailable")
        assert "retry-after" in refused.headers
        assert (await person.client.get("/readyz")).status == 503
        assert (await person.client.get("/healthz")).status == 200
        await asyncio.to_thread(mortal.server.start)
        assert types(await stream.rest())[-2:] == ["finish", "[DONE]"]

    async def ready() -> bool:
        return (await person.client.get("/readyz")).status == 200

    await until(ready, within_s=5)
    kept = await newest(person.client, chat)
    assert (kept["status"], kept["content"]) == ("done", "Half and half.")


async def test_replaced_primary_is_left_without_a_restart(
    mortal: MigratedDatabase, start: StartNode
) -> None:
    """While nothing can be written the node is not ready; then it finds who takes writes."""
    node = await start(mortal.url)
    person = node.person()
    of_database = sql.SQL("alter database {} ").format(sql.Identifier(mortal.name))
    with psycopg.connect(mortal.admin_url, autocommit=True) as admin:
        admin.execute(of_database + sql.SQL("set default_transaction_read_only = on"))
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        refused = await person.client.post("/api/v1/chat/start", {})
        assert (refused.status, refused.json["code"]) == (503, "database_unavailable")
        assert (await person.client.get("/readyz")).status == 503
        # From here on whoever connects is led to another one; who is connected is not.
        admin.execute(of_database + sql.SQL("reset default_transaction_read_only"))

    async def ready() -> bool:
        return (await person.client.get("/readyz")).status == 200

    await until(ready, within_s=5)
    assert (await person.client.post("/api/v1/chat/start", {})).status == 200


async def test_database_that_stays_away_is_said_so(
    mortal: MigratedDatabase, start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that could not be kept is no success: the reader is told."""
    monkeypatch.setattr("chatkeep.answering.keeper._PAUSES_S", (0.01,))
    node = await start(mortal.url)
    gate = asyncio.Event()
    node.stage.play(["Half", gate, " and half."])
    async with node.person().client.stream(ROUTE, submit(str(uuid4()), "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        await asyncio.to_thread(mortal.server.stop, "fast")
        gate.set()
        assert types(await stream.rest())[-2:] == ["error", "[DONE]"]
        assert said(stream.events) == "Half and half."


async def test_follower_is_told_when_the_database_goes(
    mortal: MigratedDatabase, start: StartNode
) -> None:
    """Whoever follows through the database hears of its end, as an `error` chunk."""
    node, other = await start(mortal.url), await start(mortal.url)
    node.stage.play(["Half", asyncio.Event()])
    person = node.person()
    there = person.client.but(url=other.url)
    async with person.client.stream(ROUTE, submit(chat := str(uuid4()), "Tell")) as stream:
        await stream.until(lambda event: types([event]) == ["text-delta"])
        async with there.stream(f"{ROUTE}/{chat}/stream", method="GET") as remote:
            await remote.next()
            await asyncio.to_thread(mortal.server.stop, "fast")
            assert types(await remote.rest())[-2:] == ["error", "[DONE]"]
        await asyncio.to_thread(mortal.server.start)
