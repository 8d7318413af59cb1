"""A Redis of a test's own, where one is installed: killed, held up and started again by pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
_PATIENCE_S = 10.0

needs_redis = pytest.mark.skipif(
    PROGRAM is None, reason="redis-server is not installed; scripts/apt-packages installs it"
)


class RedisServer:
    """One server process at an address that stays the same when it is started again."""

    def __init__(self, folder: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        assert PROGRAM is not None
        said = {"port": self.port, "bind": "127.0.0.1", "save": "", "dir": self._folder}
        options = [text for name, value in said.items() for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen([PROGRAM, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hold_up(self) -> None:
        """Let it take connections and answer nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def let_go(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Lend a plain client, for what an operator or attacker does.

        Its answers have no type: the library gives one for its two kinds of client at once.
        """
        with redis.Redis.from_url(self.url) as opened:
            yield opened

    def _answers(self) -> bool:
        try:
            with self.client() as opened:
                return bool(opened.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Run a server for a while."""
    folder = tempfile.mkdtemp(prefix="chatkeep-redis-")
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
