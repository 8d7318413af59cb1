"""`chatkeep users export` and `erase`, and `chatkeep import`, beside a server that runs."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp

from tests.command_line import chatkeep
from tests.server_process import server_process
from tests.unit.test_imports import chatgpt, node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Settle


async def test_operator_takes_everything_away_and_erases_it(tmp_path: Path, settle: Settle) -> None:
    """The file is whole and private, is not overwritten, and afterwards there is nothing."""
    file, address = tmp_path / "ana.json", f"{uuid4().hex}@example.com"
    settle(tmp_path / "data")
    async with (
        server_process(tmp_path / "data", {"RATE_LIMITS": "off"}) as server,
        aiohttp.ClientSession(server.base) as http,
    ):
        body = {"email": address, "password": "Correct-Horse-42-battery"}
        async with http.post("/auth/v1/signup", json=body) as answer:
            token = (await answer.json())["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        async with http.post("/api/v1/chat/start", headers=headers, json={}) as answer:
            conversation = (await answer.json())["conversation_id"]

        async def run(*words: str) -> Any:  # noqa: ANN401 -- how it ended
            return await chatkeep("users", *words, "--data", str(server.data), cwd=tmp_path)

        done = await run("export", address, str(file))
        assert (done.code, done.out) == (
            0,
            f"Everything of {address} is in {file}. Conversations: 1\n",
        )
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        told = json.loads(file.read_bytes())
        assert [one["id"] for one in told["conversations"]] == [conversation]
        assert len(told["sessions"]) == 1
        again = await run("export", address, str(file))
        assert again.code == 2
        assert "is there already" in again.err
        nowhere = tmp_path / "nowhere" / "ana.json"
        again = await run("export", address, str(nowhere))
        assert again.code == 2
        assert f"{nowhere} cannot be made: No such file or directory" in again.err
        assert (await run("erase", address)).code == 2  # nobody was asked
        done = await run("erase", address, "--yes")
        assert done.code == 0, done.err
        async with http.get("/api/v1/chat", headers=headers) as answer:
            assert (await answer.json())["conversations"] == []
        unknown = await run("export", "nobody@example.com", str(tmp_path / "no.json"))
        assert unknown.code != 0
        assert "Nobody has an account" in unknown.err
        assert not (tmp_path / "no.json").exists()


async def test_operator_imports_chats_for_somebody(tmp_path: Path, settle: Settle) -> None:
    """Once; again adds nothing. A file that is none is refused in a sentence."""
    address = f"{uuid4().hex}@example.com"
    file, none = tmp_path / "conversations.json", tmp_path / "none.json"
    file.write_bytes(chatgpt({"q": node(None, "user", "How do birds fly?")}))
    none.write_text("no JSON")
    settle(tmp_path / "data")
    async with (
        server_process(tmp_path / "data", {"RATE_LIMITS": "off"}) as server,
        aiohttp.ClientSession(server.base) as http,
    ):
        body = {"email": address, "password": "Correct-Horse-42-battery"}
        async with http.post("/auth/v1/signup", json=body) as answer:
            token = (await answer.json())["access_token"]
        for said in ("1. Here already: 0.", "0. Here already: 1."):
            done = await chatkeep(
                *("import", str(file), "--for", address, "--data", str(server.data)), cwd=tmp_path
            )
            assert (done.code, done.out) == (0, f"Imported for {address}: {said}\n")
        refused = await chatkeep(
            *("import", str(none), "--for", address, "--data", str(server.data)), cwd=tmp_path
        )
        assert refused.code != 0
        assert "no JSON that can be read. Nothing was imported." in refused.err
        headers = {"authorization": f"Bearer {token}"}
        async with http.get("/api/v1/chat", headers=headers) as answer:
            assert [one["title"] for one in (await answer.json())["conversations"]] == ["A title"]
