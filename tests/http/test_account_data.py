"""Everything a person has here: all of it is exported, all of it is erased, and nobody else's."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest
from psycopg import sql

from chatkeep.conversations import purge_deleted
from chatkeep.limits import AT_ONCE
from chatkeep.personal_data import erasure
from tests.chatkit_client import Kit
from tests.http.test_conversations import CHAT, begin, say
from tests.http.test_openai_api import MODEL
from tests.second_factors import join, stepped_up, verify
from tests.serving import types, until

if TYPE_CHECKING:
    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node, Person, Stage

DATA = "/api/account/data"
#: What was spent counts on, or whoever erases everything could spend it again.
KEPT_FOR_BUDGETS = {"budgets", "charges", "usage"}
#: What is left of somebody who had everything erased.
_LEFT: tuple[LiteralString, ...] = (
    "select count(*) from chat.conversations where user_id = %s",
    "select count(*) from chat.messages where user_id = %s",
    "select count(*) from chat.message_words where user_id = %s",
    "select count(*) from chat.runs where user_id = %s",
    "select count(*) from chat.shares where user_id = %s",
    "select count(*) from chat.chatkit_attachments where user_id = %s",
    "select count(*) from chat.profiles where id = %s",
)


async def lived(person: Person, database: MigratedDatabase) -> str:
    """Give *person* something of everything; return a conversation."""
    conversation = await begin(person.client)
    await say(person.client, conversation, f"Secret of {person.id}")
    await person.client.patch("/api/settings", {"display_name": "Somebody"})
    await person.client.post(f"{CHAT}/{conversation}/shares", {})
    gone = await begin(person.client)
    await person.client.delete(f"{CHAT}/{gone}")
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size)"
            " values (%s, 'a', '{}', 'text/plain', 1)",
            [person.id],
        )
    return conversation


def left(database: MigratedDatabase, person: Person) -> list[int]:
    """Count the rows of *person*, table by table."""
    with psycopg.connect(database.admin_url) as admin:
        found = [admin.execute(query, [person.id]).fetchone() for query in _LEFT]
    return [row[0] for row in found if row is not None]


async def test_everything_is_exported(ana: Person, bo: Person, database: MigratedDatabase) -> None:
    """Settings, links and conversations, and nothing that opens a link, or is another's."""
    conversation = await lived(ana, database)
    await lived(bo, database)
    answer = await ana.client.get(DATA)
    assert answer.status == 200
    assert answer.headers["x-total-count"] == "1"
    assert "attachment" in answer.headers["content-disposition"]
    told = answer.json
    assert told["format"] == "chatkeep-account-1"
    assert told["user_id"] == ana.id
    assert told["settings"]["display_name"] == "Somebody"
    assert [one["conversation_id"] for one in told["shares"]] == [conversation]
    assert [one["id"] for one in told["conversations"]] == [conversation]
    assert f"Secret of {ana.id}" in answer.text
    assert bo.id not in answer.text
    assert "token_hash" not in answer.text


async def test_what_clients_noted_beside_messages_is_exported(
    ana: Person, bo: Person, database: MigratedDatabase
) -> None:
    """Notes, what an answer was asked with, opinions, and what ChatKit showed; only one's own."""
    asked = {"input": "Hi.", "instructions": "Be brief.", "metadata": {"of": "an answer"}}
    for person in (bo, ana):
        made = await person.client.post("/v1/conversations", {"metadata": {"of": person.id}})
        said = await person.client.post(
            "/v1/responses", {**asked, "conversation": made.json["id"], "model": MODEL}
        )
        assert said.status == 200, said.text
        thread = made.json["id"].removeprefix("conv_")
        kit = Kit(person.client)
        item_ids = [(await kit.items(thread))[-1]["id"]]
        given = await kit.call(
            "items.feedback", thread_id=thread, item_ids=item_ids, kind="positive"
        )
        assert given.status == 200, given.text
    for kind in ("widget", "hidden_context_item"):
        for message_id in (None, said.json["output"][0]["id"].split("_")[1]):
            database.operate(
                "insert into chat.chatkit_items (user_id, conversation_id, message_id, id, item)"
                " select %s, %s, %s, gen_random_uuid(), jsonb_build_object('type', %s::text)",
                *(ana.id, thread, message_id, kind),
            )
    for path in (DATA, f"{CHAT}/export", f"{CHAT}/{thread}/export"):
        told = (await ana.client.get(path)).json
        (one,) = told.get("conversations", [told])
        assert one["metadata"] == {"of": ana.id}
        assert list(one["feedback"].values()) == ["positive"]
        question, answer = one["messages"]
        assert one["items"] == answer["items"] == [{"type": "widget"}]
        assert "requests" not in question
        assert "items" not in question
        (request,) = answer["requests"]
        assert request["run_id"] == answer["run_id"]
        assert request["request"]["instructions"] == "Be brief."
        assert request["request"]["metadata"] == {"of": "an answer"}


