"""The processes a benchmark measures: a Chatkeep server, and an upstream to relay."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BIN = Path(sys.executable).parent
_START_S = 60.0
SERVER_CORE = 0
LOAD_CORE = 1
#: Of everybody who signs up here.
PASSWORD = "a password for benchmarks"


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pin(core: int) -> None:
    """Keep this process on one core, where the machine has several."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def raise_file_limit() -> None:
    """Allow this process, and those it starts, as many open files as the system lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def running(
    command: Sequence[str], *, ready: str, env: Mapping[str, str], core: int = SERVER_CORE
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* on *core* until the address *ready* answers; end it afterwards."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **env},
            preexec_fn=lambda: pin(core),  # noqa: PLW1509 -- this process has one thread
        )
        try:
            try:
                _wait(process, ready)
            except RuntimeError as error:
                output.seek(0)
                error.add_note(output.read()[-2000:].decode(errors="replace"))
                raise
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], ready: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(ready, timeout=2):  # noqa: S310 -- our own loopback address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} did not start")


@contextmanager
def chatkeep(**env: str) -> Iterator[str]:
    """Run a Chatkeep server on an embedded PostgreSQL of its own; yield its address."""
    with chatkeep_process(**env) as (base, _):
        yield base


@contextmanager
def chatkeep_process(data: str | None = None, **env: str) -> Iterator[tuple[str, int]]:
    """Run a Chatkeep server as `chatkeep` does; yield its address and its process.

    *data*: a folder to keep; without it one is made, and removed afterwards.
    """
    port, folder = free_port(), data or tempfile.mkdtemp(prefix="chatkeep-bench-")
    command = [str(BIN / "chatkeep"), "serve", "--port", str(port), "--data", f"{folder}/data"]
    settings = {"RATE_LIMITS": "off", "LOG_LEVEL": "WARNING", **env}
    base = f"http://127.0.0.1:{port}"
    try:
        with running(command, ready=f"{base}/readyz", env=settings) as process:
            yield base, process.pid
    finally:
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)


def sign_up(base: str, email: str = "bench@example.com") -> str:
    """Return an access token of a new person."""
    body = json.dumps({"email": email, "password": PASSWORD}).encode()
    request = urllib.request.Request(  # noqa: S310 -- our own loopback address
        f"{base}/auth/v1/signup", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        token: str = json.load(answer)["access_token"]
        return token
