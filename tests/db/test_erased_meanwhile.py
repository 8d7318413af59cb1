"""What is being copied while its person has everything erased is erased, too."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg

from chatkeep.conversations import forking, imports, list_conversations
from chatkeep.conversations.imports import Arrival, Line
from chatkeep.personal_data import erasure
from tests.serving import until

if TYPE_CHECKING:
    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase

_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


_WITH_A_FILE: Final[LiteralString] = """
insert into chat.conversations (user_id, id, head_id) values ('bo', 'with a file', 'm');
insert into chat.messages (user_id, conversation_id, id, role, content)
  values ('bo', 'with a file', 'm', 'user', 'Hello');
insert into chat.chatkit_attachments (user_id, id, attachment, media_type, size, conversation_id)
  values ('bo', 'file', '{}', 'text/plain', 1, 'with a file');
"""


async def test_file_that_is_being_erased_is_not_in_a_copy(
    db: Database, database: MigratedDatabase
) -> None:
    """Whoever copies a conversation while an item of it goes, with its file, has the rest."""
    database.operate(_WITH_A_FILE)
    with psycopg.connect(database.admin_url) as erasing:
        erasing.execute("select from chat.conversations where id = 'with a file' for update")
        erasing.execute("delete from chat.chatkit_attachments where id = 'file'")
        copying = asyncio.create_task(forking.fork(db, "bo", "with a file", message_id=None))
        await until(lambda: database.waiting_for_locks() > 0)
        erasing.commit()
    copy = await copying
    assert copy.id in [one.id for one in await list_conversations(db, "bo", limit=3)]


async def test_copy_that_is_being_made_is_erased_with_what_it_copies(
    db: Database, database: MigratedDatabase
) -> None:
    """It has read the words before they go, and is there only afterwards."""
    line = Line(number=0, parent=None, role="user", text="Hello", at=_AT)
    told = Arrival(source="chatgpt", id="chat", title="Chat", at=_AT, lines=[line], head=0)
    assert await imports.store(db, "ana", told)
    (brought,) = await list_conversations(db, "ana", limit=2)
    with psycopg.connect(database.admin_url) as in_the_way:
        in_the_way.execute("insert into chat.conversations (user_id, id) values ('ana', 'copy')")
        copying = asyncio.create_task(
            forking.fork(db, "ana", brought.id, message_id=None, fork_id="copy")
        )
        await until(lambda: database.waiting_for_locks() >= 1)
        erasing = asyncio.create_task(erasure.erase_words(db, "ana"))
        await until(lambda: database.waiting_for_locks() >= 2 or erasing.done())
        in_the_way.rollback()
    await copying
    await erasing
    assert await list_conversations(db, "ana", limit=2) == []
    left = "select count(*) from chat.messages where user_id = 'ana'"
    assert database.operate(left) == [(0,)]
