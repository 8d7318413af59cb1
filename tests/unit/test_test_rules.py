"""The rules that hold for every test and for what checks the code, proven on themselves."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import chatkeep
from tests.serving import no_longer_than, until

PACKAGE = Path(chatkeep.__file__).parent
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("host", ["192.0.2.1", "chatkeep.example", "2001:db8::1"])
def test_network_is_out_of_reach(host: str) -> None:
    """Looking up or reaching another machine fails at once."""
    with pytest.raises(OSError, match="do not use the network"):
        socket.create_connection((host, 443), timeout=1)


def test_this_machine_is_in_reach() -> None:
    """Servers that a test starts can be reached by name and by address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port), timeout=5).close()


def test_every_file_of_the_package_is_looked_at_by_the_linter() -> None:
    """A folder that is left out elsewhere does not leave out one of ours with the same name."""
    asked = [sys.executable, "-m", "ruff", "check", "--show-files", str(PACKAGE)]
    shown = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True)
    looked_at = {Path(line) for line in shown.stdout.splitlines()}
    assert set(PACKAGE.rglob("*.py")) <= looked_at


async def test_machine_that_stands_still_makes_nothing_late() -> None:
    """What was to come within a time is given it, however long nobody got on meanwhile."""
    came = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(0.1, time.sleep, 1)
    loop.call_later(0.3, loop.call_later, 0.02, came.set)
    async with no_longer_than(0.6):
        await until(came.is_set, within_s=0.6)


async def test_what_takes_too_long_is_told() -> None:
    """By whoever waits for it, and by whoever measures it."""
    with pytest.raises(AssertionError, match=r"did not come true within 0\.3 s"):
        await until(lambda: False, within_s=0.3)
    with pytest.raises(AssertionError, match=r"took longer than 0\.3 s"):
        async with no_longer_than(0.3):
            await asyncio.sleep(1)
