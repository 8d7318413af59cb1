"""What was deleted can be restored for a day, and is then erased for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep import conversations
from chatkeep.errors import NotYourConversation

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
