"""The rules that hold for every test and for what checks the code, proven on themselves."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import chatkeep
from tests.machine_time import quick
from tests.patience import PATIENCE_S
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import Callable

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


STOOD_STILL = """
import time
from tests.machine_time import quick
from tests.patience import PATIENCE_S
print("begins", flush=True)
with quick(1):
    for _ in range(20):
        time.sleep(0.01)
"""


def test_machine_that_stands_still_makes_nothing_late() -> None:
    """What is to be quick is no slower for it, however long nobody got on meanwhile."""
    with subprocess.Popen(
        [sys.executable, "-c", STOOD_STILL], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        process.send_signal(signal.SIGCONT)
        assert process.wait(PATIENCE_S) == 0


async def test_what_takes_too_long_is_told() -> None:
    """By whoever waits for it, and by whoever measures it."""
    with pytest.raises(AssertionError, match=r"did not come true within 0\.3 s"):
        await until(lambda: False, within_s=0.3)
    with pytest.raises(AssertionError, match=r"and 0\.3 s at most are allowed"), quick(0.3):
        await asyncio.sleep(1)


@pytest.mark.parametrize("hold_up", [lambda: time.sleep(1), lambda: sum(range(10**8))])
async def test_event_loop_that_is_held_up_is_told(hold_up: Callable[[], object]) -> None:
    """Also where Python's lock is held all the while: that is no machine that stands still."""
    with pytest.raises(AssertionError, match=r"and 0\.3 s at most are allowed"), quick(0.3):
        hold_up()
