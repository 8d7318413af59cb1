"""A restore drill: with PostgreSQL's own tools, as the how-to says, and what comes of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import aiohttp
import pytest

from tests.command_line import chatkeep
from tests.postgres_servers import LOGIN, Server, new_server, throw_away
from tests.server_process import server_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD: Final = "a password for tests"
SECRET: Final = "a secret for tests: 0123456789abcdef"
#: How long it may be until the restored server serves, on a machine that has much to do.
BACK_WITHIN_S: Final = 60.0
DATABASE: Final = "chat"


@dataclass
class Person:
    """Somebody with a server in front of them."""

    http: aiohttp.ClientSession
    base: str
    email: str = ""

    async def ask(
        self, method: str, path: str, body: object = None, *, bearer: str | None = None
    ) -> tuple[int, Any]:
        """Send a request; return status and JSON."""
        headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
        async with self.http.request(
            method, self.base + path, json=body, headers=headers
        ) as answer:
            return answer.status, None if answer.status == 204 else await answer.json()

    async def sign_up(self) -> dict[str, Any]:
        """Become somebody; return the session."""
        self.email = f"{uuid4().hex}@example.com"
        body = {"email": self.email, "password": PASSWORD}
        status, session = await self.ask("POST", "/auth/v1/signup", body)
        assert status == 200
        return dict(session)

    async def sign_in(self) -> dict[str, Any]:
        """Sign in once more; return the session."""
        body = {"email": self.email, "password": PASSWORD}
        status, session = await self.ask("POST", "/auth/v1/token?grant_type=password", body)
        assert status == 200
        return dict(session)

    async def refresh(self, session: dict[str, Any]) -> int:
        """Return the status of using the session's refresh token."""
        body = {"refresh_token": session["refresh_token"]}
        return (await self.ask("POST", "/auth/v1/token?grant_type=refresh_token", body))[0]

    async def say(self, chat: str, text: str, bearer: str) -> int:
        """Return the status of a question."""
        body = {"conversation_id": chat, "message": text}
        return (await self.ask("POST", "/api/v1/chat/message", body, bearer=bearer))[0]

    async def questions(self, chat: str, bearer: str) -> list[str]:
        """Return what was asked in the conversation."""
        status, page = await self.ask("GET", f"/api/v1/chat/{chat}", bearer=bearer)
        assert status == 200
        return [one["content"] for one in page["messages"] if one["role"] == "user"]


