"""Everything a person has here: all of it is exported, all of it is erased, and nobody else's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from tests.http.test_conversations import CHAT, begin, say

if TYPE_CHECKING:
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node, Person

DATA = "/api/account/data"
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


async def test_nothing_is_left_but_of_others(
    ana: Person, bo: Person, database: MigratedDatabase
) -> None:
    """Deleted conversations are erased too; a second time there is nothing to erase."""
    await lived(ana, database)
    await lived(bo, database)
    before = left(database, bo)
    assert 0 not in left(database, ana)
    answer = await ana.client.delete(f"{DATA}?confirm=erase")
    assert (answer.status, answer.json) == (200, {"conversations": 2})
    assert left(database, ana) == [0] * len(_LEFT)
    assert left(database, bo) == before
    assert (await ana.client.get("/api/settings")).json["display_name"] is None
    assert (await ana.client.delete(f"{DATA}?confirm=erase")).json == {"conversations": 0}
    with psycopg.connect(database.admin_url) as admin:
        entries = admin.execute(
            "select details from chatkeep.audit_log where action = 'data.erased'"
            " and user_id = %s order by number",
            [ana.id],
        ).fetchall()
    assert entries == [({"conversations": 2},), ({"conversations": 0},)]


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
