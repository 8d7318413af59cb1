"""The commands beside `serve`: with a server running and with none, for people and programs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import aiohttp
import psycopg
import pytest

import chatkeep as package
from chatkeep.data_folder import DataFolder
from chatkeep.embedded_postgresql.cluster import attach
from chatkeep.sql.migrations import HEAD
from tests.command_line import Done, chatkeep, serving

if TYPE_CHECKING:
    from pathlib import Path

ADOPTED = """
insert into chat.conversations (user_id, id, title) values ('', 'left-by-somebody', 'Old');
insert into chat.messages (user_id, conversation_id, id, role, content)
  values ('', 'left-by-somebody', 'm1', 'user', 'from before');
"""


async def said(*arguments: str, cwd: Path, **settings: str) -> str:
    """Return what a command prints that must succeed and complain of nothing."""
    done = await chatkeep(*arguments, cwd=cwd, settings=settings)
    assert (done.code, done.err) == (0, ""), done
    return done.out.strip()


def is_untouched(home: Path) -> bool:
    """Whether nothing was made in the folder."""
    return not list(home.iterdir())


async def test_help_teaches(home: Path) -> None:
    """Help begins with what to type; each command has examples of its own."""
    shown = await said("--help", cwd=home)
    commands = re.findall(r"^  (\w+)  +\w", shown.partition("Commands:")[2], re.MULTILINE)
    assert commands == [
        "serve",
        "keys",
        "token",
        "users",
        "import",
        "sessions",
        "claims",
        "audit",
        "doctor",
        "issuers",
        "budgets",
        "mail",
        "webhooks",
        "migrate",
        "assign",
        "version",
    ]
    assert "\n    chatkeep serve\n" in shown
    for command in commands[:-1]:
        assert (
            f"chatkeep {command}" in (await said(command, "-h", cwd=home)).partition("Examples:")[2]
        )
    assert is_untouched(home)


async def test_version_is_the_package_s(home: Path) -> None:
    """Both ways to ask get the version."""
    assert await said("version", cwd=home) == package.__version__
    assert await said("--version", cwd=home) == f"chatkeep {package.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["sevre"],
        ["serve", "--port", "99999"],
        ["serve", "--workers", "0"],
        ["token"],
        ["token", "--user", "ana", "--role", "service_role"],
        ["token", "--user", "", "--email", "a@example.com"],
        ["token", "--user", "a" * 256],
        ["assign", "--conversation", "c"],
        ["users", "ban", "ana@example.com", "--for", "3 weeks"],
        ["users", "grant-role", "ana@example.com", "chief editor"],
    ],
)
async def test_wrong_call_is_2(home: Path, arguments: list[str]) -> None:
    """Who calls a command wrongly learns how, and nothing is made."""
    done = await chatkeep(*arguments, cwd=home)
    assert done.code == 2
    assert "Usage: chatkeep" in done.err
    assert "Traceback" not in done.err
    assert is_untouched(home)


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys"],
        ["keys", "list"],
        ["users", "list"],
        ["sessions", "revoke-all", "--everybody", "--yes"],
    ],
)
async def test_whoever_is_in_another_folder_than_the_server_is_told(
    home: Path, arguments: list[str]
) -> None:
    """Once, when the folder is made: "0 sessions ended" must not calm anybody down."""
    done = await chatkeep(*arguments, cwd=home)
    assert done.code == 0, done
    assert f"There was no data folder {home / '.chatkeep'}" in done.err
    again = await chatkeep(*arguments, cwd=home)
    assert "There was no data folder" not in again.err


async def test_keys_are_the_running_server_s(home: Path) -> None:
    """Keys are the same before, while and after a server runs, and the address is its own."""
    before = json.loads((await chatkeep("keys", "--json", cwd=home)).out)
    assert sorted(before) == ["api_url", "jwks_url", "publishable_key", "secret_key"]
    assert before["api_url"] == "http://127.0.0.1:8000"
    async with serving("--port", "0", cwd=home) as server, aiohttp.ClientSession() as http:
        found = re.search(r"Open +(\S+)", await server.says("Stop "))
        assert found is not None
        now = json.loads(await said("keys", "--json", cwd=home))
        assert now == before | {"api_url": found[1], "jwks_url": now["jwks_url"]}
        async with http.get(now["jwks_url"]) as answer:
            assert (await answer.json())["keys"]
        async with http.get(f"{now['api_url']}/api/config") as answer:
            assert (await answer.json())["publishable_key"] == now["publishable_key"]
    plain = await said("keys", cwd=home)
    assert dict(line.split() for line in plain.splitlines()) == before


async def test_keys_of_another_secret_are_others(home: Path) -> None:
    """With CHATKEEP_SECRET the keys come from it, and no data folder is made."""
    one = await said("keys", cwd=home, CHATKEEP_SECRET="0123456789abcdef" * 2)
    other = await said("keys", cwd=home, CHATKEEP_SECRET="fedcba9876543210" * 2)
    assert one != other
    assert is_untouched(home)


async def test_token_speaks_for_whom_it_says(home: Path) -> None:
    """A token made while the server is stopped or runs is let in as that person."""
    port = ("--port", "18432")
    done = await chatkeep("token", "--user", "ana", cwd=home, settings={"PORT": "18432"})
    assert done.code == 0, done
    assert f"There was no data folder {home / '.chatkeep'}" in done.err  # perhaps not the server's
    early = done.out.strip()
    async with serving(*port, cwd=home) as server, aiohttp.ClientSession() as http:
        await server.says("Stop ")
        late = await said("token", "--user", "bo", "--email", "bo@example.com", cwd=home)
        for user, token in (("ana", early), ("bo", late)):
            headers = {"authorization": f"Bearer {token}"}
            async with http.get("http://127.0.0.1:18432/api/v1/chat", headers=headers) as answer:
                assert (await answer.json())["user_id"] == user


async def test_token_is_refused_in_production(home: Path) -> None:
    """Where people sign in, nobody is made up."""
    production = {
        "ENVIRONMENT": "production",
        "PUBLIC_URL": "https://chat.example",
    }
    done = await chatkeep("token", "--user", "ana", cwd=home, settings=production)
    assert (done.code, done.out) == (1, "")
    assert "production" in done.err


async def test_migrate_can_be_repeated_and_interleaved(home: Path) -> None:
    """The first time everything is made, then nothing; also while the server runs."""
    assert (
        await said("migrate", cwd=home)
        == f"The database was brought from nothing to revision {HEAD}."
    )
    again = f"The database is up to date (revision {HEAD})."
    assert await said("migrate", cwd=home) == again
    async with serving("--port", "0", cwd=home) as server:
        await server.says("Stop ")
        assert await said("migrate", cwd=home) == again


async def test_adopted_conversation_is_given_once(settled: Path) -> None:
    """What nobody owned is somebody's then, with its messages, and is not given away again."""
    async with serving("--port", "0", cwd=settled) as server:
        await server.says("Stop ")
        addresses = attach(DataFolder(settled / ".chatkeep"))
        with psycopg.connect(addresses.admin_url) as connection:
            connection.execute(ADOPTED.encode())
        assign = ("assign", "--conversation", "left-by-somebody", "--user")
        await said(*assign, "ana", cwd=settled)
        refused = await chatkeep(*assign, "bo", cwd=settled)
        assert refused.code == 1
        with psycopg.connect(addresses.admin_url) as connection:
            rows = connection.execute("select distinct user_id from chat.messages").fetchall()
        assert rows == [("ana",)]


