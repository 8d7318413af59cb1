"""Where the log cannot be written, people are served, and the server ends as it should."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.command_line import CHATKEEP, environment
from tests.free_ports import free_port
from tests.patience import FIRST_START_S, PATIENCE_S

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
async def test_server_whose_log_disk_is_full_serves_and_ends_well(home: Path) -> None:
    """Neither standard output nor standard error takes a byte, from the start to the end."""
    port = free_port()
    with FULL.open("wb") as full:  # noqa: ASYNC230 -- a device, which is there at once
        process = await asyncio.create_subprocess_exec(
            *(CHATKEEP, "serve", "--port", str(port)),
            cwd=home,
            env=environment({}),
            stdout=full,
            stderr=full,
        )
    try:
        async with aiohttp.ClientSession() as http:
            async with asyncio.timeout(FIRST_START_S):
                while not await _is_ready(http, port):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _is_ready(http: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
