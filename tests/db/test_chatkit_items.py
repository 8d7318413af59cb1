"""Items of ChatKit: those of the messages asked for, and none of the others of a long thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
import pytest

from chatkeep import files
from chatkeep.chatkit import records
from chatkeep.db import as_user
from chatkeep.openai_api import conversation_items
from tests.db.test_plans import Planned, complaints
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase

ANA: Final = "ana-with-much"
TALK: Final = "talk-of-much"
MANY: Final = 400
LONG: LiteralString = """
insert into chat.conversations (user_id, id) values (%(user)s, %(talk)s);
insert into chat.messages (user_id, conversation_id, id, role, content)
  select %(user)s, %(talk)s, 'message ' || n, 'user', 'said' from generate_series(1, %(many)s) n;
insert into chat.chatkit_items (user_id, conversation_id, id, message_id, item, hidden)
  select %(user)s, %(talk)s, 'widget ' || n, 'message ' || n, '{"said": true}', true
  from generate_series(1, %(many)s) n;
insert into chat.chatkit_items (user_id, conversation_id, id, item)
  values (%(user)s, %(talk)s, 'first', '{"said": true}');
insert into chat.chatkit_items (user_id, conversation_id, id, message_id, item)
  values (%(user)s, %(talk)s, 'again', 'message 7', '{"said": true}');
insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size, digest)
  select %(user)s, 'file ' || n, '{}', 'text/plain', n, 'x' from generate_series(1, %(many)s) n;
"""
TWO_FILES: Final = (
    "insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size, digest)"
    " select %s, id, '{}', 'text/plain', 1, 'x' from unnest(array['a', 'b']) id"
)


@pytest.fixture(scope="module")
def long(database: MigratedDatabase) -> MigratedDatabase:
    """A database in which one person has a long thread, and nobody has gathered statistics."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        values = {"user": ANA, "talk": TALK, "many": MANY}
        psycopg.ClientCursor(connection).execute(LONG, values)
    return database


@pytest.fixture
async def planned(long: MigratedDatabase) -> AsyncIterator[Planned]:
    """A door to it that takes back all that is done."""
    db = Planned(long.url, undoes=True)
    await db.open()
    yield db
    await db.close()


async def test_items_are_those_of_the_messages(planned: Planned) -> None:
    """Each once, in the order they were kept; those before all of them only when asked for."""

    async def listed(*message_ids: str) -> list[tuple[str, str | None]]:
        found = await records.list_items(planned, ANA, TALK, message_ids)
        return [(one.id, one.message_id) for one in found]

    seven = [("widget 7", "message 7"), ("again", "message 7")]
    assert await listed("message 7", "message 7", "nobody's") == seven
    assert await listed("message 9", "message 7") == [
        seven[0],
        ("widget 9", "message 9"),
        seven[1],
    ]
    assert await listed("", "message 7") == [seven[0], ("first", None), seven[1]]
    assert await listed("") == [("first", None)]
    assert await listed() == []


READ_ALONE: Final[dict[str, Callable[[Database], Awaitable[object]]]] = {
    "items of messages": lambda db: records.list_items(db, ANA, TALK, ["message 3", "message 9"]),
    "items before all": lambda db: records.list_items(db, ANA, TALK, ["", "message 9"]),
    "items shown again": lambda db: records.show_items(db, ANA, TALK, ["widget 3", "widget 9"]),
    "copies of a message": lambda db: conversation_items.erase(
        db, ANA, TALK, "message 3", content="", parts=None, part_id="widget 3"
    ),
    "sizes of files": lambda db: files.sizes(db, ANA, ["file 3", "file 9"]),
    "files that are sent": lambda db: db.fetch_all(
        as_user(ANA), *files.using(ANA, TALK, ["file 3", "file 9"])
    ),
}


@pytest.mark.parametrize("name", READ_ALONE)
async def test_nothing_is_read_of_the_others(planned: Planned, name: str) -> None:
    """For whoever it is planned, and before anything is known of how much they have."""
    await READ_ALONE[name](planned)
    assert planned.plans
    assert [complaints(plan) for _, plan in planned.plans] == [[]] * len(planned.plans)


async def test_what_several_items_and_files_are_told_is_kept(
    long: MigratedDatabase, db: Database
) -> None:
    """Of each that is named, also twice, and of no other."""
    await records.show_items(db, ANA, TALK, ["widget 20", "widget 21", "widget 20", "nobody's"])
    await records.show_items(db, ANA, TALK, [])
    shown = long.operate("select id from chat.chatkit_items where not hidden order by id")
    assert [one for (one,) in shown] == ["again", "first", "widget 20", "widget 21"]
    for conversation_id in (TALK, "another"):
        long.operate(
            "insert into chat.conversations (user_id, id) values (%s, %s) on conflict do nothing",
            *(ANA, conversation_id),
        )
        sent = ["file 21", "file 20", "file 21", "nobody's"]
        await db.fetch_all(as_user(ANA), *files.using(ANA, conversation_id, sent))
    first = "select id from chat.chatkit_attachments where conversation_id = %s order by id"
    assert long.operate(first, TALK) == [("file 20",), ("file 21",)]
    other = "select file_id, conversation_id from chat.file_uses order by file_id"
    assert long.operate(other) == [("file 20", "another"), ("file 21", "another")]
    assert await files.sizes(db, ANA, ["file 20", "file 20", "nobody's"]) == {"file 20": 20}


async def test_files_are_locked_in_one_order(long: MigratedDatabase, db: Database) -> None:
    """Who sends them the other way about waits for the first and holds none of the others."""
    bo, talk = "bo-who-sends-two", "talk-of-two"
    long.operate("insert into chat.conversations (user_id, id) values (%s, %s)", bo, talk)
    long.operate(TWO_FILES, bo)
    lock = "select from chat.chatkit_attachments where user_id = %s and id = %s for update"
    with psycopg.connect(long.admin_url) as other:
        other.execute(lock, [bo, "a"])
        sending = asyncio.create_task(db.fetch_all(as_user(bo), *files.using(bo, talk, ["b", "a"])))
        await until(lambda: long.waiting_for_locks() == 1)
        other.execute(f"{lock} nowait", [bo, "b"])
    await sending