async def test_nothing_is_left_but_of_others(
    ana: Person, bo: Person, database: MigratedDatabase
) -> None:
    """Deleted conversations are erased too; a second time there is nothing to erase."""
    await lived(ana, database)
    await lived(bo, database)
    before = left(database, bo)
    assert 0 not in left(database, ana)
    answer = await ana.client.delete(f"{DATA}?confirm=erase")
    assert (answer.status, answer.json) == (200, {"conversations": 2, "left": 0})
    assert left(database, ana) == [0] * len(_LEFT)
    assert left(database, bo) == before
    assert (await ana.client.get("/api/settings")).json["display_name"] is None
    assert (await ana.client.delete(f"{DATA}?confirm=erase")).json == {
        "conversations": 0,
        "left": 0,
    }
    with psycopg.connect(database.admin_url) as admin:
        entries = admin.execute(
            "select details from chatkeep.audit_log where action = 'data.erased'"
            " and user_id = %s order by number",
            [ana.id],
        ).fetchall()
    assert entries == [({"conversations": 2},), ({"conversations": 0},)]


async def test_much_is_erased_in_steps_and_out_of_reach_at_the_first(
    ana: Person, bo: Person, database: MigratedDatabase
) -> None:
    """Whoever shows how far it is asks until nothing is left; nothing comes back meanwhile."""
    await lived(ana, database)
    await lived(bo, database)
    before = left(database, bo)
    chats = [str((await ana.client.post("/api/v1/chat/start", {})).json["conversation_id"])]
    chats += [one["id"] for one in (await ana.client.get("/api/v1/chat")).json["conversations"]]
    steps = list[dict[str, int]]()
    while not steps or steps[-1]["left"]:
        steps.append((await ana.client.delete(f"{DATA}?confirm=erase&at_most=1")).json)
        assert (await ana.client.get("/api/v1/chat")).json["conversations"] == []
        for chat in chats:
            assert (await ana.client.post(f"/api/v1/chat/{chat}/restore")).status == 403
            assert (await ana.client.get(f"/api/v1/chat/{chat}")).status == 403
    assert [one["conversations"] for one in steps] == [1, 1, 1]
    assert [one["left"] for one in steps] == [2, 1, 0]
    assert left(database, ana) == [0] * len(_LEFT)
    assert left(database, bo) == before


async def test_what_is_said_while_it_is_erased_stays(node: Node, ana: Person) -> None:
    """Nobody asked for that to go, however many conversations there were to be erased."""
    conversation = await begin(ana.client)
    assert await erasure._erase_conversations(node.services.db, ana.id, 5, None) == 0
    assert (await ana.client.get(f"{CHAT}/{conversation}")).status == 200


async def test_what_an_interrupted_erasure_leaves_goes_by_itself(
    node: Node, ana: Person, database: MigratedDatabase
) -> None:
    """The chore that erases what was deleted long ago takes it, however much it is."""
    for _ in range(3):
        await ana.client.post("/api/v1/chat/start", {})
    erased = await ana.client.delete(f"{DATA}?confirm=erase&at_most=1")
    assert erased.json == {"conversations": 1, "left": 2}
    await purge_deleted(node.services.db)
    assert left(database, ana) == [0] * len(_LEFT)


@pytest.mark.parametrize("query", ["", "?confirm=", "?confirm=yes"])
async def test_it_is_not_done_by_accident(
    ana: Person, database: MigratedDatabase, query: str
) -> None:
    """Without the word that says so, nothing happens."""
    await lived(ana, database)
    assert (await ana.client.delete(f"{DATA}{query}")).status == 422
    assert 0 not in left(database, ana)


