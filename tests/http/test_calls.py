"""How many functions a hot request takes. A number that grows is a slower product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import calls
from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node

#: As counted with Python 3.11, and a tenth more: others inline other things.
AT_MOST = {"/healthz": 740, "/api/settings": 1640}


@pytest.fixture(scope="module")
async def node(
    database: MigratedDatabase, session: aiohttp.ClientSession, project: str
) -> AsyncIterator[Node]:
    """A node of this module's own."""
    node = await start_node(database.url, session, project)
    yield node
    await node.stop()


def a_request(path: str, headers: dict[str, str]) -> dict[str, Any]:
    """Return a request as a server hands it to the application (ASGI 3)."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


@pytest.mark.parametrize("path", AT_MOST)
async def test_a_hot_request_takes_few_calls(node: Node, path: str) -> None:
    """From the server's call to the last byte, for somebody who has been here before."""
    who = node.person().client
    assert (await who.get(path)).status == 200
    headers = {"host": node.url.partition("//")[2], **who.headers}
    answers: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 -- ASGI's own messages
        answers.append(message)

    counts = []
    for _ in range(5):
        answers.clear()
        with calls() as counted:
            await node.app(a_request(path, headers), receive, send)
        assert answers[0]["status"] == 200
        counts.append(counted.count)
    assert 0 < min(counts) <= AT_MOST[path]