@pytest.fixture
def backups() -> Iterator[Path]:
    """A folder that PostgreSQL's account may write to."""
    folder = Path(tempfile.mkdtemp(prefix="chatkeep-backups-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def first() -> Iterator[Server]:
    """The PostgreSQL that will be lost."""
    server = new_server("18")
    yield server
    throw_away(server)


@pytest.fixture
def second() -> Iterator[Server]:
    """The one that takes its place, with nothing in it."""
    server = new_server("18")
    yield server
    throw_away(server)


def run(server: Server, program: str, *arguments: object, out: Path | None = None) -> None:
    """Run a program of PostgreSQL's as the account that its server has."""
    with (Path(os.devnull) if out is None else out).open("wb") as output:
        done = subprocess.run(
            [server.binaries / program, *map(str, arguments)],
            user=server.os_user,
            stdout=output,
            stderr=subprocess.PIPE,
            cwd="/",
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()


def dump(first: Server, second: Server, folder: Path) -> Callable[[], None]:
    """Back up the database and the roles; return what restores them."""
    roles, content = folder / "roles.sql", folder / "chat.dump"
    run(first, "pg_dumpall", "--roles-only", "--no-role-passwords", "-d", first.url(), out=roles)
    run(first, "pg_dump", "--format=custom", first.url(DATABASE), out=content)

    def restore() -> None:
        # `postgres` is there already; everything else must come without a complaint.
        run(second, "psql", "-q", second.url(), "-f", roles)
        run(second, "createdb", "--maintenance-db", second.url(), DATABASE)
        run(second, "pg_restore", "--exit-on-error", "-d", second.url(DATABASE), content)

    return restore


def base_backup(first: Server, second: Server, folder: Path) -> Callable[[], None]:
    """Copy the whole cluster while it serves; return what puts the copy into place."""
    second.stop("fast")
    shutil.rmtree(second.folder)
    copy = folder / "base"
    run(first, "pg_basebackup", "-d", first.url(), "-D", copy, "--checkpoint=fast")

    def restore() -> None:
        # Unlike `shutil.move` it keeps whose the files are where it goes to another file system.
        subprocess.run(["/bin/mv", copy, second.folder], check=True)
        (second.folder / ".s.PGSQL.5432.lock").unlink()  # our sockets are in the data folder
        second.start()

    return restore


@pytest.mark.parametrize("back_up", [dump, base_backup])
async def test_what_was_backed_up_serves_again(
    back_up: Callable[[Server, Server, Path], Callable[[], None]],
    first: Server,
    second: Server,
    home: Path,
    backups: Path,
) -> None:
    """All up to the backup is there and works; what was ended later is back, until it is ended."""
    run(first, "createdb", "--maintenance-db", first.url(), DATABASE)
    run(first, "psql", "-q", first.url(), "-c", f"create role {LOGIN} login noinherit")
    common = {"CHATKEEP_SECRET": SECRET, "PUBLIC_URL": "http://chat.localhost"}
    lost = common | {"DATABASE_URL": first.url(DATABASE, user=LOGIN)}
    admin = lost | {"DATABASE_ADMIN_URL": first.url(DATABASE)}
    assert (await chatkeep("migrate", cwd=home, settings=admin)).code == 0

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        server = await stack.enter_async_context(server_process(home / "first", lost))
        ana = Person(http, server.base)
        session = await ana.sign_up()
        other = await ana.sign_in()
        bearer = session["access_token"]
        _, chat = await ana.ask("POST", "/api/v1/chat/start", {}, bearer=bearer)
        chat = chat["conversation_id"]
        assert await ana.say(chat, "Before the backup", bearer) == 200

        restore = await asyncio.to_thread(back_up, first, second, backups)

        assert await ana.say(chat, "After the backup", bearer) == 200
        status, _ = await ana.ask(
            "POST", "/auth/v1/logout?scope=local", bearer=other["access_token"]
        )
        assert (status, await ana.refresh(other)) == (204, 400)
        await server.kill()
        first.stop("immediate")

        began = time.monotonic()
        await asyncio.to_thread(restore)
        restored = common | {"DATABASE_URL": second.url(DATABASE, user=LOGIN)}
        server = await stack.enter_async_context(server_process(home / "second", restored))
        assert time.monotonic() - began < BACK_WITHIN_S
        ana.base = server.base

        assert await ana.questions(chat, bearer) == ["Before the backup"]
        assert await ana.say(chat, "After the restore", bearer) == 200
        assert await ana.refresh(session) == 200
        for words in (["doctor"], ["audit", "verify"], ["keys", "list"], ["migrate"]):
            done = await chatkeep(*words, cwd=home, settings=restored)
            assert done.code == 0, (words, done.out, done.err)

        # What was ended after the backup is back, and the how-to says how to end it.
        assert await ana.refresh(other) == 200
        ended = await chatkeep(
            *("sessions", "revoke-all", "--everybody", "--yes", "--reason", "restored"),
            cwd=home,
            settings=restored,
        )
        assert ended.code == 0, ended.err
        assert await ana.refresh(other) == 400
        assert (await ana.ask("GET", "/api/settings", bearer=bearer))[0] == 401
        again = await ana.sign_in()
        assert "Before the backup" in await ana.questions(chat, again["access_token"])
        await server.stop()

    stranger = restored | {"CHATKEEP_SECRET": "another secret: 0123456789abcdef"}
    refused = await chatkeep("serve", "--port", "0", cwd=home, settings=stranger)
    assert (refused.code, "CHATKEEP_SECRET" in refused.err) == (1, True)