async def test_an_old_sign_in_erases_nothing(node: Node, database: MigratedDatabase) -> None:
    """Whoever finds a browser that was signed in long ago cannot; they can sign in again."""
    person = node.person(amr=[{"method": "password", "timestamp": int(time.time()) - 90_000}])
    await lived(person, database)
    answer = await person.client.delete(f"{DATA}?confirm=erase")
    assert (answer.status, answer.json["code"]) == (401, "step_up_required")
    assert 0 not in left(database, person)


async def test_a_password_alone_erases_nothing_where_there_is_a_second_factor(node: Node) -> None:
    """Whoever learned the password lacks the other half; who shows it erases."""
    ana = await join(node)
    app = await stepped_up(ana)
    conversation = await begin(ana.client)
    thief = await ana.again()
    refused = await thief.client.delete(f"{DATA}?confirm=erase")
    assert (refused.status, refused.json["code"]) == (401, "step_up_required")
    assert 'acr_values="aal2"' in refused.headers["www-authenticate"]
    assert (await ana.client.get(f"{CHAT}/{conversation}")).status == 200
    again = await ana.again()
    again.holds((await verify(again, app)).json)
    assert (await again.client.delete(f"{DATA}?confirm=erase")).json["conversations"] == 1


async def test_erased_while_answers_are_made_nothing_comes_back(
    node: Node, ana: Person, stage: Stage, database: MigratedDatabase
) -> None:
    """What is being said when everything is erased is kept nowhere, in no table there is."""
    gate = asyncio.Event()
    stage.play(["Begun ", gate, "and ended."], ["Named"])
    client = ana.client.but(idempotency_key="one")
    message = {"role": "user", "parts": [{"type": "text", "text": "Secret"}]}
    async with client.stream("/api/chat", {"id": "erased", "message": message}) as answer:
        await answer.until(lambda one: types([one]) == ["text-delta"])
        erased = await ana.client.delete(f"{DATA}?confirm=erase")
        assert erased.status == 200, erased.text
        gate.set()
        await answer.rest()
    await until(lambda: not node.services.replies._work)
    with psycopg.connect(database.admin_url) as admin:
        tables = admin.execute(
            "select table_name, column_name from information_schema.columns"
            " where table_schema = 'chat' and (column_name = 'user_id'"
            "  or (table_name, column_name) = ('profiles', 'id'))"
        ).fetchall()
        looked = sql.SQL("select from chat.{} where {} = %s")
        kept = {
            table
            for table, column in tables
            if admin.execute(
                looked.format(sql.Identifier(table), sql.Identifier(column)), [ana.id]
            ).fetchone()
        }
    assert len(tables) > 10
    assert kept <= KEPT_FOR_BUDGETS


async def test_exports_are_limited(start: StartNode) -> None:
    """Each reads everything there is of somebody; of whoever has little as of whoever has much."""
    node = await start(RATE_LIMITS="on")
    ana, bo = node.person(), node.person()
    for path in (DATA, f"{CHAT}/export"):
        assert (await ana.client.get(path)).status == 200
    statuses = [(await ana.client.get(f"{CHAT}/export")).status for _ in range(10)]
    assert statuses == [200] * 8 + [429] * 2
    assert (await ana.client.get(DATA)).status == 429
    assert (await bo.client.get(f"{CHAT}/export")).status == 200


async def test_exports_of_one_person_at_once_have_an_end(start: StartNode) -> None:
    """Each holds a file for its reader, who may be slow; one that has ended counts no more."""
    node = await start(RATE_LIMITS="on")
    ana, bo, limits = node.person(), node.person(), node.services.limits
    conversation = (await ana.client.post(f"{CHAT}/start", {})).json["conversation_id"]
    one = f"{CHAT}/{conversation}/export"
    paths = [DATA, f"{CHAT}/export", one, f"{one}?format=markdown"]
    assert [(await ana.client.get(path)).status for path in paths * 2] == [200] * 8
    for _ in range(AT_ONCE["exports"]):
        limits.enter("exports", ana.id)
    for path in paths:
        refused = await ana.client.get(path)
        assert (refused.status, "retry-after" in refused.headers) == (429, True)
    assert (await bo.client.get(f"{CHAT}/export")).status == 200
