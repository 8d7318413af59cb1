"""`chatkeep audit` and the commands for signing keys, beside a server that runs."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import aiohttp
import psycopg
import pytest

from chatkeep.data_folder import DataFolder
from chatkeep.embedded_postgresql.cluster import attach
from tests.command_line import chatkeep, serving
from tests.e2e.test_cli import said

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Settle

PASSWORD = "Correct-Horse-42-battery"
SHARED = "the secret of a former issuer: 0123456789abcdef"


@pytest.fixture
def home(home: Path, settle: Settle) -> Path:
    """A folder in which a server has been before."""
    settle(home / ".chatkeep")
    return home


def as_administrator(home: Path, statement: str) -> None:
    """Do what only an administrator of the embedded database can."""
    with psycopg.connect(
        attach(DataFolder(home / ".chatkeep")).admin_url, autocommit=True
    ) as connection:
        connection.execute(statement.encode())


async def signed_up(http: aiohttp.ClientSession, address: str, home: Path) -> dict[str, str]:
    """Make somebody; return the tokens."""
    key = json.loads(await said("keys", "--json", cwd=home))["publishable_key"]
    body = {"email": "ana@example.com", "password": PASSWORD}
    url = f"{address}/auth/v1/signup"
    async with http.post(url, json=body, headers={"apikey": key}) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, str] = await answer.json()
        return found


async def test_audit_log_is_listed_and_verified(home: Path) -> None:
    """For people and programs, by person and action; tampering is exit code 1 and named."""
    async with serving("--port", "0", cwd=home) as server, aiohttp.ClientSession() as http:
        address = _address(await server.says("Stop "))
        person = await signed_up(http, address, home)
        user = json.loads(json.dumps(person))["user"]["id"]
        lines = (await said("audit", "list", "--user", user, "--json", cwd=home)).splitlines()
        assert [json.loads(line)["action"] for line in lines] == ["session.begun", "user.created"]
        by_address = await said("audit", "list", "--user", "Ana@example.com", "--json", cwd=home)
        assert by_address.splitlines() == lines
        nobody = await chatkeep("audit", "list", "--user", "bo@example.com", cwd=home)
        assert (nobody.code, nobody.out) == (1, "")
        assert "Nobody has an account with the address bo@example.com." in nobody.err
        assert "user.created" in await said("audit", "list", "--since", "1h", cwd=home)
        nothing = await chatkeep("audit", "list", "--action", "no.such", cwd=home)
        assert (nothing.code, nothing.out, nothing.err) == (0, "", "No such entries.\n")
        for wrong in (("list", "--since", "yesterday"), ("verify", "--head", "x")):
            assert (await chatkeep("audit", *wrong, cwd=home)).code == 2
        verdict = await said("audit", "verify", cwd=home)
        assert "every one as it was written" in verdict
        while "End of the chain" not in verdict:  # a few seconds until it is sealed
            verdict = await said("audit", "verify", cwd=home)
        head = verdict.split()[-1]
        assert "every one" in await said("audit", "verify", "--head", head, cwd=home)
        as_administrator(home, "update chatkeep.audit_log set user_id = 'bo' where number = 1")
        broken = await chatkeep("audit", "verify", cwd=home)
        assert broken.code == 1
        assert broken.out.startswith("BROKEN: entry 1 was changed")


async def test_commands_leave_connections_to_the_server_and_each_other(home: Path) -> None:
    """Eight beside a server, that look people up as well: none lacks one, or complains."""
    async with serving("--port", "0", cwd=home) as server, aiohttp.ClientSession() as http:
        await signed_up(http, _address(await server.says("Stop ")), home)
        listing = ("audit", "list", "--user", "ana@example.com", "--json")
        listed = await asyncio.gather(*(said(*listing, cwd=home) for _ in range(8)))
        (lines,) = set(listed)
        assert "user.created" in lines


async def test_keys_are_rotated_revoked_and_imported(home: Path) -> None:
    """The wait is told, --now does without it, and what a revoked key signed is refused."""
    (home / "secret.txt").write_text(SHARED)
    async with serving("--port", "0", cwd=home) as server, aiohttp.ClientSession() as http:
        address = _address(await server.says("Stop "))
        person = await signed_up(http, address, home)
        headers = {"authorization": f"Bearer {person['access_token']}"}
        (first,) = json.loads(await said("keys", "list", "--json", cwd=home))
        assert "Run this again after" in await said("keys", "rotate", cwd=home)
        refused = await chatkeep("keys", "revoke", first["kid"], cwd=home)
        assert (refused.code, refused.out) == (1, "")
        assert "keys rotate --now" in refused.err
        assert "signs from now on" in await said("keys", "rotate", "--now", cwd=home)
        async with http.get(f"{address}/api/v1/chat", headers=headers) as answer:
            assert answer.status == 200
        await said("keys", "revoke", first["kid"], cwd=home)
        for hyphen in ("-", "--", "-h"):  # one id in 64 begins so
            unknown = (
                hyphen + first["kid"][: len(hyphen) - 1 : -1]
            )  # as long as one, and of its letters
            for call in ((unknown, "--data", ".chatkeep"), ("--data", ".chatkeep", "--", unknown)):
                nobodys = await chatkeep("keys", "revoke", *call, cwd=home)
                assert nobodys.code == 1, nobodys
                assert unknown in nobodys.err
        async with http.get(f"{address}/api/v1/chat", headers=headers) as answer:
            assert answer.status == 401
        imported = await said("keys", "import", "--shared-secret", "secret.txt", cwd=home)
        assert "never signs" in imported
        listed = await said("keys", "list", cwd=home)
        statuses = [line.split()[0] for line in listed.splitlines()]
        assert statuses == ["current", "standby", "previous", "revoked"]
        assert SHARED not in listed + imported
        not_a_key = await chatkeep("keys", "import", "secret.txt", cwd=home)
        assert (not_a_key.code, not_a_key.out) == (1, "")


async def test_a_changed_secret_opens_the_database_after_reencryption(home: Path) -> None:
    """Before it the server does not start, and says what to do."""
    async with serving("--port", "0", cwd=home) as server, aiohttp.ClientSession() as http:
        await signed_up(http, _address(await server.says("Stop ")), home)
        before = await said("keys", "list", cwd=home)
    (home / "old.txt").write_text(DataFolder(home / ".chatkeep").secret())
    new = {"CHATKEEP_SECRET": "0123456789abcdef-0123456789abcdef"}
    refused = await chatkeep("serve", "--port", "0", cwd=home, settings=new)
    assert refused.code == 1
    assert "chatkeep keys reencrypt" in refused.err
    done = await said("keys", "reencrypt", "--old-secret", "old.txt", cwd=home, **new)
    assert "encrypted under the new one" in done
    assert await said("keys", "list", cwd=home, **new) == before
    assert "every one" in await said("audit", "verify", cwd=home, **new)


def _address(text: str) -> str:
    found = re.search(r"Open +(\S+)", text)
    assert found is not None
    return found[1].rstrip("/")