def lines_of(done: Done) -> dict[str, str]:
    """Return what doctor says, by what it looked at."""
    return {line[2:16].strip(): line[0] + " " + line[17:] for line in done.out.splitlines()}


async def test_doctor_finds_a_good_server_good(home: Path) -> None:
    """Before the first start, while it runs and after it: every line is good."""
    done = await chatkeep("doctor", cwd=home)
    assert done.code == 0
    assert is_untouched(home)
    async with serving("--port", "0", cwd=home) as server:
        await server.says("Stop ")
        running = await chatkeep("doctor", cwd=home)
    stopped = await chatkeep("doctor", cwd=home)
    for done in (running, stopped):
        assert (done.code, done.err) == (0, "")
        assert all(line.startswith("✓ ") for line in done.out.splitlines())
        assert list(lines_of(done)) == [
            *("Settings", "Extensions", "Data folder", "PostgreSQL", "Clock", "Connections"),
            *(
                "Migrations",
                "Isolation",
                "Signing keys",
                "Notifications",
                "Redis",
                "Files",
                "Model",
                "Mail",
                "Address",
            ),
        ]
    assert "leads to a server that is healthy" in lines_of(running)["Address"]


async def test_doctor_says_what_to_do(settled: Path) -> None:
    """Each thing that is wrong is a line with its cure, and the exit code is 1."""
    (settled / ".chatkeep" / "secret").chmod(0o644)
    done = await chatkeep(
        "doctor",
        cwd=settled,
        settings={
            "OPENAI_API_KEY": "sk-hunter2",
            "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
            "SUPABASE_PROJECT_URL": "http://127.0.0.1:1",
        },
    )
    assert done.code == 1
    lines = lines_of(done)
    assert lines["Data folder"].startswith("✗ Others may look into")
    assert lines["Model"] == "✗ 127.0.0.1 does not answer: check the network."
    assert lines["supabase"].startswith("✗ No keys at http://127.0.0.1:1/auth/v1/")
    assert lines["Isolation"].startswith("✓ ")
    assert "hunter2" not in done.out + done.err


async def test_doctor_tells_of_bad_settings_and_of_no_database(home: Path) -> None:
    """What cannot even be read, or reached, is told in the same form."""
    unread = await chatkeep("doctor", cwd=home, settings={"PORT": "eighty", "TOP_P": "7"})
    assert unread.code == 1
    assert [line[:15] for line in unread.out.splitlines()] == ["✗ Settings     "] * 2
    away = await chatkeep(
        "doctor", cwd=home, settings={"DATABASE_URL": "postgresql://a:hunter2@127.0.0.1:1/x"}
    )
    assert away.code == 1
    assert lines_of(away)["PostgreSQL"].startswith("✗ ")
    assert "hunter2" not in away.out
