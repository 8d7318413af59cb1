"""A program that is told of things: a real HTTP server which checks what it is told."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One thing that was told."""

    id: str
    type: str
    data: dict[str, Any]
    signatures: list[str]
    signed: bytes

    def is_signed_with(self, secret: str) -> bool:
        """Check it by hand, as https://www.standardwebhooks.com says."""
        key = b64decode(secret.removeprefix("whsec_"))
        made = hmac.new(key, self.signed, hashlib.sha256).digest()
        return f"v1,{b64encode(made).decode()}" in self.signatures


class Receiver:
    """What hears. *statuses* are answered one after the other, then 200; *gate* is waited for."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.statuses: list[int] = []
        self.gate: asyncio.Event | None = None
        self.begun = 0
        self.url = ""

    def types(self) -> list[str]:
        """Return what was told of, in order."""
        return [one.type for one in self.heard]

    def has_heard(self, times: int) -> bool:
        """Whether it was told so often."""
        return len(self.heard) == times

    async def hear(self, request: web.Request) -> web.Response:
        """Take one."""
        body = await request.read()
        self.begun += 1
        if self.gate is not None:
            await self.gate.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        names = ("webhook-id", "webhook-timestamp")
        identity, at = (request.headers[name] for name in names)
        told = json.loads(body)
        self.heard.append(
            Heard(
                id=identity,
                type=told["type"],
                data=told["data"],
                signatures=request.headers["webhook-signature"].split(" "),
                signed=b".".join((identity.encode(), at.encode(), body)),
            )
        )
        return web.Response(status=status, headers={"location": f"{self.url}/elsewhere"})


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """Lend a receiver that listens."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.hear)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        if receiver.gate is not None:
            receiver.gate.set()
        await runner.cleanup()
