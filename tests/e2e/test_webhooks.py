"""Webhooks of the installed program: killed between queueing and telling, and its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import psycopg

from tests.command_line import chatkeep
from tests.free_ports import free_port
from tests.server_process import server_process
from tests.serving import SERVER_SECRET, until
from tests.webhook_receivers import receiving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres_servers import MigratedDatabase

SECRET = "whsec_" + "a" * 43 + "="


def attempts(database: MigratedDatabase) -> list[int]:
    """Return how often each job was begun."""
    with psycopg.connect(database.admin_url) as admin:
        found = admin.execute("select attempts from chatkeep_queue.procrastinate_jobs").fetchall()
    return [count for (count,) in found]


def forget_jobs(database: MigratedDatabase) -> None:
    """Let nothing wait that another test has left."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("delete from chatkeep_queue.procrastinate_jobs")


async def test_webhooks_survive_kill_9(database: MigratedDatabase, home: Path) -> None:
    """Queued while the receiver was away, killed, started again: told, once, what happened."""
    forget_jobs(database)
    port = free_port()
    settings = {
        "DATABASE_URL": database.url,
        "DATABASE_ADMIN_URL": database.admin_url,
        "CHATKEEP_SECRET": SERVER_SECRET,
        "WEBHOOKS": "crm",
        "WEBHOOK_CRM_URL": f"http://127.0.0.1:{port}/hook",
        "WEBHOOK_CRM_SECRET": SECRET,
        "WEBHOOK_CRM_EVENTS": "user.created",
    }
    async with server_process(home / "data", settings) as server, aiohttp.ClientSession() as http:
        await server.sign_up(http)
        await until(lambda: max(attempts(database), default=0) >= 1)
        await server.kill()
        async with receiving(port) as crm:
            await server.start()
            await until(lambda: bool(crm.heard))
            await until(lambda: attempts(database) == [])
            assert crm.types() == ["user.created"]
            assert crm.heard[0].is_signed_with(SECRET)


async def test_operator_tries_and_tells_again(home: Path, database: MigratedDatabase) -> None:
    """A secret is made, a receiver tried, and what was given up is listed and told again."""
    made = await chatkeep("webhooks", "secret", cwd=home)
    secret = made.out.strip()
    assert secret.startswith("whsec_")
    async with receiving() as crm:
        settings = {
            "DATABASE_URL": database.url,
            "DATABASE_ADMIN_URL": database.admin_url,
            "CHATKEEP_SECRET": SERVER_SECRET,
            "WEBHOOKS": "crm",
            "WEBHOOK_CRM_URL": crm.url,
            "WEBHOOK_CRM_SECRET": secret,
        }
        done = await chatkeep("webhooks", "test", "crm", cwd=home, settings=settings)
        assert (done.code, done.out.strip()) == (0, "crm took it."), done.err
        assert crm.heard[0].is_signed_with(secret)
        crm.statuses = [500]
        done = await chatkeep("webhooks", "test", "crm", cwd=home, settings=settings)
        assert done.code == 1
        assert "crm did not take it (500)" in done.err
        done = await chatkeep("webhooks", "test", "erp", cwd=home, settings=settings)
        assert "WEBHOOKS does not name erp" in done.err
        done = await chatkeep("webhooks", "list", cwd=home, settings=settings)
        assert (done.out, "Nothing" in done.err) == ("", True)
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute(
                "insert into chatkeep.dead_webhooks (id, name, event, content, attempts, reason)"
                " values ('msg_1', 'crm', 'user.created', '{}', 9, '503')"
            )
        done = await chatkeep("webhooks", "list", cwd=home, settings=settings)
        assert "msg_1  crm  user.created" in done.out
        done = await chatkeep("webhooks", "redeliver", cwd=home, settings=settings)
        assert done.code == 2
        done = await chatkeep("webhooks", "redeliver", "--all", cwd=home, settings=settings)
        assert done.out.strip() == "1 will be told again."
        done = await chatkeep("webhooks", "redeliver", "msg_1", cwd=home, settings=settings)
        assert (done.code, "Only 0 of these" in done.err) == (1, True)
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute(
                "insert into chatkeep.webhooks values ('crm', '{}') on conflict do nothing"
            )
        done = await chatkeep("webhooks", "end", "crm", cwd=home, settings=settings)
        assert done.out.strip() == "crm is told no more; 1 that waited are dropped.", done.err
        assert attempts(database) == []
        done = await chatkeep("webhooks", "end", "crm", cwd=home, settings=settings)
        assert (done.code, "Nobody called crm is told." in done.err) == (1, True)
        assert secret not in done.out + done.err
