"""Metrics of a server with several processes: each has an address of its own."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

import aiohttp

from tests.free_ports import free_port
from tests.patience import PATIENCE_S
from tests.server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Settle


def two_free_ports() -> int:
    """Return the first of two neighbouring ports at which nobody listens."""
    while True:
        port = free_port()
        try:
            socket.create_server(("127.0.0.1", port + 1)).close()
        except OSError:
            continue
        return port


async def asked(http: aiohttp.ClientSession, port: int) -> tuple[str, int]:
    """Return when the process at *port* began, and how many requests it has answered."""
    while True:
        try:
            async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
                text = await answer.text()
                break
        except aiohttp.ClientConnectorError:  # the server is ready as soon as one process is
            await asyncio.sleep(0.05)
    began = re.search(r"^process_start_time_seconds (\S+)$", text, re.MULTILINE)
    assert began is not None
    route = r'^chatkeep_http_requests_total\{method="GET",route="/healthz",status="200"\} (\d+)$'
    found = re.search(route, text, re.MULTILINE)
    return began.group(1), int(found.group(1)) if found else 0


async def test_each_worker_is_read_at_a_port_of_its_own(tmp_path: Path, settle: Settle) -> None:
    """Together they have counted every request, and each is another process."""
    first = two_free_ports()
    settings = {"METRICS_PORT": str(first), "RATE_LIMITS": "off"}
    settle(tmp_path / "data")
    server = ServerProcess(tmp_path / "data", settings, ("--workers", "2"))
    await server.start()
    try:
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as http:
            for _ in range(40):
                async with http.get(f"{server.base}/healthz") as answer:
                    assert answer.status == 200
            one, other = await asked(http, first), await asked(http, first + 1)
    finally:
        await server.stop()
    assert one[0] != other[0]
    assert one[1] + other[1] == 40
