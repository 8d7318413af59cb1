"""Who relays a model's answer in these benchmarks: Chatkeep, and what it is compared with.

Each runs on the server's core; the upstream is `benchmarks.upstream`, on the load's.
LiteLLM takes part when `scripts/litellm-peer` has installed it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.load import request_bytes
from benchmarks.processes import cpu_below_s, cpu_s
from benchmarks.stack import BIN, LOAD_CORE, chatkeep_process, free_port, running, sign_up

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parent.parent
LITELLM = _ROOT / ".cache/litellm-venv/bin/litellm"
_MODEL = "gpt-4o-mini"
_UPSTREAM_KEY = "bench"
#: Everybody's connections wait while the others are asked, on a busy machine for seconds.
_KEEP_ALIVE_S = "600"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A server that relays answers, asked by the owner of *token*, or by *others* too."""

    name: str
    port: int
    pid: int
    token: str = _UPSTREAM_KEY
    others: tuple[str, ...] = ()
    metrics_port: int | None = None

    def as_asked_by(self, number: int) -> Contender:
        """Return it as this one of its people asks it, from the first on again after the last."""
        people = (self.token, *self.others)
        return replace(self, token=people[number % len(people)])

    def request(self, question: str, *, stream: bool = True) -> bytes:
        """Return the bytes that ask *question*, as a client of this server does."""
        base = f"http://127.0.0.1:{self.port}"
        headers = {"authorization": f"Bearer {self.token}"}
        if self.name != "chatkeep":
            said = [{"role": "user", "content": question}]
            body = {"model": _MODEL, "stream": stream, "messages": said}
            url = f"{base}/v1/chat/completions"
            return request_bytes(url, headers, json.dumps(body).encode())
        message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": question}]}
        body = {"id": str(uuid4()), "message": message, "trigger": "submit-message"}
        if not stream:
            headers["accept"] = "application/json"
        return request_bytes(f"{base}/api/chat", headers, json.dumps(body).encode())

    def cpu_s(self) -> float:
        """Return the processor time the server itself has used."""
        return cpu_s(self.pid)

    def cpu_below_s(self) -> float:
        """Return the processor time of what it has started: for Chatkeep, PostgreSQL."""
        return cpu_below_s(self.pid)

    def observed(self, histogram: str) -> tuple[float, float]:
        """Return the sum of what a histogram of its metrics has seen, and how often."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
        found = {name: number for name, _, number in lines}
        return float(found[f"{histogram}_sum"]), float(found[f"{histogram}_count"])


@contextmanager
def upstream() -> Iterator[Contender]:
    """Run the upstream; yield it as somebody to ask directly."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", str(port)]
    ready = f"http://127.0.0.1:{port}/v1/models"
    with running(command, ready=ready, env={}, core=LOAD_CORE) as process:
        yield Contender(name="upstream", port=port, pid=process.pid)


@contextmanager
def chatkeep(
    upstream_port: int, people: int = 1, *, metrics_port: int | None = None
) -> Iterator[list[Contender]]:
    """Run Chatkeep; yield it once for each of so many people. *metrics_port*: where it counts."""
    base_url = f"http://127.0.0.1:{upstream_port}/v1"
    env = {"OPENAI_API_KEY": _UPSTREAM_KEY, "OPENAI_BASE_URL": base_url}
    if metrics_port is not None:
        env["METRICS_PORT"] = str(metrics_port)
    with chatkeep_process(**env) as (base, pid):
        port = int(base.rpartition(":")[2])
        tokens = [sign_up(base, f"bench{number}@example.com") for number in range(people)]
        ours = Contender(name="chatkeep", port=port, pid=pid, metrics_port=metrics_port)
        yield [replace(ours, token=one) for one in tokens]


@contextmanager
def relay(upstream_port: int) -> Iterator[Contender]:
    """Run the bare relay: the floor."""
    with _uvicorn("relay", upstream_port) as contender:
        yield contender


@contextmanager
def openai_sdk(upstream_port: int) -> Iterator[Contender]:
    """Run FastAPI with the openai package behind it."""
    with _uvicorn("sdk", upstream_port) as contender:
        yield contender


@contextmanager
def litellm(upstream_port: int) -> Iterator[Contender]:
    """Run the LiteLLM proxy."""
    folder, port = Path(tempfile.mkdtemp(prefix="litellm-bench-")), free_port()
    params = {
        "model": "openai/*",
        "api_key": _UPSTREAM_KEY,
        "api_base": f"http://127.0.0.1:{upstream_port}/v1",
    }
    settings = {
        "model_list": [{"model_name": "*", "litellm_params": params}],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
        "general_settings": {"master_key": "sk-bench"},
    }
    (folder / "litellm.yaml").write_text(json.dumps(settings))  # JSON is YAML
    command = [
        *(str(LITELLM), "--config", str(folder / "litellm.yaml"), "--num_workers", "1"),
        *("--host", "127.0.0.1", "--port", str(port), "--keepalive_timeout", _KEEP_ALIVE_S),
    ]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
    }
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    try:
        with running(command, ready=ready, env=env) as process:
            yield Contender(name="litellm", port=port, pid=process.pid, token="sk-bench")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def has_litellm() -> bool:
    """Whether LiteLLM is there; says how to install it when it is not."""
    if LITELLM.exists():
        return True
    print("LiteLLM does not take part: run scripts/litellm-peer (700 MB, about 2 minutes) first.")
    return False


@contextmanager
def contenders(people: int = 1) -> Iterator[list[Contender]]:
    """Run the upstream and everybody there is; yield them, the upstream first.

    *people*: how many have an account at Chatkeep. The others know nobody.
    """
    with ExitStack() as stack:
        source = stack.enter_context(upstream())
        port = source.port
        ours, *more = stack.enter_context(chatkeep(port, people))
        found = [
            source,
            replace(ours, others=tuple(one.token for one in more)),
            stack.enter_context(relay(port)),
            stack.enter_context(openai_sdk(port)),
        ]
        if has_litellm():
            found.append(stack.enter_context(litellm(port)))
        yield found


@contextmanager
def _uvicorn(name: str, upstream_port: int) -> Iterator[Contender]:
    port = free_port()
    command = [
        *(str(BIN / "uvicorn"), f"benchmarks.relays:{name}", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"),
        *("--backlog", "4096", "--timeout-keep-alive", _KEEP_ALIVE_S),
    ]
    env = {"UPSTREAM": f"http://127.0.0.1:{upstream_port}/v1"}
    with running(command, ready=f"http://127.0.0.1:{port}/healthz", env=env) as process:
        yield Contender(name=name, port=port, pid=process.pid)
