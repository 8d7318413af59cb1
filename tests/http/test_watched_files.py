"""Files end with the session that they were asked or sent with: they are no way to stay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from chatkeep import conversations
from chatkeep.audit import reading
from tests.http.test_conversations import begin
from tests.patience import PATIENCE_S
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from tests.http.conftest import StartNode
    from tests.serving import Client, Node

EXPORTS = ["/api/v1/chat/export", "/api/account/data"]


class Slowly:
    """Lets the first call of a function through, and holds up the second."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        """Hold up *function*."""
        self._function = function
        self._calls = 0
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, *given: object, **named: object) -> object:
        """Call it, in its turn."""
        self._calls += 1
        if self._calls > 1:
            self.held.set()
            await self.go_on.wait()
        return await self._function(*given, **named)


async def read(node: Node, client: Client, path: str) -> bytes:
    """Read to the end, which a file that is broken off does not have."""
    url = f"{node.url}{path}"
    async with node.session.get(url, headers=client.headers) as answer:
        assert answer.status == 200
        return await answer.read()


@pytest.mark.parametrize("path", EXPORTS)
@pytest.mark.parametrize("where", ["here", "on another node"])
async def test_export_breaks_off_when_its_reader_is_signed_out(
    node: Node, start: StartNode, monkeypatch: pytest.MonkeyPatch, path: str, where: str
) -> None:
    """Whoever took a token away reads nothing more with it, however slowly they read."""
    other = await start() if where != "here" else node
    eve = node.person().client
    for _ in range(3):
        await begin(eve)
    slowly = Slowly(conversations.get_whole)
    monkeypatch.setattr(conversations, "get_whole", slowly)
    reading_on = asyncio.create_task(read(node, eve, path))
    async with asyncio.timeout(PATIENCE_S):
        await slowly.held.wait()
        assert (await eve.but(url=other.url).post("/auth/logout")).status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await reading_on
    held = node.services.limits._held
    assert not any(number for (kind, _), number in held.items() if kind == "exports")


async def test_export_of_somebody_else_goes_on(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is signed in gets the whole file, whoever else is signed out meanwhile."""
    ana, eve = node.person().client, node.person().client
    for _ in range(2):
        await begin(ana)
    slowly = Slowly(conversations.get_whole)
    monkeypatch.setattr(conversations, "get_whole", slowly)
    reading_on = asyncio.create_task(read(node, ana, EXPORTS[0]))
    async with asyncio.timeout(PATIENCE_S):
        await slowly.held.wait()
        assert (await eve.post("/auth/logout")).status == 200
        slowly.go_on.set()
        assert (await reading_on).endswith(b"]}")


async def test_log_that_an_administrator_takes_breaks_off_too(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its pages, when their session ends."""
    admin = node.person(app_metadata={"roles": ["admin"]}).client
    for _ in range(4):
        await node.nobody(authorization="Bearer none").get("/auth/me")
    await node.services.embedded.notices.write()
    monkeypatch.setattr("chatkeep.web.routes.admin.audit._PAGE", 2)
    slowly = Slowly(reading.listed)
    monkeypatch.setattr("chatkeep.audit.listed", slowly)
    reading_on = asyncio.create_task(read(node, admin, "/api/admin/audit/export"))
    async with asyncio.timeout(PATIENCE_S):
        await slowly.held.wait()
        assert (await admin.post("/auth/logout")).status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await reading_on


@pytest.mark.parametrize("path", ["/api/files", "/support/attachments/atc_x/upload"])
async def test_upload_that_outlives_its_session_is_not_kept(node: Node, path: str) -> None:
    """Whoever took a token away keeps nothing with it, however slowly they send."""
    eve, begun, go_on = node.person(), asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"\x89PNG\r\n\x1a\n" + b"x" * 70_000
        begun.set()
        await go_on.wait()
        yield b"x"

    headers = {**eve.client.headers, "content-type": "image/png"}
    sending = asyncio.create_task(sent(node, path, slowly(), headers))
    uploads = node.services.limits._held
    await begun.wait()
    await until(lambda: uploads["uploads", eve.id] == 1)
    assert (await eve.client.post("/auth/logout")).status == 200
    go_on.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await sending == 401


async def sent(
    node: Node, path: str, body: AsyncIterator[bytes], headers: Mapping[str, str]
) -> int:
    """Upload *body*; return the status of the answer."""
    async with node.session.post(f"{node.url}{path}", data=body, headers=headers) as answer:
        return answer.status
