"""Mail of the installed program: killed between queueing and sending, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import psycopg

from chatkeep.config import Settings
from chatkeep.db import AUTH, Database
from chatkeep.mail import Mail, outgoing_mail, queued
from tests.command_line import chatkeep, serving
from tests.free_ports import free_port
from tests.mail_servers import PASSWORD, mail_server
from tests.server_process import server_process
from tests.serving import SERVER_SECRET, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres_servers import MigratedDatabase


async def test_mail_survives_kill_9(database: MigratedDatabase, home: Path) -> None:
    """Queued while the mail server was away, killed, started again: sent, and sent once."""
    port, mail_port = free_port(), free_port()
    settings = {
        "DATABASE_URL": database.url,
        "DATABASE_ADMIN_URL": database.admin_url,
        "CHATKEEP_SECRET": SERVER_SECRET,
        "SMTP_URL": f"smtp://127.0.0.1:{mail_port}",
        "SMTP_TLS": "off",
        "MAIL_FROM": "no-reply@example.com",
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    outgoing = outgoing_mail(Settings.from_env(settings), SERVER_SECRET.encode())
    link = f"{outgoing.home}/auth/v1/verify?token=abc&type=recovery"
    mail = Mail(kind="recovery", to="ana@example.com", link=link)
    db = Database(database.url, pool_size=1)
    await db.open()
    try:
        async with server_process(home / "data", settings) as server:
            await db.fetch_all(AUTH, queued(mail, outgoing))
            await until(lambda: max(_attempts(database), default=0) >= 1)
            await server.kill()
            async with mail_server(port=mail_port) as receiving:
                await server.start()
                await until(lambda: bool(receiving.received))
                await until(lambda: _attempts(database) == [])
                assert len(receiving.received) == 1
                assert link in receiving.received[0].text
    finally:
        await db.close()


async def test_serve_says_where_mail_is(home: Path) -> None:
    """The first start names the outbox, and the outbox is there."""
    port = free_port()
    async with serving("--port", str(port), cwd=home) as server:
        said = await server.says(f"http://127.0.0.1:{port}/outbox")
        assert "Mail" in said
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/outbox") as answer,
        ):
            assert answer.status == 200


async def test_broken_template_refuses_the_start(home: Path) -> None:
    """It is named before anything is started, so that nobody finds out by mail that never came."""
    (home / "recovery.txt").write_text("Subject: x\nHeading: y\n\nHello $nobody!\n")
    done = await chatkeep("serve", cwd=home, settings={"MAIL_TEMPLATES": str(home)})
    assert done.code == 1
    assert "The mail template recovery.txt names $nobody" in done.err
    assert not (home / ".chatkeep").exists()


async def test_mail_test_sends_one(home: Path) -> None:
    """An operator sees at once whether mail arrives, and what to do if it does not."""
    async with mail_server() as server:
        settings = {
            "SMTP_URL": server.address,
            "SMTP_TLS": "off",
            "MAIL_FROM": "no-reply@example.com",
        }
        done = await chatkeep("mail", "test", "ana@example.com", cwd=home, settings=settings)
        assert done.code == 0, done.err
        assert f"through 127.0.0.1:{server.port}" in done.out
        assert server.received[0].message["Subject"] == "Mail from Chatkeep works"
        server.to_recipients = ["550 no such user"]
        done = await chatkeep("mail", "test", "ana@example.com", cwd=home, settings=settings)
        assert done.code == 1
        assert "refuses the address of the recipient. (It answers 550.)" in done.err
        done = await chatkeep(
            "mail", "test", "ana\r\nBcc: bo@example.com", cwd=home, settings=settings
        )
        assert done.code == 1
        assert "is no address" in done.err
    done = await chatkeep("mail", "test", "ana@example.com", cwd=home)
    assert (done.code, "Set SMTP_URL and MAIL_FROM" in done.err) == (1, True)


async def test_doctor_greets_the_mail_server(home: Path) -> None:
    """It finds what is wrong with the settings of mail, and never shows the password."""
    url = f"smtp://ana:{PASSWORD.replace('@', '%40').replace('/', '%2F').replace(' ', '%20')}"
    settings = {
        "SMTP_URL": f"{url}@127.0.0.1:{free_port()}",
        "SMTP_TLS": "off",
        "MAIL_FROM": "no-reply@example.com",
    }
    done = await chatkeep("doctor", cwd=home, settings=settings)
    assert done.code == 1
    assert "nobody answers there: check host and port of SMTP_URL" in done.out
    assert "ss word" not in done.out + done.err
    async with mail_server() as server:
        done = await chatkeep("doctor", cwd=home, settings=settings | {"SMTP_URL": server.address})
        assert f"goes through 127.0.0.1:{server.port}, from no-reply@example.com" in done.out
        assert server.recipients == []
    done = await chatkeep("doctor", cwd=home)
    assert "is shown at /outbox" in done.out


def _attempts(database: MigratedDatabase) -> list[int]:
    with psycopg.connect(database.admin_url) as admin:
        found = admin.execute("select attempts from chatkeep_queue.procrastinate_jobs")
        return [attempts for (attempts,) in found]
