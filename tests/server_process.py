"""`chatkeep serve` as a process of its own: started on a free port, ended by its process id."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp

from tests.free_ports import free_port
from tests.patience import FIRST_START_S, PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

COMMAND = str(Path(sys.executable).parent / "chatkeep")
MUCH_LOG = 4000  # characters


class ServerProcess:
    """One server, which may be killed and started again on the same data folder."""

    def __init__(self, data: Path, settings: Mapping[str, str], options: tuple[str, ...]) -> None:
        """Choose a port; nothing runs yet."""
        self.data = data
        self.port = free_port()
        self._log = data.with_name(f"{data.name}.log")
        self.base = f"http://127.0.0.1:{self.port}"
        self._settings = settings
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None while nothing runs."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> str:
        """What it has said since it was first started."""
        return self._log.read_text(encoding="utf-8")

    async def start(self) -> None:
        """Start and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(COMMAND, "serve", "--port", str(self.port), "--data", str(self.data)),
                *self._options,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._settings},
                cwd=self.data.parent,
            )
        async with asyncio.timeout(FIRST_START_S), aiohttp.ClientSession() as http:
            while not await self._is_ready(http):
                assert self._process.returncode is None, self.log[-MUCH_LOG:]
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it as an operator would, and wait until it is gone."""
        await self._end(signal.SIGTERM)

    async def sign_up(self, http: aiohttp.ClientSession) -> str:
        """Return the access token of a new person."""
        body = {"email": f"{uuid4().hex}@example.com", "password": "a password for tests"}
        async with http.post(f"{self.base}/auth/v1/signup", json=body) as answer:
            assert answer.status == 200, await answer.text()
            token: str = (await answer.json())["access_token"]
            return token

    async def until_every_answer_grew(
        self, http: aiohttp.ClientSession, token: str, count: int
    ) -> None:
        """Wait until each of the person's *count* conversations has part of an answer kept.

        Each is looked at only until then, and all at once: they go on meanwhile, and may end.
        """
        grown: set[str] = set()
        async with asyncio.timeout(PATIENCE_S):
            while len(grown) < count:
                listed = await self._get(http, token, "/api/v1/chat?limit=100")
                left = [one["id"] for one in listed["conversations"] if one["id"] not in grown]
                has = await asyncio.gather(*(self._has_grown(http, token, one) for one in left))
                grown.update(one for one, grew in zip(left, has, strict=True) if grew)
                await asyncio.sleep(0.05)

    async def _has_grown(self, http: aiohttp.ClientSession, token: str, conversation: str) -> bool:
        page = await self._get(http, token, f"/api/v1/chat/{conversation}")
        return bool(page["messages"][-1]["content"])

    async def _get(self, http: aiohttp.ClientSession, token: str, path: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {token}"}
        async with http.get(self.base + path, headers=headers) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"{self.base}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(how)
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()


@asynccontextmanager
async def server_process(
    data: Path, settings: Mapping[str, str], options: tuple[str, ...] = ()
) -> AsyncIterator[ServerProcess]:
    """Serve from the *data* folder with *settings* as its environment until the block ends."""
    server = ServerProcess(data, settings, options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        warned = [line for line in server.log.splitlines() if '"level": "info"' not in line]
        sys.stdout.write("\n".join(warned)[-MUCH_LOG:])  # pytest shows it beside a failure
