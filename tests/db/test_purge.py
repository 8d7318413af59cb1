"""What was deleted can be restored for a day, and is then erased for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep import conversations, files
from chatkeep.db import as_user
from chatkeep.errors import NotYourConversation
from chatkeep.files import FileRow
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from chatkeep.db import Database
    from tests.postgres_servers import MigratedDatabase


async def test_deleted_conversation_is_erased_after_a_day_with_its_messages(
    database: MigratedDatabase, db: Database
) -> None:
    """The day is counted from the deletion; what nobody deleted is never touched."""
    kept, recent, old = [
        await conversations.start_conversation(db, "carla", greeting="hello") for _ in range(3)
    ]
    await conversations.delete(db, "carla", recent)
    await conversations.delete(db, "carla", old)
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "update chat.conversations set deleted_at = now() - interval '25 hours' where id = %s",
            [old],
        )
        assert await conversations.purge_deleted(db) == 1
        left = connection.execute(
            "select distinct conversation_id from chat.messages where user_id = 'carla'"
        ).fetchall()
    assert {row[0] for row in left} == {kept, recent}
    assert (await conversations.restore(db, "carla", recent)).id == recent
    with pytest.raises(NotYourConversation):
        await conversations.restore(db, "carla", old)


@pytest.mark.parametrize("goes_first", [0, 1])
async def test_file_is_kept_as_long_as_either_conversation_that_it_was_sent_in(
    database: MigratedDatabase, db: Database, goes_first: int
) -> None:
    """Whichever of them is erased first; with the last one it goes."""
    who, file_id = "carla", new_id()
    row = FileRow(id=file_id, attachment={}, media_type="text/plain", size=1, digest=None)
    await files.announce(db, who, row, total=1000)
    sent_in = [await conversations.start_conversation(db, who, greeting="hi") for _ in range(2)]
    for one in sent_in:
        await db.fetch_all(as_user(who), *files.using(who, one, [file_id]))
    database.operate("update chat.chatkit_attachments set created_at = now() - interval '25 hours'")
    for place, still_there in ((goes_first, True), (1 - goes_first, False)):
        await conversations.delete(db, who, sent_in[place])
        database.operate(
            "update chat.conversations set deleted_at = now() - interval '25 hours' where id = %s",
            sent_in[place],
        )
        await conversations.purge_deleted(db)
        await files.purge_unsent(db)
        assert (await files.find(db, who, file_id) is not None) is still_there
