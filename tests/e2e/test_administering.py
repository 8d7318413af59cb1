"""`chatkeep users` and `chatkeep sessions` beside a server that runs, as an operator uses them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import pytest

from tests.command_line import CHATKEEP, Done, chatkeep, environment
from tests.forge import SECRET
from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess, server_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.e2e.conftest import Settle

PASSWORD = "Correct-Horse-42-battery"


@pytest.fixture(scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory, settle: Settle
) -> AsyncIterator[ServerProcess]:
    """A server on a data folder of its own."""
    folder = tmp_path_factory.mktemp("administering") / "data"
    settle(folder)
    async with server_process(folder, {"RATE_LIMITS": "off"}) as started:
        yield started


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """What sends requests."""
    async with aiohttp.ClientSession() as opened:
        yield opened


async def sign_up(server: ServerProcess, http: aiohttp.ClientSession) -> dict[str, Any]:
    """Make somebody; return the session."""
    body = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD}
    async with http.post(f"{server.base}/auth/v1/signup", json=body) as answer:
        session: dict[str, Any] = await answer.json()
        return session


async def status(
    server: ServerProcess, http: aiohttp.ClientSession, session: dict[str, Any], path: str
) -> int:
    """Return what a path answers to the session's token."""
    headers = {"authorization": f"Bearer {session['access_token']}"}
    async with http.get(server.base + path, headers=headers) as answer:
        return answer.status


async def run(server: ServerProcess, *arguments: str) -> Done:
    """Run a command on the server's data folder."""
    return await chatkeep(*arguments, "--data", str(server.data), cwd=server.data.parent)


