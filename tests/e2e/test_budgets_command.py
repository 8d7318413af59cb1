"""`chatkeep budgets` beside a server that runs: what an operator sets counts at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp

from tests.command_line import Done, chatkeep
from tests.server_process import ServerProcess, server_process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Settle

PASSWORD = "Correct-Horse-42-battery"


async def run(server: ServerProcess, *arguments: str) -> Done:
    """Run the command on the server's data folder."""
    folder = str(server.data)
    return await chatkeep("budgets", *arguments, "--data", folder, cwd=server.data.parent)


async def test_limit_of_a_person_counts_at_once_and_is_taken_back(
    tmp_path: Path, settle: Settle
) -> None:
    """Refused from the moment it is set, answered again from the moment it is not."""
    settings = {"RATE_LIMITS": "off", "BUDGET_TOKENS_PER_DAY": "1000000"}
    settle(tmp_path / "data")
    async with (
        server_process(tmp_path / "data", settings) as server,
        aiohttp.ClientSession() as http,
    ):
        email = f"{uuid4().hex}@example.com"
        account = {"email": email, "password": PASSWORD}
        async with http.post(f"{server.base}/auth/v1/signup", json=account) as made:
            bearer = (await made.json())["access_token"]

        async def ask() -> tuple[int, dict[str, Any]]:
            message = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
            headers = {"authorization": f"Bearer {bearer}", "accept": "application/json"}
            body = {"id": str(uuid4()), "message": message}
            async with http.post(f"{server.base}/api/chat", json=body, headers=headers) as said:
                return said.status, await said.json()

        assert (await ask())[0] == 200
        done = await run(server, "set", "--user", email, "--tokens-per-day", "1")
        assert (done.code, "tokens-per-day 1" in done.out) == (0, True), done
        status, refused = await ask()
        assert (status, refused["code"]) == (429, "budget_exhausted")
        (listed,) = json.loads((await run(server, "list", "--json")).out)
        assert (listed["kind"], listed["tokens_per_day"]) == ("user", "1")
        assert (await run(server, "unset", "--user", email)).code == 0
        assert (await ask())[0] == 200
        assert "2 answers" in (await run(server, "used")).out
        wrong = await run(server, "set", "--user", email, "--cost-per-day", "much")
        assert (wrong.code, "amount of US dollars" in wrong.err) == (2, True)
