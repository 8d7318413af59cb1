"""The processes a benchmark measures: a Chatkeep server, and an upstream to relay."""

from __future__ import annotations

import json
import os
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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BIN = Path(sys.executable).parent
_START_S = 60.0
SERVER_CORE = 0
LOAD_CORE = 1


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
            _wait(process, ready)
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
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start")


@contextmanager
def chatkeep(**env: str) -> Iterator[str]:
    """Run a Chatkeep server on an embedded PostgreSQL of its own; yield its address."""
    port, data = free_port(), tempfile.mkdtemp(prefix="chatkeep-bench-")
    command = [str(BIN / "chatkeep"), "serve", "--port", str(port), "--data", f"{data}/data"]
    settings = {"RATE_LIMITS": "off", "LOG_LEVEL": "WARNING", **env}
    base = f"http://127.0.0.1:{port}"
    try:
        with running(command, ready=f"{base}/readyz", env=settings):
            yield base
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def aimock(fixtures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Run the aimock upstream with *fixtures*; yield its OpenAI base address (key: bench)."""
    port = free_port()
    program = Path(__file__).parent.parent / "tests/clients/node_modules/.bin/llmock"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "fixtures.json").write_text(json.dumps({"fixtures": list(fixtures)}))
        options = ["-p", str(port), "-h", "127.0.0.1", "-f", folder, "--latency", "0"]
        command = [str(program), *options]
        ready = f"http://127.0.0.1:{port}/health"
        with running(command, ready=ready, env={"AIMOCK_API_KEYS": "bench"}, core=LOAD_CORE):
            yield f"http://127.0.0.1:{port}/v1"


def sign_up(base: str, email: str = "bench@example.com") -> str:
    """Return an access token of a new person."""
    body = json.dumps({"email": email, "password": "a password for benchmarks"}).encode()
    request = urllib.request.Request(  # noqa: S310 -- our own loopback address
        f"{base}/auth/v1/signup", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        token: str = json.load(answer)["access_token"]
        return token