async def piped(server: ServerProcess, text: str, *arguments: str) -> tuple[int | None, str]:
    """Run a command with *text* as its standard input; return its code and complaints."""
    process = await asyncio.create_subprocess_exec(
        *(CHATKEEP, *arguments, "--data", str(server.data)),
        cwd=server.data.parent,
        env=environment({}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaints = await process.communicate(text.encode())
    return process.returncode, complaints.decode()


async def test_first_administrator_is_made_at_the_machine(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    """There is none to begin with; a command makes one at once, and never takes the last away."""
    first, second = await sign_up(server, http), await sign_up(server, http)
    emails = [one["user"]["email"] for one in (first, second)]
    for session in (first, second):
        assert await status(server, http, session, "/api/admin/users") == 403
    done = await run(server, "users", "grant-role", emails[0], "admin")
    assert (done.code, done.out) == (0, f"{emails[0]} now has the role admin.\n")
    assert await status(server, http, first, "/api/admin/users") == 200
    again = await run(server, "users", "grant-role", emails[0], "admin")
    assert "already had" in again.out
    for command in (("revoke-role", emails[0], "admin"), ("ban", emails[0])):
        refused = await run(server, "users", *command)
        assert (refused.code, "Nobody else is an administrator" in refused.err) == (1, True)
    refused = await run(server, "users", "delete", emails[0], "--yes")
    assert (refused.code, "Nobody else" in refused.err) == (1, True)
    await run(server, "users", "grant-role", second["user"]["id"], "admin")
    done = await run(server, "users", "revoke-role", emails[0], "admin")
    assert done.out == f"{emails[0]} no longer has the role admin.\n"
    assert await status(server, http, first, "/api/admin/users") == 403
    assert await status(server, http, second, "/api/admin/users") == 200
    odd = await run(server, "users", "grant-role", emails[0], "poet")
    assert "none of ADMIN_ROLES (admin)" in odd.err


async def test_ban_by_command_holds_on_a_running_server_until_lifted(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    """A running server refuses the person at once, and lets them in when it is lifted."""
    session = await sign_up(server, http)
    email = session["user"]["email"]
    assert await status(server, http, session, "/api/v1/chat") == 200
    done = await run(server, "users", "ban", email, "--for", "1h30m", "--reason", "spam")
    assert (done.code, done.out) == (0, f"{email} is banned and signed out everywhere.\n")
    async with asyncio.timeout(PATIENCE_S):
        while await status(server, http, session, "/api/v1/chat") != 401:  # noqa: ASYNC110 -- another process has no event of ours
            await asyncio.sleep(0.01)
    shown = json.loads((await run(server, "users", "show", email, "--json")).out)
    assert shown["banned_until"]
    listed = await run(server, "users", "list", "--search", email)
    assert listed.out.rstrip().endswith(f"{email}  banned")
    assert (await run(server, "users", "unban", email)).out == f"{email} may sign in again.\n"
    wrong = await run(server, "users", "ban", email, "--for", "long")
    assert (wrong.code, "1h30m" in wrong.err) == (2, True)


async def test_person_of_another_issuer_is_suspended(server: ServerProcess) -> None:
    """By their id; only where there is such an issuer, and until it is lifted."""
    eve = "supabase:8d1c4e9a"
    asked = ("users", "ban", eve, "--for", "24h", "--reason", "spam")
    refused = await run(server, *asked)
    assert (refused.code, "Nobody has an account" in refused.err) == (1, True)
    project = {"SUPABASE_JWT_SECRET": SECRET.decode(), "PRIMARY_ISSUER": "embedded"}

    async def run_beside(*arguments: str) -> Done:
        data = ("--data", str(server.data))
        return await chatkeep(*arguments, *data, cwd=server.data.parent, settings=project)

    done = await run_beside(*asked)
    assert (done.code, done.out) == (0, f"{eve} is banned and signed out everywhere.\n"), done.err
    listed = await run_beside("users", "banned")
    assert re.search(rf"^{eve}  until \d{{4}}-\d\d-\d\d \d\d:\d\d  -$", listed.out, re.MULTILINE)
    found = json.loads((await run_beside("users", "banned", "--json")).out)
    assert eve in {one["user_id"] for one in found}
    assert (await run_beside("users", "unban", eve)).out == f"{eve} may sign in again.\n"
    assert eve not in (await run_beside("users", "banned")).out


async def test_sessions_are_listed_and_ended(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    """One by its id, all of somebody, and all of everybody; tokens are in no list."""
    ana, bo = await sign_up(server, http), await sign_up(server, http)
    email = ana["user"]["email"]
    listed = await run(server, "sessions", "list", "--user", email, "--json")
    (one,) = json.loads(listed.out)
    assert (one["user_id"], one["is_active"]) == (ana["user"]["id"], True)
    assert ana["refresh_token"] not in listed.out
    assert (await run(server, "sessions", "revoke", one["id"])).out == "Ended.\n"
    again = await run(server, "sessions", "revoke", one["id"])
    assert (again.code, "no such session" in again.err) == (1, True)
    ended = await run(server, "sessions", "list", "--user", email, "--ended")
    assert ended.out.rstrip().endswith("ended: revoked")
    done = await run(server, "sessions", "revoke-all", "--user", bo["user"]["id"])
    assert done.out == "1 sessions ended.\n"
    other = await run(server, "sessions", "revoke-all", "--user", "supabase:nobody")
    assert other.out == "0 sessions ended.\n"
    cy = await sign_up(server, http)
    asked = await run(server, "sessions", "revoke-all", "--everybody")
    assert (asked.code, "say --yes" in asked.err) == (2, True)
    assert (await run(server, "sessions", "revoke-all")).code == 2
    done = await run(server, "sessions", "revoke-all", "--everybody", "--yes")
    assert done.code == 0
    async with asyncio.timeout(PATIENCE_S):
        while await status(server, http, cy, "/api/v1/chat") != 401:  # noqa: ASYNC110 -- another process has no event of ours
            await asyncio.sleep(0.01)
    assert "Nobody is signed in." in (await run(server, "sessions", "list")).err


async def test_password_is_set_from_standard_input(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    """The new one signs in and the old one does not; a weak one is refused in words."""
    session = await sign_up(server, http)
    email = session["user"]["email"]
    code, said = await piped(server, "short\n", "users", "set-password", email)
    assert (code, "at least 8 characters" in said) == (1, True)
    code, _ = await piped(server, "Another-Horse-43\n", "users", "set-password", email)
    assert code == 0
    for password, expected in ((PASSWORD, 400), ("Another-Horse-43", 200)):
        body = {"email": email, "password": password}
        path = f"{server.base}/auth/v1/token?grant_type=password"
        async with http.post(path, json=body) as answer:
            assert answer.status == expected


async def test_delete_asks_first(server: ServerProcess, http: aiohttp.ClientSession) -> None:
    """And says who is gone; nobody of that name is one clear line."""
    email = (await sign_up(server, http))["user"]["email"]
    assert (await run(server, "users", "delete", email)).code == 2
    assert "is deleted" in (await run(server, "users", "delete", email, "--yes")).out
    gone = await run(server, "users", "show", email)
    assert (gone.code, "Nobody has an account" in gone.err) == (1, True)
    assert (await run(server, "users", "list", "--search", email, "--json")).out.strip() == "[]"


async def test_what_the_operator_did_is_in_the_log(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    """With the operator as who did it."""
    email = (await sign_up(server, http))["user"]["email"]
    await run(server, "users", "ban", email, "--reason", "spam")
    shown = json.loads((await run(server, "users", "show", email, "--json")).out)
    listed = await run(server, "audit", "list", "--user", shown["id"], "--json")
    assert listed.code == 0, listed.err
    assert '"operator"' in listed.out
    assert "user.banned" in listed.out


async def test_keys_are_listed_and_revoked(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    """A running server refuses a key at once when the operator has revoked it."""
    session = await sign_up(server, http)
    email = session["user"]["email"]
    none = await run(server, "users", "keys", email)
    assert (none.code, none.out, none.err) == (0, "", "No API keys.\n")
    headers = {"authorization": f"Bearer {session['access_token']}"}
    wanted = {"name": "Laptop\u200b", "scopes": ["models:read"]}
    async with http.post(f"{server.base}/api/keys", json=wanted, headers=headers) as answer:
        made = await answer.json()
    key = {"access_token": made["key"]}
    assert await status(server, http, key, "/v1/models") == 200
    listed = await run(server, "users", "keys", email)
    assert listed.out.startswith(f"{made['id']}  {made['prefix']}…  Laptop?  models:read  used ")
    assert made["key"] not in listed.out
    (one,) = json.loads((await run(server, "users", "keys", email, "--json")).out)
    assert (one["name"], one["revoked_at"]) == (wanted["name"], None)
    revoking = ("users", "revoke-key", email, made["id"], "--reason", "leaked")
    assert (await run(server, *revoking)).out == "Revoked.\n"
    async with asyncio.timeout(PATIENCE_S):
        while await status(server, http, key, "/v1/models") != 401:  # noqa: ASYNC110 -- another process has no event of ours
            await asyncio.sleep(0.01)
    again = await run(server, *revoking)
    assert (again.code, "no such key" in again.err) == (1, True)
    ended = await run(server, "users", "keys", email)
    assert ended.out.rstrip().endswith(": leaked")
