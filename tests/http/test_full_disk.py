"""The database has no room left: what is there can be read, and all is well when there is room."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from tests.http.test_conversations import CHAT, begin, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Person


@contextmanager
def full_disk(database: MigratedDatabase) -> Iterator[None]:
    """Let PostgreSQL find no room (SQLSTATE 53100) for any message or conversation."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "create function chat.no_room() returns trigger language plpgsql as"
            " $$ begin raise disk_full; end $$;"
            " create trigger no_room before insert or update on chat.messages"
            " for each row execute function chat.no_room();"
            " create trigger no_room before insert or update on chat.conversations"
            " for each row execute function chat.no_room()"
        )
        try:
            yield
        finally:
            admin.execute("drop function chat.no_room cascade")


async def test_writes_are_refused_and_reads_served(ana: Person, database: MigratedDatabase) -> None:
    """503 that says when to come back, nothing half written, and everything readable."""
    conversation = await begin(ana.client)
    await say(ana.client, conversation, "Before.")
    before = (await ana.client.get(f"{CHAT}/{conversation}")).json
    body = {"conversation_id": conversation, "message": "While there is no room."}
    with full_disk(database):
        for path, sent in ((f"{CHAT}/message", body), (f"{CHAT}/start", {})):
            refused = await ana.client.post(path, sent)
            assert (refused.status, refused.json["code"]) == (503, "database_unavailable")
            assert "retry-after" in refused.headers
        assert (await ana.client.get(f"{CHAT}/{conversation}")).json == before
        assert (await ana.client.get(CHAT)).status == 200
        assert (await ana.client.get("/auth/me")).status == 200
    await say(ana.client, conversation, "There is room again.")
    after = (await ana.client.get(f"{CHAT}/{conversation}")).json["messages"]
    assert [one["content"] for one in after if one["role"] == "user"] == [
        "Before.",
        "There is room again.",
    ]
