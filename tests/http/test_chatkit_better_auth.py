"""The support chat with Better Auth behind it: its real server, and each of its credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from chatkeep.sql.better_auth import allow_reading
from tests.chatkit_client import ROUTE, Kit, request, text_of
from tests.identity_providers import INSTALLED, NOT_INSTALLED, SECRET, better_auth
from tests.serving import start_node, until

if TYPE_CHECKING:
    import aiohttp

    from tests.postgres_servers import MigratedDatabase

pytestmark = pytest.mark.skipif(not INSTALLED.exists(), reason=NOT_INSTALLED)


async def refuses(kit: Kit) -> bool:
    """Whether the bearer opens nothing any more."""
    return (await kit.call("threads.list")).status != 200


async def test_support_chat_of_a_person_of_better_auth(
    database: MigratedDatabase, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """One thread by token, session token and cookie; then each refusal, word for word."""
    async with better_auth(database.server, database.name, session) as auth:
        allow_reading(database.admin_url)
        environment = {"SUPABASE_PROJECT_URL": "", "SUPABASE_JWT_SECRET": ""}
        node = await start_node(
            database.url,
            session,
            "",
            **{**environment, "BETTER_AUTH_URL": auth.url, "BETTER_AUTH_SECRET": SECRET},
        )
        ana, bo = await auth.sign_up(), await auth.sign_up()
        token = await auth.jwt(ana)
        kit = Kit(node.nobody(authorization=f"Bearer {token}"))
        thread, _ = await kit.create("Help")
        by_session = node.nobody(authorization=f"Bearer {ana.session}")
        by_cookie = node.nobody(cookie=ana.cookie, origin=node.url)
        for client in (by_session, by_cookie):
            assert text_of((await Kit(client).items(thread))[0]) == "Help"
        stranger = Kit(node.nobody(authorization=f"Bearer {await auth.jwt(bo)}"))
        assert (await stranger.call("threads.get_by_id", thread_id=thread)).status == 404
        with psycopg.connect(database.admin_url) as admin:
            admin.execute('delete from session where "userId" = %s', [ana.id])
        # What was looked up is known for a second.
        await until(lambda: refuses(kit))
        signed_out = await kit.call("threads.list")
        with psycopg.connect(database.admin_url) as admin:
            admin.execute('delete from "user" where id = %s', [ana.id])
        unknown = await kit.call("threads.list")
        garbage = node.nobody(authorization="Bearer garbage", origin="https://shop.example")
        refused = await garbage.post(ROUTE, request("threads.list"))
        await node.stop()
    found = [(one.status, one.json["error"]) for one in (signed_out, unknown, refused)]
    assert found == [
        (404, "No active sessions found for user"),
        (404, "User not found with provided email"),
        (401, "Invalid or expired JWT token"),
    ]
    assert refused.headers["access-control-allow-origin"] == "*"
    assert token not in caplog.text
